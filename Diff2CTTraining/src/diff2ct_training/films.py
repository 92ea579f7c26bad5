"""X-ray files of patients -> plain arrays that training reads (see `xray_file`). Nothing but the picture and its view matters
here: no CT belongs to them, and geometry that a file does not tell does no harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diff2ct.assumptions import ViewNotStatedError
from diff2ct.geometry import View
from diff2ct.radiograph import Radiograph, read_radiograph
from diff2ct_training.acquisitions import acquisition_path
from diff2ct_training.xray_file import write_xrays

LONGER_SIDE = 512
"""Pixels that are kept along it: twice what a translator is trained on."""
_NO_IMAGES = (".json", ".csv", ".txt", ".md", ".xml", ".pdf")
OnFilm = Callable[[str], None]


@dataclass(frozen=True)
class PreparedFilms:
    """written: files of this and earlier runs, one per X-ray. skipped: a sentence for each X-ray that cannot be used."""

    written: list[Path]
    skipped: list[str]


def prepare_films(folder: Path, sources: Sequence[Path], on_film: OnFilm | None = None) -> PreparedFilms:
    """Write every X-ray of `sources`, files and folders of any depth, into `folder`. Goes on where it stopped.

    The view comes from the file or its JSON; where neither tells it, from the nearest folder named AP, PA, LL or RL. Raises
    ValueError if nothing is left to train on, or if two files would get one name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = find_films(sources)
    written, skipped = [], []
    for name, path in found.items():
        target = acquisition_path(folder, name, 0)
        try:
            if not target.exists():
                film = _read(path).resized(max_pixels=LONGER_SIDE)
                write_xrays(target, [film.line_integral], [film.valid], [film.geometry], source=film.source)
            written.append(target)
        except ValueError as error:
            skipped.append(f"{path}: {error}")
        if on_film is not None:
            on_film(name)
    if not written:
        reasons = "; ".join(skipped[:3]) or "there are no files"
        raise ValueError(f"films: none of {', '.join(map(str, sources))} can be used: {reasons}")
    return PreparedFilms(written, skipped)


def find_films(sources: Sequence[Path]) -> dict[str, Path]:
    """Files by a name of their own: their path below the source."""
    found: dict[str, Path] = {}
    for source in sources:
        if not source.exists():
            raise ValueError(f"films: {source} does not exist")
        files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        for path in files:
            if path.suffix.lower() in _NO_IMAGES or path.name.startswith("."):
                continue
            inside = path.relative_to(source) if source.is_dir() else Path(path.name)
            name = "_".join(inside.parts)
            if name in found:
                raise ValueError(f"films: {found[name]} and {path} would both be stored as {name}")
            found[name] = path
    return found


def _read(path: Path) -> Radiograph:
    try:
        return read_radiograph(path)
    except ViewNotStatedError:
        for folder in path.absolute().parents:
            if folder.name.upper() in View.__members__:
                return read_radiograph(path, view=View[folder.name.upper()])
        raise ValueError("the view is not stated; put it into a folder named AP, PA, LL or RL") from None
