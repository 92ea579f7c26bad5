"""Stand-ins for the two child processes, without torch: they speak the same JSON lines and fail on demand.

python children.py worker done|doubtful|guessed|slow|hang|crash|error|silent|garbage
python children.py service [broken|silent|early|halfway]
python children.py launcher worker|service MODE: in a child of its own, as PythonSlicer does.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

SIZE = 16
ORIGIN_LPS = (-100.125, -90.0625, -80.1)
SPACING_MM = 12.5
STEPS = 200
SHARES = {"early": (0.3, 0.34), "halfway": (0.3, 0.5)}  # of a registration that gets no farther
REACH_MM = 400.0  # a volume whose middle is farther from the isocentre is on no X-ray

held = {}  # the volume that DRRs are asked of


def emit(**event):
    say(sys.stdout, json.dumps(event))


def say(stream, line):
    stream.write(line + "\n")
    stream.flush()


def worker(mode):
    emit(event="phase", name="starting")
    request = json.loads(sys.stdin.readline())
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    emit(event="phase", name="reading")
    if mode == "error":
        emit(event="error", message="The disk is full: reconstruction.nrrd")
        return 2
    if mode == "silent":
        return 0
    emit(event="phase", name="sampling")
    steps = STEPS if mode in ("slow", "hang") else 3
    for step in range(1, steps + 1):
        if ended.is_set() and mode != "hang":
            emit(event="cancelled")
            return 0
        time.sleep(0.02 if mode in ("slow", "hang") else 0.0)
        emit(event="progress", step=step, steps=steps, seconds=0.02 * step)
        if mode == "crash" and step == 2:
            say(sys.stderr, "terminate called: no memory left")
            os.kill(os.getpid(), signal.SIGKILL)
    emit(event="phase", name="writing")
    hu = np.linspace(-1000, 1500, SIZE**3, dtype="<f4").reshape(SIZE, SIZE, SIZE)
    style = f"real to DRR, translator {request['translator']}" if "translator" in request else "as they are"
    assumed = "detector_spacing_mm, view" if mode == "guessed" else "principal_point"
    figures = "bone: 512 ml, 80 % interval 377 to 647 ml; gas: 80 ml, 80 % interval 20 to 140 ml"
    told = {"Style": style, "Assumed": assumed, "Figures": figures, "CalibrationLimits": "none known"}
    if mode == "guessed":
        told["CalibrationLimits"] = f"of these X-rays the following is assumed: {assumed}"
    if mode == "doubtful":
        del told["CalibrationLimits"]
    write_nrrd(Path(request["output"]), b"not a volume" if mode == "garbage" else hu, **told)
    maps = {} if request.get("samples", 1) < 2 else {"sd": str(Path(request["maps_folder"]) / "sd.nrrd")}
    for path in maps.values():
        write_nrrd(Path(path), np.full_like(hu, 30.0))
    emit(
        event="done",
        output=request["output"],
        device="cpu",
        seconds=0.06,
        peak_memory_mb=1.0,
        reprojection=[{"relative_l2": 0.1, "ncc": 0.9}, {"relative_l2": 0.1, "ncc": -0.35 if mode == "doubtful" else 0.9}],
        reprojection_before=[{"relative_l2": 0.2, "ncc": 0.8}] * 2,
        maps=maps,
        warnings={
            "doubtful": ["The volume does not explain the lateral X-ray"],
            "guessed": ['both X-rays: assumed "source_to_detector_mm": 1150'],
        }.get(mode, []),
        provenance={},
    )
    return 0


def write_nrrd(path, hu, **attributes):
    if isinstance(hu, bytes):
        path.write_bytes(hu)
        return
    attributes = "".join(f"{key}:={value}\n" for key, value in {"Seed": 7, **attributes}.items())
    origin, axis = ",".join(map(repr, ORIGIN_LPS)), repr(SPACING_MM)
    header = (
        "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 16 16 16\n"
        f"space directions: ({axis},0,0) (0,{axis},0) (0,0,{axis})\nkinds: domain domain domain\nendian: little\n"
        f"encoding: raw\nspace origin: ({origin})\n{attributes}\n"
    )
    path.write_bytes(header.encode("ascii") + hu.tobytes())


def launcher(*arguments):
    """Its end is that of its child, but for a crash."""
    code = subprocess.run([sys.executable, "-u", __file__, *arguments], check=False).returncode
    if code < 0:
        say(sys.stderr, f"error: [{sys.executable}] exit abnormally - Report the problem.")
        return 1
    return code


def service(mode):
    for line in sys.stdin:
        request = json.loads(line)
        if mode == "broken":
            say(sys.stderr, "Fatal: out of luck")
            return 7
        if mode == "silent":
            continue
        if request["task"] == "register":
            for share in SHARES.get(mode, (0.0, 0.5, 1.0)):
                emit(id=request["id"], progress=share)
            if mode in SHARES:
                sys.stdin.read()
                return 0
        emit(id=request["id"], **answer(request))
    return 0


def answer(request):
    task = request["task"]
    if task == "hello":
        return {"devices": [{"name": "cpu", "description": "CPU"}], "auto": "cpu", "torch": "0", "threads": 2}
    if task == "inspect":
        path = request["checkpoint"] or ""
        if "broken" in path:
            return {"error": f"checkpoint: {path} is corrupt"}
        return {"in_one_pass": "psr" in path, "steps": 3, "calibrated": "psr" not in path, "provenance": {}}
    if task == "inspect_translator":
        path = request["translator"]
        return {"size": 256} if "real_to_drr" in path else {"error": f"translator: {path} translates drr_to_real"}
    if task == "hold":
        held.update(request["volume"])
        return {} if np.load(request["volume"]["path"]).ndim == 3 else {"error": "no volume"}
    if task == "project":
        height, width = request["beam"]["detector_size"]
        image = drr(height, width, request["pose"])
        return {"shape": [height, width], "pixels": base64.b64encode(image.tobytes()).decode(), "seconds": 0.0}
    if task == "register":
        return register(request)
    if task == "compare":
        return compare(request)
    return {"error": f"the stand-in knows no {task}"}


def drr(height, width, pose):
    """A ramp along the columns, wavy between its ends, that moves with the shift along x; nothing of a volume far away."""
    half = (np.array(held["size"][::-1]) - 1) / 2 * held["spacing_mm"]
    middle = np.array(pose) @ [*(np.array(held["direction"]) @ half + held["origin_lps"]), 1.0]
    if np.linalg.norm(middle[:3]) > REACH_MM:
        return np.zeros((height, width), "<f4")
    waves = 0.1 * np.sin(np.arange(height) / 9)[:, np.newaxis] * np.sin(np.pi * np.linspace(0, 1, width)) ** 2
    return (np.linspace(1, 2, width) + pose[0][3] / 100 + waves).astype("<f4")


def register(request):
    """12 mm toward the head of where the volume is."""
    assert np.load(request["volume"]["path"]).ndim == 3 and all(Path(path).is_file() for path in request["radiographs"])
    pose = np.array(request["pose"])
    pose[2, 3] += 12.0
    count = len(request["radiographs"])
    return {"pose": pose.tolist(), "before": [None] * count, "after": [0.9] * count, "rival": 0.7, "seconds": 0.5}


def compare(request):
    prediction = np.load(request["prediction"]["path"]).astype("<f4")
    names = [f"{error}_hu_{region}" for region in ("whole", "body", "bone", "metal") for error in ("mae", "bias")]
    scores = None
    if request.get("truth"):
        if "difference" in request:
            np.save(request["difference"], prediction - 1.0)
        figures = dict(zip(names, (11.0, -1.0, 12.0, 2.0, 13.0, -3.0, 14.0, 4.0), strict=True))
        scores = {**figures, "psnr_x2ct": 21.04, "ssim_3d_body": 0.5, "bone_dice": 0.25, "metal_dice": None}
    return {"scores": scores, "reprojection": [{"relative_l2": 0.123, "ncc": 0.9}] * len(request["radiographs"])}


if __name__ == "__main__":
    sys.exit({"worker": worker, "service": service, "launcher": launcher}[sys.argv[1]](*(sys.argv[2:] or [""])))
