"""Stand-ins for the qMRML widgets of the panel, over the real MRML scene. Views are in views.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
import vtk
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QInputDialog, QWidget
from slicer import vtkMRMLNode, vtkMRMLScene

from .ctk_widgets import ctkCollapsibleButton
from .standin import invokable, slot, stored


class _HasScene:
    """What passes the scene on to the widgets inside, by the <connections> of the .ui file."""

    CPP_SIGNALS: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "_scene_changed"}
    _scene: vtkMRMLScene | None = None

    @invokable("mrmlScene()")
    def mrmlScene(self) -> vtkMRMLScene | None:
        return self._scene

    @slot("setMRMLScene(vtkMRMLScene*)")
    def setMRMLScene(self, scene: vtkMRMLScene | None) -> None:
        if scene is not self._scene:
            self._scene = scene
            self._scene_changed.emit(scene)


class qMRMLWidget(_HasScene, QWidget):
    _scene_changed = Signal(object)


class qMRMLCollapsibleButton(_HasScene, ctkCollapsibleButton):
    _scene_changed = Signal(object)


class Observers:
    """VTK observers that end with the widget: VTK would call into a deleted C++ object."""

    def __init__(self, widget: QWidget):
        self._made: list[tuple[Any, int]] = []
        self._widget = widget
        made = self._made
        widget.destroyed.connect(lambda: [caller.RemoveObserver(tag) for caller, tag in made])

    def add(self, caller: Any, event: int, call: Callable[[], None]) -> None:
        def observed(*_: Any) -> None:
            if shiboken6.isValid(self._widget):
                call()

        self._made.append((caller, caller.AddObserver(event, observed)))

    def remove_all(self) -> None:
        for caller, tag in self._made:
            caller.RemoveObserver(tag)
        self._made.clear()


_SCENE_EVENTS = (
    vtkMRMLScene.NodeAddedEvent,
    vtkMRMLScene.NodeRemovedEvent,
    vtkMRMLScene.EndBatchProcessEvent,
    vtkMRMLScene.EndImportEvent,
    vtkMRMLScene.EndCloseEvent,
)


class qMRMLSortFilterProxyModel(QObject):
    """The part of it that leaves out single nodes."""

    changed = Signal()  # Qt's model has others, which nobody needs

    hiddenNodeIDs = stored("QStringList", "hiddenNodeIDs", [], "_tell")

    def _tell(self) -> None:
        self.changed.emit()


class qMRMLNodeComboBox(QWidget):
    """The nodes of some classes, "None", and the entries to create, rename and delete one."""

    CPP_SIGNALS: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "_node_changed",
        "currentNodeChanged(bool)": "_validity_changed",
        "nodeActivated(vtkMRMLNode*)": "_node_activated",
        "nodeAdded(vtkMRMLNode*)": "_node_added",
        "nodeAddedByUserAction(vtkMRMLNode*)": "_node_added_by_user",
    }
    _node_changed = Signal(object)
    _validity_changed = Signal(bool)
    _node_activated = Signal(object)
    _node_added = Signal(object)
    _node_added_by_user = Signal(object)
    currentNodeIDChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._scene: vtkMRMLScene | None = None
        self._current: vtkMRMLNode | None = None
        self._listed: list[vtkMRMLNode] = []
        self._attributes: dict[str, dict[str, str | None]] = {}
        self._scene_observers, self._node_observers = Observers(self), Observers(self)
        self._filter = qMRMLSortFilterProxyModel(self)
        self._filter.changed.connect(self._filter_changed)
        self._combo_box = QComboBox()
        self._combo_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        self._combo_box.activated.connect(self._on_activated)
        self._combo_box.setEnabled(False)  # until there is a scene

    nodeTypes = stored("QStringList", "nodeTypes", [], "_refresh")
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], "_refresh")
    showHidden = stored(bool, "showHidden", False, "_refresh")
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, "_refresh")
    noneEnabled = stored(bool, "noneEnabled", False, "_refresh")
    noneDisplay = stored(str, "noneDisplay", "None", "_refresh")
    addEnabled = stored(bool, "addEnabled", True, "_refresh")
    removeEnabled = stored(bool, "removeEnabled", True, "_refresh")
    editEnabled = stored(bool, "editEnabled", False, "_refresh")
    renameEnabled = stored(bool, "renameEnabled", False, "_refresh")
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName = stored(str, "baseName", "")
    currentNodeID = Property(
        str, lambda self: self._current.GetID() if self._current else "", lambda s, i: s.setCurrentNodeID(i)
    )

    @invokable("mrmlScene()")
    def mrmlScene(self) -> vtkMRMLScene | None:
        return self._scene

    @slot("setMRMLScene(vtkMRMLScene*)")
    def setMRMLScene(self, scene: vtkMRMLScene | None) -> None:
        if scene is self._scene:
            return
        self._scene_observers.remove_all()
        self._scene = scene
        self._combo_box.setEnabled(scene is not None)
        if scene is not None:
            for event in _SCENE_EVENTS:
                self._scene_observers.add(scene, event, self._refresh)
        self._refresh()

    @invokable("currentNode()")
    def currentNode(self) -> vtkMRMLNode | None:
        return self._current

    @slot("setCurrentNode(vtkMRMLNode*)", "setCurrentNode(QString)")
    def setCurrentNode(self, node: vtkMRMLNode | str | None) -> None:
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene else None
        self._select(node if node in self._listed else None)

    @slot("setCurrentNodeID(QString)")
    def setCurrentNodeID(self, node_id: str) -> None:
        self.setCurrentNode(node_id)

    @slot("setCurrentNodeIndex(int)")
    def setCurrentNodeIndex(self, index: int) -> None:
        self._select(self.nodeFromIndex(index))

    @invokable("sortFilterProxyModel()")
    def sortFilterProxyModel(self) -> qMRMLSortFilterProxyModel:
        return self._filter

    @invokable("nodeCount()")
    def nodeCount(self) -> int:
        return len(self._listed)

    @invokable("nodeFromIndex(int)")
    def nodeFromIndex(self, index: int) -> vtkMRMLNode | None:
        return self._listed[index] if 0 <= index < len(self._listed) else None

    @invokable("addAttribute(QString,QString)", "addAttribute(QString,QString,QVariant)")
    def addAttribute(self, node_type: str, name: str, value: str | None = None) -> None:
        self._attributes.setdefault(node_type, {})[name] = value
        self._refresh()

    @invokable("removeAttribute(QString,QString)")
    def removeAttribute(self, node_type: str, name: str) -> None:
        self._attributes.get(node_type, {}).pop(name, None)
        self._refresh()

    @slot("addNode()", "addNode(QString)")
    def addNode(self, node_type: str | None = None) -> vtkMRMLNode | None:
        node_type = node_type or self.nodeTypes[0]
        if self._scene is None or node_type not in self.nodeTypes:
            return None
        base = self.baseName or self._scene.GetTagByClassName(node_type)
        node = self._scene.CreateNodeByClass(node_type)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(base))
        for name, value in self._attributes.get(node_type, {}).items():
            node.SetAttribute(name, value)
        self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self._select(node)
        self._node_added_by_user.emit(node)
        return node

    @slot("removeCurrentNode()")
    def removeCurrentNode(self) -> None:
        if self._current is not None:
            self._scene.RemoveNode(self._current)

    @slot("renameCurrentNode()")
    def renameCurrentNode(self) -> None:
        name, accepted = (
            QInputDialog.getText(self, "Rename", "New name:", text=self._current.GetName()) if self._current else ("", False)
        )
        if accepted:
            self._current.SetName(name)

    def _shows(self, node: vtkMRMLNode) -> bool:
        wanted, hidden = self.nodeTypes, self.hideChildNodeTypes
        if (node.GetHideFromEditors() and not self.showHidden) or node.GetID() in self._filter.hiddenNodeIDs:
            return False
        if self.showChildNodeTypes:
            types = [name for name in wanted if node.IsA(name)]
        else:
            types = [name for name in wanted if node.GetClassName() == name]
        if not types or any(node.IsA(name) for name in hidden):
            return False
        required = self._attributes.get(types[0], {})
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)) for name, value in required.items()
        )

    def _filter_changed(self) -> None:
        """As Qt's box does it: the row before takes the place of a chosen one that vanishes, "None" that of the first."""
        if self._current is not None and not self._shows(self._current):
            before = [node for node in self._listed[: self._listed.index(self._current)] if self._shows(node)]
            self._select(before[-1] if before else None)
        self._refresh()

    def _refresh(self) -> None:
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = [] if self._scene is None else [self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())]
        before, self._listed = self._listed, [node for node in nodes if self._shows(node)]
        if self._listed != before:
            self._node_observers.remove_all()
            for node in self._listed:
                self._node_observers.add(node, vtk.vtkCommand.ModifiedEvent, self._show_items)
        current = self._current if self._current in self._listed else None
        if current is None and self._listed and not self.noneEnabled:
            current = self._listed[0]
        self._select(current)
        self._show_items()
        for node in self._listed:
            if node not in before:
                self._node_added.emit(node)

    def _select(self, node: vtkMRMLNode | None) -> None:
        changed = node is not self._current
        self._current = node
        self._show_items()
        if changed:
            self._node_changed.emit(node)
            self._validity_changed.emit(node is not None)
            self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def _show_items(self) -> None:
        self._combo_box.clear()
        if self.noneEnabled:
            self._combo_box.addItem(self.noneDisplay, lambda: self._activate(None))
        for node in self._listed:
            self._combo_box.addItem(node.GetName() or node.GetID(), lambda node=node: self._activate(node))
        row = self._listed.index(self._current) + self.noneEnabled if self._current else 0
        self._combo_box.setCurrentIndex(row if self._current or self.noneEnabled else -1)
        for text, call in self._actions():
            self._combo_box.addItem(text, call)

    def _actions(self) -> list[tuple[str, Callable[[], Any]]]:
        actions: list[tuple[str, Callable[[], Any]]] = []
        tag = self._scene.GetTagByClassName if self._scene else lambda name: name
        if self.renameEnabled and self._current:
            actions.append((f"Rename current {self._current.GetNodeTagName()}", self.renameCurrentNode))
        if self.removeEnabled and self._current:
            actions.append((f"Delete current {self._current.GetNodeTagName()}", self.removeCurrentNode))
        if self.addEnabled:
            for name in self.nodeTypes:
                actions.append((f"Create new {tag(name)}", lambda name=name: self.addNode(name)))
        return actions

    def _on_activated(self, row: int) -> None:
        self._combo_box.itemData(row)()
        self._show_items()

    def _activate(self, node: vtkMRMLNode | None) -> None:
        self._select(node)
        self._node_activated.emit(node)


WIDGETS = [qMRMLCollapsibleButton, qMRMLNodeComboBox, qMRMLWidget]
