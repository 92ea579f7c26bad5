"""What a checkpoint's provenance says of the data it has seen and of the checkpoints that it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diff2ct_training.cases import phantom_origin

ORIGINS = "origins"
"""Key in the provenance of a checkpoint and of its calibration: SHA-256 of the CTs, as `case_origin.Source` has them, and of a
calibration's phantoms their `phantom_origin`."""
STARTED_FROM, TEACHER = "started_from", "teacher"
"""Keys there: the provenance of a checkpoint whose weights it was given first."""


def trained_on(provenance: Mapping[str, Any]) -> set[str]:
    """SHA-256 of the CTs that a checkpoint was trained on, and those that it comes from."""
    found = set(provenance.get(ORIGINS, ()))
    return found.union(*(trained_on(provenance[key]) for key in (STARTED_FROM, TEACHER) if key in provenance))


def calibrated_on(provenance: Mapping[str, Any]) -> set[str]:
    """SHA-256 of the CTs of a calibration and `phantom_origin` of its phantoms, of whom an earlier version told the seeds
    alone, in words."""
    found = set(provenance.get(ORIGINS, ()))
    for first, last in re.findall(r"seeds (\d+) to (\d+)", provenance.get("cases", "")):
        found |= {phantom_origin(seed) for seed in range(int(first), int(last) + 1)}
    return found
