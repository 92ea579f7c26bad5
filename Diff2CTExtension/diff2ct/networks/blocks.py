"""What the networks are made of. Tensors are (B, C, D, H, W); a 2D image is a volume of one plane."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, scaled_dot_product_attention, silu

from diff2ct.networks.norm import group_norm


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
    """Norm, SiLU, conv twice; the last conv starts at zero.

    time_width: features of the time, which scales and shifts the second norm; 0 for none. planar: of one plane.
    """

    def __init__(self, channels: int, time_width: int = 0, *, planar: bool = False) -> None:
        super().__init__()
        self.norm_1 = Norm(channels)
        self.conv_1 = conv3(channels, channels, planar=planar)
        self.time = nn.Linear(time_width, 2 * channels) if time_width else None
        self.norm_2 = Norm(channels)
        self.conv_2 = zero(conv3(channels, channels, planar=planar))

    def forward(self, x: torch.Tensor, time: torch.Tensor | None = None) -> torch.Tensor:
        h = self.conv_1(silu(self.norm_1(x)))
        h = self.conv_2(silu(self.norm_2(h, None if self.time is None else self.time(time))))
        return x + h


class SelfAttention(nn.Module):
    """Every site of the coarsest resolution sees every other, 4 heads."""

    def __init__(self, channels: int, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = Norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero(nn.Linear(channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, N, C)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, C / heads) each
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(mixed).transpose(1, 2).reshape(x.shape)


class PlanarConv(nn.Conv3d):
    """3 x 3, of one plane. Done in 2D: in float32 on a CPU, torch takes two to three times as long for one plane in 3D."""

    def __init__(self, channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(channels, out_channels, (1, 3, 3), padding=(0, 1, 1), bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return conv2d(x.squeeze(2), self.weight.squeeze(2), self.bias, padding=1).unsqueeze(2)


def conv3(channels: int, out_channels: int, *, planar: bool = False, bias: bool = True) -> nn.Conv3d:
    """3 x 3 x 3 convolution, or 3 x 3 of one plane."""
    if planar:
        return PlanarConv(channels, out_channels, bias=bias)
    return nn.Conv3d(channels, out_channels, 3, padding=1, bias=bias)


def through(blocks: nn.Module, h: torch.Tensor, time: torch.Tensor | None = None) -> torch.Tensor:
    for block in blocks.children():
        h = block(h, time)
    return h


def zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def double(x: torch.Tensor, *, planar: bool = False) -> torch.Tensor:
    """Nearest-neighbour upsampling by 2, of rows and columns only if planar, in the dtype of x (autocast would widen it)."""
    if x.device.type == "cuda":
        return _double_channels_last(x, planar)
    with torch.autocast(x.device.type, enabled=False):
        return interpolate(x, scale_factor=(1.0, 2.0, 2.0) if planar else (2.0, 2.0, 2.0), mode="nearest")


def _double_channels_last(x: torch.Tensor, planar: bool) -> torch.Tensor:
    """The same in one copy: torch's kernel for CUDA goes through channels-first and back."""
    depth, height, width = x.shape[2:]
    planes = 1 if planar else 2
    sites = x.permute(0, 2, 3, 4, 1)[:, :, None, :, None, :, None]  # (B, D, 1, H, 1, W, 1, C)
    repeated = sites.expand(-1, -1, planes, -1, 2, -1, 2, -1)
    return repeated.reshape(x.shape[0], planes * depth, 2 * height, 2 * width, x.shape[1]).permute(0, 4, 1, 2, 3)
