"""Two radiographs and a checkpoint -> a CT volume. The whole inference path."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from diff2ct.calibration_limits import calibration_limits
from diff2ct.checkpoint import Checkpoint
from diff2ct.condition import CONDITIONS, Condition, stack_conditions
from diff2ct.consistency import Consistency, MeasuredView, StepCorrection, correct_volume, measured_views
from diff2ct.cuda_graph import PAYS_FROM, Network, RecordedNetwork
from diff2ct.cycle_spinning import UNMOVED, Shift, moved_back, moved_grid, shift_of
from diff2ct.diffusion import SAMPLERS, Cancelled, OnStep, SampleNoise, Sampling, corrected, predict_x0, trailing_timesteps
from diff2ct.geometry import ParallelBeam
from diff2ct.maps import DEFAULT_LEVEL, check_maps
from diff2ct.memory import samples_at_once
from diff2ct.metrics import reprojection_error
from diff2ct.networks import X2NoiseNet
from diff2ct.patient_figures import PatientFigure, figures_with_intervals, in_sentences
from diff2ct.precision import cast_once, fastest_arithmetic, fastest_dtype
from diff2ct.process import is_out_of_memory
from diff2ct.projector import nearest_mm, project
from diff2ct.radiograph import Radiograph
from diff2ct.translator import Translator, translate
from diff2ct.uncertainty import Calibration, expected_error, interval, supported_by_xrays
from diff2ct.units import HU_WINDOW, hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid

_log = logging.getLogger(__name__)

Draw = Callable[[Sequence[int], OnStep | None, Callable[[], bool] | None], torch.Tensor]
"""(numbers of samples, on_step, is_cancelled) -> x_0 (B, 1, D, H, W), each number's sample."""

NOTICE = "Synthetic. Research use only - not for diagnosis, not a measured CT."


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """volume: HU; the mean of the samples if there are several. sd_hu: (D, H, W) their standard deviation, None for one sample.

    samples_hu: (K, D, H, W) float32, the samples themselves.
    error_hu: (D, H, W) root mean square error to be expected of each voxel, and calibration, which says so; both None for a
    checkpoint without one. figures: of the patient, with their intervals, none without calibration. calibration_limits:
    sentences, why it may not hold here.
    seconds: from radiographs to volume. reprojection: per view, frontal first, how well the volume explains the X-ray after
    fitting gain and offset: {"relative_l2", "ncc"}; reprojection_before: the same before data consistency (at each step: before
    that of the last one), None without it.
    provenance: what to write beside the volume, all text; its "Geometry" is JSON, a list of two that `beam_from_dict` takes,
    its "Figures", if there are any, are sentences joined by "; ".
    """

    volume: CtVolume
    sd_hu: np.ndarray | None
    samples_hu: np.ndarray
    error_hu: np.ndarray | None
    calibration: Calibration | None
    figures: tuple[PatientFigure, ...]
    calibration_limits: tuple[str, ...]
    seconds: float
    reprojection: tuple[dict[str, float], ...]
    reprojection_before: tuple[dict[str, float], ...] | None
    provenance: dict[str, str]

    def interval_hu(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper), each (D, H, W): they hold the truth of a share `level`, up to 0.9, of body voxels; see
        `uncertainty.interval`. Raises ValueError without calibration."""
        error_hu, calibration = self._calibrated()
        lower, upper = interval(torch.from_numpy(self.volume.hu), error_hu, level, calibration)
        return lower.numpy(), upper.numpy()

    def support(self) -> np.ndarray:
        """(D, H, W) in [0, 1]: what the X-rays settle, see `uncertainty.supported_by_xrays`. Raises ValueError without
        calibration."""
        return supported_by_xrays(*self._calibrated()).numpy()

    def map(self, name: str, level: float = DEFAULT_LEVEL) -> CtVolume:
        """One of `maps.MAPS` on the volume's grid; level: of lower and upper. Raises ValueError if there is none."""
        check_maps([name], num_samples=len(self.samples_hu), calibrated=self.calibration is not None)
        if name in ("lower", "upper"):
            return CtVolume(self.interval_hu(level)[name == "upper"], self.volume.grid)
        values = self.support() if name == "support" else self.sd_hu if name == "sd" else self.error_hu
        assert values is not None  # checked above
        return CtVolume(values, self.volume.grid)

    def _calibrated(self) -> tuple[torch.Tensor, Calibration]:
        if self.error_hu is None or self.calibration is None:
            raise ValueError("calibration: this checkpoint has none; `diff2ct calibrate` makes it")
        return torch.from_numpy(self.error_hu), self.calibration


def reconstruct(
    radiographs: Sequence[Radiograph],
    checkpoint: Checkpoint,
    *,
    num_steps: int | None = None,
    num_samples: int = 1,
    seed: int = 0,
    sampler: str | None = None,
    consistency: Consistency | bool | None = None,
    translator: Translator | None = None,
    device: str = "cpu",
    on_step: OnStep | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> Reconstruction:
    """Sample `num_samples` volumes that fit a frontal and a lateral radiograph, in any order, on a grid around their isocentre.

    num_steps, sampler: of each sample; by default as the checkpoint says. Samples but the first are drawn on grids of their own
    and moved back (`cycle_spinning`), unless each step is corrected. seed: the same seed gives the same volume, up to the
    rounding of another device or arithmetic; on a GPU also, if samples are drawn in other batches or the X-rays are oblique.
    on_step(done, in all) counts the steps of all samples. A checkpoint that reconstructs in one pass has one step and one
    sample, whatever these say. translator: real to DRR, puts real X-rays into the style of those that the checkpoint was
    trained on; how well the volume explains them is still asked of the X-rays as they are.
    consistency: whether and how the volume is moved toward the X-rays; None is `default_consistency`.

    Raises ValueError on a wrong pair or option, MemoryError before it starts if memory will not do, and `diffusion.Cancelled`
    between steps.
    """
    start = time.perf_counter()
    if num_samples < 1:
        raise ValueError(f"num_samples: got {num_samples}, accepted is 1 or more")
    sampling = checkpoint.sampling.changed(sampler=sampler, num_steps=num_steps)
    way, num_steps = sampling.sampler, sampling.num_steps
    if checkpoint.in_one_pass:  # however many were asked for: a second one would be the same
        way, num_steps, num_samples = "one deterministic pass", 1, 1
    pair = frontal_and_lateral(radiographs)
    options = default_consistency(pair, checkpoint) if consistency is None else checked_consistency(consistency, checkpoint)
    grid = grid_around_isocenter(checkpoint.grid, pair)
    is_spun = num_samples > 1 and (options is None or options.when == "end")  # a correction at each step is of one grid
    shifts = [shift_of(n) if is_spun else UNMOVED for n in range(num_samples)]
    grids = {shift: moved_grid(grid, shift) for shift in shifts}
    for moved in grids.values():
        _check_in_front_of_sources(pair, moved)
    at_once = samples_at_once(checkpoint.network, grid.size, num_samples, device)
    seen = pair if translator is None else _in_drr_style(pair, translator)
    conditions = {shift: condition_of(seen, checkpoint.condition, moved, device)[0] for shift, moved in grids.items()}
    corrects_on = device if torch.device(device).type == "cuda" else "cpu"  # MPS has no float64
    views = [] if options is None else measured_views(pair, grid, corrects_on)

    samples, uncorrected = [], []
    with torch.inference_mode(), fastest_arithmetic(device):
        correction = _step_correction(checkpoint, grid, num_steps, views, options)
        prepare = partial(_sampling, checkpoint, conditions, shifts, sampling, seed, device, correction)
        counting = partial(_counting, on_step, num_samples=num_samples, device=device)
        for x_0 in _drawn(prepare, num_samples, at_once, counting, is_cancelled):
            samples.append(checkpoint.hu_map.to_hu(x_0[:, 0].float()).cpu().numpy())
            if correction is not None and correction.uncorrected_hu is not None:
                uncorrected.append(correction.uncorrected_hu.cpu().numpy())

    samples_hu = np.concatenate(samples)
    sd_hu = samples_hu.std(0, ddof=1) if num_samples > 1 else None
    volume = before = CtVolume(samples_hu.mean(0), grid)
    error_hu = error_of(volume, sd_hu, checkpoint.calibration)
    limits = calibration_limits(checkpoint, pair, sampling, num_samples, options, translated=translator is not None)
    if uncorrected:
        before = CtVolume(np.concatenate(uncorrected).mean(0), grid)
    elif options is not None and error_hu is not None:
        hu, error = (torch.from_numpy(a).to(corrects_on) for a in (volume.hu, error_hu))
        volume = CtVolume(correct_volume(hu, error, grid, views, options)[0].cpu().numpy(), grid)
        samples_hu = (samples_hu + (volume.hu - before.hu)).clip(*HU_WINDOW)  # all samples move alike
    figures = () if checkpoint.calibration is None else figures_with_intervals(volume, checkpoint.calibration.bounds)
    return Reconstruction(
        volume=volume,
        sd_hu=sd_hu,
        samples_hu=samples_hu,
        error_hu=error_hu,
        calibration=checkpoint.calibration,
        figures=figures,
        calibration_limits=tuple(limits),
        seconds=time.perf_counter() - start,
        reprojection=tuple(reproject(volume, r, corrects_on) for r in pair),
        reprojection_before=None if options is None else tuple(reproject(before, r, corrects_on) for r in pair),
        provenance={
            "Notice": NOTICE,
            "CheckpointSha256": checkpoint.sha256,
            "Sampler": f"{way}, {num_steps} steps, {num_samples} samples" + (", cycle spinning" if is_spun else ""),
            "Consistency": "none" if options is None else str(options),
            "CalibrationLimits": "not calibrated" if checkpoint.calibration is None else "; ".join(limits) or "none known",
            "Seed": str(seed),
            "Arithmetic": f"{str(fastest_dtype(device)).removeprefix('torch.')} on {torch.device(device).type}",
            "Sources": ", ".join(r.source for r in pair),
            "Assumed": ", ".join(sorted({a for r in seen for a in r.assumed})) or "nothing",
            "Style": "as they are" if translator is None else f"real to DRR, translator {translator.sha256}",
            **({"Figures": "; ".join(in_sentences(figures, limits))} if figures else {}),
            "Geometry": json.dumps([r.geometry.to_dict() for r in pair]),
        },
    )


def default_consistency(pair: Sequence[Radiograph], checkpoint: Checkpoint) -> Consistency | None:
    """On where it was measured to help: with a calibrated checkpoint and X-rays that are line integrals, not films."""
    return Consistency() if checkpoint.calibration is not None and all(r.scale_known for r in pair) else None


def checked_consistency(consistency: Consistency | bool, checkpoint: Checkpoint) -> Consistency | None:
    """The options that True and False stand for. Raises ValueError if it is wanted of a checkpoint that cannot have it."""
    if consistency is False:
        return None
    if checkpoint.calibration is None:
        raise ValueError("consistency: accepted with a calibrated checkpoint; `diff2ct calibrate` makes the calibration")
    return Consistency() if consistency is True else consistency


def error_of(volume: CtVolume, sd_hu: np.ndarray | None, calibration: Calibration | None) -> np.ndarray | None:
    """`uncertainty.expected_error` of a volume and the SD of its samples; None without calibration."""
    if calibration is None:
        return None
    sd = None if sd_hu is None else torch.from_numpy(sd_hu)
    return expected_error(torch.from_numpy(volume.hu), sd, calibration).numpy()


def _step_correction(
    checkpoint: Checkpoint,
    grid: VolumeGrid,
    num_steps: int,
    views: Sequence[MeasuredView],
    options: Consistency | None,
) -> StepCorrection | None:
    """What corrects each x_0 estimate; None if none is to be."""
    diffusion, calibration = checkpoint.diffusion, checkpoint.calibration
    if options is None or options.when != "steps" or diffusion is None or calibration is None:
        return None
    last = trailing_timesteps(diffusion.num_timesteps, num_steps)[-1]
    return StepCorrection(views, grid, checkpoint.hu_map, calibration, options, diffusion.alpha_bar, last)


def _sampling(
    checkpoint: Checkpoint,
    conditions: Mapping[Shift, Condition],
    shifts: Sequence[Shift],
    sampling: Sampling,
    seed: int,
    device: str,
    correction: StepCorrection | None,
    num_batches: int,
) -> Draw:
    """What draws a batch of samples. conditions: on the grid of each shift. shifts: of each sample. What all batches share is
    computed here, once."""
    network, diffusion = checkpoint.network, checkpoint.diffusion
    if not isinstance(network, X2NoiseNet) or diffusion is None:
        condition = stack_conditions([conditions[UNMOVED]], device)

        def predict(numbers: Sequence[int], on_step: OnStep | None, is_cancelled: Callable[[], bool] | None) -> torch.Tensor:
            if is_cancelled is not None and is_cancelled():
                raise Cancelled("cancelled before the only step")
            x_0 = network(condition)
            if on_step is not None:
                on_step(1, 1)
            return x_0

        return predict

    denoising = cast_once(network, device)

    def denoise(x: torch.Tensor, t: torch.Tensor, *embedded: torch.Tensor) -> torch.Tensor:
        return denoising.denoise(x, t, embedded)

    step: Network = denoise
    if torch.device(device).type == "cuda" and num_batches * sampling.num_steps >= PAYS_FROM:
        step = RecordedNetwork(step)
    timesteps, draw = trailing_timesteps(diffusion.num_timesteps, sampling.num_steps), SAMPLERS[sampling.sampler]
    size = checkpoint.grid.size

    def sample(numbers: Sequence[int], on_step: OnStep | None, is_cancelled: Callable[[], bool] | None) -> torch.Tensor:
        condition = stack_conditions([conditions[shifts[n]] for n in numbers], device)
        embedded = denoising.embed_condition(condition, size)
        denoiser = predict_x0(lambda x, t: step(x, t, *embedded), diffusion)
        if correction is not None:
            denoiser = corrected(denoiser, correction)
        noise = SampleNoise([sample_seed(seed, n) for n in numbers], (1, *size), device)
        x_0 = draw(denoiser, diffusion.alpha_bar, timesteps, noise, on_step=on_step, is_cancelled=is_cancelled)
        return torch.stack([moved_back(each, shifts[n]) for each, n in zip(x_0, numbers, strict=True)])

    return sample


def _drawn(
    prepare: Callable[[int], Draw],
    num_samples: int,
    at_once: int,
    counting: Callable[[int, int], OnStep],
    is_cancelled: Callable[[], bool] | None,
) -> Iterator[torch.Tensor]:
    """x_0 of `num_samples` samples, `at_once` of them together; fewer where others have taken a GPU's memory since it was asked
    for. prepare: number of batches -> what draws one. counting: samples done, batch -> what is told its steps."""
    draw, done = prepare(math.ceil(num_samples / at_once)), 0
    while done < num_samples:
        batch = range(done, min(done + at_once, num_samples))
        try:
            x_0 = draw(batch, counting(done, len(batch)), is_cancelled)
        except (MemoryError, RuntimeError) as error:
            if at_once == 1 or not is_out_of_memory(error):
                raise
            x_0 = None
        if x_0 is None:  # the error is gone here, and with it what it kept in memory
            _log.warning("%d samples at once do not fit into memory, going on with half as many", at_once)
            at_once //= 2
            del draw
            torch.cuda.empty_cache()
            draw = prepare(math.ceil((num_samples - done) / at_once))
            continue
        yield x_0
        done += len(batch)


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


def _check_in_front_of_sources(pair: Sequence[Radiograph], grid: VolumeGrid) -> None:
    """Raises ValueError before it takes time if a source lies in the volume or beyond it, as with a distance in cm."""
    for radiograph in pair:
        beam = radiograph.geometry
        if isinstance(beam, ParallelBeam) or nearest_mm(torch.from_numpy(beam.lps_to_pixel @ grid.ijk_to_lps), grid) > 0:
            continue
        raise ValueError(
            f"{radiograph.source or beam.view.value}: source_to_isocenter_mm is {beam.source_to_isocenter_mm:g}, "
            "so the volume reaches the source; is it in mm?"
        )


def condition_of(pair: Sequence[Radiograph], kind: str, grid: VolumeGrid, device: str) -> Condition:
    """The condition as a batch of one. Radiographs much finer than the grid are averaged down first."""
    small = [r.resized(patient_spacing_mm=0.75 * min(grid.spacing_mm)) for r in pair]
    images = [torch.from_numpy(r.line_integral).to(device) for r in small]
    valid = [torch.from_numpy(r.valid).to(device) for r in small]
    return stack_conditions([CONDITIONS[kind](images, valid, [r.geometry for r in small], grid)], device)


def reproject(volume: CtVolume, radiograph: Radiograph, device: str = "cpu") -> dict[str, float]:
    """How well the volume's own X-ray agrees with the measured one, gain and offset fitted, where rays cross the volume: an
    X-ray of the whole body sees more. Only where all tissue lies in the volume can it be perfect."""
    small = radiograph.resized(patient_spacing_mm=min(volume.grid.spacing_mm))
    mu = hu_to_mu(torch.from_numpy(volume.hu).to(device))
    image, chord = project(torch.stack([mu, torch.ones_like(mu)]), volume.grid, small.geometry).cpu()
    seen = torch.from_numpy(small.valid) & (chord > 0)
    relative_l2, ncc = reprojection_error(torch.from_numpy(small.line_integral)[None], image[None], seen[None])
    return {"relative_l2": float(relative_l2), "ncc": float(ncc)}


def sample_seed(seed: int, n: int) -> int:
    """Seed of the noise of sample n: sample 0 of `seed` is the single sample of `seed`, whatever the number of samples."""
    return seed + n * 1_000_003


def _counting(on_step: OnStep | None, samples_done: int, batch: int, *, num_samples: int, device: str) -> OnStep:
    """Tells the steps of all samples, each once it is done: a GPU is asked for them long before, and could not be cancelled."""

    def count(done: int, steps: int) -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        if on_step is not None:
            on_step(samples_done * steps + batch * done, num_samples * steps)

    return count
