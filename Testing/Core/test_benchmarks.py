"""What the benchmarks write down. Nothing is timed here."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from Benchmarks import judging, steps
from Benchmarks.harness import Seconds, Section, Settings, Unavailable, race

from diff2ct.volume import CtVolume
from diff2ct_training.evaluation.cases import EvaluationCase
from tiny import GRID, tiny_body, tiny_checkpoint, tiny_radiographs


def test_ratio_is_the_median_of_rounds() -> None:
    ours = iter([1.0, 1.0, 1.0, 10.0, 1.0] + [1.0] * 50)  # warm-up, calibration, then one turn per round
    settings = Settings(threads=1, rounds=3, turn_s=0.0)
    timings = race({"ours": lambda: Seconds(next(ours)), "peer": lambda: Seconds(4.0)}, settings)
    assert timings.ratio("peer", "ours") == pytest.approx(4.0)
    assert timings.ms("peer") == pytest.approx(4000.0)
    assert timings.best_ms("ours") == pytest.approx(1000.0)


def test_missing_peer_is_named_and_the_rest_is_reported() -> None:
    section = Section("Title")
    with section.optional("peer"):
        raise Unavailable("not installed")
    section.rows.append({"method": "ours", "ms": 2.0})
    section.expect("ratio", 3.0, 4)
    section.expect("memory", 3.0, 4, at_least=False)
    text = section.markdown()
    assert "peer: skipped, not installed" in text
    assert "| ratio | 3 | >= 4 | **no** |" in text and "| memory | 3 | <= 4 | yes |" in text


def test_changes_are_against_the_first_row_of_the_same_case() -> None:
    before, after = ([dict.fromkeys(judging.FIGURES, value) for value in values] for values in ((1.0, 3.0), (2.0, math.nan)))
    first, second = judging.table({"without": before, "with": after}).splitlines()[2:]
    assert first.startswith("| without | 2.000 | ") and second.startswith("| with | +1.000 | ")


def row(case: str, num_steps: int, sampler: str = "ddim", **scores: float) -> tuple[steps.Run, dict[str, float | str]]:
    run = steps.Run("checkpoint 0", "phantoms", case, sampler, num_steps, 0, False)
    return run, {**vars(run), "seconds": 1.0, **dict.fromkeys(steps.METRICS, 0.5), **scores}


def test_rows_of_an_interrupted_run_are_found_again(tmp_path: Path) -> None:
    file = tmp_path / "steps.csv"
    assert steps.read(file) == {}
    rows = {run.key(): values for run, values in (row("a", 1, metal_dice=math.nan), row("b", 2))}
    for _ in range(2):  # what was read is written as it was
        steps.write(rows, file)
        rows = steps.read(file)
    assert list(rows) == [run.key() for run, _ in (row("a", 1), row("b", 2))]
    assert math.isnan(rows[row("a", 1)[0].key()]["metal_dice"])


def test_table_of_steps_compares_with_the_most_ancestral_steps_of_the_same_cases() -> None:
    few = row("a", 4, "renoise", bone_dice=0.4, metal_dice=math.nan)
    most = row("a", 250, "ddpm", bone_dice=0.2), row("b", 250, "ddpm", bone_dice=0.9)
    lines = steps.report([values for _, values in (few, *most, row("a", 1))]).splitlines()
    assert "bone_dice, % of 250 ddpm steps" in lines[2]
    assert lines[4].startswith("| ddpm | 250 | 2 |") and lines[5].startswith("| ddim | 1 | 1 |")
    assert lines[6].startswith("| renoise | 4 | 1 |") and "| 100.0 | 200.0 | - |" in lines[6]
    assert "% of" not in steps.report([few[1]])  # there is nothing to compare with


def test_cases_sampled_together_get_the_volumes_they_get_alone() -> None:
    checkpoint, bodies = tiny_checkpoint(), (tiny_body(), CtVolume(np.full(GRID.size, -400.0), GRID))
    cases = [
        EvaluationCase("phantoms", str(n), tuple(tiny_radiographs(body)), body, np.ones(GRID.size, bool))
        for n, body in enumerate(bodies)
    ]
    run = replace(row("0", 3)[0], sampler="ddpm", seed=4)
    alone = np.stack([steps.sample(run, case, checkpoint, "cpu") for case in cases])
    together = steps.sample_together(run, cases, checkpoint, "cpu")
    np.testing.assert_allclose(together, alone, atol=0.02 * np.abs(alone[1] - alone[0]).max())
    assert len({values["seconds"] for values in steps.score((run, run), cases, checkpoint, "cpu")}) == 1
