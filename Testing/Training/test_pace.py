from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning_fabric import Fabric

from diff2ct.checkpoint import load_checkpoint
from diff2ct.volume import VolumeGrid
from diff2ct_training import pace as pace_module
from diff2ct_training.cases import Case, write_case
from diff2ct_training.loop import train
from diff2ct_training.pace import Pace
from diff2ct_training.recipes import debug
from tiny import tiny_body


def test_steps_are_the_pace_unless_there_are_minutes() -> None:
    pace = Pace(replace(debug(), num_steps=4), Fabric(accelerator="cpu"))
    pace.start(1)
    assert list(pace.steps(1)) == [2, 3, 4] and pace.done == 0.25 and pace.expected_steps(1) == 4
    pace.tick(4)
    assert pace.done == 1


def test_with_minutes_the_clock_is() -> None:
    pace = Pace(replace(debug(), num_steps=4, minutes=1.0), Fabric(accelerator="cpu"))
    pace.spent.fill_(30.0)  # before a stop
    pace.start(1000)
    assert list(islice(pace.steps(1000), 2)) == [1001, 1002]
    assert 0.5 <= pace.done < 0.55 and pace.expected_steps(1000) == pytest.approx(2000, rel=0.1)
    pace.spent.fill_(90.0)
    pace.start(1000)
    assert pace.done == 1


def test_a_run_ends_when_its_minutes_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count()  # one passes whenever the clock is read: at the start, then at least once a step
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    body = tiny_body(VolumeGrid.centered(40, 8.0))
    write_case(tmp_path, Case("phantom_tiny", "phantom", body.hu.astype("int16"), body.grid, (0.0, 0.0, 0.0), "made here"))
    run = replace(debug(), num_steps=1, minutes=0.2, save_every=10**6, picture_every=10**6)
    steps: list[int] = []
    output = train(run, tmp_path, tmp_path / "run", on_step=lambda step, of, loss: steps.append(step))
    assert next(seconds) > 12 and steps == list(range(1, len(steps) + 1))
    assert load_checkpoint(output / "checkpoint.safetensors").provenance["steps"] == steps[-1]
    assert 1 < steps[-1] <= 12
    train(run, tmp_path, tmp_path / "run", on_step=lambda step, of, loss: steps.append(step))
    assert steps[-1] == len(steps), "no time is left to go on with"


def test_minutes_are_more_than_none() -> None:
    with pytest.raises(ValueError, match="minutes"):
        replace(debug(), minutes=0.0)
