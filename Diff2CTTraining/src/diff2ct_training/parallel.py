"""The same work on many inputs, in one process or several; one bad input does not stop the others."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Generic, TypeVar

from diff2ct.process import in_words, tune_allocator

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

    function: importable by name, so that another process finds it. ValueError, MemoryError and an OSError of the input become
    `Failed`; a full disk and our own mistakes are raised.
    """
    if workers < 1:
        raise ValueError(f"--workers: got {workers}, accepted is 1 or more")
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            yield task, _Caught(function)(task)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's and ITK's threads
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool:
        futures = {pool.submit(_Caught(function), task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise ValueError(
                "a worker process was killed, most likely for want of memory; the same command with fewer --workers goes on"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Caught(Generic[Task, Result]):
    """`function`, with what is wrong with its input returned instead of raised."""

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


def _start_worker(threads: int) -> None:
    """Runs in the new process before torch and ITK are imported there: these read their number of threads then."""
    os.environ["OMP_NUM_THREADS"] = os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    tune_allocator()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A killed command leaves no process behind that would write into the folder beside its successor."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
