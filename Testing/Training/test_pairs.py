from dataclasses import replace

import numpy as np
import pytest
import torch

from diff2ct.condition import condition_channels
from diff2ct.units import HuMap
from diff2ct.views import look_up
from diff2ct_training.acquisitions import AcquisitionConfig, acquire_views
from diff2ct_training.cases import Case
from diff2ct_training.pairs import make_pair
from rods import CALM, GRID, case

MAP = HuMap("asinh")


def pair_of(case_: Case, config: AcquisitionConfig, seed: int = 0, condition: str = "geometric", slab: int | None = None):
    rng = np.random.default_rng(seed)
    return make_pair(acquire_views(case_, rng, config, GRID), rng, slab, MAP, condition)


@pytest.mark.parametrize("condition", ["geometric", "added"])
def test_shapes_and_units(condition: str) -> None:
    pair = pair_of(case(), CALM, condition=condition)
    assert pair.condition.shape == (condition_channels(condition), *GRID.size)
    assert pair.x_0.shape == pair.known.shape == (1, *GRID.size)
    assert float(pair.x_0.min()) >= -1 and float(pair.x_0.max()) <= 1
    assert bool(pair.known.all())


def test_condition_and_truth_are_of_the_same_body() -> None:
    """The rod on the left is bright where the AP view, and dense where the truth, say so."""
    config = replace(CALM, isocenter_sd_mm=(10, 10, 10))
    for seed in range(4):
        pair = pair_of(case(), config, seed)
        bone = pair.x_0[0] > float(MAP.to_x(torch.tensor([500.0]))[0])
        assert bone.any()
        frontal, lateral = pair.condition[0], pair.condition[5]
        assert float(frontal[bone].mean()) > float(frontal[~bone].mean()) + 0.5
        assert float(lateral[bone].mean()) > float(lateral[~bone].mean()) + 0.3
        side = np.nonzero(bone.numpy())[2].mean() - (GRID.size[2] - 1) / 2
        assert side > 2, "left is the high end of i"


def test_same_generator_same_sample() -> None:
    a, b, c = (pair_of(case(), AcquisitionConfig(detector_pixels=48), seed, slab=16) for seed in (5, 5, 6))
    assert torch.equal(a.condition, b.condition) and torch.equal(a.x_0, b.x_0)
    assert not torch.equal(a.condition, c.condition)


def test_slabs_are_cut_from_the_same_cube() -> None:
    rng = np.random.default_rng(2)
    acquisition = acquire_views(case(), rng, CALM, GRID)
    whole = make_pair(acquisition, rng, None, MAP, "geometric")
    slab = make_pair(acquisition, rng, 8, MAP, "geometric")
    starts = [k for k in range(GRID.size[0] - 7) if torch.equal(whole.x_0[:, k : k + 8], slab.x_0)]
    assert starts
    assert any(torch.allclose(whole.condition[:, k : k + 8], slab.condition, atol=1e-4) for k in starts)


def test_a_short_scan_has_no_truth_beyond_its_ends() -> None:
    pair = pair_of(case("ct", size=(32, 60, 70)), CALM)
    seen = pair.known[0].flatten(1).all(1)
    assert 14 <= int(seen.sum()) <= 17, "128 mm of scan in a 256 mm cube"
    assert not pair.known[0].flatten(1).any(1)[0] and not pair.known[0].flatten(1).any(1)[-1]


def test_coarse_grids_average_the_case() -> None:
    fine = case(spacing=4.0)
    pair = pair_of(fine, CALM)  # 8 mm from 4 mm: each voxel is the mean of 8
    mean_hu = float(MAP.to_hu(pair.x_0).mean())
    assert -900 < mean_hu < 0
    assert len(np.unique(pair.x_0.numpy())) > 3, "edges are partial volume"


def test_views_and_truth_are_of_the_same_body() -> None:
    """Looked up from the rectified views, the rod is bright in both where the truth has bone."""
    for seed in range(4):
        pair = pair_of(case(), replace(CALM, isocenter_sd_mm=(10, 10, 10), angle_sd_deg=3), seed, "views")
        bone = pair.x_0[0] > float(MAP.to_x(torch.tensor([500.0]))[0])
        views = pair.condition
        for view, contrast in ((0, 0.5), (1, 0.3)):
            seen = look_up(views.images[view : view + 1, :1], views.ijk_to_plane[view : view + 1], GRID.size)[0, 0]
            assert float(seen[bone].mean()) > float(seen[~bone].mean()) + contrast
