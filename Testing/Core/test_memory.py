"""The estimate that is made before a reconstruction starts."""

import sys
from pathlib import Path

import pytest
import torch

from diff2ct import memory
from diff2ct.checkpoint import load_checkpoint
from diff2ct.networks import Cnn3d, Cnn3dConfig, Psr, PsrConfig, X2ct, X2ctConfig, X2NoiseNet, X2NoiseNetConfig
from diff2ct.process import in_words

CUBE = (128, 128, 128)


def test_embedded_checkpoint_fits_in_one_gigabyte() -> None:
    network = load_checkpoint().network
    one, four = (memory.needed_bytes(network, CUBE, k, "cpu") for k in (1, 4))
    assert one is not None and four is not None
    assert 0.4e9 < one < four < 1.1e9


def test_pixel_network_needs_gigabytes() -> None:
    with torch.device("meta"):
        network = X2NoiseNet(X2NoiseNetConfig(condition_channels=1, haar_levels=0, widths=(64, 128), blocks=(1, 1)))
    assert (memory.needed_bytes(network, CUBE, 1, "cpu") or 0) > 3e9


def test_networks_of_one_pass_are_estimated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        networks = [X2ct(X2ctConfig()), Cnn3d(Cnn3dConfig()), Psr(PsrConfig())]
    needed = {}
    for dtype in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(memory, "fastest_dtype", lambda device, dtype=dtype: dtype)
        needed[dtype] = [memory.needed_bytes(network, CUBE, 1, "cpu") or 0 for network in networks]
    assert 1.1e9 < needed[torch.bfloat16][0] < 1.4e9, "775 MB were measured for the network alone"
    assert needed[torch.bfloat16] == sorted(needed[torch.bfloat16], reverse=True)
    assert needed[torch.float32][0] > 1.4 * needed[torch.bfloat16][0] - 0.4e9
    monkeypatch.setattr(memory, "free_bytes", lambda device: 300_000_000)
    for network in networks:
        with pytest.raises(MemoryError, match="are free on cpu"):
            memory.check_memory(network, CUBE, 1, "cpu")


def test_too_little_memory_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_checkpoint().network
    monkeypatch.setattr(memory, "free_bytes", lambda device: 300_000_000)
    with pytest.raises(MemoryError, match=r"needs about \d\.\d GB, 0\.3 GB are free on cpu") as caught:
        memory.check_memory(network, CUBE, 1, "cpu")
    assert in_words(caught.value).startswith("Not enough memory (this reconstruction needs")


def test_nothing_happens_where_memory_is_enough_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_checkpoint().network
    for free in (10**12, None):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        memory.check_memory(network, CUBE, 1, "cpu")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1)
    memory.check_memory(torch.nn.Identity(), CUBE, 1, "cpu")


@pytest.mark.parametrize(
    ("free", "num_samples", "at_once"), [(80e9, 1, 1), (80e9, 4, 4), (80e9, 10, 5), (1.6e9, 10, 3), (0.75e9, 10, 1)]
)
def test_a_gpu_draws_as_many_samples_together_as_fit(
    free: float, num_samples: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_checkpoint().network
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(free))
    monkeypatch.setattr(memory, "fastest_dtype", lambda device: torch.bfloat16)
    assert memory.samples_at_once(network, CUBE, num_samples, "cuda") == at_once
    assert memory.samples_at_once(network, CUBE, 1, "cpu") == 1


def test_too_small_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 300_000_000)
    monkeypatch.setattr(memory, "fastest_dtype", lambda device: torch.bfloat16)
    with pytest.raises(MemoryError, match="are free on cuda"):
        memory.samples_at_once(load_checkpoint().network, CUBE, 4, "cuda")


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_the_tightest_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = []
    for name, limit in (("outer", "5000"), ("inner", "3000")):
        groups.append(tmp_path / name)
        groups[-1].mkdir()
        for file, text in (("memory.max", limit), ("memory.current", "700"), ("memory.stat", "inactive_file 0")):
            (groups[-1] / file).write_text(text)
    monkeypatch.setattr(memory, "control_groups", lambda controller: groups)
    assert memory.free_bytes("cpu") == 2300


def test_processes_on_one_gpu_count_on_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *index: (60 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *index: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *index: 0)
    free = []
    for processes in (16, 1):
        memory.share_gpu(processes)
        free.append(memory.free_bytes("cuda:0"))
    assert free == [5 * 10**9, 60 * 10**9]
