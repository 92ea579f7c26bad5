"""What the user of a result is told about its X-rays: each thing once, however many of them it holds for, and apart what may
spoil the result from what cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diff2ct.assumptions import WARNED
from diff2ct.radiograph import Radiograph

HARMLESS = ("principal_point", "isocenter_lps", "intensity")
"""Assumed facts that move the volume or change its tones, but exchange no sides and change no sizes. Where one view is moved
against the other, `radiograph_pair.check_pair` says so."""
USUAL_NCC = 0.5
"""Normalised cross-correlation of an X-ray and its re-projection. With the embedded checkpoint, films of four phantoms and two
CTs through random detectors had 0.37 to 0.97, 3 of 24 below 0.5. With bone taken for dark instead of bright it was -0.32 to
0.93, in 11 of 12 pairs below 0.5 for one view or both (Testing/Benchmarks/explained.py): a right pair may be doubted, an
inverted one pass."""
_DIGITS = 4


@dataclass(frozen=True)
class Told:
    """warnings: sentences about what is odd in the files. doubts: about what is assumed and spoils the result if it is wrong.
    notes: about what is assumed, but cannot."""

    warnings: list[str]
    doubts: list[str]
    notes: list[str]


def told(radiographs: Sequence[Radiograph]) -> Told:
    """What there is to say about each of these X-rays by itself.

    An assumption is written as one states it, in JSON: `both X-rays: assumed "source_to_detector_mm": 1150, as with ...`.
    """
    names = _names(radiographs)
    sentences: dict[str, list[str]] = {}
    guesses: dict[tuple[str, str], dict[str, str]] = {}
    for name, radiograph in zip(names, radiographs, strict=True):
        for warning in radiograph.warnings:
            sentences.setdefault(warning.removeprefix(f"{radiograph.source}: "), []).append(name)
        for fact in radiograph.assumed:
            reason = radiograph.reasons.get(fact)
            if reason != WARNED:
                guesses.setdefault((fact, reason or ""), {})[name] = _value(radiograph, fact)
    result = Told([f"{_joined(whom, names)}: {sentence}" for sentence, whom in sentences.items()], [], [])
    for (fact, reason), values in guesses.items():
        details = ", ".join(filter(None, (_each(values), reason)))
        sentence = f'{_joined(list(values), names)}: assumed "{fact}"' + (f": {details}" if details else "")
        (result.notes if fact in HARMLESS else result.doubts).append(sentence)
    return result


def unexplained(reprojection: Sequence[Mapping[str, Any]], names: Sequence[str] = ("frontal", "lateral")) -> list[str]:
    """Sentences about X-rays of these names that the volume made from them does not explain; `Reconstruction.reprojection`,
    where a correlation that there is none of may also be None."""
    sentences = []
    for name, view in zip(names, reprojection, strict=True):
        if view["ncc"] is None or math.isnan(view["ncc"]):
            sentences.append(f"Nothing of the volume shows in the {name} X-ray: does the central ray meet it where stated?")
        elif view["ncc"] < USUAL_NCC:
            found = f"correlation {view['ncc']:.2f} when projected, usual is {USUAL_NCC:g} or more"
            sentences.append(
                f"The volume does not explain the {name} X-ray ({found}): is bone bright as stated or assumed, are the view "
                "and the distances right, is it a lumbar spine?"
            )
    return sentences


def assumed_values(radiograph: Radiograph) -> dict[str, Any]:
    """The assumed facts of one X-ray with their values, plain JSON; the reason, in words, of those that are no geometry."""
    beam = radiograph.geometry.to_dict()
    return {fact: beam.get(fact, radiograph.reasons.get(fact)) for fact in radiograph.assumed}


def _names(radiographs: Sequence[Radiograph]) -> list[str]:
    """One for each X-ray: its file's name, with the view where two files are called alike."""
    sources = [radiograph.source or "X-ray" for radiograph in radiographs]
    views = [radiograph.geometry.view.value for radiograph in radiographs]
    return [s if sources.count(s) == 1 else f"{s} ({view})" for s, view in zip(sources, views, strict=True)]


def _joined(whom: Sequence[str], names: Sequence[str]) -> str:
    return "both X-rays" if len(whom) == len(names) == 2 else ", ".join(whom)


def _each(values: dict[str, str]) -> str:
    """The value that all share, or that of each by name."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{value} ({name})" for name, value in values.items())


def _value(radiograph: Radiograph, fact: str) -> str:
    """JSON, "" for what is no part of the geometry: its reason begins with the value."""
    value = radiograph.geometry.view.value if fact == "view" else radiograph.geometry.to_dict().get(fact)
    if value is None:
        return ""
    if isinstance(value, tuple):
        return json.dumps([_rounded(v) for v in value])
    return json.dumps(_rounded(value))


def _rounded(value: Any) -> Any:
    """Four digits of a number, as an int where that is one."""
    if not isinstance(value, float):
        return value
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded
