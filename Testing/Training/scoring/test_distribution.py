"""FID with the textbook formula and a matrix square root, KID with its sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from diff2ct_training.scoring.distribution import fid, kid


def features(count: int, width: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return (rng.normal(size=(count, width)) * rng.uniform(0.5, 2, width)) @ mixing + shift


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real))


@pytest.mark.parametrize(("num_a", "num_b"), [(60, 80), (400, 300), (400, 20)])
def test_fid_is_scipys(num_a: int, num_b: int) -> None:
    a, b = features(num_a, 24, 1), features(num_b, 24, 2, 0.5)
    assert fid(a, b) == pytest.approx(textbook(a, b), rel=1e-4)


def test_fid_of_a_shift_is_its_square_and_of_itself_zero() -> None:
    a = features(50, 8, 1)
    assert fid(a, a) == pytest.approx(0.0, abs=1e-8)
    assert fid(a + 3.0, a) == pytest.approx(8 * 9.0)


def test_fewer_slices_than_features_need_no_regular_covariance() -> None:
    a, b = features(10, 300, 1), features(12, 300, 2)
    assert fid(a, b) == pytest.approx(textbook(a, b), rel=1e-3)


def test_kid_is_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    a, b = features(1003, 6, 1), features(1003, 6, 2, 0.3)  # more than a block
    expected = poly_mmd(torch.from_numpy(a), torch.from_numpy(b), degree=3, gamma=1 / 6, coef=1.0)
    assert kid(a, b) == pytest.approx(float(expected), rel=1e-4)


def test_kid_of_one_distribution_is_zero_on_average() -> None:
    """Unbiased: as often below zero as above. FID of the same features is always above."""
    pairs = [(features(30, 6, n), features(40, 6, 100 + n)) for n in range(60)]
    values = np.array([kid(a, b) for a, b in pairs])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))
    assert 15 < (values < 0).sum() < 55
    assert min(fid(a, b) for a, b in pairs[:5]) > 0


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5,))])
def test_features_that_do_not_fit_are_refused(shapes: tuple) -> None:
    with pytest.raises(ValueError, match="features"):
        fid(np.zeros(shapes[0]), np.zeros(shapes[1]))
