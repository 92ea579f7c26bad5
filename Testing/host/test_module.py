"""The module of this repository loads as it is."""

from pathlib import Path

import host

MODULE = Path(__file__).resolve().parents[2] / "Diff2CTExtension" / "Diff2CT.py"


def test_panel_opens_and_closes() -> None:
    module = host.load_module(MODULE)
    panel = host.enter(module)
    assert panel.self().parent is panel
    assert panel.isEntered
    host.unload_module(module)
