"""Training losses. B batch, D x H x W voxels. Every reduction is said aloud: it decides what a loss means (field practice
differs)."""

from __future__ import annotations

import torch


def weighted_mse(error: torch.Tensor, weight: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean over known voxels of error^2, weighted per sample. error, known: (B, 1, D, H, W); weight: (B,)."""
    squares = (error.square() * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
    return (weight * squares).mean()


def axis_projection_loss(error: torch.Tensor, weight: torch.Tensor, reduction: str) -> torch.Tensor:
    """The paper's projection term: (1/3) sum over the axes a of ||P_a error||^2 (arXiv 2408.09731, Sec. 3).

    error: (B, 1, D, H, W), of eps in the paper; weight: (B,).
    reduction: how P_a collapses axis a, and so how much the term weighs. With "mean" it re-weights 2.3 % of the Fourier
    coefficients of a 128^3 volume by 4/3; with "sum" it is 128^2 times that and dominates. The paper does not say which;
    squares are then averaged.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: got {reduction!r}, accepted are 'mean' and 'sum'")
    collapse = torch.mean if reduction == "mean" else torch.sum
    per_axis = [collapse(error, dim=axis).square().flatten(1).mean(1) for axis in (2, 3, 4)]
    return (weight * torch.stack(per_axis).mean(0)).mean()


def gradient_correlation(image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean normalised correlation of the gradients along rows and along columns, -1 to 1 (Penney et al. 1998). Images (B, H,
    W), whatever their gain and offset."""
    correlations = []
    for axis in (1, 2):
        a, b = (x.diff(dim=axis).flatten(1) for x in (image, other))
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        correlations.append((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12))
    return torch.stack(correlations).mean()
