"""slicer.parameterNodeWrapper, the part that a module needs: int, float, bool, str, enum, Path, nodes, and unions of nodes.

Values stand in the MRML node as the same strings as in Slicer, so a scene saved there can be read here. Any other type (list,
dict, parameterPack, ranges) is refused when the class is defined.
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import vtk
from slicer import vtkMRMLNode, vtkMRMLScriptedModuleNode
from slicer.util import NodeModify

from .slicer_parameter_gui import Connection, Decimals, SingleStep, connect_widget
from .slicer_parameter_rules import Choice, Exclude, Maximum, Minimum, NotNone, Validator, WithinRange

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "Validator",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]

PROPERTY = "SlicerParameterName"  # dynamic property that names the parameter in a .ui file


@dataclass
class Default:
    """Default value as an annotation; a generator makes a new value each time."""

    value: Any = None
    generator: Callable[[], Any] | None = None

    def make(self) -> Any:
        return self.generator() if self.generator else self.value


class Parameter:
    """One annotated name of the class: its type, its rules, how it is written."""

    def __init__(self, name: str, annotation: Any, default: Default | None):
        self.name, self.annotation = name, annotation
        is_annotated = typing.get_origin(annotation) is typing.Annotated
        self.kind, *self.extras = typing.get_args(annotation) if is_annotated else (annotation,)
        self.node_types = _node_types(self.kind)
        if not self.node_types and not _is_plain(self.kind):
            raise TypeError(f"{name}: the test host does not know parameters of type {annotation}")
        self.validators = [extra() if isinstance(extra, type) else extra for extra in self.extras if _is_validator(extra)]
        given = default or next((extra for extra in self.extras if isinstance(extra, Default)), None)
        self.default = given or Default(self._usual_default())

    def _usual_default(self) -> Any:
        if self.node_types:
            return None
        return next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else 0 if self.kind is float else self.kind()

    def validate(self, value: Any) -> None:
        allowed = self.node_types or ((int, float) if self.kind is float else (self.kind,))
        if value is None and not self.node_types:
            raise ValueError(f"{self.name} must not be None")
        if value is not None and not isinstance(value, allowed):
            raise TypeError(f"{self.name} must be of type {self.kind}, got {value!r}")
        for validator in self.validators:
            validator.validate(value)

    def write(self, node: vtkMRMLScriptedModuleNode, value: Any) -> None:
        self.validate(value)
        if self.node_types:
            node.SetParameter(self.name, "")  # says that the parameter is there although it refers to no node
            node.SetNodeReferenceID(self.name, value.GetID() if value else None)
        else:
            node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))

    def read(self, node: vtkMRMLScriptedModuleNode) -> Any:
        if not node.HasParameter(self.name):
            self.write(node, self.default.make())
        if self.node_types:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.kind is bool:
            return text == "True"
        return self.kind[text] if issubclass(self.kind, enum.Enum) else self.kind(text)


def _is_plain(kind: Any) -> bool:
    return isinstance(kind, type) and (kind in (int, float, bool, str) or issubclass(kind, (enum.Enum, pathlib.PurePath)))


def _is_validator(extra: Any) -> bool:
    return isinstance(extra, Validator) or (isinstance(extra, type) and issubclass(extra, Validator))


def _node_types(kind: Any) -> tuple[type, ...]:
    """Node classes of a node class, a union of them, or an optional one; () for anything else."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return tuple(members) if all(map(_node_types, members)) else ()
    return (kind,) if isinstance(kind, type) and issubclass(kind, vtkMRMLNode) else ()


class _Wrapper:
    """What the decorator adds to the class of a module."""

    allParameters: dict[str, Parameter]
    parameterNode: vtkMRMLScriptedModuleNode

    def __init__(self, parameterNode: vtkMRMLScriptedModuleNode):
        self.parameterNode = parameterNode
        self._connections: dict[int, list[tuple[str, Connection]]] = {}
        self._observers: dict[int, int] = {}
        self._updating = False
        self._tags = 0
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)  # writes the default where there is none

    def default(self, name: str) -> Default:
        return self._parameter(name).default

    def dataType(self, name: str) -> Any:
        return self._parameter(name).annotation

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        parameter = self._parameter(name)
        parameter.validate(value)
        with NodeModify(self.parameterNode):
            parameter.write(self.parameterNode, value)

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"no parameter {name!r}, there are {', '.join(self.allParameters)}")
        return self.allParameters[name]

    def AddObserver(self, event: int, callback: Callable, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModifying: int) -> None:
        self.parameterNode.EndModify(wasModifying)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def connectGui(self, gui: Any) -> int:
        """Connect every widget with the property SlicerParameterName: of a widget, or of what childWidgetVariables returned."""
        widgets: Iterable[Any] = gui.findChildren("QWidget") if hasattr(gui, "isWidgetType") else vars(gui).values()
        named = {widget.property(PROPERTY): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        tag, self._tags = self._tags, self._tags + 1
        connections = [(name, connect_widget(widget, self._parameter(name))) for name, widget in mapping.items()]
        self._connections[tag] = connections
        for name, connection in connections:
            connection.write(self.getValue(name))
            connection.start(self._taker(name, connection))
        self._observers[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update(tag))
        return tag

    def disconnectGui(self, tag: int) -> None:
        for _, connection in self._connections.pop(tag, []):
            connection.stop()
        if tag in self._observers:
            self.RemoveObserver(self._observers.pop(tag))

    def _taker(self, name: str, connection: Connection) -> Callable[[], None]:
        def take() -> None:  # declares no argument, so it gets none of the signal's
            if not self._updating:
                self.setValue(name, connection.read())

        return take

    def _update(self, tag: int) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for name, connection in self._connections.get(tag, []):
                connection.write(self.getValue(name))
        finally:
            self._updating = False


def _make_property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator, with or without parentheses."""
    if cls is None:
        return parameterNodeWrapper
    parameters = {}
    for name, annotation in typing.get_type_hints(cls, include_extras=True).items():
        if hasattr(_Wrapper, name):
            raise ValueError(f"Cannot use reserved name {name!r} in a parameterNodeWrapper")
        parameters[name] = Parameter(name, annotation, Default(getattr(cls, name)) if hasattr(cls, name) else None)
        parameters[name].validate(parameters[name].default.make())
    for name, value in vars(_Wrapper).items():
        if callable(value):
            setattr(cls, name, value)
    for name in parameters:
        setattr(cls, name, _make_property(name))
    cls.allParameters = parameters
    cls._is_parameter_node_wrapper = True
    return cls


def isParameterNodeWrapper(classOrObject: Any) -> bool:
    return getattr(classOrObject, "_is_parameter_node_wrapper", False)
