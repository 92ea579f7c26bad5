"""Radiographs in DICOM: CR, DX, XA, RF and the scout of a CT. What the header tells is used, the rest is assumed and said.

Rules, with the place in PS3.3:
* Spacing (10.7.1): Imager Pixel Spacing is at the detector and comes first, then Nominal Scanned Pixel Spacing (of a film).
  Pixel Spacing alone is in the patient if its calibration type says GEOMETRY or FIDUCIAL, otherwise taken as at the detector.
  Beside Imager Pixel Spacing and smaller it is in the patient; measured with a ball (FIDUCIAL), in a film, it decides against
  distance and magnification, which are less certain there.
  Where none is told, Pixel Aspect Ratio (C.7.6.3.1.7) is height / width.
* Distance Source to Isocenter (0018,9402) comes first where it is told, as EOS does. Distance Source to Patient ends at the
  isocentre in CR, XA, RF and CT (C.8.1.2, C.8.7.5, C.8.7.6, C.8.2.1), but at the table or bucky in DX (C.8.11.5): there neither
  it nor a magnification or Pixel Spacing made of it tells how large the patient is shown.
* Intensity (C.8.11.3.1.2): Pixel Intensity Relationship and its sign speak about stored values. Without them the image is taken
  as a film: what modality LUT and photometric interpretation make bright is dense (dark in fluoroscopy, XA and RF).
* Angles (C.8.7.5) place the detector about the patient, see `geometry`. View Position wins where both are given and disagree:
  many film units write an angle of 0 whatever the view.
* CT scouts and EOS images are made by a fan moving along the body, see `geometry.FanBeam`: Pixel Spacing is in the patient.
* Patient Orientation (C.7.6.1.1.1) decides whether the image is mirrored; an image that lies on its side or head down is turned
  upright, so that rows always run toward the feet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from diff2ct.assumptions import (
    BRIGHT_BONE,
    C_ARM,
    DARK_BONE,
    FILM,
    LOG_INTENSITY,
    PLAUSIBLE_MM,
    PROPORTION,
    ROWS_OF_FAN,
    is_complete,
    overrule,
    resolve_beam,
    stated_geometry,
    with_earlier_assumptions,
)
from diff2ct.dicom_file import (
    OWN_FAN,
    OWN_MANUFACTURER,
    count_frames,
    damage_named,
    modality_values,
    number,
    numbers,
    private_text,
    stored_frame,
)
from diff2ct.dicom_shutter import visible_pixels
from diff2ct.examination import NOT_TOLD, examination_from_dicom
from diff2ct.geometry import Beam
from diff2ct.pixel_values import saturation_warnings, to_line_integral
from diff2ct.radiograph import Radiograph, ReadOptions
from diff2ct.radiograph_image import choose_frame
from diff2ct.visible import missing_value_warnings, stated_visible

_C_ARM_MODALITIES = ("XA", "RF")
_MODALITIES = ("CR", "DX", "RG", *_C_ARM_MODALITIES)
_TO_TABLE_MODALITIES = ("DX", "RG")  # RG has no module of its own that says where the distance ends
_MAGNIFICATION = "EstimatedRadiographicMagnificationFactor"
_SAME_DISTANCE = 0.03
"""Relative; distances are rounded to cm."""
_VIEW_CODES = {  # CID 4010 DX View: SNOMED CT, and SNOMED RT of older files
    "AP": ("399348003", "R-10206"),
    "PA": ("272479007", "399066004", "R-10214", "R-40888"),
    "LL": ("399173006", "R-10236"),
    "RL": ("399198007", "R-10232"),
}
_LPS_OF_LETTER = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


@dataclass
class _Header:
    """What one DICOM header tells. facts: keys of `assumptions.resolve_beam`; directions: LPS of increasing column and row;
    reasons: of what had to be assumed, see `Radiograph`."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    directions: tuple[np.ndarray, np.ndarray] | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, sentence: str) -> None:
        self.warnings.append(f"{self.name}: {sentence}")


def read_dicom_radiograph(path: Path, options: ReadOptions) -> Radiograph:
    """See `radiograph.read_radiograph`. A complete `geometry` that states `mirrored` speaks about the image as stored,
    else the image is turned upright as the header tells.
    """
    argument = stated_geometry(path.name, options.geometry, options.view)
    with damage_named(path):
        dataset = pydicom.dcmread(path)
        return _radiograph(path, dataset, argument, options)


def read_dicom_beam(path: Path, options: ReadOptions) -> tuple[Beam, tuple[str, ...]]:
    """See `radiograph.read_beam`."""
    argument = stated_geometry(path.name, options.geometry, options.view)
    with damage_named(path):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        header = _Header(path.name)
        index = choose_frame(path.name, count_frames(dataset), options.frame)
        no_pixels = np.broadcast_to(np.uint16(0), (int(dataset.Rows), int(dataset.Columns)))
        located = _located(path, dataset, header, argument, index, no_pixels, no_pixels == 0)
        return located.beam, tuple(located.reasons)


def _radiograph(path: Path, dataset: Dataset, argument: Mapping[str, Any], options: ReadOptions) -> Radiograph:
    """argument: the stated geometry."""
    header = _Header(path.name)
    _is_scout(dataset, path.name)  # refuses what is no X-ray before its pixels are decoded
    index = choose_frame(path.name, count_frames(dataset), options.frame)
    pixels = stored_frame(dataset, path, index)
    valid = visible_pixels(dataset, pixels.shape) & ~_padding(dataset, pixels)
    valid &= stated_visible(path.name, pixels, options.invalid_value, options.visible)
    header.warnings += missing_value_warnings(path.name, pixels, options.invalid_value)
    if not valid.any():
        raise ValueError(f"{path.name}: no pixel is valid: collimator, shutter or padding hide the whole image")
    located = _located(path, dataset, header, argument, index, pixels, valid)
    pixels, valid, own = located.pixels, located.valid, located.own
    if own:
        if options.states_shades:
            raise ValueError(f"{path.name}: written by Diff2CT with its scale, so polarity and intensity must be 'auto'")
        line_integral = modality_values(dataset, pixels)
        line_integral = line_integral.clip(line_integral[valid].min(), line_integral[valid].max())
        reasons = located.reasons
    else:
        line_integral = _line_integral(dataset, header, pixels, valid, options)
        shades = ("polarity", "intensity")
        reasons = {fact: reason for fact, reason in header.reasons.items() if fact in shades or fact in located.reasons}
        reasons = {**reasons, **located.reasons}
    return Radiograph(
        line_integral=line_integral,
        geometry=located.beam,
        valid=valid,
        scale_known=bool(own.get("scale_known", False)),
        assumed=tuple(reasons),
        source=path.name,
        warnings=tuple([*header.warnings, *located.warnings]),
        examination=NOT_TOLD if own else examination_from_dicom(dataset),
        reasons=reasons,
    )


@dataclass
class _Located:
    """An image with its beam. pixels, valid: upright. own: see `_own_statement`. reasons, warnings: of the beam."""

    pixels: np.ndarray
    valid: np.ndarray
    own: dict[str, Any]
    beam: Beam
    reasons: dict[str, str]
    warnings: list[str]


def _located(
    path: Path,
    dataset: Dataset,
    header: _Header,
    argument: Mapping[str, Any],
    index: int,
    pixels: np.ndarray,
    valid: np.ndarray,
) -> _Located:
    """argument: the stated geometry. index: of the frame. pixels, valid: (H, W) as stored. Fills `header`."""
    is_scout = _is_scout(dataset, path.name)
    own = _own_statement(dataset, path.name)
    stated, _ = overrule(argument, own.get("geometry", {}), {})
    is_of_fan = is_scout or _is_scanner(dataset)
    header.facts["kind"] = stated.get("kind", "fan" if is_of_fan else "cone")
    _read_view(dataset, header, index)
    _read_distances(dataset, header)
    _read_spacing(dataset, header, is_of_fan)
    if is_scout:
        _read_scout_plane(dataset, header, pixels.shape)
    _read_orientation(dataset, header)
    if header.directions and not (is_complete(stated) and "mirrored" in stated):
        pixels, valid = _turn_upright(header, header.directions, pixels, valid)
    elif header.directions:
        header.facts["column_direction"], header.facts["row_direction"] = header.directions
    stated, found = overrule(argument, own.get("geometry", {}), header.facts)
    setup = C_ARM if dataset.Modality in _C_ARM_MODALITIES else FILM
    beam, reasons, warnings = resolve_beam(path.name, pixels.shape, stated=stated, found=found, setup=setup)
    if own:
        reasons = with_earlier_assumptions(own["assumed"], reasons, argument)
    else:
        reasons = {**{fact: reason for fact, reason in header.reasons.items() if fact not in stated}, **reasons}
    return _Located(pixels, valid, own, beam, reasons, warnings)


def _is_scout(dataset: Dataset, name: str) -> bool:
    """True for the scout of a CT, False for a radiograph, ValueError for everything else."""
    modality = dataset.get("Modality")
    if modality == "CT" and "LOCALIZER" in (dataset.get("ImageType") or []):
        return True
    if modality not in _MODALITIES:
        accepted = f"{', '.join(_MODALITIES)} and a CT scout (ImageType LOCALIZER)"
        raise ValueError(f"{name}: modality {modality}, accepted are {accepted}; any other X-ray can be saved as PNG")
    return False


def _is_scanner(dataset: Dataset) -> bool:
    """If a fan that moved along the body made the image: an EOS scan, or a DRR of ours whose private element is gone."""
    maker, model = (str(dataset.get(keyword) or "").strip() for keyword in ("Manufacturer", "ManufacturerModelName"))
    return any(name.upper().startswith("EOS") for name in (maker, model)) or (maker, model) == (OWN_MANUFACTURER, OWN_FAN)


def _own_statement(dataset: Dataset, name: str) -> dict[str, Any]:
    """The JSON of `write_dicom_radiograph`, empty for files of others."""
    text = private_text(dataset)
    if text is None:
        return {}
    try:
        own = json.loads(text)
        return {
            "geometry": stated_geometry(name, own["geometry"], None),
            "scale_known": own["scale_known"] is True,
            "assumed": [str(fact) for fact in own["assumed"]],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{name}: its private DIFF2CT element is damaged ({error})") from error


def _padding(dataset: Dataset, pixels: np.ndarray) -> np.ndarray:
    first = number(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(pixels.shape, bool)
    last = number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return (pixels >= low) & (pixels <= high)


def _read_view(dataset: Dataset, header: _Header, frame: int) -> None:
    named = [dataset.get("ViewPosition"), *(item.get("CodeValue") for item in dataset.get("ViewCodeSequence") or [])]
    for view, codes in _VIEW_CODES.items():
        if view in named or set(codes) & set(named):
            header.facts["view"] = view
    for fact, keyword in (("primary_angle_deg", "PositionerPrimaryAngle"), ("secondary_angle_deg", "PositionerSecondaryAngle")):
        angle = number(dataset, keyword)
        if angle is None or (angle == 0 and dataset.Modality not in _C_ARM_MODALITIES):
            continue  # film units write 0 whatever the view
        angle += _turned_deg(dataset, f"{keyword}Increment", frame)
        if fact == "secondary_angle_deg" and header.facts["kind"] == "fan":
            header.warn(f"{keyword} {angle:g} deg is not that of a fan, which moves along the body axis, and is not used")
            continue
        header.facts[fact] = angle


def _turned_deg(dataset: Dataset, keyword: str, frame: int) -> float:
    """How far the positioner has turned since the first frame: of each frame, or one average step (PS3.3 C.8.7.5.1.3)."""
    step = number(dataset, keyword)
    if step is not None:
        return frame * step
    turned = dataset.get(keyword) or []
    return float(turned[frame]) if frame < len(turned) else 0.0


def _read_distances(dataset: Dataset, header: _Header) -> None:
    low, high = PLAUSIBLE_MM
    facts, to_table = header.facts, _ends_at_table(dataset, header)
    to_patient = "source_to_table_mm" if to_table else "source_to_isocenter_mm", "DistanceSourceToPatient"
    if low <= (number(dataset, "DistanceSourceToIsocenter") or 0.0) <= high:
        to_patient = "source_to_isocenter_mm", "DistanceSourceToIsocenter"
    for fact, keyword in (("source_to_detector_mm", "DistanceSourceToDetector"), to_patient):
        value = number(dataset, keyword)
        if value and low <= value <= high:
            facts[fact] = value
        elif value:
            header.warn(f"{keyword} {value:g} mm is not plausible ({low:g} to {high:g} mm) and is not used")
    fact, keyword = to_patient
    if facts.get(fact, 0.0) >= facts.get("source_to_detector_mm", np.inf):
        header.warn(f"{keyword} {facts.pop(fact):g} mm is not below the detector's and is not used")
    magnification = number(dataset, _MAGNIFICATION)
    if magnification is not None and 1.0 < magnification < 5.0 and not to_table:
        facts["magnification"] = magnification


def _read_spacing(dataset: Dataset, header: _Header, is_of_fan: bool) -> None:
    """is_of_fan: made by one, even if the beam is said to be another."""
    facts = header.facts
    aspect = _spacing(dataset, "PixelAspectRatio")
    facts["pixel_aspect"] = aspect[0] / aspect[1] if aspect else 1.0
    in_patient, at_detector = _spacing(dataset, "PixelSpacing"), _spacing(dataset, "ImagerPixelSpacing")
    at_detector = at_detector or _spacing(dataset, "NominalScannedPixelSpacing")
    ratio = max(a / b for a, b in zip(at_detector, in_patient, strict=True)) if at_detector and in_patient else 1.0
    fan = facts["kind"] == "fan"
    if 1.01 < ratio < 5.0 and not _is_of_table(dataset, header, ratio):  # differs only if calibrated in the patient
        facts["patient_spacing_mm"] = in_patient
        if _has_ball(dataset) and not fan and dataset.Modality not in _C_ARM_MODALITIES:
            facts.pop("magnification", None)
            _drop_distance(header, ratio)
        facts.setdefault("magnification", ratio)
    if fan and in_patient:
        facts["patient_spacing_mm"] = in_patient
    elif at_detector:
        facts["detector_spacing_mm"] = at_detector
        if fan:
            header.reasons["detector_spacing_mm"] = ROWS_OF_FAN
    elif in_patient and (is_of_fan or dataset.get("PixelSpacingCalibrationType") in ("GEOMETRY", "FIDUCIAL")):
        facts["patient_spacing_mm"] = in_patient
    elif in_patient:
        facts["detector_spacing_mm"] = in_patient
        header.reasons["detector_spacing_mm"] = f"Pixel Spacing, taken as at the detector as it does not tell; {PROPORTION}"


def _drop_distance(header: _Header, magnification: float) -> None:
    """Forget how far the source is from the isocentre, which a measured magnification tells better; both agree as a rule."""
    facts = header.facts
    if "source_to_detector_mm" not in facts or "source_to_isocenter_mm" not in facts:
        return
    told, used = facts.pop("source_to_isocenter_mm"), facts["source_to_detector_mm"] / magnification
    if abs(told / used - 1) > _SAME_DISTANCE:
        header.warn(f"source_to_isocenter_mm is {told:g} in the file, {used:.0f} by its ball calibration, which is used")


def _ends_at_table(dataset: Dataset, header: _Header) -> bool:
    """If the file's distance and magnification are those of the table or bucky. Our own files are DX to others, yet theirs are
    those of the isocentre, also where an anonymiser took the private element."""
    is_own = dataset.get("Manufacturer") == OWN_MANUFACTURER
    return dataset.Modality in _TO_TABLE_MODALITIES and not is_own and header.facts["kind"] != "fan"


def _is_of_table(dataset: Dataset, header: _Header, ratio: float) -> bool:
    """If the ratio of the two spacings is the magnification at the table or bucky, and no ball in the patient was measured."""
    if not _ends_at_table(dataset, header) or _has_ball(dataset):
        return False
    detector_mm = header.facts.get("source_to_detector_mm", 0.0)
    known = number(dataset, _MAGNIFICATION) or 0.0, detector_mm / header.facts.get("source_to_table_mm", np.inf)
    return any(abs(at_table / ratio - 1) < 0.01 for at_table in known)


def _has_ball(dataset: Dataset) -> bool:
    """If Pixel Spacing was measured with an object of known size in the patient."""
    return dataset.get("PixelSpacingCalibrationType") == "FIDUCIAL"


def _spacing(dataset: Dataset, keyword: str) -> tuple[float, ...] | None:
    values = numbers(dataset, keyword, 2)
    return values if values and min(values) > 0 else None


def _read_scout_plane(dataset: Dataset, header: _Header, size: tuple[int, int]) -> None:
    """A scout knows where its plane lies in the patient: the isocentre is put at the middle of that plane."""
    position, axes = numbers(dataset, "ImagePositionPatient", 3), numbers(dataset, "ImageOrientationPatient", 6)
    spacing = header.facts.get("patient_spacing_mm")
    if position and axes and spacing:
        columns, rows = np.array(axes[:3]), np.array(axes[3:])
        middle = np.array(position) + columns * spacing[1] * (size[1] - 1) / 2 + rows * spacing[0] * (size[0] - 1) / 2
        header.facts["isocenter_lps"] = tuple(middle.tolist())
        header.directions = (columns, rows)


def _read_orientation(dataset: Dataset, header: _Header) -> None:
    letters = dataset.get("PatientOrientation") or []
    vectors = [_LPS_OF_LETTER.get(str(letter)[:1]) for letter in letters]
    if len(vectors) == 2 and None not in vectors:
        header.directions = (np.array(vectors[0], float), np.array(vectors[1], float))


def _turn_upright(
    header: _Header, directions: tuple[np.ndarray, np.ndarray], pixels: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Transposes and flips so that rows run toward the feet; the column direction becomes a fact."""
    columns, rows = directions
    if abs(columns[2]) > abs(rows[2]):
        pixels, valid, columns, rows = pixels.T, valid.T, rows, columns
        for fact in ("detector_spacing_mm", "patient_spacing_mm"):
            if fact in header.facts:
                header.facts[fact] = header.facts[fact][::-1]
        header.facts["pixel_aspect"] = 1 / header.facts["pixel_aspect"]
    if abs(rows[2]) < 0.5:
        header.warn("neither rows nor columns run along the body in the patient orientation, which is not used")
        return pixels, valid
    if rows[2] > 0:
        pixels, valid = pixels[::-1], valid[::-1]
    header.facts["column_direction"] = columns
    return np.ascontiguousarray(pixels), np.ascontiguousarray(valid)


def _line_integral(
    dataset: Dataset, header: _Header, pixels: np.ndarray, valid: np.ndarray, options: ReadOptions
) -> np.ndarray:
    """(H, W) float32 up to gain and offset; what had to be assumed goes into the header."""
    relation, sign = dataset.get("PixelIntensityRelationship"), number(dataset, "PixelIntensityRelationshipSign")
    header.warnings += saturation_warnings(header.name, pixels, valid)
    if dataset.get("PresentationIntentType") == "FOR PRESENTATION":
        header.warn("processed for display, so its values follow the line integrals only roughly")
    declared = relation in ("LIN", "LOG")
    slope = number(dataset, "RescaleSlope")
    shown_inverted = (dataset.PhotometricInterpretation == "MONOCHROME1") != (declared and slope is not None and slope < 0)
    if not declared:
        pixels = modality_values(dataset, pixels)
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation)
    highest = 2.0 ** (bits - signed) - 1 if declared else float(pixels[valid].max())
    if options.polarity != "auto":
        grows_with_attenuation = (options.polarity == "bright_dense") != shown_inverted
    elif declared and (sign in (1.0, -1.0) or dataset.Modality in _C_ARM_MODALITIES):
        grows_with_attenuation = sign == -1.0  # without a sign, LIN and LOG mean values that rise with the X-ray intensity
    else:
        dark_is_dense = dataset.Modality in _C_ARM_MODALITIES
        grows_with_attenuation = dark_is_dense == shown_inverted
        header.reasons["polarity"] = DARK_BONE if dark_is_dense else BRIGHT_BONE
    if options.intensity == "auto" and not declared:
        header.reasons["intensity"] = LOG_INTENSITY
    logarithmic = relation != "LIN" if options.intensity == "auto" else options.intensity == "log"
    try:
        return to_line_integral(
            pixels, valid, grows_with_attenuation=grows_with_attenuation, logarithmic=logarithmic, highest_value=highest
        )
    except ValueError as error:
        raise ValueError(f"{header.name}: {error}") from error
