"""Which arithmetic a network runs in."""

import warnings

import pytest
import torch

from diff2ct import precision


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
