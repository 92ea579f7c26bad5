"""Pedicle screws and rods put into a CT without labels, so that training sees metal in real anatomy too.

Levels are where bone joins body and arch on both sides (at the foramina between them there is none); a screw then takes the
path through the most bone. Positions are plausible, not planned: the CT has no labels, so levels are counted, not named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import grid_sample

from diff2ct.phantom.canvas import Canvas, Pose
from diff2ct.phantom.screws import Hardware, PedicleScrew, draw_metal_hu, draw_rods, paint_hardware
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.ct_spine import BODY_SEMI_MM, CANAL_BEHIND_MM, Spine, bone_density, find_spine, smooth

MAX_LEVELS = 5
_SIDES = {"left": 1.0, "right": -1.0}
_LEVEL_STEP_MM = 36.0
"""From vertebra to vertebra at scale 1."""
_END_MARGIN_MM = 18.0
"""Tulip and end of the rod stay this far inside the scan."""
_PEDICLE_Y_MM = -9.0
"""Middle of a pedicle, in front of the canal's middle, at scale 1."""
_MIN_BONE = 0.25
"""Mean density along a screw below which there is no pedicle."""
_ENOUGH_BONE = 0.45
"""Density that counts as bone in full: a screw belongs into spongy bone and gains nothing from an endplate."""
_MAX_FLANK = 0.12
"""Mean density on both sides of a vertebral body above which it is not one: the sacrum has its wings there."""


@dataclass(frozen=True, eq=False)
class _Trajectory:
    """pedicle: (3,) point and axis: (3,) unit vector toward the body, both in `pose`. bone, flank: mean density in the pedicle
    and beside the vertebral body, 0 to 1."""

    pose: Pose
    scale: float
    pedicle: np.ndarray
    axis: np.ndarray
    bone: float
    flank: float


def insert_screws(ct: CtVolume, rng: np.random.Generator) -> tuple[CtVolume, tuple[PedicleScrew, ...]]:
    """A copy of the CT with two to five neighbouring levels of screws and rods, and these screws, caudal to cranial.

    ct: on an axis-aligned isotropic grid. Where no spine is found, or no two neighbouring levels with room for screws, the CT
    comes back as it is, with no screws. PedicleScrew.level is "1" for the lowest one, not an anatomical name.
    """
    screws = draw_screws(ct, rng)
    if not screws:
        return ct, ()
    rods, crosslink = draw_rods(rng, screws)
    canvas = Canvas(ct.grid, hu=ct.hu)
    hardware = Hardware(screws=screws, rods=rods, crosslink=crosslink, cages=(), metal_hu=draw_metal_hu(rng))
    paint_hardware(canvas, hardware)
    return CtVolume(canvas.hu, ct.grid), screws


def draw_screws(ct: CtVolume, rng: np.random.Generator) -> tuple[PedicleScrew, ...]:
    """Screws for a run of neighbouring levels, caudal to cranial, left before right; none where there is no place for them."""
    spine = find_spine(ct)
    if spine is None:
        return ()
    density = bone_density(ct.hu)
    for axis in range(3):
        density = smooth(density, axis, 1.5 / ct.grid.spacing_mm[0])
    levels = [_trajectories(density, ct.grid, spine, z) for z in find_levels(density, ct.grid, spine)]
    runs = neighbours([min(t.bone for t in level) > _MIN_BONE and min(t.flank for t in level) < _MAX_FLANK for level in levels])
    if not runs:
        return ()
    start, stop = runs[int(rng.integers(len(runs)))]
    count = int(rng.integers(2, min(MAX_LEVELS, stop - start) + 1))
    start = int(rng.integers(start, stop - count + 1))
    diameter = float(rng.choice([5.5, 6.0, 6.5, 7.0, 7.5]))
    return tuple(
        _screw(rng, trajectory, diameter, str(n + 1), side)
        for n, level in enumerate(levels[start : start + count])
        for side, trajectory in zip(_SIDES, level, strict=True)
    )


def neighbours(usable: list[bool]) -> list[tuple[int, int]]:
    """(start, stop) of every stretch of at least two usable levels."""
    runs, start = [], 0
    for n, here in enumerate([*usable, False]):
        if not here:
            if n - start >= 2:
                runs.append((start, n))
            start = n + 1
    return runs


def find_levels(density: torch.Tensor, grid: VolumeGrid, spine: Spine) -> list[float]:
    """LPS z [mm] of the pedicles, foot to head, about one vertebra apart."""
    low, high = grid.origin_lps[2], grid.origin_lps[2] + grid.spacing_mm[2] * (grid.size[0] - 1)
    low, high = max(low, spine.z_range_mm[0]), min(high, spine.z_range_mm[1])
    heights = np.arange(low + _END_MARGIN_MM, high - _END_MARGIN_MM, 2.0)
    if not len(heights):
        return []
    poses, scales = [spine.pose(z) for z in heights], np.array([spine.scale_at(z) for z in heights])
    zone = np.array([[x, y, 0.0] for x in (10.0, 12.0, 14.0, 16.0) for y in (-12.0, -9.0, -6.0, -3.0)])
    points = np.array(
        [[p.to_lps(s * zone * [side, 1, 1]) for side in _SIDES.values()] for p, s in zip(poses, scales, strict=True)]
    )
    bone = sample(density, grid, points).mean(axis=2).min(axis=1)  # the weaker side counts
    bone = smooth(torch.from_numpy(bone)[:, None, None].float(), 0, 1.5)[:, 0, 0].numpy()
    return [float(heights[n]) for n in best_comb(bone - bone.mean(), heights, _LEVEL_STEP_MM * scales)]


def best_comb(gain: np.ndarray, heights: np.ndarray, steps_mm: np.ndarray) -> list[int]:
    """Indices with the largest sum of `gain`, neighbours 0.6 to 1.3 of `steps_mm` apart; all arrays are (N,)."""
    total, before = gain.copy(), np.full(len(gain), -1)
    for n in range(len(gain)):
        gap = (heights[n] - heights[:n]) / steps_mm[n]
        for m in np.flatnonzero((gap > 0.6) & (gap < 1.3)):
            value = total[m] + gain[n] - 0.5 * (gap[m] - 0.95) ** 2
            if value > total[n]:
                total[n], before[n] = value, m
    chain = [int(total.argmax())]
    while before[chain[-1]] >= 0:
        chain.append(int(before[chain[-1]]))
    return chain[::-1]


def sample(density: torch.Tensor, grid: VolumeGrid, points_lps: np.ndarray) -> np.ndarray:
    """(..., 3) LPS [mm] -> (...) density there, linear between voxels, 0 outside."""
    ijk = (points_lps - np.array(grid.origin_lps)) / np.array(grid.spacing_mm)
    normalized = 2 * ijk / (np.array(grid.size[::-1]) - 1) - 1
    where = torch.from_numpy(normalized.reshape(1, 1, 1, -1, 3)).float()
    return grid_sample(density[None, None], where, align_corners=True)[0, 0, 0, 0].numpy().reshape(points_lps.shape[:-1])


def _trajectories(density: torch.Tensor, grid: VolumeGrid, spine: Spine, z_mm: float) -> list[_Trajectory]:
    """Left and right: the line with the most bone among those a surgeon could take at the level z."""
    pose, scale = spine.pose(z_mm), spine.scale_at(z_mm)
    across, up = np.arange(9.0, 20.1, 1.0) * scale, np.arange(-6.0, 6.1, 2.0)
    usual = float(np.interp(scale, [0.6, 0.85, 1.1], [8.0, 10.0, 16.0]))  # convergence [deg]: steeper toward the sacrum
    turns, tilts = np.radians(usual + np.array([-8.0, -4.0, 0.0, 4.0, 8.0])), np.radians([-8.0, 0.0, 8.0])
    x, z, turn, tilt = (a.ravel() for a in np.meshgrid(across, up, turns, tilts, indexing="ij"))
    start = np.column_stack([x, np.full_like(x, _PEDICLE_Y_MM * scale), z])
    axis = np.column_stack([-np.sin(turn) * np.cos(tilt), -np.cos(turn) * np.cos(tilt), np.sin(tilt)])
    depths = np.arange(-12.0, 27.0, 2.0)
    usualness = ((x / scale - 14.0) / 20) ** 2 + (z / 8) ** 2 + 4.0 * tilt**2 + (turn - np.radians(usual)) ** 2
    beside = np.array([[x, y, 0.0] for x in (28.0, 31.0, 34.0) for y in (-26.0, -20.0, -14.0, -8.0)]) * scale
    best = []
    for side in _SIDES.values():
        mirror = np.array([side, 1.0, 1.0])
        points = (start[:, None] + depths[None, :, None] * axis[:, None]) * mirror
        bone = np.minimum(sample(density, grid, pose.to_lps(points)), _ENOUGH_BONE)
        neck = bone[:, depths < 8]
        n = int((bone.mean(axis=1) + neck.min(axis=1) - usualness).argmax())
        flank = sample(density, grid, pose.to_lps(beside * mirror)).mean()
        best.append(_Trajectory(pose, scale, start[n] * mirror, axis[n] * mirror, float(neck[n].mean()), float(flank)))
    return best


def _screw(rng: np.random.Generator, t: _Trajectory, diameter_mm: float, level: str, side: str) -> PedicleScrew:
    """The screw on a trajectory, a little off as real ones are; as long as the body is deep."""
    back = 17.0 * t.scale + rng.uniform(0, 3)
    front = (CANAL_BEHIND_MM + BODY_SEMI_MM[1] + _PEDICLE_Y_MM) * t.scale / abs(t.axis[1])  # to the front wall
    length = float(np.clip(5 * np.round((back + rng.uniform(0.7, 0.9) * front) / 5), 35, 55))
    axis = t.axis + np.tan(np.radians(rng.normal(0, 1.5, 3))) * [1, 0, 1]
    axis /= np.linalg.norm(axis)
    head = t.pedicle + rng.normal(0, 0.5, 3) * [1, 0, 1] - back * axis
    return PedicleScrew.from_head(
        t.pose.to_lps(head), t.pose.rotation @ axis, length_mm=length,
        diameter_mm=min(diameter_mm, max(5.5, float(np.floor(14 * t.scale)) / 2)), level=level, side=side,
    )  # fmt: skip
