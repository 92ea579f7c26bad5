import pytest
import torch

from diff2ct_training import throughput
from diff2ct_training.throughput import Throughput, peak_flops


def test_arithmetic_of_a_step_over_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, *[14.0] * 9])
    monkeypatch.setattr(throughput.time, "monotonic", lambda: next(clock))
    counted = Throughput(samples_per_step=8, peak_flops=1e6)
    a, b = torch.rand(10, 20, requires_grad=True), torch.rand(20, 30, requires_grad=True)
    for _ in range(2):
        with counted.step():
            (a @ b).sum().backward()
    values = counted.values()
    assert values["seconds_per_step"] == 2.0 and values["samples_per_second"] == 4.0
    flops = 3 * 2 * 10 * 20 * 30  # forward, and backward to either factor
    assert values["tflop_per_second"] == pytest.approx(flops / 2 / 1e12)
    assert values["mfu"] == pytest.approx(flops / 2 / 1e6)


def test_no_mfu_without_a_known_peak() -> None:
    assert peak_flops(torch.device("cpu"), "bf16-mixed") is None
    counted = Throughput(samples_per_step=1)
    with counted.step():
        torch.rand(3, 3) @ torch.rand(3, 3)
    assert "mfu" not in counted.values()


def test_a_gpu_named_by_an_old_driver_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "GeForce RTX 3090")
    assert peak_flops(torch.device("cuda"), "32-true") is None
