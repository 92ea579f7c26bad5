"""Intensity scales, each with one converting function: HU <-> attenuation, HU <-> network units.

They only need arithmetic that numpy arrays and torch tensors have in common, and so take and give either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

MU_WATER_PER_MM = 0.01937
"""Attenuation of water [1/mm] at 70 keV, a usual effective energy behind a patient (NIST, log-log between 60 and 80 keV)."""

HU_AIR = -1000.0
TISSUE_HU = -500.0
"""Between air and all that a patient's outside is made of."""
HU_WINDOW = (-1000.0, 4096.0)
"""The paper's clip window (arXiv 2408.09731, Sec. 3): everything a network sees or gives lies inside it."""


def hu_to_mu(hu: Any) -> Any:
    """HU -> linear attenuation [1/mm] at 70 keV, never negative: mu = mu_water (1 + HU / 1000)."""
    return (1.0 + hu / 1000.0).clip(min=0.0) * MU_WATER_PER_MM


def mu_to_hu(mu_per_mm: Any) -> Any:
    """Linear attenuation [1/mm] at 70 keV -> HU, the inverse of `hu_to_mu` above -1000 HU."""
    return (mu_per_mm / MU_WATER_PER_MM - 1.0) * 1000.0


@dataclass(frozen=True)
class HuMap:
    """How a checkpoint squeezes `HU_WINDOW` into network units x in [-1, 1]. Invertible inside the window.

    kind:
        "linear": the paper's map. Metal takes most of the range: 40 and 300 HU lie 0.10 apart.
        "asinh": asinh(HU / knee_hu) scaled to [-1, 1]. Soft tissue and bone get 3x the room, metal keeps its order.
    knee_hu: below this |HU| the asinh map is close to linear. Unused by "linear".
    """

    kind: str = "linear"
    knee_hu: float = 300.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "asinh"):
            raise ValueError(f"HuMap.kind: got {self.kind!r}, accepted are 'linear' and 'asinh'")
        if not self.knee_hu > 0:
            raise ValueError(f"HuMap.knee_hu: got {self.knee_hu}, accepted is a number above 0 [HU]")

    def to_x(self, hu: Any) -> Any:
        """HU (numpy array or tensor) -> network units in [-1, 1]; values outside `HU_WINDOW` are clipped."""
        lo, hi = self._curve(_like(hu, HU_WINDOW[0])), self._curve(_like(hu, HU_WINDOW[1]))
        return 2.0 * (self._curve(hu.clip(*HU_WINDOW)) - lo) / (hi - lo) - 1.0

    def to_hu(self, x: Any) -> Any:
        """Network units -> HU, clipped to `HU_WINDOW`."""
        lo, hi = self._curve(_like(x, HU_WINDOW[0])), self._curve(_like(x, HU_WINDOW[1]))
        return self._inverse((x.clip(-1.0, 1.0) + 1.0) * 0.5 * (hi - lo) + lo).clip(*HU_WINDOW)

    def _curve(self, hu: Any) -> Any:
        return hu if self.kind == "linear" else _asinh(hu / self.knee_hu)

    def _inverse(self, y: Any) -> Any:
        return y if self.kind == "linear" else _sinh(y) * self.knee_hu


def _like(array: Any, value: float) -> Any:
    """A 0-d array of the library and dtype of `array`, so that one formula serves numpy and torch. On a GPU it is
    made there: a copy would be waited for."""
    return array.new_full((), value) if hasattr(array, "new_full") else array.dtype.type(value)


def _asinh(a: Any) -> Any:
    return a.asinh() if hasattr(a, "asinh") else np.arcsinh(a)


def _sinh(a: Any) -> Any:
    return a.sinh() if hasattr(a, "sinh") else np.sinh(a)
