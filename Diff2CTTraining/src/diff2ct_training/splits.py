"""Which patients train, which validate, which test. A patient's place depends on the patient's name alone, so it stays when
others are added, and all scans of a patient and all cases made of them share it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "val", "test")
PAPER_SPLIT = "212/56"
"""Training and test patients of arXiv 2408.09731."""
OFFICIAL = "official"


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """val, test: shares of patients, by a hash of their name. stated: patient -> split, which then alone decides.

    official: the split that the data set itself publishes decides.
    """

    val: float = 0.0
    test: float = 0.0
    stated: Mapping[str, str] = field(default_factory=dict)
    official: bool = False

    @classmethod
    def parse(cls, text: str) -> SplitRule:
        """ "212/56": train to test; "170/42/56": train to val to test; "official"; or a CSV file with the columns patient and
        split."""
        if text == OFFICIAL:
            return cls(official=True)
        if Path(text).suffix.lower() == ".csv":
            return cls(stated=_read_stated(Path(text)))
        try:
            parts = [float(part) for part in text.split("/")]
        except ValueError:
            parts = []
        if len(parts) not in (2, 3) or min(parts) < 0 or not 0 < sum(parts) < float("inf"):
            raise ValueError(
                f"--split: got {text!r}, accepted are TRAIN/TEST and TRAIN/VAL/TEST such as {PAPER_SPLIT}, {OFFICIAL}, and a "
                "CSV file with the columns patient and split"
            )
        val = parts[1] if len(parts) == 3 else 0.0
        return cls(val=val / sum(parts), test=parts[-1] / sum(parts))

    def split_of(self, patient: str, official: str | None = None) -> str:
        """ "train", "val" or "test". official: what the data set says. ValueError if the rule does not know the patient."""
        if self.official:
            if official is None:
                raise ValueError(f"--split {OFFICIAL}: the data set does not say where patient {patient} belongs")
            return official
        if self.stated:
            if patient not in self.stated:
                raise ValueError(f"--split: the file does not name patient {patient}")
            return self.stated[patient]
        place = position(patient)
        if place < self.test:
            return "test"
        return "val" if place < self.test + self.val else "train"


def position(patient: str) -> float:
    """A number in [0, 1), evenly spread over patients, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"diff2ct split\0{patient}".encode()).digest()[:6], "big") / 2**48


def _read_stated(file: Path) -> dict[str, str]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise ValueError(f"--split: {file} cannot be read ({error.strerror})") from error
    if not rows or not {"patient", "split"} <= set(rows[0]):
        raise ValueError(f"--split: {file} has no columns patient and split")
    stated: dict[str, str] = {}
    for row in rows:
        patient, split = row["patient"], row["split"]
        if split not in SPLITS:
            raise ValueError(f"--split: {file} puts {patient} into {split!r}, accepted are {', '.join(SPLITS)}")
        if stated.setdefault(patient, split) != split:
            raise ValueError(f"--split: {file} puts {patient} into {stated[patient]} and into {split}")
    return stated
