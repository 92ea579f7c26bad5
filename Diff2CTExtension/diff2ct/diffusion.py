"""Diffusion: noise schedules, parameterisations and samplers. Symbols of Ho et al. 2020 (DDPM): t, beta, alpha_bar, eps, x_0,
x_t.

Time runs t = 0 (clean, alpha_bar = 1) to t = T (noisiest). A denoiser is a function (x_t, t) -> x_0; `predict_x0` makes one
from a network of any parameterisation. All samplers are free functions of one signature and make as many calls as `timesteps`
has entries. Randomness is per sample: the same seed gives the same sample whatever the batch size and the device.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

_log = logging.getLogger(__name__)

Denoiser = Callable[[torch.Tensor, int], torch.Tensor]
"""(x_t (B, C, D, H, W), t) -> estimate of x_0, same shape."""

OnStep = Callable[[int, int], None]
"""(steps done, steps in all), called after each step."""


class Cancelled(Exception):
    """Raised by samplers between steps once `is_cancelled()` is true."""


# Schedules: betas (T,) float64 for t = 1..T


def paper_betas(num_timesteps: int = 1000) -> torch.Tensor:
    """Linear 1e-7..1e-2 (arXiv 2408.09731, Sec. 3). At T = 1000 it ends at alpha_bar = 0.0066256: x_T still shows the mean."""
    return torch.linspace(1e-7, 1e-2, num_timesteps, dtype=torch.float64)


def ddpm_betas(num_timesteps: int = 1000) -> torch.Tensor:
    """Linear 1e-4..2e-2 (Ho et al. 2020, Sec. 4)."""
    return torch.linspace(1e-4, 2e-2, num_timesteps, dtype=torch.float64)


def cosine_betas(num_timesteps: int = 1000) -> torch.Tensor:
    """Cosine alpha_bar with s = 0.008 and beta <= 0.999 (Nichol and Dhariwal 2021, Eq. 17)."""
    t = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def rescale_zero_terminal_snr(betas: torch.Tensor) -> torch.Tensor:
    """Shift and scale sqrt(alpha_bar) so that alpha_bar_T = 0 and alpha_bar_1 stays (Lin et al. 2023, Algorithm 1)."""
    root = torch.cumprod(1 - betas, 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = root**2
    previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    return 1 - alpha_bar / previous


SCHEDULES: dict[str, Callable[[int], torch.Tensor]] = {"paper": paper_betas, "ddpm": ddpm_betas, "cosine": cosine_betas}
PREDICTIONS = ("eps", "x_0", "v")


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """The diffusion process that a network was trained for.

    schedule: "paper", "ddpm" or "cosine". num_timesteps: T.
    zero_terminal_snr: rescale so that x_T is pure noise; then a network cannot predict eps.
    prediction: what the network returns, "eps", "x_0" or "v".
    scale_input: the network is given sqrt(alpha_bar) x_t instead of x_t. At zero SNR x_t says nothing and then is not heard:
        the first step is a plain regression on the condition, where a network that hears the noise takes long to learn to
        ignore it.
    """

    schedule: str = "cosine"
    num_timesteps: int = 1000
    zero_terminal_snr: bool = True
    prediction: str = "x_0"
    scale_input: bool = True

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule: got {self.schedule!r}, accepted are {', '.join(SCHEDULES)}")
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction: got {self.prediction!r}, accepted are {', '.join(PREDICTIONS)}")
        if not 1 <= self.num_timesteps <= 100_000:
            raise ValueError(f"num_timesteps: got {self.num_timesteps}, accepted is 1 to 100000")
        if self.zero_terminal_snr and self.prediction == "eps":
            raise ValueError(
                "prediction: got 'eps' with zero_terminal_snr, accepted are 'x_0' and 'v': eps at t = T does not tell x_0"
            )

    @property
    def alpha_bar(self) -> torch.Tensor:
        """(T + 1,) float64, alpha_bar[0] = 1."""
        betas = SCHEDULES[self.schedule](self.num_timesteps)
        if self.zero_terminal_snr:
            betas = rescale_zero_terminal_snr(betas)
        return torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])


PAPER = Diffusion(schedule="paper", zero_terminal_snr=False, prediction="eps", scale_input=False)
"""The paper's process: T = 1000, 1e-7..1e-2, eps."""

# The forward process and conversions. `alpha_bar` is a float or a tensor that broadcasts against x.


def add_noise(x_0: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor | float) -> torch.Tensor:
    """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps (Ho et al. 2020, Eq. 4)."""
    return _root(alpha_bar) * x_0 + _root(1 - alpha_bar) * eps


def v_target(x_0: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor | float) -> torch.Tensor:
    """v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans and Ho 2022)."""
    return _root(alpha_bar) * eps - _root(1 - alpha_bar) * x_0


def x0_from(prediction: str, output: torch.Tensor, x_t: torch.Tensor, alpha_bar: torch.Tensor | float) -> torch.Tensor:
    """The x_0 that a network's output stands for. Note alpha_bar, not alpha, for eps (Ho et al. 2020, Eq. 15)."""
    if prediction == "x_0":
        return output
    if prediction == "v":
        return _root(alpha_bar) * x_t - _root(1 - alpha_bar) * output
    if prediction == "eps":
        return (x_t - _root(1 - alpha_bar) * output) / _root(alpha_bar)
    raise ValueError(f"prediction: got {prediction!r}, accepted are {', '.join(PREDICTIONS)}")


def network_input(diffusion: Diffusion, x_t: torch.Tensor, alpha_bar: torch.Tensor | float) -> torch.Tensor:
    """What the network is given for x_t."""
    return _root(alpha_bar) * x_t if diffusion.scale_input else x_t


def eps_from_x0(x_0: torch.Tensor, x_t: torch.Tensor, alpha_bar: torch.Tensor | float) -> torch.Tensor:
    """The noise that takes x_0 to x_t; alpha_bar < 1."""
    return (x_t - _root(alpha_bar) * x_0) / _root(1 - alpha_bar)


def _root(value: torch.Tensor | float) -> torch.Tensor | float:
    return value.clamp(min=0).sqrt() if isinstance(value, torch.Tensor) else math.sqrt(max(value, 0.0))


def predict_x0(
    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], diffusion: Diffusion, *, clip: bool = True
) -> Denoiser:
    """A denoiser from `network(x_t, t (B,))`. clip: keep x_0 in [-1, 1], as every sampler of bounded data needs."""
    alpha_bar = diffusion.alpha_bar.tolist()

    def denoiser(x_t: torch.Tensor, t: int) -> torch.Tensor:
        output = network(network_input(diffusion, x_t, alpha_bar[t]), torch.full((x_t.shape[0],), t, device=x_t.device))
        x_0 = x0_from(diffusion.prediction, output, x_t, alpha_bar[t])
        return x_0.clamp(-1, 1) if clip else x_0

    return denoiser


def corrected(denoiser: Denoiser, correct: Callable[[torch.Tensor, int], torch.Tensor]) -> Denoiser:
    """`denoiser` with each estimate replaced by correct(x_0, t), whatever the sampler: the hook for data consistency."""
    return lambda x_t, t: correct(denoiser(x_t, t), t)


# Time steps and noise


def trailing_timesteps(num_timesteps: int, num_steps: int) -> list[int]:
    """`num_steps` times from T down, evenly spaced and starting at T itself (Lin et al. 2023, Table 2)."""
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps: got {num_steps}, accepted is 1 to {num_timesteps}")
    return [round(num_timesteps * (1 - n / num_steps)) for n in range(num_steps)]


class SampleNoise:
    """Gaussian noise for a batch, one generator per sample, drawn on the CPU: independent of batch size and device. To a GPU it
    goes through page-locked memory, so that what was asked of the GPU before goes on meanwhile."""

    def __init__(self, seeds: Sequence[int], shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self._shape, self._device = shape, torch.device(device)

    def __call__(self) -> torch.Tensor:
        """(B, *shape) float32."""
        noise = torch.stack([torch.randn(self._shape, generator=g) for g in self._generators])
        if self._device.type != "cuda":
            return noise.to(self._device)
        try:
            noise = noise.pin_memory()
        except RuntimeError as error:  # the system limits what may be locked
            _log.warning("noise goes to the GPU the slow way: %s", error)
        return noise.to(self._device, non_blocking=True)


# Samplers


def sample_ddpm(
    denoiser: Denoiser,
    alpha_bar: torch.Tensor,
    timesteps: Sequence[int],
    noise: SampleNoise,
    *,
    on_step: OnStep | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> torch.Tensor:
    """Ancestral sampling with the posterior q(x_s | x_t, x_0) (Ho et al. 2020, Algorithm 2, Eq. 7), for any decreasing
    times."""
    x = noise()
    for t, s, a_t, a_s in _transitions(alpha_bar, timesteps, on_step, is_cancelled):
        x_0 = denoiser(x, t)
        ratio = a_t / a_s  # alpha of the whole jump
        mean = math.sqrt(a_s) * (1 - ratio) / (1 - a_t) * x_0 + math.sqrt(ratio) * (1 - a_s) / (1 - a_t) * x
        variance = (1 - a_s) / (1 - a_t) * (1 - ratio)
        x = mean + math.sqrt(variance) * noise() if s > 0 else x_0
    return x


def sample_ddim(
    denoiser: Denoiser,
    alpha_bar: torch.Tensor,
    timesteps: Sequence[int],
    noise: SampleNoise,
    *,
    eta: float = 0.0,
    on_step: OnStep | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> torch.Tensor:
    """DDIM (Song et al. 2021, Eq. 12 and 16); eta = 0 is deterministic, eta = 1 has DDPM's variance."""
    x = noise()
    for t, s, a_t, a_s in _transitions(alpha_bar, timesteps, on_step, is_cancelled):
        x_0 = denoiser(x, t)
        sigma = eta * math.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))
        x = math.sqrt(a_s) * x_0 + math.sqrt(max(1 - a_s - sigma**2, 0.0)) * eps_from_x0(x_0, x, a_t)
        if sigma > 0 and s > 0:
            x = x + sigma * noise()
    return x


def sample_dpm_solver(
    denoiser: Denoiser,
    alpha_bar: torch.Tensor,
    timesteps: Sequence[int],
    noise: SampleNoise,
    *,
    on_step: OnStep | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> torch.Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2) in half log SNR, lambda. First order where a step is infinite: from zero
    SNR, where it is DDIM's step, and to t = 0, where it returns x_0."""
    x, previous, h_previous = noise(), None, math.inf
    for t, s, a_t, a_s in _transitions(alpha_bar, timesteps, on_step, is_cancelled):
        x_0 = denoiser(x, t)
        h = _half_log_snr(a_s) - _half_log_snr(a_t)
        d = x_0
        if previous is not None and s > 0 and math.isfinite(h_previous):
            d = x_0 + h / (2 * h_previous) * (x_0 - previous)
        sigma_ratio = math.sqrt((1 - a_s) / (1 - a_t))
        x = sigma_ratio * x + math.sqrt(a_s) * -math.expm1(-h) * d
        previous, h_previous = x_0, h
    return x


def sample_renoise(
    denoiser: Denoiser,
    alpha_bar: torch.Tensor,
    timesteps: Sequence[int],
    noise: SampleNoise,
    *,
    on_step: OnStep | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> torch.Tensor:
    """Each estimate of x_0 is noised afresh for the next time (Song et al. 2023, 2303.01469, Algorithm 1): of all DDIM's
    variances the largest. For few steps.

    A step carries nothing of the last one's noise along, nor of what was wrong with it. But a denoiser that is right on
    average draws each estimate toward likely volumes: samples vary less than the data do, Gaussian ones with half the variance
    after many steps.
    """
    x = noise()
    for t, s, _, a_s in _transitions(alpha_bar, timesteps, on_step, is_cancelled):
        x_0 = denoiser(x, t)
        x = math.sqrt(a_s) * x_0 + math.sqrt(1 - a_s) * noise() if s > 0 else x_0
    return x


SAMPLERS = {"ddpm": sample_ddpm, "ddim": sample_ddim, "dpm-solver": sample_dpm_solver, "renoise": sample_renoise}
RENOISE_STEPS = 8
"""The most that "renoise" is for: each further step draws the volume toward what the model finds likely, away from the X-rays
(Testing/Benchmarks/README.md)."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a denoiser is sampled unless the user says otherwise. sampler: of `SAMPLERS`. num_steps: denoising steps."""

    sampler: str = "dpm-solver"
    num_steps: int = 3

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler: got {self.sampler!r}, accepted are {', '.join(SAMPLERS)}")
        if self.num_steps < 1:
            raise ValueError(f"num_steps: got {self.num_steps}, accepted is 1 or more")
        if self.sampler == "renoise" and self.num_steps > RENOISE_STEPS:
            accepted = f"1 to {RENOISE_STEPS} with the sampler 'renoise', more with 'ddpm'"
            raise ValueError(f"num_steps: got {self.num_steps}, accepted is {accepted}")

    def changed(self, *, sampler: str | None = None, num_steps: int | None = None) -> Sampling:
        """With what is not None. More steps than "renoise" is for are ancestral ones, unless a sampler is named."""
        num_steps = self.num_steps if num_steps is None else num_steps
        too_many = self.sampler == "renoise" and num_steps > RENOISE_STEPS
        return Sampling(sampler=sampler or ("ddpm" if too_many else self.sampler), num_steps=num_steps)


def _half_log_snr(a: float) -> float:
    if a <= 0:
        return -math.inf
    return math.inf if a >= 1 else 0.5 * math.log(a / (1 - a))


def _transitions(
    alpha_bar: torch.Tensor, timesteps: Sequence[int], on_step: OnStep | None, is_cancelled: Callable[[], bool] | None
) -> Iterator[tuple[int, int, float, float]]:
    """(t, s, alpha_bar_t, alpha_bar_s) for each step down to s = 0, with cancel before and progress after it."""
    times = [int(t) for t in timesteps]
    if not times or times[0] >= len(alpha_bar) or any(t <= s for t, s in zip(times, [*times[1:], 0], strict=True)):
        raise ValueError(f"timesteps: got {times[:5]}..., accepted are decreasing times in 1..{len(alpha_bar) - 1}")
    for n, (t, s) in enumerate(zip(times, [*times[1:], 0], strict=True)):
        if is_cancelled is not None and is_cancelled():
            raise Cancelled(f"cancelled after {n} of {len(times)} steps")
        yield t, s, float(alpha_bar[t]), float(alpha_bar[s])
        if on_step is not None:
            on_step(n + 1, len(times))
