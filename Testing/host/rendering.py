"""Pixels of a view: an off-screen VTK window filled by Slicer's real displayable managers."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import slicer
import vtk
from PySide6.QtGui import QImage
from vtk.util.numpy_support import vtk_to_numpy

_SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)
_THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLLinearTransformsDisplayableManager",
    "vtkMRMLVolumeRenderingDisplayableManager",
)


@cache
def has_opengl() -> bool:
    """Tried in a child process: without an EGL driver or OSMesa VTK crashes at the first window instead of raising."""
    code = "import vtk; w = vtk.vtkRenderWindow(); w.SetOffScreenRendering(1); w.AddRenderer(vtk.vtkRenderer()); w.Render()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


class Picture:
    """A render window of its own for one view."""

    def __init__(self) -> None:
        if not has_opengl():
            raise RuntimeError("no OpenGL for pictures: install libegl-mesa0 and libgl1-mesa-dri, or libosmesa6")
        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)  # depth peeling of translucent models does not go with it
        self.window.SetAlphaBitPlanes(1)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.managers: slicer.vtkMRMLDisplayableManagerGroup | None = None

    def render(self, width: int, height: int) -> QImage:
        self.window.SetSize(width, height)
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.SetInputBufferTypeToRGB()
        grab.ReadFrontBufferOff()
        grab.ShouldRerenderOff()
        grab.Update()
        pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()
        return QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()


class SlicePicture(Picture):
    """The blended slice image below what the displayable managers draw."""

    def __init__(self, logic: slicer.vtkMRMLSliceLogic):
        super().__init__()
        self._logic = logic
        mapper = vtk.vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        self._mapper, self._image = mapper, vtk.vtkActor2D()
        self._image.SetMapper(mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self._image)
        self.renderer.SetBackground(0, 0, 0)
        width, height = logic.GetSliceNode().GetDimensions()[:2]
        self.window.SetSize(width, height)  # the orientation marker is sized once, by the window that it finds
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self.managers = _managers(factory, _SLICE_MANAGERS, self.renderer, logic.GetSliceNode())

    def render(self, width: int, height: int) -> QImage:
        self.window.SetSize(width, height)
        self._logic.ResizeSliceNode(width, height)
        connection = self._logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        self._image.SetVisibility(connection is not None)
        return super().render(width, height)


class ThreeDPicture(Picture):
    def __init__(self, node: slicer.vtkMRMLViewNode):
        super().__init__()
        self._node = node
        self.renderer.GradientBackgroundOn()
        self.renderer.SetUseDepthPeeling(1)
        self.renderer.SetUseFXAA(1)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self.managers = _managers(factory, _THREE_D_MANAGERS, self.renderer, node)

    def render(self, width: int, height: int) -> QImage:
        self.renderer.SetBackground(self._node.GetBackgroundColor())
        self.renderer.SetBackground2(self._node.GetBackgroundColor2())
        self.renderer.ResetCameraClippingRange()
        return super().render(width, height)


def _managers(
    factory: slicer.vtkMRMLDisplayableManagerFactory,
    names: tuple[str, ...],
    renderer: vtk.vtkRenderer,
    node: slicer.vtkMRMLAbstractViewNode,
) -> slicer.vtkMRMLDisplayableManagerGroup:
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = factory.InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    return group
