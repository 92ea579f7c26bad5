"""Files that commands write: nothing that exists is written over unasked, and this is found out before the work, not after
it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from diff2ct.file_name import check_name
from diff2ct.image_file import suffix_of
from diff2ct.volume_io import WRITTEN_SUFFIXES

OUTPUT_SUFFIXES = (*WRITTEN_SUFFIXES, "")
"""Of a CT; none is a folder for a DICOM series, of whole HU."""
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def check_output(path: Path | None, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    """ValueError if a file of this kind cannot be written there, or exists and may not be replaced. None is not wanted."""
    if path is None:
        return
    check_name(path)
    if suffix_of(path) not in suffixes:
        folder = " and none, for a folder of DICOM slices" if "" in suffixes else ""
        raise ValueError(f"{path}: cannot be written, accepted suffixes are {', '.join(filter(None, suffixes))}{folder}")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already; --overwrite replaces it")
    if path.is_dir() and suffix_of(path):
        raise ValueError(f"{path} is a folder, accepted is a file name")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist")
    if suffix_of(path) == ".nii.gz":  # its attributes have no place in the file
        check_output(path.with_name(path.name + ".json"), (".json",), overwrite=overwrite)


def check_distinct(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """ValueError if two outputs are one file, or if one would replace an input or a folder with an input in it.

    The keys are words for the paths; None is not wanted.
    """
    taken: dict[Path, str] = {}
    read = {name: path.resolve() for name, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        target = path.resolve()
        if target in taken:
            raise ValueError(f"{taken[target]} and {name} are the same file, {path}")
        for other, source in read.items():
            if target == source or target in source.parents:
                raise ValueError(f"{name} {path} would replace {other} {source}")
        taken[target] = name


def output_folder(folder: Path, names: Iterable[str], *, overwrite: bool) -> Path:
    """`folder`, made if needed, once it is sure that none of `names` in it would be written over unasked."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, accepted is a folder")
    for name in names:
        if (folder / name).exists() and not overwrite:
            raise ValueError(f"{folder / name} exists already; --overwrite replaces it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
