"""What a reconstruction has to beat: methods that learn nothing or next to nothing. Each returns HU (D, H, W) float32 on
`grid`.

`backprojection` and `sirt` need calibrated radiographs, i.e. line integrals without gain or offset; DRRs are, which flatters
them, and of others `scaled` makes such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diff2ct.condition import lift
from diff2ct.geometry import Beam
from diff2ct.metrics import reprojection_error
from diff2ct.phantom import make_phantom
from diff2ct.projector import backproject, project
from diff2ct.radiograph import Radiograph
from diff2ct.units import HU_AIR, HU_WINDOW, MU_WATER_PER_MM, hu_to_mu, mu_to_hu
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import inside_grid, resample
from diff2ct_training.acquisitions import coarsened
from diff2ct_training.cases import UNSCANNED, filled, read_case
from diff2ct_training.parallel import results_in_order

SOFT_TISSUE_HU = 40.0
NEIGHBOUR_MM = 4.0
"""Voxels in which training patients are X-rayed to be compared."""
TV_WEIGHT = 0.01
"""Of `sirt` with total variation; above, bone goes."""
OUTSIDE_MM = (64.0, 24.0, 48.0)
"""How far (x, y, z) a trunk reaches beyond the 256 mm cube: wider than deep, and cut only by the X-rays' field above and
below."""
AIR_PERCENTILE, DENSE_PERCENTILE = 0.1, 95.0
HULL_EXCESS = 1.25
"""By how much a visual hull is thicker than the trunk in it, in X-rays' dense parts: 1.18 to 1.31 in both views of two phantoms
and a CT."""
SILHOUETTE_FRACTION = 0.02
"""Share of the image's range above air that counts as body: about 5 mm of tissue in a 250 mm thick patient."""


def train_mean(seeds: Iterable[int], grid: VolumeGrid, *, workers: int = 1) -> np.ndarray:
    """The voxelwise mean of training phantoms, whatever the radiographs show. `grid` is centred on the phantoms' isocentre."""
    total, count = np.zeros(grid.size, dtype=np.float64), 0
    for hu in results_in_order(partial(phantom_hu, grid=grid), list(seeds), workers):
        total += hu
        count += 1
    if not count:
        raise ValueError("seeds: got none, accepted is at least one training phantom")
    return (total / count).astype(np.float32)


def phantom_hu(seed: int, grid: VolumeGrid) -> np.ndarray:
    """HU (D, H, W) float32 of a phantom on any grid of its frame."""
    return make_phantom(seed).render(grid).hu.hu


def cases_mean(files: Iterable[Path], grid: VolumeGrid, *, workers: int = 1) -> np.ndarray:
    """The voxelwise mean of prepared cases about their centres, each where it was scanned; air where none was. `grid` is
    centred on the origin."""
    total, count = np.zeros(grid.size, dtype=np.float64), np.zeros(grid.size, dtype=np.int64)
    for hu, known in results_in_order(partial(_case_known, grid=grid), list(files), workers):
        total += np.where(known, hu, 0.0)
        count += known
    return np.where(count > 0, total / np.maximum(count, 1), HU_AIR).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A training patient to be found again. hu: (D, H, W) int16 or float32 of the whole body on `body_grid`, coarse, the
    isocentre at the origin. on_grid: its HU (D, H, W) on any grid of that frame."""

    name: str
    hu: np.ndarray
    body_grid: VolumeGrid
    on_grid: Callable[[VolumeGrid], np.ndarray]


def phantom_neighbours(seeds: Iterable[int], *, workers: int = 1) -> list[Neighbour]:
    """Training phantoms, in their order."""
    return list(results_in_order(_phantom_neighbour, list(seeds), workers))


def case_neighbours(files: Iterable[Path], *, workers: int = 1) -> list[Neighbour]:
    """Prepared cases, by their JSON files."""
    return list(results_in_order(_case_neighbour, list(files), workers))


def _phantom_neighbour(seed: int) -> Neighbour:
    phantom = make_phantom(seed)
    body = phantom.render(phantom.body_grid(NEIGHBOUR_MM)).hu
    return Neighbour(f"phantom {seed}", body.hu, body.grid, partial(phantom_hu, seed))


def _case_neighbour(file: Path) -> Neighbour:
    case = read_case(file)
    coarse = coarsened(case, VolumeGrid.centered(1, NEIGHBOUR_MM))
    hu = np.rint(filled(coarse.hu)).astype(np.int16)  # hundreds of patients are kept, in every process
    return Neighbour(case.name, hu, moved(coarse.grid, -np.array(case.center_lps)), partial(_case_hu, file))


def _case_hu(file: Path, grid: VolumeGrid) -> np.ndarray:
    return _case_known(file, grid)[0]


def _case_known(file: Path, grid: VolumeGrid) -> tuple[np.ndarray, np.ndarray]:
    """(HU, where it was scanned), each (D, H, W), on any grid of the frame whose origin is its centre."""
    case = read_case(file)
    own = moved(case.grid, -np.array(case.center_lps))
    ct, scanned = CtVolume(filled(case.hu), own), CtVolume(case.hu != UNSCANNED, own)
    return resample(ct, grid).hu, inside_grid(ct, grid) & (resample(scanned, grid).hu > 0.5)


def nearest_neighbour(radiographs: Sequence[Radiograph], grid: VolumeGrid, neighbours: Sequence[Neighbour]) -> np.ndarray:
    """The training patient whose own X-rays, taken in the same way, correlate best with these: what memory alone can do. Gain
    and offset do not matter."""
    if not neighbours:
        raise ValueError("neighbours: got none, accepted is at least one training patient")
    isocenter = np.mean([r.geometry.isocenter_lps for r in radiographs], axis=0)
    small = [r.resized(patient_spacing_mm=NEIGHBOUR_MM) for r in radiographs]

    def likeness(neighbour: Neighbour) -> float:
        mu, body_grid = hu_to_mu(torch.from_numpy(neighbour.hu).float()), moved(neighbour.body_grid, isocenter)
        total = 0.0
        for r in small:
            image, valid = torch.from_numpy(r.line_integral)[None], torch.from_numpy(r.valid)[None]
            total += float(reprojection_error(image, project(mu, body_grid, r.geometry)[None], valid)[1])
        return total

    return max(neighbours, key=likeness).on_grid(moved(grid, -isocenter))


def moved(grid: VolumeGrid, by_mm: np.ndarray) -> VolumeGrid:
    x, y, z = (float(v) for v in np.array(grid.origin_lps) + by_mm)
    return replace(grid, origin_lps=(x, y, z))


def flat_body(radiographs: Sequence[Radiograph], grid: VolumeGrid) -> np.ndarray:
    """The visual hull of the silhouettes filled with soft tissue, air around it. Two views see a box around an oval body."""
    return fill_body(visual_hull(radiographs, grid))


def fill_body(inside: np.ndarray) -> np.ndarray:
    """Body mask (D, H, W) -> HU: `SOFT_TISSUE_HU` inside, air outside. With the TRUE mask it is an oracle, not a method."""
    return np.where(inside, np.float32(SOFT_TISSUE_HU), np.float32(HU_AIR))


def silhouette(radiograph: Radiograph) -> np.ndarray:
    """Body mask (H, W) of a radiograph, whatever its gain and offset. Where it shows no air at all, nearly all of it is body,
    as it should be."""
    air, dense = _air_and_dense(radiograph)
    return radiograph.valid & (radiograph.line_integral > air + SILHOUETTE_FRACTION * (dense - air))


def _air_and_dense(radiograph: Radiograph) -> tuple[float, float]:
    """Values of air and of dense tissue: percentiles that neither noise nor metal moves."""
    air, dense = np.percentile(radiograph.line_integral[radiograph.valid], (AIR_PERCENTILE, DENSE_PERCENTILE))
    return float(air), float(dense)


def visual_hull(radiographs: Sequence[Radiograph], grid: VolumeGrid) -> np.ndarray:
    """Voxels (D, H, W) bool that fall inside every silhouette. Beside the detector and behind a collimator nothing is known:
    that counts as inside."""
    inside = np.ones(grid.size, dtype=bool)
    for radiograph in radiographs:
        images = [torch.from_numpy(mask.astype(np.float32)) for mask in (silhouette(radiograph), radiograph.valid)]
        body, seen = lift(images, radiograph.geometry, grid)
        inside &= (body >= 0.5 * seen).numpy()
    return inside


def scaled(radiographs: Sequence[Radiograph], grid: VolumeGrid) -> list[Radiograph]:
    """The radiographs as line integrals: of one whose scale is not known, air is taken for 0 and dense tissue for what it is in
    an X-ray of `flat_body` over `HULL_EXCESS`, on a grid as wide as that of `sirt`. A guess, but it looks at no truth."""
    if all(r.scale_known for r in radiographs):
        return list(radiographs)
    wide = surrounding_grid(grid, OUTSIDE_MM)
    body = hu_to_mu(torch.from_numpy(flat_body(radiographs, wide)))
    return [r if r.scale_known else _as_dense_as(project(body, wide, r.geometry).numpy(), r) for r in radiographs]


def _as_dense_as(expected: np.ndarray, radiograph: Radiograph) -> Radiograph:
    air, dense = _air_and_dense(radiograph)
    gain = float(np.percentile(expected[radiograph.valid], DENSE_PERCENTILE)) / HULL_EXCESS / (dense - air)
    return replace(radiograph, line_integral=gain * (radiograph.line_integral - air), scale_known=True)


def backprojection(radiographs: Sequence[Radiograph], grid: VolumeGrid) -> np.ndarray:
    """Unfiltered backprojection: each ray's attenuation spread evenly over its length in the body, mean of the views, scaled to
    the measured total attenuation.

    Per view it is the adjoint of the line integrals over the adjoint of the ray lengths. The body is the visual hull on a grid
    wider by `OUTSIDE_MM` on each side, as in `sirt`.
    """
    wide = surrounding_grid(grid, OUTSIDE_MM)
    body = torch.from_numpy(visual_hull(radiographs, wide).astype(np.float32))
    views = _views(radiographs, wide)
    mu = torch.zeros(wide.size)
    for view in views:
        weights = backproject(view.valid * project(body, wide, view.beam), wide, view.beam)
        mu += backproject(view.image, wide, view.beam) / weights.clamp(min=_small(weights)) / len(views)
    mu *= body
    measured = sum(float(view.image.sum()) for view in views)
    explained = sum(float((view.valid * project(mu, wide, view.beam)).sum()) for view in views)
    return _to_hu(mu * (measured / explained), wide, grid)


def sirt(
    radiographs: Sequence[Radiograph],
    grid: VolumeGrid,
    *,
    num_iterations: int = 50,
    tv_weight: float = 0.0,
    on_step: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """SIRT from zero: x <- x + C A^T R (p - A x), R and C one over the row and column sums of A (Gilbert 1972), clipped to what
    `HU_WINDOW` allows after each step.

    Radiographs show the whole body, the cube does not hold it all. Fitting the cube alone would press outside tissue into
    it, so the fit runs on a grid wider by `OUTSIDE_MM` on each side and the cube is cut out at the end. A has the voxels of
    the visual hull only: where a ray saw air there is none to be reconstructed.

    tv_weight: above 0, each step also lessens the total variation, as `lessen_variation` does (proximal gradient; Beck and
        Teboulle 2009): between all volumes that fit two X-rays, one of few flat parts. In units of water's attenuation.
    """
    wide = surrounding_grid(grid, OUTSIDE_MM)
    body = torch.from_numpy(visual_hull(radiographs, wide).astype(np.float32))
    views = _views(radiographs, wide)
    row_sums = [view.valid * project(body, wide, view.beam) for view in views]
    column_sums = torch.zeros(wide.size)
    for view in views:
        column_sums += backproject(view.valid, wide, view.beam)
    relaxation = body / column_sums.clamp(min=_small(column_sums))
    mu, dual = torch.zeros(wide.size), torch.zeros(3, *wide.size) if tv_weight > 0 else None
    for step in range(num_iterations):
        update = torch.zeros(wide.size)
        for view, lengths in zip(views, row_sums, strict=True):
            residual = (view.image - view.valid * project(mu, wide, view.beam)) / lengths.clamp(min=_small(lengths))
            update += backproject(residual, wide, view.beam)
        mu.add_(update.mul_(relaxation))
        if dual is not None:
            mu = lessen_variation(mu, tv_weight * MU_WATER_PER_MM, dual).mul_(body)
        mu.clamp_(0.0, hu_to_mu(torch.tensor(HU_WINDOW[1])).item())
        if on_step is not None:
            on_step(step + 1, num_iterations)
    return _to_hu(mu, wide, grid)


def lessen_variation(volume: torch.Tensor, weight: float, dual: torch.Tensor, num_iterations: int = 4) -> torch.Tensor:
    """The volume x (D, H, W) with the least |x - volume|^2 / 2 + weight TV(x), TV the sum of gradient lengths (Chambolle 2004).

    dual: (3, D, H, W), where the iteration begins and, changed in place, where it ended; zeros to begin with.
    """
    step = 1 / (12 * weight)  # 12 bounds the norm of gradient and divergence in 3D
    for _ in range(num_iterations):
        x = volume + weight * _divergence(dual)
        for axis in range(3):
            dual[axis].narrow(axis, 0, x.shape[axis] - 1).add_(x.diff(dim=axis), alpha=step)
        dual /= dual.square().sum(0).sqrt_().clamp_(min=1.0)
    return volume + weight * _divergence(dual)


def _divergence(field: torch.Tensor) -> torch.Tensor:
    """(3, D, H, W) -> (D, H, W), minus the adjoint of the forward differences."""
    total = field.sum(0)
    for axis in range(3):
        count = total.shape[axis] - 1
        total.narrow(axis, 1, count).sub_(field[axis].narrow(axis, 0, count))
    return total


def surrounding_grid(grid: VolumeGrid, margin_mm: tuple[float, float, float]) -> VolumeGrid:
    """`grid` with whole voxels added on every side, at least `margin_mm` (i, j, k); the voxels of `grid` keep their places."""
    extra = [int(np.ceil(m / s)) for m, s in zip(margin_mm, grid.spacing_mm, strict=True)]
    x, y, z = np.array(grid.origin_lps) - grid.ijk_to_lps[:3, :3] @ extra
    depth, height, width = (n + 2 * e for n, e in zip(grid.size, extra[::-1], strict=True))
    return replace(grid, size=(depth, height, width), origin_lps=(float(x), float(y), float(z)))


@dataclass(frozen=True, eq=False)
class _View:
    """image: (H, W) line integrals, 0 where not valid. valid: (H, W) 1 or 0."""

    image: torch.Tensor
    valid: torch.Tensor
    beam: Beam


def _views(radiographs: Sequence[Radiograph], grid: VolumeGrid) -> list[_View]:
    """The radiographs at the resolution of the grid: finer pixels cost time and can tell it nothing."""
    for radiograph in radiographs:
        if not radiograph.scale_known:
            raise ValueError(f"radiographs: the scale of {radiograph.source!r} is unknown, accepted are calibrated ones")
    small = [r.resized(patient_spacing_mm=min(grid.spacing_mm)) for r in radiographs]
    masks = [torch.from_numpy(r.valid.astype(np.float32)) for r in small]
    return [_View(torch.from_numpy(r.line_integral) * m, m, r.geometry) for r, m in zip(small, masks, strict=True)]


def _to_hu(mu: torch.Tensor, wide: VolumeGrid, grid: VolumeGrid) -> np.ndarray:
    """Attenuation [1/mm] on the wide grid -> HU on `grid`, which lies in its middle."""
    extra = [(w - n) // 2 for w, n in zip(wide.size, grid.size, strict=True)]
    inner = tuple(slice(e, e + n) for e, n in zip(extra, grid.size, strict=True))
    return mu_to_hu(mu[inner]).clamp(*HU_WINDOW).numpy()


def _small(sums: torch.Tensor) -> float:
    """A floor for a divisor: rays and voxels that hardly meet anything get no weight instead of an infinite one."""
    return 1e-3 * float(sums.max())
