"""CycleGAN (Zhu et al. 2017) between DRRs and real X-rays: its recipe, losses and one training step.

Two generators, two discriminators, least squares adversarial loss, cycle and identity losses, image pools; and an edge term, as
a generator may otherwise move a screw as long as its partner moves it back. B batch, S rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import l1_loss

from diff2ct.networks import ResNet2D, ResNet2DConfig
from diff2ct.networks.memory_format import channels_last
from diff2ct.translator import DIRECTIONS, Translator, check_size, load_translator, save_translator
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import AcquisitionConfig
from diff2ct_training.adversarial import PatchDiscriminator, initialize, lsgan_loss
from diff2ct_training.edge_loss import edge_loss
from diff2ct_training.image_pool import ImagePool
from diff2ct_training.method import Backward, Method, Weights, bare, frozen
from diff2ct_training.recipe import Recipe
from diff2ct_training.unpaired import Domain, UnpairedStream, UnpairedXrays

PREPARE_DRRS = "`diff2ct prepare --xrays N --recipe cyclegan` renders them"
PREPARE_FILMS = "`diff2ct films` makes them of X-ray files"


@dataclass(frozen=True, kw_only=True)
class CycleGanRecipe(Recipe):
    """films: folder of real X-rays that `diff2ct films` wrote. size: S, pixels along the longer side of an X-ray.

    generator, discriminator_widths: of both of each. pool_size: made images that each discriminator remembers.
    cycle_weight, identity_weight, edge_weight: of these losses beside the adversarial one.
    acquisition, grid: how `diff2ct prepare --xrays` renders the DRRs.
    """

    films: str = ""
    size: int = 256
    generator: ResNet2DConfig = field(default_factory=ResNet2DConfig)
    discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)
    pool_size: int = 50
    cycle_weight: float = 10.0
    identity_weight: float = 5.0
    edge_weight: float = 1.0
    betas: tuple[float, float] = (0.5, 0.999)
    acquisition: AcquisitionConfig = field(
        default_factory=lambda: AcquisitionConfig(ideal_detector=1.0, cube_only=0.0, detector_pixels=384)
    )
    grid: VolumeGrid = field(default_factory=VolumeGrid.centered)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self.size, self.generator)
        if self.activation_checkpointing:
            raise ValueError("activation_checkpointing: got True, accepted is False for these networks")

    def method(self) -> CycleGan:
        return CycleGan(self)


@dataclass(frozen=True, eq=False)
class StyleBatch:
    """`UnpairedXrays` stacked: drr, film, valid (B, 1, S, S); one seed each."""

    drr: torch.Tensor
    film: torch.Tensor
    valid: torch.Tensor
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Translated:
    """What both generators make of a batch, each (B, 1, S, S) and 0 where not valid.

    film_of_drr, drr_of_film: in the other style. drr_again, film_again: and back. drr_kept, film_kept: what the generator into
    a style makes of an image that has it already.
    """

    film_of_drr: torch.Tensor
    drr_of_film: torch.Tensor
    drr_again: torch.Tensor
    film_again: torch.Tensor
    drr_kept: torch.Tensor
    film_kept: torch.Tensor


class CycleGan(Method[UnpairedXrays, StyleBatch]):
    """networks: the generators, named as in `translator.DIRECTIONS`, and the discriminators "is_real" and "is_drr"."""

    averaged = DIRECTIONS

    def __init__(self, recipe: CycleGanRecipe) -> None:
        self.recipe = recipe
        self.networks = {direction: channels_last(ResNet2D(recipe.generator)) for direction in DIRECTIONS}
        self.networks |= {name: PatchDiscriminator(1, recipe.discriminator_widths) for name in ("is_real", "is_drr")}
        for network in self.networks.values():
            initialize(network)
            if isinstance(network, ResNet2D) and recipe.generator.residual:
                network.start_as_identity()
        self._pools = {name: ImagePool(recipe.pool_size, recipe.size) for name in ("is_real", "is_drr")}
        self.state = {f"{pool}/{name}": t for pool, p in self._pools.items() for name, t in p.tensors.items()}
        self._sources: dict[str, int] = {}

    def samples(self, folder: Path) -> UnpairedStream:
        recipe = self.recipe
        if not recipe.films:
            raise ValueError(f"films: the recipe {recipe.name!r} needs a folder of real X-rays; {PREPARE_FILMS}")
        drrs, films = Domain.of_folder(folder, PREPARE_DRRS), Domain.of_folder(Path(recipe.films), PREPARE_FILMS)
        self._sources = {"drrs": len(drrs), "films": len(films)}
        return UnpairedStream(drrs, films, recipe.size, recipe.num_steps * recipe.batch_size, recipe.seed)

    def validation_samples(self, folder: Path) -> Sequence[UnpairedXrays]:
        raise ValueError("validation: got cases, accepted are none: without pairs nothing tells which checkpoint is best")

    def collate(self, samples: Sequence[UnpairedXrays], device: torch.device) -> StyleBatch:
        drr, film, valid = (torch.stack([getattr(s, name) for s in samples]).to(device) for name in ("drr", "film", "valid"))
        return StyleBatch(drr, film, valid, tuple(s.seed for s in samples))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam([p for name in names for p in self.networks[name].parameters()], betas=self.recipe.betas)
            for names in (DIRECTIONS, ("is_real", "is_drr"))
        ]

    def training_step(self, batch: StyleBatch, backward: Backward) -> dict[str, torch.Tensor]:
        made = self.translate(batch)
        terms = self.generator_losses(batch, made)
        backward(terms["loss"])
        for name, real, fake in (("is_real", batch.film, made.film_of_drr), ("is_drr", batch.drr, made.drr_of_film)):
            scores_real, scores_fake = self.networks[name](torch.cat([real, self._from_pool(name, fake, batch.seeds)])).chunk(2)
            terms[name] = 0.5 * (lsgan_loss(scores_real, real=True) + lsgan_loss(scores_fake, real=False))
            backward(terms[name])
        return terms

    def translate(self, batch: StyleBatch) -> Translated:
        """Both generators on both styles, and on each other's results."""
        to_drr, to_real = (self.networks[direction] for direction in DIRECTIONS)
        film_of_drr, film_kept = _masked(to_real, batch.valid, batch.drr, batch.film)
        drr_of_film, drr_kept = _masked(to_drr, batch.valid, batch.film, batch.drr)
        (drr_again,) = _masked(to_drr, batch.valid, film_of_drr)
        (film_again,) = _masked(to_real, batch.valid, drr_of_film)
        return Translated(film_of_drr, drr_of_film, drr_again, film_again, drr_kept, film_kept)

    def generator_losses(self, batch: StyleBatch, made: Translated) -> dict[str, torch.Tensor]:
        """Loss terms by name, each of both directions together; "loss" is their weighted sum."""
        adversarial = torch.zeros((), device=batch.drr.device)
        for name, fake in (("is_real", made.film_of_drr), ("is_drr", made.drr_of_film)):
            with frozen(self.networks[name]) as discriminator:
                adversarial = adversarial + lsgan_loss(discriminator(fake), real=True)
        cycle = l1_loss(made.drr_again, batch.drr) + l1_loss(made.film_again, batch.film)
        identity = l1_loss(made.drr_kept, batch.drr) + l1_loss(made.film_kept, batch.film)
        edge = edge_loss(batch.drr, made.film_of_drr, batch.valid) + edge_loss(batch.film, made.drr_of_film, batch.valid)
        weights = self.recipe
        loss = adversarial + weights.cycle_weight * cycle + weights.identity_weight * identity + weights.edge_weight * edge
        return {"loss": loss, "adversarial": adversarial, "cycle": cycle, "identity": identity, "edge": edge}

    def _from_pool(self, name: str, made: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        """Made images of this and earlier steps. Every process keeps the same pool: that of a run with one process."""
        world, rank = self.fabric.world_size, self.fabric.global_rank
        made, numbers = made.detach().float(), torch.tensor(seeds)
        if world > 1:  # a step's samples are dealt out to the processes one by one
            made, numbers = (_dealt(torch.as_tensor(self.fabric.all_gather(t))) for t in (made, numbers))
        shown = self._pools[name].exchange(made, numbers.tolist())
        return shown[rank::world]

    def write_checkpoint(self, folder: Path, stem: str, weights: Mapping[str, Weights], provenance: dict[str, Any]) -> None:
        """`stem`_real_to_drr.safetensors and `stem`_drr_to_real.safetensors."""
        for direction in DIRECTIONS:
            network = ResNet2D(self.recipe.generator)
            network.load_state_dict(weights[direction])
            provenance = {**provenance, **self._sources, "edge_weight": self.recipe.edge_weight}
            translator = Translator(network=network, direction=direction, size=self.recipe.size, provenance=provenance)
            save_translator(folder / f"{stem}_{direction}.safetensors", translator)

    def load_checkpoint(self, path: Path) -> dict[str, Any]:
        """path: one of the two files, whose provenance is told; the other one must lie beside it."""
        start = load_translator(path)
        given = start.direction
        for direction in DIRECTIONS:
            found = load_translator(path.with_name(path.name.replace(given, direction)), direction=direction)
            if (found.network.config, found.size) != (self.recipe.generator, self.recipe.size):
                got, accepted = (
                    f"{found.network.config} for {found.size} pixels",
                    f"{self.recipe.generator}, {self.recipe.size}",
                )
                raise ValueError(f"start_from: {path} holds {got}, accepted is {accepted}")
            bare(self.networks[direction]).load_state_dict(found.network.state_dict())
        return {**start.provenance, "sha256": start.sha256}

    def picture(self, batch: StyleBatch) -> np.ndarray:
        """Above a DRR, the same as a film, and back; below a film, the same as a DRR, and back."""
        made = self.translate(batch)
        rows = ((batch.drr, made.film_of_drr, made.drr_again), (batch.film, made.drr_of_film, made.film_again))
        sheet = torch.cat([torch.cat([image[0, 0] for image in row], dim=1) for row in rows]).float()
        return ((sheet + 1) / 2).clamp(0, 1).cpu().numpy()


def _masked(generator: torch.nn.Module, valid: torch.Tensor, *images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """One pass of `generator` over several batches of images; its results are 0 where not valid."""
    made = generator(torch.cat(images).contiguous(memory_format=torch.channels_last)).float()
    return tuple(part * valid for part in made.chunk(len(images)))


def _dealt(gathered: torch.Tensor) -> torch.Tensor:
    """(processes, B, ...) -> (processes * B, ...) in the order of the samples."""
    return gathered.transpose(0, 1).flatten(0, 1)
