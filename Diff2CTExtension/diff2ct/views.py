"""Views as a network takes them: brought to one plane through the isocentre, with the map from voxels to that plane.

B batch, C channels, V views, D x H x W voxels (k, j, i), R x R plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import grid_sample

from diff2ct.geometry import Beam

PLANE_PIXELS = 192
PLANE_SPACING_MM = 320.0 / PLANE_PIXELS
"""Views are brought to this plane through the isocentre. 320 mm hold the shadow of the 256 mm cube for a source 650 mm away."""


@dataclass(eq=False)  # not frozen: Lightning Fabric takes dataclasses of tensors apart and puts them together again
class RectifiedViews:
    """Views as seen in the isocentre plane, and where voxels meet it.

    images: (V, C, R, R): the standardised image and its two detail bands (0 where not seen), seen or not (1 or 0), and the
        pixel's own position in the plane, -1 to 1 along columns and rows.
    ijk_to_plane: (V, 4, 4) homogeneous [i, j, k, 1] of the volume -> (column w, row v, w, v) in the plane.
    In a batch both have one more axis in front, see `stack`.
    """

    images: torch.Tensor
    ijk_to_plane: torch.Tensor

    @classmethod
    def stack(cls, items: Sequence[RectifiedViews]) -> RectifiedViews:
        return cls(torch.stack([v.images for v in items]), torch.stack([v.ijk_to_plane for v in items]))

    def to(self, device: torch.device | str) -> RectifiedViews:
        return RectifiedViews(self.images.to(device), self.ijk_to_plane.to(device))

    def __getitem__(self, samples: int | slice) -> RectifiedViews:
        return RectifiedViews(self.images[samples], self.ijk_to_plane[samples])


def plane_to_lps(beam: Beam) -> np.ndarray:
    """(4, 3) float64: homogeneous plane pixel [column, row, 1] -> [x, y, z, 1] [mm]."""
    across = np.array([0.0, 1.0, 0.0] if beam.view.is_lateral else [1.0, 0.0, 0.0])
    down = np.array([0.0, 0.0, -1.0])
    corner = np.array(beam.isocenter_lps) - (PLANE_PIXELS - 1) / 2 * PLANE_SPACING_MM * (across + down)
    columns = [across * PLANE_SPACING_MM, down * PLANE_SPACING_MM, corner]
    return np.vstack([np.stack(columns, axis=1), [0.0, 0.0, 1.0]])


def look_up(
    images: torch.Tensor,
    ijk_to_pixel: torch.Tensor,
    size: tuple[int, int, int],
    *,
    frame: tuple[int, int] = (PLANE_PIXELS, PLANE_PIXELS),
    stride: int = 1,
) -> torch.Tensor:
    """What blocks of stride^3 voxels see of 2D images or features, at their centres, bilinear, 0 off the image.

    images: (B, C, h, w), covering a detector or plane of `frame` (H, W) pixels at any resolution. ijk_to_pixel: (B, 4, 4)
    homogeneous index of a voxel -> (column w, row v, w, v) of that frame. size: (D, H, W) blocks. Returns (B, C, D, H, W).
    """
    k, j, i = (stride * torch.arange(n, device=images.device) + (stride - 1) / 2 for n in size)
    m = ijk_to_pixel[..., None, None, None]  # (B, 4, 4, 1, 1, 1)
    column, row, w, v = (
        m[:, a, 0] * i + m[:, a, 1] * j[:, None] + m[:, a, 2] * k[:, None, None] + m[:, a, 3] for a in range(4)
    )
    height, width = frame
    positions = torch.stack([(2 * column / w + 1) / width - 1, (2 * row / v + 1) / height - 1], dim=-1)
    flat = positions.flatten(1, 2)  # (B, D * H, W, 2)
    return grid_sample(images, flat, mode="bilinear", padding_mode="zeros", align_corners=False).unflatten(2, size[:2])
