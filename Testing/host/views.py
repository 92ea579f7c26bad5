"""Slice and 3D views: Slicer's nodes, logics and displayable managers behind simple Qt widgets."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from .ctk_widgets import ctkSliderWidget
from .mrml_widgets import Observers, qMRMLWidget
from .rendering import Picture, SlicePicture, ThreeDPicture
from .standin import invokable, slot


class _View(QWidget):
    """Renders when it is painted, and only then: tests that look at no picture need no OpenGL."""

    def __init__(self, parent: QWidget):
        super().__init__(parent)
        self._picture: Picture | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(40, 40)

    def make_picture(self) -> Picture:
        raise NotImplementedError

    def picture(self) -> Picture:
        if self._picture is None:
            self._picture = self.make_picture()
        return self._picture

    def paintEvent(self, event: QPaintEvent) -> None:
        QPainter(self).drawImage(0, 0, self.picture().render(self.width(), self.height()))

    @slot("scheduleRender()")
    def scheduleRender(self) -> None:
        self.update()

    @slot("forceRender()")
    def forceRender(self) -> None:
        self.picture().render(self.width(), self.height())
        self.update()

    @invokable("renderWindow()")
    def renderWindow(self) -> vtk.vtkRenderWindow:
        return self.picture().window


class _Header(QWidget):
    """The coloured strip above a view."""

    def __init__(self, parent: QWidget, node: slicer.vtkMRMLAbstractViewNode):
        super().__init__(parent)
        color = QColor.fromRgbF(*node.GetLayoutColor())
        self.setAutoFillBackground(True)
        palette = self.palette()
        palette.setColor(self.backgroundRole(), color)
        self.setPalette(palette)
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(4, 0, 4, 0)
        self.label = QLabel(node.GetLayoutLabel() or node.GetLayoutName())
        self.label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.row.addWidget(self.label)


class qMRMLSliceControllerWidget(_Header):
    """The offset slider, in mm along the slice normal."""

    def __init__(self, parent: QWidget, logic: slicer.vtkMRMLSliceLogic):
        super().__init__(parent, logic.GetSliceNode())
        self._logic = logic
        self._slider = ctkSliderWidget()
        self._slider.suffix = " mm"
        self.row.addWidget(self._slider, 1)
        self._slider.valueChanged.connect(self._move)
        self._observers = Observers(self)
        self._observers.add(logic, vtk.vtkCommand.ModifiedEvent, self._follow)
        self._observers.add(logic.GetSliceNode(), vtk.vtkCommand.ModifiedEvent, self._follow)
        self._following = False

    def _move(self, offset: float) -> None:
        if not self._following:
            self._logic.StartSliceOffsetInteraction()
            self._logic.SetSliceOffset(offset)
            self._logic.EndSliceOffsetInteraction()

    def _follow(self) -> None:
        bounds = [0.0] * 6
        self._logic.GetLowestVolumeSliceBounds(bounds)
        self._following = True
        offset = self._logic.GetSliceOffset()
        self._slider.minimum, self._slider.maximum = min(bounds[4], offset), max(bounds[5], offset)
        self._slider.value = offset
        self._following = False

    @invokable("sliceOffsetSlider()")
    def sliceOffsetSlider(self) -> QWidget:
        return self._slider

    @slot("fitSliceToBackground()")
    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    @slot("setSliceOffsetValue(double)")
    def setSliceOffsetValue(self, offset: float) -> None:
        self._move(offset)


class qMRMLSliceView(_View):
    def __init__(self, parent: QWidget, logic: slicer.vtkMRMLSliceLogic):
        super().__init__(parent)
        self._logic = logic
        self._observers = Observers(self)
        self._observers.add(logic, vtk.vtkCommand.ModifiedEvent, self.update)
        self._annotation = vtk.vtkCornerAnnotation()
        self._annotation.SetMaximumFontSize(14)  # as Slicer's module DataProbe sets it
        self._annotation.GetTextProperty().ShadowOn()

    def make_picture(self) -> Picture:
        picture = SlicePicture(self._logic)
        picture.renderer.AddViewProp(self._annotation)
        return picture

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._logic.ResizeSliceNode(self.width(), self.height())

    @invokable("mrmlSliceNode()")
    def mrmlSliceNode(self) -> slicer.vtkMRMLSliceNode:
        return self._logic.GetSliceNode()

    @invokable("cornerAnnotation()")
    def cornerAnnotation(self) -> vtk.vtkCornerAnnotation:
        return self._annotation


class _ViewWidget(qMRMLWidget):
    def __init__(self, header: QWidget, view: _View):
        super().__init__()
        self._header, self._view = header, view
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(header)
        layout.addWidget(view, 1)


class qMRMLSliceWidget(_ViewWidget):
    def __init__(self, node: slicer.vtkMRMLSliceNode, scene: slicer.vtkMRMLScene, application_logic: Any):
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(scene)
        self._logic.SetSliceNode(node)
        application_logic.GetSliceLogics().AddItem(self._logic)
        super().__init__(qMRMLSliceControllerWidget(None, self._logic), qMRMLSliceView(None, self._logic))
        self.setMRMLScene(scene)

    @invokable("sliceLogic()")
    def sliceLogic(self) -> slicer.vtkMRMLSliceLogic:
        return self._logic

    @invokable("mrmlSliceNode()")
    def mrmlSliceNode(self) -> slicer.vtkMRMLSliceNode:
        return self._logic.GetSliceNode()

    @invokable("mrmlSliceCompositeNode()")
    def mrmlSliceCompositeNode(self) -> slicer.vtkMRMLSliceCompositeNode:
        return self._logic.GetSliceCompositeNode()

    @invokable("sliceView()")
    def sliceView(self) -> QWidget:
        return self._view

    @invokable("sliceController()")
    def sliceController(self) -> QWidget:
        return self._header

    @slot("fitSliceToBackground()")
    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class qMRMLThreeDView(_View):
    def __init__(self, parent: QWidget, node: slicer.vtkMRMLViewNode):
        super().__init__(parent)
        self._node = node

    def make_picture(self) -> Picture:
        return ThreeDPicture(self._node)

    @invokable("mrmlViewNode()")
    def mrmlViewNode(self) -> slicer.vtkMRMLViewNode:
        return self._node

    @invokable("cameraNode()")
    def cameraNode(self) -> slicer.vtkMRMLCameraNode:
        return slicer.app.applicationLogic().GetModuleLogic("Cameras").GetViewActiveCameraNode(self._node)

    @slot("resetFocalPoint()")
    def resetFocalPoint(self) -> None:
        """Look at the centre of what is visible."""
        bounds = self.picture().renderer.ComputeVisiblePropBounds()
        if bounds[0] <= bounds[1]:
            camera, center = self.picture().renderer.GetActiveCamera(), [(bounds[i] + bounds[i + 1]) / 2 for i in (0, 2, 4)]
            shift = [c - f for c, f in zip(center, camera.GetFocalPoint(), strict=True)]
            camera.SetPosition(*[p + s for p, s in zip(camera.GetPosition(), shift, strict=True)])
            camera.SetFocalPoint(*center)
        self.update()

    @slot("resetCamera()")
    def resetCamera(self) -> None:
        self.picture().renderer.ResetCamera()
        self.update()


class qMRMLThreeDWidget(_ViewWidget):
    def __init__(self, node: slicer.vtkMRMLViewNode, scene: slicer.vtkMRMLScene, application_logic: Any):
        super().__init__(_Header(None, node), qMRMLThreeDView(None, node))
        self.setMRMLScene(scene)

    @invokable("mrmlViewNode()")
    def mrmlViewNode(self) -> slicer.vtkMRMLViewNode:
        return self._view._node

    @invokable("threeDView()")
    def threeDView(self) -> QWidget:
        return self._view

    @invokable("threeDController()")
    def threeDController(self) -> QWidget:
        return self._header
