"""Whether a reconstruction fits into memory, asked before it starts: a process that the system kills cannot say why."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch

from diff2ct.control_group import control_groups, memory_left
from diff2ct.cycle_spinning import SHIFTS
from diff2ct.networks import Cnn3d, Psr, X2ct, X2NoiseNet
from diff2ct.precision import fastest_dtype

_MAPS = 12
"""Feature maps of the finest resolution that are alive at once: 10 to 11 measured for the paper's pixel network, fewer for the
embedded one."""
_ONE_PASS_BYTES = {X2ct: (400, 600), Cnn3d: (100, 400), Psr: (70, 70)}
"""Per voxel of the volume in bfloat16 and in float32, of networks of the recipes' widths: 370 to 384 and 576, 88 and 377, 64
and 60 measured."""
_FIXED_BYTES = 400_000_000
"""Radiographs, what is looked up of them, the comparison with the X-rays: about 350 MB measured at 128^3."""
_VOLUMES_PER_SAMPLE = 3  # the sample, its place among all samples, and in their mean and SD
_VOLUMES_IN_SAMPLER = 8  # x_t, its noise, two estimates and what comes between them
_MOST_AT_ONCE = 8  # a GPU is busy by then, and progress and cancelling stay fine
_LEFT_FREE = 0.2  # of a GPU, for what else runs on it and for the workspace of convolutions

_processes_on_gpu = 1


def share_gpu(processes: int) -> None:
    """This process is one of `processes` that reconstruct on the same GPU: from now on it counts on its part of the memory
    only. All may ask at the same moment, when nobody has taken anything yet."""
    global _processes_on_gpu
    _processes_on_gpu = processes


def samples_at_once(network: torch.nn.Module, size: tuple[int, int, int], num_samples: int, device: str) -> int:
    """How many of `num_samples` volumes of `size` (D, H, W) to draw together: on a GPU as many as fit, in equal shares;
    elsewhere one, as nothing is gained by more. MemoryError as `check_memory`."""
    check_memory(network, size, num_samples, device)
    if torch.device(device).type != "cuda" or num_samples == 1:
        return 1
    free = free_bytes(device)
    for count in range(min(num_samples, _MOST_AT_ONCE), 1, -1):
        needed = needed_bytes(network, size, num_samples, device, at_once=count)
        if needed is not None and free is not None and needed <= (1 - _LEFT_FREE) * free:
            return math.ceil(num_samples / math.ceil(num_samples / count))
    return 1


def check_memory(network: torch.nn.Module, size: tuple[int, int, int], num_samples: int, device: str) -> None:
    """MemoryError, with both figures, if `num_samples` volumes of `size` (D, H, W) need more than is free on `device`.

    Samples can be drawn one after the other, so their number hardly matters. Nothing happens where either figure is not known.
    """
    needed, free = needed_bytes(network, size, num_samples, device), free_bytes(device)
    if needed is not None and free is not None and needed > free:
        raise MemoryError(f"this reconstruction needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free on {device}")


def needed_bytes(
    network: torch.nn.Module, size: tuple[int, int, int], num_samples: int, device: str, *, at_once: int = 1
) -> int | None:
    """About what a reconstruction that draws `at_once` samples together allocates on `device` beyond the loaded network; None
    for networks that no checkpoint holds."""
    voxels = size[0] * size[1] * size[2]
    if isinstance(network, X2ct | Cnn3d | Psr):
        per_voxel = _ONE_PASS_BYTES[type(network)][fastest_dtype(device) == torch.float32]
        return _FIXED_BYTES + (per_voxel + 4 * _VOLUMES_PER_SAMPLE) * voxels
    if not isinstance(network, X2NoiseNet):
        return None
    config = network.config
    feature_map = config.widths[0] * (voxels // 8**config.haar_levels) * fastest_dtype(device).itemsize
    on_cpu = torch.device(device).type == "cpu"  # where finished samples are kept
    volumes = _VOLUMES_PER_SAMPLE * num_samples if on_cpu else _VOLUMES_IN_SAMPLER * at_once
    maps = _MAPS * at_once + (at_once if at_once > 1 else 0)  # samples drawn together have a condition each
    if not config.view_widths and num_samples > 1:  # condition volumes: each of `SHIFTS`, a batch, and that taken apart
        volumes += config.condition_channels * (min(num_samples, len(SHIFTS)) + 2 * at_once)
    return _FIXED_BYTES + maps * feature_map + volumes * voxels * 4


def free_bytes(device: str) -> int | None:
    """Memory that this process can have on `device` now; None if it cannot be told."""
    kind = torch.device(device).type
    if kind == "cuda":
        index = torch.device(device).index
        index = torch.cuda.current_device() if index is None else index  # torch 2.2 wants a number
        unused = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)  # kept by torch for us
        of_all, total = torch.cuda.mem_get_info(index)
        return min(int(of_all) + unused, int(total) // _processes_on_gpu)
    if kind != "cpu":
        return None
    if sys.platform == "win32":
        return _available_on_windows()
    if sys.platform != "linux":
        return None
    lines = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines()
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    left = [memory_left(folder) for folder in control_groups("memory")]
    return min([*free, *(value for value in left if value is not None)], default=None)


def _available_on_windows() -> int | None:
    """MEMORYSTATUSEX.ullAvailPhys (sysinfoapi.h)."""
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("available", ctypes.c_uint64),
            ("others", ctypes.c_uint64 * 5),
        )

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return None
    return int(status.available)
