"""What a process asks of the operating system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from diff2ct import process
from diff2ct.process import (
    best_device,
    check_device,
    check_torch,
    has_gpu,
    in_words,
    limit_threads,
    peak_memory_mb,
    runs_network,
    usable_processors,
)


def run(code: str) -> str:
    """What `code` prints in a process of its own: the allocator's settings stay, so they are not made in the test's process."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def test_peak_memory_grows_with_what_is_used_and_stays() -> None:
    before = peak_memory_mb()
    code = """
import numpy as np
from diff2ct.process import peak_memory_mb
start = peak_memory_mb()
block = np.ones(200_000_000 // 8)
del block
print(start, peak_memory_mb())
"""
    start, peak = map(float, run(code).split())
    assert 180 < peak - start < 260
    assert start < 200  # its own, not that of the process that started it
    assert peak_memory_mb() >= before


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc on Linux")
def test_allocator_keeps_freed_memory() -> None:
    """After the setting a freed block stays resident, so that the next one needs no new pages."""
    code = """
import numpy as np
from pathlib import Path
from diff2ct.process import tune_allocator
def resident_mb():
    return int(Path('/proc/self/statm').read_text().split()[1]) * 4096 / 1e6
{call}
block = np.ones(400_000_000 // 8)
full = resident_mb()
del block
print(full - resident_mb())
"""
    assert float(run(code.format(call=""))) > 350
    assert float(run(code.format(call="assert tune_allocator()"))) < 50


@pytest.mark.parametrize(("quotas", "usable"), [([], 4), ([None, 1.5], 2), ([0.2, 3.0], 1), ([16.0], 4)])
def test_processors_are_those_of_the_affinity_or_of_a_quota(
    quotas: list[float | None], usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {8, 9, 10, 11}, raising=False)
    monkeypatch.setattr(process, "control_groups", lambda controller: quotas)
    monkeypatch.setattr(process, "processors_allotted", lambda quota: quota)
    assert usable_processors() == usable
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "7"})
    limit_threads()
    of_itk = {} if usable == 4 else {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(usable)}
    assert os.environ == {"OMP_NUM_THREADS": "7", **of_itk}, "what the user says counts"


@pytest.mark.parametrize(
    "start",
    [
        "from diff2ct import worker; worker.main(io.StringIO(json.dumps(bad)), io.StringIO())",
        "from diff2ct import service; service.main(io.StringIO(), io.StringIO())",
        "from diff2ct_training import cli; cli._first()",
    ],
)
def test_a_process_sets_the_allocator_once_and_no_more_threads_than_a_quota_feeds(start: str) -> None:
    code = f"""
import io, json, os
bad = dict.fromkeys(("ap", "lateral", "output"), "nowhere")
os.environ.pop("OMP_NUM_THREADS", None)
os.sched_getaffinity = lambda process: set(range(64))
from diff2ct import process
process.control_groups = lambda controller: [0.5]
process.processors_allotted = lambda quota: quota
process.tune_allocator = lambda: print("tuned", end=" ")
{start}
import torch
print(torch.get_num_threads())
"""
    assert run(code) == "tuned 1"


def test_nothing_happens_on_import() -> None:
    assert run("import sys, diff2ct.process; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("device", ["warp-drive", "cuda:99", ""])
def test_unknown_device_is_a_value_error(device: str) -> None:
    with pytest.raises(ValueError, match="device"):
        check_device(device)
    check_device("cpu")


def test_a_torch_that_does_not_know_the_numpy_is_a_value_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch 2.2 with NumPy 2, which is what Slicer on macOS has."""
    check_torch()

    def numpy_of(_tensor: torch.Tensor) -> None:
        raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch.Tensor, "numpy", numpy_of)
    for check in (check_torch, lambda: check_device("cpu")):
        with pytest.raises(ValueError, match=r"does not work with NumPy .*; NumPy 2 needs torch 2\.3 or newer"):
            check()


PASCAL, TURING, ADA, BLACKWELL = (6, 1), (7, 5), (8, 9), (12, 0)
WHEELS = {  # `torch.cuda.get_arch_list` of torch 2.11 (pytorch issue 182250), and of a build with PTX
    "cu126": ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"],
    "cu128": ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
    "ptx": ["sm_90a", "compute_90"],
}


@pytest.mark.parametrize(
    ("wheel", "capability", "runs"),
    [
        ("cu126", PASCAL, True), ("cu126", TURING, True), ("cu126", ADA, True), ("cu126", BLACKWELL, False),
        ("cu128", PASCAL, False), ("cu128", (7, 0), False), ("cu128", TURING, True), ("cu128", BLACKWELL, True),
        ("ptx", ADA, False), ("ptx", BLACKWELL, True),
    ],
)  # fmt: skip
def test_a_gpu_without_kernels_in_this_torch_is_not_chosen(
    wheel: str, capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`is_available` is true and memory can be had there; the first kernel fails: "no kernel image is available"."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "12.1")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: WHEELS[wheel])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert has_gpu() == runs
    assert (best_device() == "cuda") == runs


def test_an_apple_gpu_that_cannot_run_the_network_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with torch 2.2, which Slicer on macOS has: "Conv3D is not supported on MPS"."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for runs, device in ((False, "cpu"), (True, "mps")):
        monkeypatch.setattr(process, "runs_network", lambda device, runs=runs: runs)
        assert best_device() == device


def test_a_device_that_fails_or_computes_wrong_does_not_run_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    runs_network.cache_clear()
    assert runs_network("cpu") and not runs_network("warp-drive")
    assert torch.equal(torch.get_rng_state(), state)
    runs_network.cache_clear()
    monkeypatch.setattr(torch.nn.Module, "to", lambda network, *_, **__: network.apply(_spoil))
    assert not runs_network("cpu")
    runs_network.cache_clear()


def _spoil(layer: torch.nn.Module) -> None:
    if isinstance(layer, torch.nn.Conv3d):
        layer.weight.data.mul_(1.1)


def test_a_device_that_gives_memory_and_runs_nothing_is_a_value_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(_tensor: torch.Tensor, _other: float) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with")

    monkeypatch.setattr(torch.Tensor, "add_", launch)
    with pytest.raises(ValueError, match=r"device: got 'cpu'.*no kernel image is available for execution on the device\)"):
        check_device("cpu")


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_every_way_in_which_a_gpu_runs_out_of_memory_is_told_as_that(words: str) -> None:
    assert in_words(RuntimeError(words)).startswith("Not enough memory (")


def test_what_cudnn_says_without_memory_and_in_the_wrong_version_is_told_as_either() -> None:
    said = in_words(RuntimeError("GET was unable to find an engine to execute this computation"))
    assert said.startswith("Not enough memory of the GPU, or torch and cuDNN do not fit together (GET was unable")
