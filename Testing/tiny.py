"""The smallest things that go through the whole path: a body of 16^3 voxels, its radiographs, an untrained checkpoint."""

from __future__ import annotations

import numpy as np
import torch

from diff2ct.checkpoint import Checkpoint
from diff2ct.diffusion import Diffusion
from diff2ct.geometry import ConeBeam, View
from diff2ct.networks import ResNet2D, ResNet2DConfig, X2NoiseNet, X2NoiseNetConfig
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.translator import Translator
from diff2ct.uncertainty import PRIOR_CELLS, PROBABILITIES, Calibration
from diff2ct.units import HuMap, hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid

GRID = VolumeGrid.centered(16, 16.0)
CONE = {
    "source_to_detector_mm": 1000.0,
    "source_to_isocenter_mm": 800.0,
    "detector_spacing_mm": (8.0, 8.0),
    "detector_size": (50, 50),
}


def tiny_body(grid: VolumeGrid = GRID) -> CtVolume:
    """An asymmetric piece of water with a dense spot on the left."""
    k, j, i = np.indices(grid.size)
    hu = np.where((k - 7.5) ** 2 / 60 + (j - 7) ** 2 / 20 + (i - 8) ** 2 / 40 < 1, 0.0, -1000.0)
    hu[8, 7, 11] = 1500
    return CtVolume(hu, grid)


def tiny_radiographs(
    ct: CtVolume, isocenter_lps: tuple[float, float, float] = (0.0, 0.0, 0.0), views: tuple[View, ...] = (View.AP, View.LL)
) -> list[Radiograph]:
    pair = []
    for view in views:
        beam = ConeBeam.from_view(view, isocenter_lps=isocenter_lps, **CONE)
        image = project(hu_to_mu(torch.from_numpy(ct.hu)), ct.grid, beam)
        pair.append(Radiograph(image.numpy(), beam, scale_known=True, source=f"{view.value}.test"))
    return pair


def tiny_checkpoint() -> Checkpoint:
    """Random weights from a fixed seed."""
    torch.manual_seed(3)
    network = X2NoiseNet(X2NoiseNetConfig(condition_channels=13, widths=(8, 16), blocks=(1, 1)))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Checkpoint(
        network=network.eval().requires_grad_(False),
        network_name="x2noisenet",
        diffusion=Diffusion(prediction="v"),
        hu_map=HuMap("asinh", 250.0),
        condition="geometric",
        grid=GRID,
        provenance={"recipe": "test", "steps": 0},
    )


def tiny_calibration() -> Calibration:
    """600 HU off everywhere."""
    return Calibration(
        hu_knots=(-1000.0, 1000.0),
        sd_knots=(0.0, 200.0),
        error_hu=((600.0, 600.0),) * 2,
        single_error_hu=(600.0, 600.0),
        quantiles=(tuple(float(p) for p in range(len(PROBABILITIES))),) * 2,
        prior_sd_hu=(((900.0,) * PRIOR_CELLS,) * PRIOR_CELLS,) * PRIOR_CELLS,
        bounds={},
        num_cases=3,
        num_samples=2,
        num_steps=2,
    )


def tiny_translator(direction: str = "real_to_drr") -> Translator:
    """Random weights from a fixed seed, for X-rays of 32 pixels."""
    torch.manual_seed(0)
    network = ResNet2D(ResNet2DConfig(width=4, num_blocks=2)).eval().requires_grad_(False)
    return Translator(network=network, direction=direction, size=32, provenance={"recipe": "test", "steps": 0})


def line_integrals(num_views: int = 2, height: int = 48, width: int = 40) -> torch.Tensor:
    """(V, H, W) in 0..6: air at the sides, a round trunk, a denser column."""
    column = torch.linspace(-1.2, 1.2, width)
    trunk = 4.5 * (1 - column.square()).clamp(min=0).sqrt()
    spine = 1.5 * torch.exp(-((column / 0.1) ** 2))
    row = 1 + 0.1 * torch.linspace(-1, 1, height)
    return torch.stack([(trunk + spine) * row[:, None] * (1 + 0.05 * v) for v in range(num_views)])
