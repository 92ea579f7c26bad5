"""A prepared case -> (condition, x_0): one random way in which this body could have been X-rayed. The training half of the main
path.

Everything random comes from one numpy generator, so sample n of a run is the same on any machine and after any resume.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from diff2ct.condition import CONDITIONS
from diff2ct.geometry import Beam, ConeBeam, View
from diff2ct.projector import project
from diff2ct.simulate import acquire, random_detector
from diff2ct.units import HU_AIR, HuMap, hu_to_mu
from diff2ct.volume import VolumeGrid
from diff2ct_training.cases import Case


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """How training X-rays vary. Ranges are (low, high) of uniform draws, SDs of normal ones.

    isocenter_sd_mm: (x, y, z) about the case's centre. magnification, source_to_detector_mm, field_mm (at the isocentre).
    angle_sd_deg: both angles and roll of each view, known to the condition. pose_error_deg, pose_error_mm: not known to it.
    cube_only: share of samples rendered from the reconstruction cube alone, as the paper does; else from the whole scan.
    extend_ends: share of CT samples whose end slices are repeated for 80 mm, since a body does not stop where a scan does.
    ideal_detector: share of X-rays that are plain line integrals; detector_strength: of the others, see `random_detector`.
    bone_gain: factor on HU above 150, CTs only. detector_pixels: rows and columns.
    slab: number of axial planes trained at a time, None for the whole cube. uses: samples made of one acquisition, since
    rendering
        X-rays costs a CPU as much as a training step.
    """

    isocenter_sd_mm: tuple[float, float, float] = (8.0, 15.0, 25.0)
    magnification: tuple[float, float] = (1.1, 1.5)
    source_to_detector_mm: tuple[float, float] = (950.0, 1800.0)
    field_mm: tuple[float, float] = (250.0, 420.0)
    angle_sd_deg: float = 2.0
    pose_error_deg: float = 0.3
    pose_error_mm: float = 0.7
    cube_only: float = 0.15
    extend_ends: float = 0.5
    ideal_detector: float = 0.6
    detector_strength: float = 1.0
    bone_gain: tuple[float, float] = (0.75, 1.3)
    detector_pixels: int = 176
    slab: int | None = 64
    uses: int = 3


@dataclass(frozen=True, eq=False)
class Pair:
    """condition: (C, D, H, W); x_0: (1, D, H, W) network units; known: (1, D, H, W) bool, False where the scan has no truth."""

    condition: torch.Tensor
    x_0: torch.Tensor
    known: torch.Tensor


@dataclass(frozen=True, eq=False)
class Acquisition:
    """One way in which a case was X-rayed. images, valid: per view (Hd, Wd); beams: as the condition believes them to be.

    cube: the model grid at the isocentre.
    """

    case: Case
    cube: VolumeGrid
    images: list[torch.Tensor]
    valid: list[torch.Tensor]
    beams: list[Beam]
    hu: torch.Tensor


def acquire_views(case: Case, rng: np.random.Generator, config: PairConfig, grid: VolumeGrid) -> Acquisition:
    """X-ray `case` about a random isocentre, to which `grid`, the model grid around the origin, is moved.

    A case finer than `grid` by a whole factor is averaged down to it first: coarse models are trained at their own cost.
    """
    case = _coarsened(case, max(1, round(grid.spacing_mm[0] / case.grid.spacing_mm[0])))
    hu = torch.from_numpy(case.hu.astype(np.float32))
    if case.kind == "ct":
        hu = torch.where(hu > 150, 150 + (hu - 150) * float(rng.uniform(*config.bone_gain)), hu)
    cube, isocenter = _random_cube(case, rng, config, grid)
    beams = random_beams(rng, isocenter, config)
    images, valid = _render(hu, case, cube, beams, rng, config)
    return Acquisition(case, cube, images, valid, beams, hu)


def make_pair(acquisition: Acquisition, rng: np.random.Generator, config: PairConfig, hu_map: HuMap, condition: str) -> Pair:
    """A training sample: a random slab of the cube, or all of it, as `config.slab` says."""
    a = acquisition
    slab = _random_slab(a.cube, rng, config.slab)
    truth, known = _crop(a.hu, a.case, slab)
    return Pair(CONDITIONS[condition](a.images, a.valid, a.beams, slab), hu_map.to_x(truth)[None], known[None])


def _coarsened(case: Case, factor: int) -> Case:
    if factor == 1:
        return case
    depth, height, width = (n // factor for n in case.hu.shape)
    whole = torch.from_numpy(case.hu[: depth * factor, : height * factor, : width * factor].astype(np.float32))
    hu = torch.nn.functional.avg_pool3d(whole[None], factor)[0].numpy()
    shift = (factor - 1) / 2 * np.array(case.grid.spacing_mm)
    grid = replace(
        case.grid,
        size=(depth, height, width),
        spacing_mm=_triple(np.array(case.grid.spacing_mm) * factor),
        origin_lps=_triple(case.grid.origin_lps + shift),
    )
    return replace(case, hu=hu, grid=grid)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _random_cube(
    case: Case, rng: np.random.Generator, config: PairConfig, grid: VolumeGrid
) -> tuple[VolumeGrid, tuple[float, float, float]]:
    """(model grid, isocentre): `grid` at a random isocentre, snapped so that its voxels are voxels of the case where spacings
    agree."""
    wanted = np.array(case.center_lps) + rng.normal(size=3) * config.isocenter_sd_mm
    if case.kind == "ct":  # anywhere along a scan that is taller than the cube
        room = max(0.0, case.grid.size[0] * case.grid.spacing_mm[2] - grid.size[0] * grid.spacing_mm[2])
        wanted[2] += room * float(rng.uniform(-0.5, 0.5))
    first = wanted + np.array(grid.origin_lps)
    steps = np.round((first - case.grid.origin_lps) / case.grid.spacing_mm)
    origin = np.array(case.grid.origin_lps) + steps * case.grid.spacing_mm
    return replace(grid, origin_lps=_triple(origin)), _triple(origin - np.array(grid.origin_lps))


def _random_slab(cube: VolumeGrid, rng: np.random.Generator, slab: int | None) -> VolumeGrid:
    if slab is None or slab >= cube.size[0]:
        return cube
    start = int(rng.integers(0, cube.size[0] - slab + 1))
    x, y, z = cube.origin_lps
    return replace(cube, size=(slab, *cube.size[1:]), origin_lps=(x, y, z + start * cube.spacing_mm[2]))


def random_beams(rng: np.random.Generator, isocenter_lps: tuple[float, float, float], config: PairConfig) -> list[Beam]:
    """A frontal and a lateral cone beam about one isocentre; each view has its own distances, as on a bucky table."""
    beams: list[Beam] = []
    for views in ((View.AP, View.PA), (View.LL, View.RL)):
        nominal = ConeBeam.from_view(
            views[int(rng.integers(2))],
            source_to_detector_mm=(sdd := float(rng.uniform(*config.source_to_detector_mm))),
            source_to_isocenter_mm=sdd / (magnification := float(rng.uniform(*config.magnification))),
            detector_spacing_mm=(float(rng.uniform(*config.field_mm)) * magnification / config.detector_pixels,) * 2,
            detector_size=(config.detector_pixels, config.detector_pixels),
            isocenter_lps=isocenter_lps,
        )
        beams.append(_tilted(nominal, rng, config.angle_sd_deg))
    return beams


def _tilted(beam: Beam, rng: np.random.Generator, sd_deg: float) -> Beam:
    primary, secondary, roll = rng.normal(0, sd_deg, 3)
    return replace(
        beam,
        primary_angle_deg=beam.primary_angle_deg + float(primary),
        secondary_angle_deg=beam.secondary_angle_deg + float(secondary),
        roll_deg=beam.roll_deg + float(roll),
    )


def _render(
    hu: torch.Tensor, case: Case, cube: VolumeGrid, beams: list[Beam], rng: np.random.Generator, config: PairConfig
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Detector images (gain and offset unknown) and their valid masks, one per beam; each beam was not quite where it is
    believed."""
    if rng.random() < config.cube_only:
        body, body_grid = hu_to_mu(_crop(hu, case, cube)[0]), cube
    elif case.kind == "ct" and rng.random() < config.extend_ends:
        body, body_grid = _extended(hu_to_mu(hu), case.grid, round(80 / case.grid.spacing_mm[2]))
    else:
        body, body_grid = hu_to_mu(hu), case.grid
    images, masks = [], []
    for beam in beams:
        shifted = np.array(beam.isocenter_lps) + rng.normal(0, config.pose_error_mm, 3)
        true_beam = replace(_tilted(beam, rng, config.pose_error_deg), isocenter_lps=_triple(shifted))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        strength = 0.0 if rng.random() < config.ideal_detector else config.detector_strength
        model = random_detector(generator, strength)
        image, valid = acquire(project(body, body_grid, true_beam)[None], beam.detector_spacing_mm[0], model, generator)
        images.append(image[0])
        masks.append(valid[0])
    return images, masks


def _extended(mu: torch.Tensor, grid: VolumeGrid, count: int) -> tuple[torch.Tensor, VolumeGrid]:
    x, y, z = grid.origin_lps
    body = torch.cat([mu[:1].expand(count, -1, -1), mu, mu[-1:].expand(count, -1, -1)])
    size = (grid.size[0] + 2 * count, *grid.size[1:])
    return body, replace(grid, size=size, origin_lps=(x, y, z - count * grid.spacing_mm[2]))


def _crop(hu: torch.Tensor, case: Case, target: VolumeGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """(HU, known) on `target`, whose voxels are voxels of the case. Beside the scan there is air; above and below, nothing is
    known."""
    offset = (np.array(target.origin_lps) - case.grid.origin_lps) / case.grid.spacing_mm
    start = np.round(offset).astype(int)[::-1]
    out, known = torch.full(target.size, HU_AIR), torch.zeros(target.size, dtype=torch.bool)
    source, into = [], []
    for first, wanted, there in zip(start, target.size, hu.shape, strict=True):
        low, high = max(0, int(first)), min(there, int(first) + wanted)
        source.append(slice(low, max(low, high)))
        into.append(slice(low - int(first), max(low, high) - int(first)))
    out[tuple(into)] = hu[tuple(source)]
    known[into[0]] = True
    return out, known
