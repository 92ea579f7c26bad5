import math

import pytest
import torch

from diff2ct import diffusion
from diff2ct.diffusion import (
    PAPER,
    PREDICTIONS,
    RENOISE_STEPS,
    SAMPLERS,
    Cancelled,
    Diffusion,
    SampleNoise,
    Sampling,
    add_noise,
    eps_from_x0,
    predict_x0,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
    sample_renoise,
    trailing_timesteps,
    v_target,
    x0_from,
)

ALL = [
    Diffusion(schedule=s, zero_terminal_snr=z, prediction=p, scale_input=False)
    for s in diffusion.SCHEDULES
    for z in (False, True)
    for p in PREDICTIONS
    if not (z and p == "eps")
]


def test_the_papers_schedule_ends_where_it_ends() -> None:
    alpha_bar = PAPER.alpha_bar
    assert len(alpha_bar) == 1001
    assert float(alpha_bar[1000]) == pytest.approx(0.0066256, abs=5e-8)
    for t, expected in {1: 1 - 1e-7, 10: 0.99955, 100: 0.95163, 300: 0.63800, 500: 0.28625, 900: 0.01722}.items():
        assert float(alpha_bar[t]) == pytest.approx(expected, abs=6e-6)


def test_other_schedules_end_where_their_papers_do() -> None:
    assert float(Diffusion(schedule="ddpm", zero_terminal_snr=False).alpha_bar[-1]) == pytest.approx(4.04e-5, rel=0.01)
    assert float(Diffusion(schedule="cosine", zero_terminal_snr=False).alpha_bar[-1]) < 1e-7


@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
def test_zero_terminal_snr(schedule: str) -> None:
    plain, zero = (Diffusion(schedule=schedule, zero_terminal_snr=z).alpha_bar for z in (False, True))
    assert float(zero[-1]) == pytest.approx(0, abs=1e-12)
    assert float(zero[1]) == pytest.approx(float(plain[1]), abs=1e-9)  # the first step stays as it was
    assert bool((zero[1:] < zero[:-1]).all())


@pytest.mark.parametrize("process", ALL, ids=str)
def test_every_parameterisation_gives_x0_back_at_every_time(process: Diffusion) -> None:
    """The check that a 1 / alpha for 1 / alpha_bar would fail."""
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.rand(64, generator=generator, dtype=torch.float64) * 2 - 1 for _ in range(2))
    for t in range(1, 1001, 37):
        a = float(process.alpha_bar[t])
        x_t = add_noise(x_0, eps, a)
        output = {"x_0": x_0, "eps": eps, "v": v_target(x_0, eps, a)}[process.prediction]
        torch.testing.assert_close(x0_from(process.prediction, output, x_t, a), x_0, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(eps_from_x0(x_0, x_t, a), eps, rtol=1e-6, atol=1e-6)


def test_forward_process_keeps_unit_variance() -> None:
    x_0, eps = (torch.randn(100_000, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    for t in (1, 300, 700, 1000):
        assert float(add_noise(x_0, eps, float(PAPER.alpha_bar[t])).std()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("process", ALL, ids=str)
@pytest.mark.parametrize("num_steps", [1, 4, 25])
def test_an_oracle_makes_every_sampler_return_x0(sampler: str, process: Diffusion, num_steps: int) -> None:
    x_0 = torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 1
    alpha_bar = process.alpha_bar

    def oracle(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = float(alpha_bar[int(t[0])])
        eps = eps_from_x0(x_0, x_t, a)
        return {"x_0": x_0, "eps": eps, "v": v_target(x_0, eps, a)}[process.prediction]

    times = trailing_timesteps(process.num_timesteps, num_steps)
    got = SAMPLERS[sampler](predict_x0(oracle, process), alpha_bar, times, SampleNoise([3], (1, 4, 4, 4)))
    torch.testing.assert_close(got.double(), x_0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", [sample_ddpm, sample_ddim, sample_dpm_solver])
def test_samplers_reach_the_distribution_of_gaussian_data(sampler) -> None:
    """Data N(m, s^2) has the exact denoiser E[x_0 | x_t]; sampling with it must give mean m and SD s again."""
    m, s, process = 0.3, 0.2, Diffusion(schedule="cosine")
    alpha_bar = process.alpha_bar

    def denoiser(x_t: torch.Tensor, t: int) -> torch.Tensor:
        a = float(alpha_bar[t])
        return m + math.sqrt(a) * s**2 / (a * s**2 + 1 - a) * (x_t - math.sqrt(a) * m)

    x = sampler(denoiser, alpha_bar, trailing_timesteps(1000, 400), SampleNoise([7], (20_000,)))
    assert float(x.mean()) == pytest.approx(m, abs=0.01)
    assert float(x.std()) == pytest.approx(s, rel=0.06)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 400])
def test_renoised_samples_of_gaussian_data_vary_as_much_as_computed(num_steps: int) -> None:
    """With E[x_0 | x_t] = k x_t the variance v of an estimate becomes k^2 (a v + 1 - a) with the next one."""
    s, process = 0.5, Diffusion(schedule="cosine")
    alpha_bar, times = process.alpha_bar, trailing_timesteps(1000, num_steps)

    def gain(t: int) -> float:
        a = float(alpha_bar[t])
        return math.sqrt(a) * s**2 / (a * s**2 + 1 - a)

    expected = 0.0
    for t in times:
        expected = gain(t) ** 2 * (float(alpha_bar[t]) * expected + 1 - float(alpha_bar[t]))
    x = sample_renoise(lambda x_t, t: gain(t) * x_t, alpha_bar, times, SampleNoise([7], (50_000,)))
    assert float(x.var()) == pytest.approx(expected, rel=0.03)
    assert expected == pytest.approx(s**2 / 2, rel=0.03) if num_steps == 400 else expected < 0.6 * s**2


def test_second_order_beats_first_order() -> None:
    process, s = Diffusion(schedule="cosine"), 0.5
    alpha_bar = process.alpha_bar

    def denoiser(x_t: torch.Tensor, t: int) -> torch.Tensor:
        a = float(alpha_bar[t])
        return math.sqrt(a) * s**2 / (a * s**2 + 1 - a) * x_t

    noise = [0], (1000,)
    best = sample_ddim(denoiser, alpha_bar, trailing_timesteps(1000, 1000), SampleNoise(*noise))
    errors = {
        f: float((f(denoiser, alpha_bar, trailing_timesteps(1000, 12), SampleNoise(*noise)) - best).abs().mean())
        for f in (sample_ddim, sample_dpm_solver)
    }
    assert errors[sample_dpm_solver] < 0.5 * errors[sample_ddim]


def test_second_order_weighs_the_last_change_by_the_lengths_of_the_steps() -> None:
    """Lu et al. 2022, Algorithm 2, by hand: the second step is several times as long as the first."""
    alpha_bar = Diffusion(schedule="ddpm", zero_terminal_snr=False).alpha_bar
    estimates, seen = {1000: 1.0, 900: 0.4, 200: 0.0}, {}

    def denoiser(x_t: torch.Tensor, t: int) -> torch.Tensor:
        seen[t] = x_t
        return torch.full_like(x_t, estimates[t])

    sample_dpm_solver(denoiser, alpha_bar, list(estimates), SampleNoise([0], (50,)))
    a = {t: float(alpha_bar[t]) for t in estimates}
    half_log_snr = {t: 0.5 * math.log(a[t] / (1 - a[t])) for t in estimates}
    first, second = half_log_snr[900] - half_log_snr[1000], half_log_snr[200] - half_log_snr[900]
    d = 0.4 + second / (2 * first) * (0.4 - 1.0)
    expected = math.sqrt((1 - a[200]) / (1 - a[900])) * seen[900] + math.sqrt(a[200]) * (1 - math.exp(-second)) * d
    assert second > 2 * first
    torch.testing.assert_close(seen[200], expected)


def test_ddim_with_eta_1_is_ancestral_sampling() -> None:
    """Song et al. 2021, Sec. 4.1."""
    alpha_bar, times = Diffusion(schedule="ddpm", zero_terminal_snr=False).alpha_bar, trailing_timesteps(1000, 5)
    ddpm = sample_ddpm(lambda x, t: 0.5 * x, alpha_bar, times, SampleNoise([1], (50,)))
    torch.testing.assert_close(sample_ddim(lambda x, t: 0.5 * x, alpha_bar, times, SampleNoise([1], (50,)), eta=1.0), ddpm)


def test_noise_of_a_sample_does_not_depend_on_its_batch() -> None:
    alone, together = SampleNoise([11], (2, 3)), SampleNoise([5, 11, 7], (2, 3))
    for _ in range(3):
        assert torch.equal(alone()[0], together()[1])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_sample_for_any_batch_size(sampler: str) -> None:
    process = Diffusion(schedule="cosine")
    denoiser, times = (lambda x, t: 0.9 * x.tanh()), trailing_timesteps(1000, 6)
    alone = SAMPLERS[sampler](denoiser, process.alpha_bar, times, SampleNoise([11], (1, 4, 4, 4)))
    batch = SAMPLERS[sampler](denoiser, process.alpha_bar, times, SampleNoise([3, 11], (1, 4, 4, 4)))
    torch.testing.assert_close(alone[0], batch[1])


def test_frozen_loop() -> None:
    """A whole tiny run, number by number as it was when the tests above first passed: nothing may drift unseen."""
    process = Diffusion(schedule="ddpm", zero_terminal_snr=False)
    x = sample_ddpm(lambda x, t: 0.5 * x, process.alpha_bar, trailing_timesteps(1000, 5), SampleNoise([1], (3,)))
    torch.testing.assert_close(x[0], torch.tensor([-0.3720216, -0.4496488, -0.0494711]), rtol=1e-5, atol=1e-6)


def test_trailing_steps_start_at_the_noisiest_time() -> None:
    assert trailing_timesteps(1000, 4) == [1000, 750, 500, 250]
    assert trailing_timesteps(1000, 1000)[-1] == 1
    with pytest.raises(ValueError, match="num_steps"):
        trailing_timesteps(1000, 0)
    with pytest.raises(ValueError, match="num_steps"):
        trailing_timesteps(10, 11)


def test_progress_and_cancel_between_steps() -> None:
    seen, process = [], Diffusion()
    with pytest.raises(Cancelled, match="3 of 8"):
        sample_ddim(
            lambda x, t: x,
            process.alpha_bar,
            trailing_timesteps(1000, 8),
            SampleNoise([0], (2,)),
            on_step=lambda done, steps: seen.append((done, steps)),
            is_cancelled=lambda: len(seen) == 3,
        )
    assert seen == [(1, 8), (2, 8), (3, 8)]


@pytest.mark.parametrize(
    "change", [{"schedule": "linear"}, {"prediction": "score"}, {"prediction": "eps"}, {"num_timesteps": 0}], ids=str
)
def test_impossible_processes_are_refused_by_name(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Diffusion(**change)


def test_many_steps_are_ancestral_unless_a_sampler_is_named() -> None:
    few = Sampling(sampler="renoise", num_steps=4)
    assert few.changed() == few and few.changed(num_steps=RENOISE_STEPS).sampler == "renoise"
    assert few.changed(num_steps=50) == Sampling(sampler="ddpm", num_steps=50)
    assert few.changed(sampler="ddim", num_steps=50) == Sampling(sampler="ddim", num_steps=50)
    assert few.changed(sampler="dpm-solver") == Sampling(sampler="dpm-solver", num_steps=4)
    with pytest.raises(ValueError, match=f"got 50, accepted is 1 to {RENOISE_STEPS} with the sampler 'renoise'"):
        few.changed(sampler="renoise", num_steps=50)


def test_wrong_timesteps_are_refused() -> None:
    for times in ([], [5, 5], [2000], [3, 7]):
        with pytest.raises(ValueError, match="timesteps"):
            sample_ddim(lambda x, t: x, PAPER.alpha_bar, times, SampleNoise([0], (2,)))


def test_scaled_input_goes_quiet_at_zero_snr() -> None:
    heard: list[float] = []

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        heard.append(float(x.std()))
        return torch.zeros_like(x)

    process = Diffusion(scale_input=True)
    denoiser = predict_x0(network, process)
    for t in (1000, 500, 1):
        denoiser(torch.randn(1000, generator=torch.Generator().manual_seed(0)), t)
    assert heard == pytest.approx([float(process.alpha_bar[t].sqrt()) for t in (1000, 500, 1)], rel=0.05, abs=1e-6)
