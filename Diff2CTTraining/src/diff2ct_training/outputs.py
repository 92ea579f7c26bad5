"""Files that commands write: nothing that exists is written over unasked, and this is found out before the work, not after
it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def check_outputs(paths: Iterable[Path | None], *, overwrite: bool) -> None:
    """ValueError if a file exists and may not be replaced, or if its folder does not exist. None stands for an output not
    asked for."""
    for path in paths:
        if path is None:
            continue
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists already; --overwrite replaces it")
        if path.is_dir():
            raise ValueError(f"{path} is a folder, accepted is a file name")
        if not path.absolute().parent.is_dir():
            raise ValueError(f"{path}: the folder {path.parent} does not exist")


def output_folder(folder: Path, names: Iterable[str], *, overwrite: bool) -> Path:
    """`folder`, made if needed, once it is sure that none of `names` in it would be written over unasked."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, accepted is a folder")
    for name in names:
        if (folder / name).exists() and not overwrite:
            raise ValueError(f"{folder / name} exists already; --overwrite replaces it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
