"""Pixel values of a detector or a film -> line integrals, up to the gain and offset that no file tells."""

from __future__ import annotations

import numpy as np

SATURATED_SHARE = 0.02
"""Share of pixels at the lowest or highest value above which a warning is given."""

_DYNAMIC_RANGE = 65536.0


def to_line_integral(
    pixel_value: np.ndarray, valid: np.ndarray, *, grows_with_attenuation: bool, logarithmic: bool, highest_value: float
) -> np.ndarray:
    """(H, W) pixel values -> (H, W) float32 quantity proportional to line integrals, up to gain > 0 and offset.

    logarithmic: values are a linear function of the line integral; the result is scaled to [0, 1] over valid pixels.
        Otherwise they are proportional to the X-ray intensity, and -ln(I / I0) is taken, with the 99.9th percentile for I0.
    grows_with_attenuation: larger values stand for denser tissue.
    highest_value: of the value range; only used for inverted intensities.
    Invalid pixels are clipped to the range of the valid ones.
    """
    values = pixel_value.astype(np.float64)
    if logarithmic:
        result = values if grows_with_attenuation else -values
    else:
        intensity = highest_value - values if grows_with_attenuation else values
        open_beam = float(np.percentile(intensity[valid], 99.9))
        if open_beam <= 0:
            raise ValueError("no pixel value above 0, so the values cannot be X-ray intensities")
        result = -np.log(np.maximum(intensity, open_beam / _DYNAMIC_RANGE) / open_beam)
    low, high = float(result[valid].min()), float(result[valid].max())
    result = result.clip(low, high)
    if logarithmic and high > low:
        result = (result - low) / (high - low)
    return result.astype(np.float32)


def saturation_warnings(name: str, pixel_value: np.ndarray, valid: np.ndarray) -> list[str]:
    """Sentences if many valid pixels share the lowest or the highest value: whatever was beyond is lost."""
    seen = pixel_value[valid]
    sentences = []
    for word, value in (("lowest", seen.min()), ("highest", seen.max())):
        share = float((seen == value).mean())
        if share > SATURATED_SHARE:
            sentences.append(
                f"{name}: {share:.0%} of the pixels have the {word} value ({value:g}): "
                'saturated, or a border that the file does not mark: state its "invalid_value", or what is "visible"'
            )
    return sentences
