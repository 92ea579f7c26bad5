"""An X-ray file and what its user states about it: view, frame, geometry, how its values are to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diff2ct.assumptions import FrameNotStatedError, ViewNotStatedError
from diff2ct.geometry import View
from diff2ct.radiograph import Radiograph, read_radiograph

NAMES_OF_VIEWS = ("ap", "lateral")
READING_KEYS = ("frame", "polarity", "intensity", "invalid_value", "visible")
"""What a geometry file may say about reading an image, beside where it was taken."""


def read_film(
    name: str, path: Path, view: str | None, frame: int | None, geometry: Mapping[str, Any], *, option: str = "--{}-{}"
) -> Radiograph:
    """The X-ray called `name`, "ap" or "lateral"; where its view or frame is not known, the error names the option that tells
    it. option: how that is written, a format string of `name` and what it tells."""
    usual = {"ap": "AP or PA", "lateral": "LL or RL"}[name]
    view_option, frame_option = (option.format(name, what) for what in ("view", "frame"))
    try:
        known = None if view is None else View.parse(view)
    except ValueError:
        raise ValueError(f"{view_option}: got {view!r}, accepted is {usual}") from None
    reading = {key: geometry[key] for key in READING_KEYS if key in geometry}
    if frame is not None:
        reading["frame"] = frame
    beam = {key: value for key, value in geometry.items() if key not in READING_KEYS}
    try:
        return read_radiograph(path, view=known, geometry=beam or None, **reading)
    except ViewNotStatedError:
        raise ValueError(f"{path.name}: the file does not tell the view; say it with {view_option}, {usual}") from None
    except FrameNotStatedError as error:
        raise ValueError(
            f"{path.name}: has {error.count} frames; say which with {frame_option}, 0 to {error.count - 1}"
        ) from None


def read_geometry(path: Path | None) -> dict[str, dict[str, Any]]:
    """The views of a geometry file, by name; none without a file. Their fields are checked where the radiograph is read."""
    if path is None:
        return {}
    if not path.is_file():
        raise ValueError(f"geometry: {path}: no such file")
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows marks the file's start
    except (ValueError, RecursionError) as error:
        raise ValueError(f"geometry: {path} is no JSON ({error})") from None
    if not isinstance(values, dict) or not values or not all(isinstance(v, dict) for v in values.values()):
        raise ValueError(f'geometry: {path} holds {type(values).__name__}, accepted is {{"ap": {{...}}, "lateral": {{...}}}}')
    unknown = sorted(set(values) - set(NAMES_OF_VIEWS))
    if unknown:
        raise ValueError(f"geometry: unknown {', '.join(unknown)} in {path}, accepted are ap and lateral")
    return values


def check_in_frame_of_ct(radiograph: Radiograph) -> None:
    """ValueError if an X-ray does not tell where it was taken in the frame of reference of the patient's CT."""
    if "isocenter_lps" in radiograph.assumed:
        raise ValueError(
            f"truth: {radiograph.source} does not tell where in the CT's frame of reference it was taken, so scores would "
            'mean nothing; state "isocenter_lps": [x, y, z] in mm in a geometry file'
        )
