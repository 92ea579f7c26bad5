from dataclasses import replace

import pytest
import torch

from diff2ct.diffusion import add_noise, eps_from_x0, v_target
from diff2ct_training.denoiser import DenoiserRecipe, denoising_loss, draw_noise
from diff2ct_training.distillation import DistillationRecipe
from diff2ct_training.pairs import Pair, batch_of
from diff2ct_training.recipes import RECIPES, debug, paper


def a_batch(size: int = 2) -> Pair:
    generator = torch.Generator().manual_seed(0)
    pairs = [
        Pair(
            torch.randn(13, 8, 8, 8, generator=generator),
            torch.rand(1, 8, 8, 8, generator=generator),
            torch.ones(1, 8, 8, 8, dtype=torch.bool),
        )
        for _ in range(size)
    ]
    return batch_of(pairs)


@pytest.mark.parametrize("prediction", ["x_0", "v", "eps"])
def test_a_perfect_network_has_no_loss(prediction: str) -> None:
    process = replace(debug().diffusion, prediction=prediction, zero_terminal_snr=False, scale_input=False)
    recipe = replace(debug(), diffusion=process)
    batch = a_batch()
    t, eps = draw_noise([1, 2], batch, 1000)
    alpha_bar = recipe.diffusion.alpha_bar[t].float().view(-1, 1, 1, 1, 1)

    def perfect(x_t: torch.Tensor, times: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(x_t, add_noise(batch.x_0, eps, alpha_bar))
        true_eps = eps_from_x0(batch.x_0, x_t, alpha_bar)
        return {"x_0": batch.x_0, "v": v_target(batch.x_0, eps, alpha_bar), "eps": true_eps}[prediction]

    terms = denoising_loss(perfect, batch, t, eps, recipe)
    assert float(terms["loss"]) < 1e-4
    wrong = denoising_loss(lambda x, times, c: perfect(x, times, c) + 0.1, batch, t, eps, recipe)
    assert float(wrong["mse"]) == pytest.approx(0.01, rel=0.05)
    assert float(wrong["loss"]) > float(wrong["mse"])


@pytest.mark.parametrize("prediction", ["x_0", "v", "eps"])
def test_a_network_may_be_told_another_x0(prediction: str) -> None:
    """The true one makes no difference; another one is what the loss is zero for."""
    process = replace(debug().diffusion, prediction=prediction, zero_terminal_snr=False, scale_input=False)
    recipe, batch = replace(debug(), diffusion=process), a_batch()
    t, eps = torch.tensor([300, 700]), torch.randn(batch.x_0.shape, generator=torch.Generator().manual_seed(1))
    alpha_bar = process.alpha_bar[t].float().view(-1, 1, 1, 1, 1)
    untold = denoising_loss(lambda x, times, c: 0.3 * x, batch, t, eps, recipe)
    told_truth = denoising_loss(lambda x, times, c: 0.3 * x, batch, t, eps, recipe, lambda x_t: batch.x_0)
    for name, term in untold.items():
        torch.testing.assert_close(told_truth[name], term, rtol=1e-4, atol=1e-6)

    def told(x_t: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(x_t, add_noise(batch.x_0, eps, alpha_bar))
        return 0.5 - batch.x_0

    def learnt(x_t: torch.Tensor, times: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        fits = eps_from_x0(told(x_t), x_t, alpha_bar)
        return {"x_0": told(x_t), "v": v_target(told(x_t), fits, alpha_bar), "eps": fits}[prediction]

    assert float(denoising_loss(learnt, batch, t, eps, recipe, told)["loss"]) < 1e-6
    assert float(denoising_loss(learnt, batch, t, eps, recipe)["body"]) > 1e-3


def test_clean_times_weigh_more_up_to_the_limit() -> None:
    recipe = replace(debug(), projection_weight=0.0, body_window_weight=0.0, metal_window_weight=0.0, loss_weight_limit=5.0)
    batch = a_batch(1)
    eps = torch.zeros_like(batch.x_0)
    losses = [
        float(denoising_loss(lambda x, times, c: batch.x_0 + 1, batch, torch.tensor([t]), eps, recipe)["loss"])
        for t in (1000, 600, 1)
    ]
    assert losses[0] == pytest.approx(1.0, rel=1e-4)
    assert 1 < losses[1] < 5
    assert losses[2] == pytest.approx(5.0, rel=1e-4)


def test_the_papers_loss_is_eps_plus_a_third_of_three_projections() -> None:
    recipe, batch = paper(), a_batch(1)
    t, eps = torch.tensor([500]), torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(4))
    terms = denoising_loss(lambda x, times, c: torch.zeros_like(x), batch, t, eps, recipe)
    expected = eps.square().mean() + sum(eps.mean(a).square().mean() for a in (2, 3, 4)) / 3
    assert float(terms["loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_noise_is_drawn_over_all_times() -> None:
    batch = a_batch(2)
    times = torch.cat([draw_noise([2 * n, 2 * n + 1], batch, 10)[0] for n in range(100)])
    assert set(times.tolist()) == set(range(1, 11))


def test_noise_of_a_sample_does_not_depend_on_its_batch() -> None:
    (t, eps), (t_alone, eps_alone) = draw_noise([8, 9], a_batch(2), 1000), draw_noise([9], a_batch(1), 1000)
    assert torch.equal(t[1:], t_alone) and torch.equal(eps[1:], eps_alone)
    assert not torch.equal(eps[0], eps[1])


def test_recipes_are_consistent() -> None:
    for name, recipe in RECIPES.items():
        assert recipe().name == name
        if isinstance(recipe(), DenoiserRecipe):
            assert all(n % recipe().network.size_multiple == 0 for n in recipe().grid.size)
        with torch.device("cpu" if isinstance(recipe(), DistillationRecipe) else "meta"):  # a student copies real weights
            assert recipe().method().averaged


@pytest.mark.parametrize(
    ("window", "seen", "unseen", "term"),
    [("body", (300, 0), (-900, -1000), 0.3**2), ("metal", (800, 3600), (0, 300), 0.875**2)],
)
def test_a_window_term_sees_what_lies_in_it_and_nothing_else(
    window: str, seen: tuple[int, int], unseen: tuple[int, int], term: float
) -> None:
    weights = {f"{name}_window_weight": float(name == window) for name in ("body", "metal")}
    recipe, batch = replace(debug(), projection_weight=0.0, **weights), a_batch(1)
    t, eps = torch.tensor([1000]), torch.zeros_like(batch.x_0)

    def terms(wrong_hu: int, true_hu: int) -> dict[str, torch.Tensor]:
        wrong, true = (recipe.hu_map.to_x(torch.full_like(batch.x_0, hu)) for hu in (wrong_hu, true_hu))
        return denoising_loss(lambda x, times, c: wrong, replace_x0(batch, true), t, eps, recipe)

    found, missed = terms(*seen), terms(*unseen)
    assert float(found[window]) == pytest.approx(term, rel=1e-3)
    assert float(found["loss"]) == pytest.approx(float(found["mse"] + found[window]), rel=1e-3)
    assert float(missed[window]) == 0 < float(missed["mse"])


def replace_x0(batch: Pair, x_0: torch.Tensor) -> Pair:
    return Pair(batch.condition, x_0, batch.known)
