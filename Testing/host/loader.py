"""qt.QUiLoader: reads a .ui file with the stand-ins and wires its <connections> by PythonQt's rules.

Qt's own loader would skip what it does not know; here an unknown class, property, signal or slot raises.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtWidgets
from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QObject
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import QWidget

from . import signals
from .pythonqt import Wrapper, wrap, wrapper_class

standins: dict[str, type[QWidget]] = {}  # class name -> stand-in


class _Builder(QUiLoader):
    def __init__(self) -> None:
        super().__init__()
        self.failure: str | None = None

    def createWidget(self, class_name: str, parent: QWidget | None = None, name: str = "") -> QWidget:
        if class_name in standins:
            widget = standins[class_name](parent)
            widget.setObjectName(name)
            return widget
        if class_name != "Line" and not (class_name.startswith("Q") and hasattr(QtWidgets, class_name)):  # Line: a QFrame
            self.failure = f"no stand-in for {class_name} ({name})"
            return QWidget(parent)
        return super().createWidget(class_name, parent, name)


class UiLoader:
    """What Python sees as qt.QUiLoader."""

    def load(self, file: Wrapper, parent: Wrapper | None = None) -> Wrapper:
        root = ElementTree.fromstring(bytes(file.readAll().data()))
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        settings = _take_flags(root)
        buffer = QBuffer()
        buffer.setData(QByteArray(ElementTree.tostring(root)))
        buffer.open(QIODevice.OpenModeFlag.ReadOnly)
        builder = _Builder()
        loaded = builder.load(buffer, parent._qt if parent is not None else None)
        if builder.failure or loaded is None:
            raise RuntimeError(f"{file.fileName()}: {builder.failure or builder.errorString()}")
        objects = {child.objectName(): child for child in [loaded, *loaded.findChildren(QObject)]}
        _check_properties(root, objects)
        for name, attribute, value in settings:
            setattr(wrap(objects[name]), attribute, value)
        for connection in connections if connections is not None else []:
            _connect(connection, objects)
        return wrap(loaded)


def _take_flags(root: ElementTree.Element) -> list[tuple[str, str, int]]:
    """Enum and flag properties of stand-ins are set here: Qt's loader does not know their C++ types."""
    found = []
    for widget in root.iter("widget"):
        cls = standins.get(widget.get("class", ""))
        for item in list(widget.findall("property")) if cls else []:
            kind = item[0].tag
            values = [word.rpartition("::")[2] for word in (item[0].text or "").split("|")]
            if kind in ("set", "enum") and all(name in vars(cls) for name in values):
                number = 0
                for name in values:
                    number |= vars(cls)[name]
                found.append((widget.get("name"), item.get("name"), number))
                widget.remove(item)
    return found


def _check_properties(root: ElementTree.Element, objects: dict[str, QObject]) -> None:
    """Qt would silently make an unknown property a dynamic one; stdset="0" says that it is meant to be one."""
    for widget in root.iter("widget"):
        meta = objects[widget.get("name")].metaObject()
        for item in widget.findall("property"):
            if item.get("stdset") != "0" and meta.indexOfProperty(item.get("name")) < 0:
                raise RuntimeError(f"{widget.get('class')} {widget.get('name')!r} has no property {item.get('name')!r}")


def _connect(connection: ElementTree.Element, objects: dict[str, QObject]) -> None:
    sender, signal, receiver, slot = (connection.findtext(tag, "") for tag in ("sender", "signal", "receiver", "slot"))
    for name in (sender, receiver):
        if name not in objects:
            raise RuntimeError(f"<connections> name an object {name!r} that is not in the .ui file")
    if not signals.connect(wrap(objects[sender]), signal, wrap(objects[receiver]), slot):
        raise RuntimeError(f"cannot connect {sender}.{signal} to {receiver}.{slot}")


def add_to(namespace: Any, widgets: list[type[QWidget]]) -> None:
    """Offer stand-ins in `ctk` or `slicer`, and to .ui files."""
    for cls in widgets:
        standins[cls.__name__] = cls
        setattr(namespace, cls.__name__, wrapper_class(cls))
