"""What made the X-rays that are stored beside a case, and whether they are those that are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import MADE_BY, AcquisitionConfig, acquisition_files
from diff2ct_training.film_style import FilmStyle
from diff2ct_training.xray_file import read_header

VERSION = 1
"""Raise it when the same case and options come to give other X-rays."""


def xrays_made_by(config: AcquisitionConfig, grid: VolumeGrid, style: FilmStyle | None) -> dict[str, Any]:
    """All that decides the X-rays of a case, but for the case and their number, as plain JSON."""
    facts = {"version": VERSION, "size": grid.size, "spacing_mm": grid.spacing_mm, **asdict(config)}
    facts |= {"translator": None, "style_share": 0.0} if style is None else style.record()
    return dict(json.loads(json.dumps(facts)))


def keep_wanted_xrays(folder: Path, case_name: str, wanted: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Remove the stored acquisitions of a case that were made otherwise; whether there were any. ValueError with the difference
    if they may not be removed. What one does not tell, as those of earlier versions, is not compared; to overwrite, those that
    tell nothing are removed too, and those that cannot be read."""
    is_removed = False
    for file in acquisition_files(folder, case_name):
        try:
            made_by = read_header(file).get(MADE_BY, {})
        except ValueError:
            if not overwrite:
                raise
            made_by = {}
        changed = [
            f"{name} {made_by[name]}, not {value}" for name, value in wanted.items() if made_by.get(name, value) != value
        ]
        if changed and not overwrite:
            raise ValueError(
                f"{file} was rendered in another way than asked for: {'; '.join(changed)}; --overwrite renders it again"
            )
        if overwrite and (changed or not made_by):
            file.unlink()
            is_removed = True
    return is_removed
