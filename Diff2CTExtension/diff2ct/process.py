"""What a process of its own may set and ask of the operating system. Each calls `tune_allocator` once, at its start: command
line, worker, service, those that share work (`diff2ct_training.parallel`) and benchmarks; the first three `limit_threads` too.
Nothing here runs on import, and Slicer's own process is left alone."""

from __future__ import annotations

import ctypes
import errno
import math
import os
import sys
from functools import cache
from pathlib import Path
from typing import TextIO

from diff2ct.control_group import control_groups, processors_allotted

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc, malloc.h
_TOP_PAD_BYTES = 256 << 20
_NO_ENGINE = "unable to find an engine to execute this computation"  # cuDNN: pytorch issue 108645
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA and MPS
    "can't allocate memory",  # torch on Linux
    "not enough memory",  # torch on Windows
    "_STATUS_ALLOC_FAILED",  # cuDNN and cuBLAS
    _NO_ENGINE,
)


def tune_allocator() -> bool:
    """Keep freed memory in the process instead of giving it back to the kernel at each free. True if it was set.

    A volume's tensors are some 10 to 100 MB. By default glibc maps such a block at each allocation and unmaps it at each
    free, and the page faults then cost more than the arithmetic (adding two 64^3 x 64 tensors: 10.6 ms, with this 1.6 ms).
    Only glibc on Linux needs it; elsewhere nothing happens. Call it before the first big tensor.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, musl for example
        return False
    done = [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)]
    return all(result == 1 for result in done)


def limit_threads() -> None:
    """No more threads of torch and ITK, unless the user set them, than processors that this process may keep busy: both start
    one for each that it may run on, and of a quota all but some then wait. Call it before either is imported."""
    usable = usable_processors()
    if usable < _reachable_processors():
        for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
            os.environ.setdefault(name, str(usable))


def usable_processors() -> int:
    """How many processors this process may keep busy: those that it may run on, or a quota of these (`docker run --cpus 1.5`),
    rounded up."""
    quotas = [processors_allotted(folder) for folder in control_groups("cpu")]
    return max(1, min([_reachable_processors(), *(math.ceil(quota) for quota in quotas if quota is not None)]))


def _reachable_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_torch() -> None:
    """ValueError if torch is here but cannot work with the NumPy that is installed: torch 2.2 is older than NumPy 2."""
    import numpy as np
    import torch

    try:
        torch.zeros(1).numpy()
    except RuntimeError:
        raise ValueError(
            f"torch {torch.__version__} does not work with NumPy {np.__version__}; NumPy 2 needs torch 2.3 or newer"
        ) from None


def check_device(device: str) -> None:
    """ValueError if torch has no such device here, or does not work here at all."""
    import torch

    check_torch()
    try:
        torch.ones(1, device=device).add_(1).item()  # a GPU that this torch has no kernels for gives memory all the same
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"device: got {device!r}, accepted are cpu and what torch finds here, such as cuda ({reason})"
        ) from None
    if torch.device(device).type == "mps" and not runs_network(device):
        raise ValueError(f"device: got {device!r}, on which torch {torch.__version__} cannot run the network; accepted is cpu")


def best_device() -> str:
    """The fastest device that torch finds here: cuda, mps or cpu."""
    if has_gpu():
        return "cuda"
    return "mps" if has_mps() else "cpu"


def has_gpu() -> bool:
    """Whether torch finds a GPU here that it has kernels for. `torch.cuda.is_available` does not ask the latter, and wheels for
    a newer CUDA leave out older GPUs. Takes no memory of the GPU."""
    import torch

    if not torch.cuda.is_available():
        return False
    built_for = torch.cuda.get_arch_list()
    if torch.version.cuda is None or not built_for:  # ROCm, or not known
        return True
    major, minor = torch.cuda.get_device_capability()
    for name in built_for:  # "sm_86", "sm_90a", "compute_90"
        kind, _, digits = name.partition("_")
        number = int(digits.rstrip("af"))
        if (number // 10 == major and number % 10 <= minor) or (kind == "compute" and number <= 10 * major + minor):
            return True
    return False


def has_mps() -> bool:
    """Whether torch finds an Apple GPU here that runs the network. `torch.backends.mps` does not tell: torch 2.2, the last one
    for Intel, has no convolution in 3D there, and later ones have no pooling."""
    import torch

    return torch.backends.mps.is_available() and runs_network("mps")


@cache
def runs_network(device: str) -> bool:
    """Whether a small denoiser runs on `device` and gives what it gives on the CPU."""
    import torch

    from diff2ct.networks import X2NoiseNet, X2NoiseNetConfig
    from diff2ct.networks.memory_format import channels_last
    from diff2ct.views import RectifiedViews

    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        network = X2NoiseNet(X2NoiseNetConfig(condition_channels=1, widths=(8, 8), blocks=(1, 1), view_widths=(8, 8)))
        for weight in network.parameters():
            weight.normal_(std=0.2)  # some start at zero
        x, t = torch.randn(1, 1, 8, 8, 8), torch.tensor([500])
        to_plane = torch.tensor([[16.0, 0.0, 0.0, 32.0], [0.0, 16.0, 0.0, 32.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
        views = RectifiedViews(torch.randn(1, 2, 1, 16, 16), to_plane.expand(1, 2, 4, 4))
        network = channels_last(network.eval())
        expected = network(x, t, views)
        try:
            found = network.to(device)(x.to(device), t.to(device), views.to(device)).cpu()
        except (RuntimeError, TypeError):  # an operation or a type of number that it does not have
            return False
    return bool((found - expected).abs().max() < 0.02 * expected.abs().max())


def private_stdout() -> TextIO:
    """Standard output for answers alone; descriptor 1, which C libraries write to, becomes standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return answers


def is_out_of_memory(error: BaseException) -> bool:
    """Also torch's, which is a RuntimeError with its own words on every device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )


def in_words(error: BaseException) -> str:
    """One sentence with the cause, for a person who does not know Python."""
    text = str(error).strip().split("\n")[0]
    if _NO_ENGINE in text:
        return f"Not enough memory of the GPU, or torch and cuDNN do not fit together ({text})."
    if is_out_of_memory(error):
        return (
            f"Not enough memory ({text or 'out of memory'}). Close other programs, or choose another device or fewer samples."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {error.filename or text}"
    if isinstance(error, ValueError | OSError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"The Python package {error.name} is not installed."
    return f"Internal error, {type(error).__name__}: {text}"


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    if sys.platform == "win32":
        return _peak_working_set_bytes() / 1e6
    if sys.platform == "linux":
        # not getrusage: its figure starts at that of the process that started us
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _peak_working_set_bytes() -> int:
    """PROCESS_MEMORY_COUNTERS.PeakWorkingSetSize of this process (psapi.h)."""
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("cb", wintypes.DWORD),
            ("page_fault_count", wintypes.DWORD),
            ("peak_working_set_size", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 7),
        )

    kernel32 = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel32.GetCurrentProcess.restype = wintypes.HANDLE
    query = kernel32.K32GetProcessMemoryInfo
    query.argtypes = (wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD)
    counters = Counters(cb=ctypes.sizeof(Counters))
    if not query(kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
        raise OSError("the peak memory of this process cannot be read")
    return int(counters.peak_working_set_size)
