"""Geometry from what the pictures show: pixel size from a known length; height and size from landmarks seen in both views."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diff2ct.assumptions import PROPORTION
from diff2ct.geometry import Beam
from diff2ct.radiograph import Radiograph

SPREAD_FOR_SIZE_MM = 40.0
"""Two landmarks tell sizes if their heights differ by this much: a click that is 1 mm off then makes 2.5 %."""
VIEW_NAMES = ("AP", "lateral")
_LEAST_LENGTH_PIXELS = 5.0
_MOST_SIZE = 2.0
_LEAST_CROSSING = 0.1
"""Of three planes that meet in a landmark: the volume that their unit normals span, 1 at right angles."""
_LEAST_UPRIGHT = 0.7
_ROUNDS = 50

Positions = Sequence[Sequence[float]] | np.ndarray
"""(N, 2): (row, column) of each point in the pixels of a picture."""


@dataclass(frozen=True, eq=False)
class Match:
    """What makes the landmarks of two views agree.

    moved: the view that changes, 0 the AP and 1 the lateral one. fields: of its beam, with their new values. guessed: those of
    them that stay assumed, as they follow from what is assumed of the other view.
    shift_mm: how far its anatomy moves toward the head. size: new / old size of its pixels.
    before_mm, after_mm: how far the landmarks lie apart in height, root mean square. points_lps: (N, 3) where they are [mm].
    """

    moved: int
    fields: dict[str, Any]
    guessed: tuple[str, ...]
    shift_mm: float
    size: float
    before_mm: float
    after_mm: float
    points_lps: np.ndarray

    def __str__(self) -> str:
        way = "head" if self.shift_mm >= 0 else "feet"
        sized = "" if self.size == 1 else f" and its pixels made {self.size:.3g} times as large"
        return (
            f"landmarks: the {VIEW_NAMES[self.moved]} picture was moved {abs(self.shift_mm):.1f} mm toward the {way}{sized}; "
            f"they were {self.before_mm:.1f} mm apart in height and are {self.after_mm:.1f} mm"
        )


def spacing_of_length(beam: Beam, ends: Positions, length_mm: float) -> tuple[float, float]:
    """(row, column) detector spacing [mm] of `beam` if its pixel positions `ends` (2, 2) lie `length_mm` apart in the patient,
    in the plane through the isocentre that faces the detector. The shape of the pixels stays.

    Raises ValueError on ends outside of the picture or less than 5 pixels apart, and on lengths that are none.
    """
    first, second = _positions("ends", ends, beam, count=2)
    if not 0 < length_mm < math.inf:
        raise ValueError(f"length_mm: got {length_mm}, accepted is a length above 0 mm")
    if math.dist(first, second) < _LEAST_LENGTH_PIXELS:
        raise ValueError(
            f"ends: got points {math.dist(first, second):.1f} pixels apart, accepted are {_LEAST_LENGTH_PIXELS:g} or more"
        )
    row_mm, column_mm = (second - first) * beam.patient_spacing_mm
    factor = length_mm / math.hypot(row_mm, column_mm)
    row_mm, column_mm = beam.detector_spacing_mm
    return factor * row_mm, factor * column_mm


def with_known_length(radiograph: Radiograph, ends: Positions, length_mm: float) -> Radiograph:
    """The radiograph with the pixel size of `spacing_of_length`, which then is known."""
    return _changed(radiograph, {"detector_spacing_mm": spacing_of_length(radiograph.geometry, ends, length_mm)}, {})


def with_landmarks(
    ap: Radiograph, lateral: Radiograph, in_ap: Positions, in_lateral: Positions
) -> tuple[Radiograph, Radiograph, Match]:
    """Both radiographs as `match_landmarks` makes them agree; what it changes is then known, a size only if the other's is."""
    match = match_landmarks(ap.geometry, lateral.geometry, in_ap, in_lateral, assumed=(ap.assumed, lateral.assumed))
    pair = [ap, lateral]
    reason = f"from that of the {VIEW_NAMES[1 - match.moved]} picture by landmarks; {PROPORTION}"
    reasons = dict.fromkeys(match.guessed, reason)
    pair[match.moved] = _changed(pair[match.moved], match.fields, reasons)
    return pair[0], pair[1], match


def match_landmarks(
    ap: Beam,
    lateral: Beam,
    in_ap: Positions,
    in_lateral: Positions,
    *,
    assumed: tuple[Collection[str], Collection[str]] = ((), ()),
) -> Match:
    """Where the central ray meets the one of two pictures of which less is known, so that landmarks get the same height in
    both; from two landmarks on, 40 mm or more apart in height, the size of its pixels too, if that is assumed.

    in_ap, in_lateral: (N, 2) positions of the same N structures, in the same order. assumed: of each view, what nobody
    measured. The ray of a landmark in one view meets the plane of its column in the other in a point: that it lies beside the
    central ray does not spoil its height. The picture is moved on its detector, as if it had been cropped; if the stand was
    moved instead, that makes a difference of second order.

    Raises ValueError on positions outside of the pictures, views whose rays hardly cross, a picture that does not hang
    upright, and on landmarks that no size within a factor of two explains.
    """
    points = _landmarks(ap, lateral, in_ap, in_lateral)
    unknown = [sum(fact in facts for fact in ("principal_point", "detector_spacing_mm")) for facts in assumed]
    moved = 0 if unknown[0] > unknown[1] else 1
    fixed, start = (ap, lateral)[1 - moved], (ap, lateral)[moved]
    if abs(start.detector_axes[1][2]) < _LEAST_UPRIGHT:
        raise ValueError(f"{VIEW_NAMES[moved]}: its rows run across the body, accepted is a picture that hangs upright")
    seen = points[1 - moved], points[moved]
    spread_mm = np.ptp(_meeting(fixed, start, *seen)[:, 2])
    sizes = "detector_spacing_mm" in assumed[moved] and spread_mm >= SPREAD_FOR_SIZE_MM
    beam = _fitted(fixed, start, *seen, sizes)
    size = beam.detector_spacing_mm[0] / start.detector_spacing_mm[0]
    if not 1 / _MOST_SIZE < size < _MOST_SIZE:
        raise ValueError(
            f"landmarks: their heights ask for pixels {size:.3g} times as large in the {VIEW_NAMES[moved]} picture, "
            f"accepted are {1 / _MOST_SIZE:g} to {_MOST_SIZE:g}: are they the same structures in both, in the same order?"
        )
    rows = beam.principal_point[0] - start.principal_point[0]
    sized = ("detector_spacing_mm",) if sizes else ()
    return Match(
        moved=moved,
        fields={fact: getattr(beam, fact) for fact in ("principal_point", *sized)},
        guessed=tuple(fact for fact in sized if fact in assumed[1 - moved]),
        shift_mm=-float(beam.detector_axes[1][2]) * beam.patient_spacing_mm[0] * rows,
        size=size,
        before_mm=_gap_mm(fixed, start, *seen),
        after_mm=_gap_mm(fixed, beam, *seen),
        points_lps=_meeting(fixed, beam, *seen),
    )


def height_gap_mm(ap: Beam, lateral: Beam, in_ap: Positions, in_lateral: Positions) -> float:
    """How far landmarks lie apart in height [mm], root mean square; arguments and errors as of `match_landmarks`."""
    return _gap_mm(ap, lateral, *_landmarks(ap, lateral, in_ap, in_lateral))


def _fitted(fixed: Beam, beam: Beam, in_fixed: np.ndarray, in_beam: np.ndarray, sizes: bool) -> Beam:
    """`beam` with the row of the central ray, and if wanted the pixel size, that put landmarks where they are seen."""
    for _round in range(_ROUNDS if sizes else 1):  # another size moves the points along their rays
        middle = beam.principal_point[0]
        offsets, predicted = in_beam[:, 0] - middle, _rows(fixed, beam, in_fixed, in_beam) - middle
        grown = float(np.polyfit(predicted, offsets, 1)[0]) if sizes else 1.0
        if grown < 1 / _MOST_SIZE**2:  # upside down, or without any order
            raise ValueError("landmarks: their heights contradict each other; are they in the same order in both pictures?")
        shift = float(np.mean(offsets - grown * predicted))
        row_mm, column_mm = beam.detector_spacing_mm
        point = middle + shift, beam.principal_point[1]
        beam = replace(beam, principal_point=point, detector_spacing_mm=(row_mm / grown, column_mm / grown))
        if abs(grown - 1) < 1e-12:
            break
    return beam


def _changed(radiograph: Radiograph, fields: dict[str, Any], reasons: Mapping[str, str]) -> Radiograph:
    """With new values of its beam, that are known now, but for those with a reason."""
    rest = tuple(fact for fact in radiograph.assumed if fact not in fields or fact in reasons)
    geometry = replace(radiograph.geometry, **fields)
    return replace(radiograph, geometry=geometry, assumed=rest, reasons={**radiograph.reasons, **reasons})


def _landmarks(ap: Beam, lateral: Beam, in_ap: Positions, in_lateral: Positions) -> tuple[np.ndarray, np.ndarray]:
    points = _positions("in_ap", in_ap, ap), _positions("in_lateral", in_lateral, lateral)
    if len(points[0]) != len(points[1]):
        raise ValueError(f"in_ap, in_lateral: got {len(points[0])} and {len(points[1])} landmarks, accepted are equally many")
    return points


def _positions(name: str, values: Positions, beam: Beam, count: int | None = None) -> np.ndarray:
    wanted = "(row, column) of each point" if count is None else f"(row, column) of {count} points"
    try:
        points = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {values!r}, accepted is {wanted}") from None
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 1 or (count is not None and len(points) != count):
        raise ValueError(f"{name}: got shape {points.shape}, accepted is {wanted}")
    inside = (points >= -0.5) & (points <= np.array(beam.detector_size) - 0.5)  # not where NaN is
    if not inside.all():
        row, column = points[~inside.all(axis=1)][0]
        height, width = beam.detector_size
        raise ValueError(
            f"{name}: got ({row:g}, {column:g}), accepted is (row, column) in a picture of {height} x {width} pixels"
        )
    return points


def _meeting(fixed: Beam, other: Beam, in_fixed: np.ndarray, in_other: np.ndarray) -> np.ndarray:
    """(N, 3) [mm]: where each ray of `fixed` meets the plane of a column of `other`."""
    a, b = fixed.lps_to_pixel, other.lps_to_pixel
    found = []
    for (row, column), (_row, other_column) in zip(in_fixed, in_other, strict=True):
        planes = np.stack([a[0] - column * a[2], a[1] - row * a[3], b[0] - other_column * b[2]])
        planes /= np.linalg.norm(planes[:, :3], axis=1, keepdims=True)
        if abs(np.linalg.det(planes[:, :3])) < _LEAST_CROSSING:
            raise ValueError("ap, lateral: their rays hardly cross, accepted are a frontal and a lateral view")
        found.append(np.linalg.solve(planes[:, :3], -planes[:, 3]))
    return np.array(found)


def _rows(fixed: Beam, other: Beam, in_fixed: np.ndarray, in_other: np.ndarray) -> np.ndarray:
    """(N,): rows of `other` in which landmarks of `fixed` must appear."""
    rows: np.ndarray = other.project_points(_meeting(fixed, other, in_fixed, in_other))[:, 0]
    return rows


def _gap_mm(fixed: Beam, other: Beam, in_fixed: np.ndarray, in_other: np.ndarray) -> float:
    rows = in_other[:, 0] - _rows(fixed, other, in_fixed, in_other)
    return float(np.sqrt(np.mean(rows**2))) * other.patient_spacing_mm[0]
