"""Headers of NRRD and MetaImage: a spacing or a side that nobody stated is not made up."""

from pathlib import Path

import numpy as np
import pytest

from diff2ct.volume_io import read_ct

HU = np.where(np.indices((8, 9, 10)).sum(0) % 3, 40, -1000).astype("<i2")
DIRECTIONS, ORIGIN = "space directions: (3,0,0) (0,3,0) (0,0,5)", "space origin: (0,0,0)"
MATRIX = "TransformMatrix = 1 0 0 0 1 0 0 0 1"


def nrrd(path: Path, *lines: str, end: str = "\n") -> Path:
    fields = ["NRRD0004", "type: int16", "dimension: 3", "sizes: 10 9 8", "endian: little", "encoding: raw", *lines, "", ""]
    path.write_bytes(end.join(fields).encode() + HU.tobytes())
    return path


def meta(path: Path, *lines: str) -> Path:
    fields = ["ObjectType = Image", "NDims = 3", "BinaryData = True", *lines, "DimSize = 10 9 8", "ElementType = MET_SHORT"]
    path.write_bytes("\n".join([*fields, "ElementDataFile = LOCAL", ""]).encode() + HU.tobytes())
    return path


def test_nrrd_states_spacing_and_side_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.nrrd"
    for space, side in (("left-posterior-superior", 3.0), ("RAS", -3.0), ("left-anterior-superior", 3.0)):
        assert read_ct(nrrd(path, f"space: {space}", DIRECTIONS, ORIGIN)).grid.ijk_to_lps[0, 0] == side
    assert read_ct(nrrd(path, "Space: LPS", DIRECTIONS.title(), ORIGIN)).grid.spacing_mm == (3, 3, 5)
    for lines, message in (
        ((), "spacing is missing, it has no space directions"),
        (("spacings: 3 3 5",), "it has no space, so it does not tell where the patient's left is"),
        (("space dimension: 3", DIRECTIONS, ORIGIN), "it has no space"),
        (("space: scanner-xyz", DIRECTIONS, ORIGIN), "its space is 'scanner-xyz', so it does not tell"),
    ):
        with pytest.raises(ValueError, match=f"x.nrrd: .*{message}"):
            read_ct(nrrd(path, *lines))


def test_meta_image_states_its_spacing_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mha"
    for line in ("ElementSpacing = 3 3 5", "ElementSpacing: 3 3 5", "ElementSize = 3 3 5"):
        assert read_ct(meta(path, line, MATRIX)).grid.spacing_mm == (3, 3, 5)
    with pytest.raises(ValueError, match=r"x\.mha: the voxel spacing is missing, it has no ElementSpacing"):
        read_ct(meta(path, MATRIX))
    with pytest.warns(UserWarning, match=r"x\.mha: it has no TransformMatrix"):
        read_ct(meta(path, "ElementSpacing = 3 3 5"))
