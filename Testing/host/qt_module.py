"""The module `qt`: every class of QtCore, QtGui, QtWidgets and a few more, with PythonQt's rules."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QFileDialog, QInputDialog

from .error_log import record_exception
from .pythonqt import adapters, to_qt, wrapper_class

_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork)
# QEnum, QFlag... are helpers of PySide; QSignalBlocker and the like are no PythonQt wrappers.
_NOT_IN_PYTHONQT = {"QEnum", "QFlag", "QT_TR_NOOP", "QT_TRANSLATE_NOOP", "QT_TRID_NOOP", "QtMsgType", "QSignalBlocker"}


class QtModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name not in _NOT_IN_PYTHONQT and (name.startswith("Q") or name == "Qt"):
            for module in _MODULES:
                found = getattr(module, name, None)
                if isinstance(found, type):
                    cls = wrapper_class(found)
                    setattr(self, name, cls)
                    return cls
        raise AttributeError(f"module 'qt' has no attribute {name!r}")


class OtherModule(ModuleType):
    """`ctk`: only what has a stand-in."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"module {self.__name__!r}: the test host has no stand-in for {name!r}")


def _single_shot(_owner: Any, msec: int, *receiver: Any) -> None:
    """PythonQt: singleShot(msec, callable)."""
    if len(receiver) != 1 or not callable(receiver[0]) or not isinstance(msec, int):
        raise ValueError(f"QTimer.singleShot(msec, callable), got {(msec, *receiver)}")

    def shoot() -> None:
        try:
            receiver[0]()
        except Exception:
            record_exception()

    QTimer.singleShot(msec, shoot)


def _first(function: Callable) -> Callable:
    """PySide returns (value, filter or ok), PythonQt only the value."""

    def call(_owner: Any, *arguments: Any) -> Any:
        try:
            return function(*map(to_qt, arguments))[0]
        except TypeError as error:
            raise ValueError(str(error)) from None

    return call


adapters["QTimer", "singleShot"] = _single_shot
for _name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName"):
    adapters["QFileDialog", _name] = lambda owner, *a, _n=_name: _first(getattr(QFileDialog, _n))(owner, *a)
for _name in ("getText", "getMultiLineText", "getInt", "getDouble", "getItem"):
    adapters["QInputDialog", _name] = lambda owner, *a, _n=_name: _first(getattr(QInputDialog, _n))(owner, *a)
