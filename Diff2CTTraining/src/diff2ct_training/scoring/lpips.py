"""LPIPS v0.1 with AlexNet or VGG-16 (Zhang et al. 2018) of slices. Weights are given as local files; nothing is ever
downloaded.

The distance: features of five layers, scaled to unit length over channels at each place; squared differences, weighted per
channel by the heads that were fitted to human judgement; mean over places, sum over layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

ALEXNET = "alexnet-owt-7be5be79.pth"
HOW_TO_GET = (
    f"LPIPS needs torchvision's AlexNet, {ALEXNET}, 233 MB: fetch torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url once "
    "and give the file with --lpips; or VGG-16, with VGG16_Weights"
)
HEADS_IN = "functional/image/lpips_models"
"""Where torchmetrics keeps the heads, alex.pth and vgg.pth."""
BATCH = 64
MIN_PIXELS = 63
"""The last layers of AlexNet need at least so many rows and columns."""


@dataclass(frozen=True)
class Stage:
    """convolutions: their numbers in the trunk's `features`; the last one's output is compared. stride, padding: of all. pool:
    (size, stride) of the pooling before them, if there is one."""

    convolutions: tuple[int, ...]
    stride: int = 1
    padding: int = 1
    pool: tuple[int, int] | None = None


TRUNKS = {
    "alex": (Stage((0,), 4, 2), Stage((3,), 1, 2, (3, 2)), Stage((6,), pool=(3, 2)), Stage((8,)), Stage((10,))),
    "vgg": (
        Stage((0, 2)),
        Stage((5, 7), pool=(2, 2)),
        Stage((10, 12, 14), pool=(2, 2)),
        Stage((17, 19, 21), pool=(2, 2)),
        Stage((24, 26, 28), pool=(2, 2)),
    ),
}
_SHIFT = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
_SCALE = torch.tensor([0.458, 0.448, 0.450])[:, None, None]


class Lpips:
    """trunk: torchvision's state dict of AlexNet or VGG-16, which it tells by its layers. heads: lin0.model.1.weight to lin4,
    each (1, C, 1, 1); None for those that come with torchmetrics. Both are read as tensors only.

    name: of the trunk, one of `TRUNKS`.
    """

    def __init__(self, trunk: Path, heads: Path | None = None, device: str = "cpu") -> None:
        if not trunk.is_file():
            raise ValueError(f"--lpips: {trunk} does not exist. {HOW_TO_GET}")
        layers = _tensors(trunk)
        self.name = "vgg" if "features.28.weight" in layers else "alex"
        weights = _tensors(heads or _heads_of_torchmetrics(self.name))
        try:
            self._convolutions = {
                n: (layers[f"features.{n}.weight"].to(device), layers[f"features.{n}.bias"].to(device))
                for stage in TRUNKS[self.name]
                for n in stage.convolutions
            }
            self._heads = [weights[f"lin{n}.model.1.weight"].to(device) for n in range(len(TRUNKS[self.name]))]
        except KeyError as error:
            raise ValueError(f"--lpips: {error} is missing in {trunk} or the heads. {HOW_TO_GET}") from error
        self._device = device

    @torch.inference_mode()
    def __call__(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """(N, rows, columns) on [0, 1] each, at least 63 pixels wide and high -> (N,) distances."""
        if min(truth.shape[1:]) < MIN_PIXELS or prediction.shape != truth.shape:
            got = f"{tuple(prediction.shape)} and {tuple(truth.shape)}"
            raise ValueError(f"slices: got {got}, accepted are equal shapes (N, rows, columns) of {MIN_PIXELS} pixels or more")
        parts = zip(prediction.split(BATCH), truth.split(BATCH), strict=True)
        return torch.cat([self._distance(p.to(self._device), t.to(self._device)).cpu() for p, t in parts])

    def _distance(self, prediction: Tensor, truth: Tensor) -> Tensor:
        total = torch.zeros(len(truth), device=truth.device)
        for head, p, t in zip(self._heads, self._features(prediction), self._features(truth), strict=True):
            total += functional.conv2d((p - t).square(), head).mean(dim=(1, 2, 3))
        return total

    def _features(self, slices: Tensor) -> list[Tensor]:
        x = ((2 * slices[:, None].expand(-1, 3, -1, -1) - 1) - _SHIFT.to(slices)) / _SCALE.to(slices)
        features = []
        for stage in TRUNKS[self.name]:
            if stage.pool is not None:
                x = functional.max_pool2d(x, *stage.pool)
            for n in stage.convolutions:
                x = functional.relu(functional.conv2d(x, *self._convolutions[n], stage.stride, stage.padding))
            features.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return features


def load_lpips(trunks: Sequence[Path], device: str = "cpu") -> tuple[Lpips, ...]:
    """A distance for each file. Raises ValueError if two are of one trunk."""
    distances = tuple(Lpips(trunk, device=device) for trunk in trunks)
    names = [distance.name for distance in distances]
    if len(set(names)) < len(names):
        raise ValueError(f"--lpips: got {' and '.join(names)}, accepted is one file for each of {', '.join(TRUNKS)}")
    return distances


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that holds something else makes torch raise
        raise ValueError(f"--lpips: {path} is no file of tensors. {HOW_TO_GET}") from error
    if not isinstance(found, dict):
        raise ValueError(f"--lpips: {path} is no state dict. {HOW_TO_GET}")
    return found


def _heads_of_torchmetrics(name: str) -> Path:
    package = find_spec("torchmetrics")
    if package is None or package.origin is None:
        raise ValueError("--lpips: the heads of LPIPS come with torchmetrics, which is not installed: pip install torchmetrics")
    return Path(package.origin).parent / HEADS_IN / f"{name}.pth"
