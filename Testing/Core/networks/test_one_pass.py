"""PSR, 3DCNN and the generator of X2CT-GAN: sizes as published, and which way everything runs."""

import pytest
import torch
from torch import nn

from diff2ct.networks import NETWORKS, Cnn3d, Cnn3dConfig, Psr, PsrConfig, X2ct, X2ctConfig
from diff2ct.networks.memory_format import channels_last
from diff2ct.networks.one_pass import FRONTAL, LATERAL, along_rays, from_volume, spread, to_volume

TINY = {
    "psr": PsrConfig(size=16, width=8, down_blocks=(1, 1)),
    "psr-averaged": PsrConfig(size=16, width=8, down_blocks=(1, 1), views="averaged"),
    "cnn3d": Cnn3dConfig(widths=(8, 16), convs=(1, 2)),
    "x2ct-gan": X2ctConfig(size=16, width=8, layers=(2, 2), growth=4, decoder_widths=(4, 8, 8)),
}


def tiny(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name.removesuffix("-averaged")][0](TINY[name])


@pytest.mark.parametrize(
    ("build", "millions"),
    [
        (lambda: X2ct(X2ctConfig()), 61.7),  # the released generator
        (lambda: Psr(PsrConfig()), 9.07),  # the version that the X2CT-GAN paper compares with
        (lambda: Psr(PsrConfig(views="averaged")), 9.07),
        (lambda: Cnn3d(Cnn3dConfig()), 10.3),
    ],
    ids=["x2ct-gan", "psr", "psr-averaged", "cnn3d"],
)
def test_weights_are_as_many_as_published(build, millions: float) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in build().parameters())
    assert count == pytest.approx(1e6 * millions, rel=0.01)


@pytest.mark.parametrize("name", TINY)
def test_volume_of_each_sample_and_gradients_everywhere(name: str) -> None:
    network = tiny(name).train()
    condition = torch.rand(2, 2, 1, 32, 32) * 2 - 1
    volume = network(condition)
    assert volume.shape == (2, 1, 16, 16, 16)
    (volume * torch.rand_like(volume)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", TINY)
def test_evaluation_is_deterministic_and_does_not_depend_on_the_batch(name: str) -> None:
    network = tiny(name).eval()
    condition = torch.rand(2, 2, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        both = network(condition)
        torch.testing.assert_close(both, network(condition))
        torch.testing.assert_close(both[1:], network(condition[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "heard"), [("psr", [True, False]), ("psr-averaged", [True, True]), ("x2ct-gan", [True, True])]
)
def test_which_views_are_heard(name: str, heard: list[bool]) -> None:
    condition = (torch.rand(1, 2, 1, 32, 32) * 2 - 1).requires_grad_()
    tiny(name).eval()(condition).square().sum().backward()
    assert [bool(condition.grad[:, view].abs().sum() > 0) for view in (FRONTAL, LATERAL)] == heard


def test_a_volume_of_other_planes_is_refused() -> None:
    for name in TINY:
        with pytest.raises(ValueError, match="condition"):
            tiny(name)(torch.zeros(1, 3, 1, 32, 32))
    for name in ("psr", "x2ct-gan"):
        with pytest.raises(ValueError, match="accepted is 2 x 16"):
            tiny(name)(torch.zeros(1, 2, 1, 64, 64))


@pytest.mark.parametrize("view", [FRONTAL, LATERAL])
def test_a_views_frame_and_back(view: int) -> None:
    volume = torch.rand(2, 3, 4, 5, 6)  # k, j, i
    seen = from_volume(volume, view)
    assert seen.shape[2:] == ((5, 4, 6) if view == FRONTAL else (6, 4, 5)), "along the ray, k, across"
    torch.testing.assert_close(to_volume(seen, view), volume)


def test_spread_repeats_along_j_for_the_frontal_and_along_i_for_the_lateral_view() -> None:
    condition = torch.rand(1, 2, 1, 16, 16)
    frontal, lateral = spread(condition)[0]
    assert frontal.shape == (8, 8, 8)
    torch.testing.assert_close(frontal[3, 0, 5], condition[0, 0, 0, 6:8, 10:12].mean())
    torch.testing.assert_close(frontal[:, 0], frontal[:, 7])
    torch.testing.assert_close(lateral[3, 5, 0], condition[0, 1, 0, 6:8, 10:12].mean())
    torch.testing.assert_close(lateral[:, :, 0], lateral[:, :, 7])
    assert along_rays(torch.rand(1, 2, 4, 4), 6).shape == (1, 2, 6, 4, 4)


@pytest.mark.parametrize("name", TINY)
def test_memory_layout_leaves_values_and_gradients_alone(name: str) -> None:
    """For a batch of one, where torch's own instance norms do not."""
    network = tiny(name).eval()
    condition, weight = torch.rand(1, 2, 1, 32, 32), torch.rand(1, 1, 16, 16, 16)
    found = []
    for layout in (nn.Identity(), channels_last):
        network.zero_grad()
        volume = layout(network)(condition)
        (volume * weight).sum().backward()
        found.append([volume.detach(), *(p.grad.clone() for p in network.parameters())])
    for plain, last in zip(*found, strict=True):
        torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))


@pytest.mark.parametrize(
    ("config", "options", "named"),
    [
        (PsrConfig, {"views": "both"}, "views"),
        (PsrConfig, {"size": 100}, "size"),
        (PsrConfig, {"width": 6}, "width"),
        (Cnn3dConfig, {"widths": (12,)}, "widths"),
        (Cnn3dConfig, {"convs": (1,)}, "convs"),
        (X2ctConfig, {"layers": (0,)}, "layers"),
        (X2ctConfig, {"decoder_widths": (8, 8)}, "decoder_widths"),
        (X2ctConfig, {"size": 48}, "size"),
        (X2ctConfig, {"size": 32}, "from 64"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_is_refused_by_field(config: type, options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        config(**options)


def test_psr_gives_in_use_what_it_gave_in_training_though_its_views_differ() -> None:
    """Batch norms that met the views one after the other would keep statistics of neither."""
    torch.manual_seed(0)
    network = Psr(PsrConfig(size=16, width=16, down_blocks=(1,), views="averaged")).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    condition = torch.randn(2, 2, 1, 32, 32) * torch.tensor([0.2, 3.0]).view(1, 2, 1, 1, 1)
    trained = network(condition)
    torch.testing.assert_close(network.eval()(condition), trained, rtol=0.05, atol=0.05)
