"""The same work on many inputs, in one process or several; one bad input does not stop the others."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from diff2ct.process import in_words, tune_allocator, usable_processors

Task = TypeVar("Task")
Result = TypeVar("Result")

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Failed:
    """reason: one sentence; in place of the result of a task whose input is bad."""

    reason: str


def run_all(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int = 1
) -> Iterator[tuple[Task, Result | Failed]]:
    """(task, function(task)) for every task, as they are done: in their order with one worker, in any with more.

    function: importable by name, so that another process finds it, or an object that pickles; each process gets it once, and
    what it keeps stays for the next task. ValueError, MemoryError and an OSError of the input become `Failed`; a full disk and
    our own mistakes are raised.
    """
    if workers < 1:
        raise ValueError(f"--workers: got {workers}, accepted is 1 or more")
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            yield task, Caught(function)(task)
        return
    threads = usable_threads(workers)
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's and ITK's threads
    sent = pickle.dumps(Caught(function))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads, sent)) as pool:
        futures = {pool.submit(_in_worker, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise ValueError(
                "a worker process was killed, most likely for want of memory; the same command with fewer --workers goes on"
            ) from None
        except BaseException:  # what runs dies with this process
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def usable_threads(processes: int = 1) -> int:
    """For each of so many processes its share of the `usable_processors`, fewer if OMP_NUM_THREADS says so."""
    share = max(1, usable_processors() // processes)
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(share, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else share


def results_in_order(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int = 1) -> Iterator[Result]:
    """function(task) for every task, in their order; ValueError at the first that fails. Tasks differ. Else `run_all`."""
    done: dict[Task, Result] = {}
    to_come = list(reversed(tasks))
    for task, result in run_all(function, tasks, workers):
        if isinstance(result, Failed):
            raise ValueError(result.reason)
        done[task] = result
        while to_come and to_come[-1] in done:
            yield done.pop(to_come.pop())


@dataclass(frozen=True)
class Caught(Generic[Task, Result]):
    """`function`, with what is wrong with its input returned instead of raised, as `run_all` says."""

    function: Callable[[Task], Result]

    def __call__(self, task: Task) -> Result | Failed:
        try:
            return self.function(task)
        except OSError as error:
            if error.errno in _DISK:
                raise
            return Failed(in_words(error))
        except (ValueError, MemoryError) as error:
            return Failed(" ".join(in_words(error).split()))


_function: Callable[[Any], Any]
"""Of this process, if it is a worker."""


def _in_worker(task: Any) -> Any:
    return _function(task)


def _start_worker(threads: int, function: bytes) -> None:
    """Runs in the new process before torch and ITK are imported there: these read their number of threads then. function:
    pickled; it may import them."""
    global _function
    os.environ["OMP_NUM_THREADS"] = os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    tune_allocator()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _function = pickle.loads(function)  # our own bytes, from the parent


def _die_with_parent() -> None:
    """A killed command leaves no process behind that would write into the folder beside its successor."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
