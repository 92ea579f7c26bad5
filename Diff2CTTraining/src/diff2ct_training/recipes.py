"""Named training runs: each a function that returns everything a run needs. The command line changes only what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from diff2ct.condition import VIEW_CHANNELS, condition_channels
from diff2ct.diffusion import PAPER, Diffusion
from diff2ct.networks import X2NoiseNetConfig
from diff2ct.units import HuMap
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import AcquisitionConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """num_steps: optimiser steps. optimizer: "adamw", or "muon" (see `muon`) with AdamW for scales and biases.
    learning_rate: after `warmup_steps`, then a cosine down to a twentieth ("constant": stays).
    time_power: see `denoiser.draw_noise`. loss_weight_limit: see `denoiser`. projection_weight, projection_reduction: see
    `losses.axis_projection_loss`.
    body_window_weight: of the squared error inside [-200, 800] HU, see `denoiser.body_window`.
    slab: axial planes trained at a time, None for the whole cube. uses: samples made of one acquisition in a row, where X-rays
        are rendered while training (none are stored): that costs a CPU as much as a step.
    ct_share: share of samples from CTs where both CTs and phantoms are given. save_every, picture_every: in steps.
    """

    name: str
    network: X2NoiseNetConfig
    diffusion: Diffusion
    hu_map: HuMap
    condition: str = "views"
    grid: VolumeGrid = field(default_factory=VolumeGrid.centered)
    acquisition: AcquisitionConfig = field(default_factory=AcquisitionConfig)
    slab: int | None = 64
    uses: int = 3
    num_steps: int = 20_000
    batch_size: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 3e-4
    learning_rate_decay: str = "cosine"
    warmup_steps: int = 200
    weight_decay: float = 0.0
    ema_decay: float = 0.999
    gradient_clip: float = 1.0
    time_power: float = 1.0
    loss_weight_limit: float = 5.0
    projection_weight: float = 0.0
    projection_reduction: str = "mean"
    body_window_weight: float = 0.0
    ct_share: float = 0.5
    precision: str = "bf16-mixed"
    seed: int = 0
    save_every: int = 500
    picture_every: int = 1000

    def __post_init__(self) -> None:
        if self.network.condition_channels != condition_channels(self.condition):
            raise ValueError(
                f"network.condition_channels: got {self.network.condition_channels} for condition {self.condition!r}"
            )
        if self.learning_rate_decay not in ("cosine", "constant"):
            raise ValueError(f"learning_rate_decay: got {self.learning_rate_decay!r}, accepted are 'cosine' and 'constant'")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer: got {self.optimizer!r}, accepted are 'adamw' and 'muon'")
        for name in ("num_steps", "batch_size", "save_every", "picture_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted is 1 or more")


def default() -> Recipe:
    """Views encoded in 2D, wavelet net, x_0, zero terminal SNR, asinh HU; slabs of 64 planes. Made for CPUs and small GPUs."""
    return Recipe(
        name="default",
        network=X2NoiseNetConfig(
            condition_channels=VIEW_CHANNELS,
            widths=(32, 64, 96, 96),
            blocks=(1, 2, 1, 1),
            down_blocks=(0, 1, 1, 1),
            view_widths=(16, 48, 96, 128, 128),
        ),
        diffusion=Diffusion(schedule="cosine", zero_terminal_snr=True, prediction="x_0"),
        hu_map=HuMap("asinh"),
        optimizer="muon",
        learning_rate=1e-3,
        time_power=5.0,
        loss_weight_limit=1.5,
        projection_weight=1.0,
        body_window_weight=3.0,
    )


def paper() -> Recipe:
    """arXiv 2408.09731 as far as it says: eps, 1e-7..1e-2, T = 1000, added views, 128^3 pixels, Adam 2e-4, batch 1, projection
    loss.

    Not in the paper and chosen here: base width 64 with multipliers 1, 2, 2, 4, 4, two blocks per level, "mean" projections.
    """
    return Recipe(
        name="paper",
        network=X2NoiseNetConfig(
            condition_channels=1, haar_levels=0, widths=(64, 128, 128, 256, 256), blocks=(2, 2, 2, 2, 2), attention=False
        ),
        diffusion=PAPER,
        hu_map=HuMap("linear"),
        condition="added",
        acquisition=AcquisitionConfig(
            cube_only=1.0, angle_sd_deg=0.0, pose_error_deg=0.0, pose_error_mm=0.0, detector_strength=0.0
        ),
        slab=None,
        num_steps=212_000,
        learning_rate=2e-4,
        learning_rate_decay="constant",
        warmup_steps=0,
        gradient_clip=0.0,
        projection_weight=1.0,
        ema_decay=0.9999,
    )


def debug() -> Recipe:
    """`default` made tiny: two steps take seconds. It learns nothing; it proves that the whole path runs."""
    base = default()
    return Recipe(**{
        **vars(base),
        "name": "debug",
        "network": X2NoiseNetConfig(
            condition_channels=VIEW_CHANNELS, widths=(8, 16), blocks=(1, 1), view_widths=(8, 8)
        ),
        "grid": VolumeGrid.centered(16, 16.0),
        "acquisition": AcquisitionConfig(detector_pixels=24),
        "slab": 8,
        "num_steps": 2,
        "warmup_steps": 0,
        "save_every": 1,
        "picture_every": 2,
    })  # fmt: skip


RECIPES: dict[str, Callable[[], Recipe]] = {"default": default, "paper": paper, "debug": debug}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; ValueError if there is none."""
    if name not in RECIPES:
        raise ValueError(f"recipe: got {name!r}, accepted are {', '.join(RECIPES)}")
    return RECIPES[name]()
