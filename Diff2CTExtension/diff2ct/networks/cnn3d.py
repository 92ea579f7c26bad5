"""3DCNN: the X-rays spread along their rays and a V-Net on the volume (Kasten et al. 2020, 2004.00871), with one output, HU,
instead of bone classes.

B batch, C channels, N^3 voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import max_pool3d, relu

from diff2ct.networks.blocks import Norm, conv3
from diff2ct.networks.one_pass import spread


@dataclass(frozen=True, kw_only=True)
class Cnn3dConfig:
    """widths: channels at each resolution, finest first. convs: 3 x 3 x 3 convolutions of each residual stage, as V-Net has
    them (Milletari et al. 2016)."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    convs: tuple[int, ...] = (1, 2, 3, 3, 3)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(n) for n in self.widths))
        object.__setattr__(self, "convs", tuple(int(n) for n in self.convs))
        if not 1 <= len(self.widths) <= 6 or any(w % 8 or not 8 <= w <= 1024 for w in self.widths):
            raise ValueError(f"widths: got {self.widths}, accepted are 1 to 6 multiples of 8 up to 1024")
        if len(self.convs) != len(self.widths) or any(not 1 <= n <= 8 for n in self.convs):
            raise ValueError(f"convs: got {self.convs}, accepted are {len(self.widths)} counts of 1 to 8, one per width")

    @property
    def size_multiple(self) -> int:
        """N must be a multiple of this."""
        return 2 ** (len(self.widths) - 1)


class Stage(nn.Module):
    """x + (norm, ReLU, conv) n times."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(channels) for _ in range(count))
        self.convs = nn.ModuleList(conv3(channels, channels) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(relu(norm(h)))
        return x + h


class Cnn3d(nn.Module):
    """ "planes" condition (B, 2, 1, 2 N, 2 N) -> (B, 1, N, N, N) in network units. 10.3 million weights.

    Group instead of no normalisation, which V-Net does not say and training from scratch needs.
    """

    BLOCKS = (Stage,)

    def __init__(self, config: Cnn3dConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = conv3(2, config.widths[0])
        self.down = nn.ModuleList(Stage(width, n) for width, n in zip(config.widths, config.convs, strict=True))
        self.widen = nn.ModuleList(nn.Conv3d(width, wider, 1) for width, wider in pairwise(config.widths))
        self.grow = nn.ModuleList(nn.ConvTranspose3d(wider, width, 2, stride=2) for width, wider in pairwise(config.widths))
        self.merge = nn.ModuleList(conv3(2 * width, width) for width in config.widths[:-1])
        self.up = nn.ModuleList(Stage(width, n) for width, n in zip(config.widths[:-1], config.convs, strict=False))
        self.leave = nn.Conv3d(config.widths[0], 1, 1)

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        h = self.enter(spread(condition).contiguous(memory_format=torch.channels_last_3d))
        skips = []
        for level, stage in enumerate(self.down):
            h = stage(h)
            if level < len(self.widen):
                skips.append(h)
                h = self.widen[level](max_pool3d(h, 2))
        for grow, merge, stage in zip(reversed(self.grow), reversed(self.merge), reversed(self.up), strict=True):
            h = stage(merge(torch.cat([grow(h), skips.pop()], dim=1)))
        return self.leave(relu(h))
