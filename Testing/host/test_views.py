"""Layouts, slice offsets in mm, linked views and pictures, with Slicer's real layout and slice logics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import host

ORIENTATIONS = ("Axial", "Coronal", "Sagittal")
LAYOUT = 901


def view_xml(tag: str, orientation: str) -> str:
    properties = {"orientation": orientation, "viewlabel": tag, "viewcolor": "#F34A33"}
    inside = "".join(f'<property name="{name}" action="default">{value}</property>' for name, value in properties.items())
    return f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">{inside}</view></item>'


@pytest.fixture
def layout_manager(application: Any) -> Any:
    """Two rows of three slice views and a 3D view."""
    rows = ["".join(view_xml(row + name, name) for name in ORIENTATIONS) for row in "AB"]
    three_d = '<item><view class="vtkMRMLViewNode" singletontag="1"/></item>'
    items = "".join(f'<item><layout type="horizontal">{row}</layout></item>' for row in (*rows, three_d))
    manager = application.layoutManager()
    node = manager.layoutLogic().GetLayoutNode()
    node.AddLayoutDescription(
        LAYOUT, f'<layout type="vertical">{items}</layout>'
    )  # False, and harmless, if it is there already
    manager.setLayout(LAYOUT)
    return manager


@pytest.fixture
def volume(application: Any) -> Any:
    """A bright block on the patient's left, in front and up. Spacing 2, 3, 4 mm, size 20, 30, 40 voxels."""
    import slicer

    array = np.full((40, 30, 20), -1000, np.int16)  # k, j, i
    array[25:35, 2:10, 12:18] = 1000  # i counts to the left, j to the back, k to the head
    ijk_to_ras = np.diag([-2.0, -3.0, 4.0, 1.0])
    ijk_to_ras[:3, 3] = (19, 43.5, -78)  # centred on the origin
    node = slicer.util.addVolumeFromArray(array, ijk_to_ras, "CT")
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevel(2000, 0)
    return node


def show(layout_manager: Any, volume: Any) -> None:
    for name in layout_manager.sliceViewNames():
        logic = layout_manager.sliceWidget(name).sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        logic.FitSliceToBackground()


def test_layout_makes_its_views(layout_manager: Any) -> None:
    names = [row + name for row in "AB" for name in ORIENTATIONS]
    assert layout_manager.layout == LAYOUT
    assert set(names) <= set(layout_manager.sliceViewNames())
    for name in names:
        node = layout_manager.sliceWidget(name).mrmlSliceNode()
        assert (node.GetLayoutName(), node.GetOrientation()) == (name, name[1:])
    assert layout_manager.sliceWidget("A") is None
    count = layout_manager.threeDViewCount
    assert count >= 1 and layout_manager.threeDWidget(count - 1) is not None
    assert layout_manager.threeDWidget(count) is None


def test_unknown_layout_is_conventional(layout_manager: Any) -> None:
    import slicer

    layout_manager.setLayout(12345)
    assert layout_manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView


def test_a_layout_that_is_set_already_is_not_set_again(layout_manager: Any) -> None:
    """So one that was unknown when a scene brought its number stays without views."""
    node = layout_manager.layoutLogic().GetLayoutNode()
    node.SetViewArrangement(LAYOUT + 1)
    node.AddLayoutDescription(LAYOUT + 1, "<layout/>")
    layout_manager.setLayout(LAYOUT + 1)
    assert (layout_manager.layout, node.GetCurrentLayoutDescription()) == (LAYOUT + 1, "")


def test_offsets_are_mm_along_the_normal(layout_manager: Any, volume: Any) -> None:
    show(layout_manager, volume)
    for orientation, axis, bounds in zip(ORIENTATIONS, (2, 1, 0), ((-80, 80), (-45, 45), (-20, 20)), strict=True):
        widget = layout_manager.sliceWidget("A" + orientation)
        slider = widget.sliceController().sliceOffsetSlider()
        assert (slider.minimum, slider.maximum) == pytest.approx(bounds, abs=0.01)
        slider.value = 7.5
        assert widget.sliceLogic().GetSliceOffset() == pytest.approx(7.5)
        slice_to_ras = widget.mrmlSliceNode().GetSliceToRAS()
        assert abs(slice_to_ras.GetElement(axis, 2)) == 1  # the sign says which way the offset counts: sagittal to the left
        assert slice_to_ras.GetElement(axis, 3) == pytest.approx(7.5 * slice_to_ras.GetElement(axis, 2))
        widget.sliceLogic().SetSliceOffset(-5)
        assert slider.value == pytest.approx(-5)


def test_jump_moves_all_views(layout_manager: Any, volume: Any) -> None:
    show(layout_manager, volume)
    for name in layout_manager.sliceViewNames():
        layout_manager.sliceWidget(name).mrmlSliceNode().JumpSliceByCentering(1, 2, 3)
    for name, axis, expected in zip(ORIENTATIONS, (2, 1, 0), (3, 2, 1), strict=True):
        slice_to_ras = layout_manager.sliceWidget("B" + name).mrmlSliceNode().GetSliceToRAS()
        assert slice_to_ras.GetElement(axis, 3) == pytest.approx(expected)


def test_linked_views_move_together(layout_manager: Any, volume: Any) -> None:
    show(layout_manager, volume)
    first, second, other = (layout_manager.sliceWidget(name) for name in ("AAxial", "BAxial", "BCoronal"))
    for widget in (first, second, other):
        widget.mrmlSliceCompositeNode().SetLinkedControl(True)
    before = other.sliceLogic().GetSliceOffset()
    first.sliceController().sliceOffsetSlider().value = 11
    assert second.sliceLogic().GetSliceOffset() == pytest.approx(11)
    assert other.sliceLogic().GetSliceOffset() == before


def test_the_slice_is_cut_where_the_offset_says(layout_manager: Any, volume: Any) -> None:
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    show(layout_manager, volume)
    logic = layout_manager.sliceWidget("AAxial").sliceLogic()
    block = slicer.util.arrayFromVolume(volume) == 1000
    for offset, k in ((-40, 10), (40, 29)):
        logic.SetSliceOffset(offset)
        reslice = logic.GetBackgroundLayer().GetReslice()
        reslice.Update()
        cut = vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars())
        assert (cut == 1000).any() == block[k].any()


def test_views_are_made_without_opengl(layout_manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from host import rendering

    monkeypatch.setattr(rendering, "has_opengl", lambda: False)
    view = layout_manager.sliceWidget("ACoronal").sliceView()
    assert view.mrmlSliceNode().GetLayoutName() == "ACoronal"
    with pytest.raises(RuntimeError, match="no OpenGL"):
        rendering.Picture()


@pytest.fixture
def opengl() -> None:
    if not host.has_opengl():
        pytest.skip("no OpenGL for pictures")


def pixels(path: Path) -> np.ndarray:
    from PySide6.QtGui import QImage

    image = QImage(str(path)).convertToFormat(QImage.Format.Format_RGB888)
    raw = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return raw[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()  # the pixels die with the QImage


@pytest.mark.usefixtures("opengl")
def test_slice_picture_has_the_patient_the_right_way_round(layout_manager: Any, volume: Any, tmp_path: Path) -> None:
    """Coronal: the patient's left on the right of the screen, head up."""
    show(layout_manager, volume)
    widget = layout_manager.sliceWidget("ACoronal")
    widget.sliceLogic().SetSliceOffset(25)  # y of RAS grows to the front
    host.screenshot(widget.sliceView(), tmp_path / "coronal.png", 300, 300)
    image = pixels(tmp_path / "coronal.png")
    rows, columns = np.nonzero(image.min(axis=2) > 200)
    assert image.shape == (300, 300, 3)
    assert rows.mean() < 140
    assert columns.mean() > 160


@pytest.mark.usefixtures("opengl")
def test_a_text_at_the_upper_edge_is_drawn_there(layout_manager: Any, tmp_path: Path) -> None:
    import vtk

    view = layout_manager.sliceWidget("ACoronal").sliceView()
    view.cornerAnnotation().SetText(vtk.vtkCornerAnnotation.UpperEdge, "Notice")
    host.screenshot(view, tmp_path / "text.png", 300, 300)
    view.cornerAnnotation().ClearAllTexts()
    rows, columns = np.nonzero(pixels(tmp_path / "text.png").min(axis=2) > 200)
    assert 0 < rows.max() < 40
    assert abs(columns.mean() - 150) < 15


@pytest.mark.usefixtures("opengl")
def test_3d_picture(layout_manager: Any, tmp_path: Path) -> None:
    import slicer
    import vtk

    cube = vtk.vtkCubeSource()
    cube.SetBounds(-50, 50, -50, 50, -50, 50)
    cube.Update()
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    model.SetAndObservePolyData(cube.GetOutput())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(1, 0, 0)
    view = layout_manager.threeDWidget(0).threeDView()
    view.resetCamera()
    host.screenshot(view, tmp_path / "3d.png", 200, 200)
    red, green, blue = np.moveaxis(pixels(tmp_path / "3d.png").astype(int), 2, 0)
    assert ((red > 100) & (red > 2 * green) & (red > 2 * blue)).sum() > 200


@pytest.mark.usefixtures("opengl")
def test_plot_picture(application: Any, tmp_path: Path) -> None:
    import slicer

    manager = application.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView)
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    slicer.util.updateTableFromArray(table, (np.arange(20.0), np.arange(20.0) ** 2), ["x", "y"])
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "profile")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetColor(1, 0, 0)
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    widget = manager.plotWidget(0)
    widget.mrmlPlotViewNode().SetPlotChartNodeID(chart.GetID())
    host.screenshot(widget.plotView(), tmp_path / "plot.png", 300, 200)
    red, green, _ = np.moveaxis(pixels(tmp_path / "plot.png").astype(int), 2, 0)
    assert ((red > 200) & (green < 100)).sum() > 100


@pytest.mark.usefixtures("opengl")
def test_window_with_panel_and_views(layout_manager: Any, volume: Any, tmp_path: Path) -> None:
    import qt

    show(layout_manager, volume)
    host.screenshot(host.window(qt.QLabel("panel"), 800, 600, panel_width=200), tmp_path / "window.png")
    image = pixels(tmp_path / "window.png")
    assert image.shape == (600, 800, 3)
    assert (image[:, 200:].max(axis=2) < 10).mean() > 0.1  # the black of the slice views
