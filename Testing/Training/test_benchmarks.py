"""The benchmarks are run by hand, and rarely: that all of them still start is seen here."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from diff2ct.diffusion import SAMPLERS
from diff2ct.projector import project
from diff2ct.smooth import gaussian_blur
from diff2ct.units import hu_to_mu
from tiny import tiny_body, tiny_radiographs
from tiny_recipes import tiny_recipe

FOLDER = Path(__file__).resolve().parents[1] / "Benchmarks"


@contextmanager
def imported(script: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location(f"benchmark_{script.stem}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look themselves up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).parent == FOLDER:
                del sys.modules[name]  # "machine", "steps": names too common to stay


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda script: script.stem)
def test_every_benchmark_finds_what_it_imports(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with imported(script, monkeypatch):
        pass


def test_the_denoising_step_that_several_of_them_time_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with imported(FOLDER / "denoising.py", monkeypatch) as denoising:
        denoising.embedded_step(32, "cpu")()


@pytest.mark.parametrize(("name", "ways"), [("default", len(SAMPLERS)), ("paper", len(SAMPLERS) - 1), ("x2ct-gan", 1)])
def test_the_overfit_scores_every_sampler_that_suits(name: str, ways: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with imported(FOLDER / "overfit.py", monkeypatch) as overfit:
        monkeypatch.setattr(overfit, "SAMPLE_STEPS", 2)
        limits = overfit.Limits(target=-math.inf, seconds=60.0)
        outcome = overfit.overfit(tiny_recipe(name, batch_size=2), "cpu", limits, start_from="mean")
    assert outcome.step == 2 or outcome.seconds >= limits.seconds
    assert len(outcome.scores) == ways and math.isfinite(outcome.worst)


STEPPED = np.arange(128.0) + np.arange(128) // 8
"""Rises by 1 HU per voxel, and by 2 across every eighth border."""


@pytest.mark.parametrize("axis", range(3))
def test_blockiness_is_that_of_a_known_pattern(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    smooth = np.linspace(-100, 700, 128)[:, None, None] + np.linspace(0, 50, 36)[:, None] + np.linspace(0, 30, 36)
    lines = STEPPED[:, None, None] + np.zeros((1, 36, 36))
    everywhere = np.ones(lines.shape, bool)
    everywhere, smooth, lines = (np.moveaxis(volume, 0, axis) for volume in (everywhere, smooth, lines))
    with imported(FOLDER / "lattice.py", monkeypatch) as lattice:
        np.testing.assert_allclose(lattice.blockiness(smooth, everywhere), np.ones((3, 4)), rtol=1e-6)
        patterned = lattice.blockiness(lines, everywhere)
    # Of period 2, 15 borders of 63 are the pattern's, of period 4 15 of 31, of longer ones all.
    np.testing.assert_allclose(patterned[axis], [1 + 15 / 63, 1 + 15 / 31, 2, 2], rtol=1e-6)
    assert np.isnan(np.delete(patterned, axis, axis=0)).all()  # nothing changes along the others


def test_blockiness_looks_at_the_window_and_where_the_truth_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    hu = STEPPED[:, None, None] + np.zeros((1, 16, 16))
    mask = np.ones(hu.shape, bool)
    mask[:, :8], mask[90:] = False, False
    hu[~mask] = np.random.default_rng(0).uniform(-1000, 3000, np.count_nonzero(~mask))
    with imported(FOLDER / "lattice.py", monkeypatch) as lattice:
        np.testing.assert_allclose(lattice.blockiness(hu, mask)[0, 2:], 2, rtol=1e-6)
        assert np.isnan(lattice.blockiness(hu - 2000, mask)).all() and np.isnan(lattice.blockiness(hu, ~mask & mask)).all()


def test_contenders_are_compared_with_what_is_exact_and_a_missing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("no such package")

    with imported(FOLDER / "metrics.py", monkeypatch) as metrics:
        section, settings = metrics.Section("Title"), metrics.Settings(threads=1, rounds=1, turn_s=0.0)
        peers = {"peer": lambda: lambda: 0.75, "missing": missing}
        known, unknown = metrics.Comparison("a", lambda: 0.5, peers, exact=1.0), metrics.Comparison("b", lambda: 0.5, peers)
        metrics.compare(iter((known, unknown)), section, settings)
    assert [(row["metric"], row["implementation"], row["off by"]) for row in section.rows] == [
        ("a", "Diff2CT", "5.0e-01"), ("a", "peer", "2.5e-01"), ("b", "Diff2CT", "0.0e+00"), ("b", "peer", "2.5e-01"),
    ]  # fmt: skip
    assert section.notes == [f"{name}: missing: skipped, no such package" for name in "ab"]


def test_metrics_and_their_peers_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    hu = 600 * torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(0)) - 100
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[4:10, 5:15, 6:12], labels[12:20, 5:15, 6:12] = 28, 29
    with imported(FOLDER / "metrics.py", monkeypatch) as metrics:
        compared = 0
        for comparison in (
            *metrics.image_comparisons(*metrics.degraded_pair(hu)),
            *metrics.mask_comparisons(hu, labels, 2.0),
            *metrics.feature_comparisons(40, 8),
        ):
            ours = comparison.ours()
            assert comparison.exact is None or ours == pytest.approx(comparison.exact, rel=1e-5)
            for name, make in comparison.peers.items():
                try:
                    value = make()()
                except ImportError:
                    continue
                other_covariance = comparison.metric.startswith("2D") and name != "scikit-image"
                assert ours == pytest.approx(value, rel=0.03 if other_covariance else 1e-4), (comparison.metric, name)
                compared += 1
    assert compared >= 8  # of torchmetrics and scikit-image, which the tests install


def test_steps_at_a_part_of_the_size_count_for_as_many_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    with imported(FOLDER / "denoising.py", monkeypatch) as denoising:
        seconds = sys.modules["harness"].Seconds
        contenders = {"a": lambda: seconds(0.5), "b": lambda: seconds(2.0)}
        times = denoising._step_seconds(contenders, 64, denoising.Settings(threads=1))
    assert times == {"a": pytest.approx(4.0), "b": pytest.approx(16.0)}


def test_reconstructions_by_other_networks_are_extrapolated_from_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    done = {"marks": [("sampling", 1.0), ("writing", 5.0), ("done", 6.0)], "peak_memory_mb": 700}
    with imported(FOLDER / "reconstruction.py", monkeypatch) as reconstruction:
        monkeypatch.setattr(reconstruction, "run_worker", lambda settings, samples: done)
        monkeypatch.setattr(reconstruction, "monai_step_seconds", lambda settings: {"MONAI": 2.0})
        monkeypatch.setattr(reconstruction, "paper_step_seconds", lambda settings: (40.0, "Measured."))
        section = reconstruction.measure(reconstruction.Settings(threads=1))
    ours, monai, paper = section.rows[1:]
    assert (ours["samples"], ours["reconstruct s"]) == (4, 4.0) and section.rows[0]["samples"] == 1
    steps = ours["steps each"] * ours["samples"]
    assert (monai["reconstruct s"], monai["x ours"]) == (2.0 * steps, 2.0 * steps / 4)
    assert (paper["reconstruct s"], paper["x ours"]) == (40000.0, 10000.0)
    assert any("MONAI: extrapolated" in note for note in section.notes)


def test_a_displaced_volume_is_told_by_how_much_and_toward_where(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 48, 48, 48, generator=generator)
    truth = 300 * gaussian_blur(gaussian_blur(noise, 3.0, 1.0).transpose(1, 3), 3.0, 1.0).transpose(1, 3)[0]
    truth = (truth / truth.std() * 200 + 300).numpy()
    half = truth.copy()
    half[1:] = 0.6 * truth[1:] + 0.4 * truth[:-1]  # 0.4 voxels toward the head
    everywhere = np.ones(truth.shape, bool)
    with imported(FOLDER / "displacement.py", monkeypatch) as displacement:
        apart = displacement.displacement_mm(half, truth, everywhere, (3.0, 4.0, 2.0))
        np.testing.assert_allclose(apart, [0.8, 0, 0], atol=0.2)
        left = np.roll(truth, 1, axis=2)
        assert displacement.displacement_mm(left, truth, everywhere, (3.0, 4.0, 2.0))[2] == pytest.approx(3.0, abs=0.3)


def test_mirrored_x_rays_are_those_of_the_mirrored_body(monkeypatch: pytest.MonkeyPatch) -> None:
    body = tiny_body()
    half = np.array(body.grid.size[::-1]) / 2 - 0.5
    assert np.allclose(body.grid.ijk_to_lps[:3] @ [*half, 1.0], 0), "it lies about the isocentre"
    hu = body.hu.copy()
    hu[2:5, 3:6, 2:4] = 900.0  # on one side
    with imported(FOLDER / "displacement.py", monkeypatch) as displacement:
        here = tiny_radiographs(replace(body, hu=hu))
        there = tiny_radiographs(replace(body, hu=hu[:, :, ::-1].copy()))
        for one, other in zip(here, there, strict=True):
            beam = displacement.mirrored(one).geometry
            again = project(hu_to_mu(torch.from_numpy(hu[:, :, ::-1].copy())), body.grid, beam).numpy()
            np.testing.assert_allclose(again, one.line_integral, rtol=1e-3, atol=1e-3)
            assert np.abs(again - other.line_integral).max() > 0.1
