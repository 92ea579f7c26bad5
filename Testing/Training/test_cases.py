import json
from pathlib import Path

import numpy as np
import pytest

from diff2ct.volume import VolumeGrid
from diff2ct_training.cases import Case, list_cases, read_case, write_case


def a_case() -> Case:
    hu = np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 30
    return Case("one", "ct", hu, VolumeGrid((3, 4, 5), (2, 2, 2), (1.5, -2, 3)), (0.5, 1.0, -2.0), "scan.nii.gz")


def test_round_trip(tmp_path: Path) -> None:
    write_case(tmp_path, a_case())
    (file,) = list_cases(tmp_path)
    read = read_case(file)
    np.testing.assert_array_equal(read.hu, a_case().hu)
    for name in ("name", "kind", "grid", "center_lps", "source"):
        assert getattr(read, name) == getattr(a_case(), name)
    assert {p.name for p in tmp_path.iterdir()} == {"one.npy", "one.json"}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="diff2ct prepare"):
        list_cases(tmp_path)


def test_a_damaged_case_is_refused_by_name(tmp_path: Path) -> None:
    write_case(tmp_path, a_case())
    file = tmp_path / "one.json"
    description = json.loads(file.read_text())
    description["grid"]["size"] = [3, 4, 6]
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"one\.json says"):
        read_case(file)
    (tmp_path / "one.npy").write_bytes(b"\x80\x02}q\x00.")  # a pickle is not opened
    with pytest.raises(ValueError, match=r"one\.json cannot be read"):
        read_case(file)
