"""`diff2ct translate`, `diff2ct films` and `diff2ct reconstruct --translator` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from diff2ct.checkpoint import save_checkpoint
from diff2ct.networks import ResNet2DConfig
from diff2ct.radiograph import read_radiograph, write_radiograph
from diff2ct.translator import save_translator
from diff2ct_training import cli, recipes
from diff2ct_training.cyclegan import CycleGanRecipe
from styles import store_styles
from tiny import tiny_body, tiny_checkpoint, tiny_radiographs, tiny_translator


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """ap.dcm, lateral.png, style.safetensors."""
    ap, lateral = tiny_radiographs(tiny_body())
    write_radiograph(ap, tmp_path / "ap.dcm")
    write_radiograph(lateral, tmp_path / "lateral.png")
    save_translator(tmp_path / "style.safetensors", tiny_translator())
    return tmp_path


def call(*arguments: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def translate(files: Path, *options: object):  # type: ignore[no-untyped-def]
    where = ("--checkpoint", files / "style.safetensors", "--output", files / "out")
    return call("translate", files / "ap.dcm", files / "lateral.png", *where, *options)


@pytest.mark.parametrize("suffix", ["dcm", "png", "nrrd", "npy"])
def test_translated_files_keep_geometry_and_side(files: Path, suffix: str) -> None:
    result = translate(files, "--format", suffix)
    assert result.exit_code == 0, result.output
    written = [Path(line) for line in result.stdout.split()]
    assert written == [files / "out" / f"{name}.{suffix}" for name in ("ap", "lateral")]
    for before, after in zip((files / "ap.dcm", files / "lateral.png"), written, strict=True):
        old, new = read_radiograph(before), read_radiograph(after)
        assert new.geometry == old.geometry and not new.scale_known and "style" in new.assumed
        assert np.abs(new.line_integral - old.line_integral).max() > 1e-3
    assert "style translated (real to drr)" in result.stderr


def test_nothing_is_written_over_unasked_and_names_must_differ(files: Path) -> None:
    assert translate(files).exit_code == 0
    assert translate(files).exit_code == 2
    assert translate(files, "--overwrite").exit_code == 0
    result = call(
        "translate", files / "ap.dcm", files / "ap.dcm", "--checkpoint", files / "style.safetensors", "--output", files / "b"
    )
    assert result.exit_code == 2 and "2 files would be written as ap.dcm" in result.stderr
    assert not (files / "b").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "jpg"), "accepted are dcm, png, nrrd, npy"),
        (("--checkpoint", "nowhere.safetensors"), "nowhere.safetensors is not a file"),
        (("--view", "LAT"), "LAT"),
    ],
)
def test_bad_options_are_one_line(files: Path, options: tuple, words: str) -> None:
    result = translate(files, *options)
    assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_file_that_does_not_tell_its_view_or_frame_names_the_option(files: Path) -> None:
    np.save(files / "unsaid.npy", np.arange(600.0).reshape(20, 30))
    np.save(files / "several.npy", np.arange(1200.0).reshape(2, 20, 30))
    for name, options, words in (("unsaid", (), "--view"), ("several", ("--view", "AP"), "--frame, 0 to 1")):
        model = ("--checkpoint", files / "style.safetensors", "--output", files / "out")
        result = call("translate", files / f"{name}.npy", *model, *options)
        assert result.exit_code == 2 and words in result.stderr


def test_reconstruct_with_a_translator_says_so(files: Path) -> None:
    save_checkpoint(files / "tiny.safetensors", tiny_checkpoint())
    model = ("--checkpoint", files / "tiny.safetensors", "--steps", 1, "--samples", 1, "--json")
    pair = ("reconstruct", files / "ap.dcm", files / "lateral.png")
    result = call(*pair, "--output", files / "a.nrrd", *model, "--translator", files / "style.safetensors")
    assert result.exit_code == 0, result.output
    assert "real to DRR" in json.loads(result.stdout)["provenance"]["Style"]
    save_translator(files / "other.safetensors", tiny_translator("drr_to_real"))
    result = call(*pair, "--output", files / "b.nrrd", *model, "--translator", files / "other.safetensors")
    assert result.exit_code == 2 and "accepted is real_to_drr" in result.stderr


def test_films_then_train_then_translate(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of the README, on the smallest networks."""

    def tiny() -> CycleGanRecipe:
        return CycleGanRecipe(
            name="cyclegan", size=32, generator=ResNet2DConfig(width=4, num_blocks=1), discriminator_widths=(4, 8),
            num_steps=2, precision="32-true",
        )  # fmt: skip

    monkeypatch.setitem(recipes.RECIPES, "cyclegan", tiny)
    drrs, _ = store_styles(tmp_path)
    (tmp_path / "raw").mkdir()
    for name in ("ap.dcm", "lateral.png", "lateral.png.json"):
        (files / name).rename(tmp_path / "raw" / name)
    (tmp_path / "raw" / "broken.dcm").write_bytes(b"nothing")
    result = call("films", tmp_path / "raw", "--output", tmp_path / "films")
    assert result.exit_code == 0 and "2 X-rays" in result.stdout and "skipped: " in result.stderr

    train = ("train", "--recipe", "cyclegan", "--cases", drrs, "--output", tmp_path / "run", "--accelerator", "cpu")
    result = call(*train)
    assert result.exit_code == 2 and "diff2ct films" in result.stderr
    result = call(*train, "--films", tmp_path / "films")
    assert result.exit_code == 0, result.output
    to_real = tmp_path / "run" / "checkpoint_drr_to_real.safetensors"
    result = call("translate", tmp_path / "raw" / "ap.dcm", "--checkpoint", to_real, "--output", tmp_path / "out")
    assert result.exit_code == 0 and (tmp_path / "out" / "ap.dcm").is_file()
