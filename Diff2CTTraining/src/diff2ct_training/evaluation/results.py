"""What an evaluation has found out so far, on disk after every result: `per_case.csv`, `per_screw.csv` and, per result, a small
file with the three planes that figures show and the features that FID pools.

A result is there if its row and its file say that the same thing made them (`made_by`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from diff2ct.atomic import replacing_file
from diff2ct_training.evaluation.tables import KEYS, Row, read_rows, write_rows

Key = tuple[str, str, str]
"""Dataset, case, method."""
TRUTH = "truth"
"""Not a method: its files hold the true planes, X-rays and features."""


class Results:
    """The results in a folder. afresh: forget what is there."""

    def __init__(self, output: Path, *, afresh: bool = False) -> None:
        self.output = output
        output.mkdir(parents=True, exist_ok=True)
        self._files = {"cases": output / "per_case.csv", "screws": output / "per_screw.csv"}
        there = {name: [] if afresh or not file.exists() else read_rows(file) for name, file in self._files.items()}
        self._rows = {key_of(row): row for row in there["cases"]}
        self._screws: dict[Key, list[Row]] = {}
        for row in there["screws"]:
            self._screws.setdefault(key_of(row), []).append(row)

    def has(self, key: Key, made_by: str) -> bool:
        return self._rows.get(key, {}).get("made_by") == made_by and self.has_arrays(key, made_by)

    def add(self, key: Key, made_by: str, row: Mapping[str, Any], screws: Sequence[Mapping[str, Any]]) -> None:
        """Keep one result, whose arrays are there already. row: its figures. screws: a row per true screw."""
        head = dict(zip(KEYS, key, strict=True))
        self._rows[key] = {**head, "made_by": made_by, **row}
        self._screws[key] = [{**head, **screw} for screw in screws]

    def tell_patients(self, patients: Mapping[tuple[str, str], str]) -> None:
        """Whose the cases (dataset, name) are, in all of their rows: those of an earlier version do not tell."""
        for row in self._rows.values():
            patient = patients.get((row["dataset"], row["case"]))
            if patient and patient != row["case"]:
                row["patient"] = patient

    def write(self, order: Iterable[Key]) -> None:
        """The tables, rows in `order` first, rows of other evaluations after them."""
        keys = [key for key in dict.fromkeys([*order, *self._rows]) if key in self._rows]
        write_rows([self._rows[key] for key in keys], self._files["cases"])
        screws = [row for key in keys for row in self._screws.get(key, ())]
        if screws or self._files["screws"].exists():
            write_rows(screws, self._files["screws"])

    def rows(self, keys: Iterable[Key]) -> list[Row]:
        return [self._rows[key] for key in keys if key in self._rows]

    def screw_rows(self, keys: Iterable[Key]) -> list[Row]:
        return [row for key in keys for row in self._screws.get(key, ())]

    def add_arrays(self, key: Key, made_by: str, arrays: dict[str, np.ndarray]) -> None:
        path = self.output / file_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path, overwrite=True) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{"made_by": np.array(made_by), **arrays})  # type: ignore[arg-type]  # numpy's stub

    def has_arrays(self, key: Key, made_by: str) -> bool:
        return str(self.arrays(key, "made_by").get("made_by", "")) == made_by

    def arrays(self, key: Key, *names: str) -> dict[str, np.ndarray]:
        """Those of `names` that are there, all for none."""
        try:
            with np.load(self.output / file_of(key), allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files if not names or name in names}
        except (OSError, ValueError, BadZipFile):  # not there, or cut short: made again
            return {}


def file_of(key: Key) -> Path:
    """Where a result's arrays are, below the folder of an evaluation. Names that differ in little may have the same."""
    dataset, case, method = (re.sub(r"[^\w.+-]+", "_", part) for part in key)
    return Path("results", dataset, case, f"{method}.npz")


def key_of(row: Row) -> Key:
    return row["dataset"], row["case"], row["method"]
