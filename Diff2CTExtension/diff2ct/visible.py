"""What the caller says about which pixels see the patient: a border or a collimation that the file does not mark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diff2ct.assumptions import is_number


def stated_visible(name: str, pixels: np.ndarray, invalid_value: float | None, visible: Sequence[int] | None) -> np.ndarray:
    """(H, W) bool mask of pixels (H, W); what is None says nothing.

    invalid_value: stored value of pixels that do not see the patient.
    visible: (top, bottom, left, right), first and last row and column that see the patient, counted from 0.
    """
    if invalid_value is not None and not is_number(invalid_value):
        raise ValueError(f"{name}: invalid_value is {invalid_value!r}, accepted is a number")
    seen = np.ones(pixels.shape, bool) if invalid_value is None else np.asarray(pixels != invalid_value)
    if visible is not None:
        top, bottom, left, right = _edges(name, visible, pixels.shape)
        inside = np.zeros(pixels.shape, bool)
        inside[top : bottom + 1, left : right + 1] = True
        seen &= inside
    if not seen.any():
        raise ValueError(f"{name}: invalid_value {invalid_value} and visible {visible} leave no pixel")
    return seen


def missing_value_warnings(name: str, pixels: np.ndarray, invalid_value: float | None) -> list[str]:
    """A sentence if no pixel has the value that is said to mark a border: then nothing was left out."""
    if invalid_value is None or (pixels == invalid_value).any():
        return []
    return [
        f"{name}: no pixel has the invalid_value {invalid_value:g}, so none was left out; there are {pixels.min():g} to "
        f'{pixels.max():g}, and what is "visible" can be stated instead'
    ]


def _edges(name: str, visible: Sequence[int], size: tuple[int, ...]) -> tuple[int, int, int, int]:
    height, width = size
    if isinstance(visible, list | tuple) and len(visible) == 4 and all(type(edge) is int for edge in visible):
        top, bottom, left, right = visible
        if 0 <= top <= bottom < height and 0 <= left <= right < width:
            return top, bottom, left, right
    raise ValueError(
        f"{name}: visible is {visible!r}, accepted is [top, bottom, left, right], whole numbers with "
        f"0 <= top <= bottom < {height} and 0 <= left <= right < {width}"
    )
