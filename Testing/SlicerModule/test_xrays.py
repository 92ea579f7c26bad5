"""The section X-rays, used as a person would: load, look at the geometry, correct it, read the remarks."""

import json
import re
import zipfile

import numpy as np
import pytest
from SlicerModule.tools import add_ct, add_xrays, click, settle, wait_until


@pytest.fixture
def answer_dialog(monkeypatch):
    """answer(name, value): what the file dialog `name` returns when it is opened."""
    import qt

    def answer(name, value):
        monkeypatch.setattr(qt.QFileDialog, name, lambda *_arguments: value)

    return answer


@pytest.fixture
def shown(panel):
    """The panel in an active window, its geometry open: hidden widgets have no focus."""
    from PySide6.QtWidgets import QWidget

    window = panel.ui.apSourceToDetector._qt.window()
    panel.ui.geometrySection.collapsed = False
    window.show()
    window.activateWindow()
    yield panel
    elsewhere = QWidget()
    elsewhere.show()
    elsewhere.activateWindow()  # a window that is hidden while it is active cannot become so again
    window.hide()
    panel.ui.geometrySection.collapsed = True


def save(tmp_path, name, node, **changes):
    """The X-ray of a node as a file."""
    from dataclasses import replace

    from Diff2CTLib import SceneBridge

    from diff2ct.radiograph import write_radiograph

    path = tmp_path / name
    write_radiograph(replace(SceneBridge.xrayFromNode(node).radiograph, **changes), path)
    return str(path)


def plain_picture(tmp_path, name="film.png"):
    """A PNG that tells nothing about itself."""
    import SimpleITK as sitk

    rows, columns = np.indices((60, 50))
    image = sitk.GetImageFromArray((1000 + 200 * np.sin(rows / 5) + 10 * columns).astype(np.uint16))
    path = tmp_path / name
    sitk.WriteImage(image, str(path))
    return str(path)


def test_two_files_of_any_order_find_their_places(panel, tmp_path, answer_dialog):
    ap, lateral = add_xrays()
    answer_dialog("getOpenFileNames", (save(tmp_path, "l.dcm", lateral), save(tmp_path, "a.dcm", ap)))
    click(panel.ui.loadButton)
    settle(panel)
    assert panel.parameterNode.apNode.GetName() == "a.dcm" and panel.parameterNode.lateralNode.GetName() == "l.dcm"
    assert panel.ui.apSelector.currentNode().GetName() == "a.dcm"
    assert panel.ui.apSourceToDetector.value == 1000 and panel.ui.lateralSourceToIsocenter.value == 800
    assert panel.ui.apView.currentText == "AP" and panel.ui.lateralView.currentText == "LL"
    assert "assumed" not in panel.ui.geometrySection.text
    assert panel.ui.apFrame.enabled is False and panel.ui.apPolarity.enabled is False
    assert panel.ui.apPolarity.currentText == "From the file"  # not the words of the button below


def load_pair(panel, tmp_path, **changes):
    """Both X-rays of `add_xrays` through DICOM files; their nodes."""
    nodes = zip(("ap.dcm", "lateral.dcm"), add_xrays(), strict=True)
    panel.xraySection.load([save(tmp_path, name, node, **changes) for name, node in nodes])
    settle(panel)
    return panel.parameterNode.apNode, panel.parameterNode.lateralNode


def test_what_is_typed_over_the_file_is_told_and_can_be_taken_back(panel, tmp_path):
    from Diff2CTLib import SceneBridge

    load_pair(panel, tmp_path)
    ui, meaning = panel.ui, panel.ui.apSourceToDetector.toolTip
    assert not ui.apAsInFile.enabled and ui.xraySection.text == "X-rays: fit"
    ui.apSourceToDetector.value = 1500.0
    ui.apPixelWidth.value = 4.0
    settle(panel)
    said = ui.checksTextEdit.plainText
    assert "AP: source to detector 1500 mm, the file says 1000 mm." in said
    assert "AP: pixel height and width 4 x 4 mm, the file says 4 x 4.5 mm." in said
    assert ui.apSourceToDetector.toolTip == f"{meaning}\nFile: 1000.0 mm"
    assert "File: 4.5000 mm" in ui.apPixelWidth.toolTip and "File:" not in ui.apPixelHeight.toolTip
    assert ui.apAsInFile.enabled and not ui.lateralAsInFile.enabled
    outcome = panel.logic.reconstruct(panel.parameterNode.apNode, panel.parameterNode.lateralNode)
    assert outcome.provenance["Overtyped"].startswith("AP: source to detector 1500 mm, the file says 1000 mm; AP: pixel")
    click(ui.apAsInFile)
    settle(panel)
    panel.logic.editXray(panel.parameterNode.apNode, mirrored=not SceneBridge.geometryOf(panel.parameterNode.apNode).mirrored)
    panel.logic.flipXray(panel.parameterNode.lateralNode, leftRight=True)
    outcome = panel.logic.reconstruct(panel.parameterNode.apNode, panel.parameterNode.lateralNode)
    assert outcome.provenance["Overtyped"].startswith(
        "AP: the side marker is opposite to what the file states; lateral: flipped"
    )
    panel.logic.flipXray(panel.parameterNode.lateralNode, leftRight=True)
    panel.logic.restoreXray(panel.parameterNode.apNode)
    panel.updateSoon()
    settle(panel)
    assert (ui.apSourceToDetector.value, ui.apPixelWidth.value) == (1000.0, 4.5)
    assert ui.xraySection.text == "X-rays: fit" and ui.apSourceToDetector.toolTip == meaning and not ui.apAsInFile.enabled
    assert "Overtyped" not in panel.logic.reconstruct(panel.parameterNode.apNode, panel.parameterNode.lateralNode).provenance


def test_view_beam_and_central_ray_are_as_in_the_file_again_and_flips_and_what_it_did_not_tell_stay(panel, tmp_path):
    from dataclasses import replace

    from Diff2CTLib import SceneBridge

    ap, _lateral = load_pair(panel, tmp_path, assumed=("source_to_isocenter_mm",))
    read = SceneBridge.geometryOf(ap)
    panel.logic.flipXray(ap, leftRight=False)
    panel.logic.editXray(ap, source_to_isocenter_mm=777.0)
    panel.updateSoon()
    settle(panel)
    assert not panel.ui.apAsInFile.enabled  # the file told neither
    panel.logic.editXray(ap, view="PA", kind="fan", principal_point=(1.0, 2.0))
    panel.updateSoon()
    settle(panel)
    said = panel.ui.checksTextEdit.plainText
    assert "AP: view PA, the file says AP." in said and "AP: shape of the beam fan, the file says cone." in said
    assert "AP: where the central ray meets the image 1, 2 px, the file says 49.5, 44.5 px." in said
    assert "pixel height" not in said  # sizes go with the kind of beam
    assert "File: AP" in panel.ui.apView.toolTip and "File: cone" in panel.ui.apBeam.toolTip
    click(panel.ui.apAsInFile)
    settle(panel)
    found, wanted = SceneBridge.geometryOf(ap).to_dict(), replace(read, source_to_isocenter_mm=777.0).to_dict()
    assert found.pop("kind") == wanted.pop("kind")
    for fact, value in wanted.items():
        assert found[fact] == pytest.approx(value), fact
    assert panel.ui.apFlipUpDown.checked and not panel.ui.apAsInFile.enabled


def test_what_no_file_told_is_not_typed_over(panel, tmp_path):
    """A bare picture, and an X-ray of a scene of an earlier version, which does not know what its file told."""
    from Diff2CTLib import SceneBridge

    _ap, lateral = load_pair(panel, tmp_path)
    facts = json.loads(lateral.GetAttribute(SceneBridge.XRAY_ATTRIBUTE))
    del facts["read_assumed"]
    lateral.SetAttribute(SceneBridge.XRAY_ATTRIBUTE, json.dumps(facts))
    panel.parameterNode.apNode = panel.logic.loadXray(plain_picture(tmp_path), fallbackView="AP")
    settle(panel)
    for slot in ("ap", "lateral"):
        for name, value in (("SourceToDetector", 1300.0), ("CentralRayRow", 12.0), ("PixelWidth", 3.0), ("Roll", 1.0)):
            getattr(panel.ui, f"{slot}{name}").value = value
        getattr(panel.ui, f"{slot}View").currentIndex = 1
    settle(panel)
    assert "the file says" not in panel.ui.checksTextEdit.plainText
    assert not panel.ui.apAsInFile.enabled and not panel.ui.lateralAsInFile.enabled


def test_a_picture_of_a_scanning_fan(panel, xrays):
    """Heights are not magnified: the same picture, with other rows, seen by a source that moves along."""
    from Diff2CTLib import SceneBridge

    node = panel.parameterNode.apNode
    cone = SceneBridge.geometryOf(node)
    assert panel.ui.apBeam.currentIndex == 0 and panel.ui.apBeam.enabled
    panel.ui.apBeam.currentIndex = 1
    settle(panel)
    fan = SceneBridge.geometryOf(node)
    assert fan.KIND == "fan" and panel.ui.apBeam.currentIndex == 1 and panel.ui.lateralBeam.currentIndex == 0
    rowMm, columnMm = cone.detector_spacing_mm
    assert panel.ui.apPixelHeight.value == pytest.approx(rowMm / cone.magnification, abs=1e-3)
    assert panel.ui.apPixelWidth.value == pytest.approx(columnMm)
    columnMm, rowMm = np.array(node.GetSpacing())[:2]
    assert columnMm / rowMm == pytest.approx(fan.patient_spacing_mm[1] / fan.patient_spacing_mm[0]), "nobody looks too wide"
    assert not panel.ui.apRoll.enabled and not panel.ui.apSecondaryAngle.enabled
    panel.ui.apBeam.currentIndex = 0
    settle(panel)
    assert SceneBridge.geometryOf(node) == cone and panel.ui.apRoll.enabled
    panel.ui.apRoll.value = 3.0
    settle(panel)
    panel.ui.apBeam.currentIndex = 1
    settle(panel)
    assert SceneBridge.geometryOf(node).KIND == "cone" and panel.ui.apBeam.currentIndex == 0
    assert "accepted is 0 for a fan" in panel.ui.checksTextEdit.plainText


def plain_dicom(tmp_path, frames=None, name="film.dcm", **elements):
    """A CR image, or `frames` of them, that tells what `elements` says."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    from diff2ct import dicom_file

    rows, columns = np.indices((60, 50))
    pixels = np.stack([1000 + 200 * np.sin(rows / 5) + 10 * columns] * (frames or 1)).astype("<u2")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CR", "MONOCHROME2", 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dicom_file.save(dataset, tmp_path / name)
    return str(tmp_path / name)


SCOUT = {"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "PixelSpacing": ["6", "6"]}


@pytest.mark.parametrize(
    "make",
    [
        plain_picture,
        lambda folder: plain_dicom(folder, ImagerPixelSpacing=["6", "6"], ViewPosition="AP"),
        lambda folder: plain_dicom(folder, ViewPosition="AP", **SCOUT),
        lambda folder: plain_dicom(folder, Manufacturer="EOS imaging", PixelSpacing=["6", "6"], ViewPosition="AP"),
        lambda folder: plain_dicom(folder, Modality="XA", PositionerPrimaryAngle="180"),
    ],
    ids=["picture", "CR", "scout", "EOS", "XA"],
)
def test_a_picture_said_to_be_of_another_beam_is_read_as_such(panel, tmp_path, answer_dialog, make):
    """The panel and a stated geometry come to the same, there and back, also with what the user has stated."""
    from Diff2CTLib import SceneBridge

    from diff2ct.radiograph import read_radiograph

    path = make(tmp_path)
    answer_dialog("getOpenFileNames", (path,))
    click(panel.ui.loadButton)
    settle(panel)
    node = panel.parameterNode.apNode
    kinds = ["cone", "fan"]
    order = [1, 0] if SceneBridge.geometryOf(node).KIND == "cone" else [0, 1]
    for stated in ({}, {"source_to_detector_mm": 1500.0}):
        for name, value in stated.items():
            panel.logic.editXray(node, **{name: value})
        for index in order:
            panel.ui.apBeam.currentIndex = index
            settle(panel)
            expected = read_radiograph(path, view="AP", geometry={"kind": kinds[index], **stated})
            beam = SceneBridge.geometryOf(node).to_dict()
            for fact, value in expected.geometry.to_dict().items():
                assert beam[fact] == pytest.approx(value), fact
            assumed = set(SceneBridge.assumedOf(node)) - {"view"}
            assert assumed == set(expected.assumed)


def test_an_xray_of_our_own_keeps_its_size_when_said_to_be_of_another_beam(panel, tmp_path):
    """Its file states the sizes of one kind, which are not those of the other."""
    from Diff2CTLib import SceneBridge

    ap, _lateral = load_pair(panel, tmp_path)
    read = SceneBridge.geometryOf(ap)
    for kind in ("fan", "cone"):
        panel.logic.editXray(ap, kind=kind)
        assert SceneBridge.geometryOf(ap).KIND == kind
        assert SceneBridge.geometryOf(ap).patient_spacing_mm == pytest.approx(read.patient_spacing_mm)


def test_a_value_that_was_confirmed_is_kept_by_another_beam(panel, tmp_path):
    from Diff2CTLib import SceneBridge

    node = panel.logic.loadXray(plain_picture(tmp_path), view="AP")
    panel.logic.editXray(node, source_to_detector_mm=1150.0)
    panel.logic.editXray(node, kind="fan")
    assert SceneBridge.geometryOf(node).source_to_detector_mm == 1150
    assert "source_to_detector_mm" not in SceneBridge.assumedOf(node)


def test_the_dialog_shows_files_without_a_suffix_too(panel, monkeypatch):
    """DICOM files on CDs and of many archives have none; the first filter is the one that is on."""
    import qt

    asked = []
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileNames", lambda *arguments: asked.append(arguments[3]) or ())
    click(panel.ui.loadButton)
    assert asked[0].split(";;")[0] == "All files (*)" and "*.dcm" in asked[0].split(";;")[1]


def test_a_cancelled_dialog_changes_nothing(panel, answer_dialog):
    answer_dialog("getOpenFileNames", ())
    click(panel.ui.loadButton)
    settle(panel)
    assert panel.parameterNode.apNode is None and panel.ui.xraySection.text == "X-rays: none yet"


def test_a_file_that_cannot_be_read_is_named(panel, tmp_path, answer_dialog):
    (tmp_path / "letter.dcm").write_bytes(b"x" * 500)
    answer_dialog("getOpenFileNames", (str(tmp_path / "letter.dcm"),))
    click(panel.ui.loadButton)
    settle(panel)
    assert "letter.dcm" in panel.ui.checksTextEdit.plainText
    assert panel.parameterNode.apNode is None


def test_a_full_disk_keeps_the_sample_data_away_and_says_so(panel, monkeypatch):
    def fail():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("Diff2CTLib.TemporaryFolder.make", fail)
    click(panel.ui.sampleButton)
    settle(panel)
    assert "No space left on device" in panel.ui.checksTextEdit.plainText and panel.ui.sampleButton.enabled


def test_a_full_disk_keeps_a_volume_of_another_module_away_and_says_so(panel, monkeypatch):
    import slicer

    def fail():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("Diff2CTLib.TemporaryFolder.make", fail)
    foreign = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Film")
    slicer.util.updateVolumeFromArray(foreign, np.add.outer(np.arange(30.0), np.arange(20.0))[np.newaxis])
    panel.ui.lateralSelector.setCurrentNode(foreign)
    settle(panel)
    assert panel.parameterNode.lateralNode is None and "No space left on device" in panel.ui.checksTextEdit.plainText


def test_what_a_picture_does_not_tell_is_flagged_until_it_is_stated(panel, tmp_path, answer_dialog):
    answer_dialog("getOpenFileNames", (plain_picture(tmp_path),))
    click(panel.ui.loadButton)
    settle(panel)
    ui = panel.ui
    assert ui.xraySection.text == "X-rays: AP only" and "values assumed" in ui.geometrySection.text
    assert ui.apView.currentText == "AP *"
    assert ui.apSourceToDetector.suffix == " mm *" and ui.apPixelHeight.suffix == " mm *"
    assert "AP: not in the file, so typical values are assumed: view, " in ui.checksTextEdit.plainText
    assert "source to detector" in ui.checksTextEdit.plainText and ui.checksTextEdit.minimumHeight == 120
    ui.apSourceToDetector.value = 1234.0
    settle(panel)
    assert ui.apSourceToDetector.suffix == " mm" and ui.apSourceToDetector.value == 1234
    assert "source to detector" not in ui.checksTextEdit.plainText
    ui.apView.currentIndex = 1
    settle(panel)
    assert ui.apView.currentText == "PA" and ui.apPrimaryAngle.value == 0


def test_enter_confirms_what_was_assumed_and_neither_leaving_nor_an_impossible_value_does(shown, tmp_path, answer_dialog):
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    panel = shown
    answer_dialog("getOpenFileNames", (plain_picture(tmp_path),))
    click(panel.ui.loadButton)
    settle(panel)
    fields = [panel.ui.apSourceToDetector, panel.ui.apCentralRayRow]
    before = [field.value for field in fields]
    for key, mark in ((Qt.Key.Key_Tab, " *"), (Qt.Key.Key_Return, "")):
        for field, unit in zip(fields, ("mm", "px"), strict=True):
            field._qt.setFocus()
            wait_until(lambda field=field: field.focus, seconds=30)
            QTest.keyClick(field._qt, key)
            settle(panel)
            assert field.suffix == f" {unit}{mark}"
    assert [field.value for field in fields] == before and panel.ui.apCentralRayColumn.suffix == " px"
    refused = panel.ui.apSourceToIsocenter
    refused._qt.setFocus()
    wait_until(lambda: refused.focus, seconds=30)
    refused._qt.selectAll()
    QTest.keyClicks(refused._qt, "5000")
    QTest.keyClick(refused._qt, Qt.Key.Key_Return)
    settle(panel)
    refusal, *_others, assumed = panel.ui.checksTextEdit.plainText.splitlines()
    assert "source to mid-body < source to detector" in refusal
    assert "source to mid-body" in assumed and "source to detector" not in assumed  # nobody has confirmed the former


def write_into(field, text):
    """What is in the field is replaced, and not taken yet."""
    from PySide6.QtTest import QTest

    field._qt.setFocus()
    wait_until(lambda: field.focus, seconds=30)
    field._qt.selectAll()
    QTest.keyClicks(field._qt, text)


def test_a_number_that_is_being_typed_outlives_an_update_and_is_the_one_that_enter_takes(shown, tmp_path):
    from Diff2CTLib import SceneBridge
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    panel, field = shown, shown.ui.apSourceToDetector
    panel.xraySection.load([plain_picture(tmp_path)])
    settle(panel)
    assert field.suffix == " mm *"
    write_into(field, "1800")
    panel.updateSoon()  # as when the devices are known, or a figure
    settle(panel)
    assert field.cleanText.startswith("1800")
    QTest.keyClick(field._qt, Qt.Key.Key_Return)
    settle(panel)
    assert SceneBridge.geometryOf(panel.parameterNode.apNode).source_to_detector_mm == 1800
    assert (field.value, field.suffix) == (1800, " mm")


def test_a_number_of_a_frame_that_is_being_typed_outlives_an_update(shown, tmp_path):
    panel, field = shown, shown.ui.apFrame
    panel.xraySection.load([plain_dicom(tmp_path, frames=3, Modality="XA", PositionerPrimaryAngle="180")])
    settle(panel)
    write_into(field, "3")
    panel.updateSoon()
    settle(panel)
    assert field.cleanText == "3" and field.value == 1


def test_a_number_that_is_being_typed_when_the_module_is_left_counts(shown, xrays):
    """Slicer calls exit() before it hides the panel; only then does the field give the number away."""
    from Diff2CTLib import SceneBridge

    import host

    panel, field = shown, shown.ui.apSourceToDetector
    write_into(field, "1800")
    panel.exit()
    field._qt.window().hide()
    assert host.errors == []
    assert SceneBridge.geometryOf(xrays[0]).source_to_detector_mm == 1800
    panel.enter()
    settle(panel)
    assert field.value == 1800


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("apSourceToDetector", None),
        ("apView", None),
        ("seedSpinBox", None),
        ("apSelector", "QComboBox"),
        ("truthSelector", "QComboBox"),
        ("poseFeetHeadSlider", "QSlider"),
        ("poseFeetHeadSlider", "QDoubleSpinBox"),
    ],
)
def test_the_wheel_that_scrolls_the_panel_changes_no_field(panel, xrays, name, inner):
    from PySide6 import QtWidgets
    from PySide6.QtCore import QPoint, QPointF, Qt
    from PySide6.QtGui import QWheelEvent

    add_ct()
    panel.ui.previewSelector.setCurrentNode(add_ct())
    settle(panel)
    field = getattr(panel.ui, name)._qt
    field = field if inner is None else field.findChild(getattr(QtWidgets, inner))
    shown = type(field).currentIndex if isinstance(field, QtWidgets.QComboBox) else type(field).value
    before, nowhere = shown(field), QPointF(5, 5)
    for clicks in (-1, 1):
        no = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False
        event = QWheelEvent(nowhere, nowhere, QPoint(), QPoint(0, 120 * clicks), *no)
        QtWidgets.QApplication.sendEvent(field, event)
        assert shown(field) == before and not event.isAccepted()


def test_a_view_that_is_chosen_once_more_is_confirmed(panel, tmp_path, answer_dialog):
    answer_dialog("getOpenFileNames", (plain_picture(tmp_path),))
    click(panel.ui.loadButton)
    settle(panel)
    angle = panel.ui.apPrimaryAngle.value
    panel.ui.apView.activated(panel.ui.apView.currentIndex)
    settle(panel)
    assert panel.ui.apView.currentText == "AP" and panel.ui.apPrimaryAngle.value == angle
    panel.ui.apPrimaryAngle.value = angle - 5
    panel.ui.apView.activated(panel.ui.apView.currentIndex)
    settle(panel)
    assert panel.ui.apPrimaryAngle.value == angle - 5  # known already: nothing is put back


@pytest.fixture
def with_ct(panel, xrays):
    """A patient with two X-rays, a CT and a reconstruction."""
    from SlicerModule.tools import add_reconstruction

    ct = panel.parameterNode.truthNode = panel.parameterNode.previewNode = add_ct(name="CT of the first")
    panel.parameterNode.reconstructionNode = add_reconstruction()
    settle(panel)
    return ct


def chosen_cts(panel):
    parameterNode = panel.parameterNode
    return parameterNode.truthNode, parameterNode.previewNode, parameterNode.reconstructionNode


def test_xrays_of_another_patient_are_not_compared_with_the_ct_of_the_last(panel, with_ct, tmp_path, monkeypatch):
    import slicer

    told = []
    monkeypatch.setattr(slicer.util, "showStatusMessage", lambda text, *_duration: told.append(text))
    load_pair(panel, tmp_path)
    assert chosen_cts(panel) == (None, None, None) and slicer.mrmlScene.IsNodePresent(with_ct)
    assert len(told) == 1 and "are deselected" in told[0]
    panel.parameterNode.truthNode = other = add_ct(name="CT of the second")
    panel.xraySection.load([str(tmp_path / "ap.dcm")])
    assert panel.parameterNode.truthNode is other and len(told) == 1


def test_one_view_that_is_loaded_anew_keeps_the_ct_and_the_second_one_does_not(panel, with_ct, tmp_path):
    paths = [save(tmp_path, name, node) for name, node in zip(("ap.dcm", "lateral.dcm"), add_xrays(), strict=True)]
    for _time in range(2):
        panel.xraySection.load(paths[:1])
        settle(panel)
        assert panel.parameterNode.truthNode is panel.parameterNode.previewNode is with_ct
    panel.xraySection.load(paths[1:])
    settle(panel)
    assert chosen_cts(panel) == (None, None, None)


def test_a_ct_that_was_chosen_before_the_xrays_stays(panel, tmp_path):
    ct = panel.parameterNode.truthNode = add_ct()
    ap, lateral = add_xrays()
    for name, node in (("ap.dcm", ap), ("lateral.dcm", lateral)):
        panel.xraySection.load([save(tmp_path, name, node)])
        settle(panel)
    assert panel.parameterNode.truthNode is ct
    panel.xraySection.load([str(tmp_path / "ap.dcm")])
    panel.parameterNode.truthNode = other = add_ct(name="Other")  # for the X-ray that is new, and the one to come
    panel.xraySection.load([str(tmp_path / "lateral.dcm")])
    assert panel.parameterNode.truthNode is other


def test_the_sample_is_not_compared_with_the_reconstruction_of_a_patient(panel, with_ct, monkeypatch):
    from Diff2CTLib import Dependencies

    sample = (*add_xrays(), add_ct(name="Phantom CT"))
    monkeypatch.setattr(Dependencies, "install", lambda: None)
    monkeypatch.setattr(panel.logic, "loadSample", lambda: sample)
    click(panel.ui.sampleButton)
    settle(panel)
    assert chosen_cts(panel) == (sample[2], sample[2], None)


def test_a_second_file_without_a_view_goes_to_the_free_place(panel, tmp_path, answer_dialog):
    for name in ("one.png", "two.png"):
        answer_dialog("getOpenFileNames", (plain_picture(tmp_path, name),))
        click(panel.ui.loadButton)
        settle(panel)
    assert (panel.parameterNode.apNode.GetName(), panel.parameterNode.lateralNode.GetName()) == ("one.png", "two.png")
    said = [line for line in panel.ui.checksTextEdit.plainText.splitlines() if "assumed" in line]
    assert len(said) == 1 and said[0].startswith("- Both X-rays: not in the file, so typical values are assumed: view, ")
    assert said[0].endswith("Correct under Geometry what you know.")
    answer_dialog("getOpenFileNames", (plain_picture(tmp_path, "three.png"),))
    click(panel.ui.loadButton)
    settle(panel)
    said = panel.ui.checksTextEdit.plainText
    assert "three.png does not state its view, and both places are taken. Set the list AP or Lateral to" in said
    assert f'"{panel.ui.apSelector.noneDisplay}"' in said


def test_an_edit_moves_the_detector_exactly(panel, xrays):
    from Diff2CTLib import SceneBridge

    panel.ui.apSourceToDetector.value = 1100.0
    panel.ui.apPixelWidth.value = 3.0
    panel.ui.apSecondaryAngle.value = 10.0
    settle(panel)
    beam = SceneBridge.geometryOf(xrays[0])
    assert (beam.source_to_detector_mm, beam.detector_spacing_mm, beam.secondary_angle_deg) == (1100.0, (4.0, 3.0), 10.0)
    import vtk

    matrix = vtk.vtkMatrix4x4()
    xrays[0].GetIJKToRASMatrix(matrix)
    for row, column in ((0, 0), (99, 0), (50, 89)):
        expected = beam.pixel_to_lps((row, column)) * (-1, -1, 1)
        assert np.allclose(matrix.MultiplyPoint((column, row, 0, 1))[:3], expected, atol=1e-9)


def cropped_pair(rows):
    """AP and lateral nodes of more pixels than the panel looks at; the lateral shows only `rows` of its detector."""
    from dataclasses import replace

    from Diff2CTLib import SceneBridge
    from Diff2CTLib.Xray import Xray

    ap, lateral = add_xrays(detector_size=(400, 360), detector_spacing_mm=(1.0, 1.125))
    whole = SceneBridge.xrayFromNode(lateral).radiograph
    image = whole.line_integral[rows]
    guess = replace(whole.geometry, detector_size=image.shape, principal_point=None)
    radiograph = replace(whole, line_integral=image, valid=whole.valid[rows], geometry=guess, assumed=("principal_point",))
    return ap, SceneBridge.addXray(Xray(radiograph, guess), "cropped")


def test_a_cropped_picture_fits_once_the_row_that_the_panel_names_is_entered(panel):
    from Diff2CTLib import SceneBridge

    panel.parameterNode.apNode, panel.parameterNode.lateralNode = cropped_pair(slice(40, None))
    settle(panel)
    ui = panel.ui
    assert (ui.lateralCentralRayRow.value, ui.lateralCentralRayColumn.value) == (179.5, 179.5)
    assert ui.lateralCentralRayRow.suffix == ui.lateralCentralRayColumn.suffix == " px *"
    assert ui.apCentralRayRow.suffix == " px" and "where the central ray meets the image" in ui.checksTextEdit.plainText
    named = re.search(
        r"If the lateral picture was cropped, enter (\S+) under Geometry as its (.+), or .+ under (.+)\.",
        ui.checksTextEdit.plainText,
    )
    assert named and f"{named[2]}:" == ui.centralRayRowLabel.text and named[3] == ui.measureSection.text
    assert float(named[1]) == pytest.approx(199.5 - 40, abs=5)  # in pixels of the picture, not of the panel's copy
    ui.lateralCentralRayRow.value = float(named[1])
    settle(panel)
    assert ui.checksTextEdit.plainText == "No contradiction found between the two X-rays."
    assert ui.lateralCentralRayRow.suffix == ui.lateralCentralRayColumn.suffix == " px"
    assert SceneBridge.geometryOf(panel.parameterNode.lateralNode).principal_point == (float(named[1]), 179.5)


def test_the_central_ray_is_that_of_the_console(panel, xrays):
    """Fields follow editXray and flips; an edit of one leaves the other as exact as it was."""
    from Diff2CTLib import SceneBridge

    fields = panel.ui.apCentralRayRow, panel.ui.apCentralRayColumn
    panel.logic.editXray(xrays[0], principal_point=(-12.34, 30.25))
    settle(panel)
    assert [field.value for field in fields] == pytest.approx([-12.34, 30.25], abs=0.051)
    fields[1].value = 31.0
    settle(panel)
    assert SceneBridge.geometryOf(xrays[0]).principal_point == (-12.34, 31.0)
    panel.logic.editXray(xrays[1], principal_point=(-12.34, 31.0))
    assert SceneBridge.geometryOf(xrays[1]).principal_point == SceneBridge.geometryOf(xrays[0]).principal_point
    panel.logic.flipXray(xrays[0], leftRight=True)
    settle(panel)
    assert fields[1].value == 90 - 1 - 31


def test_an_impossible_distance_is_refused_and_taken_back(panel, xrays):
    panel.ui.apSourceToIsocenter.value = 1500.0
    settle(panel)
    assert "source to mid-body < source to detector" in panel.ui.checksTextEdit.plainText
    assert panel.ui.apSourceToIsocenter.value == 800


@pytest.mark.parametrize("leftRight", [True, False], ids=["left-right", "up-down"])
def test_a_flip_turns_pixels_and_the_central_ray(panel, xrays, leftRight):
    from Diff2CTLib import SceneBridge

    before = SceneBridge.xrayFromNode(xrays[0])
    click(panel.ui.apFlipLeftRight if leftRight else panel.ui.apFlipUpDown)
    settle(panel)
    after = SceneBridge.xrayFromNode(xrays[0])
    axis = 1 if leftRight else 0
    assert np.array_equal(after.radiograph.line_integral, np.flip(before.radiograph.line_integral, axis))
    assert (panel.ui.apFlipLeftRight.checked, panel.ui.apFlipUpDown.checked) == (leftRight, not leftRight)
    assert ("left and right of the patient are exchanged" in panel.ui.checksTextEdit.plainText) == leftRight


def test_bone_can_be_declared_dark(panel, tmp_path, answer_dialog):
    from Diff2CTLib import SceneBridge

    answer_dialog("getOpenFileNames", (plain_picture(tmp_path),))
    click(panel.ui.loadButton)
    settle(panel)
    before = SceneBridge.xrayFromNode(panel.parameterNode.apNode).radiograph.line_integral
    assert panel.ui.apPolarity.currentText == "Automatic *"
    panel.ui.apPolarity.currentIndex = 2
    settle(panel)
    assert panel.ui.apPolarity.itemText(0) == "Automatic"  # the picture does not tell
    after = SceneBridge.xrayFromNode(panel.parameterNode.apNode)
    assert np.allclose(after.radiograph.line_integral, 1 - before, atol=1e-6)
    assert "polarity" not in after.radiograph.assumed and "view" in after.radiograph.assumed


def test_another_frame_is_read_and_edits_stay(panel, tmp_path, answer_dialog):
    import SimpleITK as sitk
    from Diff2CTLib import SceneBridge

    frames = np.stack([np.add.outer(np.arange(40.0), np.arange(30.0)) * (n + 1) + 7 * n * np.eye(40, 30) for n in range(3)])
    path = tmp_path / "run.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(frames.astype(np.float32)), str(path))
    answer_dialog("getOpenFileNames", (str(path),))
    click(panel.ui.loadButton)
    settle(panel)
    assert panel.ui.apFrame.enabled and panel.ui.apFrame.maximum == 3 and panel.ui.apFrame.suffix == " of 3"
    assert "frame 1 of 3" in panel.ui.checksTextEdit.plainText
    panel.ui.apRoll.value = 5.0
    first = SceneBridge.xrayFromNode(panel.parameterNode.apNode).radiograph.line_integral
    panel.ui.apFrame.value = 3
    settle(panel)
    xray = SceneBridge.xrayFromNode(panel.parameterNode.apNode)
    assert xray.frame == 2 and xray.geometry.roll_deg == 5.0
    assert not np.allclose(xray.radiograph.line_integral, first)


def test_another_frame_of_a_turning_c_arm_has_its_own_angle_until_the_user_says_one(panel, tmp_path):
    from Diff2CTLib import SceneBridge

    turning = {"PositionerPrimaryAngle": "-90", "PositionerPrimaryAngleIncrement": ["0", "85", "170"], "Modality": "XA"}
    node = panel.logic.loadXray(plain_dicom(tmp_path, frames=3, **turning))
    panel.logic.editXray(node, source_to_detector_mm=1234.0)
    for frame, angle in ((1, -5), (2, 80), (0, -90), (1, -5)):
        panel.logic.rereadXray(node, frame=frame)
        xray = SceneBridge.xrayFromNode(node)
        assert xray.geometry.primary_angle_deg == xray.readGeometry.primary_angle_deg == angle
        assert xray.geometry.source_to_detector_mm == 1234 and xray.radiograph.warnings == ()
        assert xray.geometry.mirrored == xray.readGeometry.mirrored == (frame == 0), "hung as one hangs this view"
    panel.logic.editXray(node, secondary_angle_deg=4.0)
    panel.logic.rereadXray(node, frame=2)
    beam = SceneBridge.geometryOf(node)
    assert (beam.primary_angle_deg, beam.secondary_angle_deg) == (80, 4), "each angle by itself"
    panel.logic.editXray(node, secondary_angle_deg=0.0)
    panel.logic.editXray(node, kind="fan")
    panel.logic.rereadXray(node, frame=1)
    assert SceneBridge.geometryOf(node).primary_angle_deg == -5
    panel.logic.editXray(node, kind="cone")
    panel.logic.editXray(node, primary_angle_deg=-3.0)
    panel.logic.rereadXray(node, frame=2)
    assert SceneBridge.geometryOf(node).primary_angle_deg == -3
    panel.logic.restoreXray(node)
    beam = SceneBridge.geometryOf(node)
    assert (beam.primary_angle_deg, beam.source_to_detector_mm) == (80, 1234), "as this frame says, which has no distance"


def test_a_volume_of_another_module_becomes_an_xray_and_stays_as_it_was(panel):
    import slicer
    from Diff2CTLib import SceneBridge

    foreign = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Film")
    pixels = np.add.outer(np.arange(30.0), np.arange(20.0))[np.newaxis]
    slicer.util.updateVolumeFromArray(foreign, pixels)
    panel.ui.lateralSelector.setCurrentNode(foreign)
    settle(panel)
    adopted = panel.parameterNode.lateralNode
    assert adopted.GetID() != foreign.GetID() and SceneBridge.isXray(adopted) and not SceneBridge.isXray(foreign)
    assert np.array_equal(slicer.util.arrayFromVolume(foreign), pixels) and adopted.GetName() == "Film (X-ray)"
    assert panel.ui.lateralView.currentText == "LL *"


@pytest.fixture
def from_dicom(panel, xrays, tmp_path):
    """A volume as the DICOM module loads it, and its file."""
    import slicer

    path = save(tmp_path, "1.2.840.113619.2.5.dcm", xrays[0], warnings=("1.2.840.113619.2.5.dcm: 10% saturated",))
    node = slicer.util.loadVolume(path)
    node.SetName("3: L SPINE AP")
    return node, path


def test_a_volume_of_the_dicom_module_is_read_from_its_file_and_keeps_its_name(panel, from_dicom):
    from Diff2CTLib import SceneBridge

    node, path = from_dicom
    panel.ui.apSelector.setCurrentNode(node)
    settle(panel)
    adopted = panel.parameterNode.apNode
    assert adopted.GetName() == "3: L SPINE AP (X-ray)"
    assert SceneBridge.xrayFromNode(adopted).path == path and SceneBridge.assumedOf(adopted) == []
    outcome = panel.logic.reconstruct(adopted, panel.parameterNode.lateralNode)
    assert outcome.volumeNode.GetName() == "3: L SPINE AP CT (synthetic, not for diagnosis)"
    assert outcome.provenance["Sources"] == "3: L SPINE AP, lateral.dcm"
    assert "1.2.840" not in panel.ui.checksTextEdit.plainText and "changed after" not in panel.ui.checksTextEdit.plainText


def test_what_was_changed_in_a_volume_since_it_was_loaded_is_told_as_its_file_is_read(panel, from_dicom):
    import slicer

    node, _path = from_dicom
    slicer.util.arrayFromVolume(node)[:] += 1
    slicer.util.arrayFromVolumeModified(node)
    panel.ui.apSelector.setCurrentNode(node)
    settle(panel)
    assert "3: L SPINE AP was changed after it was loaded" in panel.ui.checksTextEdit.plainText


def test_a_volume_that_was_only_offered_to_save_counts_as_unchanged(module):
    from Diff2CTLib import SceneBridge

    node = add_ct()
    assert node.AddDefaultStorageNode() and not SceneBridge.isChangedSinceRead(node)


def test_the_name_of_a_file_is_replaced_where_a_warning_begins_only(xrays):
    from dataclasses import replace

    from Diff2CTLib import SceneBridge

    warnings = ("1: pixel spacing of 0.139 mm", "10.dcm: 1 % saturated")
    radiograph = replace(SceneBridge.xrayFromNode(xrays[0]).radiograph, warnings=warnings)
    told = SceneBridge.calledAs(radiograph, "1", "Thorax").warnings
    assert told == ("Thorax: pixel spacing of 0.139 mm", "10.dcm: 1 % saturated")


@pytest.mark.parametrize(
    ("names", "views"),
    [
        (("lspine_lat.png", "lspine_pa.png"), {"lspine_pa.png": "PA", "lspine_lat.png": "LL"}),
        (("1-RL lateral.png", "2.png"), {"2.png": "AP", "1-RL lateral.png": "RL"}),
        (("AP1.png", "LL1.png"), {"AP1.png": "AP", "LL1.png": "LL"}),
        (("flat.png", "map.png"), {"flat.png": "AP", "map.png": "LL"}),
        (("ap_lat_1.png", "ap_lat_2.png"), {"ap_lat_1.png": "AP", "ap_lat_2.png": "LL"}),
        (("a_lat.png", "b_lat.png"), {"b_lat.png": "AP", "a_lat.png": "LL"}),
    ],
)
def test_words_in_the_names_of_pictures_say_more_than_their_order(panel, tmp_path, names, views):
    from Diff2CTLib import SceneBridge

    nodes = panel.logic.loadXrays([plain_picture(tmp_path, name) for name in names])
    assert {node.GetName(): SceneBridge.geometryOf(node).view.value for node in nodes} == views
    assert [node.GetName() for node in nodes] == list(views) and all("view" in SceneBridge.assumedOf(node) for node in nodes)


def test_a_picture_with_a_word_in_its_name_takes_the_place_of_another(panel, xrays, tmp_path):
    panel.xraySection.load([plain_picture(tmp_path, "new_lat.png")])
    settle(panel)
    assert panel.parameterNode.apNode is xrays[0] and panel.parameterNode.lateralNode.GetName() == "new_lat.png"


def test_an_xray_that_another_module_has_moved_is_put_back(panel, xrays):
    import slicer
    from Diff2CTLib import SceneBridge

    def where():
        return slicer.util.arrayFromVolume(xrays[0]).shape, SceneBridge.worldFromNode(xrays[0]), xrays[0].GetOrigin()

    before, transform = where(), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    transform.SetMatrixTransformToParent(SceneBridge.toVtkMatrix(np.diag([2.0, 2.0, 2.0, 1.0])))
    xrays[0].SetOrigin(0.0, 0.0, 0.0)  # what Center Volume does
    settle(panel)
    assert np.allclose(where()[2], before[2])
    xrays[0].SetAndObserveTransformNodeID(transform.GetID())
    settle(panel)
    assert np.array_equal(where()[1], np.eye(4)) and xrays[0].GetTransformNodeID() is None


def test_a_ct_is_no_xray_and_says_so(panel):
    panel.ui.apSelector.setCurrentNode(add_ct(name="Abdomen"))
    settle(panel)
    assert panel.parameterNode.apNode is None
    assert "Abdomen has 12 slices" in panel.ui.checksTextEdit.plainText


def test_an_old_error_does_not_stay_beside_xrays_that_fit(panel):
    panel.ui.apSelector.setCurrentNode(add_ct(name="Abdomen"))
    settle(panel)
    ap, lateral = add_xrays()
    panel.ui.lateralSelector.setCurrentNode(lateral)
    settle(panel)
    assert "Abdomen has 12 slices" in panel.ui.checksTextEdit.plainText  # the place is still empty
    panel.ui.apSelector.setCurrentNode(ap)
    settle(panel)
    assert panel.ui.checksTextEdit.plainText == "No contradiction found between the two X-rays."
    assert panel.ui.xraySection.text == "X-rays: fit"


def test_a_file_that_could_not_be_loaded_counts_as_a_remark_until_another_xray_comes(panel, xrays, tmp_path):
    panel.xraySection.load([str(tmp_path / "nowhere.dcm")])
    settle(panel)
    assert "nowhere.dcm" in panel.ui.checksTextEdit.plainText and panel.ui.xraySection.text == "X-rays: 1 remark"
    panel.ui.apSelector.setCurrentNode(add_xrays()[0])
    settle(panel)
    assert panel.ui.checksTextEdit.plainText == "No contradiction found between the two X-rays."


def cropped(node):
    import slicer

    slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node)[:, 10:50, 10:50].copy())


def smoothed(node):
    import slicer

    pixels = slicer.util.arrayFromVolume(node)
    pixels[:] = (pixels + np.roll(pixels, 1, axis=1)) / 2
    slicer.util.arrayFromVolumeModified(node)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (cropped, "The pixels of AP were changed by another module"),
        (smoothed, "The pixels of AP were changed by another module"),
        (lambda node: node.SetAndObserveImageData(None), "AP has lost its image"),
    ],
    ids=["cropped", "smoothed", "no image"],
)
def test_an_xray_that_became_unusable_is_taken_out_and_the_panel_lives_on(panel, xrays, spoil, why):
    import slicer

    panel.ui.previewSelector.setCurrentNode(add_ct())
    settle(panel)
    spoil(xrays[0])
    settle(panel)
    assert why in panel.ui.checksTextEdit.plainText
    assert panel.parameterNode.apNode is None and slicer.mrmlScene.IsNodePresent(xrays[0])
    assert panel.ui.xraySection.text == "X-rays: Lateral only"
    assert panel.ui.reconstructionSection.text == "Reconstruction: not ready" and not panel.ui.reconstructButton.enabled
    assert all("internal error" not in getattr(panel.ui, name).text for name in ("alignmentSection", "compareSection"))
    panel.ui.apSelector.setCurrentNode(add_xrays()[0])
    settle(panel)
    assert panel.ui.xraySection.text == "X-rays: fit" and panel.ui.reconstructButton.enabled


def test_swap(panel, xrays):
    click(panel.ui.swapButton)
    settle(panel)
    assert panel.parameterNode.apNode.GetID() == xrays[1].GetID()
    assert "The views look swapped" in panel.ui.checksTextEdit.plainText


def test_swap_of_pictures_without_a_view_exchanges_what_is_assumed_of_them(panel, tmp_path):
    panel.xraySection.load([plain_picture(tmp_path, "1.png"), plain_picture(tmp_path, "2.png")])
    settle(panel)
    ui = panel.ui
    click(ui.swapButton)
    settle(panel)
    assert (panel.parameterNode.apNode.GetName(), panel.parameterNode.lateralNode.GetName()) == ("2.png", "1.png")
    assert (ui.apView.currentText, ui.lateralView.currentText) == ("AP *", "LL *")
    assert (ui.apSourceToIsocenter.value, ui.lateralSourceToIsocenter.value) == (950, 850)
    assert "swapped" not in ui.checksTextEdit.plainText and ui.apSourceToIsocenter.suffix == " mm *"
    ui.apView.currentIndex = 1  # stated, so it is kept wherever the picture goes
    settle(panel)
    click(ui.swapButton)
    settle(panel)
    assert (ui.apView.currentText, ui.lateralSelector.currentNode().GetName()) == ("AP *", "2.png")
    assert "a frontal and a lateral one are needed" in ui.checksTextEdit.plainText


def test_from_the_console_the_arguments_say_more_than_the_order_of_files_without_a_view(panel, tmp_path):
    from Diff2CTLib import SceneBridge

    lateral, ap = panel.logic.loadXrays([plain_picture(tmp_path, "1.png"), plain_picture(tmp_path, "2.png")])
    panel.logic.editXray(lateral, mirrored=False)
    panel.logic.placeXrays(ap, lateral)
    beams = [SceneBridge.geometryOf(node) for node in (ap, lateral)]
    assert [beam.view.value for beam in beams] == ["AP", "LL"] and not beams[1].mirrored
    assert all("view" in SceneBridge.assumedOf(node) for node in (ap, lateral))
    panel.logic.placeXrays(ap, ap)  # the same image twice is another's complaint
    assert SceneBridge.geometryOf(ap).view.value == "AP"


def test_assumed_distances_go_with_those_that_are_stated(panel, tmp_path):
    from Diff2CTLib import SceneBridge

    (node, _none) = panel.logic.loadXrays([plain_picture(tmp_path)])

    def distances():
        beam = SceneBridge.geometryOf(node)
        return beam.source_to_detector_mm, beam.source_to_isocenter_mm

    panel.logic.editXray(node, source_to_detector_mm=1500)
    assert distances() == (1500, 1300)
    panel.logic.editXray(node, view="LL")
    assert distances() == (1500, 1200)
    panel.logic.editXray(node, source_to_isocenter_mm=1250)
    panel.logic.editXray(node, source_to_detector_mm=1450)
    assert distances() == (1450, 1250)  # both stated
    (other, _none) = panel.logic.loadXrays([plain_picture(tmp_path, "other.png")])
    node = other
    panel.logic.editXray(node, source_to_isocenter_mm=1000)
    assert distances() == (1200, 1000) and "source_to_detector_mm" in SceneBridge.assumedOf(node)


def test_xrays_of_different_patients_are_told_and_no_name_is_kept(panel, tmp_path):
    import pydicom
    import slicer

    paths = []
    for node, patient in zip(add_xrays(), ("1234567", "7654321"), strict=True):
        path = save(tmp_path, f"{node.GetName()}.dcm", node)
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.PatientName, dataset.StudyDate = patient, "Doe^Jane", "20240531"
        dataset.remove_private_tags()  # else it would be taken for one of ours, which has no patient
        dataset.save_as(path)
        paths.append(path)
    panel.xraySection.load(paths)
    settle(panel)
    assert "seem to be of different patients" in panel.ui.checksTextEdit.plainText
    scene = tmp_path / "case.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(scene))
    with zipfile.ZipFile(scene) as files:
        (text,) = [files.read(name) for name in files.namelist() if name.endswith(".mrml")]
    assert b"20240531" in text and not any(secret in text for secret in (b"1234567", b"7654321", b"Doe", bytes(tmp_path)))
    slicer.mrmlScene.Clear(False)
    assert slicer.mrmlScene.ReadFromMRB(str(scene))
    settle(panel)
    assert "seem to be of different patients" in panel.ui.checksTextEdit.plainText


def test_the_folder_of_a_file_is_known_for_this_session_only(panel, tmp_path, monkeypatch):
    from Diff2CTLib import SceneBridge

    path = plain_picture(tmp_path)
    node = panel.logic.loadXray(path, view="AP")
    assert str(tmp_path) not in node.GetAttribute(SceneBridge.XRAY_ATTRIBUTE)
    panel.logic.flipXray(node, leftRight=True)
    panel.logic.rereadXray(node, polarity="dark_dense")
    assert SceneBridge.xrayFromNode(node).path == path
    monkeypatch.setattr(SceneBridge, "_folders", {})  # a session later
    monkeypatch.chdir(tmp_path)  # a folder that has, by chance, a file of that name
    assert SceneBridge.xrayFromNode(node).path == "film.png"
    with pytest.raises(ValueError, match=r"film.png is not there any more. Load the X-ray again"):
        panel.logic.rereadXray(node, polarity="bright_dense")
    facts = json.loads(node.GetAttribute(SceneBridge.XRAY_ATTRIBUTE))
    facts["reading"]["path"] = path  # a scene of an earlier version
    node.SetAttribute(SceneBridge.XRAY_ATTRIBUTE, json.dumps(facts))
    assert SceneBridge.xrayFromNode(node).path == path


def test_the_same_view_twice_and_an_oblique_pair_are_told(panel, xrays):
    panel.ui.lateralView.currentIndex = 2  # AP
    settle(panel)
    assert "Both views are frontal" in panel.ui.checksTextEdit.plainText
    assert panel.ui.reconstructButton.enabled is False
    panel.ui.lateralView.currentIndex = 0
    panel.ui.lateralPrimaryAngle.value = 60.0
    settle(panel)
    assert "not orthogonal" in panel.ui.checksTextEdit.plainText


def test_collimation_and_saturation_are_told(panel, xrays, tmp_path, answer_dialog):
    valid = np.ones((100, 90), bool)
    valid[:, :20] = False
    path = save(tmp_path, "narrow.dcm", xrays[0], valid=valid, warnings=("narrow.dcm: 10% saturated",))
    answer_dialog("getOpenFileNames", (path,))
    click(panel.ui.loadButton)
    settle(panel)
    assert "collimated, 22 % of the image" in panel.ui.checksTextEdit.plainText


def test_views_that_do_not_share_the_axis_are_told(panel, xrays):
    from dataclasses import replace

    from Diff2CTLib import SceneBridge

    xray = SceneBridge.xrayFromNode(xrays[1])
    rolled = np.roll(xray.radiograph.line_integral, 8, axis=0)  # 8 rows of 4 mm at the detector are 26 mm at the isocentre
    SceneBridge.updateXray(xrays[1], replace(xray, radiograph=replace(xray.radiograph, line_integral=rolled)))
    settle(panel)
    assert "mm lower than the AP view" in panel.ui.checksTextEdit.plainText


def test_an_xray_in_the_scene_is_exactly_the_one_that_went_in(module):
    from Diff2CTLib import SceneBridge
    from Diff2CTLib.Xray import Xray

    from diff2ct.examination import Examination
    from diff2ct.geometry import ParallelBeam, View
    from diff2ct.radiograph import Radiograph

    beam = ParallelBeam.from_view(
        View.RL, detector_spacing_mm=(1.1, 1.3), detector_size=(20, 30), principal_point=(3.7, 9.1), isocenter_lps=(1, 2, 3.3)
    )
    image = np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)
    valid = image > -1
    examination = Examination("0af3", "20240531")
    radiograph = Radiograph(
        image, beam, valid=valid, assumed=("view",), source="x.png", warnings=("w",), examination=examination
    )
    node = SceneBridge.addXray(Xray(radiograph, beam, path="/x.png", frame=1, frames=2, polarity="dark_dense"), "x")
    found = SceneBridge.xrayFromNode(node)
    assert found.geometry == beam and found.readGeometry == beam
    assert np.array_equal(found.radiograph.valid, valid)
    assert np.array_equal(found.radiograph.line_integral[valid], image[valid])
    assert (found.path, found.frame, found.frames, found.polarity) == ("/x.png", 1, 2, "dark_dense")
    assert (found.radiograph.assumed, found.radiograph.warnings, found.radiograph.source) == (("view",), ("w",), "x.png")
    assert found.radiograph.examination == examination
    facts = json.loads(node.GetAttribute(SceneBridge.XRAY_ATTRIBUTE))
    del facts["examination"]
    node.SetAttribute(SceneBridge.XRAY_ATTRIBUTE, json.dumps(facts))  # a scene that was saved before there was any
    assert SceneBridge.xrayFromNode(node).radiograph.examination == Examination()
