"""What a reconstruction has to beat: methods that learn nothing or next to nothing. Each returns HU (D, H, W) float32 on
`grid`.

All get the same calibrated radiographs, i.e. line integrals without gain or offset. That flatters `backprojection` and `sirt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from diff2ct.condition import lift
from diff2ct.geometry import Beam
from diff2ct.projector import backproject, project
from diff2ct.radiograph import Radiograph
from diff2ct.units import HU_AIR, mu_to_hu
from diff2ct.volume import VolumeGrid

SOFT_TISSUE_HU = 40.0
SILHOUETTE_FRACTION = 0.02
"""Share of the image's range above air that counts as body: about 5 mm of tissue in a 250 mm thick patient."""


def train_mean(seeds: Iterable[int], grid: VolumeGrid, on_phantom: Callable[[], None] | None = None) -> np.ndarray:
    """The voxelwise mean of training phantoms, whatever the radiographs show. `grid` is centred on the phantoms' isocentre."""
    from diff2ct.phantom import make_phantom

    total, count = np.zeros(grid.size, dtype=np.float64), 0
    for seed in seeds:
        total += make_phantom(seed).render(grid).hu.hu
        count += 1
        if on_phantom is not None:
            on_phantom()
    if not count:
        raise ValueError("seeds: got none, accepted is at least one training phantom")
    return (total / count).astype(np.float32)


def flat_body(radiographs: Sequence[Radiograph], grid: VolumeGrid) -> np.ndarray:
    """The visual hull of the silhouettes filled with soft tissue, air around it. Two views see a box around an oval body."""
    return fill_body(visual_hull(radiographs, grid))


def fill_body(inside: np.ndarray) -> np.ndarray:
    """Body mask (D, H, W) -> HU: `SOFT_TISSUE_HU` inside, air outside. With the TRUE mask it is an oracle, not a method."""
    return np.where(inside, np.float32(SOFT_TISSUE_HU), np.float32(HU_AIR))


def silhouette(radiograph: Radiograph) -> np.ndarray:
    """Body mask (H, W) of a radiograph. Air is taken as the 0.1 % percentile and dense tissue as the 95 % one, so that neither
    gain, offset, noise nor metal matters. Where a radiograph has no air at all, nearly all of it is body, as it should be."""
    image, valid = radiograph.line_integral, radiograph.valid
    air, dense = np.percentile(image[valid], (0.1, 95.0))
    return valid & (image > air + SILHOUETTE_FRACTION * (dense - air))


def visual_hull(radiographs: Sequence[Radiograph], grid: VolumeGrid) -> np.ndarray:
    """Voxels (D, H, W) bool that fall inside every silhouette. Beside the detector and behind a collimator nothing is known:
    that counts as inside."""
    inside = np.ones(grid.size, dtype=bool)
    for radiograph in radiographs:
        images = [torch.from_numpy(mask.astype(np.float32)) for mask in (silhouette(radiograph), radiograph.valid)]
        body, seen = lift(images, radiograph.geometry, grid)
        inside &= (body >= 0.5 * seen).numpy()
    return inside


def backprojection(radiographs: Sequence[Radiograph], grid: VolumeGrid, *, margin_mm: float = 64.0) -> np.ndarray:
    """Unfiltered backprojection: per view the adjoint of the line integrals over the adjoint of the ray lengths, mean of the
    views, scaled to the measured total attenuation. The rays' tissue is spread over a grid wider by `margin_mm`, see
    `surrounding_grid`."""
    wide = surrounding_grid(grid, margin_mm)
    views = _views(radiographs)
    mu = torch.zeros(wide.size)
    for view in views:
        lengths = view.valid * project(torch.ones(wide.size), wide, view.beam)
        weights = backproject(lengths, wide, view.beam)
        mu += backproject(view.image, wide, view.beam) / weights.clamp(min=_small(weights)) / len(views)
    measured = sum(float(view.image.sum()) for view in views)
    explained = sum(float((view.valid * project(mu, wide, view.beam)).sum()) for view in views)
    return _to_hu(mu * (measured / explained), wide, grid)


def sirt(
    radiographs: Sequence[Radiograph],
    grid: VolumeGrid,
    *,
    num_iterations: int = 50,
    margin_mm: float = 64.0,
    on_step: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """SIRT from zero with mu >= 0: x <- max(0, x + C A^T R (p - A x)), R and C one over the row and column sums of A.

    Radiographs show the whole body, the cube does not hold it all. Fitting the cube alone would press outside tissue into
    it, so the fit runs on a grid wider by `margin_mm` on each side and the cube is cut out at the end.
    """
    wide = surrounding_grid(grid, margin_mm)
    mu = torch.zeros(wide.size)
    views = _views(radiographs)
    row_sums = [view.valid * project(torch.ones(wide.size), wide, view.beam) for view in views]
    column_sums = torch.zeros(wide.size)
    for view in views:
        column_sums += backproject(view.valid, wide, view.beam)
    column_sums.clamp_(min=_small(column_sums))
    for step in range(num_iterations):
        update = torch.zeros(wide.size)
        for view, lengths in zip(views, row_sums, strict=True):
            residual = (view.image - view.valid * project(mu, wide, view.beam)) / lengths.clamp(min=_small(lengths))
            update += backproject(residual, wide, view.beam)
        mu.add_(update.div_(column_sums)).clamp_(min=0.0)
        if on_step is not None:
            on_step(step + 1, num_iterations)
    return _to_hu(mu, wide, grid)


@dataclass(frozen=True, eq=False)
class _View:
    """image: (H, W) line integrals, 0 where not valid. valid: (H, W) 1 or 0."""

    image: torch.Tensor
    valid: torch.Tensor
    beam: Beam


def _views(radiographs: Sequence[Radiograph]) -> list[_View]:
    for radiograph in radiographs:
        if not radiograph.scale_known:
            raise ValueError(f"radiographs: the scale of {radiograph.source!r} is unknown, accepted are calibrated line integrals")
    masks = [torch.from_numpy(r.valid.astype(np.float32)) for r in radiographs]
    return [_View(torch.from_numpy(r.line_integral) * m, m, r.geometry) for r, m in zip(radiographs, masks, strict=True)]


def surrounding_grid(grid: VolumeGrid, margin_mm: float) -> VolumeGrid:
    """`grid` with whole voxels added on every side, at least `margin_mm` of them; the voxels of `grid` keep their places."""
    extra = _extra_voxels(grid, margin_mm)
    shift = grid.ijk_to_lps[:3, :3] @ np.array(extra, dtype=np.float64)
    origin = np.array(grid.origin_lps) - shift
    size = tuple(n + 2 * e for n, e in zip(grid.size, extra[::-1], strict=True))
    return VolumeGrid(size, grid.spacing_mm, tuple(origin.tolist()), grid.direction)  # type: ignore[arg-type]


def _extra_voxels(grid: VolumeGrid, margin_mm: float) -> tuple[int, ...]:
    """Voxels (i, j, k) added on each side."""
    return tuple(int(np.ceil(margin_mm / s)) for s in grid.spacing_mm)


def _to_hu(mu: torch.Tensor, wide: VolumeGrid, grid: VolumeGrid) -> np.ndarray:
    """Attenuation [1/mm] on the wide grid -> HU on `grid`, which lies in its middle."""
    extra = [(w - n) // 2 for w, n in zip(wide.size, grid.size, strict=True)]
    inner = tuple(slice(e, e + n) for e, n in zip(extra, grid.size, strict=True))
    return mu_to_hu(mu[inner]).numpy().astype(np.float32)


def _small(sums: torch.Tensor) -> float:
    """A floor for a divisor: rays and voxels that hardly meet anything get no weight instead of an infinite one."""
    return 1e-3 * float(sums.max())
