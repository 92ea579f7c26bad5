from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from diff2ct.phantom import LABELS
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import write_volume
from diff2ct_training.labels import NUMBERS, SCHEMES, LabelFile, center_of, read_label_files, structures_in

GRID = VolumeGrid.centered(12, 2.0)


def write(path: Path, **boxes: int) -> Path:
    """A label map of 1 mm on the side of GRID; `low` and `high` are numbers in its lower and upper half of z."""
    values = np.zeros((24, 24, 24))
    values[4:8, 8:16, 8:16], values[16:20, 8:16, 8:16] = boxes["low"], boxes["high"]
    write_volume(CtVolume(values, VolumeGrid.centered(24, 1.0)), path)
    return path


def test_our_numbers_are_the_phantoms() -> None:
    assert {name: NUMBERS[name] for name in LABELS} == LABELS
    assert NUMBERS["C1"] == 50 and len(set(NUMBERS.values())) == len(NUMBERS)
    assert SCHEMES["verse"][1] == "C1" and SCHEMES["verse"][20] == "L1" and SCHEMES["ctspine1k"][24] == "L5"


def test_numbers_are_translated_and_places_kept(tmp_path: Path) -> None:
    file = LabelFile(write(tmp_path / "a.nii.gz", low=24, high=23), scheme="verse")
    labels = read_label_files((file,), GRID)
    assert structures_in(labels) == ["L5", "L4"]
    np.testing.assert_allclose(center_of(labels, GRID, "L4"), (0, 0, 6), atol=0.01)
    np.testing.assert_allclose(center_of(labels, GRID, "L5"), (0, 0, -6), atol=0.01)


def test_masks_of_single_structures(tmp_path: Path) -> None:
    file = LabelFile(write(tmp_path / "vertebrae_L3.nii.gz", low=0, high=1), structure="L3")
    assert structures_in(read_label_files((file,), GRID)) == ["L3"]


def test_a_millimetre_that_a_matrix_states_needs_no_unit(tmp_path: Path) -> None:
    """As programs write it that save an array with its matrix: sform code 2, no qform, no unit."""
    path = tmp_path / "vertebrae_L3.nii"
    sitk.WriteImage(sitk.ReadImage(str(write(tmp_path / "a.nrrd", low=0, high=1))), str(path))
    header = bytearray(path.read_bytes())
    header[123], header[252:256] = 0, b"\0\0\2\0"
    path.write_bytes(header)
    labels = read_label_files((LabelFile(path, structure="L3"),), GRID)
    np.testing.assert_allclose(center_of(labels, GRID, "L3"), (0, 0, 6), atol=0.01)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    labels = read_label_files((LabelFile(write(tmp_path / "a.nrrd", low=26, high=27), scheme="totalsegmentator"),), GRID)
    with pytest.raises(ValueError, match="no L3 in its labels, which have S1, L5"):
        center_of(labels, GRID, "L3")


def test_a_probability_map_is_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 12**3).reshape(12, 12, 12)
    write_volume(CtVolume(values, GRID), tmp_path / "soft.nrrd")
    with pytest.raises(ValueError, match=r"soft\.nrrd: numbers such as"):
        read_label_files((LabelFile(tmp_path / "soft.nrrd", scheme="verse"),), GRID)


def test_a_label_map_in_an_unknown_place_is_refused(tmp_path: Path) -> None:
    """It would lie somewhere else than the CT that it belongs to."""
    path = tmp_path / "a.nii"
    sitk.WriteImage(sitk.ReadImage(str(write(tmp_path / "a.nrrd", low=24, high=23))), str(path))
    whole = path.read_bytes()
    for at, value, message in (
        (252, bytes(4), "qform and sform code are 0"),
        (280, np.float32(1.0).tobytes(), "sform and qform contradict each other"),
    ):
        path.write_bytes(whole[:at] + value + whole[at + len(value) :])
        with pytest.raises(ValueError, match=message):
            read_label_files((LabelFile(path, scheme="verse"),), GRID)
