"""Networks that reconstruct in one pass: what they share. Rays are taken as parallel to the axes, as in their papers.

B batch, C channels, N^3 voxels (k, j, i). The condition is "planes": (B, 2, 1, 2 N, 2 N), the frontal view first.
"""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

FRONTAL, LATERAL = 0, 1


def view_image(condition: torch.Tensor, view: int) -> torch.Tensor:
    """(B, 1, 2 N, 2 N): rows head first as k runs, columns as i runs for the frontal view and as j for the lateral one."""
    if condition.ndim != 5 or condition.shape[1:3] != (2, 1):
        raise ValueError(f"condition: got shape {tuple(condition.shape)}, accepted is (B, 2, 1, 2 N, 2 N), kind 'planes'")
    return condition[:, view]


def to_volume(features: torch.Tensor, view: int) -> torch.Tensor:
    """Features of a view with its rays as the first axis (B, C, along the ray, k, across) -> (B, C, k, j, i)."""
    return features.permute((0, 1, 3, 2, 4) if view == FRONTAL else (0, 1, 3, 4, 2))


def from_volume(volume: torch.Tensor, view: int) -> torch.Tensor:
    """The inverse of `to_volume`."""
    return volume.permute((0, 1, 3, 2, 4) if view == FRONTAL else (0, 1, 4, 2, 3))


def along_rays(image: torch.Tensor, depth: int) -> torch.Tensor:
    """(B, C, k, across) -> (B, C, depth, k, across): the same at every depth."""
    return image[:, :, None].expand(-1, -1, depth, -1, -1)


def spread(condition: torch.Tensor) -> torch.Tensor:
    """ "planes" -> (B, 2, N, N, N): each X-ray, at the resolution of the voxels, repeated along its own rays."""
    images = [avg_pool2d(view_image(condition, view), 2) for view in (FRONTAL, LATERAL)]
    return torch.cat([to_volume(along_rays(x, x.shape[-1]), view) for view, x in enumerate(images)], dim=1)
