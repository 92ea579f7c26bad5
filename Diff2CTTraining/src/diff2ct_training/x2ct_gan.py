"""X2CT-GAN: a generator that is told the volume and its projections, and that a patch discriminator has to believe (Ying et
al. 2019, 1905.06902)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import l1_loss, mse_loss

from diff2ct.networks import X2ctConfig
from diff2ct.networks.memory_format import channels_last
from diff2ct.networks.one_pass import spread
from diff2ct_training.adversarial import PatchDiscriminator, initialize, lsgan_loss
from diff2ct_training.method import Backward, bare, frozen
from diff2ct_training.volume_method import VolumeBatch, VolumeMethod
from diff2ct_training.volume_samples import VolumeRecipe

DISCRIMINATOR = "discriminator"


@dataclass(frozen=True, kw_only=True)
class X2ctGanRecipe(VolumeRecipe):
    """adversarial_weight (of the discriminator's own loss too), voxel_weight, projection_weight: of the losses, on volumes in
    [0, 1]. discriminator_widths: channels of its layers. betas: of Adam."""

    network: X2ctConfig
    discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)
    condition: str = "planes"
    slab: int | None = None
    adversarial_weight: float = 0.1
    voxel_weight: float = 10.0
    projection_weight: float = 10.0
    betas: tuple[float, float] = (0.5, 0.99)

    def method(self) -> X2ctGanMethod:
        return X2ctGanMethod(self)


class X2ctGanMethod(VolumeMethod):
    """The discriminator sees a volume with the X-rays spread along their rays, and judges it patch by patch."""

    recipe: X2ctGanRecipe

    def __init__(self, recipe: X2ctGanRecipe) -> None:
        super().__init__(recipe, recipe.network)
        self.networks[DISCRIMINATOR] = PatchDiscriminator(3, recipe.discriminator_widths, dims=3, padding=2)
        for network in self.networks.values():
            initialize(network)
            channels_last(network)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rate, betas = self.recipe.learning_rate, self.recipe.betas
        return [torch.optim.Adam(network.parameters(), lr=rate, betas=betas) for network in self.networks.values()]

    def training_step(self, batch: VolumeBatch, backward: Backward) -> dict[str, torch.Tensor]:
        assert isinstance(batch.condition, torch.Tensor)
        recipe, xrays = self.recipe, (spread(batch.condition) + 1) / 2
        real = (batch.x_0 + 1) / 2
        made = torch.where(batch.known, (self.network(batch.condition).float() + 1) / 2, real)
        with frozen(self.networks[DISCRIMINATOR]) as discriminator:
            terms = {
                "adversarial": lsgan_loss(discriminator(torch.cat([made, xrays], dim=1)), real=True),
                "voxel": mse_loss(made, real),
                "projection": torch.stack([l1_loss(made.mean(axis), real.mean(axis)) for axis in (2, 3, 4)]).mean(),
            }
            loss = (
                recipe.adversarial_weight * terms["adversarial"]
                + recipe.voxel_weight * terms["voxel"]
                + recipe.projection_weight * terms["projection"]
            )
            backward(loss)

        shown = torch.cat([real, made.detach()]), xrays.repeat(2, 1, 1, 1, 1)
        scores = self.networks[DISCRIMINATOR](torch.cat(shown, dim=1))
        of_real, of_made = scores.chunk(2)
        judged = (lsgan_loss(of_real, real=True) + lsgan_loss(of_made, real=False)) / 2
        backward(recipe.adversarial_weight * judged)
        return {"loss": loss, **terms, "discriminator": judged}

    def estimates(self, batch: VolumeBatch) -> list[torch.Tensor]:
        return [bare(self.network)(batch.condition)]
