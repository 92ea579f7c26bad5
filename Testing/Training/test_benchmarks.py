"""The benchmarks are run by hand, and rarely: that all of them still start is seen here."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from diff2ct.diffusion import SAMPLERS
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
