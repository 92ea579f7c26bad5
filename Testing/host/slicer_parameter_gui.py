"""Which widget can show which type of parameter. As in Slicer the exact class of the widget counts."""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ctk
import qt
import slicer

from .slicer_parameter_rules import Choice, Maximum, Minimum, WithinRange

if TYPE_CHECKING:
    from .slicer_parameters import Parameter


@dataclass
class Decimals:
    value: int


@dataclass
class SingleStep:
    value: float


class Connection:
    """A widget, how its value is read and written, and the signal that tells of a change."""

    def __init__(self, signal: Any, read: Callable[[], Any], write: Callable[[Any], None]):
        self._signal, self.read, self.write = signal, read, write
        self._changed: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._signal.connect(self._changed)

    def stop(self) -> None:
        self._signal.disconnect(self._changed)


def connect_widget(widget: Any, parameter: Parameter) -> Connection:
    kind, widget_type = parameter.kind, type(widget)
    if parameter.node_types:
        if widget_type is slicer.qMRMLNodeComboBox:
            return Connection(widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode)
    elif kind is bool and widget_type in (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton):
        if widget_type is qt.QPushButton:
            widget.checkable = True
        return _of_property(widget, widget.toggled, "checked")
    elif kind is int and widget_type in (qt.QSlider, qt.QSpinBox):
        low, high = _range(parameter)
        if widget_type is qt.QSlider and None in (low, high):
            raise RuntimeError(f"{parameter.name}: a QSlider needs a bounded int")
        return _number(widget, parameter, -(2**31) if low is None else low, 2**31 - 1 if high is None else high)
    elif kind in (int, float) and widget_type in (qt.QDoubleSpinBox, ctk.ctkSliderWidget, ctk.ctkDoubleSpinBox):
        low, high = _range(parameter)
        if widget_type is ctk.ctkSliderWidget and None in (low, high):
            raise RuntimeError(f"{parameter.name}: a ctkSliderWidget needs a bounded number")
        number = _number(widget, parameter, float("-inf") if low is None else low, float("inf") if high is None else high)
        number.read = lambda: kind(widget.value)
        return number
    elif widget_type is qt.QComboBox:
        return _choice(widget, parameter)
    elif kind is str and widget_type is qt.QLineEdit:
        return _of_property(widget, widget.textChanged, "text")
    elif kind is str and widget_type is qt.QLabel:
        return Connection(widget.windowTitleChanged, lambda: widget.text, lambda text: setattr(widget, "text", text))
    elif kind is str and widget_type in (qt.QTextEdit, qt.QPlainTextEdit):
        return Connection(widget.textChanged, widget.toPlainText, lambda text: _set_text(widget, text))
    elif issubclass(kind, pathlib.PurePath) and widget_type is ctk.ctkPathLineEdit:
        write = lambda path: setattr(widget, "currentPath", str(path))  # noqa: E731
        return Connection(widget.currentPathChanged, lambda: kind(widget.currentPath), write)
    raise RuntimeError(f"Unable to connect {parameter.name} of type {parameter.annotation} to a {widget_type.__name__}")


def _of_property(widget: Any, signal: Any, name: str) -> Connection:
    return Connection(signal, lambda: getattr(widget, name), lambda value: setattr(widget, name, value))


def _number(widget: Any, parameter: Parameter, low: float, high: float) -> Connection:
    for extra in parameter.extras:
        if isinstance(extra, Decimals):
            widget.decimals = extra.value
        elif isinstance(extra, SingleStep):
            widget.singleStep = extra.value
    widget.minimum, widget.maximum = low, high
    return _of_property(widget, widget.valueChanged, "value")


def _range(parameter: Parameter) -> tuple[float | None, float | None]:
    low = high = None
    for rule in parameter.validators:
        if isinstance(rule, (WithinRange, Minimum)):
            low = rule.minimum
        if isinstance(rule, (WithinRange, Maximum)):
            high = rule.maximum
    return low, high


def _choice(widget: Any, parameter: Parameter) -> Connection:
    if issubclass(parameter.kind, enum.Enum):
        values = list(parameter.kind)
        label = getattr(parameter.kind, "label", lambda value: value.name)
        texts = [label(value) for value in values]
    else:
        rule = next((rule for rule in parameter.validators if isinstance(rule, Choice)), None)
        if rule is None:
            raise RuntimeError(f"{parameter.name}: a QComboBox needs an enum or a Choice")
        values, texts = rule.choices, [str(value) for value in rule.choices]
    widget.clear()
    widget.addItems(texts)
    write = lambda value: setattr(widget, "currentIndex", values.index(value))  # noqa: E731
    return Connection(widget.currentIndexChanged, lambda: values[widget.currentIndex], write)


def _set_text(widget: Any, text: str) -> None:
    if widget.toPlainText() != text:  # setting it again would move the cursor
        widget.setPlainText(text)
