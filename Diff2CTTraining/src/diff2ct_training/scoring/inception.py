"""Inception-v3 features of slices, for FID and KID. The network is given as a local file; nothing is ever downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

INCEPTION_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
HOW_TO_GET = (
    "FID and KID need Inception-v3 of 2015-12-05 as TorchScript, 96 MB: "
    f"fetch {INCEPTION_URL} once and give the file with --inception"
)
BATCH = 64


class Inception:
    """2048 features (pool3) of each slice. The file scales images to 299 x 299 itself, as the TensorFlow original does."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        if not path.is_file():
            raise ValueError(f"--inception: {path} does not exist. {HOW_TO_GET}")
        try:
            self._network = torch.jit.load(str(path), map_location=device).eval()
        except RuntimeError as error:
            raise ValueError(f"--inception: {path} is not a TorchScript file. {HOW_TO_GET}") from error
        self._device = device

    @torch.inference_mode()
    def __call__(self, slices: Tensor) -> np.ndarray:
        """(N, rows, columns) on [0, 1] -> (N, F) float32. The network sees 8-bit images with three equal channels."""
        images = (slices * 255).round().to(torch.uint8)[:, None].expand(-1, 3, -1, -1)
        parts = [self._network(part.to(self._device), return_features=True).float().cpu() for part in images.split(BATCH)]
        return torch.cat(parts).numpy()
