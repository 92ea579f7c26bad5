"""Pedicle screws: found in a volume, matched to the true ones, and how far off they are.

Metal is what lies above `SCREW_HU`. Screws, rods and cross-links touch, so a screw is not a connected component: it is a line
of metal that runs from back to front. A Hough transform over such directions finds lines, a principal axis through the metal
close to each one gives its axis to a fraction of a voxel, and profiles along the axis give tip and head.

The detector has errors of its own. The method `oracle-truth`, the true volume scored as a reconstruction, shows them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.optimize import linear_sum_assignment

from diff2ct.volume import CtVolume

SCREW_HU = 2000.0
"""Half-way between bone and titanium: where the edge of a screw lies in a blurred volume. Cortical bone stays below it."""
MIN_LENGTH_MM = 25.0
"""Shorter pieces are not screws: tulips without a shaft, cage markers, bits of rod."""
MAX_MATCH_MM = 15.0
"""A found screw whose tip and head are further than this from a true one, on average, is another screw."""
MAX_METAL_ML = 200.0
"""Twelve screws with rods have a fifth of it. Where there is more, a volume is noise or speckled all over, and no line in it a
screw; looking for them would take hours."""

_FRONT = 0.55
"""Least share of a screw's direction along the patient's front-back axis."""
_HOUGH_STEP_RAD, _HOUGH_BIN_MM = math.radians(8.0), 3.0
_NEAR_MM, _TAKEN_MM = 4.5, 7.0
_STEP_MM = 0.5
_GAP_MM = 3.0
_BONE_HU = 300.0
"""Around a shaft; half-way from here to the shaft's height is its edge."""
_STEP_WINDOW_MM = 5.0
_TULIP_STEP_MM2 = 15.0
"""The tulip's cross-section is larger than the shaft's by more than this."""
_DISC_STEP_MM = 1.0
_GRID = np.mgrid[-7:8, -7:8].reshape(2, -1).T * _DISC_STEP_MM
_DISC = _GRID[np.hypot(*_GRID.T) <= 7.0]
"""(P, 2) points across the axis [mm]."""
_CORE = np.hypot(*_DISC.T) <= 1.0


class Screw(Protocol):
    """Where the shaft meets the tulip and where it ends in the body, (3,) LPS [mm]."""

    @property
    def head_lps(self) -> np.ndarray: ...

    @property
    def tip_lps(self) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class FoundScrew:
    """A `Screw` found in a volume."""

    head_lps: np.ndarray
    tip_lps: np.ndarray


@dataclass(frozen=True)
class ScrewError:
    """A matched pair: distances of tips and heads [mm], angle between axes [deg]. found, true: positions in their lists."""

    found: int
    true: int
    tip_mm: float
    head_mm: float
    axis_deg: float


def axis_of(screw: Screw) -> np.ndarray:
    """(3,) unit vector from head to tip."""
    along = np.asarray(screw.tip_lps, dtype=np.float64) - screw.head_lps
    return along / np.linalg.norm(along)


def _length(screw: Screw) -> float:
    return float(np.linalg.norm(screw.tip_lps - screw.head_lps))


def find_screws(ct: CtVolume, threshold_hu: float = SCREW_HU) -> list[FoundScrew]:
    """Screws in a volume, longest line of metal first; none in one with more than `MAX_METAL_ML` of metal."""
    k, j, i = np.nonzero(ct.hu > threshold_hu)
    if len(k) * float(np.prod(ct.grid.spacing_mm)) / 1e3 > MAX_METAL_ML:
        return []
    points = np.column_stack([i, j, k]) @ ct.grid.ijk_to_lps[:3, :3].T + ct.grid.ijk_to_lps[:3, 3]
    enough = MIN_LENGTH_MM * 10.0 / float(np.prod(ct.grid.spacing_mm))  # a screw is more than 10 mm^2 thick
    found = []
    while len(points) > enough:
        start, direction = _strongest_line(points)
        for _ in range(3):
            near = _along_line(points, start, direction)
            if len(near) < 3:
                break
            start, direction = _principal_axis(near)
        screw = _located(ct, start, direction, threshold_hu)
        if screw is not None and -axis_of(screw)[1] >= _FRONT and _length(screw) >= MIN_LENGTH_MM:
            found.append(screw)
        taken = _distance(points, start, direction) < (_NEAR_MM if screw is None else _TAKEN_MM)
        if not taken.any():
            break
        points = points[~taken]
    return found


def match_screws(found: Sequence[Screw], true: Sequence[Screw]) -> list[ScrewError]:
    """Pairs with the least total distance (Hungarian algorithm), none over `MAX_MATCH_MM` apart; in the order of `true`."""
    if not found or not true:
        return []
    tip = _distances([s.tip_lps for s in found], [s.tip_lps for s in true])
    head = _distances([s.head_lps for s in found], [s.head_lps for s in true])
    cost = (tip + head) / 2
    pairs = zip(*linear_sum_assignment(np.minimum(cost, 10 * MAX_MATCH_MM)), strict=True)
    errors = []
    for f, t in pairs:
        if cost[f, t] <= MAX_MATCH_MM:
            cosine = float(np.clip(axis_of(found[f]) @ axis_of(true[t]), -1.0, 1.0))
            degrees = math.degrees(math.acos(cosine))
            errors.append(ScrewError(int(f), int(t), float(tip[f, t]), float(head[f, t]), degrees))
    return sorted(errors, key=lambda error: error.true)


def score_screws(found: Sequence[Screw], true: Sequence[Screw]) -> dict[str, float]:
    """Case means over matched screws, and how many there are. NaN where nothing can be said: errors without a match, recall
    without a true screw, precision without a found one."""
    errors = match_screws(found, true)
    return {
        "screw_tip_error_mm": _mean([e.tip_mm for e in errors]),
        "screw_head_error_mm": _mean([e.head_mm for e in errors]),
        "screw_axis_error_deg": _mean([e.axis_deg for e in errors]),
        "screw_recall": len(errors) / len(true) if true else math.nan,
        "screw_precision": len(errors) / len(found) if found else math.nan,
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _distances(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    return np.linalg.norm(np.asarray(a)[:, None] - np.asarray(b)[None], axis=2)


def _strongest_line(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(point, unit direction) of the line from back to front with most metal near it: for each direction the points fall into
    square bins across it, and the fullest bin of all is the line."""
    directions, across = _directions()
    u = points @ across[:, 0].T  # (N, directions)
    v = points @ across[:, 1].T
    a, b = (np.floor((w - w.min()) / _HOUGH_BIN_MM).astype(np.int64) + 1 for w in (u, v))
    rows, columns = int(a.max()) + 2, int(b.max()) + 2
    votes = np.bincount(
        ((np.arange(len(directions)) * rows + a) * columns + b).ravel(), minlength=len(directions) * rows * columns
    )
    votes = votes.reshape(len(directions), rows, columns)
    votes = votes[:, :-1, :-1] + votes[:, 1:, :-1] + votes[:, :-1, 1:] + votes[:, 1:, 1:]  # a line may sit between bins
    best, row, column = np.unravel_index(int(votes.argmax()), votes.shape)
    middle = (a[:, best] - row < 2) & (a[:, best] >= row) & (b[:, best] - column < 2) & (b[:, best] >= column)
    return points[middle].mean(axis=0), directions[best]


def _directions() -> tuple[np.ndarray, np.ndarray]:
    """(M, 3) unit vectors toward the patient's front (-y), and (M, 2, 3) two unit vectors across each."""
    steps = np.arange(-7, 8) * _HOUGH_STEP_RAD
    turn, tilt = (a.ravel() for a in np.meshgrid(steps, steps))
    unit = np.column_stack([np.sin(turn) * np.cos(tilt), -np.cos(turn) * np.cos(tilt), np.sin(tilt)])
    unit = unit[-unit[:, 1] >= _FRONT]
    first = np.cross(unit, [0.0, 0.0, 1.0])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return unit, np.stack([first, np.cross(unit, first)], axis=1)


def _distance(points: np.ndarray, start: np.ndarray, direction: np.ndarray) -> np.ndarray:
    offset = points - start
    return np.linalg.norm(offset - np.outer(offset @ direction, direction), axis=1)


def _along_line(points: np.ndarray, start: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The points near a line that hang together along it, the longest such run."""
    near = points[_distance(points, start, direction) < _NEAR_MM]
    t = (near - start) @ direction
    order = np.argsort(t)
    runs = np.split(order, np.flatnonzero(np.diff(t[order]) > _GAP_MM) + 1)
    return near[max(runs, key=lambda run: float(np.ptp(t[run])) if len(run) else -1.0)]


def _principal_axis(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = points.mean(axis=0)
    direction = np.linalg.svd(points - middle, full_matrices=False)[2][0]
    return middle, direction if direction[1] < 0 else -direction


def _located(ct: CtVolume, start: np.ndarray, direction: np.ndarray, threshold_hu: float) -> FoundScrew | None:
    """The screw on a line. Fitted twice: tulip and rod pull the first axis aside, the second is the shaft's own.
    None if `start` is not in metal or the line turned away from the front."""
    screw = _ends(ct, start, direction, threshold_hu)
    if screw is None or -axis_of(screw)[1] < _FRONT or _length(screw) < MIN_LENGTH_MM:
        return screw
    along = np.linspace(0.1, 0.9, 41)[:, None] * (screw.tip_lps - screw.head_lps)
    points = screw.head_lps + along[:, None] + _DISC @ _across(direction)
    weight = np.clip(_sample(ct, points) - _BONE_HU, 0.0, None)  # (41, disc)
    centers = (weight[..., None] * points).sum(axis=1) / weight.sum(axis=1)[:, None].clip(1e-6)
    return _ends(ct, *_principal_axis(centers), threshold_hu)


def _ends(ct: CtVolume, start: np.ndarray, direction: np.ndarray, threshold_hu: float) -> FoundScrew | None:
    """The piece of metal on a line around `start`. Tip: where the axis leaves metal, at half of the shaft's own height. Head:
    where the cross-section grows most, from shaft to tulip; the other end of the metal if it grows nowhere."""
    t = np.arange(-80.0, 80.0 + _STEP_MM, _STEP_MM)
    hu = _sample(ct, start + t[:, None, None] * direction + _DISC @ _across(direction))  # (T, disc)
    core = hu[:, _CORE].max(axis=1)
    middle = int(np.argmin(np.abs(t)))
    if core[middle] < threshold_hu:
        return None
    first, last = _run(core > threshold_hu, middle)
    half = (float(np.median(core[middle : last + 1])) + _BONE_HU) / 2
    _, last = _run(core > min(half, threshold_hu), middle)
    area = (np.clip((hu - _BONE_HU) / (2 * (half - _BONE_HU)), 0.0, 1.0)).sum(axis=1) * _DISC_STEP_MM**2
    window = int(_STEP_WINDOW_MM / _STEP_MM)
    sums = np.concatenate([[0.0], np.cumsum(area)])
    grows = {
        n: (2 * sums[n] - sums[n - window] - sums[n + window]) / window
        for n in range(max(first, window), max(last - int(MIN_LENGTH_MM / _STEP_MM), first) + 1)
    }
    head = max(grows, key=lambda n: grows[n], default=first)
    if not grows or grows[head] < _TULIP_STEP_MM2:
        head = first
    return FoundScrew(start + t[head] * direction, start + t[last] * direction)


def _run(inside: np.ndarray, middle: int) -> tuple[int, int]:
    """First and last index of the stretch of True around `middle`."""
    outside = np.flatnonzero(~inside)
    return int(outside[outside < middle].max(initial=-1)) + 1, int(outside[outside > middle].min(initial=len(inside))) - 1


def _across(direction: np.ndarray) -> np.ndarray:
    """(2, 3) two unit vectors across a direction."""
    return np.linalg.svd(direction[None])[2][1:]


def _sample(ct: CtVolume, points_lps: np.ndarray) -> np.ndarray:
    """(..., 3) LPS -> (...) HU, linear between voxels, air outside."""
    matrix = ct.grid.lps_to_ijk
    ijk = points_lps @ matrix[:3, :3].T + matrix[:3, 3]
    return map_coordinates(ct.hu, np.moveaxis(ijk, -1, 0)[::-1], order=1, cval=-1000.0)
