"""slicer.app.coreIOManager(): what slicer.util.loadVolume, saveNode, loadScene... call, with the real storage nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from PySide6.QtCore import QObject, Signal

from .standin import invokable

_VOLUMES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".dcm")
_READERS = {  # file type -> (endings, node class, storage class)
    "VolumeFile": (_VOLUMES, "vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"),
    "ModelFile": ((".vtk", ".vtp", ".stl", ".ply", ".obj"), "vtkMRMLModelNode", "vtkMRMLModelStorageNode"),
    "TransformFile": ((".h5", ".tfm", ".txt"), "vtkMRMLTransformNode", "vtkMRMLTransformStorageNode"),
    "TableFile": ((".csv", ".tsv"), "vtkMRMLTableNode", "vtkMRMLTableStorageNode"),
    "MarkupsFile": ((".mrk.json", ".fcsv"), "", ""),
}


class qSlicerCoreIOManager(QObject):
    newFileSaved = Signal(str)

    @invokable("fileType(QString)")
    def fileType(self, path: str) -> str:
        if path.endswith((".mrml", ".mrb")):
            return "SceneFile"
        return next((kind for kind, (endings, *_) in _READERS.items() if path.lower().endswith(endings)), "NoFile")

    @invokable("fileWriterFileType(vtkMRMLNode*)")
    def fileWriterFileType(self, node: slicer.vtkMRMLNode) -> str:
        return next((kind for kind, (_, name, _) in _READERS.items() if name and node.IsA(name)), "NoFile")

    @invokable(
        "loadNodes(QString,QVariantMap)",
        "loadNodes(QString,QVariantMap,vtkCollection*)",
        "loadNodes(QString,QVariantMap,vtkCollection*,vtkMRMLMessageCollection*)",
    )
    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any = None, messages: Any = None) -> bool:
        path = properties.get("fileName", "")
        if kind == "SceneFile":
            return self.loadScene(path, properties.get("clear", False))
        if kind not in ("VolumeFile", "ModelFile", "TransformFile", "TableFile"):
            raise NotImplementedError(f"the test host does not read files of type {kind}: {path}")
        node = _read(kind, path, properties)
        if node is not None and loaded is not None:
            loaded.AddItem(node)
        return node is not None

    @invokable("loadScene(QString)", "loadScene(QString,bool)")
    def loadScene(self, path: str, clear: bool = True) -> bool:
        scene = slicer.mrmlScene
        if path.endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    @invokable("saveNodes(QString,QVariantMap)", "saveNodes(QString,QVariantMap,vtkMRMLMessageCollection*)")
    def saveNodes(self, kind: str, properties: dict[str, Any], messages: Any = None) -> bool:
        path, scene = properties["fileName"], slicer.mrmlScene
        if kind == "SceneFile":
            saved = _save_scene(path)
        else:
            node = scene.GetNodeByID(properties["nodeID"])
            if node.GetStorageNode() is None and not node.AddDefaultStorageNode(path):
                return False
            node.GetStorageNode().SetUseCompression(bool(properties.get("useCompression", True)))
            node.GetStorageNode().SetFileName(path)
            saved = bool(node.GetStorageNode().WriteData(node))
        if saved:
            self.newFileSaved.emit(path)
        return saved


def _read(kind: str, path: str, properties: dict[str, Any]) -> Any:
    _, class_name, storage_name = _READERS[kind]
    scene = slicer.mrmlScene
    if not Path(path).is_file():
        return None
    if kind == "VolumeFile" and properties.get("labelmap"):
        class_name = "vtkMRMLLabelMapVolumeNode"
    node = scene.AddNewNodeByClass(class_name, scene.GenerateUniqueName(properties.get("name") or _stem(path)))
    storage = scene.AddNewNodeByClass(storage_name)
    storage.SetFileName(path)
    if kind == "VolumeFile":
        storage.SetSingleFile(bool(properties.get("singleFile", True)))
        storage.SetCenterImage(bool(properties.get("center", False)))
    if not storage.ReadData(node):
        scene.RemoveNode(storage)
        scene.RemoveNode(node)
        return None
    node.SetAndObserveStorageNodeID(storage.GetID())
    node.CreateDefaultDisplayNodes()
    if kind == "VolumeFile" and properties.get("show", True):
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActiveVolumeID(node.GetID())
        slicer.app.applicationLogic().PropagateVolumeSelection()
    return node


def _stem(path: str) -> str:
    name = Path(path).name
    return name.removesuffix(".gz").rpartition(".")[0] or name


def _save_scene(path: str) -> bool:
    """.mrb: one file with the data; .mrml: the scene alone; else a folder with both."""
    scene = slicer.mrmlScene
    if path.endswith(".mrb"):
        return bool(scene.WriteToMRB(path))
    if path.endswith(".mrml"):
        scene.SetURL(path)
        scene.SetRootDirectory(str(Path(path).parent))
        return bool(scene.Commit())
    Path(path).mkdir(parents=True, exist_ok=True)
    return bool(slicer.app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(path, None))
