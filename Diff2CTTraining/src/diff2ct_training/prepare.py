"""CTs and phantoms -> prepared cases (see `cases`). Restartable: what is there already is not made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.acquisitions import AcquisitionConfig, acquire_views, acquisition_path, write_acquisition
from diff2ct_training.cases import Case, list_cases, read_case, write_case
from diff2ct_training.warp import random_warp, warp

SPACING_MM = 2.0
SCREW_SHARE = 0.4
"""Part of a CT's bent copies that get pedicle screws, if nothing else is said."""
OnCase = Callable[[str], None]


def prepare_phantom(folder: Path, seed: int) -> str:
    """Render the phantom of `seed` from end to end of its body; returns the case name."""
    from diff2ct.phantom import make_phantom

    name = f"phantom_{seed:06d}"
    if not (folder / f"{name}.json").exists():
        phantom = make_phantom(seed)
        image = phantom.render(phantom.body_grid(SPACING_MM)).hu
        screws = tuple(screw.to_dict() for screw in phantom.screws)
        case = Case(name, "phantom", image.hu.round(), image.grid, (0.0, 0.0, 0.0), f"make_phantom({seed})", screws)
        write_case(folder, case)
    return name


def prepare_ct(folder: Path, path: Path, num_variants: int, screw_share: float = SCREW_SHARE) -> list[str]:
    """Read a CT, resample it to 2 mm, write it and `num_variants - 1` randomly bent and scaled copies; returns the case
    names.

    screw_share: part of the copies that get pedicle screws, 0 to 1; a function of the name which. The case lists them: none
    where no place for screws was found.
    """
    from diff2ct.volume_io import read_ct, resample
    from diff2ct_training.ct_screws import insert_screws

    if not 0 <= screw_share <= 1:
        raise ValueError(f"screw_share: got {screw_share}, accepted is 0 to 1")

    stem = path.name.split(".")[0]
    names = [f"ct_{stem}_{n:03d}" for n in range(num_variants)]
    if all((folder / f"{name}.json").exists() for name in names):
        return names
    scan = read_ct(path)
    whole = resample(scan, axis_aligned_grid(scan.grid, SPACING_MM))
    for n, name in enumerate(names):
        if (folder / f"{name}.json").exists():
            continue
        rng = np.random.default_rng([n, *name.encode()])
        hu = whole.hu if n == 0 else warp(whole.hu, random_warp(rng, whole.hu.shape))
        ct = CtVolume(hu, whole.grid)
        screws: tuple[dict[str, Any], ...] = ()
        center = body_center(ct)
        rng = np.random.default_rng([n, *f"{name} screws".encode()])
        if n > 0 and rng.random() < screw_share:
            ct, inserted = insert_screws(ct, rng)
            screws = tuple(screw.to_dict() for screw in inserted)
        write_case(folder, Case(name, "ct", ct.hu.clip(-1024, 4096).round(), ct.grid, center, path.name, screws))
    return names


def prepare_xrays(folder: Path, count: int, config: AcquisitionConfig, grid: VolumeGrid, on_case: OnCase | None = None) -> int:
    """X-ray every case in `folder` in `count` random ways for a recipe's `config` and model `grid`, so that training need not
    render; returns how many are stored. A stored one is kept whatever it was made with."""
    files = list_cases(folder)
    for file in files:
        case = read_case(file)
        for n in range(count):
            if not acquisition_path(folder, case.name, n).exists():
                rng = np.random.default_rng([n, 1, *case.name.encode()])
                write_acquisition(folder, n, acquire_views(case, rng, config, grid))
        if on_case is not None:
            on_case(case.name)
    return count * len(files)


def axis_aligned_grid(grid: VolumeGrid, spacing_mm: float) -> VolumeGrid:
    """The smallest axis-aligned isotropic grid that holds all voxel centres of `grid`."""
    ends = [(0, n - 1) for n in grid.size[::-1]]
    corners = np.array([[i, j, k, 1] for i in ends[0] for j in ends[1] for k in ends[2]]) @ grid.ijk_to_lps.T
    low, high = corners[:, :3].min(0), corners[:, :3].max(0)
    counts = np.floor((high - low) / spacing_mm + 1e-6).astype(int) + 1
    return VolumeGrid((int(counts[2]), int(counts[1]), int(counts[0])), (spacing_mm,) * 3, (low[0], low[1], low[2]))


def body_center(ct: CtVolume) -> tuple[float, float, float]:
    """(x, y) of the centroid of everything above -300 HU, z of the scan's middle [mm]."""
    k, j, i = np.nonzero(ct.hu[:, ::2, ::2] > -300)
    if len(k) == 0:
        raise ValueError("ct: nothing above -300 HU, accepted is a CT of a body")
    point = ct.grid.ijk_to_lps @ [2 * i.mean(), 2 * j.mean(), (ct.grid.size[0] - 1) / 2, 1.0]
    return float(point[0]), float(point[1]), float(point[2])


def prepare(
    folder: Path,
    *,
    phantom_seeds: Sequence[int] = (),
    ct_paths: Sequence[Path] = (),
    num_variants: int = 1,
    screw_share: float = SCREW_SHARE,
    on_case: OnCase | None = None,
) -> list[str]:
    """Prepare all; returns the names of all cases. num_variants, screw_share: see `prepare_ct`.

    A CT that cannot be read raises ValueError naming it.
    """
    names: list[str] = []
    for path in ct_paths:
        names += prepare_ct(folder, path, num_variants, screw_share)
        if on_case is not None:
            on_case(str(path))
    for seed in phantom_seeds:
        names.append(prepare_phantom(folder, seed))
        if on_case is not None:
            on_case(names[-1])
    return names
