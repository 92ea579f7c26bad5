"""Training samples of methods that reconstruct a volume from two X-rays, made of prepared cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from diff2ct.units import HuMap
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import (
    Acquisition,
    AcquisitionConfig,
    acquire_views,
    acquisition_files,
    acquisitions_by_case,
    check_acquisition,
    read_acquisition,
)
from diff2ct_training.cases import list_cases, read_case
from diff2ct_training.pairs import Pair, make_pair
from diff2ct_training.recipe import Recipe

VALIDATION_SAMPLES = 4
KINDS = ("ct", "phantom")


@dataclass(frozen=True, kw_only=True)
class VolumeRecipe(Recipe):
    """network: its config. hu_map, condition, grid: what it is given and returns, as its checkpoint says.

    acquisition: how training X-rays vary. slab: axial planes trained at a time, None for the whole cube. uses: samples made of
        one acquisition in a row, where X-rays are rendered while training (none are stored): that costs a CPU as much as a
        step. As many worker processes, which take turns, render it once each and save nothing. ct_share: share of samples from
        CTs where both CTs and phantoms are given.
    """

    network: Any
    hu_map: HuMap = field(default_factory=HuMap)
    condition: str = "views"
    grid: VolumeGrid = field(default_factory=VolumeGrid.centered)
    acquisition: AcquisitionConfig = field(default_factory=AcquisitionConfig)
    slab: int | None = 64
    uses: int = 3
    ct_share: float = 0.5

    def at_spacing(self, spacing_mm: float) -> Self:
        """The same cube in larger or smaller voxels [mm]: twice as large ones take an eighth of the time.

        In float32 where a network comes down to two planes: there torch 2.13 gets bf16 gradients of conv3d wrong on CPUs.
        """
        extent_mm = self.grid.size[0] * self.grid.spacing_mm[0]
        size = round(extent_mm / spacing_mm) if spacing_mm > 0 else 0
        multiple = getattr(self.network, "size_multiple", 1)  # of networks in 3D
        if size < 1 or abs(size * spacing_mm - extent_mm) > 1e-6 * extent_mm or size % multiple:
            accepted = f"a whole part of the cube's {extent_mm:g} mm" + (multiple > 1) * f", a multiple of {multiple} voxels"
            raise ValueError(f"spacing_mm: got {spacing_mm:g}, accepted is {accepted}")
        try:
            network = replace(self.network, size=size) if hasattr(self.network, "size") else self.network
        except ValueError as error:
            raise ValueError(f"spacing_mm: got {spacing_mm:g}, which the network does not take; {error}") from None
        slab = None if self.slab is None else max(1, self.slab * size // self.grid.size[0])
        precision = "32-true" if size <= 2 * multiple and multiple > 1 else self.precision
        return replace(self, grid=VolumeGrid.centered(size, spacing_mm), network=network, slab=slab, precision=precision)


@dataclass(frozen=True, eq=False)
class VolumeSample:
    """seed: of all noise that is drawn for it."""

    pair: Pair
    name: str
    seed: int


class VolumeSamples(torch.utils.data.Dataset):
    """Item n is training sample n of the run: which case, how X-rayed, with which noise seed. renders: while training, as not
    every case has stored X-rays."""

    def __init__(self, recipe: VolumeRecipe, folder: Path) -> None:
        files = list_cases(folder, "train")
        stored = acquisitions_by_case(folder)  # once: a large folder takes long to search
        for file in files:
            check_case(file, recipe.grid)
            if file.stem in stored:
                check_acquisition(stored[file.stem][-1], recipe.grid)
        self._recipe, self._stored = recipe, stored
        self._by_kind = {kind: [f for f in files if f.name.startswith(kind)] for kind in KINDS}
        self.renders = not stored.keys() >= {f.stem for f in files}
        self._uses = recipe.uses if self.renders else 1
        self._kept: tuple[int, Acquisition] | None = None

    def __len__(self) -> int:
        return self._recipe.num_steps * self._recipe.batch_size

    def __getitem__(self, n: int) -> VolumeSample:
        recipe = self._recipe
        acquisition = self._acquire(n // self._uses)
        rng = np.random.default_rng([recipe.seed, 1, n])
        pair = make_pair(acquisition, rng, recipe.slab, recipe.hu_map, recipe.condition)
        return VolumeSample(pair, acquisition.case.name, int(rng.integers(2**62)))

    def _acquire(self, number: int) -> Acquisition:
        """Acquisition `number` of the run: a stored one of its case, or a new one. The last one is kept, as it is used several
        times in a row."""
        if self._kept is None or self._kept[0] != number:
            recipe = self._recipe
            rng = np.random.default_rng([recipe.seed, 0, number])
            wants_ct = rng.random() < recipe.ct_share
            files = self._by_kind["ct" if wants_ct else "phantom"] or self._by_kind["phantom" if wants_ct else "ct"]
            file = files[int(rng.integers(len(files)))]
            self._kept = number, acquisition_of(file, self._stored.get(file.stem, ()), rng, recipe)
        return self._kept[1]


def validation_samples(recipe: VolumeRecipe, files: list[Path]) -> list[VolumeSample]:
    """One sample each of up to `VALIDATION_SAMPLES` cases, evenly chosen from `files`; always the same."""
    count = min(VALIDATION_SAMPLES, len(files))
    chosen = [files[n * len(files) // count] for n in range(count)]
    samples = []
    for n, file in enumerate(chosen):
        rng = np.random.default_rng([recipe.seed, 2, n])
        acquisition = acquisition_of(file, acquisition_files(file.parent, file.stem), rng, recipe)
        pair = make_pair(acquisition, rng, None, recipe.hu_map, recipe.condition)
        samples.append(VolumeSample(pair, acquisition.case.name, n))
    return samples


def acquisition_of(file: Path, stored: Sequence[Path], rng: np.random.Generator, recipe: VolumeRecipe) -> Acquisition:
    """One of the `stored` acquisitions of a case, or a new one where none is stored."""
    case = read_case(file)
    if stored:
        return read_acquisition(stored[int(rng.integers(len(stored)))], case, recipe.grid)
    return acquire_views(case, rng, recipe.acquisition, recipe.grid)


def check_case(file: Path, grid: VolumeGrid) -> None:
    """ValueError, naming the file, for a case that cannot be trained on with model grid `grid`: found before the first step
    instead of hours later."""
    case = read_case(file)
    if case.kind not in KINDS or not file.name.startswith(case.kind):
        raise ValueError(f"case: {file} is of kind {case.kind!r}, accepted are {' and '.join(KINDS)}, and a name that says so")
    for model_mm, case_mm in zip(grid.spacing_mm, case.grid.spacing_mm, strict=True):
        if not 0 < case_mm <= model_mm * 1.001 or abs(model_mm / case_mm - round(model_mm / case_mm)) > 1e-3:
            raise ValueError(
                f"case: {file} has voxels of {case.grid.spacing_mm} mm, accepted are {grid.spacing_mm} mm or a whole part of it"
            )
