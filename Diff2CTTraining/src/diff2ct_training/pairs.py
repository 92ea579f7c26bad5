"""An acquisition -> (condition, x_0): a training sample. The training half of the main path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from diff2ct.condition import CONDITIONS, Condition, stack_conditions
from diff2ct.units import HuMap
from diff2ct.views import RectifiedViews
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import Acquisition


@dataclass(frozen=True, eq=False)
class Pair:
    """condition: as `CONDITIONS` makes it; x_0: (1, D, H, W) network units; known: (1, D, H, W) bool, False where the scan has
    no truth. In a batch all have one more axis in front."""

    condition: Condition
    x_0: torch.Tensor
    known: torch.Tensor


def make_pair(acquisition: Acquisition, rng: np.random.Generator, slab: int | None, hu_map: HuMap, condition: str) -> Pair:
    """A training sample: `slab` axial planes of the cube at a random height, or all of it for None."""
    a = acquisition
    grid = _random_slab(a.cube, rng, slab)
    truth, known = a.truth(grid)
    return Pair(CONDITIONS[condition](a.images, a.valid, a.beams, grid), hu_map.to_x(truth)[None], known[None])


def batch_of(pairs: Sequence[Pair], device: torch.device | str = "cpu") -> Pair:
    """Pairs stacked along a batch axis, in the memory layout that networks like."""
    x_0, known = (_send(torch.stack([getattr(p, name) for p in pairs]), device) for name in ("x_0", "known"))
    condition = stack_conditions([p.condition for p in pairs])
    if isinstance(condition, RectifiedViews):
        return Pair(RectifiedViews(_send(condition.images, device), _send(condition.ijk_to_plane, device)), x_0, known)
    return Pair(_send(condition, device), x_0, known)


def _send(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """To `device`; to a GPU without waiting for what it is still computing."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _random_slab(cube: VolumeGrid, rng: np.random.Generator, slab: int | None) -> VolumeGrid:
    if slab is None or slab >= cube.size[0]:
        return cube
    start = int(rng.integers(0, cube.size[0] - slab + 1))
    x, y, z = cube.origin_lps
    return replace(cube, size=(slab, *cube.size[1:]), origin_lps=(x, y, z + start * cube.spacing_mm[2]))
