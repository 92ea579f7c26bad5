"""2D features of one X-ray: where vertebrae, screws and gas are is seen in the image, at a small share of the cost of 3D."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import avg_pool3d, silu

from diff2ct.networks.blocks import Norm, ResidualBlock, conv3, double


class ViewEncoder(nn.Module):
    """UNet over the plane: (B, C, R, R) -> features (B, widths[n], R / 2^n, R / 2^n) of the finest `num_levels` resolutions."""

    def __init__(self, channels: int, widths: tuple[int, ...], num_levels: int) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.enter = conv3(channels, widths[0], planar=True)
        self.down = nn.ModuleList(ResidualBlock(width, planar=True) for width in widths)
        self.shrink = nn.ModuleList(conv3(width, wider, planar=True) for width, wider in pairwise(widths))
        self.middle = ResidualBlock(widths[-1], planar=True)
        self.grow = nn.ModuleList(nn.Conv3d(wider, width, 1) for width, wider in pairwise(widths))
        self.up = nn.ModuleList(ResidualBlock(width, planar=True) for width in widths[:-1])
        self.leave = nn.ModuleList(Norm(width) for width in widths[:num_levels])

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        h = self.enter(images[:, :, None].contiguous(memory_format=torch.channels_last_3d))
        skips = []
        for level, block in enumerate(self.down):
            h = block(h)
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](avg_pool3d(h, (1, 2, 2)))
        h = self.middle(h)
        features = [h]
        for block, grow, skip in zip(reversed(self.up), reversed(self.grow), reversed(skips), strict=True):
            h = block(skip + double(grow(h), planar=True))
            features.append(h)
        finest_first = features[::-1][: self.num_levels]
        return [silu(norm(f))[:, :, 0].float() for norm, f in zip(self.leave, finest_first, strict=True)]
