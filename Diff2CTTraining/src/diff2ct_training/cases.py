"""Prepared training cases: a whole scan (or phantom) as plain arrays, so that training needs no image library.

A case is NAME.npy, int16 HU (D, H, W) on an axis-aligned grid, and NAME.json: where that grid is, where a surgeon would put the
isocentre, what it is ("phantom" or "ct"), where it came from, and the pedicle screws that were put into it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diff2ct.volume import VolumeGrid


@dataclass(frozen=True, eq=False)
class Case:
    """hu: (D, H, W) int16, memory-mapped. center_lps: around which training places the isocentre [mm]. screws: those drawn into
    it, as `PedicleScrew.to_dict` writes them; what a patient brought along is not known."""

    name: str
    kind: str
    hu: np.ndarray
    grid: VolumeGrid
    center_lps: tuple[float, float, float]
    source: str
    screws: tuple[dict[str, Any], ...] = ()


def write_case(folder: Path, case: Case) -> None:
    """Write NAME.npy and then NAME.json, each complete or not at all: a case without its JSON does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    array_file, json_file = folder / f"{case.name}.npy", folder / f"{case.name}.json"
    partial = array_file.with_suffix(".partial.npy")
    np.save(partial, np.asarray(case.hu, dtype=np.int16))
    partial.replace(array_file)
    description = {
        "kind": case.kind,
        "grid": asdict(case.grid),
        "center_lps": list(case.center_lps),
        "source": case.source,
        "screws": list(case.screws),
    }
    partial = json_file.with_suffix(".partial")
    partial.write_text(json.dumps(description, indent=1))
    partial.replace(json_file)


def read_case(json_file: Path) -> Case:
    """The case that `json_file` describes. Raises ValueError naming the file if the two do not fit."""
    try:
        description = json.loads(json_file.read_text())
        grid = VolumeGrid(**description["grid"])
        hu = np.load(json_file.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"case: {json_file} cannot be read: {error}") from error
    if hu.shape != grid.size or hu.dtype != np.int16:
        raise ValueError(f"case: {json_file} says {grid.size} int16, its array is {hu.shape} {hu.dtype}")
    center, screws = tuple(description["center_lps"]), tuple(description.get("screws", ()))
    return Case(json_file.stem, description["kind"], hu, grid, center, description["source"], screws)


def list_cases(folder: Path) -> list[Path]:
    """The JSON files of all cases in `folder`, sorted. Raises ValueError if there is none."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"cases: no prepared case in {folder}; `diff2ct prepare` makes them")
    return files
