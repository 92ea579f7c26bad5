import pytest
import torch

from diff2ct.networks import NETWORKS, X2NoiseNet, X2NoiseNetConfig
from diff2ct.networks.memory_format import channels_last
from diff2ct.views import PLANE_PIXELS, PLANE_SPACING_MM, RectifiedViews


def small(**changes) -> X2NoiseNetConfig:
    return X2NoiseNetConfig(**{"condition_channels": 2, "widths": (8, 16), "blocks": (1, 1), **changes})


def shaken(config: X2NoiseNetConfig) -> X2NoiseNet:
    """A network whose zero-initialised layers are not zero, so that everything has an effect."""
    torch.manual_seed(0)
    network = X2NoiseNet(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.requires_grad_(False)


@pytest.mark.parametrize("haar_levels", [0, 1, 2])
@pytest.mark.parametrize("attention", [True, False])
def test_both_forms_keep_the_shape(haar_levels: int, attention: bool) -> None:
    network = X2NoiseNet(small(haar_levels=haar_levels, attention=attention))
    x, condition = torch.randn(2, 1, 8, 16, 24), torch.randn(2, 2, 8, 16, 24)
    assert network(x, torch.tensor([1, 1000]), condition).shape == x.shape


def test_time_condition_and_noise_all_matter() -> None:
    network = shaken(small())
    x, t, condition = torch.randn(1, 1, 8, 8, 8), torch.tensor([500]), torch.randn(1, 2, 8, 8, 8)
    base = network(x, t, condition)
    for other in (network(x + 1, t, condition), network(x, t + 400, condition), network(x, t, condition * 2)):
        assert float((other - base).abs().max()) > 1e-3


def test_embedding_the_condition_once_changes_nothing() -> None:
    network = shaken(small())
    x, condition = torch.randn(1, 1, 8, 8, 8), torch.randn(1, 2, 8, 8, 8)
    embedded = network.embed_condition(condition, (8, 8, 8))
    for t in (1, 700):
        time = torch.tensor([t])
        torch.testing.assert_close(network.denoise(x, time, embedded), network(x, time, condition))


def some_views(batch: int = 1) -> RectifiedViews:
    """Parallel views along y and x of a grid of 2 mm voxels around the middle of the plane."""
    spacing, middle = 2.0 / PLANE_SPACING_MM, (PLANE_PIXELS - 1) / 2
    frontal = [[spacing, 0, 0, middle], [0, 0, -spacing, middle], [0, 0, 0, 1], [0, 0, 0, 1]]
    lateral = [[0, spacing, 0, middle], [0, 0, -spacing, middle], [0, 0, 0, 1], [0, 0, 0, 1]]
    maps = torch.tensor([frontal, lateral]).expand(batch, -1, -1, -1)
    return RectifiedViews(torch.randn(batch, 2, 6, PLANE_PIXELS, PLANE_PIXELS), maps)


def with_views(**changes) -> X2NoiseNetConfig:
    return small(condition_channels=6, view_widths=(8, 16), **changes)


def test_a_network_that_encodes_views() -> None:
    network, views = shaken(with_views()), some_views(2)
    x, t = torch.randn(2, 1, 8, 16, 24), torch.tensor([1, 1000])
    y = network(x, t, views)
    assert y.shape == x.shape
    torch.testing.assert_close(y[1:], network(x[1:], t[1:], views[1:]), rtol=1e-4, atol=1e-4)
    for view in (0, 1):
        images = views.images.clone()
        images[:, view] = images[:, view].flip(-1)
        changed = network(x, t, RectifiedViews(images, views.ijk_to_plane))
        assert float((changed - y).abs().max()) > 1e-3, f"view {view} matters"


def test_a_view_is_looked_up_along_its_own_rays() -> None:
    """What a frontal view tells does not depend on depth (j), what a lateral one tells not on the side (i)."""
    network, views = shaken(with_views()), some_views()
    for view, axis in ((0, 3), (1, 4)):
        images = torch.zeros_like(views.images)
        images[:, view] = views.images[:, view]
        nothing = network.embed_condition(RectifiedViews(torch.zeros_like(images), views.ijk_to_plane), (8, 16, 16))
        for level, share in enumerate(network.embed_condition(RectifiedViews(images, views.ijk_to_plane), (8, 16, 16))):
            told = share - nothing[level]
            torch.testing.assert_close(told, told.mean(axis, keepdim=True).expand_as(told), rtol=1e-3, atol=1e-3)


def test_the_wrong_kind_of_condition_is_refused() -> None:
    x, t = torch.randn(1, 1, 8, 8, 8), torch.tensor([3])
    with pytest.raises(ValueError, match="rectified views"):
        X2NoiseNet(with_views())(x, t, torch.zeros(1, 6, 8, 8, 8))
    with pytest.raises(ValueError, match="condition volume"):
        X2NoiseNet(small())(x, t, some_views())


def test_samples_of_a_batch_do_not_mix() -> None:
    network = shaken(small())
    x, t, condition = torch.randn(3, 1, 8, 8, 8), torch.tensor([3, 400, 900]), torch.randn(3, 2, 8, 8, 8)
    torch.testing.assert_close(network(x, t, condition)[1:2], network(x[1:2], t[1:2], condition[1:2]), rtol=1e-4, atol=1e-4)


def test_channels_last_gives_the_same() -> None:
    network = shaken(small())
    x, t, condition = torch.randn(1, 1, 8, 8, 8), torch.tensor([3]), torch.randn(1, 2, 8, 8, 8)
    plain = network(x, t, condition)
    last = channels_last(network)(x, t, condition.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(plain, last, rtol=1e-4, atol=1e-4)


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        X2NoiseNet(small())(torch.zeros(1, 1, 8, 8, 10), torch.tensor([1]), torch.zeros(1, 2, 8, 8, 10))


@pytest.mark.parametrize(
    "change",
    [
        {"condition_channels": 0},
        {"haar_levels": 3},
        {"widths": (12,), "blocks": (1,)},
        {"blocks": (1,)},
        {"widths": ()},
        {"down_blocks": (1,)},
        {"view_widths": (8,)},
    ],
    ids=str,
)
def test_impossible_configs_are_refused_by_name(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        small(**change)


def test_the_embedded_network_fits_its_budget() -> None:
    from diff2ct_training.recipes import default

    with torch.device("meta"):
        count = sum(p.numel() for p in X2NoiseNet(default().network).parameters())
    assert 2 * count < 16_000_000, "float16 weights of the default recipe must stay below 16 MB"


def test_registry() -> None:
    assert NETWORKS["x2noisenet"] == (X2NoiseNet, X2NoiseNetConfig)
