import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct import worker
from diff2ct.checkpoint import save_checkpoint
from diff2ct.maps import MAPS
from diff2ct.process import best_device
from diff2ct.radiograph import write_radiograph
from diff2ct.translator import save_translator
from diff2ct.volume_io import read_ct, read_volume
from pretend_cuda import pretended_gpu
from tiny import GRID, tiny_body, tiny_calibration, tiny_checkpoint, tiny_radiographs, tiny_translator


@pytest.fixture
def request_values(tmp_path: Path) -> dict:
    for name, radiograph in zip(("ap", "lateral"), tiny_radiographs(tiny_body()), strict=True):
        write_radiograph(radiograph, tmp_path / f"{name}.dcm")
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_checkpoint())
    names = {"ap": "ap.dcm", "lateral": "lateral.dcm", "checkpoint": "tiny.safetensors", "output": "out.nrrd"}
    return {**{key: str(tmp_path / name) for key, name in names.items()}, "steps": 3}


class OpenInput(io.StringIO):
    """Standard input of a parent that lives on: it never ends."""

    def readline(self, *args) -> str:
        line = super().readline(*args)
        while not line:
            time.sleep(60)
        return line


def run(values: dict) -> tuple[int, list[dict]]:
    out = io.StringIO()
    code = worker.main(OpenInput(json.dumps(values) + "\n"), out)
    assert out.getvalue().isascii()
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


def last_words(events: list[dict]) -> list[str]:
    return [event["event"] for event in events if event["event"] != "phase"]


def test_a_request_gives_progress_and_a_volume(request_values: dict) -> None:
    code, events = run(request_values)
    assert code == 0
    assert [e["name"] for e in events if e["event"] == "phase"] == list(worker.PHASES)
    assert [e["event"] for e in events if e["event"] != "phase"] == ["progress"] * 3 + ["done"]
    assert [(e["step"], e["steps"]) for e in events if e["event"] == "progress"] == [(1, 3), (2, 3), (3, 3)]
    assert read_ct(request_values["output"]).grid.size == GRID.size
    assert events[-1]["provenance"]["Seed"] == "0"
    assert len(events[-1]["reprojection"]) == 2


def test_samples_give_an_sd_volume(request_values: dict, tmp_path: Path) -> None:
    code, events = run({**request_values, "samples": 2, "steps": 1, "sd_output": str(tmp_path / "sd.nrrd")})
    assert code == 0 and events[-1]["event"] == "done"
    assert (tmp_path / "sd.nrrd").exists()


def test_a_folder_gets_the_maps_that_there_are(request_values: dict, tmp_path: Path) -> None:
    """The tiny checkpoint is not calibrated, so it has no more than the deviation, and that of two samples."""
    for samples, names in ((1, []), (2, ["sd"])):
        change = {"samples": samples, "steps": 1, "maps_folder": str(tmp_path), "output": str(tmp_path / f"{samples}.nrrd")}
        code, events = run({**request_values, **change})
        assert code == 0 and list(events[-1]["maps"]) == names
    assert read_volume(events[-1]["maps"]["sd"])[0].grid.size == GRID.size


def test_maps_and_consistency_of_a_calibrated_checkpoint(request_values: dict, tmp_path: Path) -> None:
    maps = {f"{name}_output": str(tmp_path / f"{name}.nrrd") for name in MAPS}
    code, events = run({**request_values, **maps, "samples": 2, "steps": 1})
    assert code == 2 and "map error" in events[-1]["message"], "not calibrated: said before the work"
    assert not list(tmp_path.glob("*.nrrd"))

    checkpoint = Path(request_values["checkpoint"])
    save_checkpoint(checkpoint, replace(tiny_checkpoint(), calibration=tiny_calibration()))
    options = {"consistency": {"when": "end", "least_error_hu": 0.0, "correlation_mm": 16.0, "remainder_modes": 1}}
    code, events = run({**request_values, **maps, **options, "samples": 2, "steps": 1, "level": 0.8})
    assert code == 0, events[-1]
    of_steps, of_consistency = limits = events[-1]["calibration_limits"]
    assert "steps" in of_steps and "data consistency" in of_consistency
    assert events[-1]["provenance"]["CalibrationLimits"] == "; ".join(limits)
    for before, after in zip(events[-1]["reprojection_before"], events[-1]["reprojection"], strict=True):
        assert after["relative_l2"] < before["relative_l2"]
    values = {}
    for name in MAPS:
        volume, words = read_volume(maps[f"{name}_output"])
        assert words["Values"] == MAPS[name] and volume.grid.size == GRID.size
        values[name] = volume.hu
    assert (values["lower"] <= values["upper"]).all() and values["support"].min() >= 0 and values["support"].max() <= 1
    np.testing.assert_allclose(values["error"], 600.0)
    code, events = run({**request_values, **maps, "output": str(tmp_path / "other.nrrd"), "samples": 2})
    assert code == 2 and "exists" in events[-1]["message"], "no map is overwritten unasked"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"consistency": "much"}, "consistency"),
        ({"consistency": True}, "consistency"),
        ({"level": 0.99}, "level"),
        ({"ap": "nowhere.dcm"}, "nowhere.dcm"),
        ({"sampels": 3}, "sampels"),
        ({"output": None}, "output"),
        ({"steps": 0}, "num_steps"),
        ({"steps": "4"}, 'steps: got "4", accepted is a whole number'),
        ({"samples": 1.5}, "samples: got 1.5"),
        ({"seed": True}, "seed: got true"),
        ({"overwrite": "yes"}, 'overwrite: got "yes", accepted is true or false'),
        ({"level": "high"}, "level: got"),
        ({"geometry": []}, "geometry: got []"),
        ({"output": 3}, "output: got 3, accepted is text"),
        ({"checkpoint": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"device": "abacus"}, "abacus"),
    ],
    ids=str,
)
def test_bad_requests_are_one_error_event(request_values: dict, change: dict, named: str) -> None:
    code, events = run({**request_values, **change})
    assert code == 2
    assert last_words(events) == ["error"]
    assert named in events[-1]["message"]


def test_garbage_is_an_error_event() -> None:
    out = io.StringIO()
    assert worker.main(io.StringIO("not json\n"), out) == 2
    assert json.loads(out.getvalue().splitlines()[-1])["event"] == "error"


def test_nothing_is_overwritten_unasked(request_values: dict) -> None:
    output = Path(request_values["output"])
    output.write_text("precious")
    code, events = run(request_values)
    assert code == 2 and "exists" in events[-1]["message"]
    assert output.read_text() == "precious"
    code, _ = run({**request_values, "overwrite": True})
    assert code == 0 and output.read_bytes() != b"precious"


def test_a_cancel_file_stops_it_without_output(request_values: dict, tmp_path: Path) -> None:
    (tmp_path / "cancel").touch()
    code, events = run({**request_values, "cancel": str(tmp_path / "cancel")})
    assert (code, last_words(events)) == (0, ["cancelled"])
    assert not Path(request_values["output"]).exists()


def test_auto_is_a_device_that_torch_has(request_values: dict) -> None:
    code, events = run({**request_values, "steps": 1, "device": "auto"})
    assert code == 0 and events[-1]["device"] == best_device()


def test_auto_takes_the_cpu_where_the_gpu_has_too_little_memory(request_values: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu(monkeypatch):
        monkeypatch.setattr(worker, "best_device", lambda: "cuda")
        assert worker._fastest_with_room(tiny_checkpoint()) == ("cuda", [])
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (10**8, 2 * 10**9))
        code, events = run({**request_values, "steps": 1, "device": "auto"})
        assert code == 0 and events[-1]["device"] == "cpu" and events[-1]["provenance"]["Arithmetic"].endswith("on cpu")
        (why,) = (sentence for sentence in events[-1]["warnings"] if "GB" in sentence)
        assert why.startswith("Computed on the CPU, not on cuda: Not enough memory") and "0.1 GB are free on cuda" in why
        code, events = run({**request_values, "device": "cuda", "overwrite": True})
        assert code == 2 and "0.1 GB are free on cuda" in events[-1]["message"], "who asks for the GPU is told"


def test_a_torch_that_works_on_no_device_is_no_reason_for_the_cpu(
    request_values: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def numpy_of(_tensor: torch.Tensor) -> None:
        raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch.Tensor, "numpy", numpy_of)
    monkeypatch.setattr(torch, "from_numpy", numpy_of)
    monkeypatch.setattr(worker, "best_device", lambda: "cuda")
    code, events = run({**request_values, "device": "auto"})
    assert code == 2 and "does not work with NumPy" in events[-1]["message"]


def test_a_translator_is_used_and_must_be_one(request_values: dict, tmp_path: Path) -> None:
    save_translator(tmp_path / "style.safetensors", tiny_translator())
    request_values["translator"] = str(tmp_path / "style.safetensors")
    _, events = run(request_values)
    sha256 = hashlib.sha256((tmp_path / "style.safetensors").read_bytes()).hexdigest()
    assert events[-1]["provenance"]["Style"] == f"real to DRR, translator {sha256}"
    code, events = run({**request_values, "translator": request_values["checkpoint"], "overwrite": True})
    assert code == 2 and "diff2ct-translator" in events[-1]["message"]


def test_uncompressed_output_is_the_same_volume(request_values: dict, tmp_path: Path) -> None:
    run({**request_values, "steps": 1})
    run({**request_values, "steps": 1, "output": str(tmp_path / "plain.nrrd"), "compress": False})
    plain, compressed = (read_volume(tmp_path / name) for name in ("plain.nrrd", "out.nrrd"))
    assert np.array_equal(plain[0].hu, compressed[0].hu) and plain[0].grid == compressed[0].grid
    assert plain[1] == compressed[1] and plain[1]["Seed"] == "0"
    assert (tmp_path / "plain.nrrd").stat().st_size > (tmp_path / "out.nrrd").stat().st_size


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "Not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), "Not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "out.nrrd"), "The disk is full: out.nrrd"),
        (KeyError("width"), "Internal error, KeyError: 'width'"),
    ],
    ids=["memory", "cuda", "disk", "bug"],
)
def test_every_failure_is_one_sentence_with_its_cause(
    request_values: dict, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("diff2ct.volume_io.write_volume", fail)
    code, events = run({**request_values, "steps": 1})
    assert code == 2 and events[-1]["event"] == "error"
    assert words in events[-1]["message"]


def test_as_a_process_it_stops_when_its_parent_goes_away(request_values: dict) -> None:
    """Standard input closed after the request: a parent that died. The worker must stop and leave nothing."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-m", "diff2ct.worker"],
        input=json.dumps({**request_values, "steps": 1000}) + "\n",
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert process.returncode in (0, 3), process.stderr  # 3: the hard stop, on a machine too busy for the next step
    if process.returncode == 0:
        assert json.loads(process.stdout.splitlines()[-1])["event"] == "cancelled"
    assert not Path(request_values["output"]).exists()
