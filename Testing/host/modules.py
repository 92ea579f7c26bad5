"""The module manager, the C++ side of a scripted module and its panel, and the namespace `slicer.modules`."""

from __future__ import annotations

import sys
from typing import Any

import slicer
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from .mrml_widgets import qMRMLWidget
from .pythonqt import wrap
from .standin import invokable, stored


class qSlicerModuleFactoryManager(QObject):
    @invokable("loadedModuleNames()")
    def loadedModuleNames(self) -> list[str]:
        return sorted(self.parent()._modules)

    @invokable("isLoaded(QString)")
    def isLoaded(self, name: str) -> bool:
        return name in self.parent()._modules


class qSlicerModuleManager(QObject):
    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def __init__(self, parent: QObject):
        super().__init__(parent)
        self._modules: dict[str, QObject] = {}
        self._factory = qSlicerModuleFactoryManager(self)

    @invokable("module(QString)")
    def module(self, name: str) -> QObject | None:
        return self._modules.get(name)

    @invokable("factoryManager()")
    def factoryManager(self) -> QObject:
        return self._factory

    def add(self, name: str, module: QObject) -> None:
        self._modules[name] = module
        setattr(slicer.modules, name.lower(), wrap(module))
        self.moduleLoaded.emit(name)

    def remove(self, name: str) -> None:
        self.moduleAboutToBeUnloaded.emit(name)
        self._modules.pop(name).deleteLater()
        for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
            vars(slicer.modules).pop(attribute, None)


class qSlicerLoadableModule(QObject):
    """A C++ module of which only the logic is there."""

    def __init__(self, name: str, logic: Any, parent: QObject):
        super().__init__(parent)
        self._name, self._logic = name, logic

    name = Property(str, lambda self: self._name)

    @invokable("logic()")
    def logic(self) -> Any:
        return self._logic


class qSlicerScriptedLoadableModule(QObject):
    """`parent` of a ScriptedLoadableModule: holds what the module says about itself and makes its panel."""

    def __init__(self, name: str, path: str, parent: QObject):
        super().__init__(parent)
        self._name, self._path, self._panel = name, path, None

    name = Property(str, lambda self: self._name)
    path = Property(str, lambda self: self._path)
    title = stored(str, "title", "")
    categories = stored("QStringList", "categories", [])
    dependencies = stored("QStringList", "dependencies", [])
    contributors = stored("QStringList", "contributors", [])
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes", [])
    helpText = stored(str, "helpText", "")
    acknowledgementText = stored(str, "acknowledgementText", "")
    hidden = stored(bool, "hidden", False)
    icon = stored("QIcon", "icon", None)

    @invokable("widgetRepresentation()")
    def widgetRepresentation(self) -> QWidget | None:
        if self._panel is None:
            self._panel = qSlicerScriptedLoadableModuleWidget(self)
            self._panel.reload()
        return self._panel


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The panel of a module, given to ScriptedLoadableModuleWidget as parent."""

    def __init__(self, module: qSlicerScriptedLoadableModule):
        super().__init__()
        self._module, self._python, self._entered = module, None, False
        QVBoxLayout(self)

    isEntered = Property(bool, lambda self: self._entered)
    moduleName = Property(str, lambda self: self._module._name)

    @invokable("self()")
    def self(self) -> Any:
        return self._python

    @invokable("reload()")
    def reload(self) -> None:
        """Makes the widget object of the module anew; slicer.util.reloadScriptedModule has cleaned up the old one."""
        name = self._module._name
        self.setMRMLScene(slicer.mrmlScene)
        self._python = getattr(sys.modules[name], f"{name}Widget")(wrap(self))
        setattr(slicer.modules, f"{name}Widget", self._python)
        self._python.setup()

    def enter(self) -> None:
        if not self._entered:
            self._entered = True
            self._python.enter()

    def exit(self) -> None:
        if self._entered:
            self._entered = False
            self._python.exit()
