"""Fixtures of the module's tests: the panel in the host, small X-rays, and stand-ins for the child processes."""

import subprocess
import sys
from pathlib import Path

import pytest
from SlicerModule.tools import add_xrays, child, leftovers, settle, wait_until

from host.fixtures import application, clean_application, sample_data

__all__ = ["application", "clean_application", "sample_data"]

EXTENSION = Path(__file__).resolve().parents[2] / "Diff2CTExtension"


@pytest.fixture(scope="session", autouse=True)
def module(application):
    import host

    loaded = host.load_module(EXTENSION / "Diff2CT.py")
    yield loaded
    host.unload_module(loaded)


@pytest.fixture
def panel(module, monkeypatch, clean_application):
    """The widget object of the entered panel, with quick stand-ins for both children and no window for messages. No section
    may fail meanwhile; a test that wants that clears `panel.failures`.
    """
    import slicer

    import host
    from host.pythonqt import alive

    messages = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *_arguments, **_options: messages.append(text))
    representation = host.enter(module)
    widget = representation.self()
    widget.messages, widget.failures, tell = messages, [], widget._tellFailure
    monkeypatch.setattr(widget, "_tellFailure", lambda *failure: widget.failures.append(failure) or tell(*failure))
    widget.logic.workerCommand = child("worker", "done")
    for service in (widget.logic.service, widget.logic.registering):  # they live on from test to test
        if service._command != child("service"):
            service.stop()
            service._command = child("service")
    settle(widget)
    wait_until(lambda: leftovers() == [])  # what an earlier test has asked for may still be answered
    yield widget
    if widget.logic.run is not None:
        widget.logic.run.abandon()
    alive(representation).exit()
    assert widget.failures == []


@pytest.fixture
def xrays(panel):
    """AP and lateral nodes, chosen in the panel."""
    nodes = add_xrays()
    panel.parameterNode.apNode, panel.parameterNode.lateralNode = nodes
    settle(panel)
    return nodes


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    """Folder with ap.dcm, lateral.dcm, truth.nrrd, tiny.safetensors, real_to_drr.safetensors, drr_to_real.safetensors."""
    folder = tmp_path_factory.mktemp("case")
    subprocess.run([sys.executable, str(Path(__file__).with_name("make_case.py")), str(folder)], check=True)
    return folder
