"""PSR: depth slices as the channels of a 2D network (Henzler et al. 2018, "Single-image tomography", 1710.04867), in the size
that the X2CT-GAN paper compares with.

B batch, C channels, N^3 voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import max_pool2d, relu

from diff2ct.networks.one_pass import FRONTAL, LATERAL, to_volume, view_image

VIEWS = {"frontal": (FRONTAL,), "averaged": (FRONTAL, LATERAL)}


@dataclass(frozen=True, kw_only=True)
class PsrConfig:
    """size: N. views: "frontal" is the paper's single view; "averaged" runs the same network on both views and takes the mean
    of the two volumes, one form of a biplanar PSR (arXiv 2408.09731 does not say which it compares with).
    width: channels of the coarse blocks, a multiple of 4. down_blocks: residual blocks after each halving. Descriptions of
    X2CT-GAN's PSR have five after the last; the 9.07 million weights of its code are those of four, five would be 9.54 million.
    """

    size: int = 128
    views: str = "frontal"
    width: int = 256
    down_blocks: tuple[int, ...] = (3, 3, 3, 4)

    def __post_init__(self) -> None:
        object.__setattr__(self, "down_blocks", tuple(int(n) for n in self.down_blocks))
        if self.views not in VIEWS:
            raise ValueError(f"views: got {self.views!r}, accepted are {', '.join(VIEWS)}")
        if self.width % 4 or not 8 <= self.width <= 2048:
            raise ValueError(f"width: got {self.width}, accepted are multiples of 4 from 8 to 2048")
        if not 1 <= len(self.down_blocks) <= 6 or any(not 1 <= n <= 16 for n in self.down_blocks):
            raise ValueError(f"down_blocks: got {self.down_blocks}, accepted are 1 to 6 counts of 1 to 16")
        multiple = 2 ** len(self.down_blocks)
        if self.size % multiple or not multiple <= self.size <= 512:
            raise ValueError(f"size: got {self.size}, accepted are multiples of {multiple} up to 512")


class Psr(nn.Module):
    """ "planes" condition (B, 2, 1, 2 N, 2 N) -> (B, 1, N, N, N) in network units. 9.07 million weights at N = 128."""

    BLOCKS = ()  # batch norms would count everything twice; it is small anyway

    def __init__(self, config: PsrConfig) -> None:
        super().__init__()
        self.config = config
        quarter, half, width = config.width // 4, config.width // 2, config.width
        self.enter = nn.Sequential(
            nn.Conv2d(1, quarter, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(quarter), nn.ReLU()
        )
        widths = (quarter, half, half, half, width)
        self.fine = nn.Sequential(*(_Bottleneck(a, b) for a, b in pairwise(widths)))
        self.down = nn.ModuleList(nn.Sequential(*(_Bottleneck(width, width) for _ in range(n))) for n in config.down_blocks)
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, groups=width, bias=False) for _ in config.down_blocks
        )
        self.up = nn.ModuleList(_Bottleneck(width, width) for _ in config.down_blocks)
        self.leave = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, config.size, 1)
        )

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        views = VIEWS[self.config.views]
        images = torch.cat([view_image(condition, view) for view in views])  # batch norms must count all views together
        slices = self._slices(images).chunk(len(views))
        volumes = [to_volume(of_view[:, None], view) for of_view, view in zip(slices, views, strict=True)]
        return torch.stack(volumes).mean(0)

    def _slices(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, 2 N, 2 N) -> (B, N along the ray, N, N)."""
        if image.shape[-1] != 2 * self.config.size:
            raise ValueError(f"condition: got planes of {tuple(image.shape[2:])}, accepted is 2 x {self.config.size}")
        h = self.fine(self.enter(image))
        skips = []
        for blocks in self.down:
            skips.append(h)
            h = blocks(max_pool2d(h, 2))
        for grow, block in zip(self.grow, self.up, strict=True):
            h = block(grow(h) + skips.pop())
        return self.leave(h)


class _Bottleneck(nn.Module):
    """Batch norm, ReLU, conv, three times: 1 x 1 to half the channels, 3 x 3, 3 x 3 (He et al. 2016, pre-activation)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (channels, half, half))
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, size, padding=size // 2, bias=False)
            for a, b, size in ((channels, half, 1), (half, half, 3), (half, out_channels, 3))
        )
        same = channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(relu(norm(h)))
        return self.skip(x) + h
