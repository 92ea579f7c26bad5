"""The generator of X2CT-GAN: two DenseNet encoders, a 3D decoder for each view and one that fuses them (Ying et al. 2019,
1905.06902).

B batch, C channels, N^3 voxels. Level l of encoder and decoder has N / 2^l pixels or voxels along each axis; the last level is
the bottleneck.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from diff2ct.networks.instance_norm import InstanceNorm
from diff2ct.networks.one_pass import FRONTAL, LATERAL, along_rays, from_volume, to_volume, view_image

VIEWS = (FRONTAL, LATERAL)
_BOTTLENECK = 4  # channels of a dense layer's 1 x 1 convolution per channel that it adds


@dataclass(frozen=True, kw_only=True)
class X2ctConfig:
    """size: N. width: channels after the encoder's first convolution. layers: of each dense block, after each halving.
    growth: channels that a dense layer adds. decoder_widths: channels at each level of the decoders, finest first.
    dropout: of connection A."""

    size: int = 128
    width: int = 64
    layers: tuple[int, ...] = (6, 12, 24, 16, 6)
    growth: int = 32
    decoder_widths: tuple[int, ...] = (16, 16, 32, 64, 128, 256)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(int(n) for n in self.layers))
        object.__setattr__(self, "decoder_widths", tuple(int(n) for n in self.decoder_widths))
        if not 1 <= len(self.layers) <= 6 or any(not 1 <= n <= 64 for n in self.layers):
            raise ValueError(f"layers: got {self.layers}, accepted are 1 to 6 counts of 1 to 64")
        if len(self.decoder_widths) != len(self.layers) + 1 or any(not 1 <= w <= 1024 for w in self.decoder_widths):
            accepted = f"{len(self.layers) + 1} counts of 1 to 1024, one more than layers"
            raise ValueError(f"decoder_widths: got {self.decoder_widths}, accepted are {accepted}")
        for name, value in (("width", self.width), ("growth", self.growth)):
            if not 1 <= value <= 512:
                raise ValueError(f"{name}: got {value}, accepted is 1 to 512")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: got {self.dropout}, accepted is 0 up to 1")
        least = 2 * self.size_multiple  # instance norm of a single pixel has no variance
        if self.size % self.size_multiple or not least <= self.size <= 512:
            raise ValueError(f"size: got {self.size}, accepted are multiples of {self.size_multiple} from {least} to 512")

    @property
    def size_multiple(self) -> int:
        """N must be a multiple of this."""
        return 2 ** len(self.layers)


class DenseLayer(nn.Module):
    """Channels that are added to what came in (Huang et al. 2017)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        narrow = _BOTTLENECK * growth
        self.grow = nn.Sequential(
            *_normed(channels), nn.Conv2d(channels, narrow, 1, bias=False),
            *_normed(narrow), nn.Conv2d(narrow, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.grow(x)], dim=1)


class X2ct(nn.Module):
    """ "planes" condition (B, 2, 1, 2 N, 2 N) -> (B, 1, N, N, N) in network units, at least -1. 61.7 million weights, N = 128.

    Connection A: the pooled code of a view becomes its coarsest volume through a fully connected layer. Connection B: each
    level of the encoder, repeated along the rays, joins the decoder. Connection C: the decoders' volumes are brought to one
    frame and averaged; the mean enters the fusion decoder and goes back into the decoder of either view. Where the paper leaves
    the number of convolutions open, there are as many as the size of its released generator leaves room for.
    """

    BLOCKS = (DenseLayer,)

    def __init__(self, config: X2ctConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleList(_Encoder(config) for _ in VIEWS)
        self.decoders = nn.ModuleList(_ViewDecoder(config) for _ in VIEWS)
        self.fusion = _FusionDecoder(config)
        self.leave = nn.Sequential(nn.Conv3d(config.decoder_widths[0], 1, 7, padding=3), nn.ReLU())

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        size = self.config.size
        images = [avg_pool2d(view_image(condition, view), 2) for view in VIEWS]
        if images[0].shape[2:] != (size, size):
            raise ValueError(f"condition: got planes of {tuple(condition.shape[3:])}, accepted is 2 x {size}")
        encoded = [encoder((image + 1) / 2) for encoder, image in zip(self.encoders, images, strict=True)]
        volumes, fused = [code for code, _ in encoded], None
        for level in reversed(range(len(self.config.decoder_widths))):
            skips = [per_level[level] for _, per_level in encoded]
            volumes = [decoder(level, *come) for decoder, *come in zip(self.decoders, volumes, skips, strict=True)]
            common = torch.stack([to_volume(volume, view) for volume, view in zip(volumes, VIEWS, strict=True)]).mean(0)
            fused = self.fusion(level, common, fused)
            volumes = [volume + from_volume(common, view) for volume, view in zip(volumes, VIEWS, strict=True)]
        return 2 * self.leave(fused) - 1


class _Encoder(nn.Module):
    """(B, 1, N, N) in [0, 1] -> its code (B, C), and its features at each level, finest first, none at the last."""

    def __init__(self, config: X2ctConfig) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(1, config.width, 7, bias=False), InstanceNorm(config.width), nn.ReLU()
        )
        self.stages = nn.ModuleList()
        channels = config.width
        for n, count in enumerate(config.layers, start=1):
            stage = [*_normed(channels), nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False)]
            for _ in range(count):
                stage.append(DenseLayer(channels, config.growth))
                channels += config.growth
            stage += _normed(channels)
            if n < len(config.layers):
                stage.append(nn.Conv2d(channels, channels // 2, 1, bias=False))
                channels //= 2
            self.stages.append(nn.Sequential(*stage))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        h = self.enter(image)
        skips: list[torch.Tensor | None] = []
        for stage in self.stages:
            skips.append(h)
            h = stage(h)
        return h.mean((2, 3)), [*skips, None]


class _ViewDecoder(nn.Module):
    """Volumes (B, C, along the ray, k, across) of one view."""

    def __init__(self, config: X2ctConfig) -> None:
        super().__init__()
        widths, channels = config.decoder_widths, encoder_channels(config)
        self._coarsest = config.size // 2 ** len(config.layers)
        self.connect = nn.Sequential(  # connection A
            nn.Linear(channels[-1], widths[-1] * self._coarsest**3), nn.Dropout(config.dropout), nn.ReLU()
        )
        self.flat = nn.ModuleList(  # connection B, before and after it is repeated along the rays
            nn.Sequential(nn.Conv2d(c, w, 1, bias=False), InstanceNorm(w), nn.ReLU())
            for c, w in zip(channels[:-1], widths, strict=False)
        )
        self.deep = nn.ModuleList(_conv(w, w) for w in widths[:-1])
        self.grow = nn.ModuleList(_grow(wider, w) for w, wider in pairwise(widths))
        self.merge = nn.ModuleList(nn.Sequential(_conv(2 * w, w), _conv(w, w), _conv(w, w)) for w in widths[:-1])

    def forward(self, level: int, coarser: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        """The volume at `level`, of the coarser one and the encoder's features there; the first one of the code alone."""
        if skip is None:
            return self.connect(coarser).unflatten(1, (-1, *(self._coarsest,) * 3))
        looked = self.deep[level](along_rays(self.flat[level](skip), skip.shape[-1]))
        return self.merge[level](torch.cat([self.grow[level](coarser), looked], dim=1))


class _FusionDecoder(nn.Module):
    """Volumes (B, C, k, j, i) of both views together."""

    def __init__(self, config: X2ctConfig) -> None:
        super().__init__()
        widths = config.decoder_widths
        self.grow = nn.ModuleList(_grow(wider, w) for w, wider in pairwise(widths))
        self.start = _conv(widths[-1], widths[-1])

    def forward(self, level: int, common: torch.Tensor, coarser: torch.Tensor | None) -> torch.Tensor:
        return self.start(common) if coarser is None else common + self.grow[level](coarser)


def encoder_channels(config: X2ctConfig) -> list[int]:
    """Of the encoder's features at each level, finest first; the last is the code's."""
    channels = [config.width]
    for count in config.layers:
        channels.append((channels[-1] + count * config.growth) // 2)
    channels[-1] = channels[-2] + config.layers[-1] * config.growth
    return channels


def _normed(channels: int) -> list[nn.Module]:
    return [InstanceNorm(channels), nn.ReLU()]


def _conv(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(channels, out_channels, 3, padding=1, bias=False), InstanceNorm(out_channels), nn.ReLU())


def _grow(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose3d(channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False),
        InstanceNorm(out_channels),
        nn.ReLU(),
    )
