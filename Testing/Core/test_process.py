"""What a process asks of the operating system."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from diff2ct.process import check_device, check_torch, peak_memory_mb


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
