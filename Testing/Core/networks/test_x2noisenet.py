import pytest
import torch

from diff2ct.networks import NETWORKS, X2NoiseNet, X2NoiseNetConfig


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
    embedded = network.embed_condition(condition)
    for t in (1, 700):
        time = torch.tensor([t])
        torch.testing.assert_close(network.denoise(x, time, embedded), network(x, time, condition))


def test_samples_of_a_batch_do_not_mix() -> None:
    network = shaken(small())
    x, t, condition = torch.randn(3, 1, 8, 8, 8), torch.tensor([3, 400, 900]), torch.randn(3, 2, 8, 8, 8)
    torch.testing.assert_close(network(x, t, condition)[1:2], network(x[1:2], t[1:2], condition[1:2]), rtol=1e-4, atol=1e-4)


def test_channels_last_gives_the_same() -> None:
    network = shaken(small())
    x, t, condition = torch.randn(1, 1, 8, 8, 8), torch.tensor([3]), torch.randn(1, 2, 8, 8, 8)
    plain = network(x, t, condition)
    last = network.channels_last()(x, t, condition.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(plain, last, rtol=1e-4, atol=1e-4)


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        X2NoiseNet(small())(torch.zeros(1, 1, 8, 8, 10), torch.tensor([1]), torch.zeros(1, 2, 8, 8, 10))


@pytest.mark.parametrize(
    "change",
    [{"condition_channels": 0}, {"haar_levels": 3}, {"widths": (12,), "blocks": (1,)}, {"blocks": (1,)}, {"widths": ()}],
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
