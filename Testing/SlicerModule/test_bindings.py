"""The .ui file, the parameter node and the code: every name that one of them uses exists in the other."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from SlicerModule.tools import add_node_for

EXTENSION = Path(__file__).resolve().parents[2] / "Diff2CTExtension"
ROOT = ElementTree.parse(EXTENSION / "Resources" / "UI" / "Diff2CT.ui").getroot()
NAMES = {widget.get("name") for widget in ROOT.iter("widget")}
BINDINGS = {
    widget.get("name"): prop.findtext("string")
    for widget in ROOT.iter("widget")
    for prop in widget.findall("property")
    if prop.get("name") == "SlicerParameterName"
}
SET_BY_CODE = {"checkpoint", "checkpointFolder", "translator"}


def test_no_name_is_used_twice():
    """Of two widgets with one name, the code finds the first."""
    names = [widget.get("name") for widget in ROOT.iter("widget")]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("name", ["status", "device", "overlay", "figures"])
def test_a_long_sentence_does_not_widen_the_panel(panel, name):
    """A label with more than four lines asks for eighty columns."""
    label = getattr(panel.ui, f"{name}Label")
    section = panel.ui.reconstructionSection if name in ("status", "device") else panel.ui.compareSection
    section.collapsed = False
    before = section._qt.minimumSizeHint().width()
    label.text, label.visible = "is the view right, do the distances hold? " * 20, True
    section._qt.layout().activate()
    assert section._qt.minimumSizeHint().width() == before


def test_every_binding_is_a_field_and_every_field_is_bound(module):
    from Diff2CTLib.ParameterNode import Diff2CTParameterNode

    fields = set(Diff2CTParameterNode.__annotations__)
    assert len(set(BINDINGS.values())) == len(BINDINGS)
    assert set(BINDINGS.values()) | SET_BY_CODE == fields and not set(BINDINGS.values()) & SET_BY_CODE


def test_every_widget_that_the_code_uses_exists():
    code = "\n".join(path.read_text() for path in (EXTENSION / "Diff2CTLib").glob("*.py"))
    used = set(re.findall(r"\bui\.(\w+)", code)) | set(
        re.findall(r'"([a-z]\w*(?:Button|ComboBox|SpinBox|CheckBox|Slider))"', code)
    )
    assert used - NAMES == set()
    from_code = set(re.findall(r'_widget\(slot, "(\w+)"\)', code)) | set(
        re.findall(r'^    "(\w+)": \("\w+_', code, re.MULTILINE)
    )
    assert len(from_code) > 7
    assert {f"{slot}{name}" for slot in ("ap", "lateral") for name in from_code} - NAMES == set()


def test_no_widget_is_dead():
    """Every widget that takes input is bound or used by the code."""
    code = "\n".join(path.read_text() for path in (EXTENSION / "Diff2CTLib").glob("*.py"))
    takes_input = re.compile("^(ctkSlider|qMRMLNodeCombo|QPushButton|QCheckBox|QComboBox|QSpinBox|QDoubleSpinBox)")
    dead = []
    for widget in ROOT.iter("widget"):
        name = widget.get("name")
        stem = re.sub("^(ap|lateral)", "", name)
        if takes_input.match(widget.get("class")) and not (
            name in BINDINGS or f"ui.{name}" in code or f'"{stem}"' in code or re.match("pose.*Slider", name)
        ):
            dead.append(name)
    assert dead == []


def test_every_input_and_button_has_a_tool_tip():
    kinds = re.compile("^(ctkSlider|qMRMLNodeCombo|QPushButton|QCheckBox|QComboBox|QSpinBox|QDoubleSpinBox|QTable)")
    without = [
        widget.get("name")
        for widget in ROOT.iter("widget")
        if kinds.match(widget.get("class")) and not any(p.get("name") == "toolTip" for p in widget.findall("property"))
    ]
    assert without == []


@pytest.mark.parametrize(
    ("widget", "change", "field", "value"),
    [
        ("stepsSpinBox", lambda w: setattr(w, "value", 7), "steps", 7),
        ("samplesSpinBox", lambda w: setattr(w, "value", 2), "samples", 2),
        ("seedSpinBox", lambda w: setattr(w, "value", 11), "seed", 11),
        ("blendSlider", lambda w: setattr(w, "value", 30.0), "blend", 30.0),
        ("overlaySlider", lambda w: setattr(w, "value", 10.0), "overlayOpacity", 10.0),
        ("shownIn3DCheckBox", lambda w: setattr(w, "checked", False), "shownIn3D", False),
        ("boneCheckBox", lambda w: setattr(w, "checked", True), "boneIn3D", True),
        ("previewModeComboBox", lambda w: setattr(w, "currentIndex", 2), "previewMode", "EDGES"),
        ("deviceComboBox", lambda w: setattr(w, "currentIndex", 3), "device", "CPU"),
        ("huPresetComboBox", lambda w: setattr(w, "currentIndex", 2), "huPreset", "LUNG"),
        ("overlayComboBox", lambda w: setattr(w, "currentIndex", 2), "overlay", "UNCERTAINTY"),
    ],
)
def test_a_widget_changes_its_field_and_follows_it(panel, widget, change, field, value):
    before = getattr(panel.parameterNode, field)
    change(getattr(panel.ui, widget))
    after = getattr(panel.parameterNode, field)
    assert getattr(after, "name", after) == value and after != before
    shown = getattr(panel.ui, widget)
    setattr(panel.parameterNode, field, before)
    for attribute in ("value", "checked", "currentText"):
        if hasattr(shown, attribute):
            expected = before.label() if hasattr(before, "label") else before
            assert getattr(shown, attribute) == expected
            break


@pytest.mark.parametrize("name", [name for name in BINDINGS if name.endswith("Selector")])
def test_a_selector_changes_its_field_and_follows_it(panel, name):
    import slicer

    node = add_node_for(BINDINGS[name])
    selector = getattr(panel.ui, name)
    selector.setCurrentNode(node)
    assert getattr(panel.parameterNode, BINDINGS[name]).GetID() == node.GetID()
    setattr(panel.parameterNode, BINDINGS[name], None)
    assert selector.currentNode() is None
    slicer.mrmlScene.RemoveNode(node)


def test_labels_of_enums_are_words(panel):
    for name in ("previewModeComboBox", "deviceComboBox", "huPresetComboBox", "overlayComboBox"):
        combo = getattr(panel.ui, name)
        words = [combo.itemText(index) for index in range(combo.count)]
        assert len(set(words)) == len(words) and not any(word.isupper() and "_" in word for word in words)


def test_only_the_device_is_asked_for_at_once(panel):
    """What only those need who know the method is one click away."""
    (box,) = [widget for widget in ROOT.iter("widget") if widget.get("name") == "advancedSection"]
    inside = {widget.get("name") for widget in box.iter("widget")}
    assert {f"{name}ComboBox" for name in ("checkpoint", "consistency", "translator")} < inside
    assert {f"{name}SpinBox" for name in ("steps", "samples", "seed")} < inside and "deviceComboBox" not in inside
    assert panel.ui.advancedSection.collapsed and not panel.ui.reconstructionSection.collapsed


@pytest.mark.parametrize("name", ["checkpointComboBox", "translatorComboBox"])
def test_a_long_file_name_does_not_widen_the_panel(module, name):
    import slicer

    def width(entry):
        form = slicer.util.loadUI(str(EXTENSION / "Resources" / "UI" / "Diff2CT.ui"))
        combo = getattr(slicer.util.childWidgetVariables(form), name)
        combo.addItem(entry)
        found = combo.minimumSizeHint.width()
        form.delete()
        return found

    assert width("checkpoint_real_to_drr.safetensors") == width("None")


def test_as_many_samples_as_on_the_command_line(panel):
    from diff2ct_training.cli import DEFAULT_SAMPLES

    assert panel.parameterNode.samples == DEFAULT_SAMPLES
