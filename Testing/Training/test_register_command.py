"""`diff2ct register`: a CT of known pose comes to where its X-rays were taken, and its voxels stay what they are."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from diff2ct.projector import project
from diff2ct.radiograph import Radiograph, write_radiograph
from diff2ct.registration import Registration
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import read_ct, write_volume
from diff2ct_training import cli, register_command
from diff2ct_training.drr import BiplanarSetup
from phantoms import Ellipsoid, rotation_from_angles, sphere, voxelise

GRID = VolumeGrid((30, 24, 26), (6.0, 6.0, 6.0), (-70.0, -90.0, 20.0))
"""Away from where the isocentre of the X-rays is."""
CENTER = np.array(GRID.center_lps)
TURN_DEG = math.degrees(math.acos((np.trace(rotation_from_angles(3.0, -2.0, 4.0)) - 1) / 2))
SHIFT_MM = np.array([6.0, -5.0, 8.0])


def true_pose() -> np.ndarray:
    """(4, 4): a turn about the CT's middle, then `SHIFT_MM`."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_angles(3.0, -2.0, 4.0)
    pose[:3, 3] = CENTER + SHIFT_MM - pose[:3, :3] @ CENTER
    return pose


POSE = true_pose()
FOUND = Registration(pose_lps=POSE, before=(0.1, math.nan), after=(0.8, 0.7), rival=0.7, seconds=1.5)
"""What a registration of the CT may tell."""


@pytest.fixture(scope="module")
def ct() -> CtVolume:
    """Soft tissue with a dozen dense balls in no order."""
    balls = [
        sphere(CENTER + place, radius, 900.0)
        for place, radius in zip(
            np.random.default_rng(5).uniform(-45, 45, (12, 3)), np.random.default_rng(6).uniform(5, 12, 12), strict=True
        )
    ]
    body = Ellipsoid(CENTER, (70.0, 60.0, 80.0), 1040.0)
    return CtVolume(np.rint(voxelise([body, *balls], GRID, supersampling=2)) - 1000, GRID)


@pytest.fixture(scope="module")
def files(ct: CtVolume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ct.nrrd, and ap.dcm and lateral.dcm of it where `POSE` brings it."""
    folder = tmp_path_factory.mktemp("patient_name")
    mu = hu_to_mu(torch.from_numpy(ct.hu))
    setup = BiplanarSetup(detector_mm=300.0, pixels=56)
    for name, beam in zip(("ap", "lateral"), setup.beams(tuple((CENTER + SHIFT_MM).tolist())), strict=True):
        image = project(mu, ct.grid, beam, pose=torch.from_numpy(POSE)).numpy()
        write_radiograph(Radiograph(image, beam, scale_known=True, source=name), folder / f"{name}.dcm")
    write_volume(ct, folder / "ct.nrrd")
    return folder


def call(files: Path, *options: object, ap: str = "ap.dcm", lateral: str = "lateral.dcm"):  # type: ignore[no-untyped-def]
    arguments = ("register", files / ap, files / lateral, "--ct", files / "ct.nrrd", *options)
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict]:  # type: ignore[type-arg]
    """What `register` is called with; it answers `FOUND` at once."""
    calls = []

    def at_once(ct: CtVolume, radiographs: list[Radiograph], **options: object) -> Registration:
        calls.append({"ct": ct, "radiographs": radiographs, **options})
        return FOUND

    monkeypatch.setattr(register_command, "register", at_once)
    return calls


def answer(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """Let `register` answer `FOUND` with other fields."""
    monkeypatch.setattr(register_command, "register", lambda *args, **options: replace(FOUND, **fields))


def assert_one_line(result, *words: str) -> None:  # type: ignore[no-untyped-def]
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("diff2ct: ")
    for word in words:
        assert word in line


def corners(grid: VolumeGrid) -> np.ndarray:
    """(8, 3) [mm]: the middles of the voxels at the corners."""
    ijk = np.array(list(itertools.product(*((0, n - 1) for n in grid.size[::-1]))))
    return ijk @ grid.ijk_to_lps[:3, :3].T + grid.ijk_to_lps[:3, 3]


def brought(pose_lps: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ pose_lps[:3, :3].T + pose_lps[:3, 3]


def test_a_ct_comes_to_where_its_x_rays_were_taken(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "moved.nrrd"
    options = ("--no-search", "--json")  # the search takes much longer and is tested where it is made
    result = call(files, "--output", out, "--transform-output", tmp_path / "moved.tfm", *options)
    assert result.exit_code == 0, result.output
    assert result.stderr == "", "all is measured and fits"
    report = json.loads(result.stdout)
    truth = brought(POSE, corners(GRID))
    assert np.linalg.norm(corners(GRID) - truth, axis=1).mean() > 10, "else nothing is tested"
    assert np.linalg.norm(corners(read_ct(out).grid) - truth, axis=1).mean() < 1
    assert np.linalg.norm(brought(np.array(report["pose_lps"]), corners(GRID)) - truth, axis=1).mean() < 1
    assert np.allclose(report["shift_lps_mm"], SHIFT_MM, atol=1)
    assert report["turn_deg"] == pytest.approx(TURN_DEG, abs=0.5)
    for view in report["agreement"].values():
        assert view["after"] > 0.9 > view["before"]
    transform = sitk.ReadTransform(str(tmp_path / "moved.tfm"))
    back = np.array([transform.TransformPoint(point) for point in truth.tolist()])
    assert np.linalg.norm(back - corners(GRID), axis=1).mean() < 1


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_voxels_stay_and_the_grid_moves(files: Path, tmp_path: Path, asked: list, ct: CtVolume, suffix: str) -> None:
    out = tmp_path / f"moved{suffix}"
    result = call(files, "--output", out)
    assert result.exit_code == 0, result.output
    written = read_ct(out)
    assert np.array_equal(written.hu, ct.hu)
    assert written.grid.spacing_mm == pytest.approx(GRID.spacing_mm)
    assert np.allclose(corners(written.grid), brought(POSE, corners(GRID)), atol=1e-3)


def test_an_oblique_ct_that_is_no_cube_moves_likewise(ct: CtVolume) -> None:
    axes = rotation_from_angles(0.0, 0.0, 30.0) @ np.diag([1.0, -1.0, 1.0])
    grid = replace(GRID, spacing_mm=(0.5, 0.7, 1.3), direction=tuple(map(tuple, axes.tolist())))
    moved = register_command.moved(CtVolume(ct.hu, grid), POSE)
    assert moved.hu is ct.hu
    assert np.allclose(corners(moved.grid), brought(POSE, corners(grid)), atol=1e-9)


def test_resampled_through_the_transform_file_the_ct_is_the_moved_one(files: Path, tmp_path: Path, asked: list) -> None:
    result = call(files, "--output", tmp_path / "moved.nrrd", "--transform-output", tmp_path / "moved.tfm")
    assert result.exit_code == 0, result.output
    transform = sitk.ReadTransform(str(tmp_path / "moved.tfm"))
    moved = sitk.ReadImage(str(tmp_path / "moved.nrrd"), sitk.sitkFloat32)
    ct = sitk.ReadImage(str(files / "ct.nrrd"), sitk.sitkFloat32)
    resampled = sitk.GetArrayFromImage(sitk.Resample(ct, moved, transform, sitk.sitkLinear, -1000.0))
    inner = (slice(1, -1),) * 3  # outermost voxels fall outside of the CT by rounding
    assert np.abs(resampled - sitk.GetArrayFromImage(moved))[inner].max() < 0.1
    unmoved = sitk.GetArrayFromImage(sitk.Resample(ct, moved, sitk.Transform(), sitk.sitkLinear, -1000.0))
    assert np.abs(unmoved - sitk.GetArrayFromImage(moved))[inner].max() > 500, "else nothing is tested"


def test_the_file_says_what_it_was_registered_to_and_not_that_it_is_synthetic(files: Path, tmp_path: Path, asked: list) -> None:
    assert call(files, "--output", tmp_path / "moved.nrrd").exit_code == 0
    image = sitk.ReadImage(str(tmp_path / "moved.nrrd"))
    said = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert said["RegisteredTo"] == "ap.dcm, lateral.dcm"
    assert np.array_equal(np.reshape(said["PoseLps"].split(), (4, 4)).astype(float), POSE)
    assert (said["AgreementBefore"], said["AgreementAfter"]) == ("0.100, nan", "0.800, 0.700")
    assert json.loads(said["Geometry"])[1]["primary_angle_deg"] == 90.0
    text = (tmp_path / "moved.nrrd").read_bytes().partition(b"\n\n")[0].decode()
    assert "synthetic" not in text.lower() and "patient_name" not in text, "and no folder"


def test_json_is_the_only_thing_on_stdout(files: Path, tmp_path: Path, asked: list) -> None:
    report = json.loads(call(files, "--output", tmp_path / "moved.nrrd", "--json").stdout)
    assert set(report) == {
        "output", "transform_output", "seconds", "pose_lps", "shift_lps_mm", "turn_deg", "agreement", "warnings", "notes",
        "assumed", "provenance",
    }  # fmt: skip
    assert report["output"] == str(tmp_path / "moved.nrrd") and report["transform_output"] is None
    assert report["agreement"] == {"ap": {"before": 0.1, "after": 0.8}, "lateral": {"before": None, "after": 0.7}}
    assert report["pose_lps"] == POSE.tolist() and report["seconds"] == 1.5
    assert np.allclose(report["shift_lps_mm"], SHIFT_MM)
    assert report["warnings"] == report["notes"] == [] and report["assumed"] == {"ap": {}, "lateral": {}}


def test_text_tells_shift_turn_and_agreement(files: Path, tmp_path: Path, asked: list) -> None:
    out = tmp_path / "moved.nrrd"
    lines = call(files, "--output", out, "--transform-output", tmp_path / "moved.tfm").stdout.splitlines()
    assert lines == [
        f"registered CT   {out}",
        f"transform       {tmp_path / 'moved.tfm'}",
        "time            1.5 s",
        "shift           11.2 mm of the CT's middle (x, y, z in LPS: 6.0, -5.0, 8.0)",
        f"turn            {TURN_DEG:.1f} degrees",
        "edges           ap: 0.10 -> 0.80 (gradient correlation, 1 is perfect)",
        "edges           lateral: - -> 0.70 (gradient correlation, 1 is perfect)",
    ]


@pytest.mark.parametrize(
    ("before", "after", "rival", "words"),
    [
        ((0.1, 0.1), (0.9, 0.39), 0.7, ["is below 0.4 in the lateral X-ray: look at it before you rely on it"]),
        ((0.1, 0.1), (math.nan, 0.9), 0.7, ["is below 0.4 in the frontal X-ray"]),
        ((0.8, 0.8), (0.9, 0.6), 0.7, ["got worse: "]),
        ((0.4, 0.4), (0.2, 0.2), 0.7, ["got worse and is below 0.4 in the frontal X-ray and is below 0.4 in the lateral"]),
        ((0.1, 0.1), (0.7, 0.7), 0.95, ["is nearly as good in another place: "]),
        ((0.5, 0.9), (0.9, 0.8), 0.7, []),
        ((math.nan, math.nan), (0.4, 0.4), 0.0, []),
    ],
)
def test_a_registration_that_may_be_wrong_is_told(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: tuple, after: tuple, rival: float, words: list[str]
) -> None:
    answer(monkeypatch, before=before, after=after, rival=rival)
    result = call(files, "--output", tmp_path / "moved.nrrd")
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert line.startswith("warning: The agreement of edges ") and word in line


def test_x_rays_are_read_as_stated(files: Path, tmp_path: Path, asked: list) -> None:
    stated = tmp_path / "stated.json"
    stated.write_text(json.dumps({"ap": {"isocenter_lps": [1, 2, 3]}}))
    film = files / "film.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)), str(film))
    options = ("--output", tmp_path / "moved.nrrd", "--geometry", stated, "--json")
    result = call(files, *options, lateral="film.png")
    assert_one_line(result, "film.png: the file does not tell the view", "--lateral-view, LL or RL")
    result = call(files, *options, "--lateral-view", "RL", "--no-search", lateral="film.png")
    assert result.exit_code == 0, result.output
    (given,) = asked
    assert given["search"] is False
    ap, lateral = (radiograph.geometry for radiograph in given["radiographs"])
    assert ap.isocenter_lps == (1, 2, 3) and lateral.view.value == "RL"
    report = json.loads(result.stdout)
    assert "source_to_detector_mm" in report["assumed"]["lateral"] and report["assumed"]["ap"] == {}
    assert any(w.startswith("film.png: assumed") for w in report["warnings"])
    assert 'state {"lateral": {"isocenter_lps": [0.0, 0.0, 0.0]}} in the geometry file' in report["notes"][-1]
    assert "--geometry" in result.stderr.splitlines()[-1]


def test_the_search_is_on_unless_it_is_not_wanted(files: Path, tmp_path: Path, asked: list) -> None:
    assert call(files, "--output", tmp_path / "moved.nrrd").exit_code == 0
    assert asked[0]["search"] is True


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_how_far_it_is_goes_to_the_bar(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: tuple[str, ...]
) -> None:
    """In percent, and never between what is printed."""
    shown = []

    def in_parts(*args: object, on_progress: Callable[[float], None], **options: object) -> Registration:
        for share in (0.014, 0.5, 1.0):
            on_progress(share)
        return FOUND

    @contextmanager
    def bar(_description: str) -> Iterator[Callable[..., None]]:
        yield lambda *done: shown.append(done)

    monkeypatch.setattr(register_command, "register", in_parts)
    monkeypatch.setattr(cli, "progress_bar", bar)
    result = call(files, "--output", tmp_path / "moved.nrrd", *as_json)
    assert result.exit_code == 0, result.output
    assert shown == [(1, 100), (50, 100), (100, 100)]
    if as_json:
        assert json.loads(result.stdout)["turn_deg"] == pytest.approx(TURN_DEG)


def test_outputs_that_cannot_be_are_refused_before_the_work(files: Path, tmp_path: Path, asked: list) -> None:
    out, transform = tmp_path / "moved.nrrd", tmp_path / "moved.tfm"
    for folder in (tmp_path / "dicom", f"{tmp_path / 'dicom'}/"):
        assert_one_line(call(files, "--output", folder), "would be a DICOM folder", "synthetic", ".nii.gz")
    assert_one_line(call(files, "--output", tmp_path / "moved.nii"), "moved.nii", "accepted suffixes are .nrrd")
    for name in ("moved.h5", "moved", "moved.nrrd"):
        words = (name, "accepted suffixes are .tfm")
        assert_one_line(call(files, "--output", out, "--transform-output", tmp_path / name), *words)
    assert_one_line(call(files, "--output", tmp_path / "no" / "moved.nrrd"), "does not exist")
    assert_one_line(call(files, "--output", files / "ct.nrrd", "--overwrite"), "--output", "would replace the CT")
    transform.symlink_to(out)
    assert_one_line(call(files, "--output", out, "--transform-output", transform), "are the same file")
    assert asked == [] and list(tmp_path.iterdir()) == [transform]


def test_nothing_is_written_over_unasked(files: Path, tmp_path: Path, asked: list) -> None:
    options = ("--output", tmp_path / "moved.nrrd", "--transform-output", tmp_path / "moved.tfm")
    for name in ("moved.nrrd", "moved.tfm"):
        (tmp_path / name).write_text("mine")
        assert_one_line(call(files, *options), name, "--overwrite")
        assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    assert asked == []
    for name in ("moved.nrrd", "moved.tfm"):
        (tmp_path / name).write_text("mine")
    assert call(files, *options, "--overwrite").exit_code == 0
    assert read_ct(tmp_path / "moved.nrrd").grid.size == GRID.size
    assert sitk.ReadTransform(str(tmp_path / "moved.tfm")).GetDimension() == 3


def test_missing_and_foreign_inputs(files: Path, tmp_path: Path, asked: list) -> None:
    options = ("--output", tmp_path / "moved.nrrd")
    assert_one_line(call(files, *options, "--ct", tmp_path / "none.nrrd"), "none.nrrd", "no such file")
    assert_one_line(call(files, *options, "--ct", files / "ap.dcm"), "ap.dcm")  # a radiograph is no CT
    assert_one_line(call(files, *options, ap="ct.nrrd"), "ct.nrrd")  # a CT is no radiograph
    assert_one_line(call(files, *options, lateral="ap.dcm"), "same image")
    assert asked == [] and list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_transform(tmp_path: Path, full_disk) -> None:  # type: ignore[no-untyped-def]
    with full_disk(100), pytest.raises(OSError):
        register_command.write_transform(POSE, tmp_path / "moved.tfm")
    assert list(tmp_path.iterdir()) == []
