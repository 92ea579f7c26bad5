"""The command `evaluate`: which cases and methods a request means, and what it refuses."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from diff2ct.volume import CtVolume
from diff2ct.volume_io import write_volume
from diff2ct_training.evaluate_command import EvaluationRequest, named_checkpoints, run_evaluation


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_command_evaluates_checkpoints_and_baseline(tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path) -> None:
    (tmp_path / "cts").mkdir()
    write_volume(trunk, tmp_path / "cts" / "trunk.nrrd")
    request = EvaluationRequest(
        output=tmp_path / "out", num_phantoms=0, cts=(tmp_path / "cts",),
        checkpoints=(f"tiny={tiny_checkpoint}", f"again={tiny_checkpoint}"), methods=("tiny", "again", "flat-body"),
        num_steps=2,
    )  # fmt: skip
    progress: list[tuple[int, int, str]] = []
    summary = run_evaluation(request, lambda *p: progress.append(p))
    assert progress[-1][:2] == (3, 3)
    assert "| tiny |" in summary and "| again |" in summary and "| flat-body |" in summary and "real CTs (1 case" in summary
    before = read_csv(tmp_path / "out" / "per_case.csv")
    assert "2 steps, 1 samples, seed 0" in before[0]["made_by"] and "baseline flat-body" in before[2]["made_by"]
    assert before[0]["ssim_3d_body"] == before[1]["ssim_3d_body"]
    run_evaluation(replace(request, num_samples=2, methods=("tiny", "flat-body")), lambda *p: None)
    after = {row["method"]: row for row in read_csv(tmp_path / "out" / "per_case.csv")}
    assert after["tiny"]["made_by"] != before[0]["made_by"] and "tiny, one sample" in after
    assert after["flat-body"]["seconds"] == before[2]["seconds"]  # the number of samples is nothing to a baseline


def test_command_does_not_write_over_foreign_results(tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("mine")
    with pytest.raises(ValueError, match=r"summary\.md exists"):
        run_evaluation(EvaluationRequest(output=tmp_path, num_phantoms=1), lambda *p: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_phantoms": 0}, "cases"),
        ({"methods": ("magic",)}, "magic"),
        ({"cts": (Path("nowhere"),)}, "nowhere"),
        ({"labels": Path("nowhere")}, "nowhere"),
        ({"checkpoints": ("a=x", "a=y")}, "twice"),
        ({"compat": ("nobody",)}, "--compat: got 'nobody', accepted are x2ct, perx2ct, seed"),
        ({"predicted_labels": ("diff2ct",)}, "METHOD=FOLDER"),
        ({"predicted_labels": ("magic=.",)}, "magic"),
        ({"inception": Path("nowhere.pt"), "methods": ("flat-body",)}, "FID and KID need"),
        ({"lpips": Path("nowhere.pth"), "methods": ("flat-body",)}, "LPIPS needs"),
    ],
)
def test_command_refuses(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_evaluation(EvaluationRequest(**{"output": tmp_path, "num_phantoms": 1, **changes}), lambda *p: None)


def test_checkpoint_names() -> None:
    assert named_checkpoints(()) == {"diff2ct": None}
    assert named_checkpoints(("m.safetensors",)) == {"diff2ct": Path("m.safetensors")}
    assert named_checkpoints(("a/one.safetensors", "x=a/two.safetensors")) == {
        "one": Path("a/one.safetensors"), "x": Path("a/two.safetensors"),
    }  # fmt: skip
