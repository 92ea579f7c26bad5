"""Small stand-ins: a body that projects in milliseconds and a model that samples in milliseconds.

The model is untrained: it tests the path, not the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct.checkpoint import Checkpoint, save_checkpoint
from diff2ct.condition import condition_channels
from diff2ct.diffusion import Diffusion
from diff2ct.networks import X2NoiseNet, X2NoiseNetConfig
from diff2ct.units import HuMap
from diff2ct.volume import CtVolume, VolumeGrid

SMALL_GRID = VolumeGrid.centered(32, 8.0)


@pytest.fixture(scope="session")
def small_grid() -> VolumeGrid:
    """As large as the model grid, 32^3 voxels."""
    return SMALL_GRID


@pytest.fixture(scope="session")
def trunk() -> CtVolume:
    """An upright elliptic cylinder of soft tissue, 200 x 150 mm, with a bone rod of 36 mm behind its axis and 400 mm tall."""
    grid = VolumeGrid.centered((100, 60, 70), 4.0)
    x, y = np.meshgrid(np.arange(70) * 4.0 - 138, np.arange(60) * 4.0 - 118)
    section = np.where((x / 100) ** 2 + (y / 75) ** 2 < 1, 40.0, -1000.0)
    section[x**2 + (y - 40) ** 2 < 18**2] = 500.0
    height = np.linspace(0.9, 1.1, 100)[:, None, None]  # bone gets denser toward the feet: the views share this profile
    return CtVolume(np.where(section > 100, section * height, section), grid)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained denoiser for `SMALL_GRID`."""
    torch.manual_seed(0)
    config = X2NoiseNetConfig(condition_channels=condition_channels("geometric"), widths=(8, 8), blocks=(1, 1), attention=False)
    network = X2NoiseNet(config)
    with torch.no_grad():
        for weight in network.parameters():  # some start at zero, and a constant volume would test nothing
            weight += 0.05 * torch.randn_like(weight)
    checkpoint = Checkpoint(
        network=network, network_name="x2noisenet", diffusion=Diffusion(), hu_map=HuMap(), condition="geometric",
        grid=SMALL_GRID, provenance={"recipe": "untrained, for tests"},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, checkpoint)
    return path
