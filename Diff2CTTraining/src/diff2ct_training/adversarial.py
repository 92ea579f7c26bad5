"""The adversary of CycleGAN and X2CT-GAN: the PatchGAN discriminator (Isola et al. 2017) and the least squares loss of Mao et
al. 2017.

B batch, C channels; one spatial letter per dimension, two for X-rays, three for volumes.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from diff2ct.networks.instance_norm import InstanceNorm

_KERNEL = 4


class PatchDiscriminator(nn.Module):
    """(B, C, H, W) or (B, C, D, H, W) -> scores (B, 1, ...): one for each overlapping patch, 1 for real, 0 for made.

    widths: channels of the layers; all but the last halve the resolution. With four of them a patch has 70 pixels along each
        side. dims: 2 or 3. padding: on each side of each layer, 1 in CycleGAN, 2 in X2CT-GAN.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, ...] = (64, 128, 256, 512), *, dims: int = 2, padding: int = 1
    ) -> None:
        super().__init__()
        if dims not in (2, 3):
            raise ValueError(f"dims: got {dims}, accepted are 2 and 3")
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths: got {widths}, accepted are two or more channel counts above 0")
        conv: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if dims == 2 else nn.Conv3d
        strides = [2] * (len(widths) - 1) + [1]
        self.convs = nn.ModuleList(
            conv(c, width, _KERNEL, stride, padding)
            for c, width, stride in zip((in_channels, *widths), widths, strides, strict=False)
        )
        self.norms = nn.ModuleList([nn.Identity(), *(InstanceNorm(width) for width in widths[1:])])
        self.score = conv(widths[-1], 1, _KERNEL, 1, padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = leaky_relu(norm(layer(x)), 0.2)
        return self.score(x)


def lsgan_loss(scores: torch.Tensor, *, real: bool) -> torch.Tensor:
    """Mean of (score - 1)^2 for what shall count as real, of score^2 for what shall not (Mao et al. 2017, eq. 9)."""
    return (scores.float() - float(real)).square().mean()


def initialize(network: nn.Module, sd: float = 0.02) -> None:
    """Convolution and linear weights N(0, sd^2), biases 0, as in CycleGAN and X2CT-GAN."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear):
            nn.init.normal_(layer.weight, std=sd)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
