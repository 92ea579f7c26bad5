"""What is taken for granted about an X-ray whose file does not tell: one table, applied in one place, never silently.

For each such fact there is a reason: half a sentence that follows the value, the same for two films where the reason is the
same, so that `told` can say it once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diff2ct.geometry import BEAMS, Beam, ConeBeam, FanBeam, View, as_kind, beam_from_dict


class ViewNotStatedError(ValueError):
    """Neither the file nor the caller says from which side the X-ray was taken. Of a kind of its own, so that a program can
    name the option with which its user says so."""


class FrameNotStatedError(ValueError):
    """A file has several frames and the caller does not say which one. count: how many."""

    def __init__(self, name: str, count: int) -> None:
        super().__init__(f"{name}: has {count} frames; pass frame=0 to {count - 1}")
        self.count = count


@dataclass(frozen=True)
class AssumedSetup:
    """Usual distances of one kind of X-ray equipment [mm].

    name: as it appears in the warning sentence.
    source_to_detector_mm: focus to film or detector.
    frontal_to_detector_mm, lateral_to_detector_mm: middle of the body (the isocentre) to the detector.
    image_length_mm: longer side of the detector.
    """

    name: str
    source_to_detector_mm: float
    frontal_to_detector_mm: float
    lateral_to_detector_mm: float
    image_length_mm: float

    def isocenter_to_detector_mm(self, view: View) -> float:
        return self.lateral_to_detector_mm if view.is_lateral else self.frontal_to_detector_mm


FILM = AssumedSetup(
    name="a lumbar spine film on a bucky table",
    source_to_detector_mm=1150.0,  # 115 cm is the usual bucky distance; 100 to 150 cm occur
    frontal_to_detector_mm=200.0,  # half a trunk, table top and grid
    lateral_to_detector_mm=300.0,  # half the wider side of the trunk, shoulder or hip keep it off the detector
    image_length_mm=430.0,  # of a 35 x 43 cm cassette
)
C_ARM = AssumedSetup(
    name="a mobile C-arm with a 30 cm detector",
    source_to_detector_mm=1000.0,  # arcs of mobile C-arms fix it between 95 and 110 cm
    frontal_to_detector_mm=350.0,  # the patient is kept near the detector, the arc turns about its middle
    lateral_to_detector_mm=350.0,
    image_length_mm=300.0,
)
SLOT_SCANNER = AssumedSetup(
    name="an EOS scanner",
    source_to_detector_mm=1300.0,
    frontal_to_detector_mm=313.0,
    lateral_to_detector_mm=382.0,
    image_length_mm=430.0,  # pictures are cut to the region of interest
)


_REQUIRED = {
    "cone": {"detector_spacing_mm", "primary_angle_deg", "source_to_detector_mm", "source_to_isocenter_mm"},
    "fan": {"detector_spacing_mm", "primary_angle_deg", "source_to_detector_mm", "source_to_isocenter_mm"},
    "parallel": {"detector_spacing_mm", "primary_angle_deg"},
}
PLAUSIBLE_MM = (300.0, 5000.0)
"""From the source to patient or detector: less is no X-ray of a trunk, or no mm."""
_PLAUSIBLE_LENGTH_MM = (100.0, 2500.0)
"""Longer side of an image at the detector: from two vertebrae to a whole body."""
_BEYOND = 10.0
"""Times the plausible range, from there on a length is an error; cm for mm is still a warning."""
_COARSE_MM = 4.0
"""Wider pixels in the patient do not show a vertebra: two of the voxels of most checkpoints."""
_COUNTS = {"detector_spacing_mm": 2, "detector_size": 2, "principal_point": 2, "isocenter_lps": 3}
"""How many numbers a field takes, if not one."""
HEADER_ONLY = {"patient_spacing_mm", "pixel_aspect", "magnification", "source_to_table_mm", "column_direction", "row_direction"}
"""Facts that a file header may state although no beam has such a field.

patient_spacing_mm: (row, column) pixel spacing calibrated in the patient, at the isocentre [mm].
pixel_aspect: height / width of a pixel, for files without any spacing.
magnification: source_to_detector_mm / source_to_isocenter_mm.
source_to_table_mm: focus to the table or bucky between patient and detector.
column_direction, row_direction: LPS vectors (3,) along which columns and rows increase.
"""


BRIGHT_BONE = '"bright_dense", bone is bright, as on films; if not, the result is worthless'
DARK_BONE = '"dark_dense", bone is dark, as usual in fluoroscopy; if not, the result is worthless'
LOG_INTENSITY = '"log", grey values proportional to the line integral, as on processed films'
WARNED = ""
"""The reason of a fact that a warning explains."""
PROPORTION = "all sizes are in proportion to it"
_SAME_SPACING = 0.03
"""Relative; distances are rounded to cm."""
_SAME_DIRECTION = 0.5
"""Cosine between two directions that may be one: a file names the nearest axis of the body only."""
EARLIER = "before this file was written"
ROWS_OF_FAN = "Imager Pixel Spacing, whose row spacing is taken as the way of the scanner from one row to the next"
MIDDLE = "the middle, where the central ray usually meets the image; in one that was cropped the patient comes out shifted"
MIDDLE_OF_FAN = (
    "the middle of the image, so the volume lies at half its height; its row may be any other, the same in both images, to "
    "reconstruct there; its column is where the central ray meets the image"
)
HANGING = "hung upright with the patient's left, or back, on its right; if not, the result is mirrored"


@dataclass
class Resolution:
    """A beam in the making: the facts so far, the reasons of those that had to be assumed, and what is odd about the file."""

    name: str
    facts: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def assume(self, fact: str, value: Any, reason: str) -> None:
        """Adds `fact` unless it is known already."""
        if fact not in self.facts:
            self.facts[fact] = value
            self.reasons[fact] = reason


def beam_of_kind(beam: Beam, assumed: Collection[str], kind: str) -> Beam:
    """The same X-ray made by a cone or a fan: with the same pixels in the patient, but what is assumed about its size is what
    `resolve_beam` assumes for that kind."""
    changed = as_kind(beam, kind)
    setup = SLOT_SCANNER if kind == "fan" else FILM
    behind, known = setup.isocenter_to_detector_mm(beam.view), changed.to_dict()
    if kind != "parallel" and "source_to_detector_mm" in assumed:
        is_free = "source_to_isocenter_mm" in assumed
        known["source_to_detector_mm"] = setup.source_to_detector_mm if is_free else known["source_to_isocenter_mm"] + behind
    if kind != "parallel" and "source_to_isocenter_mm" in assumed:
        known["source_to_isocenter_mm"] = known["source_to_detector_mm"] - behind
    changed = beam_from_dict(known)
    if "detector_spacing_mm" in assumed:
        (row_mm, column_mm), column_at_detector_mm = beam.patient_spacing_mm, beam.detector_spacing_mm[1]
        larger = changed.magnification if kind == "fan" else 1.0
        changed = replace(
            changed, detector_spacing_mm=(row_mm / column_mm * column_at_detector_mm / larger, column_at_detector_mm)
        )
    return changed


def assumed_isocenter_to_detector_mm(beam: ConeBeam | FanBeam, view: View) -> float:
    """From the isocentre, which was assumed for `beam`, to the detector if the X-ray is of that view: from the side the middle
    of the body is farther from it than from the front."""
    to_detector_mm = beam.source_to_detector_mm - beam.source_to_isocenter_mm
    setups = (SLOT_SCANNER,) if beam.KIND == "fan" else (FILM, C_ARM)
    setup = min(setups, key=lambda setup: abs(setup.isocenter_to_detector_mm(beam.view) - to_detector_mm))
    return to_detector_mm + setup.isocenter_to_detector_mm(view) - setup.isocenter_to_detector_mm(beam.view)


def stated_geometry(name: str, geometry: Beam | Mapping[str, Any] | None, view: View | str | None) -> dict[str, Any]:
    """What the caller says about the geometry, as keys of `beam_from_dict`; ValueError if it contradicts itself."""
    values = geometry.to_dict() if isinstance(geometry, Beam) else geometry or {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}: geometry is {geometry!r}, accepted are a beam or a mapping of its fields")
    stated = {key: value for key, value in values.items() if value is not None}
    for key in stated.keys() - {"kind", "view"}:
        _check_numbers(name, key, stated[key])
    if not isinstance(stated.get("kind", ""), str):
        raise ValueError(f"{name}: kind is {stated['kind']!r}, accepted are {', '.join(BEAMS)}")
    views = [_parse_view(name, v) for v in (view, stated.get("view")) if v is not None]
    if "primary_angle_deg" in stated:
        views.append(nearest_view(stated["primary_angle_deg"]))
    if len(set(views)) > 1:
        raise ValueError(f"{name}: view and geometry contradict each other: {' and '.join(v.value for v in views)}")
    if views:
        stated["view"] = views[0].value
    return stated


def is_number(value: Any) -> bool:
    """A finite one, within the range of a float, and not true or false."""
    try:
        return isinstance(value, int | float | np.integer | np.floating) and type(value) is not bool and math.isfinite(value)
    except OverflowError:
        return False


def _check_numbers(name: str, key: str, value: Any) -> None:
    """ValueError unless a field of the geometry has as many finite numbers as it takes."""
    count = _COUNTS.get(key, 1)
    parts = value if count > 1 and isinstance(value, list | tuple) else [value]
    if len(parts) != count or not all(isinstance(part, bool) or is_number(part) for part in parts):
        one = "true or false" if key == "mirrored" else "a number"
        raise ValueError(f"{name}: {key} is {value!r}, accepted is {one if count == 1 else f'a list of {count} numbers'}")


def overrule(
    argument: Mapping[str, Any], written: Mapping[str, Any], header: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(stated, found) for `resolve_beam`: the caller's argument wins over what is written for Diff2CT beside or in the file.

    That in turn wins over the header.
    """
    kept, found = dict(written), {**header, **written}
    if "view" in argument and argument["view"] != written.get("view"):
        for fact in ("view", "primary_angle_deg", "mirrored"):
            kept.pop(fact, None)
        found = {**header, **kept, **{fact: found[fact] for fact in ("view",) if fact in found}}
    return {**kept, **argument}, found


def is_complete(stated: Mapping[str, Any]) -> bool:
    """True if `beam_from_dict` needs nothing more than the image size."""
    known = {*stated, *(["primary_angle_deg"] if "view" in stated else [])}
    return known >= _REQUIRED.get(stated.get("kind", "cone"), set())


def resolve_beam(
    name: str, size: tuple[int, int], *, stated: Mapping[str, Any], found: Mapping[str, Any], setup: AssumedSetup
) -> tuple[Beam, dict[str, str], list[str]]:
    """(beam, reason of each assumed fact, warnings) of an image `name` of `size` (H, W).

    stated: by the caller or a side file, from `stated_geometry`: taken at its word.
    found: in the image header, where `stated` is silent: the same keys and `HEADER_ONLY`.
    setup: fills what is still missing.
    """
    check_detector_size(name, stated, size)
    kind, distances = stated.get("kind", found.get("kind", "cone")), _REQUIRED["cone"] - _REQUIRED["parallel"]
    if kind == "parallel" and stated.keys().isdisjoint({"detector_spacing_mm", *distances}):
        return _resolve_parallel(name, size, stated, found, setup)
    result = Resolution(name, {**found, **stated, "detector_size": size})
    view = _resolve_angles(result, found)
    if kind == "fan":
        setup = SLOT_SCANNER
    if kind != "parallel":
        _resolve_distances(result, view, setup)
    else:
        result.facts = {k: v for k, v in result.facts.items() if k in stated or k not in distances}
    _resolve_detector(result, size, setup)
    try:
        beam = beam_from_dict({key: value for key, value in result.facts.items() if key not in HEADER_ONLY})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from error
    warnings = [*result.warnings, *_contradictions(name, beam, stated, found), *_implausible(name, beam)]
    return beam, result.reasons, warnings


def _resolve_parallel(
    name: str, size: tuple[int, int], stated: Mapping[str, Any], found: Mapping[str, Any], setup: AssumedSetup
) -> tuple[Beam, dict[str, str], list[str]]:
    """As `resolve_beam`: the rays that meet the plane of the isocentre where those of the cone do that made the image, as what
    the file tells of its detector is no size in the patient."""
    cone, reasons, warnings = resolve_beam(name, size, stated={**stated, "kind": "cone"}, found=found, setup=setup)
    guesses = {fact for fact in ("source_to_detector_mm", "source_to_isocenter_mm") if reasons.pop(fact, None) is not None}
    if "magnification" in found:
        guesses.discard("source_to_detector_mm")
    if "patient_spacing_mm" in found and "detector_spacing_mm" not in found:
        reasons.pop("detector_spacing_mm", None)
    elif guesses:
        reasons.setdefault("detector_spacing_mm", f"of the detector, over the magnification as with {setup.name}; {PROPORTION}")
    return as_kind(cone, "parallel"), reasons, warnings


def with_earlier_assumptions(earlier: list[str], reasons: dict[str, str], argument: Mapping[str, Any]) -> dict[str, str]:
    """`reasons` with those of what had been assumed before a radiograph was written, which makes no guess measured; what the
    caller's `argument` states is known now."""
    return {**reasons, **{fact: EARLIER for fact in earlier if fact not in reasons and fact not in argument}}


def check_detector_size(name: str, stated: Mapping[str, Any], size: tuple[int, int]) -> None:
    """ValueError if the stated detector has another number of pixels than the image."""
    height, width = stated.get("detector_size", size)
    if (height, width) == size:
        return
    message = f"{name}: the image has {size[0]} x {size[1]} pixels, the geometry's detector_size is {height} x {width}"
    if abs(height * size[1] - width * size[0]) < max(size):
        factor = height / size[0]
        message += (
            f"; same shape, so the image was probably resized: multiply detector_spacing_mm by {factor:.6g}, "
            "scale principal_point accordingly, and give the image's detector_size"
        )
    raise ValueError(message)


def nearest_view(primary_angle_deg: float) -> View:
    """The standard view whose detector position is nearest to the angle."""
    return _frame({"primary_angle_deg": primary_angle_deg}).view


def _frame(angles: Mapping[str, Any]) -> Beam:
    """A beam of which only view, angles and display are of interest."""
    return beam_from_dict({"kind": "parallel", "detector_spacing_mm": (1.0, 1.0), "detector_size": (2, 2), **angles})


def _parse_view(name: str, view: View | str) -> View:
    try:
        return view if isinstance(view, View) else View.parse(view)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _contradictions(name: str, beam: Beam, stated: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """One sentence for each fact where the caller overrules the file, or the file contradicts itself."""
    sentences = []
    for fact in ("detector_spacing_mm", "source_to_detector_mm", "source_to_isocenter_mm"):
        if fact in stated and fact in found and not np.allclose(stated[fact], found[fact], rtol=0.01):
            sentences.append(f"{name}: {fact} is {found[fact]} in the file, the given {stated[fact]} is used")
    in_patient = found.get("patient_spacing_mm")
    if in_patient and not np.allclose(beam.patient_spacing_mm, in_patient, rtol=_SAME_SPACING):
        told, used = (f"{row:.4g} x {column:.4g} mm" for row, column in (in_patient, beam.patient_spacing_mm))
        sentences.append(f"{name}: in the patient a pixel is {told} by the file's Pixel Spacing, {used} by what is used")
    if "view" in stated and found.get("view", stated["view"]) != stated["view"]:
        sentences.append(f"{name}: the view is {found['view']} in the file, the given {stated['view']} is used")
    for axis, fact in zip(beam.detector_axes, ("column_direction", "row_direction"), strict=True):
        if fact in found and axis @ found[fact] < _SAME_DIRECTION:
            other = "the opposite" if axis @ found[fact] < -_SAME_DIRECTION else "another"
            sentences.append(f"{name}: {fact.replace('_', ' ')} is {other} in the file; the given geometry is used")
    return sentences


def _implausible(name: str, beam: Beam) -> list[str]:
    """Sentences about sizes that no X-ray of a trunk has: other units, or a picture that was resized after it was measured."""
    low, high = PLAUSIBLE_MM
    sentences = []
    for fact in ("source_to_detector_mm", "source_to_isocenter_mm"):
        distance = getattr(beam, fact, low)
        told = f"{name}: {fact} is {distance:g}, not plausible ({low:g} to {high:g} mm); is it in mm?"
        sentences += _unless_plausible(distance, PLAUSIBLE_MM, told)
    height, width = (n * mm for n, mm in zip(beam.detector_size, beam.detector_spacing_mm, strict=True))
    low, high = _PLAUSIBLE_LENGTH_MM
    row_mm, column_mm = beam.detector_spacing_mm
    told = (
        f"{name}: detector_spacing_mm is {row_mm:g}, {column_mm:g}, an image of {height:.4g} x {width:.4g} mm, "
        f"not plausible (longer side {low:g} to {high:g} mm); is it in mm, and was the image resized since it was measured?"
    )
    of_size = _unless_plausible(max(height, width), _PLAUSIBLE_LENGTH_MM, told)
    if not of_size and max(beam.patient_spacing_mm) > _COARSE_MM:
        of_size.append(
            f"{name}: a pixel is {max(beam.patient_spacing_mm):.3g} mm wide in the patient, too coarse to show a vertebra; "
            "is it a preview of a larger picture?"
        )
    return sentences + of_size


def _unless_plausible(length_mm: float, plausible_mm: tuple[float, float], sentence: str) -> list[str]:
    """The sentence where a length is not plausible. ValueError with it where it is far from that: no such X-ray is meant, and
    to work with it might never end."""
    low, high = plausible_mm
    if not low / _BEYOND <= length_mm <= high * _BEYOND:
        raise ValueError(f"{sentence} To overrule the file, state what is right")
    return [] if low <= length_mm <= high else [sentence]


def _resolve_angles(result: Resolution, found: Mapping[str, Any]) -> View:
    """Decides view, primary angle and display. What the caller states wins, then the named view, then the positioner angle."""
    facts, name = result.facts, result.name
    if "primary_angle_deg" not in facts and "view" not in facts:
        raise ViewNotStatedError(f"{name}: the file does not tell the view; pass view='AP', 'PA', 'LL' or 'RL'")
    view = View(facts.pop("view", None) or nearest_view(facts["primary_angle_deg"]))
    if "primary_angle_deg" in facts and nearest_view(facts["primary_angle_deg"]) != view:
        angle = facts.pop("primary_angle_deg")
        result.warnings.append(
            f"{name}: the positioner angle {angle:g} deg in the file is {nearest_view(angle).value}, "
            f"the nominal angle of {view.value} is used"
        )
    standard = _frame({"view": view.value})
    facts.setdefault("primary_angle_deg", standard.primary_angle_deg)
    if "mirrored" not in facts and "column_direction" in found:
        along = float(_frame({"primary_angle_deg": facts["primary_angle_deg"]}).detector_axes[0] @ found["column_direction"])
        if abs(along) > 0.5:
            facts["mirrored"] = along < 0
        else:
            result.warnings.append(
                f"{name}: the file's patient orientation does not belong to a {view.value} view and is not used"
            )
    result.assume("mirrored", standard.mirrored, HANGING)
    return view


def _resolve_distances(result: Resolution, view: View, setup: AssumedSetup) -> None:
    facts, behind = result.facts, setup.isocenter_to_detector_mm(view)
    is_calibrated = "patient_spacing_mm" in facts and "detector_spacing_mm" not in facts
    follows = "perspective depends on it" if is_calibrated else "sizes and perspective depend on it"
    sizes = "" if is_calibrated else f"; {PROPORTION}"
    magnification, table = facts.get("magnification", 1.0), facts.get("source_to_table_mm", 0.0)
    if "source_to_isocenter_mm" not in facts:
        distance = max(setup.source_to_detector_mm, table)
    elif magnification > 1:
        distance = magnification * facts["source_to_isocenter_mm"]
        facts.setdefault("source_to_detector_mm", distance)
    else:
        distance = facts["source_to_isocenter_mm"] + behind
    where = "where the table or bucky is" if distance == table else f"as with {setup.name}"
    result.assume("source_to_detector_mm", distance, f"{where}; {follows}")
    if magnification > 1:
        facts.setdefault("source_to_isocenter_mm", facts["source_to_detector_mm"] / magnification)
    distance = facts["source_to_detector_mm"] - behind
    file_has = "the file's distance to the patient ends at the table or bucky, " if table else ""
    result.assume("source_to_isocenter_mm", distance, f"{file_has}the middle of the body as with {setup.name}{sizes}")


def _resolve_detector(result: Resolution, size: tuple[int, int], setup: AssumedSetup) -> None:
    facts, is_fan = result.facts, result.facts.get("kind") == "fan"
    # 1 for parallel rays, which have no distances
    magnification = facts.get("source_to_detector_mm", 1.0) / facts.get("source_to_isocenter_mm", 1.0)
    along = 1.0 if is_fan else magnification
    if "detector_spacing_mm" not in facts and "patient_spacing_mm" in facts:
        row_mm, column_mm = facts["patient_spacing_mm"]
        spacing = (row_mm * along, column_mm * magnification)
        if {"source_to_detector_mm", "source_to_isocenter_mm"}.isdisjoint(result.reasons):
            facts["detector_spacing_mm"] = spacing
        result.assume("detector_spacing_mm", spacing, "from the one calibrated in the patient, times the assumed magnification")
    aspect = facts.get("pixel_aspect", 1.0)
    column_mm = setup.image_length_mm / max(size[0] * aspect, size[1])
    result.assume(
        "detector_spacing_mm",
        (aspect * column_mm * along / magnification, column_mm),
        f"the longer side of the image being {setup.image_length_mm:g} mm; {PROPORTION}",
    )
    result.assume(
        "principal_point",
        ((size[0] - 1) / 2, (size[1] - 1) / 2),
        MIDDLE_OF_FAN if is_fan else MIDDLE,
    )
    result.assume(
        "isocenter_lps",
        (0.0, 0.0, 0.0),
        "where the middle of the volume lies in the patient's coordinates; a CT of the patient may lie elsewhere",
    )
