"""Files and scenes: what a module saves comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import host

pytestmark = pytest.mark.usefixtures("application")


def oblique_volume() -> Any:
    import slicer

    angle = np.deg2rad(20)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = matrix @ np.diag([0.7, 0.8, 2.5, 1])
    matrix[:3, 3] = (-10, 20, 30)
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    return slicer.util.addVolumeFromArray(array, matrix, "CT")


def ijk_to_ras(node: Any) -> np.ndarray:
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz", "mha"])
def test_volume_round_trip(ending: str, tmp_path: Path) -> None:
    import slicer

    volume = oblique_volume()
    path = str(tmp_path / f"volume.{ending}")
    assert slicer.util.saveNode(volume, path, {})
    loaded = slicer.util.loadVolume(path, {"name": "loaded"})
    assert loaded.GetName() == "loaded"
    assert np.array_equal(slicer.util.arrayFromVolume(loaded), slicer.util.arrayFromVolume(volume))
    assert np.allclose(ijk_to_ras(loaded), ijk_to_ras(volume), atol=1e-5)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    import slicer

    with pytest.raises(RuntimeError, match=r"missing\.nrrd"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"), {})
    with pytest.raises(NotImplementedError):
        slicer.util.loadSegmentation(str(tmp_path / "missing.seg.nrrd"), {})


@pytest.mark.parametrize("name", ["scene.mrb", "folder"])
def test_scene_round_trip(name: str, tmp_path: Path) -> None:
    import slicer
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    class ExampleLogic(ScriptedLoadableModuleLogic):
        pass

    volume = oblique_volume()
    node = ExampleLogic().getParameterNode()
    node.SetParameter("steps", "25")
    node.SetNodeReferenceID("volume", volume.GetID())
    array, matrix = slicer.util.arrayFromVolume(volume).copy(), ijk_to_ras(volume)
    path = tmp_path / name
    assert slicer.util.saveScene(str(path), {})

    slicer.mrmlScene.Clear(False)
    assert ExampleLogic().getParameterNode().GetParameter("steps") == ""

    slicer.util.loadScene(str(path if path.is_file() else next(path.glob("*.mrml"))), {})
    node = ExampleLogic().getParameterNode()
    assert node.GetParameter("steps") == "25"
    loaded = node.GetNodeReference("volume")
    assert np.array_equal(slicer.util.arrayFromVolume(loaded), array)
    assert np.allclose(ijk_to_ras(loaded), matrix, atol=1e-5)


def test_a_cleared_scene_keeps_the_singleton_without_its_contents() -> None:
    import slicer
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    class ExampleLogic(ScriptedLoadableModuleLogic):
        pass

    logic = ExampleLogic()
    node = logic.getParameterNode()
    node.SetParameter("steps", "25")
    slicer.mrmlScene.Clear(False)
    assert logic.getParameterNode() is node
    assert (node.GetParameter("steps"), node.GetModuleName()) == ("", "Example")


def test_a_node_that_is_hidden_after_it_was_added_is_an_error() -> None:
    import slicer

    hidden = slicer.vtkMRMLModelNode()
    hidden.HideFromEditorsOn()
    slicer.mrmlScene.AddNode(hidden)
    late = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Late")
    late.SetSelectable(False)
    assert host.errors == []
    late.HideFromEditorsOn()
    assert host.errors == ["Late (vtkMRMLModelNode) was hidden after it was added to the scene"]
    host.errors.clear()


def test_packaging_installs_nothing() -> None:
    from slicer.packaging import pip_check, pip_ensure, pip_install

    assert pip_check("numpy>=1.20")
    assert pip_check(["numpy", "not-there; python_version < '3'"])
    assert not pip_check("numpy>=1000")
    pip_ensure(["a-package-that-is-not-there>=1"], requester="Example")
    with pytest.raises(RuntimeError, match="installs nothing"):
        pip_install("a-package-that-is-not-there")


def test_sample_data_registration(sample_data: Any) -> None:
    made = []
    fields = {"uris": ["", ""], "fileNames": ["ap", "lateral"], "nodeNames": ["AP", "Lateral"], "customDownloader": made.append}
    sample_data.SampleDataLogic.registerCustomSampleDataSource("Example", sampleName="Phantom", **fields)
    logic = sample_data.SampleDataLogic()
    source = logic.sourceForSampleName("Phantom")
    logic.downloadFromSource(source)
    assert made == [source]
    with pytest.raises(ValueError, match="same length"):
        logic.registerCustomSampleDataSource("Example", sampleName="Wrong", **{**fields, "uris": "one"})
    with pytest.raises(TypeError):
        logic.registerCustomSampleDataSource("Example", sampleName="Wrong", **{**fields, "uris": None})


def test_settings_are_temporary(application: Any) -> None:
    import qt

    application.settings().setValue("Diff2CT/key", 5)
    assert int(application.userSettings().value("Diff2CT/key")) == 5
    assert qt.QSettings().fileName().startswith(application.temporaryPath)


def test_module_manager(application: Any) -> None:
    import slicer

    assert "Volumes" in slicer.util.moduleNames()
    assert slicer.modules.volumerendering.logic().GetPresetByName("CT-Bones") is not None
    with pytest.raises(RuntimeError, match="Nothing"):
        slicer.util.getModule("Nothing")
    assert slicer.util.mainWindow() is None
    assert host.errors == []
