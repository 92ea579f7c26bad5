"""Two radiographs and a checkpoint -> a CT volume. The whole inference path."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from diff2ct.checkpoint import Checkpoint
from diff2ct.condition import CONDITIONS, Condition, stack_conditions
from diff2ct.diffusion import SAMPLERS, Cancelled, OnStep, SampleNoise, Sampling, predict_x0, trailing_timesteps
from diff2ct.metrics import reprojection_error
from diff2ct.networks import X2NoiseNet
from diff2ct.precision import fastest_dtype
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.translator import Translator, translate
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid

DEFAULT_STEPS = Sampling().num_steps
"""Of checkpoints that do not say otherwise."""
NOTICE = "Synthetic. Research use only - not for diagnosis, not a measured CT."


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """volume: HU; the mean of the samples if there are several. sd_hu: (D, H, W) their standard deviation, None for one sample.

    seconds: from radiographs to volume. reprojection: per view, frontal first, how well the volume explains the X-ray after
    fitting
    gain and offset: {"relative_l2", "ncc"}. provenance: what to write beside the volume, all text.
    """

    volume: CtVolume
    sd_hu: np.ndarray | None
    seconds: float
    reprojection: tuple[dict[str, float], ...]
    provenance: dict[str, str]


def reconstruct(
    radiographs: Sequence[Radiograph],
    checkpoint: Checkpoint,
    *,
    num_steps: int | None = None,
    num_samples: int = 1,
    seed: int = 0,
    sampler: str | None = None,
    translator: Translator | None = None,
    device: str = "cpu",
    on_step: OnStep | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> Reconstruction:
    """Sample `num_samples` volumes that fit a frontal and a lateral radiograph, in any order, on a grid around their isocentre.

    num_steps, sampler: of each sample; by default as the checkpoint says. seed: the same seed gives the same volume.
    on_step(done, in all) counts the steps of all samples. A checkpoint that reconstructs in one pass has one step and one
    sample, whatever these say. translator: real to DRR, puts real X-rays into the style of those that the checkpoint was
    trained on; how well the volume explains them is still asked of the X-rays as they are.

    Raises ValueError on a wrong pair or option and `diffusion.Cancelled` between steps.
    """
    start = time.perf_counter()
    if num_samples < 1:
        raise ValueError(f"num_samples: got {num_samples}, accepted is 1 or more")
    usual = checkpoint.sampling
    sampling = Sampling(sampler=sampler or usual.sampler, num_steps=usual.num_steps if num_steps is None else num_steps)
    way, num_steps = sampling.sampler, sampling.num_steps
    if checkpoint.in_one_pass:  # however many were asked for: a second one would be the same
        way, num_steps, num_samples = "one deterministic pass", 1, 1
    pair = frontal_and_lateral(radiographs)
    grid = grid_around_isocenter(checkpoint.grid, pair)
    seen = pair if translator is None else _in_drr_style(pair, translator)
    condition = condition_of(seen, checkpoint.condition, grid, device)

    samples = []
    with torch.inference_mode(), torch.autocast(torch.device(device).type, fastest_dtype(device)):
        draw = _sampling(checkpoint, condition, grid, sampling, device)
        for n in range(num_samples):
            x_0 = draw(sample_seed(seed, n), _counting(on_step, n, num_samples), is_cancelled)
            samples.append(checkpoint.hu_map.to_hu(x_0[0, 0].float()).cpu().numpy())

    volume = CtVolume(np.mean(samples, axis=0), grid)
    return Reconstruction(
        volume=volume,
        sd_hu=np.std(samples, axis=0, ddof=1) if num_samples > 1 else None,
        seconds=time.perf_counter() - start,
        reprojection=tuple(reproject(volume, radiograph) for radiograph in pair),
        provenance={
            "Notice": NOTICE,
            "CheckpointSha256": checkpoint.sha256,
            "Sampler": f"{way}, {num_steps} steps, {num_samples} samples",
            "Seed": str(seed),
            "Sources": ", ".join(r.source for r in pair),
            "Assumed": ", ".join(sorted({a for r in seen for a in r.assumed})) or "nothing",
            "Style": "as they are" if translator is None else f"real to DRR, translator {translator.sha256}",
        },
    )


def _sampling(
    checkpoint: Checkpoint, condition: Condition, grid: VolumeGrid, sampling: Sampling, device: str
) -> Callable[[int, OnStep | None, Callable[[], bool] | None], torch.Tensor]:
    """(seed, on_step, is_cancelled) -> x_0 (1, 1, D, H, W), one sample. What all samples share is computed here, once."""
    network, diffusion = checkpoint.network, checkpoint.diffusion
    if not isinstance(network, X2NoiseNet) or diffusion is None:

        def predict(seed: int, on_step: OnStep | None, is_cancelled: Callable[[], bool] | None) -> torch.Tensor:
            if is_cancelled is not None and is_cancelled():
                raise Cancelled("cancelled before the only step")
            x_0 = network(condition)
            if on_step is not None:
                on_step(1, 1)
            return x_0

        return predict

    embedded = network.embed_condition(condition, grid.size)
    denoiser = predict_x0(lambda x, t: network.denoise(x, t, embedded), diffusion)
    timesteps, draw = trailing_timesteps(diffusion.num_timesteps, sampling.num_steps), SAMPLERS[sampling.sampler]

    def sample(seed: int, on_step: OnStep | None, is_cancelled: Callable[[], bool] | None) -> torch.Tensor:
        noise = SampleNoise([seed], (1, *grid.size), device)
        return draw(denoiser, diffusion.alpha_bar, timesteps, noise, on_step=on_step, is_cancelled=is_cancelled)

    return sample


def frontal_and_lateral(radiographs: Sequence[Radiograph]) -> tuple[Radiograph, Radiograph]:
    """The two views in the order of the condition. Raises ValueError unless there is one of each."""
    views = [r.geometry.view for r in radiographs]
    if len(views) != 2 or sum(v.is_lateral for v in views) != 1:
        got = ", ".join(v.value for v in views) or "none"
        raise ValueError(f"radiographs: got views {got}, accepted are one frontal (AP or PA) and one lateral (LL or RL)")
    first, second = radiographs
    return (second, first) if views[0].is_lateral else (first, second)


def _in_drr_style(pair: Sequence[Radiograph], translator: Translator) -> tuple[Radiograph, ...]:
    if translator.direction != "real_to_drr":
        raise ValueError(f"translator: translates {translator.direction}, accepted is real_to_drr")
    return tuple(translate(radiograph, translator) for radiograph in pair)


def grid_around_isocenter(model_grid: VolumeGrid, pair: Sequence[Radiograph]) -> VolumeGrid:
    """`model_grid`, which surrounds the origin, moved to the mean isocentre of the views."""
    isocenter = np.mean([r.geometry.isocenter_lps for r in pair], axis=0)
    x, y, z = np.array(model_grid.origin_lps) + isocenter
    return replace(model_grid, origin_lps=(float(x), float(y), float(z)))


def condition_of(pair: Sequence[Radiograph], kind: str, grid: VolumeGrid, device: str) -> Condition:
    """The condition as a batch of one. Radiographs much finer than the grid are averaged down first."""
    small = [r.resized(spacing_mm=0.75 * min(grid.spacing_mm) * r.geometry.magnification) for r in pair]
    images = [torch.from_numpy(r.line_integral).to(device) for r in small]
    valid = [torch.from_numpy(r.valid).to(device) for r in small]
    return stack_conditions([CONDITIONS[kind](images, valid, [r.geometry for r in small], grid)], device)


def reproject(volume: CtVolume, radiograph: Radiograph) -> dict[str, float]:
    """How well the volume's own X-ray agrees with the measured one, gain and offset fitted; only where all tissue lies in the
    cube can it be perfect."""
    small = radiograph.resized(spacing_mm=min(volume.grid.spacing_mm) * radiograph.geometry.magnification)
    image = project(hu_to_mu(torch.from_numpy(volume.hu)), volume.grid, small.geometry)
    measured, valid = torch.from_numpy(small.line_integral)[None], torch.from_numpy(small.valid)[None]
    relative_l2, ncc = reprojection_error(measured, image[None], valid)
    return {"relative_l2": float(relative_l2), "ncc": float(ncc)}


def sample_seed(seed: int, n: int) -> int:
    """Seed of sample n: sample 0 of `seed` is the single sample of `seed`, whatever the number of samples."""
    return seed + n * 1_000_003


def _counting(on_step: OnStep | None, n: int, num_samples: int) -> OnStep | None:
    if on_step is None:
        return None
    return lambda done, steps: on_step(n * steps + done, num_samples * steps)
