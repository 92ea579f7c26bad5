"""PythonQt's rules, one test each. The host is worth something only as long as these hold."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import host

pytestmark = pytest.mark.usefixtures("application")


@pytest.fixture
def qt() -> Any:
    import qt

    return qt


@pytest.fixture
def ctk() -> Any:
    import ctk

    return ctk


@pytest.fixture
def slicer() -> Any:
    import slicer

    return slicer


def test_property_is_a_value(qt: Any) -> None:
    label = qt.QLabel("text")
    assert label.text == "text"
    assert label.visible is False
    assert label.objectName == ""
    with pytest.raises(TypeError, match="not callable"):
        label.text()
    with pytest.raises(TypeError, match="not callable"):
        label.height()


def test_getters_with_another_name_stay_methods(qt: Any) -> None:
    button = qt.QCheckBox("on")
    assert (button.isChecked(), button.isVisible(), button.isEnabled()) == (False, False, True)
    button.setChecked(True)
    assert button.checked is True


def test_name_is_the_object_name(qt: Any, slicer: Any) -> None:
    widget = qt.QWidget()
    widget.name = "panel"
    assert widget.objectName == "panel"
    assert slicer.modules.volumes.name == "Volumes"  # a class with a property of that name keeps it


def test_qt_classes_have_every_public_method_ctk_classes_only_what_c_plus_plus_marks(qt: Any, ctk: Any) -> None:
    spin_box, slider = qt.QSpinBox(), ctk.ctkSliderWidget()
    spin_box.setRange(0, 5)
    spin_box.setMaximum(9)
    assert spin_box.maximum == 9
    for name in ("setRange", "setMinimum", "setMaximum", "setDecimals", "setSuffix"):
        with pytest.raises(AttributeError):
            getattr(slider, name)
    slider.maximum = 7
    slider.setValue(8)
    assert slider.value == 7
    with pytest.raises(AttributeError):
        ctk.ctkCollapsibleButton().setCollapsed(True)
    with pytest.raises(AttributeError):
        ctk.ctkPathLineEdit().setNameFilters(["*"])


def test_what_pyside_adds_is_not_there(qt: Any) -> None:
    button = qt.QPushButton()
    for name in ("emit", "tr", "staticMetaObject", "sender", "toPython", "__enter__"):
        with pytest.raises(AttributeError):
            getattr(button, name)
    for name in ("Signal", "Slot", "Property", "QEnum", "QtWidgets", "QNoSuchClass"):
        with pytest.raises(AttributeError):
            getattr(qt, name)


def test_attributes_cannot_be_added_or_overwritten(qt: Any) -> None:
    button = qt.QPushButton()
    for name in ("anything", "clicked", "click", "NoButton", "width"):  # new, signal, slot, unknown, read-only
        with pytest.raises(AttributeError):
            setattr(button, name, 1)


def test_writing_a_property_is_lenient(qt: Any) -> None:
    spin_box, label, check_box = qt.QSpinBox(), qt.QLabel(), qt.QCheckBox()
    spin_box.value = 3.9
    label.text = None
    check_box.checked = "any text"
    assert (spin_box.value, label.text, check_box.checked) == (3, "None", True)
    with pytest.raises(AttributeError):
        spin_box.value = "3"
    with pytest.raises(AttributeError):
        spin_box.value = None


@pytest.mark.parametrize(
    "call",
    [
        lambda qt: qt.QSpinBox().setRange(0),
        lambda qt: qt.QSpinBox().setRange("a", "b"),
        lambda qt: qt.QLabel(text="keyword"),
        lambda qt: qt.QLabel().setText(text="keyword"),
        lambda qt: qt.QMenu().addAction("text", lambda: None),
    ],
)
def test_wrong_arguments_are_value_errors(qt: Any, call: Any) -> None:
    with pytest.raises(ValueError):
        call(qt)


def test_wrong_argument_of_a_stand_in(ctk: Any, slicer: Any) -> None:
    with pytest.raises(ValueError):
        ctk.ctkSliderWidget().setValue("a")
    with pytest.raises(ValueError):
        slicer.qMRMLNodeComboBox().setMRMLScene(slicer.vtkMRMLScalarVolumeNode())
    with pytest.raises(ValueError):
        slicer.qMRMLNodeComboBox().setCurrentNode(3)


def test_deleted_object(qt: Any) -> None:
    parent = qt.QWidget()
    child = qt.QLabel("text", parent)
    parent.delete()
    with pytest.raises(ValueError, match="destroyed QLabel"):
        assert child.text
    with pytest.raises(ValueError, match="destroyed QLabel"):
        child.show()
    assert not child


def test_connect_needs_the_exact_signature(qt: Any) -> None:
    button = qt.QPushButton()
    assert button.connect("clicked(bool)", print) is True
    assert button.connect("clicked()", print) is True
    assert button.connect(" clicked( bool ) ", print) is True
    assert host.errors == []
    for signature in ("clicked", "clicked(int)", "clicket(bool)"):
        assert button.connect(signature, print) is False
    assert len(host.errors) == 3
    host.errors.clear()


def test_signature_with_an_enum(qt: Any) -> None:
    process = qt.QProcess()
    assert process.connect("finished(int,QProcess::ExitStatus)", print)
    assert not process.connect("finished(int,ExitStatus)", print)
    host.errors.clear()


def test_connect_by_attribute_takes_the_first_overload(qt: Any) -> None:
    button, seen = qt.QPushButton(), []
    button.clicked.connect(lambda *arguments: seen.append(arguments))
    button.click()
    assert seen == [(False,)]


def test_receivers_get_what_they_declare(qt: Any) -> None:
    class Receiver:
        def method(self, value: Any) -> None:
            seen.append(("method", value))

    button, seen = qt.QPushButton(), []
    button.connect("clicked(bool)", lambda: seen.append("nothing"))
    button.connect("clicked(bool)", lambda value=7: seen.append(("default", value)))
    button.connect("clicked(bool)", Receiver().method)
    button.connect("clicked(bool)", functools.partial(lambda *arguments: seen.append(arguments), "partial"))
    button.connect("clicked(bool)", seen.append)
    button.click()
    assert seen == ["nothing", ("default", False), ("method", False), ("partial", False), False]


def test_a_bound_slot_gets_all_arguments(qt: Any) -> None:
    button, label = qt.QPushButton(), qt.QLabel()
    label.text = "x"
    button.connect("clicked(bool)", label.clear)
    button.click()
    assert "clear" in host.errors.pop()
    button.connect("clicked()", label.clear)
    button.click()
    assert label.text == ""
    host.errors.clear()


def test_disconnect(qt: Any) -> None:
    button, seen = qt.QPushButton(), []
    button.connect("clicked(bool)", seen.append)
    button.clicked.connect(seen.append)
    assert button.disconnect("clicked(bool)", seen.append)
    button.click()
    assert seen == []
    assert not button.disconnect("clicked(bool)", seen.append)


def test_connect_to_a_slot_by_signature(qt: Any) -> None:
    spin_box, bar = qt.QSpinBox(), qt.QProgressBar()
    assert spin_box.connect("valueChanged(int)", bar, "setValue(int)")
    spin_box.value = 5
    assert bar.value == 5
    assert not spin_box.connect("valueChanged(int)", bar, "setNothing(int)")
    host.errors.clear()


def test_a_signal_is_emitted_by_calling_it(qt: Any, slicer: Any) -> None:
    action, combo_box, seen = qt.QAction(None), slicer.qMRMLNodeComboBox(), []
    action.triggered.connect(seen.append)
    action.triggered(True)
    combo_box.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    combo_box.currentNodeChanged(None)
    assert seen == [True, None]
    with pytest.raises(ValueError):
        action.triggered("a", "b")


def test_an_exception_in_a_slot_does_not_come_back(qt: Any) -> None:
    def fail() -> None:
        raise RuntimeError("in the slot")

    button = qt.QPushButton()
    button.connect("clicked()", fail)
    button.click()
    assert "in the slot" in host.errors.pop()
    qt.QTimer.singleShot(0, fail)
    qt.QApplication.processEvents()
    assert "in the slot" in host.errors.pop()


def test_an_exception_in_an_observer_is_seen(slicer: Any) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("in the observer")

    node = slicer.vtkMRMLTextNode()
    node.AddObserver("ModifiedEvent", fail)
    node.SetText("text")
    assert "in the observer" in host.errors[0]
    host.errors.clear()


def test_enums(qt: Any, ctk: Any) -> None:
    assert isinstance(qt.Qt.Horizontal, int)
    assert qt.Qt.Horizontal == 1
    assert qt.QProcess().state() == qt.QProcess.NotRunning
    assert type(qt.Qt.AlignLeft | qt.Qt.AlignTop) is int
    assert qt.QSlider(1).orientation == qt.Qt.Horizontal
    assert ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Dirs == 3
    with pytest.raises(AttributeError):
        assert qt.Qt.Orientation.Horizontal
    with pytest.raises(AttributeError):
        assert qt.QProcess.ProcessState.NotRunning


def test_plain_ints_are_enums_and_flags(qt: Any) -> None:
    item = qt.QTableWidgetItem("cell")
    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
    assert item.flags() == 33
    label = qt.QLabel()
    label.alignment = 4
    label.setAlignment(0x84)
    assert label.alignment == qt.Qt.AlignHCenter | qt.Qt.AlignVCenter
    assert item.data(qt.Qt.DisplayRole) == "cell"


def test_lists_are_tuples_and_nothing_is_none(qt: Any) -> None:
    widget = qt.QWidget()
    assert widget.children() == ()
    assert widget.layout() is None
    assert qt.QSettings().value("no such key") is None
    combo_box = qt.QComboBox()
    combo_box.addItems(["a", "b"])
    assert combo_box.currentData is None
    assert qt.QDir("/").entryList(["nothing at all"]) == ()


def test_wrapper_classes_do_not_inherit(qt: Any) -> None:
    button = qt.QPushButton()
    assert not isinstance(button, qt.QWidget)
    assert type(button) is qt.QPushButton
    assert button.inherits("QWidget")
    assert button.className() == "QPushButton"


def test_the_same_object_has_the_same_wrapper(qt: Any) -> None:
    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    label = qt.QLabel()
    layout.addWidget(label)
    assert widget.layout() is layout
    assert layout.itemAt(0).widget() is label
    assert label.parent() is widget
    assert qt.QColor("red") == qt.QColor(255, 0, 0)


def test_single_shot_is_the_static_method(qt: Any) -> None:
    seen = []
    qt.QTimer.singleShot(0, lambda: seen.append(1))
    qt.QApplication.processEvents()
    assert seen == [1]
    assert qt.QTimer().singleShot is False  # of an object, the property


def test_trailing_underscore(qt: Any) -> None:
    widget = qt.QWidget()
    widget.raise_()
    assert qt.QDialog().exec_


def test_objects_that_are_no_qobjects_have_methods_only(qt: Any) -> None:
    assert qt.QTableWidgetItem("cell").text() == "cell"
    assert qt.QSize(3, 4).width() == 3
    assert qt.QByteArray(b"bytes").data() == b"bytes"


def test_dynamic_properties_and_children_are_attributes(qt: Any) -> None:
    widget = qt.QWidget()
    widget.setProperty("SlicerParameterName", "steps")
    assert widget.SlicerParameterName == "steps"
    child = qt.QLabel(widget)
    child.objectName = "hint"
    assert widget.hint is child
    assert widget.findChild("QLabel", "hint") is child
    assert widget.findChildren(qt.QWidget) == (child,)


def test_subclass_of_a_qt_class(qt: Any) -> None:
    class Filter(qt.QObject):
        def __init__(self, parent: Any):
            super().__init__(parent)
            self.seen = []

        def eventFilter(self, watched: Any, event: Any) -> bool:
            self.seen.append((watched, event.type()))
            return False

    widget = qt.QWidget()
    event_filter = Filter(widget)
    widget.installEventFilter(event_filter)
    widget.show()
    assert (widget, qt.QEvent.Show) in event_filter.seen
    assert isinstance(event_filter, qt.QObject)


def test_vtk_objects_pass_unchanged(slicer: Any) -> None:
    assert slicer.app.mrmlScene() is slicer.mrmlScene
    assert slicer.app.layoutManager().layoutLogic().GetLayoutNode().IsA("vtkMRMLLayoutNode")


def test_file_dialog_returns_the_value_only(qt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from PySide6.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *arguments: (["a.dcm"], "filter"))
    assert qt.QFileDialog.getOpenFileNames(None, "Load") == ("a.dcm",)


def test_unknown_stand_in(ctk: Any, slicer: Any) -> None:
    with pytest.raises(AttributeError, match="no stand-in"):
        assert ctk.ctkRangeWidget
    with pytest.raises(AttributeError):
        assert slicer.qMRMLSegmentEditorWidget
    with pytest.raises(AttributeError):
        assert slicer.modules.pytorchutils
