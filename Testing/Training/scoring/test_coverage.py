"""Ensembles whose coverage is known: exchangeable ones, and ones that are too sure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diff2ct_training.scoring.coverage import LEVELS, coverage_of_quantiles, fair_crps, score_samples, sparsification_error


def ensemble(count: int, spread: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(samples, truth, region): the truth is one more draw from where the samples come from, if `spread` is 1."""
    rng = np.random.default_rng(seed)
    shape = (20, 40, 40)
    centre, sd = rng.normal(0, 100, shape), rng.uniform(20, 200, shape)
    draws = centre + sd * rng.normal(size=(count + 1, *shape))
    return centre + spread * (draws[1:] - centre), draws[0], np.ones(shape, bool)


@pytest.mark.parametrize("count", [2, 4, 20])
def test_exchangeable_samples_cover_as_often_as_they_say(count: int) -> None:
    scores = score_samples(*ensemble(count))
    for level in LEVELS:
        assert scores[f"coverage_t_{level}"] == pytest.approx(level / 100, abs=0.015)
    has = [level for level in LEVELS if not math.isnan(scores[f"coverage_q_{level}"])]
    assert has == {2: [], 4: [50], 20: [50, 80, 90]}[count]
    for level in has:
        assert scores[f"coverage_q_{level}"] == pytest.approx(level / 100, abs=0.015)


def test_samples_that_are_too_sure_show_it() -> None:
    fair, sure = score_samples(*ensemble(8)), score_samples(*ensemble(8, spread=0.5))
    assert sure["coverage_t_80"] < 0.6
    assert fair["spread_skill_slope"] == pytest.approx(1.0, abs=0.15) and sure["spread_skill_slope"] > 1.5
    assert sure["ence"] > fair["ence"] + 0.5
    assert fair["sd_error_spearman"] > 0.2
    assert fair["crps_hu"] < sure["crps_hu"]


def test_quantiles_split_into_equal_gaps() -> None:
    """Three samples leave four gaps; the 50 % interval is from the least to the greatest."""
    ordered = np.tile(np.array([[1.0], [2.0], [3.0]]), 4)
    assert coverage_of_quantiles(ordered, np.array([0.0, 1.0, 2.5, 4.0]), 50) == 0.5
    assert math.isnan(coverage_of_quantiles(ordered, np.zeros(4), 80))


def test_errors_are_compared_with_the_sd_of_one_more_sample() -> None:
    """The mean of K samples is itself off: a truth that is exchangeable with two of them lies sqrt(3 / 2) SD from it."""
    rng = np.random.default_rng(0)
    sd = rng.uniform(1, 10, (20, 30, 40))
    truth = math.sqrt(1.5) * sd * rng.normal(size=sd.shape)
    scores = score_samples(np.stack([sd, -sd]) / math.sqrt(2), truth, np.ones(sd.shape, bool))
    assert scores["spread_skill_slope"] == pytest.approx(1.0, abs=0.03) and scores["ence"] < 0.05


def test_crps_by_hand() -> None:
    """Samples 0 and 2, truth 1: mean |x - y| = 1, mean |x - x'| / 2 = 1. Truth 3: (3 + 1) / 2 - 1 = 1."""
    ordered = np.array([[0.0, 0.0], [2.0, 2.0]])
    assert fair_crps(ordered, np.array([1.0, 1.0])) == pytest.approx(0.0)
    assert fair_crps(ordered, np.array([3.0, 3.0])) == pytest.approx(1.0)


def test_sparsification_asks_whether_the_sd_ranks_the_errors() -> None:
    """Errors 1, 2, ..., 100. Ranked as they are, nothing is lost; ranked the other way round, the most."""
    error = np.arange(1.0, 101.0)
    chance = np.random.default_rng(0).uniform(size=100)
    right, unknown, wrong = (sparsification_error(sd, error) for sd in (3 * error, chance, 200 - error))
    assert right == 0.0 < unknown < wrong
    rms = [math.sqrt(np.mean(error[:n] ** 2)) for n in range(1, 101)]  # the n smallest are left
    worst = [math.sqrt(np.mean(error[-n:] ** 2)) for n in range(1, 101)]
    assert wrong == pytest.approx(np.mean(np.subtract(worst, rms)) / rms[-1])
    assert math.isnan(sparsification_error(error, np.zeros(100)))
    assert score_samples(*ensemble(8))["ause"] < 0.35


def test_only_the_region_counts_and_one_sample_is_refused() -> None:
    samples, truth, region = ensemble(4)
    truth[:10] += 10_000
    region[:10] = False
    assert score_samples(samples, truth, region)["coverage_t_80"] == pytest.approx(0.8, abs=0.02)
    with pytest.raises(ValueError, match="K of 2 or more"):
        score_samples(samples[:1], truth, region)
