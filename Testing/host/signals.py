"""Signals as PythonQt has them: exact C++ signatures, receivers get what they declare, exceptions do not come back."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import shiboken6
from PySide6.QtCore import SIGNAL, QMetaMethod, QMetaObject, QObject

from . import pythonqt
from .error_log import record, record_exception

if TYPE_CHECKING:
    from .pythonqt import Wrapper

_VARARGS = inspect.CO_VARARGS
_connections: dict[int, list[_Connection]] = {}  # address of the C++ sender -> what is connected to it


class _Connection:
    def __init__(self, signature: str, receiver: Callable):
        self.signature, self.receiver = signature, receiver
        self.handle: QMetaObject.Connection | None = None

    def make(self, qt: QObject) -> None:
        receiver, count = self.receiver, declared_arguments(self.receiver)

        def receive(*arguments: Any) -> None:
            try:
                receiver(*[pythonqt.from_qt(argument) for argument in arguments][:count])
            except Exception:
                record_exception()

        if attribute := _cpp_attribute(type(qt), self.signature):
            self.handle = getattr(qt, attribute).connect(receive)
        else:
            self.handle = QObject.connect(qt, SIGNAL(self.signature), receive)


def declared_arguments(receiver: Callable) -> int | None:
    """How many arguments of the signal a receiver gets; None is all. Arguments with a default count as declared."""
    function, bound = receiver, 0
    if inspect.ismethod(receiver):
        function, bound = receiver.__func__, 1
    if not inspect.isfunction(function) or function.__code__.co_flags & _VARARGS:
        return None
    return function.__code__.co_argcount - bound


class Signal:
    """`button.clicked`: to connect, to disconnect, or to call, which emits it."""

    def __init__(self, owner: Wrapper, signature: str):
        self._owner, self._signature = owner, signature

    def __call__(self, *arguments: Any) -> None:
        qt = pythonqt.alive(self._owner)
        try:
            if attribute := _cpp_attribute(type(qt), self._signature):
                getattr(qt, attribute).emit(*map(pythonqt.to_qt, arguments))
            else:
                qt.emit(SIGNAL(self._signature), *map(pythonqt.to_qt, arguments))
        except TypeError as error:
            raise ValueError(f"Could not emit {self._signature} with {arguments}: {error}") from None

    def connect(self, receiver: Callable) -> bool:
        return connect(self._owner, self._signature, receiver)

    def disconnect(self, *receiver: Callable) -> bool:
        return disconnect(self._owner, self._signature, *receiver)

    def __repr__(self) -> str:
        return f"<signal {self._signature} of {self._owner!r}>"


def signature_of(qt: QObject, name: str) -> str | None:
    """The first signal of that name, as Qt's meta object lists them: clicked(bool) comes before clicked()."""
    for table in _cpp_tables(type(qt)):
        for signature in table:
            if signature.startswith(name + "("):
                return signature
    try:
        return _meta_signals(type(qt), qt.metaObject().className()).get(name)
    except RuntimeError:  # a class of Qt's own that PySide does not know, whose description it has let go
        return _signals_in(qt.metaObject()).get(name)


def connect(sender: Wrapper, signature: str, receiver: Any, slot_signature: str | None = None) -> bool:
    """An unknown signal or slot is only printed, as in PythonQt, and found in `errors`."""
    qt = pythonqt.alive(sender)
    if not isinstance(signature, str) or not (slot_signature is not None or callable(receiver)):
        raise ValueError(f"connect() needs a signature and a callable, got {signature!r} and {receiver!r}")
    normalized = normalize(signature)
    if not has_signal(qt, normalized):
        record(f"QObject::connect: no signal {signature!r} in {sender!r}")
        return False
    if slot_signature is not None:
        receiver = _slot(receiver, slot_signature)
        if receiver is None:
            return False
    connection = _Connection(normalized, receiver)
    connection.make(qt)
    address = shiboken6.getCppPointer(qt)[0]
    if address not in _connections:
        qt.destroyed.connect(lambda *_: _connections.pop(address, None))
    _connections.setdefault(address, []).append(connection)
    return True


def disconnect(sender: Wrapper, signature: str, receiver: Any = None, slot_signature: str | None = None) -> bool:
    """Without a receiver, everything that Python connected to the signal goes."""
    qt = pythonqt.alive(sender)
    normalized = normalize(signature)
    if slot_signature is not None:
        receiver = _slot(receiver, slot_signature)
    listed = _connections.get(shiboken6.getCppPointer(qt)[0], [])
    leaving = [c for c in listed if c.signature == normalized and (receiver is None or c.receiver == receiver)]
    for connection in leaving:
        listed.remove(connection)
        QObject.disconnect(connection.handle)
    return bool(leaving)


def has_signal(qt: QObject, signature: str) -> bool:
    return _cpp_attribute(type(qt), signature) is not None or qt.metaObject().indexOfSignal(signature) >= 0


def has_slot(qt: QObject, signature: str) -> bool:
    """Slots of Qt itself and of stand-ins; signals count too, as a signal may be connected to a signal."""
    name = signature.partition("(")[0]
    for cls in type(qt).__mro__:
        function = vars(cls).get(name)
        if signature in getattr(function, "_signatures", ()) and function._is_slot:
            return True
    return qt.metaObject().indexOfSlot(signature) >= 0 or has_signal(qt, signature)


def normalize(signature: str) -> str:
    normalized = QMetaObject.normalizedSignature(signature)
    return normalized if isinstance(normalized, str) else bytes(normalized).decode()


def _slot(receiver: Wrapper, signature: str) -> Callable | None:
    qt, normalized = pythonqt.alive(receiver), normalize(signature)
    if not has_slot(qt, normalized):
        record(f"QObject::connect: no slot {signature!r} in {receiver!r}")
        return None
    name, count = normalized.partition("(")[0], 0 if normalized.endswith("()") else normalized.count(",") + 1
    return _SlotCall(getattr(receiver, name), count)


class _SlotCall:
    """A C++ slot as receiver: it takes the leading arguments that its signature names."""

    def __init__(self, method: Callable, count: int):
        self.method, self.count = method, count

    def __call__(self, *arguments: Any) -> None:
        self.method(*arguments[: self.count])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SlotCall) and (self.method, self.count) == (other.method, other.count)

    __hash__ = None


def _cpp_tables(cls: type) -> list[dict[str, str]]:
    return [vars(base)["CPP_SIGNALS"] for base in cls.__mro__ if "CPP_SIGNALS" in vars(base)]


def _cpp_attribute(cls: type, signature: str) -> str | None:
    """Name of the PySide signal that stands for a C++ signal with types that PySide does not know."""
    return next((table[signature] for table in _cpp_tables(cls) if signature in table), None)


@cache
def _meta_signals(cls: type, _class_name: str) -> dict[str, str]:
    return _signals_in(cls.staticMetaObject)


def _signals_in(meta: QMetaObject) -> dict[str, str]:
    found: dict[str, str] = {}
    for index in range(meta.methodCount()):
        method = meta.method(index)
        if method.methodType() == QMetaMethod.MethodType.Signal:
            found.setdefault(bytes(method.name()).decode(), bytes(method.methodSignature()).decode())
    return {name: signature for name, signature in found.items() if not name.startswith("_")}
