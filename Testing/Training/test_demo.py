"""The demo end to end, with the untrained model: every file is there and they belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from diff2ct.radiograph import read_radiograph
from diff2ct.sample_case import SAMPLE_SCREWS, SAMPLE_SEED
from diff2ct.volume_io import read_ct
from diff2ct_training.demo import run_demo
from diff2ct_training.phantom_seeds import TEST_SEEDS


@pytest.fixture(scope="module")
def demo(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], dict]:
    folder = tmp_path_factory.mktemp("somewhere") / "demo"
    files, report = run_demo(folder, checkpoint=tiny_checkpoint, num_steps=2, body_spacing_mm=6.0)
    return folder, files, report


def test_demo_lists_what_it_wrote(demo: tuple[Path, list[Path], dict]) -> None:
    folder, files, _ = demo
    assert {path.name for path in files} == {path.name for path in folder.iterdir()}
    assert {"ap.dcm", "lateral.dcm", "ap.png", "lateral.png", "truth.nrrd", "reconstruction.nrrd", "demo.png"} <= {
        p.name for p in files
    }


def test_demo_phantom_is_not_of_the_training() -> None:
    assert SAMPLE_SEED in TEST_SEEDS


def test_demo_reconstructs_from_the_dicom_files(demo: tuple[Path, list[Path], dict]) -> None:
    _, _, report = demo
    assert "ap.dcm" in report["provenance"]["Sources"] and "lateral.dcm" in report["provenance"]["Sources"]
    assert report["provenance"]["Assumed"] == "nothing"
    assert report["metrics"]["mae_hu_body"] > 0


def test_demo_screws_are_metal_in_the_truth(demo: tuple[Path, list[Path], dict]) -> None:
    folder, _, _ = demo
    screws = json.loads((folder / "screws.json").read_text())
    assert len(screws) == SAMPLE_SCREWS
    truth = read_ct(folder / "truth.nrrd")
    middle = np.mean([screws[0]["head_lps"], screws[0]["tip_lps"]], axis=0)
    i, j, k = np.rint(truth.grid.lps_to_ijk @ [*middle, 1])[:3].astype(int)
    assert truth.hu[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2].max() > truth.hu[k - 1 : k + 2].mean() + 500


def test_demo_files_are_in_one_frame(demo: tuple[Path, list[Path], dict]) -> None:
    folder, _, _ = demo
    truth, reconstruction = (read_ct(folder / f"{name}.nrrd") for name in ("truth", "reconstruction"))
    assert truth.grid == reconstruction.grid
    for name in ("ap", "lateral"):
        dicom, png = (read_radiograph(folder / f"{name}.{suffix}") for suffix in ("dcm", "png"))
        assert dicom.geometry == png.geometry
        assert np.allclose(dicom.geometry.isocenter_lps, truth.grid.center_lps)


def test_demo_picture_shows_something(demo: tuple[Path, list[Path], dict]) -> None:
    picture = imread(demo[0] / "demo.png")[..., :3]
    assert picture.shape[0] > 800 and picture.shape[1] > 1000
    assert picture.std() > 0.1


def test_second_demo_leaves_other_files_alone(demo: tuple[Path, list[Path], dict], tiny_checkpoint: Path) -> None:
    folder, files, _ = demo
    (folder / "my notes.txt").write_text("mine")
    before = read_ct(folder / "reconstruction.nrrd").hu
    again, _ = run_demo(folder, checkpoint=tiny_checkpoint, num_steps=2, body_spacing_mm=6.0)
    assert again == files
    assert (folder / "my notes.txt").read_text() == "mine"
    assert np.array_equal(before, read_ct(folder / "reconstruction.nrrd").hu)
    (folder / "my notes.txt").unlink()


def test_missing_checkpoint_is_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.safetensors"):
        run_demo(tmp_path / "demo", checkpoint=tmp_path / "none.safetensors")
    assert not (tmp_path / "demo").exists()
