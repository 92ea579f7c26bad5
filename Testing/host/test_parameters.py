"""parameterNodeWrapper: types, rules, what stands in the MRML node, and the connection to widgets."""

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

pytest.importorskip("slicer_core", reason="the Slicer test host needs the package slicer-core")


class View(enum.Enum):
    AP = "frontal"
    LL = "left lateral"

    def label(self) -> str:
        return self.value


@pytest.fixture
def node(application: Any) -> Any:
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def parameters(node: Any) -> Any:
    from slicer import vtkMRMLLinearTransformNode, vtkMRMLModelNode, vtkMRMLScalarVolumeNode
    from slicer.parameterNodeWrapper import Choice, Decimals, Default, Validator, WithinRange, parameterNodeWrapper

    class Even(Validator):
        def validate(self, value: int) -> None:
            if value % 2:
                raise ValueError(f"odd: {value}")

    class Parameters:
        steps: Annotated[int, WithinRange(1, 100)] = 25
        samples: Annotated[int, Even()] = 2
        distance: Annotated[float, WithinRange(0, 2000), Decimals(1), Default(1000.0)]
        consistency: bool = True
        label: str = "a b"
        device: Annotated[str, Choice(["auto", "cpu"])] = "auto"
        view: View
        folder: Path
        volume: vtkMRMLScalarVolumeNode
        shape: vtkMRMLModelNode | vtkMRMLLinearTransformNode | None

    return parameterNodeWrapper(Parameters)(node)


@pytest.fixture
def widgets(application: Any) -> Iterator[dict[str, Any]]:
    import ctk
    import qt
    import slicer

    panel = qt.QWidget()
    made = {
        "steps": qt.QSpinBox(panel),
        "distance": ctk.ctkSliderWidget(panel),
        "consistency": qt.QCheckBox(panel),
        "label": qt.QLineEdit(panel),
        "device": qt.QComboBox(panel),
        "view": qt.QComboBox(panel),
        "folder": ctk.ctkPathLineEdit(panel),
        "volume": slicer.qMRMLNodeComboBox(panel),
    }
    made["volume"].nodeTypes = ["vtkMRMLScalarVolumeNode"]
    made["volume"].noneEnabled = True
    made["volume"].setMRMLScene(slicer.mrmlScene)
    for name, widget in made.items():
        widget.setProperty("SlicerParameterName", name)
    yield {"panel": panel, **made}
    panel.delete()


def test_defaults_stand_in_the_node(parameters: Any, node: Any) -> None:
    written = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert written == {
        "steps": "25",
        "samples": "2",
        "distance": "1000.0",
        "consistency": "True",
        "label": "a b",
        "device": "auto",
        "view": "AP",
        "folder": ".",
        "volume": "",
        "shape": "",
    }


def test_values_come_back_as_their_type(parameters: Any, node: Any) -> None:
    parameters.view, parameters.folder, parameters.consistency, parameters.distance = View.LL, Path("/data"), False, 7
    assert node.GetParameter("view") == "LL"
    assert (parameters.view, parameters.folder, parameters.consistency) == (View.LL, Path("/data"), False)
    assert parameters.distance == 7.0
    assert isinstance(parameters.distance, float)
    node.SetParameter("steps", "30")
    assert parameters.getValue("steps") == 30


def test_nodes_are_references(parameters: Any, node: Any) -> None:
    import slicer

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.volume = volume
    assert node.GetNodeReferenceID("volume") == volume.GetID()
    assert parameters.volume is volume
    slicer.mrmlScene.RemoveNode(volume)
    assert parameters.volume is None
    parameters.shape = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    with pytest.raises(TypeError):
        parameters.shape = node


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("steps", 0, ValueError),
        ("steps", 2.5, TypeError),
        ("steps", None, ValueError),
        ("samples", 3, ValueError),
        ("distance", "far", TypeError),
        ("device", "tpu", ValueError),
        ("view", "AP", TypeError),
        ("folder", "/data", TypeError),
        ("consistency", 1, TypeError),
    ],
)
def test_what_breaks_a_rule_is_refused_and_nothing_changes(parameters: Any, name: str, value: Any, error: type) -> None:
    before = parameters.getValue(name)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert parameters.getValue(name) == before


def test_unknown_names_and_types(parameters: Any) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    with pytest.raises(ValueError, match="nothing"):
        parameters.getValue("nothing")
    for kind in (list[int], dict, tuple[int, int], object):
        with pytest.raises(TypeError, match="does not know"):
            parameterNodeWrapper(type("Parameters", (), {"__annotations__": {"name": kind}}))
    with pytest.raises(ValueError, match="reserved"):
        parameterNodeWrapper(type("Parameters", (), {"__annotations__": {"connectGui": int}}))


def test_observers_see_one_event_per_change(parameters: Any) -> None:
    seen = []
    tag = parameters.AddObserver("ModifiedEvent", lambda *_: seen.append(parameters.steps))
    parameters.steps = 30
    parameters.steps = 30
    assert seen == [30]
    parameters.RemoveObserver(tag)
    parameters.steps = 31
    assert seen == [30]


def test_widgets_show_the_node_and_write_it(parameters: Any, widgets: dict[str, Any]) -> None:
    import slicer

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.connectGui(widgets["panel"])
    assert (widgets["steps"].value, widgets["steps"].minimum, widgets["steps"].maximum) == (25, 1, 100)
    assert (widgets["distance"].value, widgets["distance"].decimals) == (1000, 1)
    assert [widgets["view"].itemText(i) for i in range(2)] == ["frontal", "left lateral"]

    widgets["steps"].value = 40
    widgets["distance"].value = 950.5
    widgets["consistency"].checked = False
    widgets["label"].text = "new"
    widgets["device"].currentIndex = 1
    widgets["view"].currentIndex = 1
    widgets["folder"].currentPath = "/data"
    widgets["volume"].setCurrentNode(volume)
    values = [parameters.getValue(name) for name in widgets if name != "panel"]
    assert values == [40, 950.5, False, "new", "cpu", View.LL, Path("/data"), volume]

    parameters.steps, parameters.view, parameters.volume = 50, View.AP, None
    assert (widgets["steps"].value, widgets["view"].currentText, widgets["volume"].currentNode()) == (50, "frontal", None)


def test_disconnected_widgets_do_nothing(parameters: Any, widgets: dict[str, Any]) -> None:
    tag = parameters.connectGui(widgets["panel"])
    parameters.disconnectGui(tag)
    widgets["steps"].value = 40
    assert parameters.steps == 25
    parameters.steps = 60
    assert widgets["steps"].value == 40


def test_an_unfit_widget_is_refused(parameters: Any, widgets: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="Unable to connect view"):
        parameters.connectParametersToGui({"view": widgets["steps"]})
    with pytest.raises(RuntimeError, match="bounded"):
        parameters.connectParametersToGui({"samples": widgets["distance"]})
