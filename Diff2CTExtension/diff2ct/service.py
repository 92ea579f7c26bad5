"""`python -m diff2ct.service`: small tasks that need torch, for a parent that must not import it. Answers until its input ends.

One request per line, {"id": N, "task": NAME, ...}; one answer per request, in order: {"id": N, ...} or {"id": N, "error":
SENTENCE}. Before its answer, a long task tells the share that is done, 0 to 1: {"id": N, "progress": SHARE}. All are ASCII
JSON. Volumes and radiographs travel as files: a VOLUME is {"path": FILE.npy, "size", "spacing_mm", "origin_lps", "direction"}
with HU (D, H, W) in the file, see `volume.VolumeGrid`.

hello: {} -> {"devices": [{"name", "description"}, ...], "auto": NAME, "torch": VERSION, "threads": N}
hold: {"name": WORD, "volume": VOLUME} -> {}; keeps one volume, averaged to about `HELD_VOXELS`, ready to be projected
project: {"name": WORD, "beam": {...}, "pose": 4 x 4 in LPS} -> {"shape": [H, W], "pixels": float32 as base64, "seconds"}
register: {"volume": VOLUME, "radiographs": [FILE, ...], "pose": 4 x 4 in LPS}
    -> {"pose": 4 x 4 that moves the volume to where the radiographs show it, "before", "after", "rival", "seconds"}
compare: {"prediction": VOLUME, "truth": VOLUME or null, "difference": FILE.npy or null, "radiographs": [FILE, ...]}
    -> {"scores": {...} or null, "reprojection": [{...}, ...]}
inspect: {"checkpoint": FILE or null} -> {"in_one_pass", "steps", "calibrated", "provenance"} of a checkpoint, null the embedded
inspect_translator: {"translator": FILE} -> {"size": pixels along the longer side that it sees}; it must be real to DRR
sample: {"folder": FOLDER} -> {"ap": FILE, "lateral": FILE, "truth": VOLUME}
"""

from __future__ import annotations

import base64
import json
import math
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from diff2ct.geometry import beam_from_dict
from diff2ct.process import best_device, check_torch, has_gpu, has_mps, in_words, limit_threads, private_stdout, tune_allocator
from diff2ct.volume import CtVolume, VolumeGrid

HELD_VOXELS = 128**3

_held: dict[str, tuple[Any, VolumeGrid]] = {}


def main(stdin: TextIO = sys.stdin, stdout: TextIO = sys.stdout) -> int:
    """Serve until standard input ends."""
    tune_allocator()
    limit_threads()

    def tell(values: dict[str, Any]) -> None:
        stdout.write(json.dumps(values) + "\n")
        stdout.flush()

    for line in iter(stdin.readline, ""):
        tell(answer(line, tell))
    return 0


def answer(line: str, tell: Callable[[dict[str, Any]], None] = lambda values: None) -> dict[str, Any]:
    """One request line -> its answer; an error becomes a sentence. tell: takes what a long task says before."""
    request: Any = None
    try:
        request = json.loads(line)
        if not isinstance(request, dict) or request.get("task") not in TASKS:
            raise ValueError(f"task: accepted is a JSON object with one of {', '.join(TASKS)}")
        values = {key: value for key, value in request.items() if key not in ("id", "task")}
        if request["task"] in LONG_TASKS:
            values["on_progress"] = _in_percent(lambda share: tell({"id": request.get("id"), "progress": share}))
        return {"id": request.get("id"), **TASKS[request["task"]](**values)}
    except Exception as error:
        if not isinstance(error, ValueError | OSError | MemoryError):
            traceback.print_exc()
        return {"id": request.get("id") if isinstance(request, dict) else None, "error": in_words(error)}


def hello() -> dict[str, Any]:
    """What torch finds on this computer; an error if it does not work."""
    import torch

    check_torch()
    devices = ["cpu"]
    if has_gpu():
        devices.insert(0, "cuda")
    if has_mps():
        devices.insert(0, "mps")
    named = {"cuda": torch.cuda.get_device_name() if "cuda" in devices else "", "mps": "Apple GPU", "cpu": "CPU"}
    return {
        "devices": [{"name": device, "description": named[device]} for device in devices],
        "auto": best_device(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def hold(name: str, volume: dict[str, Any]) -> dict[str, Any]:
    """Keep one volume as attenuation, coarse enough to be projected while somebody moves a slider."""
    import torch

    from diff2ct.pooling import pooled
    from diff2ct.units import hu_to_mu

    ct = load_volume(volume)
    step = 1
    while ct.hu.size / step**3 > HELD_VOXELS * 1.5:
        step += 1
    held = pooled(hu_to_mu(torch.from_numpy(ct.hu)), ct.grid, [step] * 3)
    _held.clear()
    _held[name] = held
    return {}


def project(name: str, beam: dict[str, Any], pose: list[list[float]] | None = None) -> dict[str, Any]:
    """Line integrals of the held volume."""
    import torch

    from diff2ct import projector

    if name not in _held:
        raise ValueError(f"name: {name!r} is not held, {', '.join(_held) or 'nothing'} is")
    start = time.perf_counter()
    mu, grid = _held[name]
    matrix = None if pose is None else torch.tensor(pose, dtype=torch.float64)
    image = projector.project(mu, grid, beam_from_dict(beam), pose=matrix).numpy()
    pixels = base64.b64encode(np.ascontiguousarray(image, dtype="<f4").tobytes()).decode("ascii")
    return {"shape": list(image.shape), "pixels": pixels, "seconds": round(time.perf_counter() - start, 4)}


def register(
    volume: dict[str, Any],
    radiographs: list[str],
    pose: list[list[float]] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """How the volume must be moved for its DRRs to show what the radiographs show, see `registration.register`."""
    from diff2ct import registration
    from diff2ct.radiograph import read_radiograph

    start = None if pose is None else np.array(pose, dtype=np.float64)
    films = [read_radiograph(path) for path in radiographs]
    found = registration.register(load_volume(volume), films, start_lps=start, on_progress=on_progress)
    agreements = {name: [_or_none(value) for value in getattr(found, name)] for name in ("before", "after")}
    return {"pose": found.pose_lps.tolist(), **agreements, "rival": found.rival, "seconds": round(found.seconds, 2)}


def compare(
    prediction: dict[str, Any],
    truth: dict[str, Any] | None = None,
    difference: str | None = None,
    radiographs: list[str] | None = None,
) -> dict[str, Any]:
    """Figures against the truth, the difference as a file, and how well the volume explains the radiographs."""
    from diff2ct.compare import compare_volumes
    from diff2ct.radiograph import read_radiograph
    from diff2ct.reconstruct import reproject

    volume = load_volume(prediction)
    scores = None
    if truth is not None:
        comparison = compare_volumes(volume, load_volume(truth))
        scores = comparison.scores
        if difference is not None:
            np.save(difference, comparison.difference_hu)
    return {"scores": scores, "reprojection": [reproject(volume, read_radiograph(path)) for path in radiographs or []]}


def inspect(checkpoint: str | None = None) -> dict[str, Any]:
    """What is to be known of a checkpoint before it is used; an error if it cannot be."""
    from diff2ct.checkpoint import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    return {
        "in_one_pass": loaded.in_one_pass,
        "steps": 1 if loaded.in_one_pass else loaded.sampling.num_steps,
        "calibrated": loaded.calibration is not None,
        "provenance": loaded.provenance,
    }


def inspect_translator(translator: str) -> dict[str, Any]:
    """What is to be known of a style translator before X-rays go through it; an error if they cannot."""
    from diff2ct.translator import load_translator

    return {"size": load_translator(translator, direction="real_to_drr").size}


def sample(folder: str) -> dict[str, Any]:
    """The sample case as files in an existing folder."""
    from diff2ct.radiograph import write_radiograph
    from diff2ct.sample_case import sample_case

    pair, ct = sample_case()
    paths = [Path(folder) / name for name in ("phantom AP.npy", "phantom lateral.npy")]
    for radiograph, path in zip(pair, paths, strict=True):
        write_radiograph(radiograph, path)
    truth = Path(folder) / "phantom CT.npy"
    np.save(truth, ct.hu.astype(np.int16))
    return {"ap": str(paths[0]), "lateral": str(paths[1]), "truth": {"path": str(truth), **asdict(ct.grid)}}


def _in_percent(tell: Callable[[float], None]) -> Callable[[float], None]:
    """`tell`, only for each whole percent: whoever listens has more to do."""
    told = -1

    def on_progress(share: float) -> None:
        nonlocal told
        if int(100 * share) > told:
            told = int(100 * share)
            tell(told / 100)

    return on_progress


def _or_none(value: float) -> float | None:
    """NaN is not JSON."""
    return value if math.isfinite(value) else None


def load_volume(volume: dict[str, Any]) -> CtVolume:
    """A VOLUME of the module text."""
    values = dict(volume)
    try:
        hu = np.load(values.pop("path"), allow_pickle=False)
        grid = VolumeGrid(**values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"volume: got {sorted(volume)}, accepted are path and the fields of VolumeGrid ({error})") from error
    return CtVolume(hu, grid)


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "hello": hello,
    "hold": hold,
    "project": project,
    "register": register,
    "compare": compare,
    "inspect": inspect,
    "inspect_translator": inspect_translator,
    "sample": sample,
}
LONG_TASKS = ("register",)

if __name__ == "__main__":
    sys.exit(main(stdout=private_stdout()))
