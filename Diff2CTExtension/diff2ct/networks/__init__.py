"""Networks by the name that a checkpoint stores, and the generator of a translator."""

from diff2ct.networks.cnn3d import Cnn3d, Cnn3dConfig
from diff2ct.networks.psr import Psr, PsrConfig
from diff2ct.networks.resnet2d import ResNet2D, ResNet2DConfig
from diff2ct.networks.x2ct import X2ct, X2ctConfig
from diff2ct.networks.x2noisenet import X2NoiseNet, X2NoiseNetConfig

__all__ = [
    "NETWORKS",
    "Cnn3d",
    "Cnn3dConfig",
    "OnePassConfig",
    "Psr",
    "PsrConfig",
    "ReconstructionNetwork",
    "ResNet2D",
    "ResNet2DConfig",
    "X2NoiseNet",
    "X2NoiseNetConfig",
    "X2ct",
    "X2ctConfig",
]

ReconstructionNetwork = X2NoiseNet | Psr | Cnn3d | X2ct
"""A denoiser, or a network that reconstructs in one pass."""
OnePassConfig = PsrConfig | Cnn3dConfig | X2ctConfig

NETWORKS: dict[str, tuple[type[ReconstructionNetwork], type]] = {
    "x2noisenet": (X2NoiseNet, X2NoiseNetConfig),
    "psr": (Psr, PsrConfig),
    "cnn3d": (Cnn3d, Cnn3dConfig),
    "x2ct-gan": (X2ct, X2ctConfig),
}
"""(class, config)."""
