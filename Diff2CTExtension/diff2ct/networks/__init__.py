"""Networks by the name that a checkpoint stores."""

from diff2ct.networks.x2noisenet import X2NoiseNet, X2NoiseNetConfig

NETWORKS = {"x2noisenet": (X2NoiseNet, X2NoiseNetConfig)}
