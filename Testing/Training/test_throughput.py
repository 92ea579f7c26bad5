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


@pytest.mark.parametrize(
    ("name", "bf16", "float32"),
    [
        ("NVIDIA H200", 989.5e12, 494.5e12),
        ("NVIDIA H200 NVL", 835.5e12, 417.5e12),
        ("NVIDIA H100 80GB HBM3", 989.5e12, 494.5e12),
        ("NVIDIA GH200 480GB", 989.5e12, 494.5e12),
        ("NVIDIA H100 PCIe", 756e12, 378e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 156e12),
        ("NVIDIA L40S", 362e12, 183e12),
        ("NVIDIA L4", 121e12, 60e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12, 82.6e12),
        ("GeForce RTX 3090", 71e12, 35.6e12),  # by an old driver
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
        ("NVIDIA GeForce GTX 1080", None, None),
    ],
)
def test_peaks_of_gpus_by_the_names_that_drivers_tell(
    name: str, bf16: float | None, float32: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda"), "bf16-mixed") == bf16
    assert peak_flops(torch.device("cuda"), "32-true") == float32
