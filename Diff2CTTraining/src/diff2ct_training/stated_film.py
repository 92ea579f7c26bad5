"""An X-ray file and what its user states about it: view, frame, geometry, how its values are to be read; and what the user
must know of it in turn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diff2ct.assumptions import FrameNotStatedError, ViewNotStatedError, is_number
from diff2ct.geometry import Beam, View
from diff2ct.landmarks import Match, spacing_of_length, with_landmarks
from diff2ct.radiograph import Radiograph, read_radiograph
from diff2ct.radiograph_pair import check_pair
from diff2ct.told import assumed_values, told

NAMES_OF_VIEWS = ("ap", "lateral")
READING_KEYS = ("frame", "polarity", "intensity", "invalid_value", "visible")
"""What a geometry file may say about reading an image, beside where it was taken."""
LENGTH, LANDMARKS = "known_length", "landmarks"
"""What it may say of things that the image shows: {"ends": [[row, column], [row, column]], "mm": the length in the patient},
and {name: [row, column]} of structures that the other view shows too."""
HOW_TO_STATE = (
    'state what you know of the assumed values in a file for --geometry, {"ap": {...}, "lateral": {...}}, or beside a picture, '
    'as AP.png.json for AP.png; see "Your own X-rays" in the README'
)


@dataclass(frozen=True, eq=False)
class StatedPair:
    """The AP and the lateral X-ray, and what their user must know.

    warnings: what may spoil a result. notes: what is assumed, but cannot, and what landmarks have changed. assumed: by name of
    the view, the facts that nobody measured, with their values.
    """

    radiographs: tuple[Radiograph, Radiograph]
    warnings: list[str]
    notes: list[str]
    assumed: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PairRequest:
    """Two X-ray files and what is stated about them, in a request for what is to be done with them.

    geometry: JSON file {"ap": {...}, "lateral": {...}}, each with fields of `geometry.beam_from_dict`, for reading the image
        `READING_KEYS` as in `read_radiograph`, and `LENGTH` and `LANDMARKS` of what it shows; the image tells what they leave
        out.
    ap_view, lateral_view: AP or PA, LL or RL, for images that do not tell. ap_frame, lateral_frame: of several, from 0.
    """

    ap: Path
    lateral: Path
    geometry: Path | None = None
    ap_view: str | None = None
    lateral_view: str | None = None
    ap_frame: int | None = None
    lateral_frame: int | None = None

    @property
    def pair_files(self) -> dict[str, Path | None]:
        """The files that are read, by words for them."""
        return {"the frontal X-ray": self.ap, "the lateral X-ray": self.lateral, "geometry": self.geometry}

    def read_pair(self) -> StatedPair:
        """The two X-rays, checked for whether they fit together."""
        ap, lateral, match = read_pair(
            (self.ap, self.lateral),
            read_geometry(self.geometry),
            (self.ap_view, self.lateral_view),
            (self.ap_frame, self.lateral_frame),
        )
        films = told([ap, lateral])
        return StatedPair(
            radiographs=(ap, lateral),
            warnings=films.warnings + check_pair(ap, lateral) + films.doubts,
            notes=films.notes + ([] if match is None else [str(match)]),
            assumed={name: assumed_values(film) for name, film in zip(NAMES_OF_VIEWS, (ap, lateral), strict=True)},
        )


def remarks(report: Mapping[str, Any]) -> list[str]:
    """What a person must know before using a result, what may spoil it first; none if all is measured and fits. report: with
    "warnings", "notes" and "assumed", as of a `StatedPair`."""
    lines = [f"warning: {sentence}" for sentence in report["warnings"]] + [f"note: {sentence}" for sentence in report["notes"]]
    if any(report["assumed"].values()):
        lines.append(f"note: {HOW_TO_STATE}")
    return lines


def read_film(
    name: str, path: Path, view: str | None, frame: int | None, geometry: Mapping[str, Any], *, option: str = "--{}-{}"
) -> Radiograph:
    """The X-ray called `name`, "ap" or "lateral"; where its view or frame is not known, the error names the option that tells
    it. option: how that is written, a format string of `name` and what it tells. `LANDMARKS` change nothing here, see
    `with_stated_landmarks`."""
    usual = {"ap": "AP or PA", "lateral": "LL or RL"}[name]
    view_option, frame_option = (option.format(name, what) for what in ("view", "frame"))
    try:
        known = None if view is None else View.parse(view)
    except ValueError:
        raise ValueError(f"{view_option}: got {view!r}, accepted is {usual}") from None
    reading = {key: geometry[key] for key in READING_KEYS if key in geometry}
    if frame is not None:
        reading["frame"] = frame
    beam = {key: value for key, value in geometry.items() if key not in (*READING_KEYS, LENGTH, LANDMARKS)}
    if LENGTH in geometry and "detector_spacing_mm" in beam:
        raise ValueError(
            f"geometry: {name} has {LENGTH} and detector_spacing_mm, accepted is one of them: both tell the pixel size"
        )
    read = partial(read_radiograph, path, view=known, **reading)
    try:
        radiograph = read(geometry=beam or None)
    except ViewNotStatedError:
        raise ValueError(f"{path.name}: the file does not tell the view; say it with {view_option}, {usual}") from None
    except FrameNotStatedError as error:
        raise ValueError(
            f"{path.name}: has {error.count} frames; say which with {frame_option}, 0 to {error.count - 1}"
        ) from None
    if LENGTH not in geometry:
        return radiograph
    try:  # read again, so that this pixel size is doubted like any that is stated
        return read(geometry={**beam, "detector_spacing_mm": _spacing(radiograph.geometry, geometry[LENGTH])})
    except ValueError as error:
        raise ValueError(f"geometry: {LENGTH} of {name}: {error}") from None


def _spacing(beam: Beam, length: Any) -> tuple[float, float]:
    if not isinstance(length, dict) or set(length) != {"ends", "mm"} or not is_number(length["mm"]):
        accepted = '{"ends": [[row, column], [row, column]], "mm": length}'
        raise ValueError(f"got {json.dumps(length)}, accepted is {accepted}")
    return spacing_of_length(beam, length["ends"], length["mm"])


def read_pair(
    paths: tuple[Path, Path],
    geometry: Mapping[str, Mapping[str, Any]],
    views: tuple[str | None, str | None] = (None, None),
    frames: tuple[int | None, int | None] = (None, None),
) -> tuple[Radiograph, Radiograph, Match | None]:
    """The AP and the lateral X-ray, as `read_film` reads each, and what landmarks in both have changed, None without any."""
    _shared_landmarks(geometry)  # what is wrong with them is told before the work
    ap, lateral = (
        read_film(name, path, view, frame, geometry.get(name, {}))
        for name, path, view, frame in zip(NAMES_OF_VIEWS, paths, views, frames, strict=True)
    )
    return with_stated_landmarks(ap, lateral, geometry)


def with_stated_landmarks(
    ap: Radiograph, lateral: Radiograph, geometry: Mapping[str, Mapping[str, Any]]
) -> tuple[Radiograph, Radiograph, Match | None]:
    """The X-rays, as large as they were read, as the `LANDMARKS` of a geometry file make them agree, and what these changed."""
    landmarks = _shared_landmarks(geometry)
    if landmarks is None:
        return ap, lateral, None
    try:
        return with_landmarks(ap, lateral, *landmarks)
    except ValueError as error:
        raise ValueError(f"geometry: {LANDMARKS}: {error}") from None


def _shared_landmarks(geometry: Mapping[str, Mapping[str, Any]]) -> tuple[list[Any], list[Any]] | None:
    """(positions in the AP, in the lateral X-ray), in the order of their names; None if there are none."""
    stated = [geometry.get(name, {}).get(LANDMARKS, {}) for name in NAMES_OF_VIEWS]
    for name, landmarks in zip(NAMES_OF_VIEWS, stated, strict=True):
        if not isinstance(landmarks, dict):
            accepted = '{"L3 upper endplate": [row, column]}'
            raise ValueError(f"geometry: {LANDMARKS} of {name} is {json.dumps(landmarks)}, accepted is {accepted}")
    ap, lateral = stated
    for name in sorted({*ap} ^ {*lateral}):
        raise ValueError(f"geometry: {LANDMARKS}: {name!r} is in one view only, accepted are the same names in ap and lateral")
    return ([ap[name] for name in ap], [lateral[name] for name in ap]) if ap else None


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
