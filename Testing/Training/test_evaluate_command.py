"""The command `evaluate`: which cases and methods a request means, and what it refuses."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct.checkpoint import load_checkpoint, save_checkpoint
from diff2ct.radiograph import write_radiograph
from diff2ct.translator import load_translator, save_translator
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import write_volume
from diff2ct_training import evaluate_command
from diff2ct_training.checksums import sha256_of
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluate_command import EvaluationRequest, named_checkpoints, run_evaluation, scored_grid, settings_of
from diff2ct_training.evaluation import run
from diff2ct_training.evaluation.cases import describe_grid
from diff2ct_training.evaluation.methods import CheckpointUse, checkpoint_method, plan_nearest_neighbour
from diff2ct_training.parallel import usable_threads
from tiny import tiny_calibration, tiny_translator


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_command_evaluates_checkpoints_and_baseline(tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path) -> None:
    (tmp_path / "cts").mkdir()
    write_volume(trunk, tmp_path / "cts" / "trunk.nrrd")
    request = EvaluationRequest(
        output=tmp_path / "out", num_phantoms=0, cts=(tmp_path / "cts",),
        checkpoints=(f"tiny={tiny_checkpoint}", f"again={tiny_checkpoint}"), methods=("tiny", "again", "flat-body"),
        steps=("2",), samples=("1",),
    )  # fmt: skip
    progress: list[tuple[int, int, str]] = []
    summary = run_evaluation(request, lambda *p: progress.append(p))
    assert progress[-1][:2] == (3, 3)
    assert "| tiny |" in summary and "| again |" in summary and "| flat-body |" in summary and "real CTs (1 case" in summary
    before = read_csv(tmp_path / "out" / "per_case.csv")
    assert "2 steps, 1 samples, seed 0" in before[0]["made_by"] and "baseline flat-body" in before[2]["made_by"]
    assert before[0]["ssim_3d_body"] == before[1]["ssim_3d_body"]
    run_evaluation(replace(request, samples=("1", "tiny=2"), methods=("tiny", "flat-body")), lambda *p: None)
    after = {row["method"]: row for row in read_csv(tmp_path / "out" / "per_case.csv")}
    assert after["tiny"]["made_by"] != before[0]["made_by"] and "tiny, one sample" in after
    assert after["flat-body"]["seconds"] == before[2]["seconds"]  # the number of samples is nothing to a baseline


def test_real_x_rays_are_scored_beside_drrs_in_their_place(tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path) -> None:
    write_volume(trunk, tmp_path / "trunk.nrrd")
    ap, _ = render_radiographs(trunk, BiplanarSetup(pixels=64).beams((0.0, 0.0, 0.0)), "trunk")
    write_radiograph(replace(ap, line_integral=2 * ap.line_integral + 1, scale_known=False), tmp_path / "ap.png")
    (tmp_path / "table.csv").write_text("ct,ap,lateral\ntrunk.nrrd,ap.png,\n")
    request = EvaluationRequest(
        output=tmp_path / "out", num_phantoms=0, real_xrays=tmp_path / "table.csv", checkpoints=(f"tiny={tiny_checkpoint}",),
        methods=("tiny", "flat-body", "backprojection"), steps=("2",), samples=("1",),
    )  # fmt: skip
    summary = run_evaluation(request, lambda *p: None)
    assert "## real frontal X-rays" in summary and "## DRRs for real frontal X-rays" in summary
    assert "1 rows of table.csv" in summary and "noiseless" not in summary
    scores = {(row["dataset"], row["method"]): row for row in read_csv(tmp_path / "out" / "per_case.csv")}
    real, drrs = ({m: scores[dataset, m] for m in request.methods} for dataset in dict.fromkeys(key[0] for key in scores))
    assert real["flat-body"]["ssim_3d_body"] == drrs["flat-body"]["ssim_3d_body"]  # gain and offset do not matter
    assert float(real["backprojection"]["mae_hu_body"]) == pytest.approx(float(drrs["backprojection"]["mae_hu_body"]), rel=1e-3)
    with pytest.raises(ValueError, match="trunk is in several data sets"):
        run_evaluation(replace(request, cts=(tmp_path / "trunk.nrrd",), keep_volumes=True), lambda *p: None)


@pytest.fixture()
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest."""
    monkeypatch.setattr(run, "write_report", lambda results, *others: (results.output / "summary.md").write_text(""))


@pytest.fixture()
def scored_on_small_grid(monkeypatch: pytest.MonkeyPatch, small_grid: VolumeGrid) -> None:
    """A sixty-fourth of the voxels of 2 mm that methods without a checkpoint are scored on."""
    monkeypatch.setattr(evaluate_command, "scored_grid", lambda checkpoints: small_grid)


@pytest.fixture()
def as_many_threads_as_one_of_two_processes() -> Iterator[None]:
    """Sums, and so the last digits, depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(usable_threads(2))
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("no_report", "as_many_threads_as_one_of_two_processes")
def test_two_processes_find_what_one_finds(tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path) -> None:
    for n in (1, 2):
        write_volume(CtVolume(trunk.hu + 10 * n, trunk.grid), tmp_path / f"trunk_{n}.nrrd")
    request = EvaluationRequest(
        output=tmp_path / "one", num_phantoms=0, cts=(tmp_path / "trunk_1.nrrd", tmp_path / "trunk_2.nrrd"),
        checkpoints=(f"tiny={tiny_checkpoint}",), methods=("tiny", "train-mean", "flat-body"), steps=("2",), samples=("2",),
        num_mean_phantoms=2,
    )  # fmt: skip
    progress: list[tuple[int, int, str]] = []
    for name, workers in (("one", 1), ("two", 2)):
        changed = replace(request, output=tmp_path / name, workers=workers, keep_volumes=workers == 2)
        run_evaluation(changed, lambda *p: progress.append(p))
    assert [done for done, _, _ in progress] == [*range(1, 7), *range(1, 7)]
    rows, of_two = (read_csv(tmp_path / name / "per_case.csv") for name in ("one", "two"))
    assert len(rows) == len(of_two) == 8  # two of the checkpoint: the mean of its samples and the first of them
    assert [{**row, "seconds": ""} for row in rows] == [{**row, "seconds": ""} for row in of_two]
    files = [sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n / "results").rglob("*.npz")) for n in ("one", "two")]
    assert files[0] == files[1] and len(files[0]) == 10
    assert len(list((tmp_path / "two" / "volumes").rglob("*.nrrd"))) == 6
    run_evaluation(replace(request, output=tmp_path / "two", workers=2), lambda *p: progress.append(p))
    assert [done for done, _, _ in progress[12:]] == [*range(1, 7)]  # those that are there count too
    assert read_csv(tmp_path / "two" / "per_case.csv") == of_two


def test_what_is_wrong_in_a_process_is_told(tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path) -> None:
    for n in (1, 2):
        write_volume(trunk, tmp_path / f"trunk_{n}.nrrd")
    request = EvaluationRequest(
        output=tmp_path / "out", num_phantoms=0, cts=(tmp_path,), checkpoints=(str(tiny_checkpoint),), methods=("diff2ct",),
        steps=("2",), consistency=True, workers=2,
    )  # fmt: skip
    with pytest.raises(ValueError, match="consistency: accepted with a calibrated checkpoint"):
        run_evaluation(request, lambda *p: None)


@pytest.mark.usefixtures("scored_on_small_grid")
@pytest.mark.filterwarnings("ignore:Expected implicit VR")  # of the broken file
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_ct_is_left_out_and_named(workers: int, trunk: CtVolume, tmp_path: Path) -> None:
    cts = tmp_path / "cts"
    (cts / "deep").mkdir(parents=True)
    for name in ("one scan.nrrd", "deep/one.nrrd", "one scan_seg.nrrd", "._one.nrrd"):
        write_volume(trunk, cts / name) if name[0] != "." else (cts / name).write_bytes(b"macOS")
    (cts / "damaged.nii.gz").write_bytes(b"nothing")
    (cts / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\0\x05\0XX\xff\xff")
    write_volume(trunk, cts / "series")
    request = EvaluationRequest(
        output=tmp_path / "out", num_phantoms=0, cts=(cts,), methods=("flat-body", "oracle-truth"), workers=workers
    )
    progress: list[tuple[int, int, str]] = []
    summary = run_evaluation(request, lambda *p: progress.append(p))
    assert [done for done, _, _ in progress] == list(range(1, 9)) and progress[-1][1] == 8
    cases = {row["case"] for row in read_csv(tmp_path / "out" / "per_case.csv")}
    assert cases > {"one scan", "deep_one"} and len(cases) == 3, "the file's own name, as ever; one below; a DICOM series"
    left_out = [line for line in summary.splitlines() if line.startswith("- left out: ")]
    assert len(left_out) == 2 and {line.split(": ")[1] for line in left_out} == {"damaged", "damaged.dcm"}
    (cts / "damaged.nii.gz").rename(tmp_path / "damaged.nii.gz")
    with pytest.raises(ValueError, match=r"none of 1 could be evaluated \(damaged: "):
        run_evaluation(replace(request, cts=(tmp_path / "damaged.nii.gz",)), lambda *p: None)


def test_checkpoints_are_run_each_in_its_own_way(
    tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[tuple[str, str]] = []
    monkeypatch.setattr(
        run, "write_report", lambda results, keys, s: (settings.extend(s), (results.output / "summary.md").write_text(""))
    )
    write_volume(trunk, tmp_path / "trunk.nrrd")
    request = EvaluationRequest(
        output=tmp_path / "out", num_phantoms=0, cts=(tmp_path / "trunk.nrrd",),
        checkpoints=(f"a={tiny_checkpoint}", f"b={tiny_checkpoint}", f"c={tiny_checkpoint}"), methods=("a", "b", "c"),
        steps=("2", "b=3"), samplers=("a=ddpm",), samples=("1",),
    )  # fmt: skip
    run_evaluation(request, lambda *p: None)
    rows = read_csv(tmp_path / "out" / "per_case.csv")
    for row, how in zip(rows, ("ddpm, 2 steps", "dpm-solver, 3 steps", "dpm-solver, 2 steps"), strict=True):
        assert how in row["made_by"]
    assert len({row["mae_hu_whole"] for row in rows}) == 3

    save_translator(tmp_path / "t.safetensors", tiny_translator())
    settings.clear()
    run_evaluation(replace(request, translator=tmp_path / "t.safetensors"), lambda *p: None)
    translated = read_csv(tmp_path / "out" / "per_case.csv")
    sha256 = load_translator(tmp_path / "t.safetensors").sha256
    assert ("X-ray style", f"of checkpoints, real to DRR by translator t.safetensors {sha256[:12]}") in settings
    for row, before in zip(translated, rows, strict=True):
        assert f"translator {sha256[:16]}" in row["made_by"] and row["mae_hu_whole"] != before["mae_hu_whole"]
    save_translator(tmp_path / "wrong.safetensors", tiny_translator("drr_to_real"))
    with pytest.raises(ValueError, match="accepted is real_to_drr"):
        run_evaluation(replace(request, translator=tmp_path / "wrong.safetensors"), lambda *p: None)


@pytest.mark.parametrize(("provenance", "told"), [({"cube_only": 1.0}, True), ({"cube_only": 0.15}, False), ({}, False)])
def test_a_checkpoint_that_knows_xrays_of_the_cube_alone_is_told(
    provenance: dict, told: bool, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = replace(load_checkpoint(tiny_checkpoint), provenance=provenance)
    request = EvaluationRequest(output=tmp_path, num_phantoms=1)
    lines = settings_of(request, {"paper": checkpoint}, {"paper": CheckpointUse()}, None, BiplanarSetup(), checkpoint.grid, {})
    assert ("trained on X-rays of the cube alone" in dict(lines)["paper"]) == told


def test_all_methods_are_scored_on_the_finest_grid_in_whatever_order_they_are_named(tiny_checkpoint: Path) -> None:
    fine = load_checkpoint(tiny_checkpoint)
    coarse = replace(fine, grid=replace(fine.grid, spacing_mm=(16.0, 16.0, 16.0)))
    assert scored_grid({"a": fine, "b": coarse}) == scored_grid({"b": coarse, "a": fine}) == fine.grid
    assert scored_grid({}) == VolumeGrid.centered()
    request = EvaluationRequest(output=Path("out"), num_phantoms=1)
    lines = settings_of(request, {}, {}, None, BiplanarSetup(), fine.grid, {"nearest-neighbour": plan_nearest_neighbour(2)})
    assert ("scored on", describe_grid(fine.grid)) in lines
    assert ("nearest-neighbour", "nearest of 2 training phantoms") in lines
    assert ("LPIPS", "not computed") in lines
    request = replace(request, lpips=(Path("weights/alexnet.pth"), Path("vgg16.pth")))
    lines = settings_of(request, {}, {}, None, BiplanarSetup(), fine.grid, {})
    assert ("LPIPS", "v0.1, alexnet.pth, vgg16.pth") in lines


@pytest.mark.usefixtures("no_report")
def test_cases_that_a_checkpoint_has_seen_are_told(
    tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cts").mkdir()
    for n in (1, 2):
        write_volume(CtVolume(trunk.hu + n, trunk.grid), tmp_path / "cts" / f"{n}.nrrd")
    settings: list[tuple[str, str]] = []
    monkeypatch.setattr(evaluate_command, "evaluate", lambda *cases, **options: settings.extend(options["settings"]))
    (tmp_path / "summary.md").write_text("")
    sha256 = sha256_of(tmp_path / "cts" / "1.nrrd")
    calibration = replace(tiny_calibration(), provenance={"cases": "12 phantoms, seeds 2 to 111; 2 CTs"})
    checkpoint = replace(
        load_checkpoint(tiny_checkpoint), calibration=calibration, provenance={"started_from": {"origins": [sha256]}}
    )
    save_checkpoint(tmp_path / "seen.safetensors", checkpoint)
    request = EvaluationRequest(
        output=tmp_path, num_phantoms=4, cts=(tmp_path / "cts",), methods=("diff2ct",), overwrite=True,
        checkpoints=(str(tmp_path / "seen.safetensors"),),
    )  # fmt: skip
    run_evaluation(request, lambda *p: None)
    told = {("trained on", "diff2ct: 1"), ("calibrated on", "diff2ct: phantom_002, phantom_003")}
    assert told <= set(settings) and "diff2ct was trained on 1: its figures" in caplog.text
    settings.clear()
    run_evaluation(replace(request, num_phantoms=2, cts=()), lambda *p: None)
    assert not {"trained on", "calibrated on"} & dict(settings).keys()


@pytest.mark.usefixtures("scored_on_small_grid")
def test_label_maps_that_match_no_case_are_told(tiny_checkpoint: Path, trunk: CtVolume, tmp_path: Path) -> None:
    for folder in ("cts", "labels"):
        (tmp_path / folder).mkdir()
    map_of = CtVolume(np.where(trunk.hu > 100, 31, 0), trunk.grid)
    for n in range(3):
        write_volume(trunk, tmp_path / "cts" / f"{n}.nrrd")
    write_volume(map_of, tmp_path / "labels" / "wrong.nrrd")
    request = EvaluationRequest(
        output=tmp_path / "out", num_phantoms=0, cts=(tmp_path / "cts",), methods=("flat-body",), labels=tmp_path / "labels",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"--labels: .* has a label map of none of 3 CTs, accepted are files called CASE"):
        run_evaluation(request, lambda *p: None)
    with pytest.raises(ValueError, match=r"--predicted-labels: .* of none of 3 cases"):
        wrong = replace(request, labels=None, predicted_labels=(f"flat-body={tmp_path / 'labels'}",))
        run_evaluation(wrong, lambda *p: None)
    write_volume(map_of, tmp_path / "labels" / "0.nrrd")
    write_volume(map_of, tmp_path / "cts" / "1_seg.nrrd")  # which `prepare` takes for the label map of 1
    summary = run_evaluation(replace(request, predicted_labels=(f"flat-body={tmp_path / 'labels'}",)), lambda *p: None)
    assert "- labels: 2 of 3 CTs" in summary and "- labels of flat-body: 1 of 3 cases" in summary
    made_by = {row["case"]: row["made_by"] for row in read_csv(tmp_path / "out" / "per_case.csv")}
    assert ["labels" in made_by[n].partition(" on ")[0] for n in "012"] == [True, True, False]


def test_a_checkpoint_that_changes_meanwhile_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="written anew"):
        checkpoint_method(CheckpointUse(file=tiny_checkpoint), "of another file")


def test_command_does_not_write_over_foreign_results(tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("mine")
    with pytest.raises(ValueError, match=r"summary\.md exists"):
        run_evaluation(EvaluationRequest(output=tmp_path, num_phantoms=1), lambda *p: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_phantoms": 0}, "cases"),
        ({"num_phantoms": 1001}, "--phantoms: got 1001, accepted are 0 to 1000"),
        ({"methods": ("magic",)}, "magic"),
        ({"cts": (Path("nowhere"),)}, "nowhere"),
        ({"labels": Path("nowhere")}, "nowhere"),
        ({"checkpoints": ("a=x", "a=y")}, "twice"),
        ({"checkpoints": ("truth=x",)}, "got the name 'truth', which is taken"),
        ({"checkpoints": ("runs/sirt.safetensors", "b=y")}, "got the name 'sirt', which is taken"),
        ({"checkpoints": ("train-mean=x",)}, "which is taken"),
        ({"compat": ("nobody",)}, "--compat: got 'nobody', accepted are x2ct, perx2ct, seed"),
        ({"predicted_labels": ("diff2ct",)}, "METHOD=FOLDER"),
        ({"predicted_labels": ("magic=.",)}, "magic"),
        ({"inception": Path("nowhere.pt"), "methods": ("flat-body",)}, "FID and KID need"),
        ({"steps": ("0",)}, "--steps: got '0', accepted is a count"),
        ({"steps": ("diff2ct=1001",)}, "num_steps: got 1001, accepted is 1 to 1000"),
        ({"steps": ("2", "3")}, "--steps: got '2' and '3' for all"),
        ({"steps": ("magic=2",)}, "--steps: got 'magic', accepted are diff2ct"),
        ({"samplers": ("euler",)}, "--sampler: got 'euler', accepted are ddpm, ddim, dpm-solver, renoise"),
        ({"translator": Path("nowhere.safetensors")}, "nowhere"),
        ({"workers": 0, "methods": ("flat-body",)}, "--workers: got 0"),
        ({"lpips": (Path("nowhere.pth"),), "methods": ("flat-body",)}, "LPIPS needs"),
    ],
)
def test_command_refuses(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_evaluation(EvaluationRequest(**{"output": tmp_path, "num_phantoms": 1, **changes}), lambda *p: None)


def test_a_checkpoint_file_with_an_equals_sign_in_its_path(tmp_path: Path) -> None:
    file = tmp_path / "lr=1e-4" / "checkpoint.safetensors"
    file.parent.mkdir()
    file.touch()
    assert named_checkpoints((str(file),)) == {"diff2ct": file}
    assert named_checkpoints((str(file), f"b={file}")) == {"checkpoint": file, "b": file}


def test_checkpoint_names() -> None:
    assert named_checkpoints(()) == {"diff2ct": None}
    assert named_checkpoints(("m.safetensors",)) == {"diff2ct": Path("m.safetensors")}
    assert named_checkpoints(("a/one.safetensors", "x=a/two.safetensors")) == {
        "one": Path("a/one.safetensors"), "x": Path("a/two.safetensors"),
    }  # fmt: skip
