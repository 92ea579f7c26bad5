"""Which arithmetic a network runs in."""

import itertools
import warnings

import pytest
import torch

from diff2ct import precision
from diff2ct.networks.memory_format import channels_last
from tiny import tiny_checkpoint


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_network_runs_in_the_chosen_dtype_without_a_warning(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: dtype)
    layer = torch.nn.Linear(3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad(), precision.fastest_arithmetic("cpu"):
            assert layer(torch.ones(2, 3)).dtype == dtype


def test_the_faster_dtype_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for slow, fast in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
        precision.fastest_dtype.cache_clear()
        monkeypatch.setattr(precision, "_seconds_of_convolution", lambda dtype, slow=slow: 2.0 if dtype == slow else 1.0)
        assert precision.fastest_dtype("cpu") == fast
    precision.fastest_dtype.cache_clear()


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), torch.float32), ((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_a_gpu_that_emulates_bfloat16_computes_in_float32(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    precision.fastest_dtype.cache_clear()
    assert precision.fastest_dtype("cuda") == dtype
    precision.fastest_dtype.cache_clear()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN has one kernel")
def test_float32_is_asked_for_with_the_kernel_of_the_network_s_large_layers() -> None:
    layer, x = precision._probe(torch.float32)
    with torch.inference_mode(), torch.profiler.profile() as profile:
        layer(x)
    assert "aten::mkldnn_convolution" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize(("seconds", "calls"), [(0.001, 10), (0.06, 2), (0.5, 1)])
def test_arithmetic_that_is_slow_is_not_asked_for_again(seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, seconds)
    readings: list[float] = []
    monkeypatch.setattr(precision.time, "perf_counter", lambda: readings.append(next(clock)) or readings[-1])
    assert precision._seconds_of_convolution(torch.float32) == pytest.approx(seconds)
    assert len(readings) == 2 * calls


def test_weights_that_are_cast_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: torch.bfloat16)
    network = channels_last(tiny_checkpoint().network)
    x, t, condition = torch.randn(2, 1, 16, 16, 16), torch.tensor([3, 500]), torch.randn(2, 13, 16, 16, 16)
    with torch.inference_mode(), precision.fastest_arithmetic("cpu"):
        cast = precision.cast_once(network, "cpu")
        assert torch.equal(cast(x, t, condition), network(x, t, condition))
    assert cast.enter.weight.dtype == torch.bfloat16 and network.enter.weight.dtype == torch.float32
    assert cast.leave_norm.scale is network.leave_norm.scale


def test_where_float32_is_fastest_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: torch.float32)
    network = tiny_checkpoint().network
    assert precision.cast_once(network, "cpu") is network
