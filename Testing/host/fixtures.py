"""pytest fixtures. A conftest.py takes them with `from host.fixtures import *`; without the packages every test is skipped."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

__all__ = ["application", "clean_application", "sample_data"]


@cache
def missing() -> str | None:
    """Why the host cannot run here, or None."""
    if importlib.util.find_spec("slicer_core") is None:  # a package `slicer` alone may be another one
        return "the Slicer test host needs the package slicer-core"
    try:
        for name in ("PySide6.QtUiTools", "PySide6.QtWidgets", "slicer"):
            importlib.import_module(name)
    except ImportError as error:  # of a package or of a system library
        return f"the Slicer test host cannot run: {error}"
    return None


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
