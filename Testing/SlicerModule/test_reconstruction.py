"""The section Reconstruction: run, cancel, and everything that can go wrong with a child process."""

import json
import os
import signal
import time
import weakref

import numpy as np
import pytest
from SlicerModule.children import ORIGIN_LPS, SPACING_MM
from SlicerModule.tools import child, click, leftovers, settle, wait_until


def volumes():
    import slicer

    return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if not node.GetHideFromEditors()]


def start(panel, mode, until=None):
    """Click Reconstruct with a stand-in; run until `until()`."""
    panel.logic.workerCommand = child("worker", mode)
    click(panel.ui.reconstructButton)
    if until is not None:
        wait_until(until)


def finish(panel):
    wait_until(lambda: panel.logic.run is None)
    settle(panel)


def step_is_shown(panel):
    return "Step" in panel.ui.statusLabel.text


def test_a_click_makes_a_volume_with_the_exact_geometry(panel, xrays):
    import slicer
    import vtk
    from Diff2CTLib import Reconstruction, SceneBridge

    start(panel, "done")
    assert panel.ui.reconstructButton.text == "Cancel"
    finish(panel)
    node = panel.parameterNode.reconstructionNode
    assert node.GetName() == "AP CT (synthetic, not for diagnosis)"
    expected = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    expected[:3, 3] = np.array(ORIGIN_LPS) * (-1, -1, 1)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    assert np.array_equal(SceneBridge.fromVtkMatrix(matrix), expected)
    assert slicer.util.arrayFromVolume(node)[0, 0, 0] == -1000 and slicer.util.arrayFromVolume(node)[-1, -1, -1] == 1500
    assert node.GetAttribute("Diff2CT.synthetic") == "1" and "not for diagnosis" in node.GetAttribute("Diff2CT.notice")
    assert json.loads(node.GetAttribute("Diff2CT.provenance"))["Seed"] == "7"
    assert Reconstruction.xraysOf(node) == list(xrays)
    assert node.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    assert panel.ui.reconstructButton.text == "Reconstruct" and panel.ui.progressBar.isHidden()
    assert "is ready, after" in panel.ui.statusLabel.text and panel.messages == []
    wait_until(lambda: panel.compareSection._comparison is not None)
    assert leftovers() == []


def test_a_second_run_replaces_nothing(panel, xrays):
    start(panel, "done")
    finish(panel)
    first = panel.parameterNode.reconstructionNode
    start(panel, "done")
    finish(panel)
    second = panel.parameterNode.reconstructionNode
    assert second.GetID() != first.GetID() and second.GetName() != first.GetName()
    assert volumes().count(first.GetName()) == 1


def test_several_samples_bring_their_deviation(panel, xrays):
    import slicer

    panel.ui.samplesSpinBox.value = 2
    start(panel, "done")
    finish(panel)
    sd = panel.parameterNode.reconstructionNode.GetNodeReference("Diff2CT.sd")
    assert np.all(slicer.util.arrayFromVolume(sd) == 30) and "standard deviation" in sd.GetName()
    wait_until(lambda: panel.ui.overlayComboBox.currentText == "Standard deviation")  # no CT to compare with: it is marked


def test_progress_has_step_elapsed_and_remaining(panel, xrays):
    start(panel, "slow", lambda: step_is_shown(panel))
    assert not panel.ui.progressBar.isHidden() and panel.ui.progressBar.maximum == 200
    text = panel.ui.statusLabel.text
    assert "of 200 (4 volumes, 50 steps each)" in text and "elapsed" in text and "remaining" in text
    assert panel.ui.stepsSpinBox.enabled is False
    assert panel.ui.reconstructionSection.text == "Reconstruction: running"
    panel.logic.cancel()
    finish(panel)


def test_cancel_ends_it_and_adds_nothing(panel, xrays):
    before = volumes()
    start(panel, "slow", lambda: step_is_shown(panel))
    click(panel.ui.reconstructButton)
    assert panel.ui.statusLabel.text == "Cancelling..." and panel.ui.reconstructButton.enabled is False
    began = time.monotonic()
    finish(panel)
    assert time.monotonic() - began < 60
    assert volumes() == before and panel.messages == [] and leftovers() == []
    assert panel.ui.statusLabel.text == "Cancelled." and panel.ui.reconstructButton.text == "Reconstruct"


def test_cancel_stays_disabled_and_does_not_start_anew(panel, xrays, monkeypatch):
    from Diff2CTLib import Process

    monkeypatch.setattr(Process, "GRACE_MS", 500)
    start(panel, "hang", lambda: step_is_shown(panel))
    click(panel.ui.reconstructButton)
    run, began = panel.logic.run, time.monotonic()
    while panel.logic.run is not None and time.monotonic() - began < 60:
        panel.updateSoon()  # what an edit of any node does
        settle(panel)
        panel.logic.cancel()  # what a second click did
        assert panel.logic.run is None or not panel.ui.reconstructButton.enabled
    finish(panel)
    assert run.outcome.status == "cancelled" and panel.ui.reconstructButton.enabled


def test_a_child_that_does_not_listen_is_ended(panel, xrays, monkeypatch):
    from Diff2CTLib import Process

    monkeypatch.setattr(Process, "GRACE_MS", 100)
    start(panel, "hang", lambda: step_is_shown(panel))
    click(panel.ui.reconstructButton)
    finish(panel)
    assert panel.ui.statusLabel.text == "Cancelled." and panel.messages == []


@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        ("error", "The reconstruction failed. The disk is full: reconstruction.nrrd"),
        ("crash", "ended by the system, which often means that memory ran out: terminate called: no memory left"),
        ("silent", "it ended without a result"),
        ("garbage", "The result could not be read"),
    ],
)
def test_a_failure_is_one_message_with_its_cause(panel, xrays, mode, cause):
    before = volumes()
    start(panel, mode)
    finish(panel)
    assert len(panel.messages) == 1 and cause in panel.messages[0]
    assert cause in panel.ui.statusLabel.text
    assert volumes() == before and leftovers() == []
    assert panel.ui.reconstructButton.text == "Reconstruct" and panel.ui.reconstructButton.enabled


def test_a_crash_behind_the_launcher_of_slicer_is_told_alike(panel, xrays):
    panel.logic.workerCommand = child("launcher", "worker", "crash")
    click(panel.ui.reconstructButton)
    finish(panel)
    (message,) = panel.messages
    assert message.endswith("ended by the system, which often means that memory ran out: terminate called: no memory left.")


def test_a_child_that_somebody_kills_is_one_message(panel, xrays):
    start(panel, "slow", lambda: step_is_shown(panel))
    os.kill(panel.logic.run.processId, signal.SIGKILL)
    finish(panel)
    assert len(panel.messages) == 1 and "ended by the system" in panel.messages[0]


def test_a_program_that_is_not_there_is_one_message(panel, xrays):
    panel.logic.workerCommand = ["/nowhere/python"]
    click(panel.ui.reconstructButton)
    finish(panel)
    assert len(panel.messages) == 1 and "/nowhere/python could not be started" in panel.messages[0]


@pytest.mark.parametrize("what", ["diff2ct.radiograph.write_radiograph", "Diff2CTLib.TemporaryFolder.make"])
def test_a_full_disk_before_the_start_is_one_message(panel, xrays, monkeypatch, what):
    def fail(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(what, fail)
    click(panel.ui.reconstructButton)
    settle(panel)
    assert len(panel.messages) == 1 and "No space left on device" in panel.messages[0]
    assert panel.logic.run is None and leftovers() == []


def test_a_closed_scene_ends_it_and_the_new_scene_stays_empty(panel, xrays):
    import slicer

    start(panel, "slow", lambda: step_is_shown(panel))
    run = panel.logic.run
    slicer.mrmlScene.Clear(False)
    wait_until(lambda: not run.isRunning)
    settle(panel)
    assert volumes() == [] and panel.messages == []
    assert run.outcome.message == "Cancelled, as the scene was closed."
    assert panel.parameterNode is not None and panel.parameterNode.apNode is None
    assert panel.ui.statusLabel.text == "Cancelled, as the scene was closed."


def test_a_deleted_xray_does_not_disturb_the_run(panel, xrays):
    import slicer

    start(panel, "slow", lambda: step_is_shown(panel))
    slicer.mrmlScene.RemoveNode(xrays[0])
    settle(panel)
    assert panel.ui.reconstructButton.text == "Cancel"
    finish(panel)
    assert panel.parameterNode.reconstructionNode is not None and panel.messages == []


def test_leaving_the_application_ends_the_child(panel, xrays):
    start(panel, "slow", lambda: step_is_shown(panel))
    pid = panel.logic.run.processId
    panel.logic.close()  # what aboutToQuit calls
    assert panel.logic.run is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert panel.messages == []


def test_the_panel_can_be_left_and_entered_while_it_runs(panel, xrays):
    start(panel, "slow", lambda: step_is_shown(panel))
    panel.exit()
    panel.enter()
    settle(panel)
    assert panel.ui.reconstructButton.text == "Cancel"
    finish(panel)
    assert panel.parameterNode.reconstructionNode is not None


def test_a_run_that_ends_while_another_module_is_shown_is_told_and_found_afterwards(panel, xrays, monkeypatch):
    import slicer

    told = []
    monkeypatch.setattr(slicer.util, "showStatusMessage", lambda text, *_duration: told.append(text))
    start(panel, "slow", lambda: step_is_shown(panel))
    panel.exit()
    wait_until(lambda: panel.logic.run is None)
    panel.enter()
    settle(panel)
    assert len(told) == 1 and told[0].startswith("Diff2CT: AP CT (synthetic, not for diagnosis) is ready")
    assert panel.parameterNode.reconstructionNode is not None
    assert panel.ui.reconstructionSelector.currentNode() is not None


def test_the_panel_lives_while_it_runs(panel, xrays):
    """A timer of the window sees one step after the other; of a loop that is held it would see none."""
    import qt

    seen = set()
    timer = qt.QTimer()
    timer.connect("timeout()", lambda: seen.add(panel.ui.statusLabel.text))
    timer.start(5)
    start(panel, "slow")
    finish(panel)
    timer.stop()
    assert len([text for text in seen if text.startswith("Step")]) > 5


@pytest.mark.parametrize("mode", ["done", "slow", "hang", "crash", "nowhere"])
def test_a_run_that_is_over_is_freed_with_all_that_it_holds(panel, xrays, mode, monkeypatch):
    """Qt keeps the methods it calls; 100 cases of a batch would stay until Slicer is left."""
    import slicer
    from Diff2CTLib import Process

    monkeypatch.setattr(Process, "GRACE_MS", 100)
    panel.logic.workerCommand = ["/nowhere/python"] if mode == "nowhere" else child("worker", mode)
    onProgress = (lambda _progress: panel.logic.cancel()) if mode in ("slow", "hang") else None
    run = panel.logic.reconstruct(*xrays, wait=False, onProgress=onProgress)
    held = [weakref.ref(run), weakref.ref(run._process)]
    wait_until(lambda: panel.logic.run is None)
    if run.outcome.volumeNode is not None:
        slicer.mrmlScene.RemoveNode(run.outcome.volumeNode)
    del run
    wait_until(lambda: [reference() for reference in held] == [None, None], seconds=60)


def test_a_run_that_is_abandoned_is_freed(panel, xrays):
    panel.logic.workerCommand = child("worker", "hang")
    held = weakref.ref(panel.logic.reconstruct(*xrays, wait=False))
    panel.logic.close()
    wait_until(lambda: panel.logic.run is None and held() is None, seconds=60)


def test_a_batch_ends_with_the_case_that_is_cancelled_and_goes_on_when_called_again(panel, xrays, tmp_path):
    from Diff2CTLib import SceneBridge
    from Diff2CTLib.Reconstruction import CancelledError

    from diff2ct.radiograph import write_radiograph

    folder, out, before, done = tmp_path / "cases", tmp_path / "out", volumes(), []
    for case in ("1", "2", "3"):
        (folder / case).mkdir(parents=True)
        for node, name in zip(xrays, ("ap", "lateral"), strict=True):
            write_radiograph(SceneBridge.xrayFromNode(node).radiograph, folder / case / f"{name}.dcm")

    def onProgress(_progress):
        if done:
            panel.logic.cancel()

    panel.logic.workerCommand = child("worker", "slow")
    results = panel.logic.reconstructFolders(folder, out, onCase=lambda *case: done.append(case), onProgress=onProgress)
    assert list(results) == ["1", "2"] and results["1"] == out / "1.nrrd" and isinstance(results["2"], CancelledError)
    assert done == list(results.items()) and volumes() == before and [path.name for path in out.iterdir()] == ["1.nrrd"]
    panel.logic.workerCommand = child("worker", "done")
    results = panel.logic.reconstructFolders(folder, out)
    assert list(results.values()) == [out / f"{case}.nrrd" for case in "123"]


def test_a_result_has_the_name_of_its_xray_without_the_end_that_tells_a_format(panel, xrays):
    from dataclasses import replace

    from Diff2CTLib import SceneBridge

    xray = SceneBridge.xrayFromNode(xrays[0])
    for source, name in (("Mr. Smith 3.5", "Mr. Smith 3.5"), ("film.nii.gz", "film"), ("ap.DCM", "ap")):
        SceneBridge.updateXray(xrays[0], replace(xray, radiograph=replace(xray.radiograph, source=source)))
        assert panel.logic.reconstruct(*xrays).volumeNode.GetName() == f"{name} CT (synthetic, not for diagnosis)"


def test_two_at_a_time_are_refused(panel, xrays):
    start(panel, "slow", lambda: step_is_shown(panel))
    with pytest.raises(RuntimeError, match="running already"):
        panel.logic.reconstruct(*xrays)
    panel.logic.cancel()
    finish(panel)


def test_without_torch_the_panel_says_so_and_installs_on_consent(panel, xrays, monkeypatch):
    import slicer
    from Diff2CTLib import Dependencies

    installed, asked = [], []
    monkeypatch.setattr(Dependencies, "missing", lambda: [] if installed else ["torch"])
    panel.updateSoon()
    settle(panel)
    assert panel.ui.reconstructButton.enabled is False and not panel.ui.missingFrame.isHidden()
    assert panel.ui.reconstructionSection.text == "Reconstruction: PyTorch is missing"
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: asked.append(a) or False)
    click(panel.ui.installButton)
    settle(panel)
    assert len(asked) == 1 and panel.ui.statusLabel.text == "Nothing was installed." and not installed
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: True)
    click(panel.ui.installButton)
    settle(panel)
    assert "extension PyTorch is missing" in panel.ui.statusLabel.text
    import qt

    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_arguments: "/usb/wheels")
    monkeypatch.setattr(Dependencies, "_pipInstall", installed.extend)
    click(panel.ui.installFolderButton)
    settle(panel)
    assert installed == ["--no-index", "--find-links", "/usb/wheels", "torch>=2.3"]
    assert panel.ui.missingFrame.isHidden() and panel.ui.reconstructButton.enabled


def test_a_device_that_is_not_there_cannot_be_chosen_unnoticed(panel, xrays):
    wait_until(lambda: panel.reconstructionSection._devices)
    settle(panel)
    assert "Runs on the CPU (2 cores). A" in panel.ui.deviceLabel.text
    panel.reconstructionSection._devices = {**panel.reconstructionSection._devices, "threads": 1}
    panel.updateSoon()
    settle(panel)
    assert "Runs on the CPU (1 core). A" in panel.ui.deviceLabel.text
    panel.ui.deviceComboBox.currentIndex = 1
    settle(panel)
    assert "Not available on this computer" in panel.ui.deviceLabel.text and panel.ui.reconstructButton.enabled is False
    assert panel.ui.reconstructionSection.text == "Reconstruction: not ready"  # it is not for want of X-rays


def test_the_time_is_that_of_the_last_run_here(panel, xrays):
    from Diff2CTLib import Timing

    wait_until(lambda: panel.reconstructionSection._devices)
    start(panel, "done")
    finish(panel)
    assert "as measured here" in panel.ui.deviceLabel.text
    one, four = (Timing.expectedS("cpu", "", steps) for steps in (1, 4))
    assert four - one == pytest.approx(3 * 0.02)
    assert Timing.expectedS("cuda", "", 3) is None


def test_checkpoints_of_a_folder_can_be_chosen(panel, xrays, tmp_path, monkeypatch):
    import qt

    for name in ("b.safetensors", "a.safetensors", "notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_arguments: str(tmp_path))
    click(panel.ui.checkpointFolderButton)
    settle(panel)
    combo = panel.ui.checkpointComboBox
    assert [combo.itemText(n) for n in range(combo.count)] == ["Built in", "a.safetensors", "b.safetensors"]
    combo.currentIndex = 2
    assert panel.parameterNode.checkpoint == str(tmp_path / "b.safetensors")
    other = tmp_path / "else" / "mine.safetensors"
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_arguments: str(other))
    click(panel.ui.checkpointFileButton)
    settle(panel)
    assert combo.currentText == "mine.safetensors" and panel.parameterNode.checkpoint == str(other)


def test_the_panel_says_what_a_checkpoint_is_before_it_is_used(panel, xrays, tmp_path):
    wait_until(lambda: "3 steps by default, calibrated" in panel.ui.checkpointFactsLabel.text)
    assert panel.ui.samplesSpinBox.enabled and panel.ui.consistencyComboBox.enabled

    panel.parameterNode.checkpoint = str(tmp_path / "psr.safetensors")
    settle(panel)
    wait_until(lambda: "one pass" in panel.ui.checkpointFactsLabel.text)
    assert not panel.ui.samplesSpinBox.enabled and not panel.ui.stepsSpinBox.enabled
    assert not panel.ui.consistencyComboBox.enabled and panel.ui.reconstructButton.enabled

    panel.parameterNode.checkpoint = str(tmp_path / "broken.safetensors")
    settle(panel)
    wait_until(lambda: "is corrupt. Choose another model under Advanced." in panel.ui.statusLabel.text)
    assert not panel.ui.reconstructButton.enabled
    assert panel.ui.reconstructionSection.text == "Reconstruction: choose another model"

    panel.parameterNode.checkpoint = ""
    settle(panel)
    assert panel.ui.reconstructButton.enabled


def style_of(node):
    return json.loads(node.GetAttribute("Diff2CT.provenance"))["Style"]


def test_a_style_translator_reaches_the_worker_and_can_be_left_out_again(panel, xrays, tmp_path, monkeypatch):
    import qt

    path = str(tmp_path / "real_to_drr.safetensors")
    combo, facts = panel.ui.translatorComboBox, panel.ui.translatorFactsLabel
    assert combo.currentText == "None" and "Optional" in combo.toolTip and facts.isHidden()
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_arguments: path)
    click(panel.ui.translatorFileButton)
    settle(panel)
    assert combo.currentText == "real_to_drr.safetensors" and combo.toolTip == panel.parameterNode.translator == path
    wait_until(lambda: "style of computed ones first, at 256 pixels" in facts.text)
    start(panel, "done")
    assert not combo.enabled and not panel.ui.translatorFileButton.enabled
    finish(panel)
    assert style_of(panel.parameterNode.reconstructionNode) == f"real to DRR, translator {path}"
    assert f"X-rays: real to DRR, translator {path}" in panel.ui.logTextEdit.plainText

    combo.currentIndex = 0
    settle(panel)
    assert panel.parameterNode.translator == "" and facts.isHidden()
    start(panel, "done")
    finish(panel)
    assert style_of(panel.parameterNode.reconstructionNode) == "as they are"
    offered = [combo.itemText(n) for n in range(combo.count)]  # with those that were used before
    assert offered[0] == "None"
    combo.currentIndex = offered.index("real_to_drr.safetensors")
    assert panel.parameterNode.translator == path


def test_the_panel_says_why_a_file_is_no_style_translator_before_it_is_used(panel, xrays):
    panel.parameterNode.translator = "films.safetensors"
    settle(panel)
    wait_until(lambda: panel.ui.statusLabel.text.startswith("translator: films.safetensors translates drr_to_real. Choose"))
    assert not panel.ui.reconstructButton.enabled and panel.ui.translatorFactsLabel.isHidden()
    assert panel.ui.reconstructionSection.text == "Reconstruction: choose another style translator"
    panel.ui.translatorComboBox.currentIndex = 0
    settle(panel)
    assert panel.ui.reconstructButton.enabled and panel.ui.reconstructionSection.text == "Reconstruction: ready"


def test_the_console_takes_a_style_translator(panel, xrays, tmp_path):
    path = tmp_path / "real_to_drr.safetensors"
    assert style_of(panel.logic.reconstruct(*xrays, translator=path).volumeNode) == f"real to DRR, translator {path}"
    assert style_of(panel.logic.reconstruct(*xrays, translator="").volumeNode) == "as they are"


def test_a_service_that_fails_does_not_lock_the_reconstruction(panel, xrays, tmp_path):
    panel.logic.service.stop()
    panel.logic.service._command = child("service", "broken")
    panel.parameterNode.checkpoint = str(tmp_path / "other.safetensors")
    settle(panel)
    wait_until(lambda: panel.reconstructionSection._facts["inspect", str(tmp_path / "other.safetensors")] is not None)
    settle(panel)
    assert panel.ui.reconstructButton.enabled


def test_the_log_tells_what_data_consistency_changed(panel, xrays):
    start(panel, "done")
    finish(panel)
    words = "computed from the volume differs from yours by 10.0 %, before the fit to the X-rays by 20.0 % (re-projection error"
    assert words in panel.ui.logTextEdit.plainText


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("done", "none known"),
        ("guessed", "of these X-rays the following is assumed: pixel height and width, view"),
        ("doubtful", "not told"),
    ],
)
def test_the_log_tells_figures_of_the_patient_with_their_intervals(panel, xrays, mode, said):
    start(panel, mode)
    finish(panel)
    *_others, bone, gas, limits = panel.ui.logTextEdit.plainText.splitlines()
    assert (bone, gas) == ("bone: 512 ml, 80 % interval 377 to 647 ml", "gas: 80 ml, 80 % interval 20 to 140 ml")
    assert limits == f"CalibrationLimits: {said}"


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("AP: roll_deg, isocenter_lps.", "AP: roll, where the body lies in the coordinates of a CT."),
        ('assumed "roll_deg": 0', 'assumed "roll": 0'),
        ("roll_deg.png: not found", None),
        ("/data/roll_deg/ap.dcm: not found", None),
        ("C:\\data\\roll_deg: not found", None),
        ("ap_roll_deg_2.png: not found", None),
    ],
)
def test_words_for_facts_leave_names_of_files_alone(panel, sentence, words):
    from Diff2CTLib import XrayChecks

    assert XrayChecks.inWords(sentence) == (words or sentence)


def test_a_run_says_how_its_refusal_is_mended(panel, xrays):
    panel.parameterNode.device = type(panel.parameterNode.device).CUDA
    settle(panel)
    wait_until(lambda: panel.ui.statusLabel.text.endswith("not available on this computer: set Device to Automatic."))
    panel.logic.editXray(xrays[0], view="LL")
    settle(panel)
    assert panel.ui.statusLabel.text.endswith("set View under Geometry.")
    panel.reconstructionSection._tell("AP.png: source_to_isocenter_mm is 90")
    settle(panel)
    assert panel.messages == ["AP.png: source to mid-body is 90"]


def test_assumed_distances_are_told_with_the_result(panel, xrays):
    words = "Made with assumed distances: sizes and positions may be wrong. Enter the real ones under Geometry."
    start(panel, "guessed")
    finish(panel)
    assert panel.ui.statusLabel.text.endswith(f"\n{words}")
    assert 'both X-rays: assumed "source to detector": 1150' in panel.ui.logTextEdit.plainText
    start(panel, "done")
    finish(panel)
    assert words not in panel.ui.statusLabel.text


@pytest.mark.parametrize("leave", ["close", "load"])
def test_nothing_is_said_any_more_of_a_case_that_was_left(panel, xrays, leave):
    import slicer
    from SlicerModule.tools import add_xrays

    start(panel, "doubtful")
    finish(panel)
    assert "Warning" in panel.ui.statusLabel.text and panel.ui.logTextEdit.plainText
    if leave == "close":
        slicer.mrmlScene.Clear(False)
    else:
        panel.parameterNode.apNode = add_xrays()[0]
    settle(panel)
    assert panel.ui.statusLabel.text.startswith("Ready" if leave == "load" else "Load an AP and a lateral X-ray first")
    assert panel.ui.logTextEdit.plainText == ""


def test_a_result_of_xrays_that_are_no_longer_chosen_is_not_compared_with_the_next_ct(panel, xrays):
    from SlicerModule.tools import add_ct, add_xrays

    start(panel, "slow", lambda: step_is_shown(panel))
    panel.ui.logTextEdit.appendPlainText("as far as it has come")
    panel.parameterNode.apNode, panel.parameterNode.lateralNode = add_xrays()
    panel.parameterNode.truthNode = add_ct(name="CT of the next")
    settle(panel)
    finish(panel)
    assert panel.parameterNode.reconstructionNode is None and volumes().count("AP CT (synthetic, not for diagnosis)") == 1
    assert "is ready" in panel.ui.statusLabel.text
    assert "the X-rays that were chosen before" in panel.ui.statusLabel.text
    assert "as far as it has come" in panel.ui.logTextEdit.plainText


def test_what_is_said_of_a_run_stays_when_its_xrays_change_places(panel, xrays):
    start(panel, "doubtful")
    finish(panel)
    told, log = panel.ui.statusLabel.text, panel.ui.logTextEdit.plainText
    panel.parameterNode.apNode, panel.parameterNode.lateralNode = xrays[::-1]
    settle(panel)
    assert (panel.ui.statusLabel.text, panel.ui.logTextEdit.plainText) == (told, log) and "Warning" in told


UNEXPLAINED = "The volume does not explain the lateral X-ray"


def test_a_volume_that_does_not_explain_its_xrays_is_told(panel, xrays):
    start(panel, "doubtful")
    finish(panel)
    assert f"\nWarning: {UNEXPLAINED} (correlation -0.35" in panel.ui.statusLabel.text and panel.messages == []
    assert UNEXPLAINED in panel.ui.logTextEdit.plainText
    start(panel, "done")
    finish(panel)
    assert "is ready, after" in panel.ui.statusLabel.text and "Warning" not in panel.ui.statusLabel.text


def test_the_console_gets_the_warnings_of_a_run_and_a_batch_logs_them_with_their_case(panel, xrays, tmp_path, caplog):
    from Diff2CTLib import SceneBridge

    from diff2ct.radiograph import write_radiograph

    panel.logic.workerCommand = child("worker", "doubtful")
    assert panel.logic.reconstruct(*xrays).warnings == [UNEXPLAINED]
    (tmp_path / "in" / "one").mkdir(parents=True)
    for node, name in zip(xrays, ("ap", "lateral"), strict=True):
        write_radiograph(SceneBridge.xrayFromNode(node).radiograph, tmp_path / "in" / "one" / f"{name}.dcm")
    panel.logic.reconstructFolders(tmp_path / "in", tmp_path / "out")
    logged = [record.message for record in caplog.records if UNEXPLAINED in record.message]
    assert logged == [f"Diff2CT, {origin}: {UNEXPLAINED}" for origin in ("AP", tmp_path / "in" / "one" / "ap.dcm")]


@pytest.mark.parametrize("isTried", [False, True])
def test_a_torch_that_does_not_start_is_told_until_it_does(panel, xrays, isTried):
    section, service = panel.reconstructionSection, panel.logic.service
    wait_until(lambda: section._deviceNames())
    works = service._command
    service.stop()
    service._command = child("service", "broken")
    section._devices = None  # as in a panel that is new
    panel.updateSoon()
    wait_until(lambda: "Fatal: out of luck" in panel.ui.deviceLabel.text)
    assert panel.ui.reconstructionSection.text == "Reconstruction: PyTorch does not start"
    assert panel.ui.statusLabel.text.startswith("PyTorch does not start: ") and "out of luck" in panel.ui.statusLabel.text
    service._command = works
    if isTried:
        start(panel, "done")  # it may have been for want of memory
        finish(panel)
    else:
        panel.exit()
        panel.enter()
    wait_until(lambda: "Runs on the CPU" in panel.ui.deviceLabel.text)
    assert panel.ui.reconstructionSection.text == "Reconstruction: ready"


def test_a_service_that_was_stopped_while_it_answered_is_asked_again(panel, xrays):
    section, service = panel.reconstructionSection, panel.logic.service
    wait_until(lambda: section._deviceNames())
    section._devices = None
    section._askForDevices()
    service.stop()
    assert section._deviceError() == ""
    wait_until(lambda: section._deviceNames())


def test_the_service_is_idle_only_when_nothing_is_asked(panel):
    """However long a request takes, it is answered; the time until the memory is given back begins after it."""
    from Diff2CTLib.Service import IDLE_MS

    service = panel.logic.service
    wait_until(lambda: not service._callbacks)
    answers = []
    service.ask("hello", answers.append)
    service.ask("hello", answers.append)
    assert not service._idleTimer.active
    wait_until(lambda: len(answers) == 2)
    assert service._idleTimer.active and service.isRunning()
    service._idleTimer.setInterval(1)
    service._idleTimer.start()
    wait_until(lambda: not service.isRunning())
    service._idleTimer.setInterval(IDLE_MS)
