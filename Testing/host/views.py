"""Slice, 3D and plot views. First version: nodes and logics, no pixels."""

from __future__ import annotations

import slicer
from PySide6.QtWidgets import QWidget

from .mrml_widgets import qMRMLWidget
from .standin import invokable, slot


class qMRMLSliceView(QWidget):
    @invokable("mrmlSliceNode()")
    def mrmlSliceNode(self) -> slicer.vtkMRMLSliceNode:
        return self.parent()._node


class qMRMLSliceWidget(qMRMLWidget):
    def __init__(
        self, node: slicer.vtkMRMLSliceNode, scene: slicer.vtkMRMLScene, application_logic: slicer.vtkSlicerApplicationLogic
    ):
        super().__init__()
        self._node, self._scene = node, scene
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(scene)
        self._logic.SetSliceNode(node)
        application_logic.GetSliceLogics().AddItem(self._logic)
        self._view = qMRMLSliceView(self)

    @invokable("sliceLogic()")
    def sliceLogic(self) -> slicer.vtkMRMLSliceLogic:
        return self._logic

    @invokable("mrmlSliceNode()")
    def mrmlSliceNode(self) -> slicer.vtkMRMLSliceNode:
        return self._node

    @invokable("mrmlSliceCompositeNode()")
    def mrmlSliceCompositeNode(self) -> slicer.vtkMRMLSliceCompositeNode:
        return self._logic.GetSliceCompositeNode()

    @invokable("sliceView()")
    def sliceView(self) -> QWidget:
        return self._view

    @slot("fitSliceToBackground()")
    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class qMRMLThreeDView(QWidget):
    @invokable("mrmlViewNode()")
    def mrmlViewNode(self) -> slicer.vtkMRMLViewNode:
        return self.parent()._node

    @slot("resetFocalPoint()")
    def resetFocalPoint(self) -> None: ...


class qMRMLThreeDWidget(qMRMLWidget):
    def __init__(
        self, node: slicer.vtkMRMLViewNode, scene: slicer.vtkMRMLScene, application_logic: slicer.vtkSlicerApplicationLogic
    ):
        super().__init__()
        self._node, self._scene = node, scene
        self._view = qMRMLThreeDView(self)

    @invokable("mrmlViewNode()")
    def mrmlViewNode(self) -> slicer.vtkMRMLViewNode:
        return self._node

    @invokable("threeDView()")
    def threeDView(self) -> QWidget:
        return self._view


class qMRMLPlotWidget(qMRMLWidget):
    def __init__(
        self, node: slicer.vtkMRMLPlotViewNode, scene: slicer.vtkMRMLScene, application_logic: slicer.vtkSlicerApplicationLogic
    ):
        super().__init__()
        self._node, self._scene = node, scene

    @invokable("mrmlPlotViewNode()")
    def mrmlPlotViewNode(self) -> slicer.vtkMRMLPlotViewNode:
        return self._node
