"""slicer.app: the application with its scene, logics, modules, layout manager and file access."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import slicer
import vtk
from PySide6.QtCore import Property, QSettings, Signal
from PySide6.QtWidgets import QApplication

from . import error_log
from .file_access import qSlicerCoreIOManager
from .layout import qSlicerLayoutManager
from .modules import qSlicerModuleManager
from .standin import invokable, slot

_IN_DATA_MODULE = tuple(
    f"vtkMRML{kind}Node"
    for kind in ("Model", "ScalarVolume", "Table", "PlotChart", "PlotSeries", "Transform", "Markups", "Segmentation", "Text")
)


class qSlicerApplication(QApplication):
    """Runs in testing mode without a main window, as `Slicer --testing --no-main-window` does."""

    CPP_SIGNALS: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "_scene_changed"}
    _scene_changed = Signal(object)
    startupCompleted = Signal()

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self._folder = tempfile.TemporaryDirectory(prefix="slicer-host-")
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        for scope in (QSettings.Scope.UserScope, QSettings.Scope.SystemScope):
            QSettings.setPath(QSettings.Format.IniFormat, scope, self._folder.name)
        self._settings = QSettings(str(Path(self._folder.name) / "Slicer.ini"), QSettings.Format.IniFormat)
        self._render_paused = 0
        self._scene, self._logic = _make_scene_and_logic(self._folder.name)
        self._scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, _watch_hiding)
        self._modules = qSlicerModuleManager(self)
        self._files = qSlicerCoreIOManager(self)
        self._layouts: qSlicerLayoutManager | None = None

    temporaryPath = Property(str, lambda self: self._folder.name)
    slicerHome = Property(str, lambda self: self._folder.name)
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)

    @invokable("mrmlScene()")
    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return self._scene

    @invokable("applicationLogic()")
    def applicationLogic(self) -> slicer.vtkSlicerApplicationLogic:
        return self._logic

    @invokable("moduleManager()")
    def moduleManager(self) -> qSlicerModuleManager:
        return self._modules

    @invokable("coreIOManager()")
    def coreIOManager(self) -> qSlicerCoreIOManager:
        return self._files

    @invokable("ioManager()")
    def ioManager(self) -> qSlicerCoreIOManager:
        return self._files

    @invokable("layoutManager()")
    def layoutManager(self) -> qSlicerLayoutManager:
        """Made when somebody asks, so that tests of the logic have no views."""
        if self._layouts is None:
            self._layouts = qSlicerLayoutManager(self, self._scene, self._logic)
        return self._layouts

    @invokable("testingEnabled()")
    def testingEnabled(self) -> bool:
        return True

    @invokable("settings()")
    def settings(self) -> QSettings:
        return self._settings

    @invokable("userSettings()")
    def userSettings(self) -> QSettings:
        return self._settings

    @invokable("revisionUserSettings()")
    def revisionUserSettings(self) -> QSettings:
        return self._settings

    @invokable("startupEnvironment()")
    def startupEnvironment(self) -> dict[str, str]:
        return dict(os.environ)

    @slot("pauseRender()")
    def pauseRender(self) -> None:
        self._render_paused += 1
        self._logic.PauseRender()

    @slot("resumeRender()")
    def resumeRender(self) -> None:
        self._render_paused -= 1
        self._logic.ResumeRender()

    @invokable("isRenderPaused()")
    def isRenderPaused(self) -> bool:
        return self._render_paused > 0


def _make_scene_and_logic(folder: str) -> tuple[slicer.vtkMRMLScene, slicer.vtkSlicerApplicationLogic]:
    """The order matters: orientation presets before any layout logic, colours before volumes."""
    scene = slicer.vtkMRMLScene()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    scene.SetRootDirectory(folder)
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetTemporaryPath(folder)
    logic.SetHomeDirectory(folder)
    logic.SetShareDirectory("share")
    (Path(folder) / "share" / "ColorFiles").mkdir(parents=True)
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    logic.SetMRMLScene(scene)
    io_logic, data_logic = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()  # ReadFromMRB needs them
    cache = Path(folder) / "cache"
    cache.mkdir()
    (cache / ".slicer-cache").touch()
    io_logic.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    io_logic.SetMRMLScene(scene)
    io_logic.AddDataIOToScene()
    data_logic.SetMRMLApplicationLogic(logic)
    data_logic.SetAndObserveDataIOManager(io_logic.GetDataIOManager())
    scene._host_io = (io_logic, data_logic) if hasattr(scene, "__dict__") else None
    return scene, logic


@vtk.calldata_type(vtk.VTK_OBJECT)
def _watch_hiding(scene: slicer.vtkMRMLScene, _event: str, node: slicer.vtkMRMLNode) -> None:
    """A node that is hidden after it was added is an error: Slicer's Data module looks only when it is added, and what is not
    saved leaves a dead entry there once the scene is opened again (qSlicerSubjectHierarchyPluginLogic::onNodeAdded)."""
    if scene.IsImporting() or node.GetHideFromEditors() or not any(map(node.IsA, _IN_DATA_MODULE)):
        return

    def hidden(node: slicer.vtkMRMLNode, _event: str) -> None:
        if node.GetHideFromEditors():
            node.RemoveObserver(tag)
            error_log.record(f"{node.GetName()} ({node.GetClassName()}) was hidden after it was added to the scene")

    tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, hidden)


def module_logics(scene: slicer.vtkMRMLScene, application_logic: slicer.vtkSlicerApplicationLogic) -> dict[str, Any]:
    """Logics of the C++ modules that a scripted module may ask for."""
    logics: dict[str, Any] = {}
    for name, cls in (
        ("Colors", slicer.vtkSlicerColorLogic),
        ("Volumes", slicer.vtkSlicerVolumesLogic),
        ("VolumeRendering", slicer.vtkSlicerVolumeRenderingLogic),
        ("Models", slicer.vtkSlicerModelsLogic),
        ("Transforms", slicer.vtkSlicerTransformLogic),
        ("Markups", slicer.vtkSlicerMarkupsLogic),
        ("Plots", slicer.vtkSlicerPlotsLogic),
        ("Tables", slicer.vtkSlicerTablesLogic),
    ):
        logics[name] = cls()
        if name == "VolumeRendering":
            share = Path(application_logic.GetTemporaryPath()) / "share"
            (share / "presets.xml").write_text("<MRML></MRML>")
            logics[name].SetModuleShareDirectory(str(share))
        logics[name].SetMRMLApplicationLogic(application_logic)
        application_logic.SetModuleLogic(name, logics[name])
        logics[name].SetMRMLScene(scene)
    for name in ("CT-Bone", "CT-Bones"):
        logics["VolumeRendering"].AddPreset(_bone_preset(name))
    return logics


def _bone_preset(name: str) -> slicer.vtkMRMLVolumePropertyNode:
    """Stands in for the presets file, which slicer-core does not ship. The curves are the host's own, in HU."""
    opacity, color = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for hu, alpha, *rgb in (
        (-3024, 0.0, 0, 0, 0),
        (150, 0.0, 0.7, 0.4, 0.3),
        (450, 0.7, 0.95, 0.85, 0.7),
        (3071, 0.9, 1, 1, 1),
    ):
        opacity.AddPoint(hu, alpha)
        color.AddRGBPoint(hu, *rgb)
    node = slicer.vtkMRMLVolumePropertyNode()
    node.SetName(name)
    node.GetVolumeProperty().SetScalarOpacity(opacity)
    node.GetVolumeProperty().SetColor(color)
    node.GetVolumeProperty().ShadeOn()
    node.GetVolumeProperty().SetInterpolationTypeToLinear()
    return node
