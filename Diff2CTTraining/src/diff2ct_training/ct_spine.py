"""Where the spine runs in a CT that has no labels: a matched filter for one vertebra in the axial plane, then the best line
through all slices.

Working frame of every slice: x to the patient's left, y back, both in mm from the middle of the vertebral body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import conv2d, max_pool2d

from diff2ct.metrics import SKIN_HU
from diff2ct.phantom.canvas import Pose
from diff2ct.volume import CtVolume

SCALES = (0.6, 0.75, 0.9, 1.05, 1.2)
"""Sizes of vertebra that are looked for; 1 is a mean L3, 0.6 a T3."""
BODY_SEMI_MM, CANAL_SEMI_MM, CANAL_BEHIND_MM = (22.0, 16.5), (9.5, 7.0), 26.0
"""At scale 1: semi-axes (x, y) of the vertebral body and of the canal, and how far the canal's middle is behind the body's."""
MIN_SCORE = 0.45
MIN_LENGTH_MM = 80.0
"""What is less like a vertebra, or shorter, is no spine."""
_STEP_MM = 4.0
_HALF_WIDTH_MM, _FRONT_MM = 70.0, 40.0
"""Searched: so far to both sides of the body's centroid, and from so far in front of it to the back."""
_BEND_COST = 0.03


@dataclass(frozen=True, eq=False)
class Spine:
    """One line through the vertebral bodies, foot to head.

    bodies_lps, canals_lps: (N, 3) middle of vertebral body and of canal in axial planes [mm]. scale: (N,) size of the
    vertebrae, 1 is a mean L3. score: (N,) how much the slice looks like a vertebra, 1 is perfect.
    """

    bodies_lps: np.ndarray
    canals_lps: np.ndarray
    scale: np.ndarray
    score: np.ndarray

    @property
    def z_range_mm(self) -> tuple[float, float]:
        """LPS z of the lower and the upper end."""
        return float(self.bodies_lps[0, 2]), float(self.bodies_lps[-1, 2])

    def pose(self, z_mm: float) -> Pose:
        """Frame in the middle of the canal at LPS z: x to the left, y back, z up along the column."""
        heights = self.canals_lps[:, 2]
        low, middle, high = (np.array([np.interp(z_mm + d, heights, line) for line in self.canals_lps.T]) for d in (-20, 0, 20))
        up = (high - low) / np.linalg.norm(high - low)
        left = np.cross([0.0, 1.0, 0.0], up)
        left /= np.linalg.norm(left)
        return Pose(np.column_stack([left, np.cross(up, left), up]), middle)

    def scale_at(self, z_mm: float) -> float:
        """Size of the vertebrae at LPS z."""
        return float(np.interp(z_mm, self.bodies_lps[:, 2], self.scale))


def bone_density(hu: np.ndarray) -> torch.Tensor:
    """(D, H, W) HU -> float32, 0 in soft tissue to 1 in dense bone and above."""
    return ((torch.from_numpy(np.ascontiguousarray(hu, dtype=np.float32)) - 70) / 180).clamp(0, 1)


def smooth(volume: torch.Tensor, axis: int, sigma: float) -> torch.Tensor:
    """Gaussian of `sigma` voxels along one axis of (D, H, W); values outside count as the edge's."""
    reach = max(int(np.ceil(3 * sigma)), 1)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = weights / weights.sum()
    moved = volume.movedim(axis, -1)
    lines = moved.reshape(-1, 1, 1, moved.shape[-1])
    padded = torch.cat([lines[..., :1].expand(-1, -1, -1, reach), lines, lines[..., -1:].expand(-1, -1, -1, reach)], dim=-1)
    return conv2d(padded, weights[None, None, None]).reshape(moved.shape).movedim(-1, axis)


def smooth_line(values: torch.Tensor, sigma: float) -> torch.Tensor:
    """`smooth` along the first axis of (N, C)."""
    return smooth(values[:, :, None], 0, sigma)[:, :, 0]


def find_spine(ct: CtVolume) -> Spine | None:
    """The spine of a CT on an axis-aligned isotropic grid; None where nothing runs through the scan that looks like one."""
    grid, spacing = ct.grid, ct.grid.spacing_mm[0]
    body = ct.hu[:, ::2, ::2] > SKIN_HU
    if min(grid.size) * spacing < 60 or not body.any():
        return None
    _, j, i = (2 * index.mean() for index in np.nonzero(body))
    step = max(round(_STEP_MM / spacing), 1)
    step_mm = step * spacing
    density = smooth(bone_density(ct.hu), 0, 9.0 / spacing)[::step]
    rows = slice(max(round(j - _FRONT_MM / spacing), 0), grid.size[1])
    columns = slice(max(round(i - _HALF_WIDTH_MM / spacing), 0), round(i + _HALF_WIDTH_MM / spacing))
    density = density[:, rows, columns]
    best, which = torch.stack([likeness(density, scale, spacing) for scale in SCALES]).max(dim=0)
    path = best_path(best, _BEND_COST)
    k = np.arange(len(path))
    score = best[k, path[:, 0], path[:, 1]]
    first, last = longest_run((smooth_line(score[:, None], 12 / step_mm)[:, 0] > MIN_SCORE).tolist())
    if (last - first) * step_mm < MIN_LENGTH_MM:
        return None
    sizes = torch.tensor(SCALES)[which[k, path[:, 0], path[:, 1]]]
    scale = smooth_line(sizes[:, None], 40 / step_mm).numpy()
    pixels = torch.from_numpy(path[:, ::-1] + [columns.start, rows.start]).float()
    ijk = np.column_stack([smooth_line(pixels, 8 / step_mm).numpy(), k * step, np.ones(len(k))])
    bodies = (ijk @ grid.ijk_to_lps.T)[:, :3]
    canals = bodies + scale * [0.0, CANAL_BEHIND_MM, 0.0]
    here = slice(first, last)
    return Spine(bodies[here], canals[here], scale[here, 0], score.numpy()[here])


def longest_run(wanted: list[bool]) -> tuple[int, int]:
    """First index of the longest stretch of True, and the index after its last one."""
    best, start = (0, 0), 0
    for n, here in enumerate([*wanted, False]):
        if not here:
            best, start = max(best, (start, n), key=lambda run: run[1] - run[0]), n + 1
    return best


def likeness(density: torch.Tensor, scale: float, spacing_mm: float) -> torch.Tensor:
    """(N, H, W) bone density, averaged over a vertebra's height -> (N, H, W), 1 in the middle of a vertebral body.

    Body, both sides of the arch and the spinous process must all be there, so that a vessel full of contrast medium does not
    count; the canal must be free, and so must a crescent in front of the body.
    """
    reach = int(np.ceil(58 * scale / spacing_mm))
    axis = torch.arange(-reach, reach + 1) * spacing_mm / scale
    y, x = torch.meshgrid(axis, axis, indexing="ij")

    def ellipse(a: float, b: float, left: float = 0.0, behind: float = 0.0) -> torch.Tensor:
        return ((x - left) / a) ** 2 + ((y - behind) / b) ** 2 < 1

    size = [n + 2 * reach for n in density.shape[1:]]
    spectrum = torch.fft.rfft2(density, s=size)

    def mean_over(region: torch.Tensor) -> torch.Tensor:
        kernel = torch.fft.rfft2((region / region.sum()).flip(0, 1), s=size)
        return torch.fft.irfft2(spectrum * kernel, s=size)[:, reach:-reach, reach:-reach]

    (a, b), middle = BODY_SEMI_MM, CANAL_BEHIND_MM
    wanted = [(ellipse(a, b), 0.5), (ellipse(6.0, 9.0, 0.0, middle + 16), 0.3)]
    wanted += [(ellipse(6.5, 9.0, side * 16.0, middle + 1), 0.35) for side in (-1.0, 1.0)]
    parts = torch.stack([(mean_over(region) / enough).clamp(max=1) for region, enough in wanted])
    front = ellipse(a + 10, b + 10) & ~ellipse(a + 2, b + 2) & (y < 4)
    unwanted = mean_over(ellipse(*CANAL_SEMI_MM, 0.0, middle)) + 0.5 * mean_over(front)
    return (parts.mean(dim=0) + parts.amin(dim=0)) / 2 - unwanted


def best_path(score: torch.Tensor, step_cost: float) -> np.ndarray:
    """(N, H, W) score per slice -> (N, 2) rows and columns of the line with the highest sum; from slice to slice it moves by at
    most one pixel each way, and pays `step_cost` for a move."""
    total = score[0]
    arrivals = []
    for plane in score[1:]:
        moved, index = max_pool2d(total[None, None], 3, 1, 1, return_indices=True)
        stay = total >= moved[0, 0] - step_cost
        here = torch.arange(total.numel()).reshape(total.shape)
        arrivals.append(torch.where(stay, here, index[0, 0]))
        total = torch.where(stay, total, moved[0, 0] - step_cost) + plane
    flat = [int(total.argmax())]
    for arrival in reversed(arrivals):
        flat.append(int(arrival.flatten()[flat[-1]]))
    return np.column_stack(np.divmod(flat[::-1], score.shape[2]))
