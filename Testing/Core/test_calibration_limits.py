"""What is said of a calibration that is used for other reconstructions than those it was measured on."""

from dataclasses import replace

import pytest

from diff2ct.calibration_limits import calibration_limits
from diff2ct.checkpoint import Checkpoint
from diff2ct.consistency import Consistency
from diff2ct.diffusion import Sampling
from diff2ct.geometry import as_kind
from diff2ct.reconstruct import reconstruct
from tiny import tiny_body, tiny_calibration, tiny_checkpoint, tiny_radiographs

AS_CALIBRATED = Sampling(sampler="ddpm", num_steps=2)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Calibrated with 2 samples of 2 steps."""
    calibration = replace(tiny_calibration(), provenance={"xrays": "noiseless line integrals of the whole body"})
    return replace(tiny_checkpoint(), calibration=calibration, sampling=replace(AS_CALIBRATED, num_steps=9))


def test_a_run_like_the_calibration_and_a_checkpoint_without_have_no_limits(checkpoint: Checkpoint) -> None:
    pair = tiny_radiographs(tiny_body())
    for consistency in (None, Consistency()):
        assert calibration_limits(checkpoint, pair, AS_CALIBRATED, 2, consistency, translated=False) == []
    uncalibrated = replace(checkpoint, calibration=None)
    assert calibration_limits(uncalibrated, pair, Sampling(num_steps=7), 1, None, translated=True) == []


def test_each_difference_is_one_sentence(checkpoint: Checkpoint) -> None:
    frontal, lateral = tiny_radiographs(tiny_body())
    film = replace(lateral, scale_known=False)
    scanned = replace(lateral, geometry=as_kind(lateral.geometry, "fan"))
    guessed = replace(frontal, assumed=("source_to_detector_mm", "isocenter_lps"))
    cases = {
        "of 2 steps of ddpm, this run had 1 of ddpm": ((frontal, lateral), Sampling(sampler="ddpm", num_steps=1), 2, False),
        "of 2 steps of ddpm, this run had 2 of ddim": ((frontal, lateral), Sampling(sampler="ddim", num_steps=2), 2, False),
        "of 2 samples, this run had 1": ((frontal, lateral), AS_CALIBRATED, 1, False),
        "of the whole body; the lateral X-ray, of unknown scale": (
            (frontal, film),
            AS_CALIBRATED,
            2,
            False,
        ),
        "the lateral X-ray is of another kind of beam": ((frontal, scanned), AS_CALIBRATED, 2, False),
        "is assumed: source_to_detector_mm": ((guessed, lateral), AS_CALIBRATED, 2, False),
        "a style translator": ((frontal, lateral), AS_CALIBRATED, 2, True),
    }
    for words, (pair, sampling, num_samples, translated) in cases.items():
        (sentence,) = calibration_limits(checkpoint, pair, sampling, num_samples, None, translated=translated)
        assert words in sentence
        assert "isocenter_lps" not in sentence, "where the patient lies in the world moves the volume with it"
    unlike = Consistency(when="steps")
    (sentence,) = calibration_limits(checkpoint, (frontal, lateral), AS_CALIBRATED, 2, unlike, translated=False)
    assert "data consistency" in sentence


def test_a_reconstruction_carries_them(checkpoint: Checkpoint) -> None:
    pair = tiny_radiographs(tiny_body())
    result = reconstruct(pair, checkpoint, num_steps=2, num_samples=2, consistency=False)
    assert result.calibration_limits == () and result.provenance["CalibrationLimits"] == "none known"
    result = reconstruct(pair, checkpoint, num_steps=1, num_samples=1, consistency=False)
    assert len(result.calibration_limits) == 2 and "samples" in result.calibration_limits[1]
    assert result.provenance["CalibrationLimits"] == "; ".join(result.calibration_limits)
    result = reconstruct(pair, replace(checkpoint, calibration=None), num_steps=1)
    assert result.provenance["CalibrationLimits"] == "not calibrated"
