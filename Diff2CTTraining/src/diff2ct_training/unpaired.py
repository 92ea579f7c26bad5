"""DRRs and real X-rays that do not belong together, two by two: what CycleGAN learns the styles from.

S rows and columns of the square that the networks see (`translator.to_square`): whole images, never cropped and never flipped,
since left and right mean something in an X-ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from diff2ct.translator import network_image, to_square
from diff2ct_training.acquisitions import acquisition_files
from diff2ct_training.cases import list_cases
from diff2ct_training.xray_file import read_beams, read_xrays


@dataclass(frozen=True, eq=False)
class UnpairedXrays:
    """drr, film: (1, S, S) float32 as `translator.network_image` makes them. valid: (1, S, S) bool, what both collimators leave
    open: so a frame is no style, and nobody learns to draw one. seed: of this sample's further randomness."""

    name: str
    drr: torch.Tensor
    film: torch.Tensor
    valid: torch.Tensor
    seed: int


@dataclass(frozen=True)
class StoredView:
    """View number `index` of a file of stored X-rays."""

    path: Path
    index: int


@dataclass(frozen=True)
class Domain:
    """The X-rays of one style, frontal ones and lateral ones."""

    frontal: tuple[StoredView, ...]
    lateral: tuple[StoredView, ...]

    @classmethod
    def of_folder(cls, folder: Path, advice: str) -> Domain:
        """All X-rays stored in `folder`, of training cases only if it holds cases. Raises ValueError with `advice` if there are
        none, and naming a file that cannot be read."""
        files = acquisition_files(folder, "*")
        if any(folder.glob("*.json")):
            names = {file.stem for file in list_cases(folder, "train")}
            files = [file for file in files if file.name.partition(".xray")[0] in names]
        views: dict[bool, list[StoredView]] = {False: [], True: []}
        for path in files:
            for index, beam in enumerate(read_beams(path)):
                views[beam.view.is_lateral].append(StoredView(path, index))
        if not views[False] and not views[True]:
            raise ValueError(f"X-rays: none are stored in {folder}; {advice}")
        return cls(tuple(views[False]), tuple(views[True]))

    def __len__(self) -> int:
        return len(self.frontal) + len(self.lateral)


class UnpairedStream(Dataset[UnpairedXrays]):
    """Item n is training sample n of the run: a frontal or a lateral DRR and a film of the same kind, each drawn at random. The
    same whoever asks, whenever. length: of a run by its steps; one by the clock may ask for more."""

    def __init__(self, drrs: Domain, films: Domain, size: int, length: int, seed: int) -> None:
        pairs = ((drrs.frontal, films.frontal), (drrs.lateral, films.lateral))
        self._kinds = [(a, b) for a, b in pairs if a and b]
        if not self._kinds:
            only = {name: "frontal" if domain.frontal else "lateral" for name, domain in (("DRRs", drrs), ("films", films))}
            raise ValueError(f"X-rays: all DRRs are {only['DRRs']}, all films {only['films']}; accepted are some of one kind")
        self._size, self._length, self._seed = size, length, seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> UnpairedXrays:
        rng = np.random.default_rng([self._seed, number])
        kind = self._kinds[int(rng.integers(len(self._kinds)))]
        drr, film = (views[int(rng.integers(len(views)))] for views in kind)
        (drr_image, drr_valid), (film_image, film_valid) = (read_square(view, self._size) for view in (drr, film))
        valid = drr_valid & film_valid
        if not valid.any():
            raise ValueError(f"X-rays: {drr.path} and {film.path} have no valid place in common")
        return UnpairedXrays(
            name=f"{drr.path.name} with {film.path.name}",
            drr=network_image(drr_image, valid)[None],
            film=network_image(film_image, valid)[None],
            valid=valid[None],
            seed=int(rng.integers(2**62)),
        )


def read_square(view: StoredView, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(S, S) line integrals up to gain and offset, and their mask."""
    images, valid, _, _ = read_xrays(view.path)
    return to_square(torch.from_numpy(images[view.index]).float(), torch.from_numpy(valid[view.index]), size)
