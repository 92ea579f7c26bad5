"""Networks that regress the volume in one pass: PSR and 3DCNN."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diff2ct.networks import Cnn3dConfig, PsrConfig
from diff2ct.units import hu_to_mu
from diff2ct_training.losses import gradient_correlation, weighted_mse
from diff2ct_training.method import Backward, bare
from diff2ct_training.volume_method import VolumeBatch, VolumeMethod
from diff2ct_training.volume_samples import VolumeRecipe

RAY_AXES = (3, 4)
"""Of (B, 1, D, H, W): frontal X-rays run along H, lateral ones along W."""


@dataclass(frozen=True, kw_only=True)
class RegressorRecipe(VolumeRecipe):
    """correlation_weight: of 1 - gradient correlation between the X-rays of the estimate and of the truth, along the axes
    (Kasten et al. 2020 correlate with the input X-rays; these show the whole body, by diverging rays)."""

    network: PsrConfig | Cnn3dConfig
    condition: str = "planes"
    slab: int | None = None
    correlation_weight: float = 0.0

    def method(self) -> RegressorMethod:
        return RegressorMethod(self)


class RegressorMethod(VolumeMethod):
    """Least squares against the true volume, in network units."""

    recipe: RegressorRecipe

    def __init__(self, recipe: RegressorRecipe) -> None:
        super().__init__(recipe, recipe.network)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.network.parameters(), lr=self.recipe.learning_rate)]

    def training_step(self, batch: VolumeBatch, backward: Backward) -> dict[str, torch.Tensor]:
        estimate = self.network(batch.condition).float()
        mse = weighted_mse(estimate - batch.x_0, estimate.new_ones(len(estimate)), batch.known)
        terms = {"loss": mse, "mse": mse}
        if self.recipe.correlation_weight > 0:
            terms["correlation"] = self._correlation(torch.where(batch.known, estimate, batch.x_0), batch.x_0)
            terms["loss"] = mse + self.recipe.correlation_weight * (1 - terms["correlation"])
        backward(terms["loss"])
        return terms

    def estimates(self, batch: VolumeBatch) -> list[torch.Tensor]:
        return [bare(self.network)(batch.condition)]

    def _correlation(self, estimate: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        mu = [hu_to_mu(self.recipe.hu_map.to_hu(x)) for x in (estimate, truth)]
        return torch.stack([gradient_correlation(*(m.mean(axis)[:, 0] for m in mu)) for axis in RAY_AXES]).mean()
