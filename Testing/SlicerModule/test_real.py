"""The same clicks with the real child processes and a tiny checkpoint: nothing is a stand-in but Slicer."""

import json
import logging
import re
import shutil
import time
import unittest
from pathlib import Path

import numpy as np
import pytest
from SlicerModule.tools import click, settle, wait_until


@pytest.fixture
def real(panel, case):
    """The panel with the real children and the X-rays of the case loaded."""
    pytest.importorskip("safetensors")
    panel.logic.workerCommand = None
    for service in (panel.logic.service, panel.logic.registering):
        service._command = None
        service.stop()
    panel.xraySection.load([str(case / "ap.dcm"), str(case / "lateral.dcm")])
    panel.parameterNode.checkpoint = str(case / "tiny.safetensors")
    settle(panel)
    return panel


def test_from_two_files_to_a_compared_ct(real, case):
    import slicer

    truth = slicer.util.loadVolume(str(case / "truth.nrrd"))
    real.parameterNode.previewNode = real.parameterNode.truthNode = truth
    settle(real)
    wait_until(lambda: real.preview.hasDrr("ap") and real.preview.hasDrr("lateral"))
    assert min(real.preview.agreement("ap"), real.preview.agreement("lateral")) > 0.999  # rendered from that very body
    real.ui.poseFeetHeadSlider.value = 60.0
    settle(real)
    wait_until(lambda: real.preview.agreement("ap") < 0.95)
    click(real.ui.resetPoseButton)
    settle(real)
    wait_until(lambda: real.preview.agreement("ap") > 0.999)

    real.ui.samplesSpinBox.value = 2
    click(real.ui.reconstructButton)
    wait_until(lambda: real.logic.run is None)
    assert real.messages == []
    node = real.parameterNode.reconstructionNode
    assert slicer.util.arrayFromVolume(node).shape == (16, 16, 16)
    assert np.allclose(node.GetOrigin(), (120, 120, -120)) and node.GetNodeReference("Diff2CT.sd") is not None
    wait_until(lambda: real.compareSection._comparison is not None)
    settle(real)
    assert real.ui.metricsTable.rowCount == 6
    assert real.compareSection._comparison.scores["mae_hu_body"] > 0


def test_a_ct_that_was_moved_is_fitted_to_its_xrays(real, case):
    """In place it stays; moved by another module, it comes back, and what moved it stays as it is."""
    import slicer
    from Diff2CTLib import Pose, SceneBridge

    ct = slicer.util.loadVolume(str(case / "truth.nrrd"))
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    matrix = Pose.matrix([9.0, -6.0, 14.0, 3.0, -2.0, 4.0], np.zeros(3))
    moved.SetMatrixTransformToParent(SceneBridge.toVtkMatrix(matrix))
    ct.SetAndObserveTransformNodeID(moved.GetID())
    real.parameterNode.previewNode = ct
    settle(real)
    wait_until(lambda: real.preview.hasDrr("ap") and real.preview.hasDrr("lateral"))
    click(real.ui.registerButton)
    wait_until(lambda: real.ui.registerProgressBar.maximum == 100)
    wait_until(lambda: not real.logic.isRegistering)
    settle(real)
    corners = np.array([[x, y, z, 1.0] for x in (-50, 50) for y in (-50, 50) for z in (-50, 50)])
    off = np.linalg.norm((corners @ (SceneBridge.worldFromNode(ct) - np.eye(4)).T)[:, :3], axis=1)
    assert off.mean() < 2.0  # of 20
    assert "was moved by 1" in real.ui.registerLabel.text and real.messages == []
    assert ct.GetParentTransformNode().GetParentTransformNode() is moved
    assert np.allclose(Pose.matrixOf(moved), matrix)
    click(real.ui.undoRegisterButton)
    assert np.allclose(SceneBridge.worldFromNode(ct), matrix)


def test_cancel_stops_the_real_worker_within_a_step(real):
    real.ui.stepsSpinBox.value = 1000
    click(real.ui.reconstructButton)
    wait_until(lambda: "Step" in real.ui.statusLabel.text)
    start = time.monotonic()
    click(real.ui.reconstructButton)
    wait_until(lambda: real.logic.run is None)
    assert time.monotonic() - start < 30
    assert real.parameterNode.reconstructionNode is None and real.messages == []


def test_the_console_in_five_lines(real, case):
    import slicer

    logic = real.logic
    ap, lateral = logic.loadXrays([case / "lateral.dcm", case / "ap.dcm"])
    seen = []
    result = logic.reconstruct(ap, lateral, steps=2, samples=1, checkpoint=case / "tiny.safetensors", onProgress=seen.append)
    truth = slicer.util.loadVolume(str(case / "truth.nrrd"))
    comparison = logic.compare(result.volumeNode, truth, [ap, lateral])
    assert [p.step for p in seen if p.steps] == [1, 2]
    assert comparison.scores["mae_hu_whole"] > 0 and [view["view"] for view in comparison.reprojection] == ["AP", "LL"]
    assert logic.previewDrr(truth, ap).shape == (50, 50)


def test_a_folder_of_cases(real, case, tmp_path):
    import slicer

    from diff2ct.volume_io import read_volume

    for name in ("one", "two"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for file in ("ap.dcm", "lateral.dcm"):
            shutil.copy(case / file, tmp_path / "in" / name / file)
    (tmp_path / "in" / "two" / "ap.dcm").unlink()
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    options = {"checkpoint": case / "tiny.safetensors", "translator": case / "real_to_drr.safetensors"}
    results = real.logic.reconstructFolders(tmp_path / "in", tmp_path / "out", steps=1, **options)
    assert results["one"] == tmp_path / "out" / "one.nrrd" and results["one"].is_file()
    assert read_volume(results["one"])[1]["Style"].startswith("real to DRR")
    assert "1 X-ray files" in str(results["two"])
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before
    modified = results["one"].stat().st_mtime_ns
    again = real.logic.reconstructFolders(tmp_path / "in", tmp_path / "out", steps=1)
    assert again["one"].stat().st_mtime_ns == modified


@pytest.mark.parametrize("readme", ["README.md", "Diff2CTExtension/README.md"])
def test_the_example_of_the_readme_runs(real, case, tmp_path, monkeypatch, readme):
    """As it stands there, but with the tiny checkpoint."""
    import Diff2CT
    from Diff2CTLib.Logic import Logic

    text = (Path(__file__).resolve().parents[2] / readme).read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Diff2CTLogic" in block]
    for name in ("ap", "lateral"):
        shutil.copy(case / f"{name}.dcm", tmp_path / f"{name.upper()}.dcm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        Diff2CT.Diff2CTLogic,
        "reconstruct",
        lambda self, ap, lateral: Logic.reconstruct(self, ap, lateral, steps=1, checkpoint=case / "tiny.safetensors"),
    )
    names = {}
    exec(code, names)
    assert names["result"].volumeNode.GetAttribute("Diff2CT.synthetic") == "1"
    assert (tmp_path / "ct.nrrd").is_file() or "exportVolume" not in code
    names["logic"].dispose()


def test_data_consistency_of_a_checkpoint_without_calibration(real):
    """Automatic leaves it out; asked for, it is refused with the reason."""
    real.ui.samplesSpinBox.value = 1
    click(real.ui.reconstructButton)
    wait_until(lambda: real.logic.run is None)
    assert json.loads(real.parameterNode.reconstructionNode.GetAttribute("Diff2CT.provenance"))["Consistency"] == "none"
    real.ui.consistencyComboBox.enabled = True  # else a person could not choose what is refused here
    real.ui.consistencyComboBox.currentIndex = 1
    settle(real)
    click(real.ui.reconstructButton)
    wait_until(lambda: real.logic.run is None)
    assert len(real.messages) == 1 and "accepted with a calibrated checkpoint" in real.messages[0]


def test_a_file_that_is_no_style_translator_is_refused_with_the_reason(real, case):
    """By the panel before the start, by the console when the run begins."""
    real.parameterNode.translator = str(case / "drr_to_real.safetensors")
    settle(real)
    wait_until(lambda: "translates drr_to_real, accepted is real_to_drr" in real.ui.statusLabel.text)
    assert not real.ui.reconstructButton.enabled
    xrays = real.parameterNode.apNode, real.parameterNode.lateralNode
    with pytest.raises(RuntimeError, match=r"tiny\.safetensors is a safetensors file of another program or purpose"):
        real.logic.reconstruct(*xrays, steps=1, translator=case / "tiny.safetensors", checkpoint=case / "tiny.safetensors")


def test_an_embedded_checkpoint_brings_its_maps(real):
    """The expected error and what the X-rays settle come as volumes, and lie over the reconstruction when chosen."""
    real.parameterNode.checkpoint = ""
    real.ui.samplesSpinBox.value = 2
    real.ui.stepsSpinBox.value = 1
    click(real.ui.reconstructButton)
    wait_until(lambda: real.logic.run is None)
    node = real.parameterNode.reconstructionNode
    assert [node.GetNodeReference(f"Diff2CT.{name}") is not None for name in ("sd", "error", "support")] == [True] * 3
    real.ui.overlayComboBox.currentIndex = 4
    settle(real)
    assert "Green" in real.ui.overlayLabel.text


def test_the_self_test_of_the_module(real):
    """As ctest runs it in Slicer."""
    import Diff2CT

    result = unittest.defaultTestLoader.loadTestsFromTestCase(Diff2CT.Diff2CTTest).run(unittest.TestResult())
    assert (result.errors, result.failures, result.skipped) == ([], [], []) and result.testsRun == 3


def test_the_self_test_skips_what_needs_torch(real, monkeypatch, caplog):
    """As the button Reload and Test runs it, which knows of no skipped tests."""
    import Diff2CT
    from Diff2CTLib import Dependencies

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Dependencies, "missing", lambda: ["torch"])
    Diff2CT.Diff2CTTest().runTest()
    skipped = [record.message for record in caplog.records if "is skipped" in record.message]
    assert skipped == ["test_sampleCaseIsReconstructed is skipped: torch must be installed first"]
