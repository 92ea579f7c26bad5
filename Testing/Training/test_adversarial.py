import pytest
import torch
from torch import nn

from diff2ct_training.adversarial import PatchDiscriminator, initialize, lsgan_loss


def without_norms(network: PatchDiscriminator) -> PatchDiscriminator:
    """Instance normalisation lets every score see the whole image, if faintly; the patch is that of the convolutions."""
    network.norms = nn.ModuleList(nn.Identity() for _ in network.norms)
    return network


def test_a_score_sees_a_patch_of_70_pixels() -> None:
    torch.manual_seed(0)
    network = without_norms(PatchDiscriminator(1, (4, 4, 4, 4)))
    image = torch.randn(1, 1, 160, 160, requires_grad=True)
    scores = network(image)
    scores[0, 0, 8, 9].backward()
    assert image.grad is not None
    rows, columns = (image.grad[0, 0] != 0).nonzero().T
    assert int(rows.max() - rows.min()) + 1 == 70
    assert int(columns.max() - columns.min()) + 1 == 70


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_sizes_of_the_papers_networks() -> None:
    assert parameters(PatchDiscriminator(3)) == pytest.approx(2.765e6, abs=500)  # CycleGAN on colour images
    # X2CT-GAN: CT and both X-rays expanded; field figure 11.06 million
    assert parameters(PatchDiscriminator(3, dims=3, padding=2)) == pytest.approx(11.06e6, rel=0.01)


def test_scores_per_patch() -> None:
    assert PatchDiscriminator(1)(torch.zeros(2, 1, 256, 256)).shape == (2, 1, 30, 30)
    assert PatchDiscriminator(3, (8, 8, 8, 8), dims=3, padding=2)(torch.zeros(1, 3, 32, 32, 32)).shape == (1, 1, 7, 7, 7)


def test_least_squares_values() -> None:
    scores = torch.tensor([0.0, 1.0, 3.0])
    assert float(lsgan_loss(scores, real=True)) == pytest.approx((1 + 0 + 4) / 3)
    assert float(lsgan_loss(scores, real=False)) == pytest.approx((0 + 1 + 9) / 3)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(1)
    initialize(network)
    last = network.convs[-1]
    assert isinstance(last, nn.Conv2d)
    assert float(last.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert last.bias is not None and float(last.bias.detach().abs().max()) == 0


@pytest.mark.parametrize(("arguments", "named"), [({"dims": 1}, "dims"), ({"widths": (64,)}, "widths")])
def test_bad_arguments_are_named(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PatchDiscriminator(1, **arguments)
