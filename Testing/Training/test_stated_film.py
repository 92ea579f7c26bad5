"""What a geometry file says of things that its images show: a known length, and landmarks in both."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from diff2ct.radiograph import Radiograph
from diff2ct_training.stated_film import read_geometry, read_pair

SIZE = (400, 300)


@pytest.fixture
def films(tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures that tell nothing but what they show."""
    paths = tmp_path / "front.png", tmp_path / "side.png"
    for path, seed in zip(paths, (1, 2), strict=True):
        pixels = np.random.default_rng(seed).integers(0, 255, SIZE, dtype=np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(path))
    return paths


def read(films: tuple[Path, Path], ap: dict, lateral: dict) -> tuple[Radiograph, Radiograph, object]:  # type: ignore[type-arg]
    path = films[0].with_name("geometry.json")
    path.write_text(json.dumps({"ap": {"view": "AP", **ap}, "lateral": {"view": "LL", **lateral}}))
    return read_pair(films, read_geometry(path))


def test_nothing_is_changed_without_them(films: tuple[Path, Path]) -> None:
    ap, lateral, match = read(films, {}, {})
    assert match is None
    for radiograph in (ap, lateral):
        assert {"principal_point", "detector_spacing_mm"} <= set(radiograph.assumed)
        assert radiograph.geometry.principal_point == (199.5, 149.5)


def test_a_known_length_is_that_of_the_patient(films: tuple[Path, Path]) -> None:
    length = {"ends": [[100, 50], [100, 150]], "mm": 50}
    ap, lateral, _match = read(films, {"known_length": length}, {})
    assert ap.geometry.patient_spacing_mm == pytest.approx((0.5, 0.5))
    assert "detector_spacing_mm" not in ap.assumed and "detector_spacing_mm" in lateral.assumed


def test_a_known_length_is_doubted_like_a_stated_pixel_size(films: tuple[Path, Path]) -> None:
    """Centimetres for millimetres, and what a file says otherwise."""
    ends = [[100, 50], [100, 150]]
    ap, _lateral, _match = read(films, {"known_length": {"ends": ends, "mm": 5}}, {})
    assert any("an image of 24.21 x 18.16 mm, not plausible" in warning for warning in ap.warnings)
    with pytest.raises(ValueError, match=r"geometry: known_length of ap: .*not plausible"):
        read(films, {"known_length": {"ends": ends, "mm": 500000}}, {})
    films[0].with_name("front.png.json").write_text(json.dumps({"detector_spacing_mm": [1, 1]}))
    ap, _lateral, _match = read(films, {"known_length": {"ends": ends, "mm": 50}}, {})
    assert ap.geometry.patient_spacing_mm == pytest.approx((0.5, 0.5))


def test_beside_a_picture_they_are_refused(films: tuple[Path, Path]) -> None:
    for key in ("known_length", "landmarks"):
        films[0].with_name("front.png.json").write_text(json.dumps({key: {}}))
        with pytest.raises(ValueError, match=f"front.png.json: has '{key}', accepted only in a file with the geometry of both"):
            read(films, {}, {})


def test_landmarks_go_by_their_names(films: tuple[Path, Path]) -> None:
    ap, lateral, match = read(
        films,
        {"landmarks": {"L1": [100, 149.5], "L4": [300, 149.5]}, "known_length": {"ends": [[0, 0], [0, 100]], "mm": 50}},
        {"landmarks": {"L4": [260, 149.5], "L1": [100, 149.5]}},
    )
    assert "pixels made" in str(match) and not {"principal_point", "detector_spacing_mm"} & set(lateral.assumed)
    heights = [[(row - r.geometry.principal_point[0]) * r.geometry.patient_spacing_mm[0] for row in rows]
               for r, rows in ((ap, (100, 300)), (lateral, (100, 260)))]  # fmt: skip
    np.testing.assert_allclose(heights[0], heights[1], atol=1e-6)
    assert "principal_point" in ap.assumed  # which view was cropped nobody said


@pytest.mark.parametrize(
    ("ap", "lateral", "words"),
    [
        ({"known_length": 50}, {}, "known_length of ap: got 50, accepted is"),
        ({"known_length": {"ends": [[1, 1], [9, 9]]}}, {}, "known_length of ap: got"),
        ({"known_length": {"ends": [[1, 1], [9, 9]], "mm": "5 cm"}}, {}, '"5 cm"'),
        (
            {},
            {"known_length": {"ends": [[1, 1], [1, 2]], "mm": 5}},
            "known_length of lateral: ends: got points 1.0 pixels apart",
        ),
        ({"known_length": {"ends": [[1, 1], [9, 9]], "mm": 5}, "detector_spacing_mm": [1, 1]}, {}, "both tell the pixel size"),
        ({"landmarks": {"L1": [1, 1]}}, {}, "'L1' is in one view only"),
        ({"landmarks": {"L1": [1, 1]}}, {"landmarks": {"L2": [1, 1]}}, "in one view only"),
        ({"landmarks": [[1, 1]]}, {"landmarks": {"L1": [1, 1]}}, "landmarks of ap is"),
        ({"landmarks": {"L1": [1, 1]}}, {"landmarks": {"L1": [1]}}, "landmarks: in_lateral: got"),
        ({"landmarks": {"L1": [1, 1]}}, {"landmarks": {"L1": [400, 10]}}, "landmarks: in_lateral: got .400, 10."),
    ],
)
def test_what_cannot_be_is_refused(films: tuple[Path, Path], ap: dict, lateral: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=f"geometry: .*{words}"):
        read(films, ap, lateral)
