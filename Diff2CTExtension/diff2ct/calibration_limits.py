"""Why a calibration may not hold for a reconstruction: it was measured with one way of sampling and X-rays of one kind."""

from __future__ import annotations

from collections.abc import Sequence

from diff2ct.checkpoint import Checkpoint
from diff2ct.consistency import Consistency
from diff2ct.diffusion import Sampling
from diff2ct.radiograph import Radiograph

_PLACE = (
    "kind", "view", "mirrored", "source_to_detector_mm", "source_to_isocenter_mm", "detector_spacing_mm", "principal_point",
)  # fmt: skip
"""Facts that decide where an X-ray's shadows lie in the volume, if they had to be assumed."""


def calibration_limits(
    checkpoint: Checkpoint,
    pair: Sequence[Radiograph],
    sampling: Sampling,
    num_samples: int,
    consistency: Consistency | None,
    *,
    translated: bool,
) -> list[str]:
    """A sentence for each way in which this reconstruction is unlike those that the checkpoint was calibrated on; none without
    calibration. Expected error, interval and support are then further off, or nearer, than they say; nobody measured how much.

    pair: frontal and lateral, as they came. consistency: None for none. The calibration is measured without; with the default
        `evaluate` found its coverage of phantoms to hold. translated: if a style translator changed the X-rays first.
    """
    calibration = checkpoint.calibration
    if calibration is None:
        return []
    limits = []
    usual = checkpoint.sampling.changed(num_steps=calibration.num_steps)
    if sampling != usual:
        here = f"{sampling.num_steps} of {sampling.sampler}"
        limits.append(f"the calibration is of {usual.num_steps} steps of {usual.sampler}, this run had {here}")
    if num_samples != calibration.num_samples:
        limits.append(f"the calibration is of {calibration.num_samples} samples, this run had {num_samples}")
    if consistency not in (None, Consistency()):
        limits.append("the calibration is of volumes without data consistency, this run had options of its own for it")
    films = [name for name, xray in zip(("frontal", "lateral"), pair, strict=True) if not xray.scale_known]
    if films:
        known = calibration.provenance.get("xrays", "X-rays of known scale")
        limits.append(
            f"the calibration is of {known}; the {' and the '.join(films)} X-ray, of unknown scale, may have noise, scatter or "
            "a film's tone curve"
        )
    others = [name for name, xray in zip(("frontal", "lateral"), pair, strict=True) if xray.geometry.KIND != "cone"]
    if others:
        limits.append(f"the calibration is of cone beams; the {' and the '.join(others)} X-ray is of another kind of beam")
    assumed = [fact for fact in _PLACE if any(fact in xray.assumed for xray in pair)]
    if assumed:
        limits.append(f"the calibration is of exact geometry; of these X-rays the following is assumed: {', '.join(assumed)}")
    if translated:
        limits.append("the calibration is of X-rays as they are, these went through a style translator")
    return limits
