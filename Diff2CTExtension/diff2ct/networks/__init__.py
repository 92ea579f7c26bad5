"""Denoisers by the name that a checkpoint stores, and the generator of a translator."""

from diff2ct.networks.resnet2d import ResNet2D, ResNet2DConfig
from diff2ct.networks.x2noisenet import X2NoiseNet, X2NoiseNetConfig

__all__ = ["NETWORKS", "ResNet2D", "ResNet2DConfig", "X2NoiseNet", "X2NoiseNetConfig"]

NETWORKS = {"x2noisenet": (X2NoiseNet, X2NoiseNetConfig)}
