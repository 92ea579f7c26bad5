"""Which of the cases a checkpoint has seen, and so says nothing about.

A CT is told by the SHA-256 of its files, a phantom by its seed: a file of another name is the same CT, one that was converted
or anonymised anew is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from diff2ct.checkpoint import Checkpoint
from diff2ct_training.checksums import sha256_of_files
from diff2ct_training.evaluation.cases import PlannedCase
from diff2ct_training.lineage import calibrated_on, trained_on

_SHOWN = 5
_sha256_of_files = cache(sha256_of_files)


def origin_of(case: PlannedCase) -> str:
    """Empty where nobody knows. Reads the files of a CT."""
    return case.origin or (_sha256_of_files(case.files) if case.files else "")


def seen_by(checkpoint: Checkpoint, cases: Sequence[PlannedCase]) -> list[tuple[str, str]]:
    """("trained on" or "calibrated on", which of the cases in words); nothing where there is none."""
    by_use = {"trained on": trained_on(checkpoint.provenance)}
    if checkpoint.calibration is not None:
        by_use["calibrated on"] = calibrated_on(checkpoint.calibration.provenance)
    if not any(by_use.values()):
        return []
    origins = [(case.name, origin_of(case)) for case in cases]
    found = {use: [name for name, origin in origins if origin in known] for use, known in by_use.items()}
    return [(use, listed(names)) for use, names in found.items() if names]


def listed(names: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
