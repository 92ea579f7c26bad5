"""DICOM radiographs: which side is which, where spacing and distances come from, what pixel values mean, what is refused."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, generate_uid

from diff2ct.assumptions import C_ARM, FILM
from diff2ct.dicom_file import PRIVATE_CREATOR, PRIVATE_GROUP, get_frame, save
from diff2ct.examination import NOT_TOLD
from diff2ct.geometry import BEAMS, Beam, ConeBeam, FanBeam, View, as_kind
from diff2ct.overlay import match
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph, read_beam, read_radiograph, write_radiograph
from diff2ct.radiograph_pair import check_pair
from diff2ct.units import hu_to_mu
from diff2ct.volume_io import read_ct

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SCOUT = SHARED / "xray_acrin042_scout_ap.dcm"
MARKER_LPS = np.array([30.0, -20.0, 45.0])  # left, anterior, cranial
SIZE = (120, 100)
MAX_CODE = 4095


def beam(view: View, **changes: Any) -> ConeBeam:
    values: dict[str, Any] = {
        "source_to_detector_mm": 1100.0,
        "source_to_isocenter_mm": 900.0,
        "detector_spacing_mm": (2.0, 2.1),
        "detector_size": SIZE,
    }
    return ConeBeam.from_view(view, **{**values, **changes})


def marked_codes(geometry: Beam) -> np.ndarray:
    """(H, W) 12-bit codes, dense = high: a gradient and a spot where `MARKER_LPS` projects to."""
    row, column = geometry.project_points(MARKER_LPS)
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    spot = 2000.0 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18.0)
    return np.rint(500.0 + 4.0 * rows + 3.0 * columns + spot).astype(np.uint16)


def save_dicom(path: Path, codes: np.ndarray, **elements: Any) -> Path:
    """A file with all that a header can say about an AP `beam`; `elements` overrules that, None removes an element.

    CR, as Distance Source to Patient ends at the isocentre there; in DX it does not.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    defaults: dict[str, Any] = {
        "Modality": "CR",
        "ViewPosition": "AP",
        "PatientOrientation": ["L", "F"],
        "ImagerPixelSpacing": [2.0, 2.1],
        "DistanceSourceToDetector": 1100,
        "DistanceSourceToPatient": 900,
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": -1,
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "Rows": codes.shape[-2],
        "Columns": codes.shape[-1],
    }
    if codes.ndim == 3:
        defaults["NumberOfFrames"] = len(codes)
    for keyword, value in {**defaults, **elements}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = np.ascontiguousarray(codes, dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    save(dataset, path)
    return path


def assert_marker_in_place(radiograph: Radiograph) -> None:
    spot = np.unravel_index(np.argmax(radiograph.line_integral), radiograph.line_integral.shape)
    np.testing.assert_allclose(spot, radiograph.geometry.project_points(MARKER_LPS), atol=0.75)


def test_a_pair_of_different_patients_is_said_and_a_synthetic_one_has_none(tmp_path: Path) -> None:
    films = []
    for view, patient, day in ((View.AP, "1234567", "20240531"), (View.LL, "7654321", "20240603")):
        elements = {"ViewPosition": view.value, "PatientOrientation": None, "PatientID": patient, "StudyDate": day}
        films.append(read_radiograph(save_dicom(tmp_path / f"{view.value}.dcm", marked_codes(beam(view)), **elements)))
    said = check_pair(*films)
    assert any("different patients" in sentence for sentence in said)
    assert any("taken 3 days apart" in sentence for sentence in said)
    assert films[0].resized(max_pixels=50).examination == films[0].examination
    write_radiograph(films[0], tmp_path / "written.dcm")
    assert read_radiograph(tmp_path / "written.dcm").examination == NOT_TOLD


# Sides


def test_a_full_header_leaves_little_to_assume(tmp_path: Path) -> None:
    film = read_radiograph(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP))))
    assert film.geometry == beam(View.AP)
    assert film.assumed == ("principal_point", "isocenter_lps") and not film.scale_known
    assert_marker_in_place(film)


LETTERS = {View.AP: "L", View.PA: "L", View.LL: "P", View.RL: "P"}
OPPOSITE = {"L": "R", "P": "A", "F": "H"}


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize(("flip_columns", "flip_rows", "transpose"), list(product([False, True], repeat=3)))
def test_left_stays_left_however_the_image_is_stored(
    tmp_path: Path, view: View, flip_columns: bool, flip_rows: bool, transpose: bool
) -> None:
    """All eight ways to store the same film, told by Patient Orientation, show the marker at the same LPS point."""
    codes, letters = marked_codes(beam(view)), [LETTERS[view], "F"]
    spacing = [2.0, 2.1]
    if flip_columns:
        codes, letters[0] = codes[:, ::-1], OPPOSITE[letters[0]]
    if flip_rows:
        codes, letters[1] = codes[::-1], OPPOSITE["F"]
    if transpose:
        codes, letters, spacing = codes.T, letters[::-1], spacing[::-1]
    path = save_dicom(
        tmp_path / "x.dcm", codes, ViewPosition=view.value, PatientOrientation=letters, ImagerPixelSpacing=spacing
    )
    film = read_radiograph(path)
    assert_marker_in_place(film)
    assert film.geometry.view is view and film.line_integral.shape == SIZE
    assert film.geometry.detector_axes[1][2] == pytest.approx(-1.0)  # rows run toward the feet
    # In LPS terms: the marker lies on the patient's left, in front, toward the head.
    spot = np.argwhere(film.line_integral == film.line_integral.max())[0][None, :].astype(float)
    from_center = film.geometry.pixel_to_lps(spot)[0] - film.geometry.pixel_to_lps(np.array(film.geometry.principal_point))  # type: ignore[union-attr]
    across = from_center[1] if view.is_lateral else from_center[0]
    assert (across < 0) if view.is_lateral else (across > 0)
    assert from_center[2] > 0


def test_without_patient_orientation_the_side_is_assumed_and_said(tmp_path: Path) -> None:
    film = read_radiograph(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), PatientOrientation=None))
    assert film.geometry.mirrored == beam(View.AP).mirrored
    assert "mirrored" in film.assumed and "the patient's left, or back, on its right" in film.reasons["mirrored"]


def test_an_orientation_of_another_view_is_not_used(tmp_path: Path) -> None:
    film = read_radiograph(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), PatientOrientation=["P", "F"]))
    assert "mirrored" in film.assumed and any("does not belong to a AP view" in w for w in film.warnings)


def test_a_complete_given_geometry_speaks_about_the_stored_image(tmp_path: Path) -> None:
    head_down = replace(beam(View.AP), roll_deg=180.0)
    path = save_dicom(tmp_path / "x.dcm", marked_codes(head_down), PatientOrientation=["R", "H"])
    film = read_radiograph(path, geometry=head_down)
    assert film.geometry == head_down
    assert_marker_in_place(film)
    wrong_side = read_radiograph(path, geometry=replace(head_down, mirrored=not head_down.mirrored))
    assert any("column direction is the opposite in the file" in w for w in wrong_side.warnings)
    upside_down = read_radiograph(path, geometry=replace(head_down, roll_deg=0.0))
    assert any("row direction is the opposite in the file" in w for w in upside_down.warnings)


def test_the_file_tells_the_side_where_the_caller_does_not(tmp_path: Path) -> None:
    """Distances and view given by hand must not overrule an orientation that the file knows."""
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP))[::-1, ::-1], PatientOrientation=["R", "H"])
    values = beam(View.AP).to_dict()
    for fact in ("mirrored", "principal_point", "primary_angle_deg"):
        del values[fact]
    film = read_radiograph(path, view="AP", geometry=values)
    assert_marker_in_place(film)
    assert "mirrored" not in film.assumed


def test_a_complete_given_geometry_for_an_image_that_lies_on_its_side_is_said(tmp_path: Path) -> None:
    """It speaks about the image as stored, so an upright one shows the patient lying."""
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)).T, PatientOrientation=["F", "L"])
    assert read_radiograph(path).warnings == ()
    stated = read_radiograph(path, geometry={**beam(View.AP).to_dict(), "detector_size": None, "principal_point": None})
    assert sum("direction is another in the file" in w for w in stated.warnings) == 2


# Views and angles


@pytest.mark.parametrize(
    ("elements", "angle"),
    [
        ({"ViewPosition": "PA"}, 0.0),
        ({"ViewPosition": "LL"}, 90.0),
        ({"ViewPosition": "RL", "PositionerPrimaryAngle": 0}, -90.0),
        ({"ViewPosition": "AP", "PositionerPrimaryAngle": 176.5}, 176.5),
        ({"Modality": "XA", "ViewPosition": None, "PositionerPrimaryAngle": 85}, 85.0),
        ({"Modality": "XA", "ViewPosition": None, "PositionerPrimaryAngle": 0}, 0.0),
    ],
)
def test_view_and_angle(tmp_path: Path, elements: dict[str, Any], angle: float) -> None:
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), PatientOrientation=None, **elements)
    assert read_radiograph(path).geometry.primary_angle_deg == angle


def test_stated_distances_leave_the_angles_of_the_header(tmp_path: Path) -> None:
    """As long as the caller states no angle, the C-arm's own holds, also if everything else is stated."""
    angles = {"PositionerPrimaryAngle": 168, "PositionerSecondaryAngle": 15}
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), Modality="XA", PatientOrientation=None, **angles)
    stated = {"view": "AP", "source_to_detector_mm": 1100, "source_to_isocenter_mm": 900, "detector_spacing_mm": [2.0, 2.1]}
    for geometry in (stated, {**stated, "mirrored": True, "principal_point": [59.5, 49.5]}):
        film = read_radiograph(path, geometry=geometry)
        assert (film.geometry.primary_angle_deg, film.geometry.secondary_angle_deg) == (168.0, 15.0)
    straight = read_radiograph(path, geometry=beam(View.AP))
    assert straight.geometry == beam(View.AP) and straight.assumed == ()


@pytest.mark.parametrize(
    ("scheme", "value", "view"),
    [
        ("SCT", "399348003", View.AP),
        ("SCT", "272479007", View.PA),
        ("SCT", "399173006", View.LL),
        ("SCT", "399198007", View.RL),
        ("SRT", "R-10206", View.AP),
        ("SRT", "R-10214", View.PA),
        ("SRT", "R-10236", View.LL),
        ("SRT", "R-10232", View.RL),
    ],
)
def test_view_code_is_read(tmp_path: Path, scheme: str, value: str, view: View) -> None:
    """PS3.16 CID 4010."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, "see CID 4010"
    path = save_dicom(
        tmp_path / "x.dcm", marked_codes(beam(view)), ViewPosition="", ViewCodeSequence=[code], PatientOrientation=None
    )
    assert read_radiograph(path).geometry.view is view


def test_the_isocentre_of_a_scout_is_the_middle_of_its_plane(tmp_path: Path) -> None:
    elements: dict[str, Any] = {
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        "ImagePositionPatient": [-100.0, 7.0, 900.0],
        "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
        "PixelSpacing": [0.5, 0.6],
        "ImagerPixelSpacing": None,
    }
    scout = read_radiograph(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **elements))
    height, width = scout.line_integral.shape
    assert scout.geometry.isocenter_lps == pytest.approx((-100 + 0.6 * (width - 1) / 2, 7.0, 900 - 0.5 * (height - 1) / 2))
    assert "isocenter_lps" not in scout.assumed


def test_unknown_views_must_be_given(tmp_path: Path) -> None:
    for elements in ({"ViewPosition": None}, {"ViewPosition": "LLO"}, {"ViewPosition": None, "PositionerPrimaryAngle": 0}):
        path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **elements)
        with pytest.raises(ValueError, match=r"x.dcm: the file does not tell the view"):
            read_radiograph(path)
        assert read_radiograph(path, view="AP").geometry.view is View.AP


def test_what_the_caller_says_wins_with_a_warning(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.PA)))
    film = read_radiograph(path, view=View.PA, geometry={"source_to_detector_mm": 1400})
    assert film.geometry.view is View.PA and film.geometry.source_to_detector_mm == 1400  # type: ignore[union-attr]
    assert any("the view is AP in the file, the given PA is used" in w for w in film.warnings)
    assert any("source_to_detector_mm is 1100.0 in the file, the given 1400" in w for w in film.warnings)
    assert_marker_in_place(replace(film, geometry=beam(View.PA)))
    conflict = save_dicom(tmp_path / "y.dcm", marked_codes(beam(View.AP)), PositionerPrimaryAngle=90)
    assert any("90 deg in the file is LL" in w for w in read_radiograph(conflict).warnings)


# Distances and spacing


def test_spacing_rules(tmp_path: Path) -> None:
    codes = marked_codes(beam(View.AP))

    def read(**elements: Any) -> Radiograph:
        return read_radiograph(save_dicom(tmp_path / "x.dcm", codes, **elements))

    calibrated = read(ImagerPixelSpacing=None, PixelSpacing=[1.8, 0.9], PixelSpacingCalibrationType="FIDUCIAL")
    np.testing.assert_allclose(calibrated.geometry.detector_spacing_mm, (1.8 * 11 / 9, 0.9 * 11 / 9))
    assert "detector_spacing_mm" not in calibrated.assumed
    both = read(PixelSpacing=[1.0, 1.05], PixelSpacingCalibrationType="GEOMETRY")
    assert both.geometry.detector_spacing_mm == (2.0, 2.1)
    uncertain = read(ImagerPixelSpacing=None, PixelSpacing=[1.8, 0.9])
    assert uncertain.geometry.detector_spacing_mm == (1.8, 0.9) and "detector_spacing_mm" in uncertain.assumed
    stated = read_radiograph(tmp_path / "x.dcm", geometry={"detector_spacing_mm": [1.8, 0.9]})
    assert "detector_spacing_mm" not in stated.assumed
    film = read(ImagerPixelSpacing=None, NominalScannedPixelSpacing=[0.5, 0.6])
    assert film.geometry.detector_spacing_mm == (0.5, 0.6)
    none = read(ImagerPixelSpacing=[0, 0])
    assert none.geometry.detector_spacing_mm[0] == pytest.approx(FILM.image_length_mm / max(SIZE))
    assert "detector_spacing_mm" in none.assumed


@pytest.mark.parametrize(("letters", "spacing_mm"), [(["L", "F"], (1.0, 0.5)), (["F", "L"], (0.5, 1.0))])
def test_without_a_spacing_the_aspect_ratio_still_counts(
    tmp_path: Path, letters: list[str], spacing_mm: tuple[float, float]
) -> None:
    """PS3.3 C.7.6.3.1.7: vertical over horizontal, of pixels as stored, so in an image on its side they change places."""
    elements: dict[str, Any] = {"ImagerPixelSpacing": None, "PixelAspectRatio": [2, 1], "PatientOrientation": letters}
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **elements)
    film = read_radiograph(path)
    height_mm, width_mm = (n * mm for n, mm in zip(film.line_integral.shape, film.geometry.detector_spacing_mm, strict=True))
    assert max(height_mm, width_mm) == pytest.approx(FILM.image_length_mm) and "detector_spacing_mm" in film.assumed
    ratio = film.geometry.detector_spacing_mm[0] / film.geometry.detector_spacing_mm[1]
    assert ratio == pytest.approx(spacing_mm[0] / spacing_mm[1])


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"ViewPosition": None, "PositionerPrimaryAngle": None},
        {"PatientOrientation": ["F", "L"], "DistanceSourceToDetector": None, "DistanceSourceToPatient": None},
        {"ImagerPixelSpacing": None, "Manufacturer": "EOS imaging"},
    ],
    ids=["full", "no view", "lying, no distances", "EOS, no spacing"],
)
def test_the_geometry_alone_is_that_of_the_radiograph(tmp_path: Path, elements: dict[str, Any]) -> None:
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **elements)
    for geometry in (None, {"source_to_detector_mm": 1234.0}, {"kind": "fan"}):
        whole = read_radiograph(path, view="LL", geometry=geometry)
        found, assumed = read_beam(path, view="LL", geometry=geometry)
        assert found == whole.geometry and set(assumed) == set(whole.assumed) - {"polarity", "intensity"}
    picture = tmp_path / "x.png"
    picture.write_bytes(b"no DICOM")
    with pytest.raises(ValueError, match=r"x\.png: not a DICOM file"):
        read_beam(picture)


def test_a_dicom_file_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    """As a picture it would lose view, side, spacing and polarity."""
    path = save_dicom(tmp_path / "x.png", marked_codes(beam(View.AP)))
    film = read_radiograph(path)
    assert film.geometry == beam(View.AP) and film.assumed == ("principal_point", "isocenter_lps")


def test_distance_rules(tmp_path: Path) -> None:
    codes = marked_codes(beam(View.AP))

    def distances(**elements: Any) -> tuple[float, float, Radiograph]:
        film = read_radiograph(save_dicom(tmp_path / "x.dcm", codes, **elements))
        assert isinstance(film.geometry, ConeBeam)
        return film.geometry.source_to_detector_mm, film.geometry.source_to_isocenter_mm, film

    detector, isocenter, film = distances(DistanceSourceToDetector=None, DistanceSourceToPatient=None)
    assert (detector, isocenter) == (FILM.source_to_detector_mm, FILM.source_to_detector_mm - FILM.frontal_to_detector_mm)
    assert {"source_to_detector_mm", "source_to_isocenter_mm"} <= set(film.assumed)
    assert all("a lumbar spine film" in film.reasons[f"source_to_{end}_mm"] for end in ("detector", "isocenter"))
    assert film.warnings == ()
    detector, isocenter, film = distances(DistanceSourceToPatient=None, EstimatedRadiographicMagnificationFactor=1.25)
    assert (detector, isocenter) == (1100, 880) and "source_to_isocenter_mm" not in film.assumed
    detector, isocenter, film = distances(DistanceSourceToDetector=None, EstimatedRadiographicMagnificationFactor=1.25)
    assert (detector, isocenter) == (1125, 900) and "source_to_detector_mm" not in film.assumed
    detector, isocenter, film = distances(DistanceSourceToPatient=None, PixelSpacing=[1.6, 1.68])
    assert isocenter == pytest.approx(880)  # calibrated spacing tells the magnification
    detector, isocenter, film = distances(DistanceSourceToDetector=None)
    assert (detector, isocenter) == (900 + FILM.frontal_to_detector_mm, 900)
    detector, isocenter, film = distances(DistanceSourceToDetector=110, DistanceSourceToPatient=0)
    assert detector == FILM.source_to_detector_mm and any("110 mm is not plausible" in w for w in film.warnings)
    detector, isocenter, film = distances(DistanceSourceToPatient=1100)
    assert isocenter == 1100 - FILM.frontal_to_detector_mm and any("not below" in w for w in film.warnings)
    detector, isocenter, film = distances(Modality="XA", DistanceSourceToDetector=None, DistanceSourceToPatient=None)
    assert detector == C_ARM.source_to_detector_mm


def test_a_ball_in_the_patient_decides_against_less_certain_numbers(tmp_path: Path) -> None:
    """A distance that loses is said, and so is what decides against Pixel Spacing without a ball."""

    def read(**elements: Any) -> Radiograph:
        spacing = {"ImagerPixelSpacing": [1.2, 1.2], "PixelSpacing": [0.9, 0.9], "PixelSpacingCalibrationType": "FIDUCIAL"}
        return read_radiograph(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **{**spacing, **elements}))

    for elements in ({}, {"EstimatedRadiographicMagnificationFactor": 1.05}, {"DistanceSourceToDetector": None}):
        film = read(**elements)
        assert film.geometry.patient_spacing_mm == pytest.approx((0.9, 0.9))
        lost = ["x.dcm: source_to_isocenter_mm is 900 in the file, 825 by its ball calibration, which is used"]
        assert list(film.warnings) == ([] if "DistanceSourceToDetector" in elements else lost)
    assert read(DistanceSourceToPatient=825).warnings == ()
    for elements in ({"PixelSpacingCalibrationType": "GEOMETRY"}, {"Modality": "XA", "PositionerPrimaryAngle": 180}):
        film = read(**elements)
        assert film.geometry.patient_spacing_mm == pytest.approx((1.2 * 9 / 11, 1.2 * 9 / 11))
        (warning,) = film.warnings
        assert "a pixel is 0.9 x 0.9 mm by the file's Pixel Spacing, 0.9818 x 0.9818 mm" in warning
    stated = read_radiograph(tmp_path / "x.dcm", geometry={"source_to_isocenter_mm": 1100 * 0.75})
    assert not any("Pixel Spacing" in warning for warning in stated.warnings)


@pytest.mark.parametrize(("view", "behind"), [("AP", FILM.frontal_to_detector_mm), ("LL", FILM.lateral_to_detector_mm)])
@pytest.mark.parametrize("modality", ["DX", "RG"])
def test_a_distance_to_the_table_is_none_to_the_patient(tmp_path: Path, modality: str, view: str, behind: float) -> None:
    """PS3.3 C.8.11.5: in DX it ends at the table or bucky side, and so do magnification and Pixel Spacing made of it."""
    codes = marked_codes(beam(View.AP))
    known: dict[str, Any] = {"Modality": modality, "ViewPosition": view, "PatientOrientation": None}
    bucky = {**known, "DistanceSourceToDetector": 1150, "DistanceSourceToPatient": 1090}
    path = save_dicom(tmp_path / "x.dcm", codes, **bucky, EstimatedRadiographicMagnificationFactor=1.055)
    film = read_radiograph(path)
    assert isinstance(film.geometry, ConeBeam)
    assert (film.geometry.source_to_detector_mm, film.geometry.source_to_isocenter_mm) == (1150, 1150 - behind)
    assert "source_to_isocenter_mm" in film.assumed and "source_to_detector_mm" not in film.assumed
    assert "distance to the patient ends at the table or bucky" in film.reasons["source_to_isocenter_mm"]
    stated = read_radiograph(path, geometry={"source_to_isocenter_mm": 930})
    assert stated.geometry.source_to_isocenter_mm == 930 and "source_to_isocenter_mm" not in stated.assumed  # type: ignore[union-attr]
    assert "source_to_isocenter_mm" not in stated.reasons
    for ratio in (1.25, 1.12):  # neither is that of the table
        path = save_dicom(tmp_path / "x.dcm", codes, **bucky, PixelSpacing=[2.0 / ratio, 2.1 / ratio])
        calibrated = read_radiograph(path)
        assert calibrated.geometry.magnification == pytest.approx(ratio) and "source_to_isocenter_mm" not in calibrated.assumed
    for at_table in ({"EstimatedRadiographicMagnificationFactor": 1.055}, {}):
        spacings = {"PixelSpacing": [2.0 / 1.055, 2.1 / 1.055], **at_table}
        for calibration in (None, "GEOMETRY", "FIDUCIAL"):
            film = read_radiograph(
                save_dicom(tmp_path / "x.dcm", codes, **bucky, **spacings, PixelSpacingCalibrationType=calibration)
            )
            is_of_ball = calibration == "FIDUCIAL"
            assert ("source_to_isocenter_mm" in film.assumed) != is_of_ball
            assert film.geometry.magnification == pytest.approx(1.055 if is_of_ball else 1150 / (1150 - behind))
    no_detector = {**bucky, "DistanceSourceToDetector": None, "DistanceSourceToPatient": 1740}
    far = read_radiograph(save_dicom(tmp_path / "x.dcm", codes, **no_detector))
    assert far.geometry.source_to_detector_mm == 1740 and "source_to_detector_mm" in far.assumed  # type: ignore[union-attr]


EOS = {
    "Manufacturer": "EOS imaging",
    "DistanceSourceToDetector": 1300,
    "DistanceSourceToIsocenter": 1000,
    "DistanceSourceToPatient": 900,
    "PixelSpacing": [1.5, 1.5],
    "ImagerPixelSpacing": [1.95, 1.95],
}


@pytest.mark.parametrize(
    ("maker", "is_scanner"),
    [
        ({"Manufacturer": "EOS imaging"}, True),
        ({"Manufacturer": "Biospace", "ManufacturerModelName": "EOSedge"}, True),
        ({"Manufacturer": "Videos", "ManufacturerModelName": "X"}, False),
        ({"Manufacturer": ""}, False),
    ],
)
def test_an_eos_image_is_of_a_scanning_fan(tmp_path: Path, maker: dict[str, str], is_scanner: bool) -> None:
    """Heights are in the patient, widths at the detector; the distance to the isocentre is not that to the patient."""
    film = read_radiograph(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **{**EOS, **maker}))
    assert film.geometry.KIND == ("fan" if is_scanner else "cone")
    assert film.geometry.detector_spacing_mm == ((1.5, pytest.approx(1.95)) if is_scanner else (1.95, 1.95))
    assert isinstance(film.geometry, ConeBeam | FanBeam) and film.geometry.source_to_isocenter_mm == 1000
    assert film.assumed == ("principal_point", "isocenter_lps") and not film.warnings
    assert ("same in both images" in film.reasons["principal_point"]) == is_scanner


def test_an_eos_image_without_distances_or_with_one_spacing(tmp_path: Path) -> None:
    bare: dict[str, Any] = {name: None if name.startswith("Distance") else value for name, value in EOS.items()}
    film = read_radiograph(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **bare))
    assert isinstance(film.geometry, FanBeam) and film.geometry.magnification == pytest.approx(1.3)
    assert film.geometry.source_to_detector_mm == 1300 and "as with an EOS scanner" in film.reasons["source_to_detector_mm"]
    del bare["PixelSpacing"]
    film = read_radiograph(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **bare, ViewPosition="LL"))
    assert isinstance(film.geometry, FanBeam) and film.geometry.source_to_isocenter_mm == 1300 - 382
    assert film.geometry.detector_spacing_mm == (1.95, 1.95) and "way of the scanner" in film.reasons["detector_spacing_mm"]


def test_what_is_stated_of_the_beam_decides_how_a_header_is_read(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **EOS)
    film = read_radiograph(path, geometry={"kind": "cone"})
    assert film.geometry.KIND == "cone" and film.geometry.detector_spacing_mm == pytest.approx((1.95, 1.95))
    nameless = {**EOS, "Manufacturer": "", "Modality": "DX"}
    anonymous = save_dicom(tmp_path / "y.dcm", marked_codes(beam(View.AP)), **nameless)
    film = read_radiograph(anonymous, geometry={"kind": "fan"})
    assert film.geometry.detector_spacing_mm == (1.5, pytest.approx(1.95))
    assert film.geometry == read_radiograph(path).geometry and "source_to_isocenter_mm" not in film.assumed


@pytest.mark.parametrize(
    "scanner",
    [{"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"Manufacturer": "EOS imaging"}],
    ids=["scout", "EOS"],
)
def test_a_scan_that_is_said_to_be_of_a_cone_keeps_its_size_at_the_isocentre(tmp_path: Path, scanner: dict[str, Any]) -> None:
    spacing: dict[str, Any] = {"PixelSpacing": [0.5, 0.6], "ImagerPixelSpacing": None}
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **scanner, **spacing)
    for geometry in (None, {"kind": "cone"}):
        assert read_radiograph(path, geometry=geometry).geometry.patient_spacing_mm == pytest.approx((0.5, 0.6))


def test_a_scanner_that_tells_a_tilt_is_read_without(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **EOS, PositionerSecondaryAngle=0.5)
    film = read_radiograph(path)
    assert film.geometry.KIND == "fan" and any("PositionerSecondaryAngle 0.5 deg" in warning for warning in film.warnings)
    with pytest.raises(ValueError, match=r"secondary_angle_deg: got .*, accepted is 0"):
        read_radiograph(path, geometry={"secondary_angle_deg": 0.5})


def test_our_fan_stays_one_after_an_anonymiser(tmp_path: Path) -> None:
    geometry = as_kind(beam(View.LL), "fan")
    dataset = pydicom.dcmread(written(tmp_path, geometry))
    dataset.remove_private_tags()
    dataset.save_as(tmp_path / "bare.dcm")
    bare = read_radiograph(tmp_path / "bare.dcm").geometry
    assert bare.KIND == "fan" and bare.detector_spacing_mm == pytest.approx(geometry.detector_spacing_mm)


@pytest.mark.parametrize(
    ("elements", "is_known"),
    [
        ({}, True),
        ({"DistanceSourceToPatient": None}, False),
        ({"DistanceSourceToDetector": None}, False),
        ({"DistanceSourceToDetector": None, "EstimatedRadiographicMagnificationFactor": 1.3}, True),
        ({"DistanceSourceToPatient": None, "PixelSpacing": [1.6, 1.68]}, True),
        ({"DistanceSourceToPatient": None, "ImagerPixelSpacing": None, "PixelSpacing": [1.6, 1.68]}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("calibration", [None, "FIDUCIAL"])
def test_parallel_rays_keep_the_size_in_the_patient(
    tmp_path: Path, elements: dict[str, Any], is_known: bool, calibration: str | None
) -> None:
    """Pixels of the detector are none of the patient, which is shown larger there."""
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)), **elements, PixelSpacingCalibrationType=calibration)
    cone, film = read_radiograph(path), read_radiograph(path, geometry={"kind": "parallel"})
    assert film.geometry == as_kind(cone.geometry, "parallel") and film.warnings == ()
    assert ("detector_spacing_mm" not in film.assumed) == (is_known or (calibration is not None and "PixelSpacing" in elements))
    assert not {"source_to_detector_mm", "source_to_isocenter_mm"} & set(film.assumed)


def test_parallel_rays_of_a_stated_spacing_have_no_distances(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)))
    film = read_radiograph(path, geometry={"kind": "parallel", "detector_spacing_mm": [2.0, 2.1]})
    assert film.geometry.KIND == "parallel" and film.geometry.detector_spacing_mm == (2.0, 2.1)
    with pytest.raises(ValueError, match=r"x.dcm: geometry: unknown source_to_detector_mm"):
        read_radiograph(tmp_path / "x.dcm", geometry={"kind": "parallel", "source_to_detector_mm": 1000})


# Pixel values


@pytest.mark.parametrize(
    ("elements", "dense_is_high", "assumed"),
    [
        ({"PixelIntensityRelationshipSign": 1}, False, False),
        ({"PixelIntensityRelationshipSign": -1, "PhotometricInterpretation": "MONOCHROME1"}, True, False),
        ({"PixelIntensityRelationship": None}, True, True),
        ({"PixelIntensityRelationship": None, "PhotometricInterpretation": "MONOCHROME1"}, False, True),
        ({"PixelIntensityRelationship": None, "Modality": "CR", "RescaleSlope": -1, "RescaleIntercept": 4095}, False, True),
        ({"PixelIntensityRelationship": None, "Modality": "RF"}, False, True),
        ({"PixelIntensityRelationshipSign": None, "Modality": "XA"}, False, False),
        ({"PixelIntensityRelationshipSign": None, "Modality": "XA", "PixelIntensityRelationship": "DISP"}, False, True),
    ],
)
def test_dense_tissue_gets_large_line_integrals(
    tmp_path: Path, elements: dict[str, Any], dense_is_high: bool, assumed: bool
) -> None:
    codes = marked_codes(beam(View.AP))
    film = read_radiograph(save_dicom(tmp_path / "x.dcm", codes if dense_is_high else MAX_CODE - codes, **elements))
    assert_marker_in_place(film)
    assert ("polarity" in film.assumed) == assumed
    truth = (codes - codes.min()) / np.ptp(codes)
    np.testing.assert_allclose(film.line_integral, truth, atol=1e-6)


def test_polarity_and_intensity_given_by_the_caller(tmp_path: Path) -> None:
    codes = marked_codes(beam(View.AP))
    for photometric, polarity in product(("MONOCHROME1", "MONOCHROME2"), ("bright_dense", "dark_dense")):
        dense_is_high = (photometric == "MONOCHROME2") == (polarity == "bright_dense")
        path = save_dicom(
            tmp_path / "x.dcm",
            codes if dense_is_high else MAX_CODE - codes,
            PixelIntensityRelationship=None,
            PhotometricInterpretation=photometric,
        )
        film = read_radiograph(path, polarity=polarity, intensity="log")
        assert_marker_in_place(film)
        assert not {"polarity", "intensity"} & set(film.assumed)


@pytest.mark.parametrize("sign", [1, -1])
def test_linear_detectors_get_their_logarithm(tmp_path: Path, sign: int) -> None:
    """Codes proportional to the X-ray intensity, or to its complement, come back as the line integrals that made them."""
    truth = np.linspace(0.0, 4.0, SIZE[0] * SIZE[1]).reshape(SIZE)
    truth[:8] = 0.0  # the open beam, from which I0 is taken
    intensity = np.rint(4000 * np.exp(-truth)).astype(np.uint16)
    path = save_dicom(
        tmp_path / "x.dcm",
        intensity if sign == 1 else MAX_CODE - intensity,
        PixelIntensityRelationship="LIN",
        PixelIntensityRelationshipSign=sign,
    )
    film = read_radiograph(path)
    np.testing.assert_allclose(film.line_integral, truth, atol=0.01)  # 4000 codes: 0.7 % steps at the dark end
    assert not film.scale_known and not {"polarity", "intensity"} & set(film.assumed)


def test_modality_lut_is_applied(tmp_path: Path) -> None:
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [4096, 0, 16], "US"
    lut.LUTData = (np.arange(4096)[::-1] * 3).astype(np.uint16).tobytes()
    lut["LUTData"].VR = "OW"
    codes = marked_codes(beam(View.AP))
    film = read_radiograph(
        save_dicom(tmp_path / "x.dcm", MAX_CODE - codes, ModalityLUTSequence=[lut], PixelIntensityRelationship=None)
    )
    assert_marker_in_place(film)


def test_display_processing_and_saturation_are_said(tmp_path: Path) -> None:
    codes = np.minimum(marked_codes(beam(View.AP)), 900)
    film = read_radiograph(save_dicom(tmp_path / "x.dcm", codes, PresentationIntentType="FOR PRESENTATION"))
    assert any("processed for display" in w for w in film.warnings)
    assert any("highest value (900)" in w for w in film.warnings)


@pytest.mark.parametrize(
    ("steps", "angles"), [(["0", "7", "30"], (-90, -83, -60)), ("1.5", (-90, -88.5, -87)), ("", (-90, -90, -90))]
)
def test_a_turning_c_arm_tells_the_angle_of_each_frame_or_one_step_for_all(
    tmp_path: Path, steps: str | list[str], angles: tuple[float, ...]
) -> None:
    path = save_dicom(
        tmp_path / "x.dcm",
        np.stack([marked_codes(beam(View.RL))] * 3),
        Modality="XA",
        ViewPosition=None,
        PatientOrientation=None,
        PositionerPrimaryAngle="-90",
        PositionerPrimaryAngleIncrement=steps,
        PositionerSecondaryAngle="3",
        PositionerSecondaryAngleIncrement="0.5",
    )
    found = [read_radiograph(path, frame=n).geometry for n in range(3)]
    assert tuple(geometry.primary_angle_deg for geometry in found) == angles
    assert [geometry.secondary_angle_deg for geometry in found] == [3, 3.5, 4]


def test_frames(tmp_path: Path) -> None:
    codes = marked_codes(beam(View.AP))
    path = save_dicom(
        tmp_path / "x.dcm",
        np.stack([codes[::-1], codes, codes[:, ::-1]]),
        Modality="XA",
        ViewPosition=None,
        PositionerPrimaryAngle=170,
        PositionerPrimaryAngleIncrement=[0, 10, 20],
        PixelIntensityRelationshipSign=-1,
    )
    with pytest.raises(ValueError, match=r"x.dcm: has 3 frames; pass frame=0 to 2"):
        read_radiograph(path)
    film = read_radiograph(path, frame=1)
    assert film.geometry.primary_angle_deg == 180
    assert_marker_in_place(film)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("shift", [0, 4])
def test_values_that_do_not_begin_at_the_lowest_bit(tmp_path: Path, signed: int, shift: int) -> None:
    """12 bits stored, the highest of 16 among them; without a shift High Bit is just wrong."""
    codes = (marked_codes(beam(View.AP)).astype(np.int16) - 1500 * signed).astype(np.int16)
    elements = {"PixelRepresentation": signed, "PixelIntensityRelationship": None}
    plain = read_radiograph(save_dicom(tmp_path / "x.dcm", codes.view(np.uint16), **elements))
    words = ((codes << shift) | (shift and 5)).astype(np.int16)  # something else lies below the value
    path = save_dicom(tmp_path / "y.dcm", words.view(np.uint16), HighBit=15, **elements)
    np.testing.assert_array_equal(read_radiograph(path).line_integral, plain.line_integral)
    for coding in ("RLE", "JPEG", "JPEG2000"):
        dataset = pydicom.dcmread(path)
        compress(dataset, words[None].view(np.int16 if signed else np.uint16), coding, tmp_path / "scratch.dcm")
        dataset.save_as(tmp_path / "coded.dcm")
        np.testing.assert_array_equal(read_radiograph(tmp_path / "coded.dcm").line_integral, plain.line_integral, coding)


def compress(dataset: Dataset, codes: np.ndarray, coding: str, scratch: Path) -> None:
    """Puts `codes` (N, H, W) into a dataset that describes them, as RLE, JPEG or JPEG2000 without loss."""
    if coding == "RLE":
        dataset.compress(RLELossless)
        return
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(scratch))
    writer.SetUseCompression(True)
    writer.SetCompressor(coding)
    writer.Execute(sitk.GetImageFromArray(codes))
    coded = pydicom.dcmread(scratch)
    dataset["PixelData"] = coded["PixelData"]
    dataset.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID


@pytest.mark.parametrize("coding", ["RLE", "JPEG", "JPEG2000"])
def test_of_a_compressed_run_one_frame_is_decoded(tmp_path: Path, coding: str) -> None:
    """The others would take long, so here they cannot be decoded at all; neither they nor any are looked at to count them."""
    codes = np.stack([np.roll(marked_codes(beam(View.AP)), 7 * n, axis=0) for n in range(3)])
    path = save_dicom(tmp_path / "x.dcm", codes, PatientOrientation=None)
    dataset = pydicom.dcmread(path)
    compress(dataset, codes, coding, tmp_path / "scratch.dcm")
    frames = [get_frame(dataset.PixelData, n, number_of_frames=3) for n in range(3)]
    for n, frame in enumerate(frames):
        dataset.PixelData = pydicom.encaps.encapsulate([frame if m == n else b"\0" * 70 for m in range(3)])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.save_as(tmp_path / "coded.dcm")
        with pytest.raises(ValueError, match=r"coded.dcm: has 3 frames"):
            read_radiograph(tmp_path / "coded.dcm")
        coded, plain = (read_radiograph(tmp_path / name, frame=n).line_integral for name in ("coded.dcm", "x.dcm"))
        np.testing.assert_array_equal(coded, plain)
    dataset.NumberOfFrames = 5
    dataset.save_as(tmp_path / "short.dcm")
    with pytest.raises(ValueError, match=r"short.dcm: damaged DICOM file"):
        read_radiograph(tmp_path / "short.dcm", frame=4)


def test_an_empty_rle_frame_is_damage_and_takes_nothing_down(tmp_path: Path) -> None:
    codes = marked_codes(beam(View.AP))
    dataset = pydicom.dcmread(save_dicom(tmp_path / "x.dcm", codes))
    compress(dataset, codes[None], "RLE", tmp_path)
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 70])
    dataset.save_as(tmp_path / "coded.dcm")
    with pytest.raises(ValueError, match=r"coded.dcm: damaged DICOM file \(an RLE frame without segments\)"):
        read_radiograph(tmp_path / "coded.dcm")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("coding", ["RLE", "JPEG", "JPEG2000"])
@pytest.mark.parametrize(("bits", "signed"), [(16, 0), (16, 1), (12, 1)])
def test_compressed_pixels_are_the_same_as_plain_ones(
    tmp_path: Path, photometric: str, coding: str, bits: int, signed: int
) -> None:
    codes = (marked_codes(beam(View.AP)) - 1500 * signed).astype(np.int16 if signed else np.uint16)
    codes[:20] = codes[0, 0]  # padding, recognised by its stored value
    path = save_dicom(
        tmp_path / "x.dcm",
        codes.view(np.uint16),
        PhotometricInterpretation=photometric,
        PixelIntensityRelationship=None,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=signed,
        RescaleSlope=2,
        RescaleIntercept=-7,
    )
    with_padding = pydicom.dcmread(path)
    with_padding.add_new("PixelPaddingValue", "SS" if signed else "US", int(codes[0, 0]))
    with_padding.save_as(path)
    plain, dataset = read_radiograph(path), pydicom.dcmread(path)
    compress(dataset, codes[None], coding, tmp_path / "scratch.dcm")
    dataset.save_as(tmp_path / "coded.dcm")
    assert pydicom.dcmread(tmp_path / "coded.dcm").file_meta.TransferSyntaxUID.is_compressed
    coded_film = read_radiograph(tmp_path / "coded.dcm")
    np.testing.assert_array_equal(coded_film.line_integral, plain.line_integral)
    np.testing.assert_array_equal(coded_film.valid, plain.valid)
    assert not plain.valid[:20].any() and plain.valid[20:].mean() > 0.9


@pytest.mark.parametrize(
    "option",
    [
        {"frame": "0"},
        {"geometry": {"source_to_detector_mm": [1150]}},
        {"geometry": {"kind": ["cone"]}},
        {"geometry": {"roll_deg": 10**400}},
    ],
    ids=str,
)
def test_a_mistake_of_the_caller_is_no_damage_of_the_file(tmp_path: Path, option: dict[str, Any]) -> None:
    path = save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP)))
    with pytest.raises(ValueError, match=r"^x.dcm: .* accepted (is|are) ") as caught:
        read_radiograph(path, **option)
    assert "damaged" not in str(caught.value)


# Masks


def test_collimator_and_shutters_hide_pixels(tmp_path: Path) -> None:
    codes = marked_codes(beam(View.AP))
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    path = save_dicom(
        tmp_path / "x.dcm",
        codes,
        CollimatorShape="RECTANGULAR",
        CollimatorLeftVerticalEdge=11,
        CollimatorRightVerticalEdge=90,
        CollimatorUpperHorizontalEdge=6,
        CollimatorLowerHorizontalEdge=500,
    )
    film = read_radiograph(path)
    np.testing.assert_array_equal(film.valid, (columns >= 10) & (columns <= 89) & (rows >= 5))
    path = save_dicom(
        tmp_path / "y.dcm",
        codes,
        ShutterShape=["CIRCULAR", "POLYGONAL"],
        CenterOfCircularShutter=[60, 50],
        RadiusOfCircularShutter=40,
        VerticesOfThePolygonalShutter=[1, 1, 1, 100, 120, 1],
        PixelPaddingValue=int(codes[50, 30]),
    )
    film = read_radiograph(path)
    circle = (rows - 59) ** 2 + (columns - 49) ** 2 <= 1600
    triangle = rows / 119 + columns / 99 <= 1
    expected = circle & triangle & (codes != codes[50, 30])
    assert (film.valid != expected).mean() < 0.01  # the slanted edge may fall on either side
    assert not film.valid[50, 30] and film.valid[40, 40]


def test_the_caller_hides_what_the_header_does_not(tmp_path: Path) -> None:
    """visible speaks about the image as stored, here with its rows toward the head."""
    codes = marked_codes(beam(View.AP))
    codes[:, :9] = 4000
    path = save_dicom(tmp_path / "x.dcm", codes[::-1], PatientOrientation=["L", "H"], PixelPaddingValue=int(codes[60, 60]))
    film = read_radiograph(path, visible=[20, 119, 0, 99], invalid_value=4000)
    expected = codes != codes[60, 60]
    expected[100:], expected[:, :9] = False, False
    np.testing.assert_array_equal(film.valid, expected)
    with pytest.raises(ValueError, match=r"x.dcm: visible is \[0, 120, 0, 99\]"):
        read_radiograph(path, visible=[0, 120, 0, 99])


def test_masks_turn_with_the_image(tmp_path: Path) -> None:
    codes = marked_codes(beam(View.AP))
    path = save_dicom(
        tmp_path / "x.dcm",
        codes[::-1],
        PatientOrientation=["L", "H"],
        CollimatorShape="RECTANGULAR",
        CollimatorUpperHorizontalEdge=21,
    )
    film = read_radiograph(path)
    assert film.valid[:100].all() and not film.valid[100:].any()


# What is refused


def test_bad_files_give_one_sentence_with_their_name(tmp_path: Path) -> None:
    codes = marked_codes(beam(View.AP))
    good = save_dicom(tmp_path / "good.dcm", codes).read_bytes()
    cases = {
        "mr.dcm": ("modality MR", lambda p: save_dicom(p, codes, Modality="MR")),
        "ct.dcm": ("modality CT", lambda p: save_dicom(p, codes, Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])),
        "none.dcm": ("modality None", lambda p: save_dicom(p, codes, Modality=None)),
        "rgb.dcm": ("PhotometricInterpretation is RGB", lambda p: save_dicom(p, codes, PhotometricInterpretation="RGB")),
        "constant.dcm": ("constant", lambda p: save_dicom(p, np.full(SIZE, 5))),
        "hidden.dcm": (
            "no pixel is valid",
            lambda p: save_dicom(p, codes, ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=999),
        ),
        "cut.dcm": ("", lambda p: p.write_bytes(good[: len(good) // 2])),
        "header.dcm": ("", lambda p: p.write_bytes(good[:300])),
        "text.dcm": ("not a DICOM file", lambda p: p.write_text("hello")),
        "empty.dcm": ("empty", lambda p: p.write_bytes(b"")),
        "no_suffix": ("not a DICOM file", lambda p: p.write_text("hello")),
    }
    for name, (message, make) in cases.items():
        make(tmp_path / name)
        with pytest.raises(ValueError, match=message or None) as caught:
            read_radiograph(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value), name


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_deflated_file_that_was_cut_off_is_damaged(tmp_path: Path, share: float) -> None:
    dataset = pydicom.dcmread(save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP))))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "whole.dcm")
    assert_marker_in_place(read_radiograph(tmp_path / "whole.dcm"))
    data = (tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(data[: int(len(data) * share)])
    for read in (read_radiograph, read_ct):
        with pytest.raises(ValueError, match=r"^cut.dcm: damaged DICOM file"):
            read(tmp_path / "cut.dcm")


def test_dicom_is_recognised_without_suffix(tmp_path: Path) -> None:
    save_dicom(tmp_path / "x.dcm", marked_codes(beam(View.AP))).rename(tmp_path / "IM000001")
    assert_marker_in_place(read_radiograph(tmp_path / "IM000001"))


# What is written


def written(tmp_path: Path, geometry: Beam) -> Path:
    image = marked_codes(geometry) / 1000.0
    write_radiograph(Radiograph(line_integral=image, geometry=geometry, scale_known=True), tmp_path / "drr.dcm", overwrite=True)
    return tmp_path / "drr.dcm"


def test_written_file_says_what_it_is(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(tmp_path, beam(View.LL)))
    assert dataset.Modality == "DX" and list(dataset.ImageType) == ["DERIVED", "SECONDARY"]
    assert dataset.SeriesDescription.startswith("DRR (synthetic)") and str(dataset.PatientName) == "DIFF2CT^DRR"
    assert dataset.ImageComments == "Research use only - not for diagnosis"
    assert dataset.PixelIntensityRelationship == "LOG" and dataset.PresentationLUTShape == "IDENTITY"
    assert dataset.ViewPosition == "LL" and list(dataset.PatientOrientation) == ["P", "F"]
    assert dataset.DistanceSourceToDetector == 1100 and dataset.DistanceSourceToPatient == 900
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    assert dataset.PixelSpacing == dataset.ImagerPixelSpacing if "PixelSpacing" in dataset else True
    again = pydicom.dcmread(written(tmp_path, beam(View.LL)))
    assert again.SOPInstanceUID != dataset.SOPInstanceUID and again.SeriesInstanceUID != dataset.SeriesInstanceUID


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("mirror", [False, True])
def test_standard_elements_alone_keep_geometry_and_side(tmp_path: Path, view: View, mirror: bool) -> None:
    """An anonymiser that drops the private block must not move the patient's left."""
    geometry = beam(view, secondary_angle_deg=8.0)
    geometry = replace(geometry, mirrored=geometry.mirrored ^ mirror)
    path = written(tmp_path, geometry)
    dataset = pydicom.dcmread(path)
    dataset.remove_private_tags()
    assert PRIVATE_CREATOR not in str(dataset.get((PRIVATE_GROUP, 0x10), ""))
    dataset.save_as(tmp_path / "bare.dcm")
    bare = read_radiograph(tmp_path / "bare.dcm")
    assert bare.geometry == geometry and bare.assumed == ("principal_point", "isocenter_lps")
    assert_marker_in_place(bare)
    assert not bare.scale_known


def test_other_programs_see_line_integrals(tmp_path: Path) -> None:
    """ITK applies the rescale: what it shows is the line integral itself, with the right pixel size."""
    path = written(tmp_path, beam(View.AP))
    image = sitk.ReadImage(str(path))
    np.testing.assert_allclose(sitk.GetArrayFromImage(image)[0], marked_codes(beam(View.AP)) / 1000.0, atol=1e-3)


@pytest.mark.parametrize("suffix", [".dcm", ".png"])
@pytest.mark.parametrize("kind", BEAMS)
def test_every_beam_comes_back_from_a_file(tmp_path: Path, kind: str, suffix: str) -> None:
    geometry = as_kind(beam(View.LL, primary_angle_deg=93.0, isocenter_lps=(1.0, 2.0, 3.0)), kind)
    radiograph = Radiograph(line_integral=marked_codes(geometry) / 1000.0, geometry=geometry, scale_known=True)
    write_radiograph(radiograph, tmp_path / f"drr{suffix}")
    assert read_radiograph(tmp_path / f"drr{suffix}").geometry == geometry


def test_damaged_private_block_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, beam(View.AP))
    dataset = pydicom.dcmread(path)
    dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[0x01].value = '{"geometry": 3}'
    dataset.save_as(tmp_path / "bad.dcm")
    with pytest.raises(ValueError, match=r"bad.dcm: its private DIFF2CT element is damaged"):
        read_radiograph(tmp_path / "bad.dcm")


# A real one


@pytest.mark.skipif(not SCOUT.exists(), reason="the shared CT scout is not here")
def test_real_scout_lies_over_its_ct() -> None:
    with pytest.raises(ValueError, match="does not tell the view"):
        read_radiograph(SCOUT)
    scout = read_radiograph(SCOUT, view="AP")
    assert scout.geometry.source_to_detector_mm == pytest.approx(949.075)  # type: ignore[union-attr]
    assert {"polarity", "intensity", "principal_point"} == set(scout.assumed)
    assert isinstance(scout.geometry, FanBeam) and scout.geometry.detector_spacing_mm[0] == pytest.approx(0.545455)
    ct = sitk.ReadImage(str(SHARED / "acrin_nsclc_042_thorax_ct.nii.gz"))
    mass = (sitk.GetArrayFromImage(ct).astype(np.float32) + 1024).clip(min=0).sum(1)  # (z, x): parallel rays from front to back
    origin, spacing = ct.GetOrigin(), ct.GetSpacing()
    z, x = np.meshgrid(
        origin[2] + spacing[2] * np.arange(20, 120, 4), origin[0] + spacing[0] * np.arange(20, 210, 4), indexing="ij"
    )
    here = mass[20:120:4, 20:210:4]

    def agreement(points_x: np.ndarray) -> float:
        row, column = np.moveaxis(scout.geometry.project_points(np.stack([points_x, 0 * z, z], -1)), -1, 0)
        seen = scout.line_integral[np.rint(row).astype(int), np.rint(column).astype(int)]
        return float(np.corrcoef(seen.ravel(), here.ravel())[0, 1])

    assert agreement(x) > 0.9
    assert agreement(x) > agreement(-x) + 0.05  # mirrored it fits less well


@pytest.mark.skipif(not SCOUT.exists(), reason="the shared CT scout is not here")
def test_real_scout_has_the_edges_of_its_ct_where_a_fan_puts_them() -> None:
    scout = read_radiograph(SCOUT, view="AP").resized(patient_spacing_mm=3.0)
    ct = read_ct(SHARED / "acrin_nsclc_042_thorax_ct.nii.gz")
    mu, agreement = hu_to_mu(torch.from_numpy(ct.hu).float()), {}
    for kind in ("fan", "cone"):
        drr = project(mu, ct.grid, as_kind(scout.geometry, kind)).numpy()
        agreement[kind] = match(drr, scout.line_integral, scout.valid).agreement
    assert agreement["fan"] > agreement["cone"] + 0.1
