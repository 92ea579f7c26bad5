"""X2NoiseNet: the conditional 3D denoiser, in the paper's pixel form and in the wavelet form. One UNet; the form is a
parameter.

B batch, C channels, D x H x W voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import avg_pool3d, silu

from diff2ct.condition import Condition
from diff2ct.networks.blocks import Norm, ResidualBlock, SelfAttention, conv3, double, through, zero
from diff2ct.networks.haar import haar, inverse_haar, space_to_depth
from diff2ct.networks.view_encoder import ViewEncoder
from diff2ct.views import RectifiedViews, look_up


@dataclass(frozen=True, kw_only=True)
class X2NoiseNetConfig:
    """condition_channels: channels of the condition volume, or of each view if the network encodes the views itself.
    view_widths: channels at each resolution of the 2D encoder of each view, finest first; () for a condition volume.
    num_views: with view_widths, how many.
    haar_levels: 0 is the paper's pixel form; 1 runs the UNet on the 8 Haar bands at half resolution (WDM, Friedrich et al.
    2024).
    widths: channels at each resolution, finest first. blocks, down_blocks: residual blocks at each, on the way up and on
    the way down, () for as many as up.
    attention: self-attention at the coarsest resolution.
    """

    condition_channels: int
    haar_levels: int = 1
    widths: tuple[int, ...] = (32, 80, 112, 112)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    down_blocks: tuple[int, ...] = ()
    attention: bool = True
    view_widths: tuple[int, ...] = ()
    num_views: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "view_widths", tuple(int(w) for w in self.view_widths))
        object.__setattr__(self, "widths", tuple(int(w) for w in self.widths))
        object.__setattr__(self, "blocks", tuple(int(b) for b in self.blocks))
        object.__setattr__(self, "down_blocks", tuple(int(b) for b in self.down_blocks or self.blocks))
        if not 1 <= self.condition_channels <= 64:
            raise ValueError(f"condition_channels: got {self.condition_channels}, accepted is 1 to 64")
        if self.haar_levels not in (0, 1, 2):
            raise ValueError(f"haar_levels: got {self.haar_levels}, accepted are 0, 1 and 2")
        if not 1 <= len(self.widths) <= 6 or any(w % 8 or not 8 <= w <= 1024 for w in self.widths):
            raise ValueError(f"widths: got {self.widths}, accepted are 1 to 6 multiples of 8 up to 1024")
        if len(self.blocks) != len(self.widths) or any(not 1 <= b <= 8 for b in self.blocks):
            raise ValueError(f"blocks: got {self.blocks}, accepted are {len(self.widths)} counts of 1 to 8, one per width")
        if len(self.down_blocks) != len(self.widths) or any(not 0 <= b <= 8 for b in self.down_blocks):
            accepted = f"{len(self.widths)} counts of 0 to 8, one per width"
            raise ValueError(f"down_blocks: got {self.down_blocks}, accepted are {accepted}")
        if self.view_widths:
            if not len(self.widths) <= len(self.view_widths) <= 6 or any(w % 8 or not 8 <= w <= 1024 for w in self.view_widths):
                accepted = f"{len(self.widths)} to 6 multiples of 8 up to 1024, or none"
                raise ValueError(f"view_widths: got {self.view_widths}, accepted are {accepted}")
            if not 1 <= self.num_views <= 8:
                raise ValueError(f"num_views: got {self.num_views}, accepted is 1 to 8")

    @property
    def size_multiple(self) -> int:
        """Every axis of a volume must be a multiple of this."""
        return 2 ** (self.haar_levels + len(self.widths) - 1)


class X2NoiseNet(nn.Module):
    """(x_t (B, 1, D, H, W), t (B,), condition) -> (B, 1, D, H, W) of the parameterisation it was trained for.

    The condition enters at every resolution through layers of its own, so that no level has to fish it out of the noise and
    sampling computes its part once: see `embed_condition`.
    """

    BLOCKS = (ResidualBlock,)
    """What training may compute twice (activation checkpointing) or share out among processes (FSDP) one at a time."""

    def __init__(self, config: X2NoiseNetConfig) -> None:
        super().__init__()
        self.config = config
        bands, widths = 8**config.haar_levels, config.widths
        time_width = 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(64, time_width), nn.SiLU(), nn.Linear(time_width, time_width), nn.SiLU())
        self.enter = nn.Conv3d(bands, widths[0], 3, padding=1)
        if config.view_widths:
            self.view_encoders = nn.ModuleList(
                ViewEncoder(config.condition_channels, config.view_widths, len(widths)) for _ in range(config.num_views)
            )
            self.enter_views = nn.ModuleList(
                nn.ModuleList(nn.Conv3d(c, w, 1, bias=False) for c, w in zip(config.view_widths, widths, strict=False))
                for _ in range(config.num_views)
            )
        else:
            finest = conv3(bands * config.condition_channels, widths[0], bias=False)
            coarser = (conv3(config.condition_channels, width, bias=False) for width in widths[1:])
            self.enter_condition = nn.ModuleList([finest, *coarser])

        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for width, wider, count in zip(widths, [*widths[1:], 0], config.down_blocks, strict=True):
            self.down.append(nn.ModuleList(ResidualBlock(width, time_width) for _ in range(count)))
            if wider:
                self.shrink.append(nn.Conv3d(width, wider, 3, stride=2, padding=1))
        self.attention = SelfAttention(widths[-1]) if config.attention else nn.Identity()
        self.middle = ResidualBlock(widths[-1], time_width)

        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for (width, wider), count in zip(pairwise(widths), config.blocks, strict=False):
            self.up.append(nn.ModuleList(ResidualBlock(width, time_width) for _ in range(count)))
            self.grow.append(nn.Conv3d(wider, width, 1))
        self.leave_norm = Norm(widths[0])
        self.leave = zero(nn.Conv3d(widths[0], bands, 3, padding=1))

    def embed_condition(self, condition: Condition, size: tuple[int, int, int]) -> list[torch.Tensor]:
        """The condition's share of each resolution's input for a volume of `size` (D, H, W), finest first; it does not change
        from step to step."""
        if isinstance(condition, RectifiedViews) != bool(self.config.view_widths):
            accepted = "rectified views" if self.config.view_widths else "a condition volume"
            raise ValueError(f"condition: got {type(condition).__name__}, this network accepts {accepted}")
        if isinstance(condition, RectifiedViews):
            return self._embed_views(condition, size)
        embedded = [self.enter_condition[0](space_to_depth(condition, self.config.haar_levels))]
        pooled = avg_pool3d(condition, 2**self.config.haar_levels) if self.config.haar_levels else condition
        for enter in self.enter_condition[1:]:
            pooled = avg_pool3d(pooled, 2)
            embedded.append(enter(pooled))
        return embedded

    def _embed_views(self, views: RectifiedViews, size: tuple[int, int, int]) -> list[torch.Tensor]:
        shares: list[list[torch.Tensor]] = []
        for view in range(self.config.num_views):
            features = self.view_encoders[view](views.images[:, view])
            shares.append([])
            for level, enter in enumerate(self.enter_views[view].children()):
                stride = 2 ** (self.config.haar_levels + level)
                depth, height, width = (n // stride for n in size)
                looked = look_up(features[level], views.ijk_to_plane[:, view], (depth, height, width), stride=stride)
                shares[view].append(enter(looked.contiguous(memory_format=torch.channels_last_3d)))
        return [sum(of_level[1:], of_level[0]) for of_level in zip(*shares, strict=True)]

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        depth, height, width = x_t.shape[2:]
        return self.denoise(x_t, t, self.embed_condition(condition, (depth, height, width)))

    def denoise(self, x_t: torch.Tensor, t: torch.Tensor, embedded_condition: Sequence[torch.Tensor]) -> torch.Tensor:
        """`forward` with the condition already embedded."""
        self._check_size(x_t)
        time = self.time(_sinusoidal(t, 64).to(x_t.dtype))
        h = self.enter(haar(x_t, self.config.haar_levels)) + embedded_condition[0]
        skips = []
        for level, blocks in enumerate(self.down):
            h = through(blocks, h, time)
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](h) + embedded_condition[level + 1]
        h = self.middle(self.attention(h), time)
        for blocks, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            h = through(blocks, skips.pop() + double(grow(h)), time)
        h = self.leave(silu(self.leave_norm(h)))
        return inverse_haar(h.float(), self.config.haar_levels)

    def _check_size(self, x: torch.Tensor) -> None:
        multiple = self.config.size_multiple
        if any(n % multiple for n in x.shape[2:]):
            raise ValueError(f"x_t: got shape {tuple(x.shape)}, accepted are multiples of {multiple} in D, H and W")


def _sinusoidal(t: torch.Tensor, width: int) -> torch.Tensor:
    """(B,) -> (B, width), Ho et al. 2020 after Vaswani et al. 2017."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
