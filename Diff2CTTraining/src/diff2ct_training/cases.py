"""Prepared cases: a whole scan (or phantom) as plain arrays, so that training needs no image library.

A case is NAME.npy, int16 HU (D, H, W) on an axis-aligned grid (or `UNSCANNED`), and NAME.json: where that grid is, where a
surgeon would put the isocentre, what it is ("phantom" or "ct"), whose it is, where it came from, and the pedicle screws that
were put into it.
NAME.labels.npz, where the labels are known, holds `labels`: (D, H, W) uint8 on the same grid, numbers as in `labels`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from diff2ct.atomic import completing_file
from diff2ct.units import HU_AIR
from diff2ct.volume import VolumeGrid
from diff2ct_training.checksums import sha256_of
from diff2ct_training.splits import SPLITS

BODY = "body"
UNSCANNED = -32768
"""In a case's array: nothing was scanned there, as in the corners beside an oblique scan. What is there is not known; it is air
to X-rays."""
CROPPED = "cube"
"""The word in a record's `made_by` for a case that was cut to the model cube."""


@dataclass(frozen=True, eq=False)
class Case:
    """hu: (D, H, W) int16, memory-mapped, HU or `UNSCANNED`. center_lps: around which training places the isocentre [mm].
    screws: those drawn into it, as `PedicleScrew.to_dict` writes them; what a patient brought along is not known.

    patient: of whom it is; split: whether that patient trains, validates or tests. centered_on: what is at `center_lps`, the
    body's middle or a vertebra. record: how it was made and what was measured, for the manifest and the report.
    """

    name: str
    kind: str
    hu: np.ndarray
    grid: VolumeGrid
    center_lps: tuple[float, float, float]
    source: str
    screws: tuple[dict[str, Any], ...] = ()
    patient: str = ""
    split: str = "train"
    centered_on: str = BODY
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ends_in_air(self) -> bool:
        """Whether there is air beside it, as beside a whole phantom. A CT ends with its field of view, a crop in the body."""
        return self.kind == "phantom" and CROPPED not in self.record.get("made_by", "").split(", ")


def phantom_origin(seed: int) -> str:
    """The `source` of a phantom's case."""
    return f"make_phantom({seed})"


def filled(hu: np.ndarray) -> np.ndarray:
    """A case's array as float32 HU, with air where nothing was scanned."""
    return np.where(hu == UNSCANNED, np.float32(HU_AIR), hu).astype(np.float32, copy=False)


def write_case(folder: Path, case: Case, labels: np.ndarray | None = None) -> None:
    """Write NAME.npy, NAME.labels.npz if there are `labels`, and then NAME.json, each complete or not at all: a case without
    its JSON does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    array_file, json_file = folder / f"{case.name}.npy", folder / f"{case.name}.json"
    json_file.unlink(missing_ok=True)  # an earlier one would describe another array
    with completing_file(array_file) as temporary:
        with temporary.open("wb") as stream:
            np.save(stream, np.asarray(case.hu, dtype=np.int16))
        digests = {"sha256": sha256_of(temporary)}
    labels_file(json_file).unlink(missing_ok=True)
    if labels is not None:
        with completing_file(labels_file(json_file)) as temporary:
            with temporary.open("wb") as stream:
                np.savez_compressed(stream, labels=np.asarray(labels, dtype=np.uint8))
            digests["labels_sha256"] = sha256_of(temporary)
    description = {
        "kind": case.kind,
        "grid": asdict(case.grid),
        "center_lps": list(case.center_lps),
        "centered_on": case.centered_on,
        "source": case.source,
        "patient": case.patient,
        "split": case.split,
        "screws": list(case.screws),
        "record": {**case.record, **digests},
    }
    with completing_file(json_file) as temporary:
        temporary.write_text(json.dumps(description, indent=1))


def remove_case(json_file: Path) -> None:
    """The files of `write_case`."""
    for file in (json_file, json_file.with_suffix(".npy"), labels_file(json_file)):
        file.unlink(missing_ok=True)


def read_case(json_file: Path) -> Case:
    """The case that `json_file` describes. Raises ValueError naming the file if the two do not fit."""
    try:
        description = describe_case(json_file)
        grid = VolumeGrid(**description["grid"])
        hu = np.load(json_file.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        if hu.shape != grid.size or hu.dtype != np.int16:
            raise ValueError(f"case: {json_file} says {grid.size} int16, its array is {hu.shape} {hu.dtype}")
        return Case(
            name=json_file.stem,
            kind=description["kind"],
            hu=hu,
            grid=grid,
            center_lps=tuple(description["center_lps"]),
            source=description["source"],
            screws=tuple(description.get("screws", ())),
            patient=description["patient"],
            split=description["split"],
            centered_on=description.get("centered_on", BODY),
            record=description.get("record", {}),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        if str(error).startswith("case: "):
            raise
        raise ValueError(f"case: {json_file} cannot be read: {error}") from error


def describe_case(json_file: Path) -> dict[str, Any]:
    """What NAME.json says; the array stays unread. Cases of a time before patients and splits are training cases."""
    try:
        description = json.loads(json_file.read_text())
        description.setdefault("patient", json_file.stem)
        if description.setdefault("split", "train") not in SPLITS:
            raise ValueError(f"its split is {description['split']!r}, accepted are {', '.join(SPLITS)}")
    except (OSError, AttributeError, ValueError) as error:
        raise ValueError(f"case: {json_file} cannot be read: {error}") from error
    return description


def labels_file(json_file: Path) -> Path:
    """Where a case's labels are, if it has any."""
    return json_file.with_name(f"{json_file.stem}.labels.npz")


def read_labels(json_file: Path) -> np.ndarray | None:
    """(D, H, W) uint8 on the case's grid, numbers as in `labels`; None if the case has none."""
    file = labels_file(json_file)
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            return stored["labels"]
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ValueError(f"case: {file} cannot be read: {error}") from error


def list_cases(folder: Path, split: str | None = None) -> list[Path]:
    """The JSON files of all cases in `folder`, or of one split, sorted. Raises ValueError if there is none."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"cases: no prepared case in {folder}; `diff2ct prepare` makes them")
    if split is None:
        return files
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, accepted are {', '.join(SPLITS)}")
    found = [file for file in files if describe_case(file)["split"] == split]
    if not found:
        raise ValueError(f"cases: none of the {len(files)} cases in {folder} is in the {split} split")
    return found
