"""One command at a time in an output folder: two would drop each other's results without a word."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diff2ct.file_name import check_name

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process alone, not of those that it forks


_TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """While the block runs no other process gets into one for `folder`, which is made if needed; ValueError if another is in.

    However a process ends, the system lets go of its lock; the file of that name stays. Where a disk has no locks, or the
    file is another user's, there is none.
    """
    check_name(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = (folder / ".lock").open("ab")
    except PermissionError:  # of another user of the same folder
        yield
        return
    with file:
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in _TAKEN:
                message = f"{folder}: another process of diff2ct is writing here; wait for it, or choose another folder"
                raise ValueError(message) from None
        yield
