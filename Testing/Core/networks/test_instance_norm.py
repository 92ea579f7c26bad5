import pytest
import torch

from diff2ct.networks.instance_norm import InstanceNorm


def reference(x: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(2, x.ndim))
    return (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True, unbiased=False) + 1e-5).sqrt()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("shape", "channels_last"), [((7, 6), torch.channels_last), ((5, 4, 3), torch.channels_last_3d)])
def test_values_and_gradients_in_both_memory_formats(batch: int, shape: tuple, channels_last: torch.memory_format) -> None:
    torch.manual_seed(0)
    x, grad = (torch.randn(batch, 4, *shape, dtype=torch.float64) for _ in range(2))
    expected = reference(x.requires_grad_())
    (expected_grad,) = torch.autograd.grad(expected, x, grad)
    for x_format in (torch.contiguous_format, channels_last):
        for grad_format in (torch.contiguous_format, channels_last):
            laid_out = x.detach().contiguous(memory_format=x_format).requires_grad_()
            y = InstanceNorm(4)(laid_out)
            torch.testing.assert_close(y, expected)
            torch.testing.assert_close(
                torch.autograd.grad(y, laid_out, grad.contiguous(memory_format=grad_format))[0], expected_grad
            )


def test_nothing_to_learn() -> None:
    assert list(InstanceNorm(8).parameters()) == []
