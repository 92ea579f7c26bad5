"""An X-ray and a DRR on one detector, so that the eye sees whether they fit: brought to one scale, then mixed in four ways.

numpy only. Images are (H, W) line integrals, `valid` says where the X-ray sees the patient.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from diff2ct.geometry import Beam
from diff2ct.units import HU_AIR
from diff2ct.volume import VolumeGrid

NUM_TILES = 8
"""Tiles of the checkerboard along the longer side."""
LEAST_AGREEMENT = 0.4
"""Gradient correlation below which an X-ray may not show the CT where it lies. A real scout in pixels of 3 mm has 0.72 over its
CT, 5 mm beside it 0.53, 10 mm 0.37, and mirrored 0.32; in pixels of 2 mm 0.58 over its CT."""
DOUBTFUL_RIVAL = 0.9
"""Agreement of another place, as share of that of a registration, above which the other may be the right one."""
CUT_SHARE = 0.02
"""Of a face that is tissue, above which the patient goes on behind it; a table is less."""
BAND_PIXELS = 3
"""By which `crop_bands` are wider than the faces."""
EDGE_PERCENTILE = 88.0
"""Pixels with a gradient above this percentile are edges."""


@dataclass(frozen=True)
class Match:
    """gain, offset: gain * drr + offset is nearest to the X-ray (least squares). agreement: their gradient correlation, NaN if
    one of them has no contrast where both are seen."""

    gain: float
    offset: float
    agreement: float


def match(drr: np.ndarray, xray: np.ndarray, valid: np.ndarray) -> Match:
    """Fit over the pixels that the X-ray sees and the DRR's volume reaches: a volume shorter than the X-ray is no mismatch."""
    seen = valid & (drr > 0)
    if seen.sum() < 16:
        return Match(1.0, 0.0, math.nan)
    a, b = drr[seen].astype(np.float64), xray[seen].astype(np.float64)
    a_mean, b_mean = a.mean(), b.mean()
    a, b = a - a_mean, b - b_mean
    power_a, power_b, common = float(a @ a), float(b @ b), float(a @ b)
    if min(power_a, power_b) <= 1e-12 * len(a):
        return Match(1.0, float(b_mean - a_mean), math.nan)
    # A pose far off can correlate negatively; the spread of the X-ray is then a better gain than none.
    gain = common / power_a if common > 0 else math.sqrt(power_b / power_a)
    return Match(gain, float(b_mean - gain * a_mean), gradient_correlation(drr, xray, seen))


def gradient_correlation(drr: np.ndarray, xray: np.ndarray, seen: np.ndarray) -> float:
    """Mean of the correlations of the horizontal and of the vertical gradients (Penney et al. 1998, IEEE TMI 17(4), 586).

    1 is a perfect fit. The plain correlation of the images hardly tells a few millimetres: it is ruled by the tissue that the
    X-ray sees and a cropped CT lacks, which is smooth. seen: without `crop_bands`. NaN without contrast.
    """
    inner = _inner(_inner(seen))
    correlations = []
    for axis in (0, 1):
        a, b = (np.gradient(image.astype(np.float64), axis=axis)[inner] for image in (drr, xray))
        a, b = a - a.mean() if a.size else a, b - b.mean() if b.size else b
        power = math.sqrt(float(a @ a) * float(b @ b))
        correlations.append(float(a @ b) / power if power > 0 else math.nan)
    return float(np.mean(correlations))


def cut_faces(volume: np.ndarray, tissue: float) -> np.ndarray:
    """(3, 2) bool: the faces at which a CT (D, H, W) was cut from a patient, first and last along i, j, k. In the others there
    is air. volume: `without_padding`. tissue: above this value a voxel is no air."""
    faces = [[np.take(volume, end, axis=2 - axis) for end in (0, -1)] for axis in range(3)]
    return np.array([[np.mean(face > tissue) > CUT_SHARE for face in pair] for pair in faces])


def without_padding(hu: np.ndarray, grid: VolumeGrid) -> tuple[np.ndarray, VolumeGrid]:
    """A CT (D, H, W) without outer slices in which nothing attenuates, where much does beside them: programs add such, and they
    hide where it was cut. Beside a body in air little does."""
    if all((np.take(hu, end, axis=axis) > HU_AIR).any() for axis in range(3) for end in (0, -1)):
        return hu, grid
    counts = [np.zeros(size) for size in hu.shape]
    for number, plane in enumerate(hu):
        filled = (plane > HU_AIR).astype(np.float32)  # sums of these are fast and, below 2^24, exact
        counts[0][number] = filled.sum()
        counts[1] += filled.sum(axis=1)
        counts[2] += filled.sum(axis=0)
    firsts, ends = [], []
    for count in counts:
        much = np.flatnonzero(count >= max(1.0, count.max() / 2))
        first, end = (int(much[0]), int(much[-1]) + 1) if len(much) else (0, len(count))
        firsts.append(0 if count[:first].any() else first)
        ends.append(len(count) if count[end:].any() else end)
    kept = hu[tuple(map(slice, firsts, ends))]
    depth, height, width = kept.shape
    x, y, z, _ = (grid.ijk_to_lps @ [*firsts[::-1], 1.0]).tolist()
    return kept, replace(grid, size=(depth, height, width), origin_lps=(x, y, z))


def crop_bands(grid: VolumeGrid, pose_lps: np.ndarray, beam: Beam, cut: np.ndarray | None = None) -> np.ndarray:
    """(H, W) bool, True where rays cross a face at which the volume was cut from a patient: what comes behind it is missing in
    its DRR, which has edges there that no X-ray has. The two faces that look at source and detector do not count.

    pose_lps: (4, 4) [mm], how the volume is moved. cut: as of `cut_faces`, None is all."""
    along = pose_lps[:3, :3] @ np.array(grid.direction)
    looking = int(np.abs(along.T @ beam.toward_detector).argmax())
    bands = np.zeros(beam.detector_size, bool)
    for axis, side in itertools.product(range(3), (0, 1)):
        if axis == looking or (cut is not None and not cut[axis, side]):
            continue
        others = [other for other in range(3) if other != axis]
        corners = np.empty((4, 3))
        corners[:, axis] = side
        corners[:, others] = (0, 0), (1, 0), (1, 1), (0, 1)
        ijk = corners * grid.size[::-1] - 0.5
        lps = (pose_lps @ grid.ijk_to_lps @ np.concatenate([ijk, np.ones((4, 1))], axis=1).T)[:3].T
        for triangle in itertools.combinations(beam.project_points(lps), 3):
            # Together they are the convex hull: a face seen from its edge may be twisted.
            bands |= _near(np.array(triangle), beam.detector_size, BAND_PIXELS)
    return bands


def checkerboard(size: tuple[int, int], num_tiles: int = NUM_TILES) -> np.ndarray:
    """(H, W) bool, True on every second tile; square tiles, `num_tiles` along the longer side."""
    tile = max(1, round(max(size) / num_tiles))
    rows, columns = np.indices(size) // tile
    return (rows + columns) % 2 == 1


def edges(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(H, W) float32: strength of an edge where there is one, 0 elsewhere. seen: outside of it there are no edges."""
    d_row, d_column = np.gradient(image.astype(np.float64))
    strength = np.hypot(d_row, d_column)
    # thin lines: only where the gradient is the largest along its own direction
    steep = np.abs(d_column) >= np.abs(d_row)
    along_columns = (strength >= np.roll(strength, 1, 1)) & (strength >= np.roll(strength, -1, 1))
    along_rows = (strength >= np.roll(strength, 1, 0)) & (strength >= np.roll(strength, -1, 0))
    inner = _inner(seen)
    crest = np.where(steep, along_columns, along_rows) & inner
    if not crest.any():
        return np.zeros(image.shape, np.float32)
    threshold = np.percentile(strength[inner], EDGE_PERCENTILE)
    return np.where(crest & (strength > threshold), strength, 0.0).astype(np.float32)


def _near(triangle: np.ndarray, size: tuple[int, int], reach: float) -> np.ndarray:
    """(H, W) bool: pixels in a triangle of (row, column) corners, or not farther from it than `reach` pixels, also if it is so
    narrow that no pixel lies in it."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    (low_row, low_column), (high_row, high_column) = triangle.min(axis=0) - reach, triangle.max(axis=0) + reach
    near = (rows >= low_row) & (rows <= high_row) & (columns >= low_column) & (columns <= high_column)
    a, b, c = triangle
    way = 1.0 if _cross(b - a, c - a) >= 0 else -1.0
    for (row, column), end in zip(triangle, np.roll(triangle, -1, axis=0), strict=True):
        d_row, d_column = end[0] - row, end[1] - column
        inward = way * (d_row * (columns - column) - d_column * (rows - row))
        near &= inward >= -reach * math.hypot(d_row, d_column)
    return near


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _inner(mask: np.ndarray) -> np.ndarray:
    """`mask` without its outermost pixels, whose gradient is that of the mask's own border."""
    inner = mask.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inner &= np.roll(mask, step, axis)
    inner[0], inner[-1], inner[:, 0], inner[:, -1] = False, False, False, False
    return inner
