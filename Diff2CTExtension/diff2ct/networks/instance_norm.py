"""Instance normalisation (Ulyanov et al. 2016) whose gradient is right in every memory format."""

from __future__ import annotations

from torch import nn


class InstanceNorm(nn.GroupNorm):
    """(B, C, ...) -> each channel of each sample with zero mean and unit variance. No parameters.

    As group normalisation with one channel per group: nn.InstanceNorm2d and 3d return a wrong gradient for a batch of one if
    the gradient that they are given is channels-last (torch 2.13 on the CPU).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, affine=False)
