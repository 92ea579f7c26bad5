from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct.translator import load_translator, save_translator
from diff2ct_training.acquisitions import Acquisition, AcquisitionConfig, acquire_views, acquisition_files, read_acquisition
from diff2ct_training.cases import Case, write_case
from diff2ct_training.film_style import FilmStyle, acquire_styled_views
from diff2ct_training.prepare import prepare_xrays
from diff2ct_training.unpaired import Domain
from tiny import GRID, tiny_body, tiny_translator

CONFIG = AcquisitionConfig(detector_pixels=24, cube_only=0.0, ideal_detector=0.0)


def case(name: str = "phantom_tiny", split: str = "train") -> Case:
    body = tiny_body()
    return Case(name, "phantom", body.hu.astype(np.int16), body.grid, (0.0, 0.0, 0.0), "made here", split=split)


def style(folder: Path, share: float = 1.0, direction: str = "drr_to_real") -> FilmStyle:
    save_translator(folder / "style.safetensors", tiny_translator(direction))
    return FilmStyle(translator=folder / "style.safetensors", share=share)


def acquire(config: AcquisitionConfig, of: FilmStyle | None, seed: int = 0) -> Acquisition:
    rng = np.random.default_rng(seed)
    return acquire_views(case(), rng, config, GRID) if of is None else acquire_styled_views(case(), rng, config, GRID, of)


def test_geometry_stays_and_the_detector_is_the_films(tmp_path: Path) -> None:
    films = acquire(CONFIG, style(tmp_path))
    assert len(films.images) == 2 and all(valid.all() for valid in films.valid), "an ideal detector has no collimator"
    rng = np.random.default_rng(0)
    rng.random()  # whether it gets the style
    drrs = acquire_views(case(), rng, replace(CONFIG, ideal_detector=1.0), GRID)
    assert films.beams == drrs.beams and films.cube == drrs.cube
    for film, drr in zip(films.images, drrs.images, strict=True):
        assert film.shape == drr.shape and float((film - drr).abs().max()) > 1e-3


def test_a_share_of_all_gets_the_style(tmp_path: Path) -> None:
    half = style(tmp_path, 0.5)
    bare = [all(bool(valid.all()) for valid in acquire(CONFIG, half, seed).valid) for seed in range(60)]
    collimated = [all(bool(valid.all()) for valid in acquire(CONFIG, None, seed).valid) for seed in range(60)]
    assert sum(collimated) < 25 < sum(bare) < 55, "half of all detectors collimate, and each X-ray has two"


def test_prepared_xrays_are_the_same_again(tmp_path: Path) -> None:
    write_case(tmp_path, case())
    wanted = style(tmp_path)
    prepare_xrays(tmp_path, 2, CONFIG, GRID, style=wanted)
    first = acquisition_files(tmp_path, "phantom_tiny")[0]
    before = read_acquisition(first, case(), GRID)
    first.unlink()
    prepare_xrays(tmp_path, 2, CONFIG, GRID, style=wanted)
    after = read_acquisition(first, case(), GRID)
    assert before.beams == after.beams and all(map(torch.equal, before.images, after.images))
    with pytest.raises(ValueError, match=f"translator {load_translator(wanted.translator).sha256[:16]}, not None; style_share"):
        prepare_xrays(tmp_path, 2, CONFIG, GRID)


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="style_share: got 0"):
        style(tmp_path, 0)
    with pytest.raises(ValueError, match="translates real_to_drr, accepted is drr_to_real"):
        acquire(CONFIG, style(tmp_path, direction="real_to_drr"))
    with pytest.raises(ValueError, match=r"nowhere\.safetensors is not a file"):
        acquire(CONFIG, FilmStyle(translator=tmp_path / "nowhere.safetensors"))


def test_cyclegan_learns_from_the_xrays_of_training_cases(tmp_path: Path) -> None:
    for name, split in (("phantom_a", "train"), ("phantom_b", "val")):
        write_case(tmp_path, case(name, split))
    prepare_xrays(tmp_path, 1, CONFIG, GRID)
    assert len(acquisition_files(tmp_path, "*")) == 2
    assert {view.path.name for view in Domain.of_folder(tmp_path, "").lateral} == {"phantom_a.xray000.npz"}
