"""The scene and the module's life: saved and opened again, closed, undone, reloaded, imported quickly and without torch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from SlicerModule.tools import add_ct, click, settle, wait_until

TESTING = Path(__file__).resolve().parents[1]
EXTENSION = TESTING.parent / "Diff2CTExtension"


def test_a_saved_scene_opens_with_everything_as_it_was(panel, xrays, tmp_path):
    import slicer
    from Diff2CTLib import Pose, SceneBridge
    from Diff2CTLib.ParameterNode import HuPreset, Overlay, PreviewMode

    ct = add_ct(name="Prior")
    panel.ui.previewSelector.setCurrentNode(ct)
    panel.ui.truthSelector.setCurrentNode(ct)
    panel.ui.poseFeetHeadSlider.value = 12.0
    panel.ui.previewModeComboBox.currentIndex = 2
    panel.ui.huPresetComboBox.currentIndex = 1
    panel.ui.overlayComboBox.currentIndex = 1
    panel.ui.stepsSpinBox.value = 9
    panel.ui.samplesSpinBox.value = 2
    panel.ui.apSourceToDetector.value = 1111.0
    settle(panel)
    click(panel.ui.reconstructButton)
    wait_until(lambda: panel.logic.run is None)
    wait_until(lambda: panel.compareSection._comparison is not None and panel.compareSection._comparison.differenceNode)
    settle(panel)
    rows = panel.ui.metricsTable.rowCount
    before = SceneBridge.xrayFromNode(panel.parameterNode.apNode)
    hu = slicer.util.arrayFromVolume(panel.parameterNode.reconstructionNode).copy()
    path = str(tmp_path / "case.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)

    slicer.mrmlScene.Clear(False)
    settle(panel)
    assert panel.parameterNode.apNode is None and panel.ui.stepsSpinBox.value == 0
    assert slicer.mrmlScene.ReadFromMRB(path)
    settle(panel)
    pn = panel.parameterNode
    assert (pn.steps, pn.samples, pn.previewMode, pn.huPreset) == (9, 2, PreviewMode.EDGES, HuPreset.SOFT_TISSUE)
    assert pn.overlay is Overlay.DIFFERENCE
    assert panel.ui.stepsSpinBox.value == 9 and panel.ui.previewModeComboBox.currentIndex == 2
    after = SceneBridge.xrayFromNode(pn.apNode)
    assert after.geometry == before.geometry and after.geometry.source_to_detector_mm == 1111
    assert np.array_equal(after.radiograph.line_integral, before.radiograph.line_integral)
    assert pn.previewNode.GetName() == "Prior" and pn.previewNode.GetTransformNodeID() == pn.poseNode.GetID()
    assert Pose.read(pn.poseNode, np.zeros(3))[2] == pytest.approx(12.0)
    assert np.array_equal(slicer.util.arrayFromVolume(pn.reconstructionNode), hu)
    assert pn.reconstructionNode.GetNodeReference("Diff2CT.sd") is not None
    assert pn.reconstructionNode.GetNodeReference("Diff2CT.difference") is not None
    assert panel.ui.metricsTable.rowCount == rows
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLNode")]
    assert len([name for name in names if name == "Diff2CT cube"]) == 1


@pytest.fixture
def new_session(panel, monkeypatch, tmp_path):
    """The layout node of a layout manager as Slicer has it after its start."""
    import slicer

    from host import app, layout
    from host.pythonqt import alive

    manager = layout.qSlicerLayoutManager(None, *app._make_scene_and_logic(str(tmp_path)))
    monkeypatch.setattr(alive(slicer.app), "_layouts", manager)
    return manager.layoutLogic().GetLayoutNode()


def test_a_scene_saved_in_a_layout_of_the_module_opens_with_its_views(new_session):
    import slicer
    from Diff2CTLib import Layout

    from host.pythonqt import alive

    alive(slicer.app).startupCompleted.emit()
    for number in (Layout.ALIGNMENT_LAYOUT, Layout.COMPARE_LAYOUT, Layout.REVIEW_LAYOUT):
        new_session.SetViewArrangement(number)  # what the saved node does
        assert "<view" in new_session.GetCurrentLayoutDescription()


def test_a_layout_that_came_without_views_gets_them_when_it_is_asked_for(new_session):
    from Diff2CTLib import Layout

    new_session.SetViewArrangement(Layout.ALIGNMENT_LAYOUT)
    assert new_session.GetCurrentLayoutDescription() == ""
    Layout.show(Layout.ALIGNMENT_LAYOUT)
    assert Layout.isShown(Layout.ALIGNMENT_LAYOUT) and "<view" in new_session.GetCurrentLayoutDescription()
    assert Layout.sliceLogic(Layout.XRAY_VIEWS["ap"]) is not None


def test_a_closed_scene_leaves_an_empty_panel(panel, xrays):
    import slicer

    for _round in range(3):
        slicer.mrmlScene.Clear(False)
        settle(panel)
        assert panel.ui.xraySection.text == "X-rays: none yet" and panel.ui.apSelector.currentNode() is None


def test_nothing_is_observed_after_the_panel_was_left(panel, xrays):
    panel.exit()
    xrays[0].Modified()
    assert not panel._updateTimer.active
    panel.enter()
    settle(panel)
    xrays[0].Modified()
    assert panel._updateTimer.active
    settle(panel)


def test_undo_of_a_removed_node_brings_it_back_to_the_panel(panel, xrays):
    import slicer

    scene = slicer.mrmlScene
    scene.SetUndoOn()
    try:
        xrays[0].SetUndoEnabled(True)
        scene.SaveStateForUndo()
        panel.ui.apSourceToDetector.value = 1200.0
        settle(panel)
        scene.Undo()
        settle(panel)
        node = panel.parameterNode.apNode
        assert node is not None and panel.ui.apSourceToDetector.value == 1000
    finally:
        scene.ClearUndoStack()
        scene.SetUndoOff()


def test_many_changes_make_one_update(panel, xrays, monkeypatch):
    settle(panel)
    calls = []
    monkeypatch.setattr(panel.xraySection, "update", lambda parameterNode: calls.append(1))
    for value in range(50):
        panel.parameterNode.seed = value
        xrays[0].Modified()
    settle(panel)
    assert len(calls) == 1


def test_a_section_that_fails_says_so_once_and_leaves_the_others_alone(panel, xrays, monkeypatch, caplog):
    works = panel.alignmentSection.update

    def fail(_parameterNode):
        raise KeyError("beam")

    monkeypatch.setattr(panel.alignmentSection, "update", fail)
    for name in ("one", "two"):
        panel.parameterNode.truthNode = add_ct(name=name)
        settle(panel)
        assert panel.ui.alignmentSection.text == "Alignment preview: internal error, see the log of Slicer ('beam')"
        assert panel.ui.compareSection.text == "Compare: no reconstruction yet" and panel.ui.reconstructButton.enabled
    assert [record.exc_info[0] for record in caplog.records if "internal error" in record.message] == [KeyError]
    monkeypatch.setattr(panel.alignmentSection, "update", works)
    panel.updateSoon()
    settle(panel)
    assert "internal error" not in panel.ui.alignmentSection.text
    panel.failures.clear()


def test_a_scene_is_shown_when_all_of_it_is_there(panel, xrays, tmp_path):
    """While it is opened, an X-ray may not have its image yet: that is no reason to take it out."""
    import slicer

    path = str(tmp_path / "case.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(False)
    settle(panel)
    looks = []

    def look(_caller, _event):
        panel.updateSoon()
        settle(panel)
        looks.append(panel.parameterNode.apNode)

    tag = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, look)
    try:
        assert slicer.mrmlScene.ReadFromMRB(path)
    finally:
        slicer.mrmlScene.RemoveObserver(tag)
    assert any(node is not None for node in looks)
    settle(panel)
    assert panel.ui.xraySection.text == "X-rays: fit"


def test_reload_gives_a_working_panel(module, panel, xrays):
    import slicer
    from Diff2CTLib import SyntheticNotice as OldNotice

    import host

    old = panel
    old.onReload()
    new = module.widgetRepresentation().self()
    assert new is not old and new.parameterNode is not None
    settle(new)
    assert new.parameterNode.apNode.GetID() == xrays[0].GetID()
    assert new.ui.reconstructButton.enabled
    from Diff2CTLib import SyntheticNotice
    from Diff2CTLib.CompareSection import CompareViews
    from Diff2CTLib.ParameterNode import Overlay

    assert CompareViews.Overlay is Overlay  # no module of before is left among the new ones
    assert not OldNotice.notice.Observations and SyntheticNotice.notice.Observations
    assert host.errors == []
    new.logic.close()
    slicer.mrmlScene.Clear(False)
    settle(new)


def test_sample_data_is_registered(module, sample_data):
    from Diff2CTLib import SampleCase

    SampleCase.register()
    (source,) = [source for sources in sample_data.SampleDataLogic.sources.values() for source in sources]
    assert source.sampleName == SampleCase.SAMPLE_NAME and callable(source.customDownloader)
    assert Path(source.thumbnailFileName).is_file()


def test_a_sample_that_cannot_be_made_is_told_in_a_window(panel, sample_data, monkeypatch):
    """Slicer calls customDownloader from a signal, which prints what it raises to the Python console."""
    from Diff2CTLib import Dependencies, SampleCase

    def decline():
        raise RuntimeError("Nothing was installed.")

    monkeypatch.setattr(Dependencies, "install", decline)
    SampleCase.register()
    source = sample_data.SampleDataLogic.sourceForSampleName(SampleCase.SAMPLE_NAME)
    with pytest.raises(RuntimeError, match="Nothing was installed"):
        source.customDownloader(source)
    assert panel.messages == ["Nothing was installed."]


def test_the_module_is_imported_without_torch():
    """In a fresh process, after everything that Slicer has loaded before; `measure.py` tells how long it takes."""
    code = f"""
import sys
sys.path[:0] = [{str(TESTING)!r}, {str(EXTENSION)!r}]
import host
host.start()
import numpy, slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper, slicer.util, slicer.i18n, vtk.util.numpy_support
before = set(sys.modules)
import Diff2CT
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print("torch" in sys.modules, "SimpleITK" in new, "pydicom" in new)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].split() == ["False"] * 3
