"""Compressed MetaImage files: whole ones are read, and of damaged ones nothing, where ITK takes memory for voxels."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from diff2ct.radiograph import read_radiograph
from diff2ct.volume_io import read_ct

HU = np.random.default_rng(0).integers(-1000, 1000, (8, 16, 12)).astype("<i2")
PACKED = zlib.compress(HU.tobytes())
HEADER = "NDims = 3\nDimSize = 12 16 8\nElementSpacing = 3 3 5\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nElementType = MET_SHORT\n"


def meta(path: Path, packed: bytes = PACKED, *, size: int | None = len(PACKED), beside: bool = False) -> Path:
    text = HEADER + "CompressedData = True\n" + ("" if size is None else f"CompressedDataSize = {size}\n")
    text += f"ElementDataFile = {'voxels.zraw' if beside else 'LOCAL'}\n"
    path.write_bytes(text.encode() + (b"" if beside else packed))
    if beside:
        (path.parent / "voxels.zraw").write_bytes(packed)
    return path


@pytest.mark.parametrize("beside", [False, True])
def test_whole_files_are_read(tmp_path: Path, beside: bool) -> None:
    for packed in (PACKED, gzip.compress(HU.tobytes())):
        np.testing.assert_array_equal(read_ct(meta(tmp_path / "x.mhd", packed, size=len(packed), beside=beside)).hu, HU)
    meta(tmp_path / "x.mhd", PACKED + b"more", beside=beside)
    np.testing.assert_array_equal(read_ct(tmp_path / "x.mhd").hu, HU)
    np.testing.assert_array_equal(read_ct(meta(tmp_path / "x.mhd", size=None, beside=True)).hu, HU)


def flipped(at: int) -> bytes:
    return PACKED[:at] + bytes([PACKED[at] ^ 0xFF]) + PACKED[at + 1 :]


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    ("packed", "size"),
    [
        (flipped(len(PACKED) // 2), len(PACKED)),
        (flipped(len(PACKED) - 1), len(PACKED)),  # of the checksum
        (PACKED[: len(PACKED) // 2], len(PACKED) // 2),
        (PACKED, len(PACKED) // 2),
        (zlib.compress(HU[:-1].tobytes()), None),
        (b"", 0),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, packed: bytes, size: int | None, beside: bool) -> None:
    path = meta(tmp_path / "x.mha", packed, size=len(packed) if size is None else size, beside=beside)
    with pytest.raises(ValueError, match=r"x.mha: damaged"):
        read_ct(path)
    with pytest.raises(ValueError, match=r"x.mha: damaged"):
        read_radiograph(path, view="AP", frame=0)


def test_what_itk_misreads_though_it_is_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x.mha: has no CompressedDataSize"):
        read_ct(meta(tmp_path / "x.mha", size=None))


def test_compressed_slices_in_files_of_their_own_are_read(tmp_path: Path) -> None:
    header = meta(tmp_path / "x.mhd", size=None).read_bytes()
    header = header[: header.index(b"ElementDataFile")] + b"ElementDataFile = LIST\n"
    for k, plane in enumerate(HU):
        (tmp_path / f"{k}.zraw").write_bytes(zlib.compress(plane.tobytes()))
        header += f"{k}.zraw\n".encode()
    (tmp_path / "x.mhd").write_bytes(header)
    np.testing.assert_array_equal(read_ct(tmp_path / "x.mhd").hu, HU)
