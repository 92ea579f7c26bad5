"""Label maps with known overlap and distances; the same definitions as MONAI's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diff2ct_training.scoring.vertebrae import score_bone_in_labels, score_labels, surface_scores, whole_vertebrae

SPACING = (2.0, 2.0, 3.0)


def blocks(shift: int = 0) -> np.ndarray:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:8, 4:12, 4 + shift : 12 + shift] = 28
    labels[10:16, 4:12, 4 + shift : 12 + shift] = 29
    return labels


def test_equal_maps_are_perfect() -> None:
    scores = score_labels(blocks(), blocks(), SPACING)
    assert scores["vertebra_dice"] == scores["vertebra_nsd_1mm"] == scores["vertebra_found"] == 1.0
    assert scores["vertebra_hd95_mm"] == scores["vertebra_assd_mm"] == scores["vertebra_centroid_mm"] == 0.0


def test_a_shift_by_one_voxel_has_known_scores() -> None:
    scores = score_labels(blocks(1), blocks(), SPACING)
    assert scores["vertebra_dice"] == pytest.approx(7 / 8)
    assert scores["vertebra_hd95_mm"] == scores["vertebra_centroid_mm"] == pytest.approx(2.0)
    assert scores["vertebra_nsd_2mm"] == 1.0 > scores["vertebra_nsd_1mm"]


def test_a_missing_vertebra_scores_zero_and_has_no_distance() -> None:
    lacking = blocks()
    lacking[lacking == 29] = 0
    scores = score_labels(lacking, blocks(), SPACING)
    assert scores["vertebra_dice"] == scores["vertebra_found"] == scores["vertebra_nsd_2mm"] == 0.5
    assert scores["vertebra_hd95_mm"] == 0.0  # of the one that is there
    swapped = np.select([blocks() == 28, blocks() == 29], [29, 28]).astype(np.uint8)
    assert score_labels(swapped, blocks(), SPACING)["vertebra_found"] == 0.0  # 24 mm off
    assert score_labels(blocks(-4), blocks(3), SPACING)["vertebra_found"] == 1.0  # 14 mm off


def test_cut_vertebrae_are_left_out() -> None:
    labels = blocks()
    labels[18:, 4:12, 4:12] = 30
    assert whole_vertebrae(labels) == [28, 29]
    mask = np.ones(labels.shape, bool)
    mask[:3] = False
    assert whole_vertebrae(labels, mask) == [29]
    assert math.isnan(score_labels(labels, np.zeros_like(labels), SPACING).get("vertebra_dice", math.nan))


def test_bone_overlap_is_taken_inside_the_true_label_only() -> None:
    labels = blocks()
    truth = np.where(labels > 0, 400.0, 0.0)
    prediction = truth.copy()
    prediction[2:5][labels[2:5] == 28] = 0.0  # half of one vertebra's bone is lost: 2 * 0.5 / 1.5
    prediction[:, 15:] = 900.0  # bone beside: not seen
    scores = score_bone_in_labels(prediction, truth, labels, np.ones(labels.shape, bool))
    assert scores == {"bone_dice_in_true_vertebrae": pytest.approx((2 / 3 + 1) / 2)}


def blob(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:24, :24, :24] - 11.5
    return (z**2 + y**2 + x**2 < (7 + 2 * rng.random()) ** 2) & (x < 4 + seed) & (y > -6 + seed)


def test_definitions_are_monais() -> None:
    metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    more = blob(0)
    more[:4, :4, -4:] = True  # a piece far off: all of the one lies in the other, but not the other way round
    options = {"include_background": True, "spacing": SPACING[::-1]}
    for one, other in ((blob(0), blob(1)), (blob(0), more), (more, blob(0))):
        mine = surface_scores(one, other, SPACING[::-1])
        a, b = (torch.from_numpy(m)[None, None].float() for m in (one, other))
        hausdorff = metrics.compute_hausdorff_distance(a, b, percentile=95, **options)
        assert mine["hd95_mm"] == pytest.approx(float(hausdorff), abs=1e-4)
        surface = metrics.compute_average_surface_distance(a, b, symmetric=True, **options)
        assert mine["assd_mm"] == pytest.approx(float(surface), abs=1e-4)
        for mm in (1, 2):
            surface_dice = metrics.compute_surface_dice(a, b, [float(mm)], **options)
            assert mine[f"nsd_{mm}mm"] == pytest.approx(float(surface_dice), abs=1e-4)
