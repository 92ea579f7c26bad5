"""A case small enough to be evaluated in milliseconds, and methods that count what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from diff2ct.phantom import PedicleScrew
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation.cases import EvaluationCase, PlannedCase
from diff2ct_training.evaluation.methods import Method, PlannedMethod, Prediction

SETUP = BiplanarSetup(pixels=64)


@pytest.fixture(scope="session")
def trunk_case(trunk: CtVolume, small_grid: VolumeGrid) -> EvaluationCase:
    """With a vertebra's label on a piece of its rod, and a screw that is said to be there."""
    from diff2ct.volume_io import resample

    radiographs = render_radiographs(trunk, SETUP.beams((0, 0, 0)), "trunk")
    truth = resample(trunk, small_grid)
    labels = np.zeros(small_grid.size, np.uint8)
    labels[12:16][truth.hu[12:16] > 200] = 28
    head = np.array([10.0, 60.0, 0.0])
    screw = PedicleScrew.from_head(head, np.array([0.0, -1.0, 0.0]), length_mm=45.0, diameter_mm=6.0, level="L4", side="left")
    known = np.ones(small_grid.size, bool)
    return EvaluationCase("trunks", "trunk", radiographs, truth, known, labels, (screw,), (0.5, 2.0))


@pytest.fixture(scope="session")
def planned(trunk_case: EvaluationCase) -> Callable[..., PlannedCase]:
    """The case, under another name if one is given, and with another original pixel spacing."""

    def make(name: str = "trunk", identity: str = "", pixel_spacing_mm: float = 0.5) -> PlannedCase:
        case = replace(trunk_case, name=name, spacing_mm=(pixel_spacing_mm, 2.0))
        return PlannedCase(case.dataset, case.name, identity or case.name, lambda: case)

    return make


@pytest.fixture(scope="session")
def plan() -> Callable[..., dict[str, PlannedMethod]]:
    """Methods by name, each of one sample."""

    def make(**methods: Method) -> dict[str, PlannedMethod]:
        return {name: PlannedMethod(name, lambda method=method: method) for name, method in methods.items()}

    return make


class Counted:
    """Methods that count the cases they are run on, and may be made to fail at one."""

    def __init__(self, *, fail_at: str = "", num_samples: int = 1) -> None:
        self.runs: list[tuple[str, str]] = []
        self.fail_at, self.num_samples = fail_at, num_samples

    def plan(self, **offsets: float) -> dict[str, PlannedMethod]:
        """Method name -> what is added to the truth [HU]; it decides the identity too."""

        def method(case: EvaluationCase, name: str, offset: float) -> Prediction:
            if case.name == self.fail_at:
                raise KeyboardInterrupt
            self.runs.append((case.name, name))
            samples = np.random.default_rng(0).normal(offset, 0 if self.num_samples == 1 else 50, (self.num_samples, 1, 1, 1))
            hu = (case.truth.hu + samples).astype(np.float32)
            return Prediction(hu.mean(axis=0), hu if len(hu) > 1 else None, {80: (case.truth.hu - 1, case.truth.hu + 1)})

        return {
            name: PlannedMethod(
                f"plus {offset}", lambda name=name, offset=offset: partial(method, name=name, offset=offset), self.num_samples
            )
            for name, offset in offsets.items()
        }


@pytest.fixture(scope="session")
def counted() -> type[Counted]:
    return Counted


@pytest.fixture()
def five(planned: Callable[..., PlannedCase]) -> list[PlannedCase]:
    return [planned(f"c{n}", pixel_spacing_mm=0.5 + 0.1 * n) for n in range(5)]
