"""The section Compare: six views that show the same slices, figures, overlays, export."""

import json

import numpy as np
import pytest
from SlicerModule.tools import add_ct, add_reconstruction, child, click, settle, wait_until

CENTER = (10.0, -20.0, 30.0)


@pytest.fixture
def pair(panel):
    """A reconstruction and a ground truth on another grid, chosen and compared."""
    reconstruction = add_reconstruction(center_ras=CENTER)
    truth = add_ct(name="Real CT", center_ras=CENTER)
    panel.ui.reconstructionSelector.setCurrentNode(reconstruction)
    panel.ui.truthSelector.setCurrentNode(truth)
    settle(panel)
    wait_until(lambda: panel.compareSection._comparison is not None)
    settle(panel)
    return reconstruction, truth


def logics():
    from Diff2CTLib import Layout

    return {
        plane: (Layout.sliceLogic(Layout.RECONSTRUCTION_VIEWS[plane]), Layout.sliceLogic(Layout.TRUTH_VIEWS[plane]))
        for plane in Layout.PLANES
    }


def test_six_views_show_the_mid_slices_of_both(panel, pair):
    click(panel.ui.compareLayoutButton)
    settle(panel)
    for plane, (above, below) in logics().items():
        for logic, node in zip((above, below), pair, strict=True):
            assert logic.GetSliceCompositeNode().GetBackgroundVolumeID() == node.GetID()
            assert logic.GetSliceNode().GetOrientation() == plane
            middle = [logic.GetSliceNode().GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
            assert middle == pytest.approx(CENTER)


def test_the_views_of_a_plane_scroll_together_and_the_others_stay(panel, pair):
    click(panel.ui.compareLayoutButton)
    settle(panel)
    above, below = logics()["Coronal"]
    above.SetSliceOffset(5.0)
    assert below.GetSliceOffset() == pytest.approx(5.0)
    below.SetSliceOffset(-7.0)
    assert above.GetSliceOffset() == pytest.approx(-7.0)
    assert logics()["Axial"][0].GetSliceOffset() == pytest.approx(CENTER[2])
    below.GetSliceNode().SetFieldOfView(80.0, 60.0, 1.0)
    width, other = (
        logic.GetSliceNode().GetFieldOfView()[0] / logic.GetSliceNode().GetDimensions()[0] for logic in (below, above)
    )
    assert width == pytest.approx(other)


def test_the_whole_volume_stays_in_sight_when_the_views_get_their_size_until_somebody_zooms(panel, pair):
    def shorter_side(logic):
        node = logic.GetSliceNode()
        return min(node.GetFieldOfView()[:2])

    click(panel.ui.compareLayoutButton)
    settle(panel)
    sizes = {"Axial": (300, 400), "Coronal": (310, 400), "Sagittal": (500, 200)}
    for plane, pair_of_views in logics().items():
        for logic in pair_of_views:
            logic.ResizeSliceNode(*sizes[plane])
    wait_until(lambda: all(shorter_side(logic) == pytest.approx(256.0) for views in logics().values() for logic in views))

    above, below = logics()["Axial"]
    above.GetSliceNode().SetFieldOfView(60.0, 80.0, 1.0)
    wait_until(lambda: not panel.compareSection.views._fitTimer.active)
    for logic in (above, below):
        logic.ResizeSliceNode(150, 200)
    wait_until(lambda: not panel.compareSection.views._fitTimer.active)
    assert shorter_side(above) == pytest.approx(shorter_side(below)) and shorter_side(above) < 200.0  # not 256 again


def test_the_shown_slice_is_that_of_the_volume(panel, pair):
    """Pixel values of the view against the array: the middle of the axial view is the middle voxel."""
    import slicer

    click(panel.ui.compareLayoutButton)
    settle(panel)
    above, _below = logics()["Axial"]
    above.SetSliceOffset(CENTER[2] + 8.0)  # the centre of plane k = 8
    node = above.GetSliceNode()
    layer = above.GetBackgroundLayer()
    layer.UpdateTransforms()
    width, height = node.GetDimensions()[:2]
    toIjk = layer.GetXYToIJKTransform()
    ijk = np.rint(toIjk.TransformPoint(width / 2 + 1e-3, height / 2 + 1e-3, 0.0)).astype(int)
    assert ijk[2] == 8 and set(ijk[:2]) <= {7, 8}
    assert slicer.util.arrayFromVolume(pair[0])[tuple(ijk[::-1])] != 0


def test_without_a_truth_three_planes_and_3d(panel, pair):
    import slicer
    from Diff2CTLib import Layout

    panel.ui.truthSelector.setCurrentNode(None)
    settle(panel)
    click(panel.ui.compareLayoutButton)
    assert slicer.app.layoutManager().layout == Layout.REVIEW_LAYOUT
    assert "no real CT" in panel.ui.compareSection.text


def test_a_result_without_a_truth_comes_up_with_what_is_settled(panel, pair):
    from Diff2CTLib.ParameterNode import Overlay

    for role in ("Diff2CT.sd", "Diff2CT.support"):
        pair[0].SetNodeReferenceID(role, add_ct(name=role).GetID())
    panel.showResult()
    assert panel.parameterNode.overlay is Overlay.NONE
    panel.ui.truthSelector.setCurrentNode(None)
    panel.showResult()
    assert panel.parameterNode.overlay is Overlay.SUPPORT
    panel.parameterNode.overlay = Overlay.ERROR
    panel.showResult()
    assert panel.parameterNode.overlay is Overlay.ERROR


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("none known", None),
        ("the calibration is of 4 steps, this run had 1", "the calibration is of 4 steps, this run had 1"),
        ("the following is assumed: source_to_isocenter_mm", "the following is assumed: source to mid-body"),
    ],
)
def test_what_speaks_against_a_calibration_stands_beside_its_maps(panel, pair, limits, said):
    from Diff2CTLib.ParameterNode import Overlay

    pair[0].SetNodeReferenceID("Diff2CT.support", add_ct(name="support").GetID())
    pair[0].SetAttribute("Diff2CT.provenance", json.dumps({"CalibrationLimits": limits}))
    panel.parameterNode.overlay = Overlay.SUPPORT
    settle(panel)
    assert panel.ui.overlayLabel.text.startswith("Green: determined by your two X-rays")
    told = panel.ui.overlayLabel.text.partition("This may not hold here: ")[2]
    assert told == (f"{said}." if said else "")


def test_the_views_tell_left_from_right_until_that_is_switched_off(panel, pair):
    click(panel.ui.compareLayoutButton)
    nodes = [logic.GetSliceNode() for views in logics().values() for logic in views]
    assert all(node.GetOrientationMarkerType() == node.OrientationMarkerTypeAxes for node in nodes)
    nodes[0].SetOrientationMarkerType(nodes[0].OrientationMarkerTypeNone)
    click(panel.ui.compareLayoutButton)
    assert nodes[0].GetOrientationMarkerType() == nodes[0].OrientationMarkerTypeNone


def test_a_narrow_panel_hides_no_row_of_the_table(panel, pair):
    table = panel.ui.metricsTable._qt
    table.setMinimumWidth(0)
    table.resize(250, table.height())
    table.doItemsLayout()
    rows = sum(table.rowHeight(row) for row in range(table.rowCount()))
    assert rows > 0 and table.viewport().height() >= rows


def notices():
    """{name of a view: what stands at its upper edge}, of the slice views with something there."""
    import slicer
    from Diff2CTLib import SyntheticNotice

    manager = slicer.app.layoutManager()
    texts = {name: manager.sliceWidget(name).sliceView().cornerAnnotation() for name in manager.sliceViewNames()}
    return {name: text.GetText(SyntheticNotice.PLACE) for name, text in texts.items() if text.GetText(SyntheticNotice.PLACE)}


def test_views_say_that_a_reconstruction_is_synthetic_as_long_as_they_show_it(panel, pair):
    import slicer
    from Diff2CTLib import Layout

    click(panel.ui.compareLayoutButton)
    settle(panel)
    words = "Synthetic - not for diagnosis"
    ours = dict.fromkeys(Layout.RECONSTRUCTION_VIEWS.values(), words)
    assert notices() == ours
    panel.exit()  # another module shows the reconstruction in one of Slicer's own views, and the CT in one of ours
    red, axial = (Layout.sliceLogic(name).GetSliceCompositeNode() for name in ("Red", Layout.RECONSTRUCTION_VIEWS["Axial"]))
    red.SetBackgroundVolumeID(pair[1].GetID())
    red.SetForegroundVolumeID(pair[0].GetID())
    axial.SetBackgroundVolumeID(pair[1].GetID())
    others = {name: text for name, text in ours.items() if "Axial" not in name}
    assert notices() == others  # the reconstruction is over the CT in Red, but cannot be seen yet
    red.SetForegroundOpacity(0.5)
    assert notices() == {"Red": words, **others}
    red.SetForegroundOpacity(0.0)
    red.SetNthLayerVolumeID(red.Layer_Last, pair[0].GetID())
    assert notices() == {"Red": words, **others}
    slicer.mrmlScene.RemoveNode(pair[0])
    assert notices() == {}


def test_a_closed_scene_leaves_no_notice(panel, pair):
    import slicer

    click(panel.ui.compareLayoutButton)
    assert len(notices()) == 3
    slicer.mrmlScene.Clear(False)
    assert notices() == {}


@pytest.fixture
def view():
    """Shows a slice view that was not there before; gives its composite node. In the end both are taken away again."""
    import slicer
    from Diff2CTLib import Layout

    manager, nodes = slicer.app.layoutManager(), []

    def show(name):
        xml = f'<layout><item><view class="vtkMRMLSliceNode" singletontag="{name}"/></item></layout>'
        manager.layoutLogic().GetLayoutNode().AddLayoutDescription(24999, xml)
        manager.setLayout(24999)
        nodes.extend([Layout.sliceLogic(name).GetSliceNode(), Layout.sliceLogic(name).GetSliceCompositeNode()])
        return nodes[-1]

    yield show
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    for node in nodes:
        slicer.mrmlScene.RemoveNode(node)


def test_a_view_that_another_module_makes_says_it_too(panel, pair, view):
    panel.exit()
    view("Another").SetBackgroundVolumeID(pair[0].GetID())
    assert notices()["Another"] == "Synthetic - not for diagnosis"


def test_the_notice_needs_no_panel(panel, view):
    """A script makes a reconstruction, or a scene with one is opened, and nobody has opened the module."""
    import slicer
    from Diff2CTLib import Layout, SyntheticNotice

    from host.pythonqt import alive

    panel.exit()
    SyntheticNotice.notice.unregister()  # as after the start of Slicer
    alive(slicer.app).startupCompleted.emit()
    Layout.sliceLogic("Red").GetSliceCompositeNode().SetBackgroundVolumeID(add_reconstruction().GetID())
    assert notices() == {"Red": "Synthetic - not for diagnosis"}


def test_views_of_a_plane_are_called_by_their_words(panel, pair):
    from Diff2CTLib import Layout

    click(panel.ui.compareLayoutButton)
    labels = {plane: [logic.GetSliceNode().GetLayoutLabel() for logic in views] for plane, views in logics().items()}
    assert labels["Axial"] == ["Synthetic, axial", "CT, axial"]
    assert labels["Sagittal"] == ["Synthetic, sagittal", "CT, sagittal"]
    Layout.show(Layout.REVIEW_LAYOUT)
    assert logics()["Coronal"][0].GetSliceNode().GetLayoutLabel() == "Synthetic, coronal"


@pytest.mark.parametrize(("index", "window", "level"), [(0, 1500, 300), (1, 400, 40), (2, 1400, -500), (3, 5096, 1548)])
def test_a_preset_windows_both_volumes_alike(panel, pair, index, window, level):
    click(panel.ui.compareLayoutButton)
    panel.ui.huPresetComboBox.currentIndex = index
    panel.updateSoon()
    settle(panel)
    for node in pair:
        display = node.GetDisplayNode()
        assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == (window, level, 0)


@pytest.mark.parametrize("isBoneShown", [False, True])
def test_a_window_that_is_dragged_holds_for_both_and_stays(panel, pair, isBoneShown):
    click(panel.ui.compareLayoutButton)
    if isBoneShown:
        click(panel.ui.boneCheckBox)
    panel.updateSoon()
    settle(panel)
    for node, other in (pair, pair[::-1]):
        node.GetDisplayNode().SetWindowLevel(777, 111 if node is pair[0] else 99)
        assert other.GetDisplayNode().GetWindow() == 777
        assert other.GetDisplayNode().GetLevel() == node.GetDisplayNode().GetLevel()
    panel.ui.overlaySlider.value = 11.0
    settle(panel)
    assert pair[0].GetDisplayNode().GetWindow() == 777


def test_volumes_that_set_their_windows_themselves_do_not_follow_each_other_without_end(panel, capfd):
    from Diff2CTLib import Layout

    Layout.show(Layout.ALIGNMENT_LAYOUT)
    pair = add_reconstruction(), add_ct(value=400.0, name="Real CT")
    panel.ui.reconstructionSelector.setCurrentNode(pair[0])
    panel.ui.truthSelector.setCurrentNode(pair[1])
    settle(panel)
    click(panel.ui.compareLayoutButton)
    settle(panel)
    for node in pair:
        display = node.GetDisplayNode()
        assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == (1500.0, 300.0, 0)
    for node in pair:
        node.GetDisplayNode().AutoWindowLevelOn()  # by hand
    wait_until(has_figures(panel))
    assert "RecursionError" not in capfd.readouterr().err  # VTK prints what fails in its observers


def test_volumes_are_windowed_only_while_the_views_compare_them(panel, pair):
    """Also in a session or a scene that is opened later: what somebody has set since is not overwritten."""
    import slicer
    from Diff2CTLib import CompareViews, Layout

    def windows():
        return [(node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) for node in pair]

    def update():
        panel.updateSoon()
        settle(panel)

    Layout.show(Layout.ALIGNMENT_LAYOUT)
    slicer.util.getNode("Real CT").GetDisplayNode().SetWindowLevel(350.0, 40.0)
    before = windows()
    panel.ui.huPresetComboBox.currentIndex = 2
    update()
    assert windows() == before
    click(panel.ui.compareLayoutButton)
    update()
    assert windows() == [(1400.0, -500.0)] * 2
    pair[1].GetDisplayNode().SetWindowLevel(777.0, 99.0)
    panel.compareSection.views = CompareViews.CompareViews()
    update()
    assert windows() == [(777.0, 99.0)] * 2
    Layout.show(Layout.ALIGNMENT_LAYOUT)
    pair[1].GetDisplayNode().SetWindowLevel(350.0, 40.0)
    update()
    assert windows() == [(777.0, 99.0), (350.0, 40.0)]
    click(panel.ui.compareLayoutButton)
    update()
    assert windows() == [(350.0, 40.0)] * 2


def test_the_difference_lies_over_the_reconstruction_only(panel, pair):
    import slicer

    click(panel.ui.compareLayoutButton)
    panel.ui.overlayComboBox.currentIndex = 1
    panel.ui.overlaySlider.value = 25.0
    settle(panel)
    wait_until(lambda: "Blue: below the CT" in panel.ui.overlayLabel.text)
    node = pair[0].GetNodeReference("Diff2CT.difference")
    assert np.allclose(slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(pair[0]) - 1)
    for above, below in logics().values():
        assert above.GetSliceCompositeNode().GetForegroundVolumeID() == node.GetID()
        assert above.GetSliceCompositeNode().GetForegroundOpacity() == pytest.approx(0.25)
        assert not below.GetSliceCompositeNode().GetForegroundVolumeID()
    assert "Blue: below the CT" in panel.ui.overlayLabel.text
    panel.ui.overlayComboBox.currentIndex = 2
    settle(panel)
    assert "needs two samples or more" in panel.ui.overlayLabel.text


def test_blue_is_below_the_ct_and_red_above_and_scales_have_the_ends_of_their_maps(panel, pair):
    import slicer
    from Diff2CTLib import Colors, CompareViews
    from Diff2CTLib.ParameterNode import Overlay

    table, node = slicer.mrmlScene.GetNodeByID(Colors.differenceColor()), pair[1]
    below, above = [0.0] * 4, [0.0] * 4
    assert table.GetColor(0, below) and table.GetColor(table.GetNumberOfColors() - 1, above)
    assert below[2] > 0.5 > below[0] and above[0] > 0.5 > above[2]
    for overlay, low, high in (
        (Overlay.DIFFERENCE, -600.0, 600.0),
        (Overlay.UNCERTAINTY, 0.0, 400.0),
        (Overlay.ERROR, 0.0, 800.0),
        (Overlay.SUPPORT, 0.0, 1.0),
    ):
        CompareViews.styleOverlay(node, overlay)
        display = node.GetDisplayNode()
        assert (display.GetWindow(), display.GetLevel()) == pytest.approx((high - low, (high + low) / 2))


def test_figures_of_a_new_scene_are_asked_for_although_its_nodes_have_the_old_ids(panel, pair):
    """A comparison that failed or was on its way when the scene was closed says nothing about the next scene."""
    import slicer
    from Diff2CTLib import SceneBridge

    from diff2ct.volume import VolumeGrid

    before = pair[0].GetID()
    panel.compareSection._comparison = None
    panel.compareSection._failed = panel.compareSection._key, "out of luck"
    slicer.mrmlScene.Clear(False)
    settle(panel)
    grid = VolumeGrid.centered(16, 16.0)
    node = SceneBridge.addHuVolume(np.zeros((16, 16, 16), np.float32), grid, "Synthetic", {})
    truth = add_ct(name="Real CT")
    assert node.GetID() == before
    panel.ui.reconstructionSelector.setCurrentNode(node)
    panel.ui.truthSelector.setCurrentNode(truth)
    settle(panel)
    wait_until(lambda: panel.compareSection._comparison is not None)


def test_a_ct_of_a_new_scene_can_be_chosen_although_it_has_the_id_of_a_reconstruction(panel, pair):
    import slicer

    before = pair[0].GetID()
    slicer.mrmlScene.Clear(False)
    truth = add_ct(name="Real CT")
    assert truth.GetID() == before
    panel.ui.truthSelector.setCurrentNode(truth)
    settle(panel)
    assert panel.parameterNode.truthNode is truth


def test_a_difference_of_an_older_scene_is_taken_over(panel, pair):
    difference = panel.logic.compare(*pair).differenceNode
    difference.SetNodeReferenceID("Diff2CT.truth", None)
    difference.SetAttribute("Diff2CT.differenceKey", None)
    pair[0].SetNodeReferenceID("Diff2CT.truth", pair[1].GetID())
    assert panel.logic.compare(*pair).differenceNode is difference
    assert panel.logic.compare(pair[0], add_ct(name="Second CT")).differenceNode is not difference


def test_there_is_one_difference_from_each_truth(panel, pair):
    import slicer

    panel.ui.overlayComboBox.currentIndex = 1
    other = add_ct(name="Second CT", center_ras=CENTER)
    for truth in (pair[1], other, pair[1]):
        panel.ui.truthSelector.setCurrentNode(truth)
        settle(panel)
        wait_until(lambda: "Blue: below the CT" in panel.ui.overlayLabel.text)
        assert panel.compareSection._overlayNode(panel.parameterNode).GetName() == (
            f"Synthetic - difference from {truth.GetName()}"
        )
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert len([node for node in nodes if "difference" in node.GetName()]) == 2


def test_no_difference_is_made_before_somebody_wants_to_see_it(panel, pair):
    assert panel.compareSection._comparison.scores and pair[0].GetNodeReference("Diff2CT.difference") is None
    panel.ui.overlayComboBox.currentIndex = 1
    wait_until(lambda: pair[0].GetNodeReference("Diff2CT.difference") is not None)
    settle(panel)


def test_a_comparison_without_a_difference_leaves_none_behind_and_shows_no_other(panel, pair):
    import slicer

    other, nodes = add_ct(name="Second CT"), len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    assert panel.logic.compare(*pair).differenceNode is not None
    comparison = panel.logic.compare(pair[0], other, withDifference=False)
    assert comparison.scores and comparison.differenceNode is None
    assert panel.logic.storedComparison(pair[0]).differenceNode is None
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) <= nodes + 1


def test_colours_of_overlays_are_saved_with_the_scene(panel, pair, tmp_path):
    """Where it is opened without Diff2CT, nothing makes them."""
    import slicer
    from Diff2CTLib import Colors, CompareViews
    from Diff2CTLib.ParameterNode import Overlay

    CompareViews.styleOverlay(pair[0], Overlay.SUPPORT)
    scene = str(tmp_path / "case.mrb")
    assert slicer.mrmlScene.WriteToMRB(scene)
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetNodeByID(Colors.supportColor()))
    slicer.mrmlScene.Clear(False)
    assert slicer.mrmlScene.ReadFromMRB(scene)
    color, table = [0.0] * 4, slicer.util.getNode("Synthetic").GetDisplayNode().GetColorNode()
    assert table.GetName() == "Diff2CT support" and table.GetColor(255, color)
    assert color == pytest.approx([0.05, 0.6, 0.2, 1.0], abs=0.01)
    settle(panel)


@pytest.fixture
def asked(panel, monkeypatch):
    """What the panel has had compared since: (truth, X-rays)."""
    calls, compare = [], panel.logic.compare

    def counted(reconstruction, truth, xrays, **options):
        calls.append((truth, list(xrays)))
        return compare(reconstruction, truth, xrays, **options)

    monkeypatch.setattr(panel.logic, "compare", counted)
    return calls


def has_figures(panel):
    return lambda: panel.ui.metricsTable.rowCount > 0


def test_figures_follow_a_truth_that_is_moved_and_wait_until_it_rests(panel, pair, asked):
    panel.ui.overlayComboBox.currentIndex = 1
    panel.ui.previewSelector.setCurrentNode(pair[1])
    settle(panel)
    wait_until(lambda: "Blue: below the CT" in panel.ui.overlayLabel.text)
    before = panel.compareSection._comparison.differenceNode
    asked.clear()
    for shift in (5.0, 10.0, 15.0):
        panel.ui.poseFeetHeadSlider.value = shift
        settle(panel)
        assert panel.ui.metricsTable.rowCount == 0 and "Computing" in panel.ui.figuresLabel.text and asked == []
    wait_until(has_figures(panel))
    assert len(asked) == 1 and panel.compareSection._comparison.differenceNode is before


def test_figures_follow_the_voxels_of_the_truth(panel, pair, asked):
    import slicer

    slicer.util.arrayFromVolume(pair[1])[0] = 7
    slicer.util.arrayFromVolumeModified(pair[1])
    settle(panel)
    assert panel.ui.metricsTable.rowCount == 0
    wait_until(has_figures(panel))
    assert len(asked) == 1


def test_a_comparison_that_failed_is_tried_again_once_the_truth_has_moved(panel, pair, asked):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Warp")
    pair[1].SetAndObserveTransformNodeID(node.GetID())
    settle(panel)
    wait_until(lambda: "not linear" in panel.ui.figuresLabel.text)
    panel.updateSoon()
    settle(panel)
    assert len(asked) == 1
    pair[1].SetAndObserveTransformNodeID(None)
    settle(panel)
    wait_until(has_figures(panel))
    assert panel.ui.figuresLabel.text == ""


def test_a_result_is_projected_onto_the_xrays_it_was_made_from(panel, xrays, pair, asked):
    from Diff2CTLib.Reconstruction import rememberXrays
    from SlicerModule.tools import add_xrays

    rememberXrays(pair[0], xrays)
    panel.parameterNode.apNode, panel.parameterNode.lateralNode = add_xrays()
    settle(panel)
    assert has_figures(panel)() and not panel.compareSection._stillTimer.active
    panel.logic.editXray(xrays[0], source_to_detector_mm=1010.0)
    panel.updateSoon()
    settle(panel)
    wait_until(lambda: asked and has_figures(panel)())
    assert asked == [(pair[1], list(xrays))]


def test_figures_that_are_known_stay_while_the_difference_is_computed(panel, pair):
    panel.ui.overlayComboBox.currentIndex = 1
    settle(panel)
    assert panel.ui.overlayLabel.text == "Computing the difference..." and panel.ui.figuresLabel.text == ""
    assert panel.ui.metricsTable.rowCount > 0 and panel.ui.copyButton.enabled and panel.ui.saveTableButton.enabled
    wait_until(lambda: "Blue: below the CT" in panel.ui.overlayLabel.text)


def test_figures_that_are_known_stay_if_the_difference_fails_and_it_is_told_why(panel, pair, monkeypatch):
    from Diff2CTLib import TemporaryFolder

    def full():
        raise OSError("No space left on device")

    monkeypatch.setattr(TemporaryFolder, "make", full)
    panel.ui.overlayComboBox.currentIndex = 1
    settle(panel)
    wait_until(lambda: panel.ui.overlayLabel.text == "The difference could not be computed.")
    assert panel.ui.metricsTable.rowCount > 0 and panel.ui.figuresLabel.text == "No space left on device"


def test_a_difference_that_was_deleted_comes_back_when_it_is_asked_for(panel, pair, asked):
    import slicer

    panel.ui.overlayComboBox.currentIndex = 1
    settle(panel)
    wait_until(lambda: "Blue: below the CT" in panel.ui.overlayLabel.text)
    panel.ui.overlayComboBox.currentIndex = 0
    slicer.mrmlScene.RemoveNode(pair[0].GetNodeReference("Diff2CT.difference"))
    asked.clear()
    panel.updateSoon()
    settle(panel)
    assert asked == [] and panel.ui.metricsTable.rowCount > 0
    panel.ui.overlayComboBox.currentIndex = 1
    settle(panel)
    assert "Computing the difference" in panel.ui.overlayLabel.text
    wait_until(lambda: "Blue: below the CT" in panel.ui.overlayLabel.text)
    panel.ui.truthSelector.setCurrentNode(None)
    settle(panel)
    assert panel.ui.overlayLabel.text == "Choose a real CT first."


def test_figures_of_an_older_scene_are_computed_anew(panel, pair, asked):
    import json

    facts = json.loads(pair[0].GetAttribute("Diff2CT.comparison"))
    del facts["key"]
    pair[0].SetAttribute("Diff2CT.comparison", json.dumps({**facts, "truthId": pair[1].GetID()}))
    settle(panel)
    assert panel.logic.storedComparison(pair[0]).truthName == "Real CT"
    wait_until(lambda: asked and has_figures(panel)())


def test_the_table_can_be_read_copied_and_saved(panel, pair, tmp_path, monkeypatch):
    import qt

    table = panel.ui.metricsTable
    texts = [[table.item(r, c).text() for c in range(4)] for r in range(table.rowCount)]
    assert texts == [
        ["Whole volume", "11", "-1", "PSNR 21.0 dB"],
        ["Body", "12", "+2", "SSIM 0.500"],
        ["Bone", "13", "-3", "Dice 0.250"],
        ["Metal", "14", "+4", "Dice -"],
    ]
    meanings = [table.item(2, column).toolTip() for column in range(4)]
    assert "Mean absolute error" in meanings[1] and "Dice: overlap of the bone" in meanings[3]
    assert meanings == [table.horizontalHeaderItem(column).toolTip() for column in range(4)]
    click(panel.ui.copyButton)
    copied = qt.QApplication.clipboard().text()
    assert "mae_hu_bone\t13" in copied and "metal_dice\t\n" in copied
    path = tmp_path / "figures.csv"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_arguments: str(path))
    click(panel.ui.saveTableButton)
    assert path.read_text().splitlines()[0] == "figure,value" and "ssim_3d_body,0.5" in path.read_text()


def test_the_agreement_with_the_xrays_is_in_the_table(panel, xrays, pair):
    import slicer

    copy = slicer.modules.volumes.logic().CloneVolume(pair[0], "Again")
    copy.RemoveAttribute("Diff2CT.comparison")
    panel.ui.reconstructionSelector.setCurrentNode(copy)
    settle(panel)
    wait_until(lambda: panel.ui.metricsTable.rowCount == 6)
    assert panel.ui.metricsTable.item(4, 0).text() == "X-ray AP"
    assert panel.ui.metricsTable.item(5, 3).text() == "error 12.3 %, corr. 0.900"


@pytest.mark.parametrize(("ncc", "said"), [(-0.35, "correlation -0.35"), (None, "Nothing of the volume shows"), (0.9, "")])
def test_figures_of_a_saved_scene_still_tell_an_xray_that_is_not_explained(panel, pair, ncc, said):
    facts = json.loads(pair[0].GetAttribute("Diff2CT.comparison"))
    facts["reprojection"] = [{"view": "LL", "relative_l2": 0.5, "ncc": ncc}]
    pair[0].SetAttribute("Diff2CT.comparison", json.dumps(facts))
    settle(panel)
    words = panel.ui.figuresLabel.text
    assert (words.startswith("Warning: ") and said in words and "lateral X-ray" in words) if said else words == ""
    assert panel.ui.compareSection.text.endswith("does not explain its X-rays") == bool(said)


def test_a_comparison_that_fails_says_why_once(panel, pair):
    panel.logic.service._command = child("service", "broken")
    panel.logic.service.stop()
    panel.ui.truthSelector.setCurrentNode(add_ct(name="Other"))
    settle(panel)
    wait_until(lambda: panel.ui.figuresLabel.text.endswith("out of luck"))
    assert panel.ui.metricsTable.rowCount == 0 and panel.ui.copyButton.enabled is False


def test_a_comparison_that_failed_for_want_of_disk_is_tried_again_at_the_next_visit(panel, pair, monkeypatch):
    with monkeypatch.context() as patch:

        def fail():
            raise OSError(28, "No space left on device")

        patch.setattr("Diff2CTLib.TemporaryFolder.make", fail)
        panel.ui.truthSelector.setCurrentNode(add_ct(name="Other"))
        settle(panel)
        wait_until(lambda: "No space left on device" in panel.ui.figuresLabel.text, seconds=60)
    panel.exit()
    panel.enter()
    settle(panel)
    wait_until(lambda: panel.ui.metricsTable.rowCount > 0, seconds=60)
    assert panel.ui.figuresLabel.text == ""


@pytest.fixture
def export(panel, monkeypatch):
    """Clicks Export CT... and answers the dialog with a path and the filter that has a word in it."""

    def answer(path, word="NRRD"):
        from PySide6.QtWidgets import QFileDialog

        def chosen(dialog):
            (name_filter,) = [name for name in dialog.nameFilters() if word in name]
            dialog.selectNameFilter(name_filter)
            monkeypatch.setattr(QFileDialog, "selectedFiles", lambda _dialog: [str(path)])
            return 1

        monkeypatch.setattr(QFileDialog, "exec", chosen)
        monkeypatch.setattr(QFileDialog, "exec_", chosen, raising=False)
        click(panel.ui.exportButton)

    return answer


@pytest.mark.parametrize("name", ["out.nrrd", "out.nii.gz", "out.mha", "dicom"])
def test_an_export_is_marked_and_in_place(panel, pair, tmp_path, export, name):
    from Diff2CTLib import SceneBridge

    from diff2ct.volume_io import read_ct

    path = tmp_path / name
    export(path, "DICOM" if name == "dicom" else "NRRD")
    assert panel.messages == []
    ct = read_ct(path)
    assert np.allclose(ct.grid.ijk_to_lps, SceneBridge.gridFromNode(pair[0]).ijk_to_lps)
    assert np.allclose(ct.hu, SceneBridge.voxels(pair[0]), atol=0.5)
    if name == "dicom":
        import pydicom

        header = pydicom.dcmread(next(path.glob("*.dcm")))
        assert "not for diagnosis" in header.SeriesDescription and header.ImageType[0] == "DERIVED"
    elif name == "out.nii.gz":
        assert "not for diagnosis" in (tmp_path / "out.nii.gz.json").read_text()
    else:
        assert b"not for diagnosis" in path.read_bytes()[:4000]


def test_an_export_into_a_folder_that_is_not_there_says_so(panel, pair, tmp_path, export):
    export(tmp_path / "no" / "x.nrrd")
    assert len(panel.messages) == 1 and "folder does not exist" in panel.messages[0]


@pytest.mark.parametrize("name", ["out", "Mr. Smith", "case 2024.11.28"])
@pytest.mark.parametrize(("word", "suffix"), [("NRRD", ".nrrd"), ("NIfTI", ".nii.gz"), ("MetaImage", ".mha")])
def test_a_name_without_suffix_gets_that_of_the_filter(panel, pair, tmp_path, export, word, suffix, name):
    export(tmp_path / name, word)
    assert panel.messages == [] and (tmp_path / f"{name}{suffix}").is_file() and not (tmp_path / name).exists()
    export(tmp_path / name, word)  # the dialog has asked about the name without suffix only
    assert len(panel.messages) == 1 and "exists already" in panel.messages[0]


def test_an_existing_file_that_was_chosen_is_replaced(panel, pair, tmp_path, export):
    (tmp_path / "out.nrrd").write_text("old")
    export(tmp_path / "out.nrrd")
    assert panel.messages == [] and (tmp_path / "out.nrrd").stat().st_size > 1000


def listed(selector):
    return [selector.nodeFromIndex(index).GetName() for index in range(selector.nodeCount())]


def test_ground_truth_is_nothing_that_diff2ct_has_made_but_the_sample(panel, xrays, pair):
    import slicer
    from Diff2CTLib import SceneBridge

    grid = SceneBridge.gridFromNode(pair[0])
    SceneBridge.addVolume(np.ones((16, 16, 16), np.float32), grid, "expected error")
    SceneBridge.addHuVolume(np.zeros((16, 16, 16), np.float32), grid, "Phantom CT", {"Source": "diff2ct.phantom"})
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    panel.updateSoon()
    settle(panel)
    assert sorted(listed(panel.ui.truthSelector)) == ["Phantom CT", "Real CT"]
    assert "Labels" not in listed(panel.ui.previewSelector) and "Synthetic" in listed(panel.ui.previewSelector)
    for made in (lambda: pair[0], add_reconstruction):  # one that is left out of the list already, and one that is not yet
        panel.parameterNode.truthNode = made()
        settle(panel)
        assert panel.parameterNode.truthNode is None and panel.ui.truthSelector.currentNode() is None


def test_a_volume_that_diff2ct_did_not_make_is_neither_listed_nor_exported(panel, pair, tmp_path):
    assert listed(panel.ui.reconstructionSelector) == ["Synthetic"]
    with pytest.raises(ValueError, match="Real CT was not made by Diff2CT"):
        panel.logic.exportVolume(pair[1], tmp_path / "x.nrrd")
    assert not (tmp_path / "x.nrrd").exists()


def test_bone_in_3d(panel, pair):
    import slicer
    from Diff2CTLib import Layout

    click(panel.ui.boneCheckBox)
    settle(panel)
    display = slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(pair[0])
    assert display.GetVisibility()
    assert slicer.app.layoutManager().layout == Layout.REVIEW_LAYOUT
    click(panel.ui.boneCheckBox)
    settle(panel)
    assert not display.GetVisibility()


def test_the_comparison_comes_back_when_bone_in_3d_is_switched_off(panel, pair):
    from Diff2CTLib import Layout

    for before, after in (
        (Layout.COMPARE_LAYOUT, Layout.COMPARE_LAYOUT),
        (Layout.ALIGNMENT_LAYOUT, Layout.REVIEW_LAYOUT),  # it was not looked at
    ):
        Layout.show(before)
        click(panel.ui.boneCheckBox)
        assert Layout.isShown(Layout.REVIEW_LAYOUT)
        click(panel.ui.boneCheckBox)
        assert Layout.isShown(after)
    Layout.show(Layout.COMPARE_LAYOUT)
    click(panel.ui.boneCheckBox)
    Layout.show(Layout.ALIGNMENT_LAYOUT)  # somebody went elsewhere meanwhile
    click(panel.ui.boneCheckBox)
    assert Layout.isShown(Layout.ALIGNMENT_LAYOUT)


def rendered(node):
    import slicer

    display = slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(node)
    return display is not None and bool(display.GetVisibility())


def test_the_bone_of_another_volume_takes_the_place_of_the_first(panel, pair):
    import slicer

    click(panel.ui.boneCheckBox)
    settle(panel)
    second = slicer.modules.volumes.logic().CloneVolume(pair[0], "Second")
    panel.ui.reconstructionSelector.setCurrentNode(second)
    settle(panel)
    assert rendered(second) and not rendered(pair[0])
    slicer.mrmlScene.RemoveNode(second)
    panel.ui.reconstructionSelector.setCurrentNode(pair[0])
    settle(panel)
    assert rendered(pair[0])


def test_a_rendering_that_somebody_else_has_switched_on_stays(panel, pair):
    import slicer

    slicer.modules.volumerendering.logic().CreateDefaultVolumeRenderingNodes(pair[0]).SetVisibility(True)
    panel.exit()
    panel.enter()
    settle(panel)
    assert not panel.ui.boneCheckBox.checked and rendered(pair[0])
