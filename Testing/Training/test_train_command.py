"""`diff2ct train` by its options."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from diff2ct import precision
from diff2ct.checkpoint import load_checkpoint
from diff2ct.volume import VolumeGrid
from diff2ct_training import train_command
from diff2ct_training.cases import Case, write_case
from diff2ct_training.cli import main
from diff2ct_training.recipes import recipe_named
from diff2ct_training.sharding import sharded_strategy
from diff2ct_training.train_command import suited_to_device, usable
from tiny import tiny_body
from tiny_recipes import tiny_teacher


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    body = tiny_body(VolumeGrid.centered(24, 16.0))
    write_case(folder, Case("phantom_tiny", "phantom", body.hu.astype(np.int16), body.grid, (0.0, 0.0, 0.0), "made here"))
    return folder


def train(*options: object) -> Result:
    return CliRunner().invoke(main, ["train", "--accelerator", "cpu", *map(str, options)])


def test_options_change_the_recipe_and_a_run_goes_on(cases: Path, tmp_path: Path) -> None:
    options = ["--recipe", "debug", "--cases", cases, "--output", tmp_path / "run", "--batch-size", 2, "--accumulate", 2]
    options += ["--recompute", "--seed", 5, "--learning-rate", 1e-4]
    result = train(*options, "--steps", 1)
    assert result.exit_code == 0, result.output
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    expected = {"batch_size": 2, "accumulate": 2, "activation_checkpointing": True, "seed": 5, "learning_rate": 1e-4}
    assert {name: recipe[name] for name in expected} == expected
    assert train(*options, "--steps", 2).exit_code == 0
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").provenance["steps"] == 2


def test_coarse_voxels_fill_the_same_cube(cases: Path, tmp_path: Path) -> None:
    result = train("--recipe", "debug", "--spacing", 32, "--cases", cases, "--output", tmp_path / "run", "--steps", 1)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").grid == VolumeGrid.centered(8, 32.0)


def test_a_student_takes_after_the_teacher_that_is_named(cases: Path, tmp_path: Path) -> None:
    """Its network and grid are not those of the recipe."""
    result = train(
        "--recipe", "distilled", "--teacher", tiny_teacher(), "--steps", 1, "--precision", "32-true", "--cases", cases,
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    student, teacher = (load_checkpoint(f) for f in (tmp_path / "run" / "checkpoint.safetensors", tiny_teacher()))
    assert student.network.config == teacher.network.config and student.grid == teacher.grid
    assert student.provenance["teacher"]["sha256"] == teacher.sha256


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--recipe", "resnet"], "accepted are default, paper, psr"),
        (["--recipe", "cyclegan", "--spacing", 4], "--spacing: the recipe 'cyclegan' has no volume"),
        (["--recipe", "distilled", "--spacing", 4], "--spacing: the recipe 'distilled' learns on its teacher's grid"),
        (["--recipe", "psr", "--spacing", 5], "spacing_mm: got 5, accepted is a whole part of the cube's 256 mm"),
        (["--recipe", "cyclegan", "--ct-share", 0.5], "--ct-share: the recipe 'cyclegan' has no such thing"),
        (["--recipe", "cyclegan", "--recompute"], "activation_checkpointing: got True, accepted is False"),
        (["--recipe", "default", "--teacher", "a"], "--teacher: the recipe 'default' has no such thing"),
        (["--recipe", "distilled", "--teacher", "nowhere"], "nowhere is not a file"),
        (["--recipe", "debug", "--accumulate", 3], "accumulate = 3"),
        (["--recipe", "debug", "--precision", "16-mixed"], "precision"),
        (["--recipe", "psr"], "has voxels of"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_in_one_line(options: list[object], said: str, cases: Path, tmp_path: Path) -> None:
    result = train(*options, "--cases", cases, "--output", tmp_path / "run")
    assert result.exit_code != 0 and said in result.output.replace("\n", " ")


@pytest.mark.parametrize(("accelerator", "gpus"), [("cuda", 0), ("gpu", 0), ("cuda", 2)])
def test_gpus_that_are_not_there_are_said_in_one_line(
    accelerator: str, gpus: int, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_fabric.accelerators.cuda.num_cuda_devices", lambda: gpus)
    result = train(
        "--recipe", "debug", "--accelerator", accelerator, "--devices", 4, "--cases", cases, "--output", tmp_path / "run",
        "--precision", "32-true",
    )  # fmt: skip
    assert result.exit_code == 2 and f"got {accelerator} and 4, accepted is what there is here (" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_gpu_that_torch_has_no_kernels_for_is_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    assert [usable(name) for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (6, 1))
    assert usable("auto") == "cpu"
    with pytest.raises(ValueError, match=r"got gpu, but torch .* has no kernels for this GPU"):
        usable("gpu")


@pytest.mark.parametrize(
    ("accelerator", "found", "fastest", "trains_in"),
    [
        ("auto", True, torch.float32, "32-true"), ("cuda", True, torch.float32, "32-true"),
        ("auto", True, torch.bfloat16, "bf16-mixed"), ("cpu", True, torch.float32, "32-true"),
        ("auto", False, torch.float32, "32-true"), ("cpu", False, torch.bfloat16, "bf16-mixed"),
    ],
)  # fmt: skip
def test_a_device_without_bfloat16_trains_in_float32(
    accelerator: str, found: bool, fastest: torch.dtype, trains_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4, for which cuDNN has no bfloat16 convolution; a CPU that emulates it."""
    monkeypatch.setattr(train_command, "best_device", lambda: "cuda" if found else "cpu")
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: fastest)
    assert suited_to_device(recipe_named("default"), accelerator).precision == trains_in


@pytest.mark.parametrize(
    ("fastest", "other", "device"),
    [(torch.float32, "bf16-mixed", "cpu"), (torch.bfloat16, "32-true", "cpu"), (torch.bfloat16, "32-true", "cuda")],
)
def test_a_run_goes_on_in_its_precision_on_another_device(
    fastest: torch.dtype, other: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: fastest)
    (tmp_path / "recipe.json").write_text(replace(recipe_named("default"), precision=other).to_json())
    assert suited_to_device(recipe_named("default"), device, tmp_path).precision == other
    assert suited_to_device(recipe_named("default"), device, tmp_path / "new").precision != other


def test_fsdp_names_the_torch_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.2 to 2.5 do not have `fully_shard` under its public name."""
    import torch.distributed.fsdp

    monkeypatch.delattr(torch.distributed.fsdp, "fully_shard", raising=False)
    with pytest.raises(ValueError, match=r"strategy: got 'fsdp', which needs torch 2\.6 or newer"):
        sharded_strategy(2)
