"""The service that computes for a parent without torch: every task against the function it stands for."""

import base64
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct import service
from diff2ct.checkpoint import save_checkpoint
from diff2ct.compare import compare_volumes
from diff2ct.projector import project
from diff2ct.radiograph import read_radiograph, write_radiograph
from diff2ct.reconstruct import grid_around_isocenter, reproject
from diff2ct.registration import register
from diff2ct.translator import DIRECTIONS, save_translator
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import resample
from tiny import tiny_body, tiny_checkpoint, tiny_radiographs, tiny_translator


def ask(task: str, **values) -> dict:
    answer = service.answer(json.dumps({"id": 7, "task": task, **values}))
    assert json.dumps(answer).isascii() and answer["id"] == 7
    return answer


def as_file(ct: CtVolume, path: Path) -> dict:
    np.save(path, ct.hu)
    return {"path": str(path), **asdict(ct.grid)}


def pixels_of(answer: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(answer["pixels"]), "<f4").reshape(answer["shape"])


def test_hello_names_the_devices() -> None:
    answer = ask("hello")
    assert "cpu" in [device["name"] for device in answer["devices"]]
    assert answer["auto"] in [device["name"] for device in answer["devices"]]
    assert answer["torch"] == torch.__version__


def test_hello_says_if_torch_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ValueError("torch 2.2.2 does not work with NumPy 2.4.6")

    monkeypatch.setattr(service, "check_torch", refuse)
    assert ask("hello")["error"] == "torch 2.2.2 does not work with NumPy 2.4.6"


def test_a_checkpoint_is_inspected_before_it_is_used(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_checkpoint())
    found = ask("inspect", checkpoint=str(tmp_path / "tiny.safetensors"))
    assert (found["in_one_pass"], found["steps"], found["calibrated"]) == (False, tiny_checkpoint().sampling.num_steps, False)
    assert ask("inspect", checkpoint=None)["provenance"]["steps"] > 0  # the embedded one
    assert ask("inspect", checkpoint="nowhere.safetensors")["error"].startswith("checkpoint: nowhere.safetensors")


def test_a_style_translator_is_inspected_before_it_is_used(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_checkpoint())
    for direction in DIRECTIONS:
        save_translator(tmp_path / f"{direction}.safetensors", tiny_translator(direction))

    def inspected(name: str) -> dict:
        return ask("inspect_translator", translator=str(tmp_path / f"{name}.safetensors"))

    assert inspected("real_to_drr") == {"id": 7, "size": tiny_translator().size}
    for name, why in (
        ("drr_to_real", "translates drr_to_real, accepted is real_to_drr"),
        ("tiny", "is a safetensors file of another program or purpose"),
        ("nowhere", "is not a file"),
    ):
        assert inspected(name)["error"].startswith(f"translator: {tmp_path / name}.safetensors {why}")


def test_projection_is_that_of_the_projector(tmp_path: Path) -> None:
    ct = tiny_body()
    beam = tiny_radiographs(ct)[0].geometry
    pose = np.eye(4)
    pose[:3, 3] = 5.0, -3.0, 8.0
    assert "error" not in ask("hold", name="body", volume=as_file(ct, tmp_path / "ct.npy"))
    image = pixels_of(ask("project", name="body", beam=beam.to_dict(), pose=pose.tolist()))
    expected = project(hu_to_mu(torch.from_numpy(ct.hu)), ct.grid, beam, pose=torch.from_numpy(pose)).numpy()
    assert np.allclose(image, expected, atol=1e-5)


def test_a_large_volume_is_averaged_and_stays_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Averaging over 2^3 voxels keeps every ray's attenuation, and moves nothing, also for a size that does not divide by 2."""
    grid = VolumeGrid((41, 40, 43), (4.0, 4.5, 4.0), (-80.0, -70.0, -85.0))
    k, j, i = np.indices(grid.size)
    ct = CtVolume(np.where((k - 20) ** 2 + (j - 18) ** 2 + (i - 24) ** 2 < 120, 400.0, -1000.0), grid)
    beam = tiny_radiographs(tiny_body())[1].geometry
    volume = as_file(ct, tmp_path / "ct.npy")
    images = []
    for limit in (grid.size[0] ** 4, 12_000):
        monkeypatch.setattr(service, "HELD_VOXELS", limit)
        ask("hold", name="body", volume=volume)
        images.append(pixels_of(ask("project", name="body", beam=beam.to_dict())))
    full, coarse = images
    assert abs(coarse.sum() / full.sum() - 1) < 0.01
    rows, columns = np.indices(full.shape)
    for index in (rows, columns):  # centre of gravity [pixels of 8 mm]
        assert abs((index * coarse).sum() / coarse.sum() - (index * full).sum() / full.sum()) < 0.05


def test_only_what_is_held_can_be_projected(tmp_path: Path) -> None:
    ask("hold", name="body", volume=as_file(tiny_body(), tmp_path / "ct.npy"))
    answer = ask("project", name="other", beam=tiny_radiographs(tiny_body())[0].geometry.to_dict())
    assert "'other' is not held, body is" in answer["error"]


def test_registration_is_that_of_the_core(tmp_path: Path) -> None:
    """From where the pose says that the volume is; agreements that are no numbers are null."""
    ct = tiny_body()
    far = CtVolume(ct.hu, replace(ct.grid, origin_lps=(3000.0, -2000.0, 500.0)))
    pair, files = tiny_radiographs(ct), [str(tmp_path / f"{n}.npy") for n in range(2)]
    for radiograph, file in zip(pair, files, strict=True):
        write_radiograph(radiograph, file)
    start = np.eye(4)
    start[:3, 3] = 20.0, -12.0, 30.0
    volume = as_file(far, tmp_path / "ct.npy")
    answer = ask("register", volume=volume, radiographs=files, pose=start.tolist())
    expected = register(far, pair, start_lps=start)
    assert np.allclose(answer["pose"], expected.pose_lps) and np.allclose(answer["after"], expected.after)
    assert answer["before"] == [None, None] and answer["seconds"] > 0
    assert ask("register", volume=volume, radiographs=[])["error"].startswith("radiographs: got none")
    told: list[dict] = []
    line = json.dumps({"id": 8, "task": "register", "volume": volume, "radiographs": files, "pose": start.tolist()})
    assert service.answer(line, told.append)["pose"] == answer["pose"]
    shares = [event.pop("progress") for event in told]
    assert shares == sorted(set(shares)) and 20 < len(shares) <= 101 and shares[-1] == 1.0, "no percent is told twice"
    assert told == [{"id": 8}] * len(shares)


def test_comparison_is_that_of_the_core(tmp_path: Path) -> None:
    truth = tiny_body()
    prediction = CtVolume(truth.hu + 30.0, truth.grid)
    radiograph = tiny_radiographs(truth)[0]
    write_radiograph(radiograph, tmp_path / "ap.npy")
    answer = ask(
        "compare",
        prediction=as_file(prediction, tmp_path / "p.npy"),
        truth=as_file(truth, tmp_path / "t.npy"),
        difference=str(tmp_path / "difference.npy"),
        radiographs=[str(tmp_path / "ap.npy")],
    )
    expected = compare_volumes(prediction, truth)
    assert answer["scores"] == expected.scores and abs(expected.scores["mae_hu_body"] - 30) < 0.01
    assert np.array_equal(np.load(tmp_path / "difference.npy"), expected.difference_hu)
    assert np.allclose(expected.difference_hu, 30.0, atol=1e-3), "above 0 where the reconstruction is denser than the truth"
    assert answer["reprojection"] == [reproject(prediction, radiograph)]


def test_a_truth_elsewhere_is_refused_in_words(tmp_path: Path) -> None:
    truth = tiny_body(VolumeGrid.centered(16, 16.0, (900.0, 0.0, 0.0)))
    volumes = {"prediction": as_file(tiny_body(), tmp_path / "p.npy"), "truth": as_file(truth, tmp_path / "t.npy")}
    assert "frame of reference" in ask("compare", **volumes)["error"]


def block_of(grid: VolumeGrid, scan: VolumeGrid) -> tuple[slice, ...]:
    """(D, H, W) slices of the voxels of `scan` that are those of `grid`."""
    first = [(a - b) / mm for a, b, mm in zip(grid.origin_lps, scan.origin_lps, scan.spacing_mm, strict=True)]
    return tuple(slice(round(start), round(start) + n) for start, n in zip(reversed(first), grid.size, strict=True))


@pytest.mark.slow
def test_the_sample_case_fits_together(tmp_path: Path) -> None:
    answer = ask("sample", folder=str(tmp_path))
    ap, lateral = (read_radiograph(answer[key]) for key in ("ap", "lateral"))
    assert (ap.geometry.view.value, lateral.geometry.view.value) == ("AP", "LL")
    ct = service.load_volume(answer["truth"])
    assert all(reproject(ct, radiograph)["ncc"] > 0.99 for radiograph in (ap, lateral))
    reconstructed = grid_around_isocenter(VolumeGrid.centered(), (ap, lateral))
    assert np.array_equal(resample(ct, reconstructed).hu, ct.hu[block_of(reconstructed, ct.grid)]), "compared as it is"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no json", "Expecting value"),
        ("[1]", "accepted is a JSON object"),
        ('{"id": 1, "task": "fly"}', "hello, hold, project"),
        ('{"id": 1, "task": "hold", "name": "a", "volume": {"path": "nowhere.npy"}}', "nowhere.npy"),
        ('{"id": 1, "task": "hold", "name": "a", "volume": {}}', "accepted are path"),
    ],
    ids=["garbage", "list", "unknown", "file", "fields"],
)
def test_a_bad_request_is_answered_in_words(line: str, words: str) -> None:
    assert words in service.answer(line)["error"]


def test_as_a_process_it_answers_in_order_and_ends_with_its_input() -> None:
    lines = [json.dumps({"id": n, "task": "hello"}) for n in (1, 2)]
    result = subprocess.run(
        [sys.executable, "-m", "diff2ct.service"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
        check=True,
    )
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [1, 2]
