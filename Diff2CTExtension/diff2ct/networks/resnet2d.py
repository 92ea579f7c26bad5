"""ResNet2D: the image-to-image generator of CycleGAN (Zhu et al. 2017, after Johnson et al. 2016), for X-ray styles.

B batch, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from diff2ct.networks.instance_norm import InstanceNorm


@dataclass(frozen=True, kw_only=True)
class ResNet2DConfig:
    """width: channels at full resolution, doubled at each halving. num_blocks: residual blocks at the coarsest resolution.
    residual: the result is added to the image, so that only what differs is learnt.

    The defaults are the paper's: c7s1-64, d128, d256, nine R256, u128, u64, c7s1-1.
    """

    width: int = 64
    num_blocks: int = 9
    num_halvings: int = 2
    residual: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("width", 1, 512), ("num_blocks", 1, 32), ("num_halvings", 1, 4)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted is {low} to {high}")

    @property
    def size_multiple(self) -> int:
        """Height and width of an image must be multiples of this."""
        return int(2**self.num_halvings)


class ResNet2D(nn.Module):
    """(B, 1, H, W) -> (B, 1, H, W) in [-1, 1], or within 1 of the image if residual. Reflection padding and instance
    normalisation throughout."""

    def __init__(self, config: ResNet2DConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(1, width, 7), InstanceNorm(width), nn.ReLU(True)]
        for _ in range(config.num_halvings):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), InstanceNorm(2 * width), nn.ReLU(True)]
            width *= 2
        layers += [_Block(width) for _ in range(config.num_blocks)]
        for _ in range(config.num_halvings):
            grow = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1)
            layers += [grow, InstanceNorm(width // 2), nn.ReLU(True)]
            width //= 2
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Tanh())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        multiple = self.config.size_multiple
        if image.ndim != 4 or image.shape[1] != 1 or any(n % multiple or n < 4 * multiple for n in image.shape[2:]):
            accepted = f"(B, 1, H, W) with H and W multiples of {multiple} from {4 * multiple} on"
            raise ValueError(f"image: got shape {tuple(image.shape)}, accepted is {accepted}")
        made: torch.Tensor = self.layers(image)
        return image + made if self.config.residual else made

    def start_as_identity(self) -> None:
        """A residual network that does not change anything yet."""
        for parameter in self.layers[-2].parameters():
            nn.init.zeros_(parameter)


class _Block(nn.Module):
    """Conv, norm, ReLU, conv, norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = [nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3)) for _ in range(2)]
        norms = [InstanceNorm(channels) for _ in range(2)]
        self.layers = nn.Sequential(convs[0], norms[0], nn.ReLU(True), convs[1], norms[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)
