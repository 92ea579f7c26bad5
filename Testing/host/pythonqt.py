"""PythonQt's rules for attributes, arguments and enums, on top of PySide6.

A module that runs here names properties, methods and enums as Slicer's Python expects them: `w.text` is a value, `w.text()` an
error, unknown names raise. `Testing/host/test_rules.py` pins each rule. Where this is not exact, it is stricter than PythonQt.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import shiboken6
from PySide6.QtCore import QMetaProperty, QObject
from shibokensupport.signature import get_signature

from . import signals, standin
from .error_log import record_exception

# What PySide adds for Python, or what PythonQt does not offer. connect, disconnect, findChild... are adapters.
_NOT_IN_PYTHONQT = frozenset(
    "connectNotify disconnectNotify emit isSignalConnected metaObject qt_metacall qt_metacast receivers sender "
    "senderSignalIndex staticMetaObject tr mro toPython".split()
)

Adapter = Callable[..., Any]
adapters: dict[tuple[str, str], Adapter] = {}  # (class, method) -> function(wrapper or None, *arguments)

_wrapper_classes: dict[type, WrapperType] = {}
_wrappers: WeakValueDictionary[int, Wrapper] = WeakValueDictionary()


class EnumValue(int):
    """An enum value: an int that remembers its name and the PySide member."""

    member: enum.Enum

    def __repr__(self) -> str:
        return f"{self.member.name}({int(self)})"

    __str__ = __repr__


_enum_types: dict[type, type[EnumValue]] = {}


def _enum_type(cls: type) -> type[EnumValue]:
    """As in PythonQt the type is there but has no values as attributes."""
    if cls not in _enum_types:
        _enum_types[cls] = type(cls.__name__, (EnumValue,), {"__module__": "qt"})
    return _enum_types[cls]


def from_qt(value: Any) -> Any:
    """What Python code sees of a result: wrappers, tuples for lists, int-like enums, plain ints for flags."""
    if isinstance(value, enum.Flag):
        return int(value.value)
    if isinstance(value, enum.Enum):
        wrapped = _enum_type(type(value))(value.value)
        wrapped.member = value
        return wrapped
    if isinstance(value, (list, tuple)):
        return tuple(map(from_qt, value))
    if isinstance(value, dict):
        return {key: from_qt(item) for key, item in value.items()}
    if isinstance(value, shiboken6.Shiboken.Object):
        return wrap(value)
    return value


def to_qt(value: Any) -> Any:
    """What PySide gets for an argument. A bare Python function is no Qt argument; signals and adapters take care of those."""
    if isinstance(value, Wrapper):
        return alive(value)
    if isinstance(value, EnumValue):
        return value.member
    if isinstance(value, (list, tuple)):
        return [to_qt(item) for item in value]
    if isinstance(value, dict):
        return {key: to_qt(item) for key, item in value.items()}
    return value


def alive(wrapper: Wrapper) -> Any:
    """The PySide object of a wrapper; ValueError when C++ has deleted it."""
    qt = wrapper.__dict__.get("_qt")
    if qt is None:
        raise ValueError(f"{type(wrapper).__name__}: __init__ of the Qt class was not called")
    if not shiboken6.isValid(qt):
        raise ValueError(f"Trying to use a destroyed {type(wrapper).__name__} object")
    return qt


def wrap(qt: Any) -> Wrapper:
    """The wrapper of a PySide object: always the same one while somebody holds it."""
    address = shiboken6.getCppPointer(qt)[0] if isinstance(qt, QObject) else None
    known = _wrappers.get(address) if address is not None else None
    if known is not None and known.__dict__["_qt"] is qt:
        return known
    if (own := getattr(qt, "_wrapper", None)) is not None:  # made by a Python subclass of a Qt class
        return own
    cls = wrapper_class(_public_class(type(qt)))
    wrapper = cls.__new__(cls)
    wrapper._hold(qt)
    return wrapper


def wrapper_class(qt_class: type) -> WrapperType:
    """Wrapper classes do not inherit from each other: isinstance(QPushButton(), qt.QWidget) is False."""
    if qt_class not in _wrapper_classes:
        _wrapper_classes[qt_class] = WrapperType(qt_class.__name__, (Wrapper,), {"_qt_class": qt_class, "__module__": "qt"})
    return _wrapper_classes[qt_class]


def _public_class(cls: type) -> type:
    """Classes that the host makes for itself (leading underscore) show as the Qt class they derive from."""
    return next(base for base in cls.__mro__ if not base.__name__.startswith("_"))


class Method:
    """A slot or method of a C++ object, or an unbound one of a C++ class."""

    def __init__(self, name: str, call: Callable, owner: Wrapper | None):
        self._name, self._call, self._owner = name, call, owner

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if keywords:
            raise ValueError(f"{self._name}() takes no keyword arguments, got {sorted(keywords)}")
        if self._owner is not None:
            alive(self._owner)
        return from_qt(self._call(*arguments))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and self._owner is other._owner and self._name == other._name

    def __hash__(self) -> int:
        return hash((id(self._owner), self._name))

    def __repr__(self) -> str:
        return f"<method {self._name}>"


def _call(name: str, function: Callable, *arguments: Any) -> Any:
    converted = [to_qt(argument) for argument in arguments]
    signatures = getattr(function, "_signatures", None)
    if signatures is not None:
        for signature in signatures:
            if standin.accepts(signature, converted):
                return function(*converted)
        raise ValueError(f"{name}: arguments {arguments} fit none of {', '.join(signatures)}")
    for argument in converted:
        if callable(argument) and not isinstance(argument, (type, shiboken6.Shiboken.Object)):
            raise ValueError(f"{name}() takes no Python function, got {argument}")
    try:
        return function(*converted)
    except (TypeError, ValueError, OverflowError) as error:
        for retyped in _with_enums(function, arguments, converted):
            try:
                return function(*retyped)
            except (TypeError, ValueError, OverflowError):
                continue
        raise ValueError(f"{name}: no overload for arguments {arguments}: {error}") from None


def _with_enums(function: Callable, arguments: tuple, converted: list) -> list[list]:
    """PythonQt takes plain ints for enums and flags, PySide does not: the arguments retyped for each overload."""
    owner = getattr(function, "__self__", None)
    found = get_signature(function if owner is None else getattr(type(owner), function.__name__))
    candidates = []
    for signature in found if isinstance(found, list) else [found] if found else []:
        parameters = [p for p in signature.parameters.values() if p.name != "self"]
        if len(parameters) < len(arguments):
            continue
        retyped = []
        for parameter, plain, value in zip(parameters, arguments, converted, strict=False):
            kind = parameter.annotation
            if isinstance(plain, int) and isinstance(kind, type) and issubclass(kind, enum.Enum):
                value = kind(int(plain))
            elif isinstance(plain, EnumValue):
                value = int(plain)
            retyped.append(value)
        candidates.append(retyped)
    return candidates


def _find(qt_class: type, name: str) -> Any:
    """A public name of the C++ class, or None. Of the Python part of a stand-in only what it declares."""
    if name.startswith("_") or name in _NOT_IN_PYTHONQT:
        return None
    for base in qt_class.__mro__:
        if base.__module__.startswith(("PySide6", "Shiboken")):
            return None if hasattr(object, name) else getattr(base, name, None)
        value = vars(base).get(name)
        if hasattr(value, "_signatures") or (isinstance(value, int) and name[0].isupper()):
            return value
    return None


def _member(qt_class: type, qt: Any, owner: Wrapper | None, name: str) -> Any:
    """Enum value, enum type or method of that name; None if there is none."""
    for base in qt_class.__mro__:
        if (base.__name__, name) in adapters:
            return Method(name, partial(adapters[base.__name__, name], owner), owner)
    value = _find(qt_class, name)
    if isinstance(value, type):
        return _enum_type(value) if issubclass(value, enum.Enum) else wrapper_class(value)
    if isinstance(value, (int, enum.Enum)):
        return from_qt(value)
    if callable(value):
        return Method(name, partial(_call, name, value if qt is None else getattr(qt, name)), owner)
    return None


class WrapperType(type):
    """Attributes of the class: enum values and types, static and unbound methods, nested classes."""

    _qt_class: type | None

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict):
        super().__init__(name, bases, namespace)
        if "_qt_class" not in namespace:
            cls._qt_class = _virtual_class(cls, bases[0]._qt_class)

    def __getattr__(cls, name: str) -> Any:
        value = None if name.startswith("_") else _member(cls._qt_class, None, None, name)
        if value is None:
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        return value


def _virtual_class(cls: WrapperType, qt_class: type) -> type:
    """A PySide subclass whose C++ virtuals call the methods of a Python subclass of a Qt class."""

    def override(name: str) -> Callable:
        def call(qt: Any, *arguments: Any) -> Any:
            wrapper = getattr(qt, "_wrapper", None)
            if wrapper is not None and vars(type(wrapper)):  # the garbage collector empties the class before the object is gone
                try:
                    return to_qt(getattr(wrapper, name)(*map(from_qt, arguments)))
                except Exception:
                    record_exception()
            return getattr(qt_class, name)(qt, *arguments)

        return call

    names = [n for n, value in vars(cls).items() if callable(value) and not n.startswith("_") and hasattr(qt_class, n)]
    return type(qt_class)(f"_{cls.__name__}", (qt_class,), {name: override(name) for name in names})


class Wrapper(metaclass=WrapperType):
    """A C++ object in Python. Lookup order: Python class, property, signal, method or enum, dynamic property, named child."""

    _qt_class = None

    def __init__(self, *arguments: Any, **keywords: Any):
        if keywords:
            raise ValueError(f"{type(self).__name__}() takes no keyword arguments, got {sorted(keywords)}")
        qt = _call(type(self).__name__, self._qt_class, *arguments)
        self._hold(qt)
        if type(self) is not _wrapper_classes.get(self._qt_class):
            qt._wrapper = self  # a Python subclass lives as long as its C++ object

    def _hold(self, qt: Any) -> None:
        self.__dict__["_qt"] = qt
        if isinstance(qt, QObject):
            _wrappers[shiboken6.getCppPointer(qt)[0]] = self

    def className(self) -> str:
        qt = alive(self)
        return qt.metaObject().className().lstrip("_") if isinstance(qt, QObject) else type(self).__name__

    def inherits(self, name: str) -> bool:
        return any(base.__name__ == name for base in type(alive(self)).__mro__)

    def delete(self) -> None:
        shiboken6.delete(alive(self))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        qt = alive(self)
        if isinstance(qt, QObject):
            if (found := _property(qt, name)) is not None:
                return from_qt(found.read(qt))
            if (signature := signals.signature_of(qt, name)) is not None:
                return signals.Signal(self, signature)
        value = _member(type(qt), qt, self, name)
        if value is None and name.endswith("_"):  # exec_(), raise_()
            value = _member(type(qt), qt, self, name[:-1])
        if value is not None:
            return value
        if isinstance(qt, QObject):
            if name.encode() in [bytes(known) for known in qt.dynamicPropertyNames()]:
                return from_qt(qt.property(name))
            for child in qt.children():
                if child.objectName() == name:
                    return wrap(child)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        qt = self.__dict__.get("_qt")
        if qt is not None:
            qt = alive(self)
        if isinstance(qt, QObject):
            if (found := _property(qt, name)) is not None:
                _write(self, qt, found, value)
                return
            if name.encode() in [bytes(known) for known in qt.dynamicPropertyNames()]:
                qt.setProperty(name, to_qt(value))
                return
            if signals.signature_of(qt, name) is not None:
                raise AttributeError(f"signal {name!r} of {type(self).__name__} cannot be overwritten")
        if qt is not None and _member(type(qt), None, None, name) is not None:
            raise AttributeError(f"method or enum {name!r} of {type(self).__name__} cannot be overwritten")
        if type(self) is _wrapper_classes.get(self._qt_class):
            raise AttributeError(f"{type(self).__name__!r} object has no property {name!r}, new attributes are not allowed")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wrapper):
            return NotImplemented
        return self is other or (not isinstance(alive(self), QObject) and alive(self) == alive(other))

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        return shiboken6.isValid(self.__dict__.get("_qt"))

    def __repr__(self) -> str:
        qt = self.__dict__.get("_qt")
        if not self:
            return f"<{type(self).__name__}, no C++ object>"
        name = f" {qt.objectName()!r}" if isinstance(qt, QObject) and qt.objectName() else ""
        return f"<{type(self).__name__}{name}>"


def _property(qt: QObject, name: str) -> QMetaProperty | None:
    meta = qt.metaObject()
    index = meta.indexOfProperty(name)
    if index < 0 and name == "name":
        index = meta.indexOfProperty("objectName")
    return meta.property(index) if index >= 0 else None


_LENIENT: dict[str, Callable[[Any], Any]] = {"QString": str, "int": int, "double": float, "bool": bool}


def _write(wrapper: Wrapper, qt: QObject, found: QMetaProperty, value: Any) -> None:
    """Not strict: 3.9 becomes 3 for an int, None becomes "None" for a QString. What does not fit is an AttributeError."""
    shown = f"property {found.name()!r} of {type(wrapper).__name__}"
    if not found.isWritable():
        raise AttributeError(f"{shown} is read-only")
    convert = _LENIENT.get(found.typeName())
    try:
        converted = convert(value) if convert else int(value) if found.isEnumType() else to_qt(value)
        if convert in (int, float) and not isinstance(value, (int, float)):
            raise TypeError(f"not a number: {value!r}")
    except (TypeError, ValueError) as error:
        raise AttributeError(f"{shown}, type {found.typeName()}, cannot be set to {value!r}: {error}") from None
    if not found.write(qt, converted):
        raise AttributeError(f"{shown}, type {found.typeName()}, cannot be set to {value!r}")


def _find_children(owner: Wrapper, kind: Any = None, name: str | None = None) -> list[QObject]:
    class_name = kind if isinstance(kind, str) else kind.__name__ if kind is not None else "QObject"
    found = [
        child for child in alive(owner).findChildren(QObject) if any(b.__name__ == class_name for b in type(child).__mro__)
    ]
    return found if name is None else [child for child in found if child.objectName() == name]


def _find_child(owner: Wrapper, kind: Any, name: str | None = None) -> QObject | None:
    return next(iter(_find_children(owner, kind, name)), None)


adapters["QObject", "findChildren"] = _find_children
adapters["QObject", "findChild"] = _find_child
adapters["QObject", "connect"] = lambda *arguments: signals.connect(*arguments)  # both modules need each other
adapters["QObject", "disconnect"] = lambda *arguments: signals.disconnect(*arguments)
