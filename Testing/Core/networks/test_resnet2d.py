import pytest
import torch

from diff2ct.networks import ResNet2D, ResNet2DConfig


def test_size_of_the_papers_generator() -> None:
    """11.378 million on colour images in CycleGAN; grey ones need 2 x 64 x 49 weights less at both ends, and 2 biases."""
    count = sum(p.numel() for p in ResNet2D(ResNet2DConfig()).parameters())
    assert count == pytest.approx(11.378e6 - 4 * 64 * 49 - 2, abs=500)


def test_shape_and_range() -> None:
    torch.manual_seed(0)
    network = ResNet2D(ResNet2DConfig(width=4, num_blocks=1))
    styled = network(100 * torch.randn(2, 1, 24, 32))
    assert styled.shape == (2, 1, 24, 32)
    assert float(styled.detach().abs().max()) <= 1


def test_a_residual_network_can_start_without_changing_anything() -> None:
    network = ResNet2D(ResNet2DConfig(width=4, num_blocks=1, residual=True))
    image = torch.randn(1, 1, 16, 16)
    assert float((network(image) - image).detach().abs().max()) > 1e-3
    network.start_as_identity()
    torch.testing.assert_close(network(image), image)


def test_samples_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    network = ResNet2D(ResNet2DConfig(width=4, num_blocks=2)).eval()
    image = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(network(image)[1:], network(image[1:]))


def test_images_that_do_not_fit_are_refused() -> None:
    network = ResNet2D(ResNet2DConfig(width=4, num_blocks=1))
    for shape in ((1, 1, 30, 32), (1, 3, 32, 32), (1, 32, 32), (1, 1, 8, 8)):
        with pytest.raises(ValueError, match="image: got shape"):
            network(torch.zeros(shape))


@pytest.mark.parametrize("field", ["width", "num_blocks", "num_halvings"])
def test_bad_configuration_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        ResNet2DConfig(**{field: 0})
