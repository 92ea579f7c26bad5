"""The command line: what is on stdout, what is on stderr, exit status, and that nothing is written over."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from diff2ct.checkpoint import load_checkpoint, store_calibration
from diff2ct.radiograph import write_radiograph
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import read_ct, write_volume
from diff2ct_training import cli
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from tiny import tiny_calibration


@pytest.fixture(scope="module")
def files(trunk: CtVolume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ap.dcm, lateral.dcm, ct.nrrd of one body."""
    folder = tmp_path_factory.mktemp("case")
    for name, radiograph in zip(
        ("ap", "lateral"), render_radiographs(trunk, BiplanarSetup(pixels=96).beams((0, 0, 0)), "trunk"), strict=True
    ):
        write_radiograph(radiograph, folder / f"{name}.dcm")
    write_volume(trunk, folder / "ct.nrrd")
    return folder


@pytest.fixture()
def calibrated(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with a calibration of two samples."""
    path = tmp_path / "calibrated.safetensors"
    store_calibration(tiny_calibration(), load_checkpoint(tiny_checkpoint).sha256, tiny_checkpoint, path)
    return path


@pytest.fixture()
def call(files: Path, tiny_checkpoint: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    """call("--json", ...) runs `diff2ct reconstruct` on the case; options given twice: the last one counts."""

    def run(*options: object, ap: Path = files / "ap.dcm", lateral: Path = files / "lateral.dcm"):  # type: ignore[no-untyped-def]
        arguments = [
            "reconstruct",
            ap,
            lateral,
            "--output",
            tmp_path / "out.nrrd",
            "--checkpoint",
            tiny_checkpoint,
            "--steps",
            2,
        ]
        return CliRunner().invoke(cli.main, [str(a) for a in (*arguments, *options)])

    return run


def assert_one_line(result, *words: str) -> None:  # type: ignore[no-untyped-def]
    """Exit status 2, nothing on stdout, and one line of plain words on stderr."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("diff2ct: ")
    for word in words:
        assert word in lines[0]


def test_json_is_the_only_thing_on_stdout(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = call("--json", "--truth", files / "ct.nrrd", "--figure", tmp_path / "out.png")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report) == {
        "output",
        "seconds",
        "peak_memory_mb",
        "metrics",
        "reprojection",
        "reprojection_before",
        "figures",
        "calibration_limits",
        "warnings",
        "notes",
        "assumed",
        "provenance",
    }
    assert report["seconds"] > 0 and report["peak_memory_mb"] > 50
    assert report["metrics"]["mae_hu_body"] > 0
    assert report["metrics"]["mae_hu_metal"] is None  # the truth has no metal, and NaN is no JSON
    assert len(report["reprojection"]) == 2
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert report["figures"] == {}, "this checkpoint is not calibrated"


def test_volume_is_hu_around_the_isocenter_and_says_what_it_is(call, small_grid: VolumeGrid, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = call()
    assert result.exit_code == 0, result.output
    assert "out.nrrd" in result.stdout and "not for diagnosis" in result.stdout
    volume = read_ct(tmp_path / "out.nrrd")
    assert volume.grid == small_grid
    assert volume.hu.min() >= -1000 and volume.hu.max() <= 4096
    image = sitk.ReadImage(str(tmp_path / "out.nrrd"))
    assert "not for diagnosis" in image.GetMetaData("Notice")
    assert len(image.GetMetaData("CheckpointSha256")) == 64


def test_seed_decides(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    volumes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert call("--seed", seed, "--output", tmp_path / f"{name}.nrrd").exit_code == 0
        volumes.append(read_ct(tmp_path / f"{name}.nrrd").hu)
    assert np.array_equal(volumes[0], volumes[1])
    assert not np.array_equal(volumes[0], volumes[2])


def test_samples_give_a_standard_deviation(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = call("--samples", 2, "--sd-output", tmp_path / "sd.nrrd")
    assert result.exit_code == 0, result.output
    sd = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "sd.nrrd")))
    assert sd.min() >= 0 and sd.mean() > 0
    assert_one_line(
        call("--samples", 1, "--sd-output", tmp_path / "sd2.nrrd", "--output", tmp_path / "out2.nrrd"),
        "map sd",
        "samples = 1",
    )


def test_maps_of_a_calibration_that_may_not_hold_come_with_the_reason(call, calibrated: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    options = ("--checkpoint", calibrated, "--no-consistency", "--samples", 3, "--json", "--overwrite")
    result = call(*options, "--sd-output", tmp_path / "sd.nrrd")
    assert "may not hold" not in result.stderr, "the deviation of the samples needs no calibration"
    assert "2 samples, this run had 3" in json.loads(result.stdout)["provenance"]["CalibrationLimits"]
    maps = ("--error-output", tmp_path / "error.nrrd", "--support-output", tmp_path / "support.nrrd")
    result = call(*options, *maps)
    assert result.exit_code == 0
    assert "error, support: may not hold, the calibration is of 2 samples, this run had 3" in result.stderr
    assert "this run had 3" in sitk.ReadImage(str(tmp_path / "error.nrrd")).GetMetaData("CalibrationLimits")


def test_figures_of_the_patient_come_with_their_intervals_and_why_these_may_not_hold(
    call, tiny_checkpoint: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    calibration = replace(tiny_calibration(), bounds={"body_ml": {"0.8": 1e5, "0.9": 2e5}})
    path = tmp_path / "bounds.safetensors"
    store_calibration(calibration, load_checkpoint(tiny_checkpoint).sha256, tiny_checkpoint, path)
    options = ("--checkpoint", path, "--no-consistency", "--samples", 3, "--overwrite")
    text = call(*options).stdout
    (of_patient,) = [line for line in text.splitlines() if line.startswith("of the patient  ")]
    assert "body in the cube: " in of_patient and "ml, 80 % interval 0 to " in of_patient and "90 % interval 0 to" in of_patient
    assert "its intervals   may not hold, the calibration is of 2 samples, this run had 3" in text
    assert re.search(r"re-projection   lateral: error \d+\.\d %, correlation -?\d\.\d{3}\n", text)

    report = json.loads(call(*options, "--json").stdout)
    figure = report["figures"]["body_ml"]
    assert figure["intervals"]["0.8"] == [0.0, figure["value"] + 1e5] and figure["text"] in of_patient
    assert report["calibration_limits"] == ["the calibration is of 2 samples, this run had 3"]
    assert figure["text"] in sitk.ReadImage(str(tmp_path / "out.nrrd")).GetMetaData("Figures")


def test_consistency_is_told_how(call, calibrated: Path) -> None:  # type: ignore[no-untyped-def]
    how = ("--consistency-option", "when=steps", "--consistency-option", "tv=0.1")
    report = json.loads(call("--checkpoint", calibrated, "--samples", 1, "--json", *how).stdout)
    assert "when='steps'" in report["provenance"]["Consistency"] and "tv=0.1" in report["provenance"]["Consistency"]
    assert len(report["reprojection_before"]) == 2
    assert_one_line(call("--overwrite", "--no-consistency", *how), "--consistency-option")
    assert_one_line(call("--overwrite", "--consistency-option", "tv"), "NAME=VALUE")
    assert_one_line(call("--overwrite", *how), "calibrated checkpoint")  # this one is not


def test_geometry_file_overrules_the_image(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    distances = {"source_to_detector_mm": 1100.0, "source_to_isocenter_mm": 800.0}
    (tmp_path / "g.json").write_text(
        json.dumps({"ap": {**distances, "isocenter_lps": [0, 0, 8]}, "lateral": {"isocenter_lps": [0, 0, 8]}})
    )
    result = call("--geometry", tmp_path / "g.json")
    assert result.exit_code == 0, result.output
    assert np.allclose(read_ct(tmp_path / "out.nrrd").grid.center_lps, (0, 0, 8))
    assert "source_to_detector_mm" in result.stderr  # the file said something else: a warning


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "no JSON"),
        pytest.param("[" * 100_000, "no JSON", id="brackets"),
        ("[1]", "accepted is"),
        ('{"front": {}}', "front"),
        ('{"ap": {"sid": 1000}}', "sid"),
        ('{"ap": {"source_to_detector_mm": "far"}}', "source_to_detector_mm"),
    ],
)
def test_bad_geometry_file(call, tmp_path: Path, text: str, word: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "g.json").write_text(text)
    assert_one_line(call("--geometry", tmp_path / "g.json"), word)
    assert not (tmp_path / "out.nrrd").exists()


def test_existing_output_is_refused_and_kept(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("out.nrrd", "out.png"):
        (tmp_path / name).write_text("mine")
        assert_one_line(call("--figure", tmp_path / "out.png"), name, "--overwrite")
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "out.nii.gz.json").write_text("mine")
    assert_one_line(call("--output", tmp_path / "out.nii.gz"), "out.nii.gz.json")
    (tmp_path / "out.nrrd").write_text("mine")
    assert call("--overwrite").exit_code == 0
    assert read_ct(tmp_path / "out.nrrd").hu.size == 32**3


def test_two_outputs_in_one_file_are_refused_before_the_work(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out.nrrd"
    assert_one_line(call("--sd-output", tmp_path / "." / "out.nrrd"), "--output and --sd-output are the same file")
    assert not out.exists()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "ct.nrrd").write_bytes((files / "ct.nrrd").read_bytes())
    truth = ("--truth", tmp_path / "study" / "ct.nrrd", "--overwrite")
    assert_one_line(call(*truth, "--output", tmp_path / "study" / "ct.nrrd"), "--output", "would replace the CT")
    assert_one_line(call(*truth, "--output", tmp_path / "study"), "--output", "would replace the CT")
    assert (tmp_path / "study" / "ct.nrrd").read_bytes() == (files / "ct.nrrd").read_bytes()


def test_a_path_without_suffix_is_a_dicom_folder_for_the_volume_alone(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert_one_line(call("--samples", 2, "--sd-output", tmp_path / "sd"), "sd: cannot be written", ".nrrd")
    assert call("--samples", 1, "--output", tmp_path / "ct").exit_code == 0
    assert read_ct(tmp_path / "ct").hu.size == 32**3


def test_missing_and_foreign_inputs(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert_one_line(call(ap=tmp_path / "none.dcm"), "none.dcm", "no such file")
    (tmp_path / "notes.dcm").write_text("not an X-ray")
    assert_one_line(call(ap=tmp_path / "notes.dcm"), "notes.dcm")
    assert_one_line(call(ap=files / "ct.nrrd"), "ct.nrrd")  # a volume is no radiograph
    assert_one_line(call("--truth", files / "ap.dcm"), "ap.dcm")  # a radiograph is no CT
    assert_one_line(call("--output", tmp_path / "no" / "out.nrrd"), "no")
    assert_one_line(call("--output", tmp_path / "out.jpg"), "out.jpg", ".nrrd")
    assert_one_line(call("--figure", tmp_path / "out.doc"), "out.doc", ".png")
    assert list(tmp_path.glob("out*")) == []


def test_corrupt_checkpoint(call, tiny_checkpoint: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "cut.safetensors").write_bytes(tiny_checkpoint.read_bytes()[:1000])
    assert_one_line(call("--checkpoint", tmp_path / "cut.safetensors"), "checkpoint", "cut.safetensors")
    assert_one_line(call("--checkpoint", tmp_path / "none.safetensors"), "none.safetensors")


def test_views_that_do_not_make_a_pair(call, files: Path) -> None:  # type: ignore[no-untyped-def]
    assert_one_line(call(lateral=files / "ap.dcm"), "same image")
    swapped = call("--json", ap=files / "lateral.dcm", lateral=files / "ap.dcm")
    assert swapped.exit_code == 0
    assert "swapped" in swapped.stderr
    assert any("swapped" in warning for warning in json.loads(swapped.stdout)["warnings"])


def test_xrays_of_different_patients_are_said(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name, patient, day in (("ap", "1234567", "20240531"), ("lateral", "7654321", "20240602")):
        dataset = pydicom.dcmread(files / f"{name}.dcm")
        dataset.PatientID, dataset.StudyDate = patient, day
        dataset.remove_private_tags()  # else it would be taken for one of ours, which has no patient
        dataset.save_as(tmp_path / f"{name}.dcm")
    result = call("--json", ap=tmp_path / "ap.dcm", lateral=tmp_path / "lateral.dcm")
    for words in ("seem to be of different patients", "were taken 2 days apart"):
        assert f"warning: The X-rays {words}" in result.stderr
    assert "1234567" not in result.output


def test_a_view_that_the_file_does_not_tell_is_asked_for_by_option(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    film = tmp_path / "film.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)), str(film))
    assert_one_line(call(ap=film), "film.png: the file does not tell the view", "--ap-view, AP or PA")
    assert_one_line(call(lateral=film), "film.png: the file does not tell the view", "--lateral-view, LL or RL")
    assert_one_line(call("--ap-view", "LAT", ap=film), "--ap-view: got 'LAT', accepted is AP or PA")
    assert_one_line(call("--lateral-view", "side", lateral=film), "--lateral-view: got 'side', accepted is LL or RL")


def test_what_is_assumed_of_two_bare_pictures_is_said_once_and_how_to_state_it(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pair = [tmp_path / "ap.png", tmp_path / "lateral.png"]
    for seed, path in enumerate(pair):
        pixels = np.random.default_rng(seed).integers(0, 65535, (64, 48), dtype=np.uint16)
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(path))
    result = call("--ap-view", "AP", "--lateral-view", "LL", "--json", ap=pair[0], lateral=pair[1])
    assert result.exit_code == 0, result.output
    report, lines = json.loads(result.stdout), result.stderr.splitlines()
    assert all(line.startswith(("warning: ", "note: ")) for line in lines)
    assumed = set(report["provenance"]["Assumed"].split(", "))
    assert set(report["assumed"]["ap"]) == set(report["assumed"]["lateral"]) == assumed and len(assumed) == 8
    for fact in assumed:
        assert sum(f'assumed "{fact}": ' in line for line in lines) == 1
    assert "--geometry" in lines[-1] and "README" in lines[-1]
    assert report["notes"] and not any('"isocenter_lps"' in warning for warning in report["warnings"])


def test_x_rays_with_their_geometry_are_no_reason_to_say_anything(call) -> None:  # type: ignore[no-untyped-def]
    result = call("--json")
    report = json.loads(result.stdout)
    assert report["notes"] == [] and report["assumed"] == {"ap": {}, "lateral": {}}
    assert all("does not explain" in sentence for sentence in report["warnings"])  # of the untrained network
    assert result.stderr.splitlines() == [f"warning: {sentence}" for sentence in report["warnings"]]


def test_one_of_several_frames_is_chosen_by_option(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    frames = np.stack([np.arange(64 * 48).reshape(64, 48) + 500 * n for n in range(3)]).astype(np.float32)
    np.save(tmp_path / "run.npy", frames)
    options = ("--ap-view", "AP")
    assert_one_line(call(*options, ap=tmp_path / "run.npy"), "run.npy: has 3 frames; say which with --ap-frame, 0 to 2")
    assert_one_line(call(*options, "--ap-frame", 3, ap=tmp_path / "run.npy"), "frame 3 does not exist")
    assert call(*options, "--ap-frame", 1, "--overwrite", ap=tmp_path / "run.npy").exit_code == 0


def test_a_geometry_file_may_say_how_to_read_the_image(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    film = tmp_path / "film.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)), str(film))
    stated = tmp_path / "stated.json"
    stated.write_text('{"ap": {"view": "AP", "polarity": "dark_dense", "intensity": "log"}}')
    warnings = json.loads(call("--geometry", stated, "--json", ap=film).stdout)["warnings"]
    assert any("film.png: assumed" in w for w in warnings) and not any('"polarity"' in w for w in warnings)
    stated.write_text('{"ap": {"view": "AP", "visible": [0, 64, 0, 47]}, "lateral": {"invalid_value": 0}}')
    assert_one_line(call("--geometry", stated, "--overwrite", ap=film), "film.png: visible is [0, 64, 0, 47]")
    stated.write_text('{"ap": {"view": "AP", "polarity": "upside"}}')
    assert_one_line(call("--geometry", stated, "--overwrite", ap=film), "polarity: got 'upside'")


def test_landmarks_of_a_geometry_file_move_one_of_the_pictures(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stated = tmp_path / "stated.json"
    stated.write_text(json.dumps({"ap": {"landmarks": {"L3": [30, 20]}}, "lateral": {"landmarks": {"L3": [34, 20]}}}))
    report = json.loads(call("--geometry", stated, "--json").stdout)
    (note,) = report["notes"]
    assert note.startswith("landmarks: the lateral picture was moved") and "toward the head" in note
    lateral = json.loads(report["provenance"]["Geometry"])[1]
    assert lateral["principal_point"][0] == pytest.approx((lateral["detector_size"][0] - 1) / 2 + 4, abs=0.5)


def test_truth_elsewhere_is_no_truth(call, trunk: CtVolume, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    far = CtVolume(trunk.hu, VolumeGrid(trunk.grid.size, trunk.grid.spacing_mm, (900.0, 0.0, 0.0)))
    write_volume(far, tmp_path / "far.nrrd")
    assert_one_line(call("--truth", tmp_path / "far.nrrd"), "frame of reference")


def test_truth_needs_x_rays_that_tell_where_they_were_taken(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    film, stated = tmp_path / "film.png", tmp_path / "stated.json"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)), str(film))
    options = ("--truth", files / "ct.nrrd", "--ap-view", "AP", "--geometry", stated)
    stated.write_text('{"ap": {"source_to_detector_mm": 1150}}')
    assert_one_line(call(*options, ap=film), "truth: film.png does not tell where", '"isocenter_lps": [x, y, z]')
    stated.write_text('{"ap": {"isocenter_lps": [0, 0, 0]}}')
    assert call(*options, ap=film).exit_code == 0


@pytest.mark.parametrize("options", [("--steps", 0), ("--samples", 0), ("--device", "warp-drive")])
def test_bad_options(call, options: tuple) -> None:  # type: ignore[no-untyped-def]
    assert_one_line(call(*options))


def test_our_own_mistakes_keep_their_traceback(call, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    import diff2ct_training.reconstruct_command as command

    def broken(*args, **kwargs):  # type: ignore[no-untyped-def]
        raise KeyError("a mistake")

    monkeypatch.setattr(command, "reconstruct_files", broken)
    assert isinstance(call().exception, KeyError)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        OSError(28, "No space left on device"),
    ],
)
def test_full_disk_and_memory_are_one_line(call, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:  # type: ignore[no-untyped-def]
    import diff2ct_training.reconstruct_command as command

    def failing(*args, **kwargs):  # type: ignore[no-untyped-def]
        raise error

    monkeypatch.setattr(command, "reconstruct_files", failing)
    assert_one_line(call(), "No space left" if isinstance(error, OSError) else "Not enough memory")


def test_drr_command_writes_a_pair_that_reconstructs(call, files: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = [
        "drr",
        files / "ct.nrrd",
        "--output",
        tmp_path / "drr",
        "--pixels",
        64,
        "--view-lateral",
        "RL",
        "--format",
        "png",
    ]
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "drr" / f"{n}.png{s}") for n in ("ap", "lateral") for s in ("", ".json")]
    again = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert_one_line(again, "ap.png", "--overwrite")
    reconstructed = call(ap=tmp_path / "drr" / "ap.png", lateral=tmp_path / "drr" / "lateral.png")
    assert reconstructed.exit_code == 0, reconstructed.output


@pytest.mark.parametrize(
    ("options", "word"), [(("--view-lateral", "AP"), "LL"), (("--format", "bmp"), "bmp"), (("--isocenter", "1,2"), "isocenter")]
)
def test_drr_command_refuses(files: Path, tmp_path: Path, options: tuple[str, str], word: str) -> None:
    arguments = ["drr", str(files / "ct.nrrd"), "--output", str(tmp_path / "drr"), *options]
    assert_one_line(CliRunner().invoke(cli.main, arguments), word)
    assert not (tmp_path / "drr").exists()


def test_phantom_command_refuses_too_many_screws(tmp_path: Path) -> None:
    assert_one_line(CliRunner().invoke(cli.main, ["phantom", "--output", str(tmp_path), "--screws", "99"]), "num_screws")


def test_help_tells_units_and_whole_names_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "Source to detector [mm]." in CliRunner().invoke(cli.main, ["drr", "--help"]).stdout
    assert "--consistency-option" in CliRunner().invoke(cli.main, ["evaluate", "--help"]).stdout
    commands = CliRunner().invoke(cli.main, ["--help"]).stdout.partition("Commands:")[2]
    assert "prepare" in commands and "..." not in commands


def test_help_is_quick() -> None:
    """Nothing heavy is imported before a command runs."""
    code = "import sys, diff2ct_training.cli; print(sorted({'torch', 'numpy', 'SimpleITK', 'matplotlib'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_exit_status_of_the_process(tmp_path: Path) -> None:
    """The same through a real process: 2, and no traceback."""
    arguments = ["reconstruct", "a.dcm", "b.dcm", "--output", str(tmp_path / "out.nrrd")]
    result = subprocess.run(
        [sys.executable, "-m", "diff2ct_training.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "diff2ct: a.dcm: no such file\n"


def test_progress_goes_to_the_log_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from diff2ct_training import console

    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress_bar("cases", total=5) as update:
        for _ in range(4):
            update()
        update(5, 5, "last case")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["cases 2/5", "cases 4/5"]
