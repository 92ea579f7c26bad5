"""X2NoiseNet: the conditional 3D denoiser, in the paper's pixel form and in the wavelet form. One UNet; the form is a
parameter.

B batch, C channels, D x H x W voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import avg_pool3d, interpolate, scaled_dot_product_attention, silu

from diff2ct.networks.haar import haar, inverse_haar, space_to_depth
from diff2ct.networks.norm import group_norm


@dataclass(frozen=True, kw_only=True)
class X2NoiseNetConfig:
    """condition_channels: channels of the condition volume.
    haar_levels: 0 is the paper's pixel form; 1 runs the UNet on the 8 Haar bands at half resolution (WDM, Friedrich et al.
    2024).
    widths: channels at each resolution, finest first. blocks: residual blocks at each, per side.
    attention: self-attention at the coarsest resolution.
    """

    condition_channels: int
    haar_levels: int = 1
    widths: tuple[int, ...] = (32, 80, 112, 112)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    attention: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(w) for w in self.widths))
        object.__setattr__(self, "blocks", tuple(int(b) for b in self.blocks))
        if not 1 <= self.condition_channels <= 64:
            raise ValueError(f"condition_channels: got {self.condition_channels}, accepted is 1 to 64")
        if self.haar_levels not in (0, 1, 2):
            raise ValueError(f"haar_levels: got {self.haar_levels}, accepted are 0, 1 and 2")
        if not 1 <= len(self.widths) <= 6 or any(w % 8 or not 8 <= w <= 1024 for w in self.widths):
            raise ValueError(f"widths: got {self.widths}, accepted are 1 to 6 multiples of 8 up to 1024")
        if len(self.blocks) != len(self.widths) or any(not 1 <= b <= 8 for b in self.blocks):
            raise ValueError(f"blocks: got {self.blocks}, accepted are {len(self.widths)} counts of 1 to 8, one per width")

    @property
    def size_multiple(self) -> int:
        """Every axis of a volume must be a multiple of this."""
        return 2 ** (self.haar_levels + len(self.widths) - 1)


class X2NoiseNet(nn.Module):
    """(x_t (B, 1, D, H, W), t (B,), condition (B, C, D, H, W)) -> (B, 1, D, H, W) of the parameterisation it was trained for.

    The condition enters at every resolution through convolutions of its own, so that no level has to fish it out of the noise
    and
    sampling computes its part once: see `embed_condition`.
    """

    def __init__(self, config: X2NoiseNetConfig) -> None:
        super().__init__()
        self.config = config
        bands, widths = 8**config.haar_levels, config.widths
        time_width = 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(64, time_width), nn.SiLU(), nn.Linear(time_width, time_width), nn.SiLU())
        self.enter = nn.Conv3d(bands, widths[0], 3, padding=1)
        finest = nn.Conv3d(bands * config.condition_channels, widths[0], 3, padding=1, bias=False)
        coarser = (nn.Conv3d(config.condition_channels, width, 3, padding=1, bias=False) for width in widths[1:])
        self.enter_condition = nn.ModuleList([finest, *coarser])

        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for width, wider, count in zip(widths, [*widths[1:], 0], config.blocks, strict=True):
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
        self.leave = _zero(nn.Conv3d(widths[0], bands, 3, padding=1))

    def embed_condition(self, condition: torch.Tensor) -> list[torch.Tensor]:
        """The condition's share of each resolution's input, finest first; it does not change from step to step."""
        embedded = [self.enter_condition[0](space_to_depth(condition, self.config.haar_levels))]
        pooled = avg_pool3d(condition, 2**self.config.haar_levels) if self.config.haar_levels else condition
        for enter in self.enter_condition[1:]:
            pooled = avg_pool3d(pooled, 2)
            embedded.append(enter(pooled))
        return embedded

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.denoise(x_t, t, self.embed_condition(condition))

    def denoise(self, x_t: torch.Tensor, t: torch.Tensor, embedded_condition: list[torch.Tensor]) -> torch.Tensor:
        """`forward` with the condition already embedded."""
        self._check_size(x_t)
        time = self.time(_sinusoidal(t, 64).to(x_t.dtype))
        h = self.enter(haar(x_t, self.config.haar_levels)) + embedded_condition[0]
        skips = []
        for level, blocks in enumerate(self.down):
            h = _through(blocks, h, time)
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](h) + embedded_condition[level + 1]
        h = self.middle(self.attention(h), time)
        for blocks, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            h = _through(blocks, skips.pop() + _double(grow(h)), time)
        h = self.leave(silu(self.leave_norm(h)))
        return inverse_haar(h.float(), self.config.haar_levels)

    def channels_last(self) -> X2NoiseNet:
        """This network with its weights in the memory layout that convolutions run fastest on."""
        return self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def _check_size(self, x: torch.Tensor) -> None:
        multiple = self.config.size_multiple
        if any(n % multiple for n in x.shape[2:]):
            raise ValueError(f"x_t: got shape {tuple(x.shape)}, accepted are multiples of {multiple} in D, H and W")


class Norm(nn.Module):
    """Group normalisation, 8 groups, with its own scale and shift and, if given, further ones per sample."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor, scale_shift: torch.Tensor | None = None) -> torch.Tensor:
        """scale_shift: (B, 2 C) or None."""
        scale, shift = self.scale.expand(x.shape[0], -1), self.shift.expand(x.shape[0], -1)
        if scale_shift is not None:
            more_scale, more_shift = scale_shift.float().chunk(2, dim=1)
            scale, shift = scale * (1 + more_scale), shift * (1 + more_scale) + more_shift
        return group_norm(x, 8, scale, shift)


class ResidualBlock(nn.Module):
    """Norm, SiLU, conv twice; time scales and shifts the second norm; the last conv starts at zero."""

    def __init__(self, channels: int, time_width: int) -> None:
        super().__init__()
        self.norm_1 = Norm(channels)
        self.conv_1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.time = nn.Linear(time_width, 2 * channels)
        self.norm_2 = Norm(channels)
        self.conv_2 = _zero(nn.Conv3d(channels, channels, 3, padding=1))

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        h = self.conv_1(silu(self.norm_1(x)))
        h = self.conv_2(silu(self.norm_2(h, self.time(time))))
        return x + h


class SelfAttention(nn.Module):
    """Every site of the coarsest resolution sees every other, 4 heads."""

    def __init__(self, channels: int, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = Norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = _zero(nn.Linear(channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, N, C)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, C / heads) each
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(mixed).transpose(1, 2).reshape(x.shape)


def _through(blocks: nn.Module, h: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    for block in blocks.children():
        h = block(h, time)
    return h


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _double(x: torch.Tensor) -> torch.Tensor:
    """Nearest-neighbour upsampling by 2, in the dtype of x (autocast would widen it)."""
    with torch.autocast(x.device.type, enabled=False):
        return interpolate(x, scale_factor=2, mode="nearest")


def _sinusoidal(t: torch.Tensor, width: int) -> torch.Tensor:
    """(B,) -> (B, width), Ho et al. 2020 after Vaswani et al. 2017."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
