"""What the commands say to the person at the terminal. Everything goes to stderr; stdout is for results only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PROGRAM = "diff2ct"
EXIT_BAD_INPUT = 2


_TORCH_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # torch has no MemoryError of its own on the CPU


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input, a full disk or too little memory end the program with one line and exit status 2. Anything else is our
    mistake and keeps its traceback."""
    try:
        yield
    except MemoryError:
        _fail("not enough memory")
    except (ValueError, OSError) as error:
        _fail(" ".join(str(error).split()))
    except RuntimeError as error:
        if not any(words in str(error) for words in _TORCH_OUT_OF_MEMORY):
            raise
        _fail("not enough memory")


def _fail(message: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {message}\n")
    raise SystemExit(EXIT_BAD_INPUT)


def note(message: str) -> None:
    """A line for the reader: a warning, or what was written."""
    sys.stderr.write(f"{message}\n")


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar on stderr while the block runs. Yields `update(completed=None, total=None, description=None)`; without
    `completed` it moves on by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)

        def update(completed: int | None = None, total: int | None = None, description: str | None = None) -> None:
            advance = 1 if completed is None else None
            progress.update(task, completed=completed, total=total, description=description, advance=advance)

        yield update
