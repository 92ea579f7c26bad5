"""From line integrals to what a real detector shows.

`acquire` follows the photons: beam hardening, collimator, focal spot, scatter, quantum noise, detector blur, full well; then
the electronics and the image processing: tone curve, polarity, gain, offset, bits. `random_detector` draws such a detector for
training, so that a network meets every look before it meets a hospital.

Letters: V views, H rows, W columns. Line integrals are int mu dl along a ray (no unit), transmission = I / I_open.
Lengths are at the detector [mm].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diff2ct.smooth import gaussian_blur
from diff2ct.standardize import quantiles

REFERENCE_LINE_INTEGRAL = 4.0
"""Where `DetectorModel.scatter_fraction` holds: about 20 cm of water at 70 keV, a trunk seen from the front."""
MIN_TRANSMISSION = 1e-7
"""The logarithm stops here: more than a trunk with metal in it, less than any detector can tell from 0."""
LOG_RANGE = -math.log(MIN_TRANSMISSION)

TONES = ("linear", "log", "film")


@dataclass(frozen=True, kw_only=True)
class DetectorModel:
    """One X-ray detector with its beam and processing. The defaults are ideal: pixel_value = exp(-line_integral).

    The beam
    beam_hardening: c in L_measured = L / (1 + c L): thick and metal paths attenuate less than mono-energetic ones. 0..0.1.
    photons_per_pixel: quanta detected in an open pixel; inf = no noise.
    scatter_fraction: scatter / (scatter + primary) behind a uniform object of REFERENCE_LINE_INTEGRAL, [0, 0.95]. Scatter
        arises in proportion to primary * line integral: none in air, most of the signal behind thick parts.
    scatter_sigma_mm: its Gaussian spread at the detector.
    focal_blur_mm, detector_blur_mm: Gaussian sigma before and after the quantum noise (so the latter makes noise coarser).
    collimation: (top, bottom, left, right) share of rows or columns behind the collimator, each [0, 0.5).
    saturation: transmission of the full well; all above is white.

    The picture
    tone: "linear": the transmission. "log": 1 + ln(transmission) / LOG_RANGE. "film": attenuation windowed by its histogram
        (1st to 99th percentile of the view inside the collimation) and put through an S-shaped film curve, as for display.
    local_contrast: for "film", share of the low-frequency attenuation that is taken out first (multi-scale processing), [0, 1).
    local_contrast_sigma_mm: what counts as low frequency.
    film_contrast, film_center: slope and middle of the S curve; contrast near 0 is a straight line. Center in (0, 1).
    gamma: exponent on the signal in [0, 1].
    bright_is_dense: bones bright, as films are displayed; otherwise bright = many photons.
    gain, offset: pixel_value = offset + gain * signal, before quantisation.
    bits: None or 8, 10, 12, 16: pixel values become whole numbers 0..2^bits - 1 for signal 0..1; all beyond is clipped.
    """

    beam_hardening: float = 0.0
    photons_per_pixel: float = math.inf
    scatter_fraction: float = 0.0
    scatter_sigma_mm: float = 40.0
    focal_blur_mm: float = 0.0
    detector_blur_mm: float = 0.0
    collimation: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    saturation: float = math.inf
    tone: str = "linear"
    local_contrast: float = 0.0
    local_contrast_sigma_mm: float = 30.0
    film_contrast: float = 4.0
    film_center: float = 0.5
    gamma: float = 1.0
    bright_is_dense: bool = False
    gain: float = 1.0
    offset: float = 0.0
    bits: int | None = None

    def __post_init__(self) -> None:
        limits = {
            "beam_hardening": (0.0, 1.0),
            "scatter_fraction": (0.0, 0.95),
            "scatter_sigma_mm": (0.0, 1e3),
            "focal_blur_mm": (0.0, 100.0),
            "detector_blur_mm": (0.0, 100.0),
            "local_contrast": (0.0, 0.95),
            "local_contrast_sigma_mm": (0.0, 1e3),
            "film_contrast": (0.01, 50.0),
            "film_center": (0.05, 0.95),
            "gamma": (0.05, 20.0),
            "offset": (-1e9, 1e9),
        }
        for name, (lo, hi) in limits.items():
            if not lo <= getattr(self, name) <= hi:
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted is a number in [{lo}, {hi}]")
        for name in ("photons_per_pixel", "saturation", "gain"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted is a number above 0")
        if len(self.collimation) != 4 or not all(0 <= share < 0.5 for share in self.collimation):
            raise ValueError(f"collimation: got {self.collimation}, accepted are (top, bottom, left, right) shares in [0, 0.5)")
        if self.tone not in TONES:
            raise ValueError(f"tone: got {self.tone!r}, accepted are {', '.join(TONES)}")
        if self.bits not in (None, 8, 10, 12, 16):
            raise ValueError(f"bits: got {self.bits}, accepted are None, 8, 10, 12 and 16")


def acquire(line_integral: Tensor, pixel_mm: float, model: DetectorModel, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Line integrals -> the image that `model` would give.

    line_integral: (V, H, W) floating point; below 0 counts as 0.
    pixel_mm: distance of pixel centres at the detector, rows and columns alike.
    generator: of this sample alone, on any device; it is used for quantum noise only.
    Returns pixel_value (V, H, W) and valid (V, H, W) bool = inside the collimation.
    """
    if line_integral.ndim != 3 or not line_integral.is_floating_point():
        raise ValueError(
            f"line_integral: got {line_integral.dtype} {tuple(line_integral.shape)}, accepted is floating point (V, H, W)"
        )
    if not 0 < pixel_mm < math.inf:
        raise ValueError(f"pixel_mm: got {pixel_mm}, accepted is a length above 0 mm")
    valid = _inside_collimation(line_integral, model)
    transmission = _expose(line_integral.clamp_min(0.0), valid, pixel_mm, model, generator)
    signal = _process(transmission, valid, pixel_mm, model)
    pixel_value = model.offset + model.gain * signal
    if model.bits is not None:
        white = 2**model.bits - 1
        pixel_value = (pixel_value * white).round().clamp(0, white)
    return pixel_value, valid


def random_detector(generator: torch.Generator, strength: float = 1.0) -> DetectorModel:
    """A detector to train with, as its images reach the network once they are read: dense = bright, logarithm taken.

    Half are flat panels ("log": line integrals up to gain and offset), half processed films. Feed `acquire`'s image to
    `standardize.standardize` as it is.
    strength: 0 gives the ideal flat panel, 1 the full range from a good flat panel to a poor portable or fluoroscopic image;
    between, unsharpness, scatter, noise SD, hardening and collimation shrink in proportion and films become rarer.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength: got {strength}, accepted is a number in [0, 1]")
    if strength == 0.0:
        return DetectorModel(tone="log", bright_is_dense=True)
    draws = iter(torch.rand(32, generator=generator, device=generator.device).tolist())

    def uniform(lo: float, hi: float) -> float:
        return lo + (hi - lo) * next(draws)

    def chance(probability: float) -> bool:
        return next(draws) < probability

    beam = DetectorModel(
        bright_is_dense=True,
        beam_hardening=strength * uniform(0.0, 0.05),
        photons_per_pixel=10.0 ** uniform(4.7, 7.0) / strength**2,
        scatter_fraction=strength * uniform(0.0, 0.6),  # with a grid 0.1 to 0.4, without 0.5 to 0.8
        scatter_sigma_mm=uniform(20.0, 60.0),
        focal_blur_mm=strength * uniform(0.0, 1.0),
        detector_blur_mm=strength * uniform(0.0, 0.5),
    )
    sides = [strength * uniform(0.0, 0.2) for _ in range(4)]
    if chance(0.5):
        beam = replace(beam, collimation=(sides[0], sides[1], sides[2], sides[3]))
    if not chance(0.5 * strength):
        return replace(beam, tone="log", gain=uniform(0.5, 1.2), bits=12 if chance(0.5) else 16)
    return replace(
        beam,
        tone="film",
        local_contrast=uniform(0.0, 0.7),
        local_contrast_sigma_mm=uniform(20.0, 60.0),
        film_contrast=uniform(0.5, 6.0),
        film_center=uniform(0.35, 0.65),
        gamma=math.exp(uniform(-0.3, 0.3)),
        gain=uniform(0.7, 1.1),
        offset=uniform(-0.05, 0.15),
        bits=8 if chance(0.5) else 12,
    )


def _inside_collimation(image: Tensor, model: DetectorModel) -> Tensor:
    """(V, H, W) bool, False behind the collimator's leaves."""
    height, width = image.shape[-2:]
    top, bottom, left, right = (round(s * n) for s, n in zip(model.collimation, (height, height, width, width), strict=True))
    valid = torch.zeros_like(image, dtype=torch.bool)
    valid[..., top : height - bottom, left : width - right] = True
    return valid


def _expose(line_integral: Tensor, valid: Tensor, pixel_mm: float, model: DetectorModel, generator: torch.Generator) -> Tensor:
    """Line integrals (V, H, W) -> transmission (V, H, W) that the detector reports."""
    primary = torch.exp(-line_integral / (1.0 + model.beam_hardening * line_integral)) * valid
    scatter_to_primary = model.scatter_fraction / (1.0 - model.scatter_fraction)
    scatter_source = primary * line_integral * (scatter_to_primary / REFERENCE_LINE_INTEGRAL)
    transmission = gaussian_blur(primary, model.focal_blur_mm, pixel_mm)
    if model.scatter_fraction > 0:
        transmission = transmission + gaussian_blur(scatter_source, model.scatter_sigma_mm, pixel_mm)
    if math.isfinite(model.photons_per_pixel):
        transmission = _add_quantum_noise(transmission, model.photons_per_pixel, generator)
    return gaussian_blur(transmission, model.detector_blur_mm, pixel_mm).clamp_max(model.saturation)


def _add_quantum_noise(transmission: Tensor, photons_per_pixel: float, generator: torch.Generator) -> Tensor:
    """Poisson counts by the normal approximation of their square root (Anscombe 1948).

    With z ~ N(0, 1), (sqrt(n) + z / 2)^2 - 1/4 has mean n and variance n + 1/8, is skewed like a count, and needs one draw per
    pixel on any device. Less than half a photon is not told from half a photon, so that the logarithm exists.
    """
    z = torch.randn(transmission.shape, generator=generator, device=generator.device, dtype=torch.float32).to(transmission)
    counts = ((transmission * photons_per_pixel).sqrt() + 0.5 * z).square() - 0.25
    return counts.clamp_min(0.5) / photons_per_pixel


def _process(transmission: Tensor, valid: Tensor, pixel_mm: float, model: DetectorModel) -> Tensor:
    """Transmission (V, H, W) -> signal before gain and offset; "log" and "film" lie in [0, 1]."""
    attenuation = -transmission.clamp_min(MIN_TRANSMISSION).log()
    if model.tone == "linear":
        signal = transmission
    elif model.tone == "log":
        signal = 1.0 - attenuation.clamp(0.0, LOG_RANGE) / LOG_RANGE
    else:
        signal = 1.0 - _film(attenuation, valid, pixel_mm, model)
    if model.gamma != 1.0:
        signal = signal.clamp_min(0.0) ** model.gamma
    return 1.0 - signal if model.bright_is_dense else signal


def _film(attenuation: Tensor, valid: Tensor, pixel_mm: float, model: DetectorModel) -> Tensor:
    """Attenuation (V, H, W) -> film signal (V, H, W) in [0, 1], dense = high."""
    if model.local_contrast > 0:
        sigma = model.local_contrast_sigma_mm
        weight = gaussian_blur(valid.to(attenuation), sigma, pixel_mm).clamp_min(1e-6)
        attenuation = attenuation - model.local_contrast * gaussian_blur(attenuation * valid, sigma, pixel_mm) / weight
    low, high = quantiles(attenuation, valid, (0.01, 0.99))
    window = ((attenuation - low) / (high - low).clamp_min(1e-6)).clamp(0.0, 1.0)
    slope, center = model.film_contrast, model.film_center
    foot, shoulder = (1.0 / (1.0 + math.exp(-slope * (end - center))) for end in (0.0, 1.0))
    return (torch.sigmoid(slope * (window - center)) - foot) / (shoulder - foot)
