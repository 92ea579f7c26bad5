from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from diff2ct.geometry import View
from diff2ct.radiograph import Radiograph, write_radiograph
from diff2ct_training.films import LONGER_SIDE, prepare_films
from diff2ct_training.xray_file import read_xrays
from styles import xray


def write_png(path: Path, shape: tuple[int, int] = (30, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.indices(shape)
    sitk.WriteImage(sitk.GetImageFromArray((rows + 2 * columns).astype(np.uint8)), str(path))
    return path


def write_dicom(path: Path, view: View) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image, beam = xray(view)
    write_radiograph(Radiograph(image, beam), path)
    return path


def test_files_and_folders_of_any_kind(tmp_path: Path) -> None:
    write_dicom(tmp_path / "raw" / "1.2.840.5.dcm", View.RL)
    write_dicom(tmp_path / "raw" / "1.2.840.6.dcm", View.AP)
    write_png(tmp_path / "raw" / "patient7" / "PA" / "image.png")
    (tmp_path / "raw" / "notes.txt").write_text("not an X-ray")
    done = prepare_films(tmp_path / "films", [tmp_path / "raw"])
    assert [p.name for p in done.written] == [
        "1.2.840.5.dcm.xray000.npz", "1.2.840.6.dcm.xray000.npz", "patient7_PA_image.png.xray000.npz",
    ]  # fmt: skip
    assert [read_xrays(p)[2][0].view for p in done.written] == [View.RL, View.AP, View.PA]
    images, valid, _, header = read_xrays(done.written[0])
    np.testing.assert_allclose(np.corrcoef(images.ravel(), xray(View.RL)[0].ravel())[0, 1], 1, atol=1e-4)
    assert valid.all() and header["source"] == "1.2.840.5.dcm"


def test_what_cannot_be_used_is_listed_with_the_reason(tmp_path: Path) -> None:
    write_dicom(tmp_path / "raw" / "good.dcm", View.AP)
    write_png(tmp_path / "raw" / "unsaid.png")
    (tmp_path / "raw" / "broken.dcm").write_bytes(b"no DICOM at all")
    done = prepare_films(tmp_path / "films", [tmp_path / "raw"])
    assert [p.name for p in done.written] == ["good.dcm.xray000.npz"]
    assert len(done.skipped) == 2
    assert "broken.dcm" in done.skipped[0] and "folder named AP, PA, LL or RL" in done.skipped[1]


def test_large_films_are_made_smaller_and_a_second_run_keeps_them(tmp_path: Path) -> None:
    path = write_png(tmp_path / "raw" / "LL" / "large.png", (900, 600))
    (first,) = prepare_films(tmp_path / "films", [tmp_path / "raw"]).written
    assert read_xrays(first)[0].shape == (1, LONGER_SIDE, 341)
    path.write_bytes(b"gone")
    assert prepare_films(tmp_path / "films", [tmp_path / "raw"]).written == [first]


def test_nothing_to_use_and_equal_names_stop(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        prepare_films(tmp_path / "films", [tmp_path / "nowhere"])
    write_png(tmp_path / "raw" / "unsaid.png")
    with pytest.raises(ValueError, match=r"none of .*raw can be used: .*not stated"):
        prepare_films(tmp_path / "films", [tmp_path / "raw"])
    write_png(tmp_path / "other" / "unsaid.png")
    with pytest.raises(ValueError, match=r"both be stored as unsaid\.png"):
        prepare_films(tmp_path / "films", [tmp_path / "raw", tmp_path / "other"])
