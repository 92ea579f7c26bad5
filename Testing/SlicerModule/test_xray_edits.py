"""What is stated in the panel about an X-ray gives the geometry that reading its file with the same statements gives."""

import itertools

import numpy as np
import pytest
from SlicerModule.tools import click, settle

SIZES = ("source_to_detector_mm", "source_to_isocenter_mm", "detector_spacing_mm")
DETECTOR, ISOCENTER, LATERAL, FAN = (
    ("source_to_detector_mm", 1400.0), ("source_to_isocenter_mm", 1000.0), ("view", "LL"), ("kind", "fan")
)  # fmt: skip
CALIBRATED = {"PixelSpacing": [0.5, 0.5], "PixelSpacingCalibrationType": "FIDUCIAL"}
AT_DETECTOR = {"ImagerPixelSpacing": [0.5, 0.5]}
FILES = {
    "picture": None,
    "calibrated": ("CR", CALIBRATED),
    "calibrated, distance": ("CR", {**CALIBRATED, "DistanceSourceToDetector": 1500}),
    "both spacings": ("CR", {**CALIBRATED, "PixelSpacing": [0.4, 0.4], **AT_DETECTOR}),
    "magnification": ("CR", {**AT_DETECTOR, "EstimatedRadiographicMagnificationFactor": 1.3}),
    "to the patient": ("CR", {**AT_DETECTOR, "DistanceSourceToPatient": 900}),
    "to the table": ("DX", {**AT_DETECTOR, "DistanceSourceToPatient": 1250}),
    "C-arm": ("RF", AT_DETECTOR),
}


def xray_file(folder, name, modality="CR", tags=None):
    """A DICOM file of 300 x 250 pixels with these attributes, or a picture that tells nothing."""
    import SimpleITK as sitk
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    rows, columns = np.indices((300, 250))
    pixels = (1000 + 200 * np.sin(rows / 30) + columns).astype(np.uint16)
    if tags is None:
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(folder / f"{name}.png"))
        return folder / f"{name}.png"
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = ComputedRadiographyImageStorage, generate_uid(), modality
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PhotometricInterpretation, dataset.PixelData = "MONOCHROME2", pixels.tobytes()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(folder / name, enforce_file_format=True)
    return folder / name


def as_read(path, view, **stated):
    from diff2ct.radiograph import read_radiograph

    return read_radiograph(path, view=view, geometry=stated or None).geometry


@pytest.mark.parametrize("name", FILES)
def test_edits_in_any_order_give_what_the_file_gives_with_them(panel, tmp_path, name):
    from Diff2CTLib import SceneBridge

    path = xray_file(tmp_path, "x", *(FILES[name] or ()))
    loaded = panel.logic.loadXray(path, fallbackView="AP").GetAttribute(SceneBridge.XRAY_ATTRIBUTE)
    node = panel.logic.loadXray(path, fallbackView="AP")
    for count in (1, 2, 3):
        for edits in itertools.permutations((DETECTOR, ISOCENTER, LATERAL, FAN), count):
            node.SetAttribute(SceneBridge.XRAY_ATTRIBUTE, loaded)
            for fact, value in (("source_to_detector_mm", 1350.0), *edits) if DETECTOR in edits else edits:
                panel.logic.editXray(node, **{fact: value})
            beam, expected = SceneBridge.geometryOf(node), as_read(path, **{"view": "AP", **dict(edits)})
            for size in SIZES:
                np.testing.assert_allclose(getattr(beam, size), getattr(expected, size), rtol=1e-9, err_msg=f"{size}, {edits}")


def test_a_file_of_an_earlier_session_is_not_looked_for_in_the_working_folder(panel, tmp_path, monkeypatch):
    """One with the same name may be of another patient."""
    from Diff2CTLib import SceneBridge

    from diff2ct import radiograph

    def unexpected(path, **_options):
        raise AssertionError(f"{path} was read")

    first, second = (panel.logic.loadXray(xray_file(tmp_path, "x", "CR", CALIBRATED), fallbackView="AP") for _ in range(2))
    monkeypatch.setattr(SceneBridge, "_folders", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(radiograph, "read_beam", unexpected)
    monkeypatch.setattr(radiograph, "read_radiograph", unexpected)
    SceneBridge.assumeView(first, "LL")
    panel.logic.editXray(second, source_to_detector_mm=1400.0)
    assert SceneBridge.geometryOf(first).view.value == "LL"


def test_swap_keeps_what_is_calibrated_and_how_each_file_is_oriented(panel, tmp_path):
    from Diff2CTLib import SceneBridge

    lateral = xray_file(tmp_path, "1", "CR", {**CALIBRATED, "PatientOrientation": ["A", "F"]})
    frontal = xray_file(tmp_path, "2", "CR", {**CALIBRATED, "PatientOrientation": ["R", "F"]})  # as seen from behind
    panel.xraySection.load([str(lateral), str(frontal)])
    settle(panel)
    click(panel.ui.swapButton)
    settle(panel)
    for node, path, view in ((panel.parameterNode.apNode, frontal, "AP"), (panel.parameterNode.lateralNode, lateral, "LL")):
        beam = SceneBridge.geometryOf(node)
        assert beam == as_read(path, view) and beam.patient_spacing_mm == (0.5, 0.5)
    assert "is not used" not in panel.ui.checksTextEdit.plainText


def test_a_view_stated_by_mistake_leaves_no_mirrored_image(panel, tmp_path):
    from Diff2CTLib import SceneBridge

    node = panel.logic.loadXray(xray_file(tmp_path, "x", "CR", {**AT_DETECTOR, "ViewPosition": "AP"}))
    before = SceneBridge.geometryOf(node)
    panel.logic.editXray(node, view="LL")
    panel.logic.restoreXray(node)
    assert SceneBridge.geometryOf(node) == before and "mirrored" in SceneBridge.assumedOf(node)


def test_a_geometry_that_cannot_follow_the_place_is_told(panel, tmp_path):
    panel.xraySection.load([str(xray_file(tmp_path, "x"))])
    settle(panel)
    panel.logic.editXray(panel.parameterNode.apNode, source_to_detector_mm=300.0)
    click(panel.ui.swapButton)
    settle(panel)
    assert "accepted is 0 < source to mid-body < source to detector" in panel.ui.checksTextEdit.plainText
    assert "internal error" not in panel.ui.xraySection.text


def test_files_from_a_dialog_are_taken_by_name(panel, tmp_path, monkeypatch):
    import qt

    paths = tuple(str(xray_file(tmp_path, name)) for name in ("b", "a"))
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileNames", lambda *_arguments: paths)
    click(panel.ui.loadButton)
    settle(panel)
    assert (panel.parameterNode.apNode.GetName(), panel.parameterNode.lateralNode.GetName()) == ("a.png", "b.png")


def test_files_of_a_cd_are_xrays_and_its_index_is_none(panel, tmp_path):
    from Diff2CTLib.Logic import _isXrayFile

    for name in ("IM1", "1.2.840.113619.2.1", "DICOMDIR"):
        xray_file(tmp_path, name, "CR", AT_DETECTOR)
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "old.png").mkdir()
    assert [path.name for path in sorted(tmp_path.iterdir()) if _isXrayFile(path)] == ["1.2.840.113619.2.1", "IM1"]
