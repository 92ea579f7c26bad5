"""The stand-ins for CTK and qMRML widgets, driven as a user does it, and the .ui loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PySide6", reason="the Slicer test host needs the package PySide6-Essentials")
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest

pytestmark = pytest.mark.usefixtures("application")


def click(wrapper: Any, position: QPoint | None = None) -> None:
    arguments = () if position is None else (position,)
    QTest.mouseClick(wrapper._qt, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, *arguments)


@pytest.fixture
def section() -> Any:
    """A collapsible section with a button and a hidden label."""
    import ctk
    import qt

    button = ctk.ctkCollapsibleButton()
    button.text = "Section"
    layout = qt.QVBoxLayout(button)
    for child in (qt.QPushButton("inside"), qt.QLabel("hidden")):
        layout.addWidget(child)
    button.children()[-1].visible = False
    button.show()
    yield button
    button.delete()


def test_section_collapses_at_its_headline_only(section: Any) -> None:
    inside, hidden = section.findChild("QPushButton"), section.findChild("QLabel")
    seen: list[bool] = []
    section.connect("contentsCollapsed(bool)", seen.append)
    click(section, QPoint(20, section.height - 4))
    assert section.collapsed is False
    click(section, QPoint(20, 5))
    assert (section.collapsed, section.checked, inside.visible, hidden.visible) == (True, False, False, False)
    click(section, QPoint(20, 5))
    assert (section.collapsed, inside.visible, hidden.visible) == (False, True, False)
    assert seen == [True, False]


def test_what_is_shown_in_a_collapsed_section_appears_when_it_opens(section: Any) -> None:
    hidden = section.findChild("QLabel")
    section.collapsed = True
    hidden.visible = True
    assert hidden.visible is False
    section.collapsed = False
    assert hidden.visible is True


def test_slider_and_spin_box_have_one_value() -> None:
    import ctk

    slider, seen = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.singleStep, slider.decimals, slider.suffix = -10, 10, 0.5, 1, " mm"
    slider.connect("valueChanged(double)", seen.append)
    spin_box, bar = slider.findChild("QDoubleSpinBox"), slider.findChild("QSlider")
    slider.value = 2.5
    assert (spin_box.value, spin_box.suffix, bar.value) == (2.5, " mm", 25)
    QTest.keyClick(bar._qt, Qt.Key.Key_Right)
    assert slider.value == 3.0
    QTest.keyClick(spin_box._qt, Qt.Key.Key_Up)
    assert slider.value == 3.5
    slider.value = 99
    assert slider.value == 10
    assert seen == [2.5, 3.0, 3.5, 10]


def test_a_value_between_two_steps_is_kept() -> None:
    import ctk

    slider = ctk.ctkSliderWidget()
    slider.value = 2.25
    assert slider.value == 2.25


def test_double_spin_box_is_a_widget_around_one() -> None:
    import ctk

    spin_box, seen = ctk.ctkDoubleSpinBox(), []
    spin_box.connect("valueChanged(double)", seen.append)
    spin_box.maximum = 50
    spin_box.setValue(70)
    assert (spin_box.value, seen, spin_box.inherits("QDoubleSpinBox")) == (50, [50], False)


def test_path_line_edit(tmp_path: Path) -> None:
    import ctk

    edit, paths, valid = ctk.ctkPathLineEdit(), [], []
    edit.filters = ctk.ctkPathLineEdit.Files
    edit.connect("currentPathChanged(QString)", paths.append)
    edit.connect("validInputChanged(bool)", valid.append)
    edit.currentPath = str(tmp_path)
    assert valid == []
    (tmp_path / "ap.dcm").touch()
    edit.currentPath = str(tmp_path / "ap.dcm")
    assert valid == [True]
    assert paths == [str(tmp_path), str(tmp_path / "ap.dcm")]


@pytest.fixture
def node_selector() -> Any:
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.addEnabled = selector.removeEnabled = False
    yield selector
    selector.delete()


def choose(selector: Any, text: str) -> None:
    """Choose an entry as with the mouse."""
    combo_box = selector.findChild("QComboBox")
    row = combo_box.findText(text)
    assert row >= 0, f"no {text!r} in {[combo_box.itemText(i) for i in range(combo_box.count)]}"
    combo_box.setCurrentIndex(row)
    combo_box.activated(row)


def test_node_selector_follows_the_scene(node_selector: Any) -> None:
    import slicer

    combo_box, seen = node_selector.findChild("QComboBox"), []
    assert combo_box.enabled is False
    node_selector.setMRMLScene(slicer.mrmlScene)
    node_selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    assert node_selector.currentNode() is None
    first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "first")
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "second")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "no volume")
    assert node_selector.currentNode() is first  # without "None" the first node is taken
    assert node_selector.nodeCount() == 2
    choose(node_selector, "second")
    assert node_selector.currentNodeID == second.GetID()
    second.SetName("renamed")
    assert combo_box.currentText == "renamed"
    slicer.mrmlScene.RemoveNode(second)
    assert node_selector.currentNode() is first
    slicer.mrmlScene.Clear(False)
    assert node_selector.currentNode() is None
    assert seen == [first, second, first, None]


def test_node_selector_with_none(node_selector: Any) -> None:
    import slicer

    node_selector.noneEnabled, node_selector.noneDisplay = True, "Choose an X-ray"
    node_selector.setMRMLScene(slicer.mrmlScene)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "volume")
    assert node_selector.currentNode() is None
    assert node_selector.findChild("QComboBox").currentText == "Choose an X-ray"
    choose(node_selector, "volume")
    assert node_selector.currentNode() is volume
    choose(node_selector, "Choose an X-ray")
    assert node_selector.currentNode() is None


def test_node_selector_filters(node_selector: Any) -> None:
    import slicer

    node_selector.setMRMLScene(slicer.mrmlScene)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    hidden = slicer.vtkMRMLScalarVolumeNode()
    hidden.SetHideFromEditors(True)
    slicer.mrmlScene.AddNode(hidden)
    node_selector.showChildNodeTypes = False
    assert node_selector.nodeCount() == 0
    node_selector.showChildNodeTypes, node_selector.showHidden = True, True
    assert node_selector.nodeCount() == 2
    node_selector.sortFilterProxyModel().hiddenNodeIDs = [hidden.GetID()]
    assert node_selector.nodeCount() == 1
    node_selector.sortFilterProxyModel().hiddenNodeIDs = []
    node_selector.addAttribute("vtkMRMLScalarVolumeNode", "Diff2CT.synthetic", "1")
    assert node_selector.nodeCount() == 0
    hidden.SetAttribute("Diff2CT.synthetic", "1")
    node_selector.addAttribute("vtkMRMLScalarVolumeNode", "Diff2CT.synthetic", "1")
    assert node_selector.nodeFromIndex(0) is hidden


def test_the_node_before_takes_the_place_of_a_chosen_one_that_is_filtered_out(node_selector: Any) -> None:
    import slicer

    node_selector.noneEnabled = True
    node_selector.setMRMLScene(slicer.mrmlScene)
    first, second = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("first", "second"))
    node_selector.setCurrentNode(second)
    for hidden, current in (([second.GetID()], first), ([first.GetID()], None)):
        node_selector.sortFilterProxyModel().hiddenNodeIDs = hidden
        assert node_selector.currentNode() is current


def test_node_selector_creates_and_deletes(node_selector: Any) -> None:
    import slicer

    node_selector.addEnabled = node_selector.removeEnabled = True
    node_selector.nodeTypes, node_selector.baseName = ["vtkMRMLLinearTransformNode"], "Pose"
    node_selector.setMRMLScene(slicer.mrmlScene)
    choose(node_selector, "Create new LinearTransform")
    assert node_selector.currentNode().GetName() == "Pose"
    choose(node_selector, "Delete current LinearTransform")
    assert node_selector.currentNode() is None


def test_a_deleted_widget_lets_the_scene_go(node_selector: Any) -> None:
    import slicer

    import host

    other = slicer.qMRMLNodeComboBox()
    other.setMRMLScene(slicer.mrmlScene)
    other.delete()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert host.errors == []


UI = """<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="layout">
<item><widget class="{cls}" name="selector">
<property name="{property}" {stdset}><{kind}>{value}</{kind}></property></widget></item>
<item><widget class="ctkPathLineEdit" name="path"><property name="filters">
<set>ctkPathLineEdit::Files|ctkPathLineEdit::Readable</set></property></widget></item>
</layout></widget>
<connections><connection><sender>Panel</sender><signal>{signal}</signal>
<receiver>selector</receiver><slot>{slot}</slot></connection></connections></ui>"""
GOOD = {
    "cls": "qMRMLNodeComboBox",
    "property": "noneEnabled",
    "stdset": "",
    "kind": "bool",
    "value": "true",
    "signal": "mrmlSceneChanged(vtkMRMLScene*)",
    "slot": "setMRMLScene(vtkMRMLScene*)",
}


def load_ui(tmp_path: Path, **changes: str) -> Any:
    import slicer

    path = tmp_path / "panel.ui"
    path.write_text(UI.format(**{**GOOD, **changes}))
    return slicer.util.loadUI(str(path))


def test_ui_file(tmp_path: Path) -> None:
    import slicer

    panel = load_ui(tmp_path)
    ui = slicer.util.childWidgetVariables(panel)
    assert type(panel) is slicer.qMRMLWidget
    assert ui.selector.noneEnabled is True
    assert ui.path.filters == 0x12
    assert ui.selector.mrmlScene() is None
    panel.setMRMLScene(slicer.mrmlScene)
    assert ui.selector.mrmlScene() is slicer.mrmlScene


def test_ui_file_with_a_parameter_name(tmp_path: Path) -> None:
    panel = load_ui(tmp_path, property="SlicerParameterName", stdset='stdset="0"', kind="string", value="volume")
    assert panel.findChild("qMRMLNodeComboBox", "selector").property("SlicerParameterName") == "volume"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cls": "qMRMLNothing"}, "no stand-in for qMRMLNothing"),
        ({"cls": "QNothing"}, "no stand-in for QNothing"),
        ({"property": "noneEnable"}, "no property 'noneEnable'"),
        ({"signal": "mrmlSceneChanged()"}, "cannot connect"),
        ({"slot": "setScene(vtkMRMLScene*)"}, "cannot connect"),
        ({"slot": "currentNode()"}, "cannot connect"),  # invokable from Python, but no slot
    ],
)
def test_mistakes_in_a_ui_file(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    import host

    with pytest.raises(RuntimeError, match=message):
        load_ui(tmp_path, **changes)
    host.errors.clear()
