"""Write under a temporary name in the same folder, then rename: nobody reads half a file, a failed write leaves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from diff2ct.file_name import check_name


@contextmanager
def replacing_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields the temporary path to write to (same folder and suffixes); it becomes `path` when the block ends without error."""
    path = Path(path)
    _check_target(path, overwrite)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, accepted is a file name")
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def completing_file(path: str | Path) -> Iterator[Path]:
    """`replacing_file` for a run that is killed and goes on: the temporary is always `path` + ".partial", so that what a kill
    leaves is taken for no finished file and the next run writes over it. Replaces an earlier file; one writer at a time."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path, *, overwrite: bool = False, may_hold: str) -> Iterator[Path]:
    """Yields an empty temporary folder beside `path`; it becomes `path` when the block ends without error.

    may_hold: pattern of the only files that a folder to be replaced may contain: `overwrite` never deletes others.
    """
    path = Path(path)
    _check_target(path, overwrite or (path.is_dir() and not any(path.iterdir())))
    if path.exists() and (not path.is_dir() or any(not p.match(may_hold) or p.is_dir() for p in path.iterdir())):
        raise ValueError(f"{path}: holds more than {may_hold} files and is not replaced; choose a new folder")
    temporary, retired = _temporary(path), _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(retired)
        temporary.rename(path)
    except BaseException:
        if retired.exists() and not path.exists():
            retired.rename(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def _check_target(path: Path, overwrite: bool) -> None:
    check_name(path)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: its folder does not exist")
    if path.exists() and not overwrite:
        raise ValueError(f"{path}: exists already; pass overwrite=True to replace it")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{uuid4().hex[:8]}-{path.name}")
