"""One random way in which a prepared case could have been X-rayed, and the files that keep such ways for training.

Everything random comes from one numpy generator, so acquisition n of a case is the same on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diff2ct.geometry import Beam, ConeBeam, FanBeam, View, as_kind
from diff2ct.projector import project
from diff2ct.simulate import acquire, random_detector
from diff2ct.units import HU_AIR, hu_to_mu
from diff2ct.volume import VolumeGrid
from diff2ct_training.cases import BODY, UNSCANNED, Case, filled
from diff2ct_training.xray_file import read_header, read_xrays, write_xrays


@dataclass(frozen=True, kw_only=True)
class AcquisitionConfig:
    """How training X-rays vary. Ranges are (low, high) of uniform draws, SDs of normal ones.

    isocenter_sd_mm: (x, y, z) about the case's centre. magnification, source_to_detector_mm, field_mm (at the isocentre).
    angle_sd_deg: both angles and roll of each view, known to the condition. pose_error_deg, pose_error_mm: not known to it.
    fan_share: share of pairs that a fan scans along the body, as EOS does; it stays level, whatever the errors of pose.
    cube_only: share of samples rendered from the reconstruction cube alone, as the paper does; else from the whole scan.
    extend_ends: share of CT samples whose end slices are repeated for 80 mm, since a body does not stop where a scan does.
    ideal_detector: share of X-rays that are plain line integrals; detector_strength: of the others, see `random_detector`.
    bone_gain: factor on HU above 150, CTs only. detector_pixels: rows and columns.
    """

    isocenter_sd_mm: tuple[float, float, float] = (8.0, 15.0, 25.0)
    magnification: tuple[float, float] = (1.1, 1.5)
    source_to_detector_mm: tuple[float, float] = (950.0, 1800.0)
    field_mm: tuple[float, float] = (250.0, 420.0)
    angle_sd_deg: float = 2.0
    pose_error_deg: float = 0.3
    pose_error_mm: float = 0.7
    fan_share: float = 0.0
    cube_only: float = 0.15
    extend_ends: float = 0.5
    ideal_detector: float = 0.6
    detector_strength: float = 1.0
    bone_gain: tuple[float, float] = (0.75, 1.3)
    detector_pixels: int = 224


@dataclass(frozen=True, eq=False)
class Acquisition:
    """A case as X-rayed. images, valid: per view (Hd, Wd); beams: as the condition believes them to be.

    cube: the model grid at the isocentre. bone_gain: factor on the case's HU above `BONE_HU`.
    """

    case: Case
    cube: VolumeGrid
    images: list[torch.Tensor]
    valid: list[torch.Tensor]
    beams: list[Beam]
    bone_gain: float = 1.0

    def truth(self, grid: VolumeGrid) -> tuple[torch.Tensor, torch.Tensor]:
        """(HU, known), each (D, H, W), on `grid`, whose voxels are voxels of the case. Beside the scan there is air; above and
        below, and where it was not scanned, nothing is known."""
        case = self.case
        offset = (np.array(grid.origin_lps) - case.grid.origin_lps) / case.grid.spacing_mm
        start = np.round(offset).astype(int)[::-1]
        hu, known = torch.full(grid.size, HU_AIR), torch.zeros(grid.size, dtype=torch.bool)
        source, into = [], []
        for first, wanted, count in zip(start, grid.size, case.hu.shape, strict=True):
            low, high = max(0, int(first)), min(count, int(first) + wanted)
            source.append(slice(low, max(low, high)))
            into.append(slice(low - int(first), max(low, high) - int(first)))
        there = case.hu[tuple(source)]
        hu[tuple(into)] = amplify_bone(torch.from_numpy(filled(there)), self.bone_gain)
        known[into[0]] = True
        known[tuple(into)] &= torch.from_numpy(there != UNSCANNED)
        return hu, known


BONE_HU = 150.0
MADE_BY = "made_by"
"""In a stored acquisition's header: `xray_origin.xrays_made_by`."""
CUBE_ONLY = "cube_only"
"""In a checkpoint's provenance: the share of its X-rays that were rendered of the reconstruction cube alone, where training
rendered them."""


def amplify_bone(hu: torch.Tensor, gain: float) -> torch.Tensor:
    """HU with what lies above `BONE_HU` scaled about it: another bone density."""
    return hu if gain == 1.0 else torch.where(hu > BONE_HU, BONE_HU + (hu - BONE_HU) * gain, hu)


def acquire_views(case: Case, rng: np.random.Generator, config: AcquisitionConfig, grid: VolumeGrid) -> Acquisition:
    """X-ray `case` about a random isocentre, to which `grid`, the model grid around the origin, is moved.

    A case finer than `grid` by a whole factor is averaged down to it first: coarse models are trained at their own cost.
    """
    case = coarsened(case, grid)
    bone_gain = float(rng.uniform(*config.bone_gain)) if case.kind == "ct" else 1.0
    cube, isocenter = _random_cube(case, rng, config, grid)
    unseen = Acquisition(case, cube, [], [], random_beams(rng, isocenter, config), bone_gain)
    images, valid = _render(unseen, rng, config)
    return replace(unseen, images=images, valid=valid)


def acquisition_path(folder: Path, case_name: str, number: int) -> Path:
    """Where acquisition `number` of a case is stored."""
    return folder / f"{case_name}.xray{number:03d}.npz"


def acquisition_files(folder: Path, case_name: str) -> list[Path]:
    """The stored acquisitions of a case, sorted."""
    return sorted(folder.glob(f"{case_name}.xray*.npz"))


def acquisitions_by_case(folder: Path) -> dict[str, list[Path]]:
    """Case name -> its stored acquisitions, sorted; the folder is listed once for all."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.xray*.npz")):
        found.setdefault(file.name.rpartition(".xray")[0], []).append(file)
    return found


def write_acquisition(folder: Path, number: int, acquisition: Acquisition, made_by: Mapping[str, Any] | None = None) -> Path:
    """Store X-rays and geometry, not the case, as CASE.xrayNNN.npz, complete or not at all. made_by: see `MADE_BY`."""
    path = acquisition_path(folder, acquisition.case.name, number)
    images, valid = ([t.numpy() for t in tensors] for tensors in (acquisition.images, acquisition.valid))
    facts = {"cube": asdict(acquisition.cube), "bone_gain": acquisition.bone_gain, MADE_BY: made_by or {}}
    write_xrays(path, images, valid, acquisition.beams, **facts)
    return path


def read_acquisition(path: Path, case: Case, grid: VolumeGrid) -> Acquisition:
    """What `write_acquisition` stored for `case`, for the model grid it was made for or the same cube in larger voxels. Raises
    ValueError naming the file if it cannot be read or was made for another cube than `grid`."""
    images, valid, beams, header = read_xrays(path)
    cube, bone_gain = _checked_header(path, header, grid)
    case = coarsened(case, cube, aligned=True)
    return Acquisition(case, cube, list(torch.from_numpy(images)), list(torch.from_numpy(valid)), beams, bone_gain)


def check_acquisition(path: Path, grid: VolumeGrid) -> None:
    """The errors of `read_acquisition`, without reading the pixels."""
    _checked_header(path, read_header(path), grid)


def _checked_header(path: Path, header: Mapping[str, Any], grid: VolumeGrid) -> tuple[VolumeGrid, float]:
    """(the stored cube in the voxels of `grid`, bone gain)."""
    try:
        cube, bone_gain = VolumeGrid(**header["cube"]), float(header["bone_gain"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"acquisition: {path} cannot be read: {error}") from error
    factor = max(1, round(grid.spacing_mm[0] / cube.spacing_mm[0]))
    if (cube.size, cube.spacing_mm) != (tuple(n * factor for n in grid.size), tuple(mm / factor for mm in grid.spacing_mm)):
        got, wanted = f"{cube.size} of {cube.spacing_mm} mm", f"{grid.size} of {grid.spacing_mm} mm"
        raise ValueError(f"acquisition: {path} is for a model grid {got}, this recipe's is {wanted}")
    first = np.array(cube.origin_lps) + (factor - 1) / 2 * np.array(cube.spacing_mm)
    return replace(grid, origin_lps=_triple(first)), bone_gain


def coarsened(case: Case, grid: VolumeGrid, *, aligned: bool = False) -> Case:
    """`case` averaged down to the spacing of `grid`, if that is a multiple of its own. aligned: so that voxels of `grid` are
    voxels of the result, at the price of less than one of them at each end."""
    ratio = grid.spacing_mm[0] / case.grid.spacing_mm[0]
    factor = round(ratio)
    if factor < 2 or abs(ratio - factor) > 1e-6 * ratio:
        return case
    fine_mm, first = np.array(case.grid.spacing_mm), np.zeros(3, dtype=int)
    if aligned:
        corner = np.array(grid.origin_lps) - (factor - 1) / 2 * fine_mm  # centre of the first fine voxel in the first of `grid`
        first = np.round((corner - case.grid.origin_lps) / fine_mm).astype(int) % factor
    fine = case.hu[first[2] :, first[1] :, first[0] :]
    depth, height, width = (n // factor for n in fine.shape)
    whole = torch.from_numpy(fine[: depth * factor, : height * factor, : width * factor].astype(np.float32))
    hu = torch.nn.functional.avg_pool3d(whole[None], factor)[0].numpy()
    lowest = -torch.nn.functional.max_pool3d(-whole[None], factor)[0].numpy()
    hu[lowest == UNSCANNED] = UNSCANNED  # even if it is so in part
    shift = (first + (factor - 1) / 2) * fine_mm
    grid = replace(
        case.grid,
        size=(depth, height, width),
        spacing_mm=_triple(fine_mm * factor),
        origin_lps=_triple(case.grid.origin_lps + shift),
    )
    return replace(case, hu=hu, grid=grid)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _random_cube(
    case: Case, rng: np.random.Generator, config: AcquisitionConfig, grid: VolumeGrid
) -> tuple[VolumeGrid, tuple[float, float, float]]:
    """(model grid, isocentre): `grid` at a random isocentre, snapped so that its voxels are voxels of the case where spacings
    agree. It does not leave a case that is as wide: beside that is not air, but what was cropped or never scanned."""
    wanted = np.array(case.center_lps) + rng.normal(size=3) * config.isocenter_sd_mm
    if case.kind == "ct" and case.centered_on == BODY:  # anywhere along a scan that is taller than the cube
        room = max(0.0, case.grid.size[0] * case.grid.spacing_mm[2] - grid.size[0] * grid.spacing_mm[2])
        wanted[2] += room * float(rng.uniform(-0.5, 0.5))
    first = wanted + np.array(grid.origin_lps)
    steps = np.round((first - case.grid.origin_lps) / case.grid.spacing_mm)
    if not case.ends_in_air:
        for axis in (0, 1):  # above and below nothing is claimed, see `Acquisition.truth`
            room = case.grid.size[2 - axis] - grid.size[2 - axis]
            steps[axis] = steps[axis] if room < 0 else np.clip(steps[axis], 0, room)
    origin = np.array(case.grid.origin_lps) + steps * case.grid.spacing_mm
    return replace(grid, origin_lps=_triple(origin)), _triple(origin - np.array(grid.origin_lps))


def random_beams(rng: np.random.Generator, isocenter_lps: tuple[float, float, float], config: AcquisitionConfig) -> list[Beam]:
    """A frontal and a lateral beam of one kind about one isocentre; each view has its own distances, as on a bucky table."""
    beams: list[Beam] = []
    kind = "fan" if config.fan_share > 0 and rng.random() < config.fan_share else "cone"
    for views in ((View.AP, View.PA), (View.LL, View.RL)):
        nominal = ConeBeam.from_view(
            views[int(rng.integers(2))],
            source_to_detector_mm=(sdd := float(rng.uniform(*config.source_to_detector_mm))),
            source_to_isocenter_mm=sdd / (magnification := float(rng.uniform(*config.magnification))),
            detector_spacing_mm=(float(rng.uniform(*config.field_mm)) * magnification / config.detector_pixels,) * 2,
            detector_size=(config.detector_pixels, config.detector_pixels),
            isocenter_lps=isocenter_lps,
        )
        beams.append(_tilted(as_kind(nominal, kind), rng, config.angle_sd_deg))
    return beams


def _tilted(beam: Beam, rng: np.random.Generator, sd_deg: float) -> Beam:
    primary, secondary, roll = rng.normal(0, sd_deg, 3)
    if isinstance(beam, FanBeam):
        return replace(beam, primary_angle_deg=beam.primary_angle_deg + float(primary))
    return replace(
        beam,
        primary_angle_deg=beam.primary_angle_deg + float(primary),
        secondary_angle_deg=beam.secondary_angle_deg + float(secondary),
        roll_deg=beam.roll_deg + float(roll),
    )


def _render(
    unseen: Acquisition, rng: np.random.Generator, config: AcquisitionConfig
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Detector images (gain and offset unknown) and their valid masks, one per beam; each beam was not quite where it is
    believed."""
    case = unseen.case
    if rng.random() < config.cube_only:
        body, body_grid = hu_to_mu(unseen.truth(unseen.cube)[0]), unseen.cube
    else:
        hu = torch.from_numpy(filled(case.hu))
        body, body_grid = hu_to_mu(amplify_bone(hu, unseen.bone_gain)), case.grid
        if case.kind == "ct" and rng.random() < config.extend_ends:
            body, body_grid = _extended(body, body_grid, round(80 / body_grid.spacing_mm[2]))
    images, masks = [], []
    for beam in unseen.beams:
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
