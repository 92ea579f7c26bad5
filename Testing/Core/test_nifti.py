"""NIfTI headers: one place for every voxel, or a sentence that says why there is none."""

import gzip
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

from diff2ct.volume_io import read_ct

SIZE, STEPS = (24, 20, 16), (3.0, 3.5, 5.0)
STRAIGHT = np.column_stack([np.diag(STEPS), (0, 0, 0)])  # RAS
MIRRORED = np.column_stack([np.diag((-3.0, 3.5, 5.0)), (69, 0, 0)])


def sheared(axis: int, by: int, tangent: float) -> np.ndarray:
    sform = STRAIGHT.copy()
    sform[axis, by] = STEPS[by] * tangent
    return sform


def write_nifti(
    path: Path,
    sform: np.ndarray,
    codes: tuple[int, int],
    turned_deg: float = 0.0,
    endian: str = "<",
    *,
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0),
    handedness: int = 1,
    place: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Path:
    """codes: of qform and sform. turned_deg, axis, handedness, place: of the qform."""
    start = bytearray(352)
    struct.pack_into(endian + "i", start, 0, 348)
    struct.pack_into(endian + "8h", start, 40, 3, *SIZE, 1, 1, 1, 1)
    struct.pack_into(endian + "2h", start, 70, 4, 16)
    struct.pack_into(endian + "8f", start, 76, handedness, *STEPS, 1, 1, 1, 1)
    struct.pack_into(endian + "3f", start, 108, 352, 1, 0)
    start[123] = 2
    struct.pack_into(endian + "2h", start, 252, *codes)
    struct.pack_into(endian + "6f", start, 256, *np.sin(np.radians(turned_deg / 2)) * np.array(axis), *place)
    struct.pack_into(endian + "12f", start, 280, *sform.ravel())
    start[344:348] = b"n+1\0"
    hu = np.full(SIZE[::-1], -1000, np.int16)
    hu[4:12, 5:15, 6:18] = 40
    data = bytes(start) + hu.astype(endian + "i2").tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def ras_of(path: Path) -> np.ndarray:
    return (np.diag([-1, -1, 1, 1]) @ read_ct(path).grid.ijk_to_lps)[:3]


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("of", [STRAIGHT, MIRRORED])
def test_a_sform_slightly_off_right_angles_is_read_with_the_nearest_ones(
    tmp_path: Path, of: np.ndarray, name: str, endian: str
) -> None:
    sform = of.copy()
    sform[0, 1] = 3.5 * 3e-3
    with pytest.warns(UserWarning, match=r"x\.nii.* 0\.172 degrees off right angles.*by up to 0\.07 mm"):
        found = ras_of(write_nifti(tmp_path / name, sform, (0, 2), endian=endian))
    corners = np.array([[i, j, k, 1] for i in (0, 23) for j in (0, 19) for k in (0, 15)])
    apart = np.linalg.norm(corners @ (found - sform).T, axis=1)
    assert 0.02 < apart.max() < 0.081, "half of the shear at either end"
    axes = found[:, :3] / np.linalg.norm(found[:, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)


def test_what_a_rounding_leaves_and_what_agrees_is_read_without_a_word(tmp_path: Path) -> None:
    turned = STRAIGHT.copy()
    turned[:2, :2] = np.array([[0.8, -0.6], [0.6, 0.8]]) * STEPS[:2]
    for sform, codes, turn in (
        (sheared(0, 1, 1e-5), (0, 1), 0.0),
        (sheared(0, 1, 3e-3), (1, 1), 0.0),
        (MIRRORED, (0, 1), 0.0),
        (turned, (1, 1), np.degrees(np.arcsin(0.6))),
        (MIRRORED, (1, 0), 0.0),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = ras_of(write_nifti(tmp_path / "x.nii.gz", sform, codes, turn))
        np.testing.assert_allclose(found, STRAIGHT if codes[1] == 0 else sform, atol=0.05)


@pytest.mark.parametrize("handedness", [1, -1])
def test_a_quaternion_about_any_axis_says_the_same_as_its_matrix(tmp_path: Path, handedness: int) -> None:
    axis, angle = np.array([0.48, -0.6, 0.64]), np.radians(50.0)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    sform = np.column_stack([turn * STEPS * (1, 1, handedness), (7.0, -8.0, 9.0)])
    for codes in ((1, 1), (1, 0)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            path = write_nifti(
                tmp_path / "x.nii", sform, codes, 50.0, axis=tuple(axis), handedness=handedness, place=(7.0, -8.0, 9.0)
            )
            np.testing.assert_allclose(ras_of(path), sform, atol=0.01)
    with pytest.raises(ValueError, match="sform and qform contradict"):
        ras_of(write_nifti(path, sform, (1, 1), 50.0, axis=tuple(axis), handedness=-handedness, place=(7.0, -8.0, 9.0)))


@pytest.mark.parametrize("codes", [(0, 1), (1, 1), (1, 2)])
def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path, codes: tuple[int, int]) -> None:
    """ITK takes the upright qform beside such a sform."""
    path = write_nifti(tmp_path / "x.nii.gz", sheared(1, 2, np.tan(np.radians(10))), codes)
    with pytest.raises(ValueError, match=r"x\.nii\.gz: its axes are sheared by 10\.0 degrees.*tilt of the gantry"):
        read_ct(path)
    path = write_nifti(tmp_path / "x.nii.gz", sheared(1, 2, np.tan(np.radians(1))), codes)
    with pytest.raises(ValueError, match=r"sheared by 1\.0 degrees"):
        read_ct(path)


def test_two_places_for_one_voxel_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    for codes in ((1, 1), (1, 2), (2, 1)):
        with pytest.raises(ValueError, match=r"sform and qform contradict each other, they put a corner 69\.0 mm apart"):
            read_ct(write_nifti(path, MIRRORED, codes))
    with pytest.raises(ValueError, match="sform and qform contradict"):
        read_ct(write_nifti(path, STRAIGHT, (1, 1), turned_deg=3))
    ras_of(write_nifti(path, STRAIGHT, (1, 1), turned_deg=0.5))  # less than half a voxel
    with pytest.raises(ValueError, match="sform and pixdim contradict"):
        read_ct(write_nifti(path, STRAIGHT * (2, 2, 1, 1), (0, 1)))
    ras_of(write_nifti(path, STRAIGHT * 0, (1, 1)))  # no sform, whatever its code says
    with pytest.raises(ValueError, match="accepted are three axes and a place"):
        read_ct(write_nifti(path, STRAIGHT * (0, 1, 1, 1), (0, 1)))
