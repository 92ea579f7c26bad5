"""What all methods have in common that reconstruct a volume from two X-rays: data, pictures, scores and checkpoints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diff2ct.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from diff2ct.diffusion import Diffusion, Sampling
from diff2ct.networks import NETWORKS
from diff2ct.networks.memory_format import channels_last
from diff2ct_training.acquisitions import CUBE_ONLY
from diff2ct_training.activations import recompute
from diff2ct_training.cases import describe_case, list_cases
from diff2ct_training.lineage import ORIGINS
from diff2ct_training.method import Method, Weights, bare
from diff2ct_training.pairs import Pair, batch_of
from diff2ct_training.pictures import mid_planes
from diff2ct_training.volume_samples import VolumeRecipe, VolumeSample, VolumeSamples, validation_samples

GENERATOR = "network"
"""The network that reconstructs, among `networks`."""


@dataclass(frozen=True, eq=False)
class VolumeBatch(Pair):
    """A `Pair` with one more axis in front, and the noise seed of each sample."""

    seeds: tuple[int, ...]


class VolumeMethod(Method[VolumeSample, VolumeBatch]):
    """config: of one of `NETWORKS`. diffusion: None for a network that reconstructs in one pass."""

    averaged = (GENERATOR,)

    def __init__(
        self, recipe: VolumeRecipe, config: Any, diffusion: Diffusion | None = None, sampling: Sampling | None = None
    ) -> None:
        self.recipe, self._config, self._diffusion, self._sampling = recipe, config, diffusion, sampling or Sampling()
        self._network_name = next(name for name, (_, kind) in NETWORKS.items() if isinstance(config, kind))
        network = channels_last(NETWORKS[self._network_name][0](config))
        if recipe.activation_checkpointing:
            recompute(network, *network.BLOCKS)
        self.networks = {GENERATOR: network}
        self._sources: dict[str, Any] = {}

    @property
    def network(self) -> nn.Module:
        return self.networks[GENERATOR]

    @abstractmethod
    def estimates(self, batch: VolumeBatch) -> list[torch.Tensor]:
        """Reconstructions (B, 1, D, H, W) of a batch in network units, the best one last."""

    def samples(self, folder: Path) -> VolumeSamples:
        samples = VolumeSamples(self.recipe, folder)
        cases = [describe_case(file) for file in list_cases(folder, "train")]
        cts = [case for case in cases if case["kind"] == "ct"]
        self._sources = {
            "phantoms": sum(case["kind"] == "phantom" for case in cases),
            "cts": sorted({case["source"] for case in cts}),
            ORIGINS: sorted({case["record"]["source_sha256"] for case in cts if "source_sha256" in case.get("record", {})}),
        }
        if samples.renders:
            self._sources[CUBE_ONLY] = self.recipe.acquisition.cube_only
        return samples

    def validation_samples(self, folder: Path) -> list[VolumeSample]:
        return validation_samples(self.recipe, list_cases(folder, "val"))

    def collate(self, samples: Sequence[VolumeSample], device: torch.device | str) -> VolumeBatch:
        pair = batch_of([sample.pair for sample in samples], device)
        return VolumeBatch(pair.condition, pair.x_0, pair.known, tuple(sample.seed for sample in samples))

    def write_checkpoint(self, folder: Path, stem: str, weights: Mapping[str, Weights], provenance: dict[str, Any]) -> None:
        network = NETWORKS[self._network_name][0](self._config)
        network.load_state_dict(weights[GENERATOR])
        recipe = self.recipe
        checkpoint = Checkpoint(
            network=network,
            network_name=self._network_name,
            diffusion=self._diffusion,
            hu_map=recipe.hu_map,
            condition=recipe.condition,
            grid=recipe.grid,
            sampling=self._sampling,
            provenance={**provenance, **self._sources},
        )
        save_checkpoint(folder / f"{stem}.safetensors", checkpoint)

    def load_checkpoint(self, path: Path) -> dict[str, Any]:
        found = load_checkpoint(path)
        if (found.network_name, found.network.config) != (self._network_name, self._config):
            raise ValueError(
                f"start_from: {path} holds {found.network_name} {found.network.config}, "
                f"accepted is {self._network_name} {self._config}"
            )
        bare(self.network).load_state_dict(found.network.state_dict())
        return {**found.provenance, "sha256": found.sha256}

    def score(self, batch: VolumeBatch) -> float:
        """Mean absolute error [HU] where the truth is known."""
        to_hu = self.recipe.hu_map.to_hu
        return float((to_hu(self.estimates(batch)[-1].float()) - to_hu(batch.x_0))[batch.known].abs().mean())

    def picture(self, batch: VolumeBatch) -> np.ndarray:
        """The truth above, then the estimates."""
        volumes = [batch.x_0, *self.estimates(batch)]
        return np.concatenate([mid_planes(self.recipe.hu_map.to_hu(x[0, 0].float().cpu().numpy())) for x in volumes])
