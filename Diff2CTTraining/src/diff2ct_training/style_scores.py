"""How well an X-ray was translated, where the truth is known: the error of its look, and whether anything moved.

H rows, W columns, N landmarks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from diff2ct.standardize import standardize
from diff2ct_training.edge_loss import normalized_gradient


def style_error(image: Tensor, truth: Tensor, valid: Tensor) -> float:
    """Root mean square difference of two X-rays (H, W) over their valid pixels, both standardised: in standard deviations of an
    X-ray, whatever their gains and offsets; sqrt(2) if they have nothing in common."""
    difference = standardize(image, valid) - standardize(truth, valid)
    return float(difference[valid].square().mean().sqrt())


def landmark_shifts(
    image: Tensor, styled: Tensor, valid: Tensor, landmarks: np.ndarray, *, half_window: int = 8, search: int = 4
) -> np.ndarray:
    """How far what surrounds each landmark has moved from `image` to `styled`, (N, 2) in rows and columns.

    The gradients of a window are looked for in the other image: the place where their cosine is greatest, refined by a parabola
    (template matching on gradient directions, which a change of contrast leaves alone). At most `search` pixels are found.
    image, styled, valid: (H, W). landmarks: (N, 2) rows and columns of pixels. half_window: 8 is a window of 17 pixels.
    NaN where window and search leave the valid part or where the window shows no edges.
    """
    inside = (avg_pool2d(valid[None, None].float(), 3, stride=1) > 0.999).float()
    first, second = (normalized_gradient(i[None, None].float(), inside)[0] for i in (image, styled))
    shifts = np.full((len(landmarks), 2), np.nan)
    for n, (row, column) in enumerate(np.rint(landmarks).astype(int) - 1):  # gradients begin at pixel 1
        reach = half_window + search
        rows, columns = slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1)
        if (
            min(row, column) < reach
            or max(row, column) + reach >= min(inside.shape[2:])
            or not inside[0, 0, rows, columns].all()
        ):
            continue
        template = first[:, rows, columns][:, search:-search, search:-search]
        if float(template.square().mean()) < 1e-3:
            continue
        dots = conv2d(second[None, :, rows, columns], template[None])[0, 0]
        energy = conv2d(second[:, rows, columns].square().sum(0)[None, None], torch.ones(1, 1, *template.shape[1:]))[0, 0]
        shifts[n] = _peak((dots / (energy * template.square().sum()).clamp_min(1e-12).sqrt()).numpy()) - search
    return shifts


def _peak(similarity: np.ndarray) -> np.ndarray:
    """(2,) where a (2 S + 1, 2 S + 1) field is greatest, between samples by a parabola along each axis."""
    at = np.array(np.unravel_index(int(similarity.argmax()), similarity.shape))
    peak = at.astype(float)
    for axis in range(2):
        if not 0 < at[axis] < similarity.shape[axis] - 1:
            continue
        step = np.eye(2, dtype=int)[axis]
        before, middle, after = (float(similarity[tuple(at + k * step)]) for k in (-1, 0, 1))
        curvature = before - 2 * middle + after
        if curvature < 0:
            peak[axis] += 0.5 * (before - after) / curvature
    return peak
