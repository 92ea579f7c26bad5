"""slicer.app.layoutManager() over the real layout node and slice logics."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import slicer
import vtk
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLayout, QTabWidget, QVBoxLayout, QWidget

from .mrml_widgets import Observers
from .plot_view import qMRMLPlotWidget
from .standin import invokable, slot
from .views import qMRMLSliceWidget, qMRMLThreeDWidget


class qSlicerLayoutManager(QObject):
    layoutChanged = Signal(int)

    def __init__(self, parent: QObject, scene: slicer.vtkMRMLScene, application_logic: slicer.vtkSlicerApplicationLogic):
        super().__init__(parent)
        self._scene, self._application_logic = scene, application_logic
        self._widgets: dict[str, QWidget] = {}  # node ID -> view
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        self._node = self._logic.GetLayoutNode()
        self._observers = Observers(self)
        self._observers.add(self._node, vtk.vtkCommand.ModifiedEvent, self._update)
        self._shown: tuple[int, str] | None = None  # number and description
        self._viewport: QWidget | None = None
        self._node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    layout = Property(int, lambda self: self._node.GetViewArrangement(), lambda self, number: self.setLayout(number))
    threeDViewCount = Property(int, lambda self: len(self._of_class("vtkMRMLViewNode")))
    plotViewCount = Property(int, lambda self: len(self._of_class("vtkMRMLPlotViewNode")))
    tableViewCount = Property(int, lambda self: 0)

    @slot("setLayout(int)")
    def setLayout(self, number: int) -> None:
        """As Slicer: nothing happens for the number that is set, even if it has no views; unknown ones are Conventional."""
        if number == self._node.GetViewArrangement():
            return
        if not self._node.IsLayoutDescription(number):
            number = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
        self._node.SetViewArrangement(number)

    @invokable("layoutLogic()")
    def layoutLogic(self) -> slicer.vtkMRMLLayoutLogic:
        return self._logic

    @invokable("mrmlScene()")
    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return self._scene

    @invokable("sliceViewNames()")
    def sliceViewNames(self) -> list[str]:
        return [node.GetLayoutName() for node in self._of_class("vtkMRMLSliceNode")]

    @invokable("sliceWidget(QString)")
    def sliceWidget(self, name: str) -> QWidget | None:
        return next((self.widget_of(n) for n in self._of_class("vtkMRMLSliceNode") if n.GetLayoutName() == name), None)

    @invokable("threeDWidget(int)")
    def threeDWidget(self, index: int) -> QWidget | None:
        return self._nth("vtkMRMLViewNode", index)

    @invokable("plotWidget(int)")
    def plotWidget(self, index: int) -> QWidget | None:
        return self._nth("vtkMRMLPlotViewNode", index)

    @invokable("viewWidget(vtkMRMLNode*)")
    def viewWidget(self, node: slicer.vtkMRMLNode) -> QWidget | None:
        return self.widget_of(node)

    @invokable("mrmlSliceLogics()")
    def mrmlSliceLogics(self) -> vtk.vtkCollection:
        self._update()
        return self._application_logic.GetSliceLogics()

    @slot("resetThreeDViews()")
    def resetThreeDViews(self) -> None:
        for node in self._of_class("vtkMRMLViewNode"):
            self.widget_of(node).threeDView().resetFocalPoint()

    @slot("resetSliceViews()")
    def resetSliceViews(self) -> None:
        for node in self._of_class("vtkMRMLSliceNode"):
            self.widget_of(node).fitSliceToBackground()

    def _of_class(self, name: str) -> list[slicer.vtkMRMLNode]:
        return [self._scene.GetNthNodeByClass(i, name) for i in range(self._scene.GetNumberOfNodesByClass(name))]

    def _nth(self, class_name: str, index: int) -> QWidget | None:
        nodes = self._of_class(class_name)
        return self.widget_of(nodes[index]) if 0 <= index < len(nodes) else None

    def widget_of(self, node: slicer.vtkMRMLNode) -> QWidget | None:
        """The view of a node, made at the first call. Pixels are rendered only when it is painted."""
        if node.GetID() not in self._widgets:
            for class_name, cls in (
                ("vtkMRMLSliceNode", qMRMLSliceWidget),
                ("vtkMRMLViewNode", qMRMLThreeDWidget),
                ("vtkMRMLPlotViewNode", qMRMLPlotWidget),
            ):
                if node.IsA(class_name):
                    self._widgets[node.GetID()] = cls(node, self._scene, self._application_logic)
        return self._widgets.get(node.GetID())

    @invokable("viewport()")
    def viewport(self) -> QWidget:
        """The widget with all views of the current layout."""
        if self._viewport is None:
            self._viewport = QWidget()
            QVBoxLayout(self._viewport).setContentsMargins(0, 0, 0, 0)
            self._compose()
        return self._viewport

    def _update(self) -> None:
        """A slice node without a logic would have no composite node and show nothing."""
        for node in self._of_class("vtkMRMLSliceNode"):
            self.widget_of(node)
        shown = self._node.GetViewArrangement(), self._node.GetCurrentLayoutDescription()
        if shown != self._shown:
            self._shown = shown
            self._compose()
            self.layoutChanged.emit(shown[0])

    def _compose(self) -> None:
        description = self._node.GetCurrentLayoutDescription()
        if self._viewport is None or not description:  # no layout while a scene is being closed
            return
        for widget in self._widgets.values():
            widget.setParent(None)
        frame = self._viewport.layout()
        while frame.count():
            frame.takeAt(0).widget().deleteLater()
        frame.addWidget(self._make(ElementTree.fromstring(description)))

    def _make(self, element: ElementTree.Element) -> QWidget:
        """The widget of a <view> or <layout> element."""
        if element.tag == "view":
            widget = self.widget_of(self._logic_node(element))
            widget.show()
            return widget
        kind = element.get("type", "vertical")
        if kind == "tab":
            tabs = QTabWidget()
            for item in element.iter("item"):
                tabs.addTab(self._make(item[0]), item.get("name", ""))
            return tabs
        box = QWidget()
        layout: QLayout = {"horizontal": QHBoxLayout, "vertical": QVBoxLayout, "grid": QGridLayout}[kind](box)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for item in element.findall("item"):
            if kind == "grid":
                row, column, rows, columns = (int(item.get(k, d)) for k, d in _GRID)
                layout.addWidget(self._make(item[0]), row, column, rows, columns)
                layout.setRowStretch(row, 1)
                layout.setColumnStretch(column, 1)
            else:
                layout.addWidget(self._make(item[0]), int(item.get("splitSize", "1")))
        return box

    def _logic_node(self, element: ElementTree.Element) -> slicer.vtkMRMLNode:
        class_name, tag = element.get("class"), element.get("singletontag")
        node = self._scene.GetSingletonNode(tag, class_name)
        if node is None:
            raise ValueError(f"layout {self._node.GetViewArrangement()}: no {class_name} with singletontag {tag!r}")
        return node


_GRID = (("row", "0"), ("column", "0"), ("rowspan", "1"), ("colspan", "1"))
