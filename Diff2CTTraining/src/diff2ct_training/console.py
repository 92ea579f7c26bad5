"""What the commands say to the person at the terminal. Everything goes to stderr; stdout is for results only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from diff2ct.process import in_words, is_out_of_memory

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "diff2ct"
EXIT_BAD_INPUT = 2
SECONDS_BETWEEN_LOG_LINES = 30.0


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input, a full disk or too little memory end the program with one line and exit status 2. Anything else is our
    mistake and keeps its traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        _fail(" ".join(str(error).split()))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _fail(in_words(error))


def _fail(message: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {message}\n")
    raise SystemExit(EXIT_BAD_INPUT)


def note(message: str) -> None:
    """A line for the reader: a warning, or what was written."""
    sys.stderr.write(f"{message}\n")


class Progress(Protocol):
    """Tells how far the work is; without `completed` it moves on by one."""

    def __call__(self, completed: int | None = None, total: int | None = None, description: str | None = None) -> None: ...


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Progress]:
    """A bar on the terminal while the block runs. Where stderr is no terminal, a line of text now and then, for the log."""
    from rich.console import Console

    console = Console(stderr=True)
    with _bar(console, description, total) if console.is_terminal else _log(description, total) as update:
        yield update


@contextmanager
def _bar(console: Console, description: str, total: int | None) -> Iterator[Progress]:
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)

        def update(completed: int | None = None, total: int | None = None, description: str | None = None) -> None:
            advance = 1 if completed is None else None
            bar.update(task, completed=completed, total=total, description=description, advance=advance)

        yield update


@contextmanager
def _log(what: str, count: int | None) -> Iterator[Progress]:
    done, last = 0, time.monotonic()

    def update(completed: int | None = None, total: int | None = None, description: str | None = None) -> None:
        nonlocal done, last, count, what
        done, count, what = done + 1 if completed is None else completed, total or count, description or what
        if time.monotonic() - last > SECONDS_BETWEEN_LOG_LINES:
            note(f"{what} {done}/{count or '?'}")
            last = time.monotonic()

    yield update
