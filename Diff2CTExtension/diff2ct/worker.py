"""`python -m diff2ct.worker`: one reconstruction in a process of its own, so that whoever started it survives it.

Standard input: one line of JSON, the request. Standard output: ASCII JSON lines, the events; what image libraries print there
from C goes to standard error. The worker stops between two steps when standard input ends or when the file named by "cancel"
appears, and leaves no output then. If a step hangs, the process ends `HARD_STOP_S` after its standard input did.

Request: {"ap": FILE, "lateral": FILE, "output": FILE.nrrd} and optionally "geometry": {"ap": {...}, "lateral": {...}},
"checkpoint", "steps", "samples", "seed", "device" ("auto" is the fastest that has the memory), "cancel": FILE, "translator":
FILE (X-rays are put into DRR style first), "overwrite": bool, "compress": bool (false writes the volumes faster),
"consistency": bool or {...} with fields of `consistency.Consistency` (default: on where it helps). Beside the volume, each
FILE.nrrd: "sd_output", SD of the samples; and of a calibrated checkpoint "error_output", the error to be expected of each
voxel, "lower_output" and "upper_output", between which the truth lies in a share "level" (0.9) of body voxels, and
"support_output", 0 to 1, what the X-rays settle. "maps_folder": an existing FOLDER for all of these that the
reconstruction has, as sd.nrrd and so on.
Events: {"event": "phase", "name"} with the names of `PHASES`; {"event": "progress", "step", "steps", "seconds"}; then one of
{"event": "done", "output", "device", "seconds", "peak_memory_mb", "reprojection", "reprojection_before"
(null without consistency), "maps" (name: FILE, of all that were written), "calibration_limits" (sentences, why the maps but
for "sd" and the intervals of the figures may not hold for this run), "warnings", "provenance" (of a calibrated checkpoint with
"Figures", sentences joined by "; ")},
{"event": "cancelled"}, {"event": "error", "message"}, whose message is a sentence with the cause.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from diff2ct.maps import DEFAULT_LEVEL, MAPS, available_maps, check_maps
from diff2ct.process import best_device, check_device, in_words, limit_threads, peak_memory_mb, private_stdout, tune_allocator

if TYPE_CHECKING:
    from diff2ct.checkpoint import Checkpoint

PHASES = ("starting", "reading", "sampling", "writing")
HARD_STOP_S = 10.0

_KEYS = {
    "ap", "lateral", "output", "geometry", "checkpoint", "steps", "samples", "seed", "device", "cancel", "translator",
    "overwrite", "compress", "consistency", "level", "maps_folder", *(f"{name}_output" for name in MAPS),
}  # fmt: skip
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("steps", "samples", "seed"), ((int,), "a whole number")),
    **dict.fromkeys(("overwrite", "compress"), ((bool,), "true or false")),
    "level": ((int, float), "a number"),
    "geometry": ((dict,), "an object"),
    "consistency": ((bool, dict), "true, false or an object"),
}
"""Of values in JSON; all others are text."""


def main(stdin: TextIO = sys.stdin, stdout: TextIO = sys.stdout, hard_stop_s: float | None = None) -> int:
    """Serve one request; 0 if done or cancelled, 2 on a bad request, bad input or any other error."""

    def emit(event: str, **values: Any) -> None:
        stdout.write(json.dumps({"event": event, **values}) + "\n")
        stdout.flush()

    emit("phase", name="starting")
    try:
        request = parse_request(stdin.readline())
        is_cancelled = _cancel_check(request, stdin, hard_stop_s)
        tune_allocator()
        limit_threads()
        from diff2ct.diffusion import Cancelled  # imports torch, so after these are set
    except Exception as error:
        return _report(error, emit)
    try:
        serve(request, emit, is_cancelled)
    except Cancelled:
        emit("cancelled")
    except Exception as error:
        return _report(error, emit)
    return 0


def parse_request(line: str) -> dict[str, Any]:
    """The request, checked for its keys and kinds of values; null is as if a key were left out."""
    try:
        request = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"request: no JSON ({error})") from None
    if not isinstance(request, dict):
        raise ValueError("request: accepted is a JSON object")
    request = {key: value for key, value in request.items() if value is not None}
    unknown, missing = sorted(set(request) - _KEYS), sorted({"ap", "lateral", "output"} - set(request))
    if unknown or missing:
        raise ValueError(f"request: unknown {unknown}, missing {missing}; accepted are {', '.join(sorted(_KEYS))}")
    for key, value in request.items():
        kinds, accepted = _KINDS.get(key, ((str,), "text"))
        if type(value) not in kinds:
            raise ValueError(f"{key}: got {json.dumps(value)}, accepted is {accepted}")
    return request


def serve(request: dict[str, Any], emit: Callable[..., None], is_cancelled: Callable[[], bool]) -> None:
    """Read, reconstruct, write, telling `emit` of each step."""
    from diff2ct.checkpoint import load_checkpoint
    from diff2ct.consistency import consistency_from
    from diff2ct.diffusion import Cancelled
    from diff2ct.radiograph import read_radiograph
    from diff2ct.radiograph_pair import check_pair
    from diff2ct.reconstruct import reconstruct
    from diff2ct.told import told, unexplained
    from diff2ct.translator import load_translator
    from diff2ct.volume import CtVolume
    from diff2ct.volume_io import write_volume

    def begin(phase: str) -> None:
        if is_cancelled():
            raise Cancelled
        emit("phase", name=phase)

    begin("reading")
    device = request.get("device", "cpu")
    check_device("cpu" if device == "auto" else device)
    geometry, overwrite = request.get("geometry") or {}, bool(request.get("overwrite", False))
    consistency = consistency_from(request.get("consistency"))
    maps = {name: Path(request[f"{name}_output"]) for name in MAPS if request.get(f"{name}_output")}
    for path in (Path(request["output"]), *maps.values()):
        if path.exists() and not overwrite:
            raise ValueError(f"output: {path} exists; nothing is overwritten unasked")
    radiographs = [read_radiograph(request[key], geometry=geometry.get(key)) for key in ("ap", "lateral")]
    films = told(radiographs)
    warnings = films.warnings + check_pair(*radiographs) + films.doubts
    checkpoint = load_checkpoint(request.get("checkpoint"), device="cpu" if device == "auto" else device)
    if device == "auto":
        device, not_the_fastest = _fastest_with_room(checkpoint)
        warnings += not_the_fastest
    num_samples = 1 if checkpoint.in_one_pass else request.get("samples", 1)
    level, calibrated = request.get("level", DEFAULT_LEVEL), checkpoint.calibration is not None
    check_maps(maps, num_samples=num_samples, calibrated=calibrated, level=level)
    style = request.get("translator")
    translator = load_translator(style, direction="real_to_drr", device=device) if style else None

    begin("sampling")
    started = time.perf_counter()
    result = reconstruct(
        radiographs,
        checkpoint,
        num_steps=request.get("steps"),
        num_samples=num_samples,
        seed=request.get("seed", 0),
        consistency=consistency,
        translator=translator,
        device=device,
        on_step=lambda step, steps: emit("progress", step=step, steps=steps, seconds=round(time.perf_counter() - started, 3)),
        is_cancelled=is_cancelled,
    )
    warnings += unexplained(result.reprojection)
    begin("writing")

    def write(volume: CtVolume, path: Path, **words: str) -> None:
        compress = bool(request.get("compress", True))
        write_volume(volume, path, attributes={**result.provenance, **words}, overwrite=overwrite, compress=compress)

    write(result.volume, Path(request["output"]))
    if request.get("maps_folder"):
        names = available_maps(num_samples=len(result.samples_hu), calibrated=result.calibration is not None)
        maps = {**{name: Path(request["maps_folder"]) / f"{name}.nrrd" for name in names}, **maps}
    for name, path in maps.items():
        write(result.map(name, level), path, Values=MAPS[name])
    emit(
        "done",
        output=request["output"],
        device=device,
        seconds=round(result.seconds, 3),
        peak_memory_mb=round(peak_memory_mb(), 1),
        reprojection=list(result.reprojection),
        reprojection_before=None if result.reprojection_before is None else list(result.reprojection_before),
        maps={name: str(path) for name, path in maps.items()},
        calibration_limits=list(result.calibration_limits),
        warnings=warnings,
        provenance=result.provenance,
    )


def _fastest_with_room(checkpoint: Checkpoint) -> tuple[str, list[str]]:
    """(the fastest device that a reconstruction fits on, why it is not the fastest of all); the network is moved there."""
    from diff2ct.memory import check_memory

    device = best_device()
    try:
        check_device(device)
        checkpoint.network.to(device)
        check_memory(checkpoint.network, checkpoint.grid.size, 1, device)
    except (ValueError, MemoryError, RuntimeError) as error:
        if device == "cpu":
            raise
        checkpoint.network.to("cpu")
        return "cpu", [f"Computed on the CPU, not on {device}: {in_words(error)}"]
    return device, []


def _report(error: Exception, emit: Callable[..., None]) -> int:
    if not isinstance(error, ValueError | OSError | MemoryError):
        traceback.print_exc()
    emit("error", message=in_words(error))
    return 2


def _cancel_check(request: dict[str, Any], stdin: TextIO, hard_stop_s: float | None) -> Callable[[], bool]:
    ended = threading.Event()

    def wait_for_end() -> None:
        while stdin.readline():
            continue
        ended.set()
        if hard_stop_s is not None:
            time.sleep(hard_stop_s)
            os._exit(3)

    threading.Thread(target=wait_for_end, daemon=True).start()
    cancel_file = request.get("cancel")
    return lambda: ended.is_set() or (cancel_file is not None and Path(cancel_file).exists())


if __name__ == "__main__":
    sys.exit(main(stdout=private_stdout(), hard_stop_s=HARD_STOP_S))
