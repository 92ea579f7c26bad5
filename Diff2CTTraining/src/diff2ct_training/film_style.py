"""Training X-rays that look like a hospital's films: DRRs through a DRR-to-real translator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from diff2ct.radiograph import Radiograph
from diff2ct.translator import Translator, load_translator, translate
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import Acquisition, AcquisitionConfig, acquire_views
from diff2ct_training.cases import Case


@dataclass(frozen=True, kw_only=True)
class FilmStyle:
    """translator: a DRR-to-real one. share: part of all acquisitions that get its style; the others keep the detectors of the
    recipe, so that a network does not come to know one hospital only."""

    translator: Path
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"style_share: got {self.share}, accepted is above 0 and up to 1")

    def record(self) -> dict[str, str | float]:
        """What tells it from another style. Raises ValueError on a wrong translator."""
        return {"translator": _loaded(self.translator).sha256[:16], "style_share": self.share}


def acquire_styled_views(
    case: Case, rng: np.random.Generator, config: AcquisitionConfig, grid: VolumeGrid, style: FilmStyle
) -> Acquisition:
    """`acquire_views`, in the style of films or with the detectors of `config`. Raises ValueError on a wrong translator."""
    translator = _loaded(style.translator)
    if rng.random() >= style.share:
        return acquire_views(case, rng, config, grid)
    return in_film_style(acquire_views(case, rng, replace(config, ideal_detector=1.0), grid), translator)


def in_film_style(drrs: Acquisition, translator: Translator) -> Acquisition:
    """The same acquisition with translated images; drrs: of ideal detectors."""
    views = zip(drrs.images, drrs.valid, drrs.beams, strict=True)
    radiographs = [Radiograph(image.numpy(), beam, valid.numpy()) for image, valid, beam in views]
    return replace(drrs, images=[torch.from_numpy(translate(r, translator).line_integral) for r in radiographs])


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Translator:
    return load_translator(path, direction="drr_to_real")
