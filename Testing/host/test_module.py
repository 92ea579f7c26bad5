"""The life of a scripted module: loaded, panel made, entered, reloaded, left, unloaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import host

SOURCE = """
import qt
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

calls = []


class HostExample(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = _("Example")
        self.parent.categories = ["Testing"]
        slicer.app.connect("startupCompleted()", lambda: calls.append("startup"))


class HostExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = HostExampleLogic()
        self.button = qt.QPushButton("Apply")
        self.layout.addWidget(self.button)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)

    def onSceneStartClose(self, caller, event):
        calls.append("scene closed, entered" if self.parent.isEntered else "scene closed")

    def enter(self):
        calls.append("enter")

    def exit(self):
        calls.append("exit")

    def cleanup(self):
        calls.append("cleanup")
        self.removeObservers()


class HostExampleLogic(ScriptedLoadableModuleLogic):
    pass


class HostExampleTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def test_one(self):
        calls.append("test")
"""


@pytest.fixture
def module(application: Any, tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "HostExample.py"
    path.write_text(SOURCE)
    (tmp_path / "Resources").mkdir()
    yield host.load_module(path)
    import slicer

    if hasattr(slicer.modules, "hostexample"):
        host.unload_module(slicer.modules.hostexample)
    sys.path.remove(str(tmp_path))
    del sys.modules["HostExample"]


def calls() -> list[str]:
    return sys.modules["HostExample"].calls


def test_module_is_known(module: Any, tmp_path: Path) -> None:
    import slicer

    assert slicer.modules.hostexample is module
    assert (module.name, module.title, module.categories) == ("HostExample", "Example", ("Testing",))
    assert slicer.util.modulePath("HostExample") == str(tmp_path / "HostExample.py")
    assert slicer.modules.HostExampleInstance.resourcePath("UI/a.ui") == str(tmp_path / "Resources" / "UI" / "a.ui")
    assert slicer.util.getModule("HostExample") is module


def test_life(module: Any) -> None:
    import slicer

    panel = host.enter(module)
    widget = panel.self()
    assert widget is slicer.modules.HostExampleWidget is slicer.util.getModuleWidget("HostExample")
    assert widget.logic is slicer.util.getModuleLogic("HostExample")
    assert widget.button.parent() is widget.parent is panel
    slicer.mrmlScene.Clear(False)
    host.unload_module(module)
    slicer.mrmlScene.Clear(False)
    assert calls() == ["enter", "scene closed, entered", "exit", "cleanup"]
    assert not hasattr(slicer.modules, "hostexample")


def test_reload(module: Any) -> None:
    import slicer

    panel = host.enter(module)
    old, old_calls = panel.self(), calls()
    old.onReload()
    new = panel.self()
    assert new is not old
    assert type(new) is not type(old)
    assert slicer.modules.HostExampleWidget is new
    assert "cleanup" in old_calls
    assert [child for child in panel.children() if child.className() == "QPushButton" and not child.isHidden()] == [new.button]


def test_application_signals(module: Any, application: Any) -> None:
    application.startupCompleted()
    assert "startup" in calls()


def test_self_test(module: Any) -> None:
    slicer_test = sys.modules["HostExample"].HostExampleTest
    slicer_test().runTest()
    assert calls() == ["test"]


def test_process_lines_come_through_the_event_loop(application: Any) -> None:
    import qt

    process, lines, codes = qt.QProcess(), [], []

    def read() -> None:
        while process.canReadLine():
            lines.append(process.readLine().data().decode().strip())

    process.connect("readyReadStandardOutput()", read)
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: codes.append((code, status)))
    process.start(sys.executable, ["-S", "-c", "print(input())"])
    assert process.waitForStarted()
    process.write(b'{"steps": 2}\n')
    process.closeWriteChannel()
    assert process.waitForFinished()
    application.processEvents()
    assert lines == ['{"steps": 2}']
    assert codes == [(0, qt.QProcess.NormalExit)]
