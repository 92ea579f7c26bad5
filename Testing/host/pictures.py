"""Pictures of the panel and the views, for people to look at."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import slicer
from PySide6.QtWidgets import QApplication, QHBoxLayout, QScrollArea, QWidget

from .pythonqt import alive, wrap


@cache
def _box() -> tuple[QWidget, QScrollArea]:
    """Made once and kept: what is inside would be deleted with it."""
    box, area = QWidget(), QScrollArea()
    row = QHBoxLayout(box)
    row.setContentsMargins(0, 0, 0, 0)
    area.setWidgetResizable(True)
    row.addWidget(area)
    row.addWidget(alive(slicer.app.layoutManager().viewport()), 1)
    return box, area


def window(panel: Any, width: int, height: int, panel_width: int) -> Any:
    box, area = _box()
    before = area.takeWidget()
    if before is not None:
        before.hide()  # another panel, which lives on
    area.setWidget(alive(panel))
    area.setFixedWidth(panel_width)
    alive(panel).show()
    box.resize(width, height)
    return wrap(box)


def screenshot(widget: Any, path: str | Path, width: int | None, height: int | None) -> None:
    qt_widget = alive(widget)
    width, height = width or qt_widget.width(), height or qt_widget.height()
    if hasattr(qt_widget, "picture"):  # a view alone: it may stand in a layout that decides on its size
        image = qt_widget.picture().render(width, height)
    else:
        qt_widget.resize(width, height)
        qt_widget.show()
        QApplication.processEvents()
        image = qt_widget.grab()
    if not image.save(str(path), "PNG"):
        raise OSError(f"could not write {path}")
