"""`diff2ct calibrate`: from held-out cases to a checkpoint that says how far it is off."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from diff2ct.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from diff2ct.networks import Psr, PsrConfig
from diff2ct.reconstruct import reconstruct
from diff2ct.units import HuMap
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import resample, write_volume
from diff2ct_training import calibrate_command, cli
from diff2ct_training.cases import Case, list_cases, write_case
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation import cases as evaluation_cases
from diff2ct_training.evaluation.cases import EvaluationCase
from diff2ct_training.lineage import calibrated_on


@pytest.fixture()
def checkpoint(tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny checkpoint, and phantoms that take no time."""

    def small_case(seed: int, grid: VolumeGrid, setup: BiplanarSetup) -> EvaluationCase:
        ct = replace(trunk, hu=np.roll(trunk.hu, seed, axis=2))
        beams = BiplanarSetup(pixels=48).beams((0.0, 0.0, 0.0))
        known = np.ones(grid.size, dtype=bool)
        return EvaluationCase("phantoms", str(seed), render_radiographs(ct, beams, str(seed)), resample(ct, grid), known)

    monkeypatch.setattr(evaluation_cases, "phantom_case", small_case)
    path = tmp_path / "model.safetensors"
    shutil.copy(tiny_checkpoint, path)
    return path


def calibrate(*options: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(cli.main, ["calibrate", *map(str, options)])


def test_calibration_is_stored_in_the_checkpoint_and_used(checkpoint: Path) -> None:
    before = load_checkpoint(checkpoint)
    assert before.calibration is None
    options = ("--checkpoint", checkpoint, "--phantoms", 4, "--samples", 2, "--steps", 2)
    result = calibrate(*options)
    assert result.exit_code == 0, result.output
    assert "90% interval" in result.stdout and "bone_ml" in result.stdout and "seeds 100 to 103" in result.stdout
    loaded = load_checkpoint(checkpoint)
    assert loaded.calibration is not None
    assert loaded.calibration.num_cases == 4
    for name, weights in before.network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], weights, rtol=0, atol=0)
    assert loaded.calibration.provenance["held_out_coverage"]["phantoms"]["0.8"] == pytest.approx(0.8, abs=0.15)
    assert set(loaded.calibration.bounds["bone_ml"]) == {"0.5", "0.8"}, "four cases cannot speak for nine in ten"

    case = evaluation_cases.phantom_case(7, loaded.grid, BiplanarSetup())
    volume = reconstruct(case.radiographs, loaded, num_steps=2, num_samples=2, consistency=False)
    lower, upper = volume.interval_hu(0.8)
    assert volume.error_hu is not None and (lower <= upper).all()

    again = calibrate(*options)
    assert again.exit_code == 2 and "calibrated already" in again.stderr, "nothing is written over unasked"
    assert load_checkpoint(checkpoint).sha256 == loaded.sha256
    other = checkpoint.with_name("other.safetensors")
    for output, found in ((("--output", other), other), (("--overwrite",), checkpoint)):
        assert calibrate(*options, *output).exit_code == 0
        assert load_checkpoint(found).calibration == loaded.calibration, "a calibration must not depend on the one before"
    assert sorted(file.name for file in checkpoint.parent.iterdir()) == [checkpoint.name, other.name]


def test_a_ct_that_cannot_be_read_is_left_out(checkpoint: Path, trunk: CtVolume, tmp_path: Path) -> None:
    (tmp_path / "cts").mkdir()
    write_volume(trunk, tmp_path / "cts" / "good.nrrd")
    (tmp_path / "cts" / "bad.nii.gz").write_bytes(b"nothing")
    result = calibrate("--checkpoint", checkpoint, "--phantoms", 3, "--samples", 2, "--steps", 1, "--cts", tmp_path / "cts")
    assert result.exit_code == 0, result.output
    assert "3 phantoms, seeds 100 to 102; 1 CTs" in result.stdout and "left out          bad: " in result.stdout
    calibration = load_checkpoint(checkpoint).calibration
    assert calibration is not None and set(calibration.provenance["held_out_coverage"]) == {"phantoms", "CTs"}


def test_held_out_cases_of_a_prepared_folder_and_ones_that_were_trained_on(
    checkpoint: Path, trunk: CtVolume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n, split in enumerate(("val", "val", "train")):
        hu, patient = np.roll(trunk.hu, n, axis=2).round().astype(np.int16), f"ct_{n}"
        record = {"source_sha256": f"sha {n}"}
        case = Case(patient, "ct", hu, trunk.grid, (0, 0, 0), "a.nrrd", patient=patient, split=split, record=record)
        write_case(tmp_path / "cases", case)
    save_checkpoint(checkpoint, replace(load_checkpoint(checkpoint), provenance={"origins": ["sha 1", "sha 2"]}))
    options = ("--checkpoint", checkpoint, "--phantoms", 2, "--samples", 2, "--steps", 1)
    result = calibrate(*options, "--cases", tmp_path / "cases")
    assert result.exit_code == 0, result.output
    assert "2 phantoms, seeds 100 to 101; 2 CTs" in result.stdout and len(list_cases(tmp_path / "cases")) == 3
    assert "trained on        ct_1: the errors on them" in result.stdout and "trained on ct_1" in caplog.text
    calibration = load_checkpoint(checkpoint).calibration
    assert calibration is not None and calibration.provenance["trained_on"] == ["ct_1"]
    assert calibrated_on(calibration.provenance) == {"make_phantom(100)", "make_phantom(101)", "sha 0", "sha 1"}


def test_a_network_of_one_pass_has_no_spread_to_calibrate(tmp_path: Path) -> None:
    network, grid = Psr(PsrConfig(size=16, width=8, down_blocks=(1, 1))), VolumeGrid.centered(16, 16.0)
    one_pass = Checkpoint(
        network=network, network_name="psr", diffusion=None, hu_map=HuMap(), condition="planes", grid=grid
    )  # fmt: skip
    save_checkpoint(tmp_path / "psr.safetensors", one_pass)
    result = calibrate("--checkpoint", tmp_path / "psr.safetensors", "--output", tmp_path / "new.safetensors")
    assert result.exit_code == 2 and "in one pass" in result.stderr


def test_one_sample_or_two_cases_are_too_few(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is found out before any work."""
    monkeypatch.setattr(calibrate_command, "reconstruct", None)
    few = calibrate("--checkpoint", checkpoint, "--samples", 1)
    assert few.exit_code == 2 and "--samples" in few.stderr
    few = calibrate("--checkpoint", checkpoint, "--phantoms", 2, "--samples", 2, "--steps", 1)
    assert few.exit_code == 2 and "cases: got 2, accepted are 3 or more" in few.stderr
    for seeds in ((12, 990), (3, -1), (-1, 0)):
        few = calibrate("--checkpoint", checkpoint, "--phantoms", seeds[0], "--first-seed", seeds[1])
        assert few.exit_code == 2 and "accepted are seeds 0 to 999" in few.stderr
    assert load_checkpoint(checkpoint).calibration is None
    wrong = calibrate("--checkpoint", checkpoint, "--output", checkpoint.with_name("calibration.json"))
    assert wrong.exit_code == 2 and ".safetensors" in wrong.stderr
