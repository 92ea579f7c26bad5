"""Named training runs: each a function that returns everything a run needs. The command line changes only what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from diff2ct.condition import VIEW_CHANNELS
from diff2ct.diffusion import PAPER, Diffusion, Sampling
from diff2ct.networks import Cnn3dConfig, PsrConfig, X2ctConfig, X2NoiseNetConfig
from diff2ct.units import HuMap
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import AcquisitionConfig
from diff2ct_training.cyclegan import CycleGanRecipe
from diff2ct_training.denoiser import DenoiserRecipe
from diff2ct_training.distillation import DistillationRecipe
from diff2ct_training.recipe import Recipe
from diff2ct_training.regressor import RegressorRecipe
from diff2ct_training.x2ct_gan import X2ctGanRecipe


def default() -> DenoiserRecipe:
    """Views encoded in 2D, wavelet net, x_0, zero terminal SNR, asinh HU; whole cubes, which cost a CPU 1.6 times what slabs of
    half the height do. Made for CPUs and small GPUs."""
    return DenoiserRecipe(
        name="default",
        network=X2NoiseNetConfig(
            condition_channels=VIEW_CHANNELS,
            widths=(32, 64, 96, 96),
            blocks=(1, 2, 1, 1),
            down_blocks=(0, 1, 1, 1),
            view_widths=(16, 48, 96, 128, 128),
        ),
        diffusion=Diffusion(schedule="cosine", zero_terminal_snr=True, prediction="x_0"),
        sampling=Sampling(sampler="renoise", num_steps=4),
        hu_map=HuMap("asinh"),
        acquisition=AcquisitionConfig(fan_share=0.2),
        optimizer="muon",
        learning_rate=1e-3,
        time_power=2.0,
        loss_weight_limit=1.5,
        projection_weight=1.0,
        body_window_weight=3.0,
        metal_window_weight=5.0,
        slab=None,
    )


def distilled() -> DistillationRecipe:
    """A student of the embedded checkpoint, or of another one, that is sampled in 4 steps: each is told 4 of its teacher's."""
    teachers = default()
    same: dict[str, Any] = {field.name: getattr(teachers, field.name) for field in fields(teachers)}
    different = {"name": "distilled", "num_steps": 4_000, "learning_rate": 3e-4, "time_power": 1.0}
    return DistillationRecipe(**{**same, **different})


def paper() -> DenoiserRecipe:
    """arXiv 2408.09731 as far as it says: eps, 1e-7..1e-2, T = 1000, added views, 128^3 pixels, Adam 2e-4, batch 1, 1000
    epochs of 212 cases, projection loss, sampled in 1000 ancestral steps.

    Not in the paper and chosen here: base width 64 with multipliers 1, 2, 2, 4, 4, two blocks per level, no attention, "mean"
    projections, averaged weights, bf16, and where the isocentre lies.
    """
    return DenoiserRecipe(
        name="paper",
        network=X2NoiseNetConfig(
            condition_channels=1, haar_levels=0, widths=(64, 128, 128, 256, 256), blocks=(2, 2, 2, 2, 2), attention=False
        ),
        diffusion=PAPER,
        sampling=Sampling(sampler="ddpm", num_steps=1000),
        hu_map=HuMap("linear"),
        condition="added",
        acquisition=AcquisitionConfig(
            cube_only=1.0, angle_sd_deg=0.0, pose_error_deg=0.0, pose_error_mm=0.0, detector_strength=0.0, bone_gain=(1.0, 1.0)
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


def psr() -> RegressorRecipe:
    """PSR of one view, the frontal (Henzler et al. 2018), in the size that X2CT-GAN's paper compares with; least squares."""
    return RegressorRecipe(name="psr", network=PsrConfig(), batch_size=4)


def psr_averaged() -> RegressorRecipe:
    """PSR of both views: the mean of the two volumes."""
    return replace(psr(), name="psr-averaged", network=PsrConfig(views="averaged"))


def cnn3d() -> RegressorRecipe:
    """3DCNN (Kasten et al. 2020) with HU for bone classes: least squares and the correlation of the X-rays' gradients."""
    return RegressorRecipe(name="cnn3d", network=Cnn3dConfig(), correlation_weight=0.05)


def x2ct_gan() -> X2ctGanRecipe:
    """X2CT-GAN (Ying et al. 2019), its losses, rates and batch; as many steps as its 100 epochs of 916 scans."""
    return X2ctGanRecipe(
        name="x2ct-gan",
        network=X2ctConfig(),
        num_steps=23_000,
        batch_size=4,
        learning_rate=2e-4,
        learning_rate_decay="linear",
        warmup_steps=0,
        ema_decay=0.0,
        gradient_clip=0.0,
    )


def cyclegan() -> CycleGanRecipe:
    """CycleGAN (Zhu et al. 2017) between DRRs and real X-rays, whole images of 256 pixels, without crop and flip; with an edge
    term. Its 200 epochs of 500 films."""
    return CycleGanRecipe(
        name="cyclegan",
        num_steps=100_000,
        learning_rate=2e-4,
        learning_rate_decay="linear",
        warmup_steps=0,
        gradient_clip=0.0,
    )


def debug() -> DenoiserRecipe:
    """`default` made tiny: two steps take seconds. It learns nothing; it proves that the whole path runs."""
    return replace(
        default(),
        name="debug",
        network=X2NoiseNetConfig(condition_channels=VIEW_CHANNELS, widths=(8, 16), blocks=(1, 1), view_widths=(8, 8)),
        grid=VolumeGrid.centered(16, 16.0),
        acquisition=AcquisitionConfig(detector_pixels=24),
        slab=8,
        num_steps=2,
        warmup_steps=0,
        precision="32-true",  # torch 2.13: wrong bf16 gradients of conv3d on CPUs where a volume is two planes deep, as here
        save_every=1,
        picture_every=2,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "default": default,
    "paper": paper,
    "psr": psr,
    "psr-averaged": psr_averaged,
    "cnn3d": cnn3d,
    "x2ct-gan": x2ct_gan,
    "cyclegan": cyclegan,
    "distilled": distilled,
    "debug": debug,
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; ValueError if there is none."""
    if name not in RECIPES:
        raise ValueError(f"recipe: got {name!r}, accepted are {', '.join(RECIPES)}")
    return RECIPES[name]()
