"""Align CT with X-rays: the panel, the console and what may happen meanwhile. How well it fits, test_real.py and the core's
tests tell."""

from types import SimpleNamespace

import numpy as np
import pytest
from SlicerModule.tools import add_ct, child, click, leftovers, settle, wait_until


@pytest.fixture
def ct(panel, xrays):
    """A CT chosen in the panel."""
    node = add_ct()
    panel.ui.previewSelector.setCurrentNode(node)
    settle(panel)
    return node


def shift(node):
    """(3,) RAS: where the transforms of a node bring its origin."""
    from Diff2CTLib import SceneBridge

    return SceneBridge.worldFromNode(node)[:3, 3]


@pytest.fixture
def silent(panel):
    """A service that takes requests and does not answer."""
    panel.logic.registering.stop()
    panel.logic.registering._command = child("service", "silent")


def start(panel):
    click(panel.ui.registerButton)
    settle(panel)
    wait_until(lambda: panel.logic.registering._callbacks)


def test_the_ct_is_moved_and_what_was_done_is_said(panel, xrays, ct):
    panel.ui.alignmentSection.collapsed = False
    click(panel.ui.registerButton)
    settle(panel)
    assert panel.ui.registerButton.text == "Stop aligning" and "Aligning" in panel.ui.registerLabel.text
    assert not panel.ui.registerProgressBar.isHidden() and panel.ui.undoRegisterButton.enabled is False
    wait_until(lambda: not panel.logic.isRegistering)
    settle(panel)
    assert np.allclose(shift(ct), (0, 0, 12)) and panel.ui.poseFeetHeadSlider.value == pytest.approx(12.0)
    assert panel.ui.registerLabel.text == "The CT was moved by 12.0 mm and turned by 0.0 degrees in 0 s."
    assert panel.ui.registerButton.text == "Align CT with X-rays" and panel.ui.resetPoseButton.enabled
    assert panel.ui.registerProgressBar.isHidden() and panel.ui.undoRegisterButton.enabled
    wait_until(lambda: leftovers() == [])


def test_the_words_go_when_the_ct_is_moved_again(panel, xrays, ct):
    click(panel.ui.registerButton)
    wait_until(lambda: "was moved" in panel.ui.registerLabel.text)
    panel.ui.poseFeetHeadSlider.value = 3.0
    settle(panel)
    assert panel.ui.registerLabel.text == "" and not panel.ui.registerLabel.visible


def test_it_goes_on_from_where_the_ct_is(panel, xrays, ct):
    panel.ui.poseLeftRightSlider.value = 40.0
    settle(panel)
    pose = panel.parameterNode.poseNode
    click(panel.ui.registerButton)
    wait_until(lambda: not panel.logic.isRegistering)
    assert np.allclose(shift(ct), (40, 0, 12)) and ct.GetParentTransformNode() is pose


def test_a_transform_of_another_module_stays(panel, xrays, ct):
    import slicer
    import vtk

    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Other")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 25.0)
    other.SetMatrixTransformToParent(matrix)
    ct.SetAndObserveTransformNodeID(other.GetID())
    settle(panel)
    click(panel.ui.registerButton)
    wait_until(lambda: not panel.logic.isRegistering)
    settle(panel)
    assert np.allclose(shift(ct), (25, 0, 12))
    assert ct.GetParentTransformNode() is panel.parameterNode.poseNode is not other
    assert ct.GetParentTransformNode().GetParentTransformNode() is other
    found = vtk.vtkMatrix4x4()
    other.GetMatrixTransformToParent(found)
    assert found.GetElement(0, 3) == 25.0 and found.GetElement(2, 3) == 0.0


def test_a_second_click_stops_it(panel, xrays, ct, silent):
    start(panel)
    click(panel.ui.registerButton)
    settle(panel)
    assert not panel.logic.isRegistering and ct.GetParentTransformNode() is None
    assert panel.ui.registerLabel.text == "The computation was stopped."
    assert leftovers() == [] and panel.messages == []


@pytest.mark.parametrize(
    ("mode", "percent", "words"), [("early", 34, "..."), ("halfway", 50, ", 20 s elapsed, 50 s remaining")]
)
def test_how_far_it_is_stands_in_bar_and_words(panel, xrays, ct, monkeypatch, mode, percent, words):
    """The first word of the service is 0.3, as the preparation of a large CT is done by then; the second comes 20 s later."""
    from Diff2CTLib import AlignmentSection

    bar = panel.ui.registerProgressBar
    clock = SimpleNamespace(monotonic=lambda: 1000.0 + 20.0 * (bar.value >= 30))
    monkeypatch.setattr(AlignmentSection, "time", clock)
    panel.logic.registering.stop()
    panel.logic.registering._command = child("service", mode)
    panel.ui.alignmentSection.collapsed = False
    settle(panel)
    assert bar.isHidden()
    click(panel.ui.registerButton)
    settle(panel)
    assert not bar.isHidden() and bar.maximum == 0  # nothing is known yet
    wait_until(lambda: bar.value == percent)
    panel.updateSoon()
    settle(panel)
    assert bar.maximum == 100 and bar.value == percent and not bar.isHidden()
    assert panel.ui.registerLabel.text == f"Aligning the CT with the X-rays{words}"
    click(panel.ui.registerButton)
    settle(panel)
    assert bar.isHidden() and panel.ui.registerLabel.text == "The computation was stopped."


def test_the_console_is_told_how_far_it_is_and_may_end_it(panel, xrays, ct):
    told = []
    panel.logic.registerCt(ct, xrays, onProgress=told.append)
    assert told == [0.0, 0.5, 1.0]
    with pytest.raises(RuntimeError, match="The computation was stopped"):
        panel.logic.registerCt(ct, xrays, onProgress=lambda _share: panel.logic.cancelRegistration())
    assert np.allclose(shift(ct), (0, 0, 12)) and not panel.logic.isRegistering
    wait_until(lambda: leftovers() == [])


def test_one_click_takes_it_back(panel, xrays, ct):
    """Also what was set by hand, which Reset pose would take back too."""
    panel.ui.poseLeftRightSlider.value = 40.0
    panel.ui.poseTiltXSlider.value = 5.0
    settle(panel)
    from Diff2CTLib import Pose

    before = Pose.matrixOf(ct.GetParentTransformNode())
    for _time in range(2):
        click(panel.ui.registerButton)
        wait_until(lambda: not panel.logic.isRegistering)
        settle(panel)
    for expected in (12.0, 0.0):
        click(panel.ui.undoRegisterButton)
        settle(panel)
        assert np.allclose(Pose.matrixOf(ct.GetParentTransformNode())[:3, 3] - before[:3, 3], (0, 0, expected))
    assert np.array_equal(Pose.matrixOf(ct.GetParentTransformNode()), before)
    assert panel.ui.poseLeftRightSlider.value == pytest.approx(40.0)
    assert panel.ui.registerLabel.text == "The CT is back where it was before it was aligned."
    assert not panel.ui.undoRegisterButton.enabled and panel.ui.resetPoseButton.enabled


def test_a_transform_of_another_module_is_there_again_as_it_was(panel, xrays, ct):
    import slicer
    from Diff2CTLib import Pose

    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Other")
    Pose.write(other, [0.0, 25.0, 0.0, 0.0, 0.0, 0.0], np.zeros(3))
    ct.SetAndObserveTransformNodeID(other.GetID())
    panel.logic.registerCt(ct, xrays)
    assert np.allclose(shift(ct), (0, 25, 12)) and panel.logic.canUndoRegistration(ct)
    panel.logic.undoRegistration(ct)
    assert np.allclose(shift(ct), (0, 25, 0)) and np.allclose(shift(other), 0)
    with pytest.raises(RuntimeError, match="There is no alignment of CT that could be taken back"):
        panel.logic.undoRegistration(ct)


@pytest.mark.parametrize("what", ["ct", "xray", "xray removed"])
def test_why_nothing_can_be_taken_back_is_said(panel, xrays, ct, what):
    import slicer
    from Diff2CTLib import Pose

    with pytest.raises(ValueError, match="Choose the CT"):
        panel.logic.undoRegistration(None)
    assert not panel.logic.canUndoRegistration(None)
    with pytest.raises(RuntimeError, match="There is no alignment of CT that could be taken back"):
        panel.logic.undoRegistration(ct)
    panel.logic.registerCt(ct, xrays)
    if what == "ct":
        Pose.reset(ct.GetParentTransformNode())
    elif what == "xray":
        panel.logic.editXray(xrays[0], source_to_detector_mm=1010.0)
    else:
        slicer.mrmlScene.RemoveNode(xrays[0])
    with pytest.raises(RuntimeError, match="of CT cannot be taken back: the CT or an X-ray was changed or removed since"):
        panel.logic.undoRegistration(ct)


def test_a_click_that_comes_too_late_is_answered_in_the_panel(panel, xrays, ct):
    click(panel.ui.registerButton)
    wait_until(lambda: not panel.logic.isRegistering)
    settle(panel)
    panel.ui.poseFeetHeadSlider.value = 3.0
    click(panel.ui.undoRegisterButton)  # nobody has disabled it yet
    settle(panel)
    assert "CT cannot be taken back: the CT or an X-ray was changed" in panel.ui.registerLabel.text
    assert np.allclose(shift(ct), (0, 0, 3)) and not panel.ui.undoRegisterButton.enabled


@pytest.mark.parametrize("what", ["ct", "xray", "pose"])
def test_what_can_never_be_taken_back_is_not_kept(panel, xrays, ct, what):
    import slicer

    panel.logic.registerCt(ct, xrays)
    slicer.mrmlScene.RemoveNode({"ct": ct, "xray": xrays[0], "pose": ct.GetParentTransformNode()}[what])
    other = add_ct(name="Other")
    for expected in (1, 2):
        panel.logic.registerCt(other, xrays[1:])
        assert len(panel.logic._undos) == expected


@pytest.mark.parametrize("what", ["slider", "transform", "xray", "ct", "xray removed", "ct removed", "pose removed", "scene"])
def test_nothing_is_taken_back_once_something_else_has_changed(panel, xrays, ct, what):
    import slicer

    click(panel.ui.registerButton)
    wait_until(lambda: not panel.logic.isRegistering)
    settle(panel)
    assert panel.ui.undoRegisterButton.enabled
    if what == "slider":
        panel.ui.poseFeetHeadSlider.value = 3.0
    elif what == "transform":
        ct.SetAndObserveTransformNodeID(None)
    elif what == "xray":
        panel.ui.apCentralRayRow.value += 5.0
    elif what == "ct":
        panel.ui.previewSelector.setCurrentNode(add_ct(name="Other"))
    elif what == "scene":
        slicer.mrmlScene.Clear(0)
    else:
        slicer.mrmlScene.RemoveNode({"xray": xrays[0], "ct": ct, "pose": ct.GetParentTransformNode()}[what.split()[0]])
    settle(panel)
    assert not panel.ui.undoRegisterButton.enabled
    assert panel.logic.canUndoRegistration(ct) is (what == "ct")
    panel.ui.previewSelector.setCurrentNode(ct if what == "ct" else None)
    settle(panel)
    assert panel.ui.undoRegisterButton.enabled is (what == "ct")


@pytest.mark.parametrize("what", ["moved", "removed", "xray"])
def test_what_changed_meanwhile_counts(panel, xrays, ct, what, monkeypatch):
    from Diff2CTLib import Service

    answered, answers = Service.Service._answered, []

    def keep(service, answer):
        if "progress" not in answer:
            answers.append((service, answer))

    monkeypatch.setattr(Service.Service, "_answered", keep)
    panel.logic.registering.stop()  # the next child is connected to the line above
    start(panel)
    wait_until(lambda: any(service is panel.logic.registering for service, _answer in answers))
    if what == "moved":
        panel.ui.poseLeftRightSlider.value = 40.0
    elif what == "removed":
        import slicer

        slicer.mrmlScene.RemoveNode(ct)
    else:
        panel.ui.apCentralRayRow.value += 5.0
    settle(panel)
    monkeypatch.undo()
    for arguments in answers:
        answered(*arguments)
    settle(panel)
    assert not panel.logic.isRegistering and panel.ui.registerLabel.text.startswith("The CT or an X-ray was moved or removed")
    if what == "moved":
        assert np.allclose(shift(ct), (40, 0, 0))


def test_the_button_waits_for_a_ct_that_can_be_moved(panel, xrays):
    import slicer
    import vtk

    assert not panel.ui.registerButton.enabled  # no CT
    ct = add_ct()
    scale = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Scale")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 0, 2.0)
    scale.SetMatrixTransformToParent(matrix)
    panel.ui.previewSelector.setCurrentNode(ct)
    settle(panel)
    assert panel.ui.registerButton.enabled
    ct.SetAndObserveTransformNodeID(scale.GetID())
    settle(panel)
    assert not panel.ui.registerButton.enabled
    with pytest.raises(RuntimeError, match="Scale is not a rigid transform"):
        panel.logic.registerCt(ct, xrays)


@pytest.mark.parametrize(
    ("after", "rival", "words"), [([0.6, 0.2], 0.5, "X-ray and CT still differ"), ([0.6, 0.6], 0.95, "Another place fits")]
)
def test_a_doubtful_fit_says_so(panel, xrays, ct, monkeypatch, after, rival, words):
    from Diff2CTLib import Registration

    doubtful = Registration.Registration(5.0, 1.0, [0.1, 0.1], after, rival, 1.0)
    monkeypatch.setattr(Registration, "_moved", lambda *_arguments: doubtful)
    click(panel.ui.registerButton)
    wait_until(lambda: words in panel.ui.registerLabel.text and "look at the edges" in panel.ui.registerLabel.text)


def test_the_console_waits_and_takes_one_xray(panel, xrays, ct):
    found = panel.logic.registerCt(ct, xrays[:1])
    assert (found.shiftMm, found.after) == (pytest.approx(12.0), [0.9]) and np.isnan(found.before).all()
    assert np.allclose(shift(ct), (0, 0, 12))
    settle(panel)
    assert panel.parameterNode.poseNode is ct.GetParentTransformNode()


def test_one_at_a_time(panel, xrays, ct, silent):
    start(panel)
    with pytest.raises(RuntimeError, match="being registered already"):
        panel.logic.registerCt(ct, xrays)
    panel.logic.cancelRegistration()


def test_closing_the_scene_ends_it(panel, xrays, ct, silent):
    import slicer

    start(panel)
    slicer.mrmlScene.Clear(0)
    settle(panel)
    assert not panel.logic.isRegistering and panel.ui.registerLabel.text == ""
    assert not panel.ui.registerButton.enabled and leftovers() == []


def test_of_another_ct_that_was_chosen_meanwhile_nothing_is_said(panel, xrays, ct, monkeypatch):
    from Diff2CTLib import Service

    answered, answers = Service.Service._answered, []

    def keep(service, answer):
        if "progress" not in answer:
            answers.append((service, answer))

    monkeypatch.setattr(Service.Service, "_answered", keep)
    panel.logic.registering.stop()
    start(panel)
    wait_until(lambda: any(service is panel.logic.registering for service, _answer in answers))
    other = add_ct(name="Other")
    panel.ui.previewSelector.setCurrentNode(other)
    settle(panel)
    monkeypatch.undo()
    for arguments in answers:
        answered(*arguments)
    settle(panel)
    assert np.allclose(shift(ct), (0, 0, 12)) and np.allclose(shift(other), 0)
    assert panel.ui.registerLabel.text == "" and panel.ui.registerButton.text == "Align CT with X-rays"


def test_what_became_of_it_is_said_when_the_panel_is_shown_again(panel, xrays, ct):
    click(panel.ui.registerButton)
    panel.exit()
    wait_until(lambda: not panel.logic.isRegistering)
    panel.enter()
    settle(panel)
    assert "was moved by 12.0 mm" in panel.ui.registerLabel.text


@pytest.fixture
def unwritten(monkeypatch):
    """What continues when the CT is written."""
    from Diff2CTLib.VolumeFile import VolumeFile

    waiting = []
    monkeypatch.setattr(VolumeFile, "writeInPieces", lambda _self, onDone: waiting.append(onDone))
    return waiting


def test_it_can_be_stopped_while_the_ct_is_written(panel, xrays, ct, unwritten):
    click(panel.ui.registerButton)
    settle(panel)
    click(panel.ui.registerButton)
    settle(panel)
    assert panel.ui.registerButton.text == "Align CT with X-rays"
    unwritten.pop()("")
    settle(panel)
    assert panel.ui.registerLabel.text == "The computation was stopped."
    wait_until(lambda: leftovers() == [])


def test_a_new_scene_does_not_hear_of_it(panel, xrays, ct, unwritten):
    import slicer

    click(panel.ui.registerButton)
    settle(panel)
    slicer.mrmlScene.Clear(0)
    settle(panel)
    unwritten.pop()("")
    settle(panel)
    assert panel.ui.registerLabel.text == ""
    wait_until(lambda: leftovers() == [])


def test_a_call_that_fails_at_once_leaves_the_way_free(panel, xrays, ct):
    import slicer

    with pytest.raises(AttributeError):
        panel.logic.registerCt(None, xrays)
    assert not panel.logic.isRegistering
    outside = slicer.vtkMRMLScalarVolumeNode()
    outside.Copy(ct)
    with pytest.raises(RuntimeError, match="in the scene"):
        panel.logic.registerCt(outside, xrays)
    assert not panel.logic.isRegistering
    wait_until(lambda: leftovers() == [])  # of DRRs, too
