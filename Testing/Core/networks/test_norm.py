import pytest
import torch

from diff2ct.networks.norm import group_norm


def test_equals_torch() -> None:
    x, scale, shift = torch.randn(2, 16, 3, 4, 5), torch.randn(2, 16), torch.randn(2, 16)
    expected = torch.nn.functional.group_norm(x, 8) * scale[..., None, None, None] + shift[..., None, None, None]
    torch.testing.assert_close(group_norm(x, 8, scale, shift), expected)


def test_gradients() -> None:
    arguments = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((2, 16, 2, 3, 4), (2, 16), (2, 16))]
    assert torch.autograd.gradcheck(lambda x, scale, shift: group_norm(x, 8, scale, shift), arguments)


@pytest.mark.parametrize("size", [8, 9])
def test_bfloat16_gradients_stay_close(size: int) -> None:
    x = torch.randn(1, 16, size, size, size)
    scale, shift, grad = torch.randn(1, 16), torch.randn(1, 16), torch.randn_like(x)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        leaf = x.to(dtype).to(memory_format=torch.channels_last_3d).requires_grad_()
        group_norm(leaf, 8, scale, shift).backward(grad.to(dtype))
        found.append(leaf.grad.float())
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.02
