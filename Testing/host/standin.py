"""Declaring a stand-in: a PySide class that takes the place of a C++ class of CTK or Slicer.

Only what is declared here is seen from Python, as PythonQt sees only properties, public slots, Q_INVOKABLE and signals:
`PySide6.QtCore.Property`, `@slot(...)`, `@invokable(...)`, `PySide6.QtCore.Signal`, and CPP_SIGNALS for signals whose C++ types
PySide does not know ({C++ signature: attribute with the PySide signal}). Signatures are written as in C++, normalised.
Whole numbers in capitals of the class (Files = 2) are its enum values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Property

_NUMBER = (int, float)
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, _NUMBER),
    "int": lambda value: isinstance(value, int),
    "double": lambda value: isinstance(value, _NUMBER),
    "QString": lambda value: isinstance(value, str),
    "QStringList": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "QVariant": lambda value: True,
    "QVariantMap": lambda value: isinstance(value, dict),
}


def slot(*signatures: str) -> Callable[[Callable], Callable]:
    """A public slot: Python and <connections> of a .ui file may use it. Several signatures are C++ overloads."""

    def mark(function: Callable) -> Callable:
        function._signatures = signatures
        function._is_slot = True
        return function

    return mark


def invokable(*signatures: str) -> Callable[[Callable], Callable]:
    """A Q_INVOKABLE method: Python may call it, a .ui file cannot connect to it."""

    def mark(function: Callable) -> Callable:
        function._signatures = signatures
        function._is_slot = False
        return function

    return mark


def stored(kind: type | str, name: str, default: Any, changed: str | None = None) -> Property:
    """A property that only keeps its value; `changed` names a method to call when it is set."""

    def write(self: Any, value: Any) -> None:
        setattr(self, f"_{name}", value)
        if changed is not None:
            getattr(self, changed)()

    return Property(kind, lambda self: getattr(self, f"_{name}", default), write)


def forwarded(kind: type, child: str, name: str) -> Property:
    """A property that is the one of an inner widget, kept in the attribute `child`."""
    setter = f"set{name[0].upper()}{name[1:]}"

    def write(self: Any, value: Any) -> None:
        getattr(getattr(self, child), setter)(value)

    return Property(kind, lambda self: getattr(getattr(self, child), name)(), write)


def types_in(signature: str) -> list[str]:
    """>>> types_in("setRange(double,double)")
    ['double', 'double']
    """
    inside = re.fullmatch(r"\w+\((.*)\)", signature)
    if inside is None:
        raise ValueError(f"not a C++ signature: {signature!r}")
    return inside.group(1).split(",") if inside.group(1) else []


def accepts(signature: str, arguments: list[Any]) -> bool:
    """Whether PythonQt would convert these arguments to the C++ types of the signature."""
    types = types_in(signature)
    return len(types) == len(arguments) and all(map(_fits, types, arguments))


def _fits(cpp_type: str, value: Any) -> bool:
    if cpp_type in _CHECKS:
        return _CHECKS[cpp_type](value)
    if not cpp_type.endswith("*"):
        raise TypeError(f"no check for the C++ type {cpp_type!r}")
    name = cpp_type.removesuffix("*")
    if value is None:
        return True
    return value.IsA(name) == 1 if hasattr(value, "IsA") else any(base.__name__ == name for base in type(value).__mro__)
