from dataclasses import replace

import numpy as np
import pytest
import torch

from diff2ct.condition import condition_channels
from diff2ct.units import HuMap
from diff2ct.volume import VolumeGrid
from diff2ct_training.cases import Case
from diff2ct_training.pairs import PairConfig, acquire_views, make_pair, random_beams

GRID = VolumeGrid.centered(32, 8.0)
MAP = HuMap("asinh")
CALM = PairConfig(
    isocenter_sd_mm=(0, 0, 0), angle_sd_deg=0, pose_error_deg=0, pose_error_mm=0, cube_only=0, ideal_detector=1, slab=None,
    detector_pixels=64,
)  # fmt: skip


def case(kind: str = "phantom", size: tuple[int, int, int] = (80, 60, 70), spacing: float = 4.0) -> Case:
    """Water from end to end, air around, a bone rod on the left."""
    _, j, i = np.indices(size)
    x, y = (i - (size[2] - 1) / 2) * spacing, (j - (size[1] - 1) / 2) * spacing
    hu = np.where((x / 120) ** 2 + (y / 90) ** 2 < 1, 0, -1000)
    hu[np.hypot(x - 60, y) < 12] = 800
    grid = VolumeGrid.centered(size, spacing)
    return Case("rod", kind, hu.astype(np.int16), grid, (0.0, 0.0, 0.0), "made here")


def pair_of(case_: Case, config: PairConfig, seed: int = 0, condition: str = "geometric"):
    rng = np.random.default_rng(seed)
    return make_pair(acquire_views(case_, rng, config, GRID), rng, config, MAP, condition)


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
    a, b, c = (pair_of(case(), PairConfig(detector_pixels=48, slab=16), seed) for seed in (5, 5, 6))
    assert torch.equal(a.condition, b.condition) and torch.equal(a.x_0, b.x_0)
    assert not torch.equal(a.condition, c.condition)


def test_slabs_are_cut_from_the_same_cube() -> None:
    config = replace(CALM, slab=8)
    rng = np.random.default_rng(2)
    acquisition = acquire_views(case(), rng, config, GRID)
    whole = make_pair(acquisition, rng, CALM, MAP, "geometric")
    slab = make_pair(acquisition, rng, config, MAP, "geometric")
    starts = [k for k in range(GRID.size[0] - 7) if torch.equal(whole.x_0[:, k : k + 8], slab.x_0)]
    assert starts
    assert any(torch.allclose(whole.condition[:, k : k + 8], slab.condition, atol=1e-4) for k in starts)


def test_a_short_scan_has_no_truth_beyond_its_ends() -> None:
    pair = pair_of(case("ct", size=(32, 60, 70)), CALM)
    seen = pair.known[0].flatten(1).all(1)
    assert 14 <= int(seen.sum()) <= 17, "128 mm of scan in a 256 mm cube"
    assert not pair.known[0].flatten(1).any(1)[0] and not pair.known[0].flatten(1).any(1)[-1]


def test_a_tall_scan_is_used_along_its_height() -> None:
    tall = case("ct", size=(200, 60, 70))
    heights = {acquire_views(tall, np.random.default_rng(s), CALM, GRID).cube.origin_lps[2] for s in range(6)}
    assert max(heights) - min(heights) > 100


def test_cube_only_hides_what_lies_outside_the_cube() -> None:
    wide = case(size=(80, 90, 90))
    wide.hu[:, :, :6] = 0  # a wall at the patient's right, outside the cube
    images = {}
    for cube_only in (0.0, 1.0):
        config = replace(CALM, cube_only=cube_only, field_mm=(420, 420))
        images[cube_only] = acquire_views(wide, np.random.default_rng(1), config, GRID).images[1]
    assert float(images[0.0].max()) > float(images[1.0].max())


def test_beams_vary_as_configured() -> None:
    rng = np.random.default_rng(0)
    pairs = [random_beams(rng, (1.0, 2.0, 3.0), PairConfig()) for _ in range(50)]
    for frontal, lateral in pairs:
        assert not frontal.view.is_lateral and lateral.view.is_lateral
        for beam in (frontal, lateral):
            assert 1.1 <= beam.magnification <= 1.5
            assert 249 < beam.detector_spacing_mm[0] * beam.detector_size[0] / beam.magnification < 421
            assert beam.isocenter_lps == (1.0, 2.0, 3.0)
    assert {f.view.value for f, _ in pairs} == {"AP", "PA"} and {lat.view.value for _, lat in pairs} == {"LL", "RL"}


def test_coarse_grids_average_the_case() -> None:
    fine = case(spacing=4.0)
    pair = pair_of(fine, CALM)  # 8 mm from 4 mm: each voxel is the mean of 8
    mean_hu = float(MAP.to_hu(pair.x_0).mean())
    assert -900 < mean_hu < 0
    assert len(np.unique(pair.x_0.numpy())) > 3, "edges are partial volume"
