"""Single figures of a patient that one may want to read off a volume, such as how much bone there is, and how far from them the
patient's own may lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diff2ct.metrics import BONE_DICE_HU, METAL_HU, SKIN_HU, body_mask
from diff2ct.units import HU_WINDOW
from diff2ct.volume import CtVolume

_WORDS = {
    "body_ml": ("body in the cube", "ml"),
    "bone_ml": (f"bone and metal above {BONE_DICE_HU:g} HU", "ml"),
    "metal_ml": (f"metal above {METAL_HU:g} HU", "ml"),
    "gas_ml": (f"gas in the body, below {SKIN_HU:g} HU", "ml"),
    "body_mean_hu": ("mean of the body", "HU"),
}
_LEAST = {"ml": 0.0, "HU": HU_WINDOW[0]}
_LEVELS = ("0.8", "0.9")


@dataclass(frozen=True)
class PatientFigure:
    """name: a key of `figures_of`. value: of the volume. intervals: by level, "0.8": (lower, upper), between which the
    patient's own figure lies in this share of patients like those of the calibration."""

    name: str
    value: float
    intervals: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        words, unit = _WORDS[self.name]
        ranges = (
            f"{100 * float(level):.0f} % interval {round(lower)} to {round(upper)} {unit}"
            for level, (lower, upper) in self.intervals.items()
        )
        return ", ".join([f"{words}: {round(self.value)} {unit}", *ranges])


def figures_of(hu: Tensor, voxel_ml: float) -> dict[str, float]:
    """Amounts of body, bone, metal and gas [ml], mean of the body [HU], of a volume (D, H, W)."""
    body = body_mask(hu)

    def ml(mask: Tensor) -> float:
        return int(mask.count_nonzero()) * voxel_ml

    return {
        "body_ml": ml(body),
        "bone_ml": ml((hu > BONE_DICE_HU) & body),
        "metal_ml": ml(hu > METAL_HU),
        "gas_ml": ml(body & (hu < SKIN_HU)),
        "body_mean_hu": float(torch.where(body, hu, 0.0).sum() / body.count_nonzero()),
    }


def figures_with_intervals(volume: CtVolume, bounds: Mapping[str, Mapping[str, float]]) -> tuple[PatientFigure, ...]:
    """The figures of a volume that `Calibration.bounds` say something about; a mean of no body is none."""
    figures = []
    for name, value in figures_of(torch.from_numpy(volume.hu), volume.grid.voxel_ml).items():
        radii = {level: bounds[name][level] for level in _LEVELS if level in bounds.get(name, {})}
        if radii and math.isfinite(value):
            least = _LEAST[_WORDS[name][1]]
            intervals = {level: (max(least, value - radius), value + radius) for level, radius in radii.items()}
            figures.append(PatientFigure(name, value, intervals))
    return tuple(figures)


def in_sentences(figures: Sequence[PatientFigure], calibration_limits: Sequence[str]) -> list[str]:
    """The figures for a person, and that the intervals may not hold if there are limits."""
    doubt = ["the intervals may not hold here, see CalibrationLimits"] * bool(figures and calibration_limits)
    return [str(figure) for figure in figures] + doubt
