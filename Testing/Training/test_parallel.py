from __future__ import annotations

import errno
import os

import pytest

from diff2ct import process
from diff2ct_training import parallel
from diff2ct_training.parallel import Failed, run_all


def half(number: int) -> int:
    if number == 99:
        os._exit(1)
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def full(number: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device", "cases")


def broken(number: int) -> int:
    raise KeyError(number)


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_inputs_do_not_stop_the_others(workers: int) -> None:
    found = dict(run_all(half, [4, 5, 6], workers))
    assert found == {4: 2, 5: Failed("5 is odd"), 6: 3}


def test_a_full_disk_and_our_mistakes_stop() -> None:
    with pytest.raises(OSError, match="No space left"):
        list(run_all(full, [1]))
    with pytest.raises(KeyError):
        list(run_all(broken, [1]))


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(ValueError, match="fewer --workers"):
        list(run_all(half, [99, 2, 4], 2))


def test_no_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="--workers: got 0"):
        list(run_all(half, [2], 0))


@pytest.mark.parametrize(("wanted", "found"), [(None, 4), ("2", 2), ("2,1", 2), ("16", 4), ("many", 4)])
def test_threads_are_those_of_the_processors_allowed_here(
    wanted: str | None, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch system gives a job some of the machine's processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {8, 9, 10, 11}, raising=False)
    monkeypatch.setattr(process, "control_groups", lambda controller: [])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert parallel.usable_threads() == found
    assert parallel.usable_threads(2) == min(2, found) and parallel.usable_threads(8) == 1
