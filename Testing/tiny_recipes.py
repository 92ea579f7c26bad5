"""Every recipe that makes volumes, in a size that trains in seconds. As a program: train one, in several processes.

python Testing/tiny_recipes.py RECIPE CASES OUTPUT STRATEGY DEVICES [STEPS SAVE_EVERY]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from diff2ct.checkpoint import Checkpoint, save_checkpoint
from diff2ct.networks import Cnn3dConfig, PsrConfig, X2ctConfig, X2NoiseNet, X2NoiseNetConfig
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import AcquisitionConfig
from diff2ct_training.distillation import DistillationRecipe
from diff2ct_training.loop import make_fabric, train
from diff2ct_training.recipes import recipe_named
from diff2ct_training.volume_samples import VolumeRecipe

GRID = VolumeGrid.centered(16, 16.0)
NETWORKS = {
    "default": X2NoiseNetConfig(condition_channels=6, widths=(8, 16), blocks=(1, 1), view_widths=(8, 8)),
    "distilled": X2NoiseNetConfig(condition_channels=6, widths=(8, 16), blocks=(1, 1), view_widths=(8, 8)),
    "paper": X2NoiseNetConfig(condition_channels=1, haar_levels=0, widths=(8, 8), blocks=(1, 1), attention=False),
    "psr": PsrConfig(size=16, width=8, down_blocks=(1, 1)),
    "psr-averaged": PsrConfig(size=16, width=8, down_blocks=(1, 1), views="averaged"),
    "cnn3d": Cnn3dConfig(widths=(8, 16), convs=(1, 2)),
    "x2ct-gan": X2ctConfig(size=16, width=8, layers=(2, 2), growth=4, decoder_widths=(4, 8, 8), dropout=0.0),
}


def tiny_recipe(name: str, **changes) -> VolumeRecipe:
    """The recipe of that name as small as it goes, two steps of it; changes: fields to set otherwise."""
    recipe = recipe_named(name)
    assert isinstance(recipe, VolumeRecipe)
    smaller: dict[str, Any] = {"discriminator_widths": (8, 16)} if name == "x2ct-gan" else {}
    if name == "distilled":
        smaller = {"teacher": tiny_teacher(), "teacher_steps": 2}
    small = replace(
        recipe,
        network=NETWORKS[name],
        grid=GRID,
        acquisition=AcquisitionConfig(detector_pixels=24),
        slab=None,
        num_steps=2,
        batch_size=1,
        warmup_steps=0,
        precision="32-true",
        save_every=2,
        picture_every=2,
        **smaller,
    )
    return replace(small, **changes)


@cache
def tiny_teacher() -> str:
    """The checkpoint of an untrained denoiser that the tiny distillation is taught by; the same weights in every process."""
    file = Path(_SCRATCH.name) / "teacher.safetensors"
    recipe = recipe_named("distilled")
    assert isinstance(recipe, DistillationRecipe)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        network = X2NoiseNet(NETWORKS["distilled"])
        torch.nn.init.normal_(network.leave.weight, std=0.1)  # a new network returns zeros
    taught = {"diffusion": recipe.diffusion, "hu_map": recipe.hu_map, "condition": recipe.condition}
    provenance = {"recipe": "test", "steps": 7}
    save_checkpoint(file, Checkpoint(network=network, network_name="x2noisenet", grid=GRID, provenance=provenance, **taught))
    return str(file)


def main(name: str, cases: str, output: str, strategy: str, devices: str, steps: str = "3", save_every: str = "3") -> None:
    changes = {"num_steps": int(steps), "save_every": int(save_every), "picture_every": int(steps)}
    recipe = tiny_recipe(name, **{**IN_PROCESSES, **changes})
    fabric = make_fabric(recipe, Path(output), "cpu", devices=int(devices), strategy=strategy)
    fabric.launch()
    train(recipe, Path(cases), Path(output), fabric=fabric)


_SCRATCH = tempfile.TemporaryDirectory(prefix="diff2ct-tiny-")
"""Until the program ends."""
IN_PROCESSES = {"num_steps": 3, "batch_size": 2, "save_every": 3, "picture_every": 3}
"""What `main` trains unless told otherwise."""

if __name__ == "__main__":
    main(*sys.argv[1:])
