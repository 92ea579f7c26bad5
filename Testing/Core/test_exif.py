"""Orientation tags of JPEG and TIFF: every one of the eight comes out upright, in every kind of file, at full depth."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from diff2ct.exif import jpeg_orientation, read_orientation, tiff_orientation, upright, without_orientation
from diff2ct.image_file import read_image
from diff2ct.radiograph import Radiograph, read_radiograph

FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip
"""What side of the upright picture the first stored row and column are at: the table of TIFF 6.0, page 36."""


def scene(dtype: Any = np.uint8) -> np.ndarray:
    """(24, 16), no two of its rows, columns, quarters or mirror images alike."""
    rows, columns = np.mgrid[:24, :16]
    return ((rows * 7 + columns * 3) * (100 if dtype == np.uint16 else 1)).astype(dtype)


def stored(picture: np.ndarray, orientation: int) -> np.ndarray:
    """How a camera held that way writes the upright picture, pixel by pixel from the table."""
    height, width = picture.shape
    first_row, first_column = FIRST_ROW_AND_COLUMN[orientation]
    result = np.empty((height, width) if orientation < 5 else (width, height), picture.dtype)
    for row, column in np.ndindex(result.shape):
        place = {first_row: row, first_column: column}
        y = place["top"] if "top" in place else height - 1 - place["bottom"]
        x = place["left"] if "left" in place else width - 1 - place["right"]
        result[row, column] = picture[y, x]
    return result


def tiff_bytes(
    pages: list[np.ndarray],
    orientations: list[int | None],
    endian: str = "<",
    dpi: tuple[int, int] | None = None,
    photometric: int = 1,
) -> bytes:
    """Uncompressed grey TIFF, written out by hand; None leaves the tag out. photometric: 0 shows 0 white, 1 black."""
    data = bytearray({"<": b"II*\0", ">": b"MM\0*"}[endian] + bytes(4))
    link = 4
    for page, orientation in zip(pages, orientations, strict=True):
        pixels = page.astype(page.dtype.newbyteorder(endian)).tobytes()
        at = len(data)
        data += pixels + b"".join(struct.pack(endian + "II", value, 1) for value in dpi or (1, 1))
        height, width = page.shape
        fields = [
            (256, 4, width),
            (257, 4, height),
            (258, 3, page.itemsize * 8),
            (259, 3, 1),
            (262, 3, photometric),
            (273, 4, at),
        ]
        fields += [(274, 3, orientation)] if orientation is not None else []
        fields += [(277, 3, 1), (278, 4, height), (279, 4, len(pixels))]
        fields += [(282, 5, at + len(pixels)), (283, 5, at + len(pixels) + 8), (296, 3, 2)] if dpi else []
        struct.pack_into(endian + "I", data, link, len(data))
        data += struct.pack(endian + "H", len(fields))
        for tag, kind, value in fields:
            data += struct.pack(endian + "HHI", tag, kind, 1) + struct.pack(
                endian + ("HH" if kind == 3 else "I"), value, *[0] * (kind == 3)
            )
        link = len(data)
        data += bytes(4)
    return bytes(data)


def jpeg_bytes(
    picture: np.ndarray, orientation: int | None, folder: Path, endian: str = "<", thumbnail: int | None = None
) -> bytes:
    """A JPEG with EXIF block, as a camera writes it."""
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(folder / "plain.jpg"), imageIO="JPEGImageIO", compressionLevel=100)
    plain = (folder / "plain.jpg").read_bytes()
    directories = [orientation] if thumbnail is None else [orientation, thumbnail]
    block = b"Exif\0\0" + tiff_bytes([np.zeros((1, 1), np.uint8)] * len(directories), directories, endian)
    comment = b"\xff\xfe" + struct.pack(">H", 5) + b"abc"
    return plain[:2] + comment + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


@pytest.mark.parametrize("orientation", FIRST_ROW_AND_COLUMN)
def test_upright_undoes_the_table(orientation: int) -> None:
    np.testing.assert_array_equal(upright(stored(scene(), orientation), orientation), scene())


def film(path: Path) -> Radiograph:
    return read_radiograph(path, view="AP", polarity="bright_dense", intensity="log")


@pytest.mark.parametrize("orientation", FIRST_ROW_AND_COLUMN)
@pytest.mark.parametrize("kind", ["jpg", "tif 8 bit", "tif 16 bit"])
def test_pictures_come_out_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    picture = scene(np.uint16 if "16" in kind else np.uint8)
    laid = stored(picture, orientation)
    path, straight = tmp_path / f"film.{kind[:3]}", tmp_path / f"straight.{kind[:3]}"
    if kind == "jpg":
        path.write_bytes(jpeg_bytes(laid, orientation, tmp_path))
        straight.write_bytes(jpeg_bytes(picture, None, tmp_path))
    else:
        path.write_bytes(tiff_bytes([laid], [orientation]))
        straight.write_bytes(tiff_bytes([picture], [None]))
    read, expected = film(path), film(straight)
    assert read.geometry.detector_size == (24, 16)
    step = np.ptp(expected.line_integral) / np.ptp(picture.astype(float))
    np.testing.assert_allclose(read.line_integral, expected.line_integral, atol=4 * step if kind == "jpg" else 1e-6)
    told = [w for w in read.warnings if "orientation" in w]
    assert len(told) == (orientation != 1) and all(f"({orientation})" in w for w in told)
    assert not any("orientation" in w for w in expected.warnings)


@pytest.mark.parametrize("endian", "<>")
def test_both_byte_orders(endian: str, tmp_path: Path) -> None:
    tiff = tiff_bytes([scene(np.uint16)] * 2, [6, 6], endian)
    assert tiff_orientation(tiff) == 6
    assert tiff_orientation(without_orientation(tiff)) == 1
    assert len(without_orientation(tiff)) == len(tiff)
    assert jpeg_orientation(jpeg_bytes(scene(), 8, tmp_path, endian)) == 8


def test_a_thumbnail_does_not_count(tmp_path: Path) -> None:
    assert jpeg_orientation(jpeg_bytes(scene(), 3, tmp_path, thumbnail=6)) == 3
    assert jpeg_orientation(jpeg_bytes(scene(), None, tmp_path, thumbnail=6)) == 1


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_nonsense_counts_as_upright(value: int, tmp_path: Path) -> None:
    assert tiff_orientation(tiff_bytes([scene()], [value])) == 1
    assert jpeg_orientation(jpeg_bytes(scene(), value, tmp_path)) == 1


def test_the_spacing_turns_too(tmp_path: Path) -> None:
    """4 pixels per inch along stored rows, 2 along stored columns; upright it is the other way round."""
    (tmp_path / "film.tif").write_bytes(tiff_bytes([stored(scene(), 6)], [6], dpi=(4, 2)))
    np.testing.assert_allclose(film(tmp_path / "film.tif").geometry.detector_spacing_mm, (25.4 / 4, 25.4 / 2), rtol=1e-3)


def test_frames_turn_and_must_agree(tmp_path: Path) -> None:
    frames = [scene(np.uint16), scene(np.uint16)[:, ::-1].copy()]
    (tmp_path / "film.tif").write_bytes(tiff_bytes([stored(f, 8) for f in frames], [8, 8]))
    second = read_radiograph(tmp_path / "film.tif", view="AP", frame=1, polarity="bright_dense", intensity="log")
    assert np.corrcoef(second.line_integral.ravel(), frames[1].ravel())[0, 1] > 0.99
    (tmp_path / "mixed.tif").write_bytes(tiff_bytes(frames, [1, 3]))
    with pytest.raises(ValueError, match=r"mixed\.tif: pages with orientations \[1, 3\]"):
        film(tmp_path / "mixed.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("polarity", ["auto", "bright_dense", "dark_dense"])
@pytest.mark.parametrize("intensity", ["log", "transmission"])
def test_bright_is_what_is_shown_bright(dtype: Any, polarity: str, intensity: str, tmp_path: Path) -> None:
    """A film scanner's TIFF, 0 for white, holds the inverted values of the same picture."""
    picture, options = scene(dtype), {"view": "AP", "polarity": polarity, "intensity": intensity}
    (tmp_path / "black.tif").write_bytes(tiff_bytes([picture], [None]))
    (tmp_path / "white.tif").write_bytes(tiff_bytes([np.iinfo(dtype).max - picture], [6], photometric=0))
    black, white = (read_radiograph(tmp_path / f"{name}.tif", **options).line_integral for name in ("black", "white"))
    assert np.ptp(black) > 0.1
    np.testing.assert_allclose(white, upright(black, 6), atol=1e-5)


def test_other_files_and_damaged_ones_count_as_upright(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(scene()), str(tmp_path / "film.png"))
    assert read_orientation(tmp_path / "film.png") == 1
    tiff, jpeg = tiff_bytes([scene()], [6]), jpeg_bytes(scene(), 6, tmp_path)
    for cut in range(0, len(tiff), 7):
        assert tiff_orientation(tiff[:cut]) in (1, 6)
    for cut in range(0, 200):
        assert jpeg_orientation(jpeg[:cut]) in (1, 6)
    (tmp_path / "loop.tif").write_bytes(b"II*\0" + struct.pack("<IHI", 8, 0, 8))  # a directory that is its own successor
    assert read_orientation(tmp_path / "loop.tif") == 1


def test_read_image_keeps_the_depth_of_a_tagged_tiff(tmp_path: Path) -> None:
    """Left to itself, ITK makes 8-bit RGBA of it."""
    (tmp_path / "film.tif").write_bytes(tiff_bytes([stored(scene(np.uint16), 6)], [6]))
    before = (tmp_path / "film.tif").read_bytes()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "film.tif")), stored(scene(np.uint16), 6))
    assert (tmp_path / "film.tif").read_bytes() == before
