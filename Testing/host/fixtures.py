"""pytest fixtures. A conftest.py takes them with `from host.fixtures import *`; without the packages every test is skipped."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

__all__ = ["application", "clean_application", "sample_data"]


@cache
def missing() -> str | None:
    """Why the host cannot run here, or None. Imports are tried in a child: a missing system library must not break this one."""
    for package in ("PySide6", "slicer_core", "vtk"):
        if importlib.util.find_spec(package) is None:
            return f"the Slicer test host needs the package {package}"
    check = "from PySide6 import QtWidgets, QtUiTools; import slicer; slicer.vtkMRMLScene"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    return (
        None if result.returncode == 0 else f"the Slicer test host cannot run: {result.stderr.strip().rpartition(chr(10))[2]}"
    )


@pytest.fixture(scope="session")
def application() -> Any:
    """slicer.app; one per process."""
    if reason := missing():
        pytest.skip(reason)
    import host

    return host.start()


@pytest.fixture(autouse=True)
def clean_application(application: Any) -> Iterator[None]:
    """Each test starts with an empty scene and must leave no error behind."""
    import slicer

    import host

    slicer.mrmlScene.Clear(False)
    host.errors.clear()
    yield
    application.processEvents()
    left = list(host.errors)
    host.errors.clear()
    assert left == []


@pytest.fixture
def sample_data(application: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module SampleData, which is not there without this fixture."""
    from . import slicer_sampledata

    monkeypatch.setitem(sys.modules, "SampleData", slicer_sampledata)
    monkeypatch.setattr(slicer_sampledata.SampleDataLogic, "sources", {})
    return slicer_sampledata
