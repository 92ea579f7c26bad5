"""Radiographs: valid from birth, resized without moving, read from image files, and checked as a pair."""

import json
import re
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import phantoms
from diff2ct import radiograph_pair
from diff2ct.assumptions import FILM
from diff2ct.geometry import Beam, ConeBeam, FanBeam, ParallelBeam, View
from diff2ct.radiograph import Radiograph, read_radiograph, resized_beam, write_radiograph
from diff2ct.radiograph_pair import check_pair, cranio_caudal_profile, shared_axis_lag

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MARKER_LPS = (45.0, -25.0, 60.0)  # left, anterior, cranial: any flip shows
BODY = [
    phantoms.Ellipsoid((0.0, 0.0, 0.0), (90.0, 70.0, 115.0), 0.02),
    *(phantoms.Ellipsoid((0.0, 20.0, z), (20.0, 15.0, 9.0), 0.03) for z in (-88, -51, -22, 12, 37, 70, 95)),
]


def beam(view: View, size: tuple[int, int] = (220, 180), **changes: Any) -> ConeBeam:
    values: dict[str, Any] = {
        "source_to_detector_mm": 1150.0,
        "source_to_isocenter_mm": 850.0 if view.is_lateral else 950.0,
        "detector_spacing_mm": (1.5, 1.6),
        "detector_size": size,
    }
    return ConeBeam.from_view(view, **{**values, **changes})


def render(solids: list[phantoms.Ellipsoid], geometry: ConeBeam) -> np.ndarray:
    rows, columns = np.meshgrid(*map(np.arange, geometry.detector_size), indexing="ij")
    return phantoms.line_integral(solids, geometry.source_lps, geometry.pixel_to_lps(np.stack([rows, columns], -1)))


def marked(geometry: Beam) -> np.ndarray:
    """An image whose brightest spot is the projection of `MARKER_LPS`, over a gradient that is nowhere constant."""
    row, column = geometry.project_points(np.array(MARKER_LPS))
    rows, columns = np.ogrid[: geometry.detector_size[0], : geometry.detector_size[1]]
    spot = 4.0 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18.0)
    return (1.0 + 0.002 * rows + 0.001 * columns + spot).astype(np.float32)


def assert_marker_in_place(radiograph: Radiograph) -> None:
    row, column = np.unravel_index(np.argmax(radiograph.line_integral), radiograph.line_integral.shape)
    np.testing.assert_allclose((row, column), radiograph.geometry.project_points(np.array(MARKER_LPS)), atol=0.75)


# Valid from birth


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"line_integral": np.ones((220, 180))}, "constant"),
        ({"line_integral": np.zeros((10, 10))}, "detector_size"),
        ({"line_integral": np.zeros(5)}, "accepted is an image"),
        ({"line_integral": np.full((220, 180), np.nan)}, "NaN"),
        ({"valid": np.zeros((220, 180), bool)}, "no pixel is valid"),
        ({"valid": np.ones((3, 3), bool)}, "valid has shape"),
    ],
)
def test_bad_radiographs_cannot_be_made(change: dict[str, Any], message: str) -> None:
    geometry = beam(View.AP)
    good = Radiograph(line_integral=marked(geometry), geometry=geometry, source="film.png")
    with pytest.raises(ValueError, match=f"film.png: .*{message}"):
        replace(good, **change)


# Resizing


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("wanted", [{"patient_spacing_mm": 3.1}, {"max_pixels": 70}])
def test_resizing_keeps_every_point_where_it_was(view: View, wanted: dict[str, Any]) -> None:
    geometry = beam(view, principal_point=(93.3, 101.9), isocenter_lps=(3.0, -4.0, 5.0))
    small = Radiograph(line_integral=marked(geometry), geometry=geometry).resized(**wanted)
    assert max(small.line_integral.shape) <= 90
    assert_marker_in_place(small)
    centers = np.array([[0.0, 0.0], [small.line_integral.shape[0] - 1.0, small.line_integral.shape[1] - 1.0], [20.0, 31.0]])
    factors = np.array(geometry.detector_size) / np.array(small.line_integral.shape)
    np.testing.assert_allclose(
        small.geometry.pixel_to_lps(centers),  # type: ignore[union-attr]
        geometry.pixel_to_lps((centers + 0.5) * factors - 0.5),
        atol=1e-9,
    )


def test_resizing_averages_area_and_leaves_out_hidden_pixels() -> None:
    geometry = beam(View.AP, (90, 60), detector_spacing_mm=(1.5, 1.5))
    image = np.random.default_rng(0).normal(2.0, 1.0, (90, 60)).astype(np.float32)
    small = Radiograph(line_integral=image, geometry=geometry).resized(max_pixels=30)
    np.testing.assert_allclose(small.line_integral, image.reshape(30, 3, 20, 3).mean((1, 3)), atol=1e-5)
    uneven = Radiograph(line_integral=image, geometry=geometry).resized(max_pixels=41)
    assert uneven.line_integral.mean() == pytest.approx(image.mean(), abs=1e-5)
    hidden = np.ones((90, 60), bool)
    hidden[:, :20] = False
    masked = Radiograph(line_integral=np.where(hidden, image, 1e4), geometry=geometry, valid=hidden).resized(max_pixels=45)
    assert masked.line_integral[masked.valid].max() < 10
    assert not masked.valid[:, :9].any() and masked.valid[:, 10:].all()


def area_weights(count: int, new_count: int) -> np.ndarray:
    """(new_count, count): which share of new pixel n is covered by old pixel m, each overlap on its own."""
    new, old = np.arange(new_count + 1) * (count / new_count), np.arange(count + 1)
    overlap = np.minimum(new[1:, None], old[None, 1:]) - np.maximum(new[:-1, None], old[None, :-1])
    return overlap.clip(min=0.0) * (new_count / count)


@pytest.mark.parametrize("max_pixels", [2, 7, 41, 89, 90, 96])
@pytest.mark.parametrize("hidden", [False, True])
def test_resizing_weighs_each_pixel_by_the_area_it_covers(max_pixels: int, hidden: bool) -> None:
    geometry = beam(View.AP, (97, 60), detector_spacing_mm=(1.5, 1.5))
    rng = np.random.default_rng(0)
    image = rng.normal(2.0, 1.0, (97, 60)).astype(np.float32)
    valid = rng.random((97, 60)) > 0.4 if hidden else np.ones((97, 60), bool)
    small = Radiograph(line_integral=image, geometry=geometry, valid=valid).resized(max_pixels=max_pixels)
    rows, columns = (area_weights(n, m) for n, m in zip(image.shape, small.line_integral.shape, strict=True))
    share = rows @ valid @ columns.T
    seen = share > 1e-3
    expected = np.where(seen, rows @ (valid * image) @ columns.T / np.where(seen, share, 1), rows @ image @ columns.T)
    np.testing.assert_allclose(small.line_integral, expected, atol=1e-5)
    np.testing.assert_array_equal(small.valid[abs(share - 0.5) > 1e-6], (share > 0.5)[abs(share - 0.5) > 1e-6])


def test_resizing_never_enlarges_and_refuses_nonsense() -> None:
    geometry = beam(View.AP)
    radiograph = Radiograph(line_integral=marked(geometry), geometry=geometry)
    assert radiograph.resized(patient_spacing_mm=0.5) is radiograph
    for bad in ({}, {"patient_spacing_mm": 1.0, "max_pixels": 3}, {"patient_spacing_mm": 0.0}, {"max_pixels": 1}):
        with pytest.raises(ValueError, match="accepted is"):
            radiograph.resized(**bad)  # type: ignore[arg-type]


# Files


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("suffix", [".png", ".nrrd", ".npy", ".dcm"])
def test_round_trip_is_exact_in_geometry_mask_and_side(tmp_path: Path, view: View, suffix: str) -> None:
    geometry = beam(
        view, roll_deg=3.0, secondary_angle_deg=-7.0, isocenter_lps=(1.1, -2.2, 3.3), principal_point=(100.25, 80.5)
    )
    valid = np.ones(geometry.detector_size, bool)
    valid[:, :7] = False
    original = Radiograph(line_integral=marked(geometry), geometry=geometry, valid=valid, scale_known=True, assumed=("view",))
    write_radiograph(original, tmp_path / f"x{suffix}")
    copy = read_radiograph(tmp_path / f"x{suffix}")
    assert copy.geometry == geometry
    np.testing.assert_array_equal(copy.valid, valid)
    assert copy.scale_known and copy.assumed == ("view",) and "before this file was written" in copy.reasons["view"]
    span = np.ptp(original.line_integral)
    np.testing.assert_allclose(copy.line_integral[valid], original.line_integral[valid], atol=1e-4 * span)
    assert_marker_in_place(copy)


@pytest.mark.parametrize("suffix", [".png", ".nrrd", ".npy", ".dcm"])
def test_parallel_beams_are_written_too(tmp_path: Path, suffix: str) -> None:
    geometry = ParallelBeam.from_view(View.LL, detector_spacing_mm=(2, 2), detector_size=(128, 128))
    write_radiograph(Radiograph(line_integral=marked(geometry), geometry=geometry), tmp_path / f"x{suffix}")
    assert read_radiograph(tmp_path / f"x{suffix}").geometry == geometry


def test_writing_never_overwrites_unasked_and_leaves_no_temporary_files(tmp_path: Path) -> None:
    geometry = beam(View.AP)
    radiograph = Radiograph(line_integral=marked(geometry), geometry=geometry)
    for name in ("x.png", "x.nrrd", "x.dcm"):
        write_radiograph(radiograph, tmp_path / name)
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError, match="exists already"):
            write_radiograph(radiograph, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
        write_radiograph(radiograph, tmp_path / name, overwrite=True)
    with pytest.raises(ValueError, match="does not exist"):
        write_radiograph(radiograph, tmp_path / "nowhere" / "x.png")
    with pytest.raises(ValueError, match="cannot be written"):
        write_radiograph(radiograph, tmp_path / "x.jpg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.dcm", "x.nrrd", "x.nrrd.json", "x.png", "x.png.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="the disk takes no such name")
@pytest.mark.parametrize("suffix", [".png", ".dcm", ".npy"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, suffix: str) -> None:
    geometry = beam(View.AP)
    radiograph = Radiograph(line_integral=marked(geometry), geometry=geometry)
    write_radiograph(radiograph, tmp_path / f"x{suffix}")
    path = (tmp_path / f"x{suffix}").rename(tmp_path / f"R\udcf6ntgen{suffix}")
    with pytest.raises(ValueError, match=r"R\\udcf6ntgen.*: the name is not in UTF-8; rename"):
        read_radiograph(path)
    with pytest.raises(ValueError, match=r"R\\udcf6ntgen.*: the name is not in UTF-8; rename"):
        write_radiograph(radiograph, path, overwrite=True)


@pytest.mark.parametrize("name", ["x.png", "x.nrrd"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, full_disk: Any, name: str) -> None:
    geometry = beam(View.AP)
    with full_disk(1500), pytest.raises(ValueError, match=f"{name}: cannot be written"):
        write_radiograph(Radiograph(line_integral=marked(geometry), geometry=geometry), tmp_path / name)
    assert not list(tmp_path.iterdir())


def grey_levels(image: np.ndarray, kind: type[np.unsignedinteger]) -> np.ndarray:
    top = np.iinfo(kind).max
    return (image / image.max() * 0.9 * top + 0.05 * top).astype(kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.png", np.uint8),
        ("x.png", np.uint16),
        ("x.jpg", np.uint8),
        ("x.tif", np.uint16),
        ("x.nrrd", np.uint16),
        ("x.nii", np.uint16),
        ("x.nii.gz", np.uint8),
        ("x.mha", np.uint16),
        ("x.npy", np.uint16),
    ],
)
@pytest.mark.parametrize("view", [View.AP, View.LL])
def test_every_image_format_keeps_the_marker_on_its_side(
    tmp_path: Path, name: str, kind: type[np.unsignedinteger], view: View
) -> None:
    levels = grey_levels(marked(beam(view)), kind)
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, levels)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(levels), str(path))
    radiograph = read_radiograph(path, geometry=beam(view))
    assert radiograph.geometry == beam(view)
    assert_marker_in_place(radiograph)
    assert not radiograph.scale_known and radiograph.assumed == ("polarity", "intensity")
    assert radiograph.line_integral.min() == 0 and radiograph.line_integral.max() == 1
    assert all(warning.startswith(name) for warning in radiograph.warnings)


def save_film(path: Path, view: View = View.AP) -> np.ndarray:
    levels = grey_levels(marked(beam(view)), np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(levels), str(path))
    return levels


def test_a_picture_of_a_scanning_fan_gets_the_distances_of_eos_and_square_pixels_in_the_patient(tmp_path: Path) -> None:
    save_film(tmp_path / "film.png")
    film = read_radiograph(tmp_path / "film.png", view="LL", geometry={"kind": "fan"})
    assert isinstance(film.geometry, FanBeam) and film.geometry.source_to_detector_mm == 1300
    assert film.geometry.patient_spacing_mm[0] == pytest.approx(film.geometry.patient_spacing_mm[1])
    assert {"source_to_detector_mm", "source_to_isocenter_mm", "detector_spacing_mm"} < set(film.assumed)
    assert "as with an EOS scanner" in film.reasons["source_to_isocenter_mm"]
    assert "the same in both images" in film.reasons["principal_point"]


def test_a_bare_film_needs_its_view_and_gets_documented_assumptions(tmp_path: Path) -> None:
    save_film(tmp_path / "film.png")
    with pytest.raises(ValueError, match=r"film.png: the file does not tell the view"):
        read_radiograph(tmp_path / "film.png")
    for view, behind in ((View.AP, FILM.frontal_to_detector_mm), ("ll", FILM.lateral_to_detector_mm)):
        film = read_radiograph(tmp_path / "film.png", view=view)
        geometry = film.geometry
        assert isinstance(geometry, ConeBeam)
        assert geometry.source_to_detector_mm - geometry.source_to_isocenter_mm == behind
        assert geometry.detector_spacing_mm[0] * 220 == pytest.approx(FILM.image_length_mm)
        assert set(film.assumed) == {
            "mirrored",
            "source_to_detector_mm",
            "source_to_isocenter_mm",
            "detector_spacing_mm",
            "principal_point",
            "isocenter_lps",
            "polarity",
            "intensity",
        }
        assert film.warnings == () and all(film.reasons[fact] for fact in film.assumed)


def test_what_the_caller_knows_is_not_assumed(tmp_path: Path) -> None:
    save_film(tmp_path / "film.png")
    film = read_radiograph(
        tmp_path / "film.png", view="PA", geometry={"source_to_detector_mm": 1800.0}, polarity="dark_dense", intensity="log"
    )
    assert film.geometry.source_to_detector_mm == 1800.0  # type: ignore[union-attr]
    assert film.geometry.view is View.PA
    assert set(film.assumed) == {
        "mirrored",
        "source_to_isocenter_mm",
        "detector_spacing_mm",
        "principal_point",
        "isocenter_lps",
    }
    assert_marker_in_place(
        replace(read_radiograph(tmp_path / "film.png", geometry=beam(View.AP), polarity="bright_dense"), assumed=())
    )


@pytest.mark.parametrize("naming", ["film.png.json", "film.json"])
def test_side_file_gives_geometry_and_scale(tmp_path: Path, naming: str) -> None:
    levels = save_film(tmp_path / "film.png")
    side = {
        "view": "AP",
        "source_to_detector_mm": 1150,
        "source_to_isocenter_mm": 950,
        "detector_spacing_mm": [1.5, 1.6],
        "mirrored": True,
        "principal_point": [109.5, 89.5],
        "isocenter_lps": [0, 0, 0],
        "scale": {"slope": 2e-4, "intercept": -0.5},
    }
    (tmp_path / naming).write_text(json.dumps(side))
    film = read_radiograph(tmp_path / "film.png")
    assert film.geometry == beam(View.AP) and film.scale_known and film.assumed == () and film.warnings == ()
    np.testing.assert_allclose(film.line_integral, levels * 2e-4 - 0.5, rtol=1e-5)
    assert_marker_in_place(film)
    with pytest.raises(ValueError, match="side file states the scale"):
        read_radiograph(tmp_path / "film.png", polarity="dark_dense")
    other = read_radiograph(tmp_path / "film.png", view="LL")
    assert other.geometry.view is View.LL and any("the given LL is used" in w for w in other.warnings)
    farther = read_radiograph(tmp_path / "film.png", geometry={"source_to_detector_mm": 1500})
    assert any("source_to_detector_mm is 1150 in the file, the given 1500" in w for w in farther.warnings)


def test_stated_distances_do_not_hide_what_is_still_assumed(tmp_path: Path) -> None:
    """How a picture hangs, where the central ray meets it and where the patient lay are guesses, even with a known view."""
    save_film(tmp_path / "film.png")
    stated = {"view": "AP", "source_to_detector_mm": 1150, "source_to_isocenter_mm": 950, "detector_spacing_mm": [1.5, 1.6]}
    film = read_radiograph(tmp_path / "film.png", geometry=stated, polarity="bright_dense", intensity="log")
    assert film.geometry == beam(View.AP)
    assert film.assumed == tuple(film.reasons) == ("mirrored", "principal_point", "isocenter_lps") and film.warnings == ()
    known = {"mirrored": True, "principal_point": [109.5, 89.5], "isocenter_lps": [0, 0, 0]}
    film = read_radiograph(tmp_path / "film.png", geometry={**stated, **known}, polarity="bright_dense", intensity="log")
    assert film.geometry == beam(View.AP) and film.assumed == () and film.warnings == ()


@pytest.mark.parametrize(
    ("stated", "odd"),
    [
        ({"source_to_detector_mm": 115, "source_to_isocenter_mm": 95}, ("source_to_detector_mm", "source_to_isocenter_mm")),
        ({"source_to_detector_mm": 1150, "source_to_isocenter_mm": 95}, ("source_to_isocenter_mm",)),
        ({"detector_spacing_mm": [0.15, 0.15]}, ("detector_spacing_mm",)),
        ({"detector_spacing_mm": [15.0, 15.0]}, ("detector_spacing_mm",)),
        ({"source_to_detector_mm": 1150, "source_to_isocenter_mm": 950, "detector_spacing_mm": [1.5, 1.5]}, ()),
        ({}, ()),
    ],
)
def test_cm_and_the_spacing_of_another_picture_are_said(tmp_path: Path, stated: dict[str, Any], odd: tuple[str, ...]) -> None:
    """220 x 180 pixels of 0.15 mm, as in the README, are a picture of 3 cm; a distance of 115 is one in cm."""
    save_film(tmp_path / "film.png")
    film = read_radiograph(tmp_path / "film.png", view="AP", geometry=stated)
    assert len(film.warnings) == len(odd)
    for sentence, fact in zip(film.warnings, odd, strict=True):
        assert sentence.startswith(f"film.png: {fact} is ") and "not plausible" in sentence


@pytest.mark.parametrize(("pixels", "is_coarse"), [(90, False), (88, True), (16, True)])
def test_a_preview_instead_of_the_picture_is_told(tmp_path: Path, pixels: int, is_coarse: bool) -> None:
    """430 mm at the detector are 355 mm at the isocentre."""
    picture = np.random.default_rng(0).integers(0, 60000, (pixels, pixels // 2), dtype=np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(tmp_path / "film.png"))
    film = read_radiograph(tmp_path / "film.png", view="AP")
    assert any("too coarse to show a vertebra" in sentence for sentence in film.warnings) == is_coarse


def test_a_file_beside_one_picture_holds_no_second_one(tmp_path: Path) -> None:
    save_film(tmp_path / "film.png")
    (tmp_path / "film.png.json").write_text('{"ap": {"view": "AP"}, "lateral": {"view": "LL"}}')
    with pytest.raises(ValueError, match=r"film.png.json: has '(ap|lateral)', accepted beside a picture are the fields"):
        read_radiograph(tmp_path / "film.png", view="AP")


@pytest.mark.parametrize(
    "stated",
    [
        {"detector_spacing_mm": [1e6, 1e6]},
        {"detector_spacing_mm": [1e-300, 1e-300]},
        {"source_to_detector_mm": 1e200, "source_to_isocenter_mm": 1e199},
        {"source_to_detector_mm": 1.15, "source_to_isocenter_mm": 0.95},
    ],
    ids=str,
)
def test_sizes_that_no_unit_explains_are_refused(tmp_path: Path, stated: dict[str, Any]) -> None:
    save_film(tmp_path / "film.png")
    with pytest.raises(ValueError, match=rf"film.png: ({'|'.join(stated)}) is .*, not plausible"):
        read_radiograph(tmp_path / "film.png", view="AP", geometry=stated)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_side_file_may_begin_with_the_mark_that_windows_puts_there(tmp_path: Path, mark: str) -> None:
    save_film(tmp_path / "film.png")
    (tmp_path / "film.json").write_text(mark + '{"view": "LL"}', encoding="utf-8")
    assert read_radiograph(tmp_path / "film.png").geometry.view is View.LL


@pytest.mark.parametrize(("colour_type", "transparent"), [(4, {}), (0, {b"tRNS": b"\0\7"})], ids=["alpha", "one grey"])
def test_a_grey_png_with_transparency_is_not_called_damaged(
    tmp_path: Path, colour_type: int, transparent: dict[bytes, bytes]
) -> None:
    pixels = np.zeros((4, 6, 2 if colour_type == 4 else 1), np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 6, 4, 8, colour_type, 0, 0, 0)
    chunks = {b"IHDR": header, **transparent, b"IDAT": zlib.compress(rows), b"IEND": b""}
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks.items()]
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(ValueError, match=r"x.png: a grey PNG with transparency; save it without"):
        read_radiograph(tmp_path / "x.png", view="AP")


def test_a_border_is_left_out_of_a_colour_picture_and_a_value_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The weights of the luminance add up to a little less than 1, so white came out as 254.99999999999997."""
    levels = np.stack([grey_levels(marked(beam(View.AP)), np.uint8)] * 3, -1)
    for value in (255, 200):
        levels[:9] = value
        levels[-1, -1] = (200, 10, 10)
        sitk.WriteImage(sitk.GetImageFromArray(levels, isVector=True), str(tmp_path / "x.png"))
        film = read_radiograph(tmp_path / "x.png", geometry=beam(View.AP), invalid_value=value)
        assert not film.valid[:9].any() and film.valid[9:].mean() > 0.9
        assert not any("invalid_value" in w and "no pixel" in w for w in film.warnings)
    film = read_radiograph(tmp_path / "x.png", geometry=beam(View.AP), invalid_value=-1)
    assert film.valid.all() and any("no pixel has the invalid_value -1" in w for w in film.warnings)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("{", "not valid JSON"),
        pytest.param("[" * 100_000, "not valid JSON", id="brackets"),
        pytest.param('{"scale": {"slope": 1' + "0" * 400 + ', "intercept": 0}}', "scale is", id="huge slope"),
        pytest.param('{"invalid_value": 1' + "0" * 400 + "}", "invalid_value is", id="huge value"),
        pytest.param('{"source_to_detector_mm": 1' + "0" * 400 + "}", "accepted is a number", id="huge distance"),
        ("[1]", "accepted is a JSON object"),
        ('{"polarity": "white"}', "polarity is 'white'"),
        ('{"view": "AP", "scale": {"slope": 1}}', "scale is"),
        ('{"view": "AP", "scale": {"slope": 0, "intercept": 0}}', "slope of the scale is 0"),
        ('{"view": "LAT"}', "accepted are AP, PA, LL, RL"),
        ('{"view": "AP", "sid": 1000}', "unknown sid"),
        ('{"view": "AP", "source_to_detector_mm": "1 m"}', "accepted is a number"),
        ('{"view": "AP", "primary_angle_deg": 90}', "contradict"),
        ('{"view": "AP", "detector_size": [440, 360]}', "same shape.*multiply detector_spacing_mm by 2"),
        ('{"view": "AP", "detector_size": [100]}', "accepted is a list of 2 numbers"),
        ('{"view": "AP", "detector_size": [100, 360]}', "the image has 220 x 180 pixels"),
    ],
)
def test_bad_side_files_are_named(tmp_path: Path, side: str, message: str) -> None:
    save_film(tmp_path / "film.png")
    (tmp_path / "film.json").write_text(side)
    with pytest.raises(ValueError, match=f"film.*{message}"):
        read_radiograph(tmp_path / "film.png")


def test_transmission_becomes_line_integrals(tmp_path: Path) -> None:
    truth = render(BODY, beam(View.AP))
    counts = np.rint(50000 * np.exp(-truth)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(counts), str(tmp_path / "raw.tif"))
    options: dict[str, Any] = {"geometry": beam(View.AP), "intensity": "transmission"}
    raw = read_radiograph(tmp_path / "raw.tif", polarity="dark_dense", **options)
    np.testing.assert_allclose(raw.line_integral, truth, atol=2e-3)  # the open beam is in the image, so I0 is right here
    assert not raw.scale_known and raw.assumed == ()
    sitk.WriteImage(sitk.GetImageFromArray(65535 - counts), str(tmp_path / "inverted.tif"))
    inverted = read_radiograph(tmp_path / "inverted.tif", polarity="bright_dense", **options)
    np.testing.assert_allclose(inverted.line_integral, raw.line_integral, atol=1e-5)


def test_colour_becomes_luminance_and_grey_in_colour_stays(tmp_path: Path) -> None:
    levels = grey_levels(marked(beam(View.AP)), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([levels] * 3, -1), isVector=True), str(tmp_path / "grey.png"))
    grey = read_radiograph(tmp_path / "grey.png", geometry=beam(View.AP))
    assert not any("colour" in w for w in grey.warnings)
    assert_marker_in_place(grey)
    red = np.stack([levels, levels // 2, levels // 3, np.full_like(levels, 9)], -1)
    sitk.WriteImage(sitk.GetImageFromArray(red, isVector=True), str(tmp_path / "red.png"))
    colour = read_radiograph(tmp_path / "red.png", geometry=beam(View.AP))
    assert any("converted from colour" in w for w in colour.warnings)
    assert_marker_in_place(colour)


@pytest.mark.parametrize("suffix", [".tif", ".nrrd", ".mha", ".nii"])
def test_spacing_in_headers_is_used_unless_it_is_a_filler(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(grey_levels(marked(beam(View.AP)), np.uint16))
    for spacing, used in (((0.2, 0.3), True), ((1.0, 1.0), False), ((25.4 / 96, 25.4 / 96), suffix != ".tif")):
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(tmp_path / f"x{suffix}"))
        film = read_radiograph(tmp_path / f"x{suffix}", view="AP")
        assert ("detector_spacing_mm" not in film.assumed) == used
        assert any("pixel spacing taken from header" in w for w in film.warnings) == used
        if used:
            np.testing.assert_allclose(film.geometry.detector_spacing_mm, spacing[::-1], rtol=1e-6)


def test_saturation_is_told(tmp_path: Path) -> None:
    levels = grey_levels(marked(beam(View.AP)), np.uint8)
    np.save(tmp_path / "x.npy", np.where(levels > 60, 255, levels).astype(np.uint8))
    film = read_radiograph(tmp_path / "x.npy", geometry=beam(View.AP))
    assert any("% of the pixels have the highest value (255)" in w for w in film.warnings)


def test_a_border_that_the_file_does_not_mark_is_left_out(tmp_path: Path) -> None:
    levels = grey_levels(marked(beam(View.AP)), np.uint8)
    levels[:30], levels[:, 170:] = 255, 0
    inside = np.zeros(levels.shape, bool)
    inside[30:, :170] = True
    np.save(tmp_path / "x.npy", levels)
    given: dict[str, Any] = {"geometry": beam(View.AP), "polarity": "bright_dense"}
    border = read_radiograph(tmp_path / "x.npy", **given)
    assert border.valid.all() and any(
        'border that the file does not mark: state its "invalid_value"' in w for w in border.warnings
    )
    for masked in (
        read_radiograph(tmp_path / "x.npy", visible=[30, 219, 0, 169], **given),
        read_radiograph(tmp_path / "x.npy", visible=(0, 219, 0, 169), invalid_value=255, **given),
    ):
        np.testing.assert_array_equal(masked.valid, inside)
        assert not any("border" in w for w in masked.warnings)
        seen = masked.line_integral[inside]
        assert (seen.min(), seen.max()) == (0, 1), "scaled over what sees the patient"
    (tmp_path / "x.npy.json").write_text('{"visible": [30, 219, 0, 179], "invalid_value": 0}')
    np.testing.assert_array_equal(read_radiograph(tmp_path / "x.npy", **given).valid, inside)
    np.testing.assert_array_equal(
        read_radiograph(tmp_path / "x.npy", visible=[0, 49, 0, 179], **given).valid, inside & (np.arange(220) < 50)[:, None]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"visible": [0, 220, 0, 9]}, "visible is .* bottom < 220"),
        ({"visible": [5, 4, 0, 9]}, "visible is"),
        ({"visible": [0, 9, 0]}, "visible is"),
        ({"visible": 7}, "visible is"),
        ({"visible": [0, 1.5, 0, 9]}, "whole numbers"),
        ({"invalid_value": "white"}, "invalid_value is 'white', accepted is a number"),
        ({"invalid_value": float("nan")}, "invalid_value is nan, accepted is a number"),
        ({"invalid_value": 10**400}, "invalid_value is 10*, accepted is a number"),
        ({"visible": [0, 0, 0, 0], "invalid_value": 7}, "leave no pixel"),
    ],
)
def test_masks_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    levels = grey_levels(marked(beam(View.AP)), np.uint8)
    levels[0, 0] = 7
    np.save(tmp_path / "x.npy", levels)
    with pytest.raises(ValueError, match=f"x.npy: .*{message}"):
        read_radiograph(tmp_path / "x.npy", geometry=beam(View.AP), **options)


def test_stacks_need_a_frame(tmp_path: Path) -> None:
    levels = grey_levels(marked(beam(View.AP)), np.uint16)
    np.save(tmp_path / "x.npy", np.stack([levels[::-1], levels]))
    with pytest.raises(ValueError, match=r"x.npy: has 2 frames; pass frame=0 to 1"):
        read_radiograph(tmp_path / "x.npy", geometry=beam(View.AP))
    with pytest.raises(ValueError, match="frame 2 does not exist"):
        read_radiograph(tmp_path / "x.npy", geometry=beam(View.AP), frame=2)
    assert_marker_in_place(read_radiograph(tmp_path / "x.npy", geometry=beam(View.AP), frame=1))


def broken_files(folder: Path) -> dict[str, str]:
    """File name -> what the message must say."""
    levels = grey_levels(marked(beam(View.AP)), np.uint8)
    for suffix in ("png", "jpg", "tif", "nrrd", "mha", "nii", "nii.gz"):
        sitk.WriteImage(sitk.GetImageFromArray(levels), str(folder / f"whole.{suffix}"))
        data = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(data[: len(data) * 6 // 10])
        (folder / f"text.{suffix}").write_text("this is not an image\n" * 30)
        (folder / f"empty.{suffix}").write_bytes(b"")
    (folder / "dir.png").mkdir()
    (folder / "notes.txt").write_text("hello")
    np.save(folder / "cut.npy", levels)
    (folder / "cut.npy").write_bytes((folder / "cut.npy").read_bytes()[:200])
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "nan.npy", np.where(levels > 200, np.nan, levels))
    np.save(folder / "constant.npy", np.full((220, 180), 7))
    np.save(folder / "vector.npy", np.arange(5))
    np.save(folder / "complex.npy", levels + 1j)
    with (folder / "archive.npy").open("wb") as file:
        np.savez(file, levels)
    for name, header in (("brackets", "(" * 5000), ("size", "{'descr': '<f4', 'fortran_order': False, 'shape': (10**24, 4)}")):
        text = header.replace("10**24", "1" + "0" * 24).encode() + b"\n"
        (folder / f"{name}.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(99))
    for offset in ("nan", "inf"):
        data = bytearray((folder / "whole.nii").read_bytes())
        struct.pack_into("<f", data, 108, float(offset))
        (folder / f"{offset}.nii").write_bytes(data)
    found = {p.name: "" for p in folder.iterdir() if p.name.startswith(("cut.", "text.", "empty."))}
    return found | {
        "missing.png": "no such file",
        "dir.png": "is a folder",
        "notes.txt": "not a radiograph",
        "objects.npy": "NumPy",
        "nan.npy": "NaN",
        "constant.npy": "constant",
        "vector.npy": "accepted is one image",
        "complex.npy": "real numbers",
        "archive.npy": "NumPy",
        "brackets.npy": "NumPy",
        "size.npy": "NumPy",
        "nan.nii": "damaged, its voxels begin at byte nan",
        "inf.nii": "damaged, its voxels begin at byte inf",
    }


def test_every_broken_file_gives_one_sentence_with_its_name(tmp_path: Path) -> None:
    for name, message in broken_files(tmp_path).items():
        with pytest.raises(ValueError, match=message or None) as caught:
            read_radiograph(tmp_path / name, geometry=beam(View.AP))
        assert name in str(caught.value) and "\n" not in str(caught.value), name


def test_a_jpeg_ends_where_its_pixels_end(tmp_path: Path) -> None:
    """More data may follow, as the film of a phone's picture; the end of a thumbnail in the header is not the picture's."""
    levels = grey_levels(marked(beam(View.AP)), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(levels), str(tmp_path / "film.jpg"))
    whole = (tmp_path / "film.jpg").read_bytes()
    plain = read_radiograph(tmp_path / "film.jpg", geometry=beam(View.AP))
    (tmp_path / "film.jpg").write_bytes(whole + bytes(5000))
    longer = read_radiograph(tmp_path / "film.jpg", geometry=beam(View.AP))
    np.testing.assert_array_equal(longer.line_integral, plain.line_integral)
    with_thumbnail = whole[:2] + b"\xff\xe1" + (2 + len(whole)).to_bytes(2, "big") + whole + whole[2:]
    (tmp_path / "film.jpg").write_bytes(with_thumbnail)
    np.testing.assert_array_equal(read_radiograph(tmp_path / "film.jpg", geometry=beam(View.AP)).valid, plain.valid)
    for cut in (len(with_thumbnail) - 500, len(whole) + 10):
        (tmp_path / "film.jpg").write_bytes(with_thumbnail[:cut])
        with pytest.raises(ValueError, match=r"film.jpg: truncated"):
            read_radiograph(tmp_path / "film.jpg", geometry=beam(View.AP))


@pytest.mark.parametrize("name", ["film.dcm", "film.tif"])
def test_a_file_that_may_not_be_read_gives_one_sentence_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 500)

    def refuse(_path: Path, *_arguments: Any, **_options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=rf"{name}: cannot be read \(Permission denied\)"):
        read_radiograph(tmp_path / name, view="AP")


def test_options_are_checked(tmp_path: Path) -> None:
    save_film(tmp_path / "film.png")
    for options in (
        {"polarity": "white"},
        {"intensity": "linear"},
        {"view": "LAT"},
        {"geometry": {"kind": "helix", "view": "AP"}},
    ):
        with pytest.raises(ValueError, match="accepted are"):
            read_radiograph(tmp_path / "film.png", **options)
    with pytest.raises(ValueError, match="contradict"):
        read_radiograph(tmp_path / "film.png", view="LL", geometry=beam(View.AP))


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("detector_spacing_mm", 0.15, "a list of 2 numbers"),
        ("principal_point", [1, 2, 3], "a list of 2 numbers"),
        ("isocenter_lps", 0, "a list of 3 numbers"),
        ("source_to_detector_mm", [1150], "a number"),
        ("primary_angle_deg", float("nan"), "a number"),
        ("source_to_isocenter_mm", 10**400, "a number"),
        ("mirrored", "yes", "true or false"),
    ],
)
def test_a_field_of_another_shape_is_named_with_what_it_takes(tmp_path: Path, field: str, value: Any, accepted: str) -> None:
    save_film(tmp_path / "film.png")
    with pytest.raises(ValueError, match=re.escape(f"film.png: {field} is {value!r}, accepted is {accepted}")):
        read_radiograph(tmp_path / "film.png", geometry={"view": "AP", field: value})


@pytest.mark.parametrize("frame", ["0", 1.0])
def test_a_frame_is_a_whole_number(tmp_path: Path, frame: Any) -> None:
    save_film(tmp_path / "film.png")
    with pytest.raises(ValueError, match=r"film.png: frame is .*, accepted is a whole number"):
        read_radiograph(tmp_path / "film.png", view="AP", frame=frame)


# Pairs


def body(view: View, **changes: Any) -> Radiograph:
    geometry = beam(view, **changes)
    return Radiograph(line_integral=render(BODY, geometry), geometry=geometry, scale_known=True, source=view.value)


def test_a_good_pair_raises_no_warning() -> None:
    assert check_pair(body(View.AP), body(View.LL)) == []
    assert check_pair(body(View.PA), body(View.RL, roll_deg=4.0)) == []


@pytest.mark.parametrize("shift_mm", [-24.0, 9.0, 30.0])
def test_lag_along_the_shared_axis_is_found_in_mm(shift_mm: float) -> None:
    """The lateral is taken with the patient `shift_mm` lower against the detector, and nobody tells."""
    ap = body(View.AP)
    shifted = body(View.LL, isocenter_lps=(0.0, 0.0, -shift_mm))
    lateral = replace(shifted, geometry=replace(shifted.geometry, isocenter_lps=(0.0, 0.0, 0.0)))
    lag, correlation = shared_axis_lag(ap, lateral)
    assert lag == pytest.approx(shift_mm, abs=2.5)
    assert correlation > 0.7
    warnings = check_pair(ap, lateral)
    assert len(warnings) == 1 and ("higher" if shift_mm > 0 else "lower") in warnings[0]


@pytest.mark.parametrize("cropped", ["AP", "lateral"])
@pytest.mark.parametrize("rows", [slice(40, None), slice(None, -40)], ids=["top", "bottom"])
def test_a_cropped_picture_is_told_its_principal_point(cropped: str, rows: slice) -> None:
    """40 rows are cut off, the central ray is assumed in the middle of the rest: stating what the warning says mends it."""
    pair = {"AP": body(View.AP), "lateral": body(View.LL)}
    image = pair[cropped].line_integral[rows]
    true_row = pair[cropped].geometry.principal_point[0] - (rows.start or 0)
    guess = beam(pair[cropped].geometry.view, image.shape)
    pair[cropped] = Radiograph(image, guess, assumed=("principal_point",))
    (warning,) = check_pair(*pair.values())
    found = re.search(rf'If the {cropped} picture was cropped, state "principal_point": \[(.+), 89.5\] for it', warning)
    assert found and float(found[1]) == pytest.approx(true_row, abs=3)
    assert warning.count("cropped") == 1, "the other picture's central ray is known"
    pair[cropped] = replace(pair[cropped], geometry=replace(guess, principal_point=(float(found[1]), 89.5)))
    assert check_pair(*pair.values()) == []


def test_many_small_pixels_are_looked_at_coarsely_and_told_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan of the whole body has 40 million, whose profile would take as long as a reconstruction."""
    ap, lateral = (fine(body(view), 4) for view in (View.AP, View.LL))
    moved = replace(lateral, line_integral=np.roll(lateral.line_integral, 60, axis=0), assumed=("principal_point",))
    seen = []
    profile = radiograph_pair.cranio_caudal_profile
    monkeypatch.setattr(radiograph_pair, "cranio_caudal_profile", lambda r: seen.append(r.line_integral.size) or profile(r))
    (warning,) = check_pair(ap, moved)
    assert len(seen) == 2 and max(seen) < ap.line_integral.size / 2
    found = re.search(r'"principal_point": \[(.+), 359.5\] for it \(in 880 x 720 pixels\)', warning)
    assert found and float(found[1]) == pytest.approx(439.5 + 60, abs=12)


def fine(radiograph: Radiograph, times: int) -> Radiograph:
    """Each pixel cut into `times` x `times`."""
    size = tuple(times * n for n in radiograph.line_integral.shape)
    image = radiograph.line_integral.repeat(times, axis=0).repeat(times, axis=1)
    return replace(radiograph, line_integral=image, valid=None, geometry=resized_beam(radiograph.geometry, size))


def test_lag_does_not_depend_on_gain_offset_or_pixel_size() -> None:
    ap, lateral = body(View.AP), body(View.LL)
    processed = replace(lateral, line_integral=lateral.line_integral * 37.0 - 400.0).resized(patient_spacing_mm=2.2)
    np.testing.assert_allclose(shared_axis_lag(ap, processed), shared_axis_lag(ap, lateral), atol=0.25)


def test_profile_is_placed_on_the_patients_axis() -> None:
    geometry = beam(View.AP, isocenter_lps=(0.0, 0.0, 400.0), secondary_angle_deg=10.0)
    thin = phantoms.Ellipsoid((0.0, 0.0, 430.0), (60.0, 3.0, 4.0), 1.0)
    z_mm, profile = cranio_caudal_profile(Radiograph(line_integral=render([thin], geometry), geometry=geometry))
    assert z_mm[np.argmax(profile)] == pytest.approx(430.0, abs=3.0)


def test_what_does_not_fit_is_said() -> None:
    ap, lateral = body(View.AP), body(View.LL)
    assert any("swapped" in w for w in check_pair(lateral, ap))
    assert any("Both views are frontal" in w for w in check_pair(ap, body(View.PA)))
    assert any("Both views are lateral" in w for w in check_pair(body(View.RL), lateral))
    assert any("72.0 degrees" in w for w in check_pair(ap, body(View.LL, primary_angle_deg=108.0)))
    assert check_pair(ap, body(View.LL, primary_angle_deg=93.0)) == []
    assert any("10.0 mm apart" in w for w in check_pair(ap, body(View.LL, isocenter_lps=(0.0, 10.0, 0.0))))
    assert any("magnifications" in w for w in check_pair(ap, body(View.LL, source_to_isocenter_mm=700.0)))
    same_pixels = replace(lateral, line_integral=ap.line_integral)
    assert any("exactly the same pixels" in w for w in check_pair(ap, same_pixels))
    with pytest.raises(ValueError, match="same image twice"):
        check_pair(ap, replace(ap, source="copy"))


def test_views_without_a_common_axis_are_said() -> None:
    apart = body(View.LL)
    apart = replace(apart, geometry=replace(apart.geometry, isocenter_lps=(0.0, 0.0, 300.0)))
    assert np.isnan(shared_axis_lag(body(View.AP), apart)[0])
    assert any("cannot be checked" in w for w in check_pair(body(View.AP), apart))
    noise = np.random.default_rng(0).normal(size=(220, 180))
    noise = noise + np.random.default_rng(1).normal(size=(220, 1))
    assert any("do not agree" in w for w in check_pair(body(View.AP), replace(body(View.LL), line_integral=noise)))


@pytest.mark.skipif(not (SHARED / "xray_cc0_chest_pa.jpg").exists(), reason="the shared chest films are not here")
def test_real_chest_films_are_read_with_assumptions() -> None:
    frontal = read_radiograph(SHARED / "xray_cc0_chest_pa.jpg", view="PA")
    lateral = read_radiograph(SHARED / "xray_cc0_chest_lat.jpg", view="LL")
    assert frontal.line_integral.shape == (2207, 1929) and "detector_spacing_mm" in frontal.assumed
    small = frontal.resized(patient_spacing_mm=1.2)
    height, width = small.line_integral.shape
    # The heart points to the patient's left, which hangs on the right: there is more tissue on that side above the diaphragm.
    band = small.line_integral[int(0.55 * height) : int(0.72 * height)]
    right_lung, left_lung = (
        band[:, int(0.15 * width) : int(0.4 * width)].mean(),
        band[:, int(0.6 * width) : int(0.85 * width)].mean(),
    )
    assert left_lung > right_lung
    lag, _ = shared_axis_lag(small, lateral.resized(patient_spacing_mm=1.1))
    assert lag == pytest.approx(28.0, abs=6.0)  # the domes of the diaphragm, measured by eye in both films: 27 mm


def test_two_views_of_a_scanning_fan_share_their_axis_exactly() -> None:
    """Rays stay at their height, so the row profiles agree wherever the middle is; a row that is off is named in its pixels."""
    pair = []
    for view, isocenter_mm in ((View.AP, 987.0), (View.LL, 918.0)):
        geometry = FanBeam.from_view(
            view,
            source_to_detector_mm=1300.0,
            source_to_isocenter_mm=isocenter_mm,
            detector_spacing_mm=(1.5, 2.0),
            detector_size=(240, 200),
            principal_point=(150.0, 99.5),
        )
        rows, columns = np.meshgrid(*map(np.arange, geometry.detector_size), indexing="ij")
        pixels = np.stack([rows, columns], -1)
        image = phantoms.line_integral(BODY, geometry.sources_lps(pixels), geometry.pixel_to_lps(pixels))
        pair.append(Radiograph(line_integral=image, geometry=geometry, assumed=("principal_point",)))
    assert check_pair(*pair) == []
    assert shared_axis_lag(*pair)[0] == pytest.approx(0.0, abs=0.3)
    longer = replace(pair[1].geometry, principal_point=(110.0, 99.5), isocenter_lps=(0.0, 0.0, 60.0))
    assert check_pair(pair[0], replace(pair[1], geometry=longer)) == [], "the same rays, told from another row"
    aside = replace(pair[1].geometry, isocenter_lps=(0.0, 3.0, 0.0))
    assert any("3.0 mm apart" in w for w in check_pair(pair[0], replace(pair[1], geometry=aside)))
    moved = replace(pair[1], geometry=replace(pair[1].geometry, principal_point=(140.0, 99.5)))
    (sentence,) = check_pair(pair[0], moved)
    assert "15 mm" in sentence
    rows_named = [float(row) for row in re.findall(r'"principal_point": \[([\d.]+),', sentence)]
    assert any(row == pytest.approx(150.0, abs=0.5) for row in rows_named)
    small = pair[0].resized(max_pixels=90)
    assert small.geometry.patient_spacing_mm[0] == pytest.approx(small.geometry.patient_spacing_mm[1], rel=0.02)
