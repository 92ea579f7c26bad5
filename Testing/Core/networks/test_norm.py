import pytest
import torch

from diff2ct.networks.norm import group_norm

by_sums = pytest.mark.parametrize("by_sums", [None, True], ids=["CPU", "as on CUDA"])


@by_sums
def test_equals_torch(by_sums: bool | None) -> None:
    x, scale, shift = torch.randn(2, 16, 3, 4, 5), torch.randn(2, 16), torch.randn(2, 16)
    expected = torch.nn.functional.group_norm(x, 8) * scale[..., None, None, None] + shift[..., None, None, None]
    torch.testing.assert_close(group_norm(x, 8, scale, shift, by_sums=by_sums), expected)


@by_sums
def test_gradients(by_sums: bool | None) -> None:
    arguments = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((2, 16, 2, 3, 4), (2, 16), (2, 16))]
    assert torch.autograd.gradcheck(lambda x, scale, shift: group_norm(x, 8, scale, shift, by_sums=by_sums), arguments)


@by_sums
@pytest.mark.parametrize("size", [8, 9])
def test_bfloat16_stays_close_and_in_its_layout(size: int, by_sums: bool | None) -> None:
    x = 3 + torch.randn(1, 16, size, size, size)
    scale, shift, grad = torch.randn(1, 16), torch.randn(1, 16), torch.randn_like(x)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        leaf = x.to(dtype).to(memory_format=torch.channels_last_3d).requires_grad_()
        y = group_norm(leaf, 8, scale, shift, by_sums=by_sums)
        y.backward(grad.to(dtype))
        assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last_3d)
        found.append((y.detach().float(), leaf.grad.float()))
    for exact, rounded in zip(*found, strict=True):
        assert float((exact - rounded).norm() / exact.norm()) < 0.02


def test_a_mean_far_from_zero_does_not_cost_the_variance() -> None:
    x = 100 + torch.randn(2, 16, 12, 12, 12)
    ones, zeros = torch.ones(2, 16), torch.zeros(2, 16)
    expected = torch.nn.functional.group_norm(x.double(), 8).float()
    torch.testing.assert_close(group_norm(x, 8, ones, zeros, by_sums=True), expected, rtol=0, atol=0.02)
