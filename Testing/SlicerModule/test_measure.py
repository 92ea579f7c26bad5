"""The section Measure in the X-rays: landmarks in both, and lines over known lengths."""

import numpy as np
import pytest
from SlicerModule.tools import add_xrays, click, settle


def markups(slot, kind="landmarks"):
    import slicer

    return slicer.mrmlScene.GetFirstNodeByName(f"Diff2CT {slot} {kind}")


def drag(slot, index, row, column, node, kind="landmarks"):
    """Put a point where a pixel of the X-ray is."""
    from Diff2CTLib import SceneBridge

    position = SceneBridge.imageToRas(SceneBridge.geometryOf(node)) @ (column, row, 0.0, 1.0)
    markups(slot, kind).SetNthControlPointPosition(index, *position[:3])


def pixel(slot, index, node, kind="landmarks"):
    from Diff2CTLib import SceneBridge

    point = [*markups(slot, kind).GetNthControlPointPosition(index), 1.0]
    column, row = (np.linalg.inv(SceneBridge.imageToRas(SceneBridge.geometryOf(node))) @ point)[:2]
    return row, column


def assume(node, *facts):
    """As if nobody had measured these facts of an X-ray."""
    import json

    from Diff2CTLib import SceneBridge

    stored = json.loads(node.GetAttribute(SceneBridge.XRAY_ATTRIBUTE))
    node.SetAttribute(SceneBridge.XRAY_ATTRIBUTE, json.dumps({**stored, "assumed": facts}))


@pytest.fixture
def open_section(panel, xrays):
    panel.ui.geometrySection.collapsed = panel.ui.measureSection.collapsed = False
    settle(panel)
    return xrays


def test_nothing_can_be_measured_without_xrays(panel):
    ui = panel.ui
    assert not any(
        getattr(ui, name).enabled for name in ("addLandmarkButton", "matchButton", "apLineButton", "apSetLengthButton")
    )
    assert "Load both" in ui.landmarksLabel.text


def test_a_landmark_is_a_point_in_each_xray_at_the_same_height(panel, open_section):
    click(panel.ui.addLandmarkButton)
    click(panel.ui.addLandmarkButton)
    settle(panel)
    assert "2 landmarks: the heights in both X-rays differ by 0.0 mm" in panel.ui.landmarksLabel.text
    for slot, node in zip(("ap", "lateral"), open_section, strict=True):
        points = markups(slot)
        assert points.GetNumberOfControlPoints() == 2 and points.GetNthControlPointLabel(1) == "2"
        assert points.GetHideFromEditors() and not points.GetSaveWithScene()
        (view,) = points.GetDisplayNode().GetViewNodeIDs()
        assert {"ap": "AP", "lateral": "Lateral"}[slot] in view
        rows, columns = zip(*(pixel(slot, index, node) for index in (0, 1)), strict=True)
        assert np.allclose(columns, 44.5) and rows[0] == pytest.approx(49.5) and rows[1] == pytest.approx(24.75)


def test_dragged_landmarks_say_how_far_they_are_apart_and_match_the_xrays(panel, open_section):
    from Diff2CTLib import SceneBridge

    ap, lateral = open_section
    click(panel.ui.addLandmarkButton)
    drag("lateral", 0, 59.5, 44.5, lateral)  # ten rows of 4 mm at the detector, 3.2 in the patient
    settle(panel)
    assert panel.ui.landmarksLabel.text == "1 landmark: the heights in both X-rays differ by 32.0 mm."
    click(panel.ui.matchButton)
    settle(panel)
    assert SceneBridge.geometryOf(lateral).principal_point == pytest.approx((59.5, 44.5))
    assert SceneBridge.geometryOf(ap).principal_point == pytest.approx((49.5, 44.5))
    assert panel.ui.lateralCentralRayRow.value == pytest.approx(59.5)
    said = panel.ui.landmarksLabel.text
    assert said == "The lateral X-ray was moved 32.0 mm toward the head. The heights in both X-rays now differ by 0.0 mm."
    assert pixel("lateral", 0, lateral) == pytest.approx((59.5, 44.5)), "the point stays on its structure"

    drag("ap", 0, 51.5, 44.5, ap)
    settle(panel)
    assert panel.ui.landmarksLabel.text == "1 landmark: the heights in both X-rays differ by 6.4 mm."


def test_what_was_said_of_a_match_goes_with_the_geometry_it_was_said_of(panel, open_section):
    click(panel.ui.addLandmarkButton)
    settle(panel)
    click(panel.ui.matchButton)
    settle(panel)
    assert "now differ" in panel.ui.landmarksLabel.text
    panel.ui.apCentralRayRow.value += 10
    settle(panel)
    assert panel.ui.landmarksLabel.text == "1 landmark: the heights in both X-rays differ by 32.0 mm."


@pytest.mark.parametrize("isApCalibrated", [True, False])
def test_two_landmarks_give_an_uncalibrated_picture_its_size(panel, open_section, isApCalibrated):
    """Which is known then, if that of the other picture is."""
    from Diff2CTLib import SceneBridge

    ap, lateral = open_section
    if not isApCalibrated:
        assume(ap, "detector_spacing_mm")
    assume(lateral, "principal_point", "detector_spacing_mm", "isocenter_lps")
    for index, (in_ap, in_lateral) in enumerate(((20, 10), (80, 90))):
        click(panel.ui.addLandmarkButton)
        drag("ap", index, in_ap, 44.5, ap)
        drag("lateral", index, in_lateral, 44.5, lateral)
    settle(panel)
    click(panel.ui.matchButton)
    settle(panel)
    assert SceneBridge.geometryOf(lateral).detector_spacing_mm == pytest.approx((3.0, 3.375))
    still = () if isApCalibrated else ("detector_spacing_mm",)
    assert tuple(SceneBridge.assumedOf(lateral)) == (*still, "isocenter_lps")
    assert "its pixels were made 0.75 times as large" in panel.ui.landmarksLabel.text
    assert panel.ui.lateralPixelHeight.value == pytest.approx(3.0)
    assert ("*" in panel.ui.lateralPixelHeight.suffix) is not isApCalibrated


def test_landmarks_that_contradict_each_other_are_told_and_change_nothing(panel, open_section):
    from Diff2CTLib import SceneBridge

    ap, lateral = open_section
    assume(lateral, "detector_spacing_mm")
    before = SceneBridge.geometryOf(lateral)
    for index, (in_ap, in_lateral) in enumerate(((20, 90), (80, 10))):
        click(panel.ui.addLandmarkButton)
        drag("ap", index, in_ap, 44.5, ap)
        drag("lateral", index, in_lateral, 44.5, lateral)
    settle(panel)
    click(panel.ui.matchButton)
    settle(panel)
    assert "same order" in panel.ui.landmarksLabel.text
    assert SceneBridge.geometryOf(lateral) == before


def test_a_landmark_that_was_dragged_off_the_picture_is_told(panel, open_section):
    click(panel.ui.addLandmarkButton)
    drag("ap", 0, -30, 44.5, open_section[0])
    settle(panel)
    assert panel.ui.landmarksLabel.text == "A landmark lies outside of its X-ray." and not panel.ui.matchButton.enabled


def test_landmarks_are_removed_by_the_button_and_with_a_picture(panel, open_section):
    click(panel.ui.addLandmarkButton)
    settle(panel)
    click(panel.ui.removeLandmarksButton)
    settle(panel)
    assert markups("ap") is None and markups("lateral") is None and not panel.ui.matchButton.enabled

    for change in (
        lambda: panel.ui.apFlipLeftRight.click(),
        lambda: setattr(panel.parameterNode, "lateralNode", add_xrays()[1]),
    ):
        click(panel.ui.addLandmarkButton)
        click(panel.ui.apLineButton)
        settle(panel)
        change()
        settle(panel)
        assert markups("ap") is None and markups("lateral") is None, "of another picture they would be wrong"
    assert markups("ap", "length") is not None, "a line stays while its own picture does"


def test_a_known_length_sets_the_pixel_size(panel, open_section):
    from Diff2CTLib import SceneBridge

    ap, lateral = open_section
    assume(ap, "detector_spacing_mm", "view")
    click(panel.ui.apLineButton)
    settle(panel)
    assert panel.ui.apLineButton.checked and panel.ui.apLengthLabel.text == "now 64.8 mm"  # 18 pixels of 4.5 mm / 1.25
    drag("ap", 0, 30, 20, ap, "length")
    drag("ap", 1, 30, 60, ap, "length")
    settle(panel)
    assert panel.ui.apLengthLabel.text == "now 144.0 mm"
    panel.ui.apLength.value = 100.0
    click(panel.ui.apSetLengthButton)
    settle(panel)
    beam = SceneBridge.geometryOf(ap)
    assert beam.patient_spacing_mm[1] == pytest.approx(2.5) and beam.detector_spacing_mm[0] == pytest.approx(4 / 1.44)
    assert tuple(SceneBridge.assumedOf(ap)) == ("view",)
    assert markups("ap", "length") is None and not panel.ui.apLineButton.checked and not panel.ui.apSetLengthButton.enabled
    assert panel.ui.apPixelWidth.value == pytest.approx(3.125)
    assert SceneBridge.geometryOf(lateral).detector_spacing_mm == (4.0, 4.5)


def test_a_line_that_tells_no_length_cannot_be_used(panel, open_section):
    ap, _lateral = open_section
    click(panel.ui.apLineButton)
    for column in (200, 20):
        for index in (0, 1):
            drag("ap", index, 30, column, ap, "length")
        settle(panel)
        assert not panel.ui.apSetLengthButton.enabled
        assert panel.ui.apLengthLabel.text == ("now 0.0 mm" if column == 20 else "not in the X-ray")
    click(panel.ui.apLineButton)
    settle(panel)
    assert markups("ap", "length") is None and panel.ui.apLengthLabel.text == ""


def test_marks_go_with_their_xray(panel, open_section):
    ap, _lateral = open_section
    click(panel.ui.addLandmarkButton)
    click(panel.ui.apLineButton)
    settle(panel)
    before = pixel("ap", 0, ap), pixel("ap", 1, ap, "length")
    panel.ui.apCentralRayRow.value += 20
    panel.ui.apSourceToDetector.value = 1200
    settle(panel)
    assert np.allclose((pixel("ap", 0, ap), pixel("ap", 1, ap, "length")), before)


def test_a_closed_scene_takes_marks_along(panel, open_section):
    import slicer

    click(panel.ui.addLandmarkButton)
    settle(panel)
    slicer.mrmlScene.Clear(0)
    settle(panel)
    panel.parameterNode.apNode, panel.parameterNode.lateralNode = add_xrays()
    settle(panel)
    click(panel.ui.addLandmarkButton)
    settle(panel)
    assert markups("ap").GetNumberOfControlPoints() == 1 and "1 landmark:" in panel.ui.landmarksLabel.text


def test_the_console_does_the_same(panel, xrays):
    from Diff2CTLib import SceneBridge

    ap, lateral = xrays
    match = panel.logic.matchLandmarks(ap, lateral, [[40, 44.5]], [[45, 44.5]])
    assert match.shift_mm == pytest.approx(16) and SceneBridge.geometryOf(lateral).principal_point[0] == pytest.approx(54.5)
    panel.logic.setKnownLength(ap, [[10, 10], [10, 50]], 40)
    assert SceneBridge.geometryOf(ap).patient_spacing_mm[1] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="length_mm: got -1"):
        panel.logic.setKnownLength(ap, [[10, 10], [10, 50]], -1)


def test_marks_leave_the_point_list_that_the_user_places_into(panel, open_section):
    """The module Markups takes each new list for the one that a click with the place tool fills."""
    import slicer

    selection = slicer.app.applicationLogic().GetSelectionNode()
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsAngleNode", "My angle")
    assert selection.GetActivePlaceNodeID() == own.GetID()
    click(panel.ui.addLandmarkButton)
    click(panel.ui.apLineButton)
    settle(panel)
    assert selection.GetActivePlaceNodeID() == own.GetID()
    assert selection.GetActivePlaceNodeClassName() == own.GetClassName()
    slicer.mrmlScene.RemoveNode(own)
    click(panel.ui.removeLandmarksButton)
    click(panel.ui.addLandmarkButton)
    settle(panel)
    assert not selection.GetActivePlaceNodeID()


def test_points_are_neither_added_nor_deleted_in_the_view(panel, open_section):
    """Nobody can delete one point of a pair with the Delete key, or place points into a list that is not saved."""
    click(panel.ui.addLandmarkButton)
    click(panel.ui.addLandmarkButton)
    click(panel.ui.apLineButton)
    settle(panel)
    for points in (markups("ap"), markups("lateral"), markups("ap", "length")):
        assert points.GetFixedNumberOfControlPoints() and points.GetControlPointPlacementComplete()


def test_a_mark_without_its_other_half_is_removed(panel, open_section):
    """Scripts and scene views may do what clicks cannot."""
    import slicer

    click(panel.ui.addLandmarkButton)
    click(panel.ui.addLandmarkButton)
    click(panel.ui.apLineButton)
    settle(panel)
    for points in (markups("ap"), markups("ap", "length")):
        points.SetFixedNumberOfControlPoints(False)
        points.RemoveNthControlPoint(0)
    settle(panel)
    assert markups("ap") is None and markups("lateral") is None and not panel.ui.matchButton.enabled
    assert markups("ap", "length") is None and not panel.ui.apLineButton.checked

    click(panel.ui.addLandmarkButton)
    settle(panel)
    slicer.mrmlScene.RemoveNode(markups("lateral"))
    panel.updateSoon()
    settle(panel)
    assert markups("ap") is None and "Add a landmark" in panel.ui.landmarksLabel.text


def test_what_cannot_be_measured_is_told(panel, open_section):
    """A click may come before the panel has seen the last drag."""
    ap, _lateral = open_section
    click(panel.ui.apLineButton)
    settle(panel)
    before = ap.GetAttribute("Diff2CT.xray")
    drag("ap", 0, 30, -20, ap, "length")
    click(panel.ui.apSetLengthButton)
    settle(panel)
    assert ap.GetAttribute("Diff2CT.xray") == before and markups("ap", "length") is not None
    assert panel.ui.apLengthLabel.text == "not in the X-ray"


def test_a_drag_just_before_the_geometry_changes_counts(panel, open_section):
    ap, _lateral = open_section
    click(panel.ui.addLandmarkButton)
    settle(panel)
    drag("ap", 0, 20, 30, ap)
    panel.logic.editXray(ap, source_to_detector_mm=1200.0)
    settle(panel)
    assert pixel("ap", 0, ap) == pytest.approx((20, 30))


def test_the_headline_comes_back_after_a_failure(panel, open_section, monkeypatch):
    headline = panel.ui.measureSection.text
    with monkeypatch.context() as patched:
        patched.setattr(panel.measureSection.marks, "update", lambda _xrays: 1 / 0)
        panel.updateSoon()
        settle(panel)
        assert "internal error" in panel.ui.measureSection.text
    panel.failures.clear()
    panel.updateSoon()
    settle(panel)
    assert panel.ui.measureSection.text == headline


def test_a_fan_can_be_measured(panel):
    panel.parameterNode.apNode, panel.parameterNode.lateralNode = add_xrays()
    settle(panel)
    for node in (panel.parameterNode.apNode, panel.parameterNode.lateralNode):
        panel.logic.editXray(node, kind="fan")
    settle(panel)
    click(panel.ui.addLandmarkButton)
    settle(panel)
    assert "1 landmark: the heights in both X-rays differ by 0.0 mm" in panel.ui.landmarksLabel.text
    drag("lateral", 0, 59.5, 44.5, panel.parameterNode.lateralNode)
    settle(panel)
    assert panel.ui.landmarksLabel.text == "1 landmark: the heights in both X-rays differ by 32.0 mm."


def test_marks_of_a_panel_that_was_left_are_taken_away_quietly(panel, open_section, recwarn):
    """After the module was reloaded."""
    from Diff2CTLib.Marks import Marks

    click(panel.ui.addLandmarkButton)
    settle(panel)
    Marks(lambda: None).update(dict(zip(("ap", "lateral"), open_section, strict=True)))
    assert markups("ap") is None and not [warning for warning in recwarn if "observer" in str(warning.message)]


def test_a_drag_does_not_wait_for_the_other_sections(panel, open_section, monkeypatch):
    ap, _lateral = open_section
    click(panel.ui.addLandmarkButton)
    settle(panel)
    others = []
    for name in ("xraySection", "alignmentSection", "reconstructionSection", "compareSection"):
        monkeypatch.setattr(getattr(panel, name), "update", lambda _parameterNode, name=name: others.append(name))
    drag("ap", 0, 51.5, 44.5, ap)
    settle(panel)
    assert panel.ui.landmarksLabel.text == "1 landmark: the heights in both X-rays differ by 6.4 mm." and others == []
    panel.updateSoon()
    settle(panel)
    assert len(others) == 4
