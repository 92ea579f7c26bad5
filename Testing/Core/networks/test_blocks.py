import pytest
import torch
from torch.nn.functional import conv3d, interpolate

from diff2ct.networks import blocks
from diff2ct.networks.memory_format import channels_last


@pytest.mark.parametrize("planar", [False, True])
def test_upsampling_as_on_cuda_equals_torch_in_channels_last(planar: bool) -> None:
    x = torch.randn(2, 8, 3, 4, 5).to(memory_format=torch.channels_last_3d).requires_grad_()
    expected = interpolate(x, scale_factor=(1.0, 2.0, 2.0) if planar else 2.0, mode="nearest")
    found = blocks._double_channels_last(x, planar)
    assert torch.equal(found, expected) and found.is_contiguous(memory_format=torch.channels_last_3d)
    grad = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, grad)[0] for y in (found, expected)))


def test_a_convolution_of_one_plane_equals_the_one_in_3d() -> None:
    torch.manual_seed(0)
    layer = channels_last(blocks.PlanarConv(5, 8))
    x = torch.randn(2, 5, 1, 6, 7).to(memory_format=torch.channels_last_3d)
    found = layer(x)
    torch.testing.assert_close(found, conv3d(x, layer.weight, layer.bias, padding=(0, 1, 1)))
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
