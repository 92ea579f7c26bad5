"""What the user is told about two X-rays: each thing once, with what to state, and apart what may spoil the result."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from diff2ct.radiograph import Radiograph, read_radiograph, write_radiograph
from diff2ct.told import HARMLESS, assumed_values, told, unexplained
from tiny import tiny_body, tiny_radiographs

STATED = {"source_to_detector_mm": 1150, "source_to_isocenter_mm": 900, "detector_spacing_mm": [1.5, 1.5]}


def picture(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 65535, (200, 180), dtype=np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(path))
    return path


def pictures(folder: Path, **stated) -> list[Radiograph]:  # type: ignore[no-untyped-def]
    return [
        read_radiograph(picture(folder / f"{view}.png"), view=view, geometry=stated.get("geometry")) for view in ("AP", "LL")
    ]


def test_two_bare_pictures_are_told_each_assumption_once_with_its_value(tmp_path: Path) -> None:
    pair = pictures(tmp_path)
    said = told(pair)
    assert said.warnings == []
    facts = [re.search(r'^both X-rays: assumed "(\w+)": ', sentence)[1] for sentence in (*said.doubts, *said.notes)]  # type: ignore[index]
    assert sorted(facts) == sorted(pair[0].assumed) and set(facts[-len(said.notes) :]) == set(HARMLESS)
    by_fact = dict(zip(facts, (*said.doubts, *said.notes), strict=True))
    assert '"source_to_detector_mm": 1150, as with' in by_fact["source_to_detector_mm"]
    assert '"source_to_isocenter_mm": 950 (AP.png), 850 (LL.png), ' in by_fact["source_to_isocenter_mm"]
    assert '"mirrored": true (AP.png), false (LL.png), ' in by_fact["mirrored"]
    assert '"polarity": "bright_dense", ' in by_fact["polarity"]


def test_what_is_stated_as_told_leaves_nothing_to_tell_and_the_same_x_ray(tmp_path: Path) -> None:
    """The sentences name fields and values that a geometry file takes as they are."""
    for radiograph in pictures(tmp_path):
        said = told([radiograph])
        shown = dict(re.findall(r'assumed "(\w+)": (\[.*?\]|"\w+"|[\w.]+), ', "\n".join([*said.doubts, *said.notes])))
        values = {fact: json.loads(text) for fact, text in shown.items()}
        assert set(values) == set(radiograph.assumed)
        reading = {fact: values.pop(fact) for fact in ("polarity", "intensity")}
        path, view = tmp_path / radiograph.source, radiograph.geometry.view
        again = read_radiograph(path, view=view, geometry=values, **reading)
        assert again.assumed == () and told([again]) == told([])
        assert np.array_equal(again.line_integral, radiograph.line_integral)
        where = radiograph.geometry.project_points(np.array([40.0, -30.0, 60.0]))
        np.testing.assert_allclose(again.geometry.project_points(np.array([40.0, -30.0, 60.0])), where, atol=0.1)


def test_what_holds_for_one_of_two_names_it(tmp_path: Path) -> None:
    known = {**STATED, "mirrored": True, "principal_point": [99.5, 89.5], "isocenter_lps": [0, 0, 0]}
    pair = pictures(tmp_path)
    pair[0] = read_radiograph(tmp_path / "AP.png", view="AP", geometry=known, polarity="bright_dense", intensity="log")
    assert all(sentence.startswith("LL.png: assumed ") for sentence in told(pair).doubts + told(pair).notes)
    odd = [replace(r, warnings=(f"{r.source}: processed", *more)) for r, more in zip(pair, ((), ("LL.png: cut",)), strict=True)]
    assert told(odd).warnings == ["both X-rays: processed", "LL.png: cut"]


def test_files_of_one_name_are_told_apart_by_view(tmp_path: Path) -> None:
    pair = [replace(radiograph, source="IM0001") for radiograph in pictures(tmp_path)]
    assert any("950 (IM0001 (AP)), 850 (IM0001 (LL))" in sentence for sentence in told(pair).doubts)
    odd = [pair[0], replace(pair[1], warnings=("IM0001: cut",))]
    assert told(odd).warnings == ["IM0001 (LL): cut"]


def test_a_pair_with_its_geometry_has_nothing_to_tell(tmp_path: Path) -> None:
    for radiograph in tiny_radiographs(tiny_body()):
        beam = replace(radiograph.geometry, detector_spacing_mm=(4.0, 4.0))  # fine enough to show a vertebra
        write_radiograph(replace(radiograph, geometry=beam), tmp_path / f"{beam.view}.dcm")
    pair = [read_radiograph(tmp_path / f"{view}.dcm") for view in ("AP", "LL")]
    assert told(pair) == told([]) and [assumed_values(r) for r in pair] == [{}, {}]


def test_what_was_assumed_on_writing_is_told_until_it_is_stated(tmp_path: Path) -> None:
    frontal = replace(tiny_radiographs(tiny_body())[0], assumed=("source_to_detector_mm", "style"))
    for suffix in (".png", ".dcm"):
        path = tmp_path / f"x{suffix}"
        write_radiograph(frontal, path)
        distance = frontal.geometry.source_to_detector_mm  # type: ignore[union-attr]
        first, second = told([read_radiograph(path)]).doubts
        assert first == f'x{suffix}: assumed "source_to_detector_mm": {distance:g}, before this file was written'
        assert second == f'x{suffix}: assumed "style": before this file was written'
        stated = read_radiograph(path, geometry={"source_to_detector_mm": distance})
        assert stated.assumed == ("style",)


def test_a_volume_that_does_not_explain_an_x_ray_is_said() -> None:
    assert unexplained([{"ncc": 0.7}, {"ncc": 0.97}]) == []
    (sentence,) = unexplained([{"ncc": 0.7}, {"ncc": -0.6}])
    assert "explain the lateral X-ray" in sentence and "-0.60" in sentence
    assert len(unexplained([{"ncc": math.nan}, {"ncc": 0.3}])) == 2
    (sentence,) = unexplained([{"ncc": None}], ["lateral"])  # a figure of a scene that was saved
    assert sentence.startswith("Nothing of the volume shows in the lateral X-ray")


def test_assumed_values_are_plain_json(tmp_path: Path) -> None:
    frontal, lateral = (json.loads(json.dumps(assumed_values(radiograph))) for radiograph in pictures(tmp_path))
    assert frontal["source_to_isocenter_mm"] == 950 and lateral["source_to_isocenter_mm"] == 850
    assert frontal["mirrored"] is True and frontal["principal_point"] == [99.5, 89.5]
    assert "bright_dense" in frontal["polarity"]
