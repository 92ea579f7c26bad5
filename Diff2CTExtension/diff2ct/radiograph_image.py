"""Radiographs in ordinary image files: PNG, JPEG, TIFF, NRRD, NIfTI, MetaImage, NumPy, with geometry from a JSON file beside.

The side file is `<file>.json` or `<stem>.json`: the keys of `geometry.beam_from_dict` and, all optional,
    "polarity": "bright_dense" | "dark_dense", "intensity": "log" | "transmission": as in `read_radiograph`
    "scale": {"slope": .., "intercept": ..}: line integral = slope * stored value + intercept; replaces polarity and intensity
    "scale_known": false if that line integral still has an unknown gain and offset
    "invalid_value": stored value of pixels that do not see the patient
    "visible": [top, bottom, left, right], first and last row and column that see the patient
    "assumed": names of facts in this file that nobody measured
    "comment": free text
Rows and columns are taken as stored, but a JPEG or TIFF whose orientation tag says that it lies on its side or is mirrored is
turned upright, with a warning; the side file's facts are those of the upright image. "bright" means as shown: low values in
a TIFF whose tag says that 0 is white. An orientation in the header of a volume format says nothing about a projection.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import SimpleITK as sitk

from diff2ct.assumptions import (
    BRIGHT_BONE,
    FILM,
    LOG_INTENSITY,
    FrameNotStatedError,
    is_number,
    overrule,
    resolve_beam,
    stated_geometry,
    with_earlier_assumptions,
)
from diff2ct.atomic import replacing_file
from diff2ct.exif import TURNS, UPRIGHT, upright
from diff2ct.image_file import orientation_of, read_image, shows_zero_white, suffix_of, write_image
from diff2ct.pixel_values import saturation_warnings, to_line_integral
from diff2ct.radiograph import Radiograph, ReadOptions
from diff2ct.visible import missing_value_warnings, stated_visible

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nrrd", ".nii", ".nii.gz", ".mha", ".npy")

_WITH_SPACING = (".tif", ".tiff", ".nrrd", ".nii", ".nii.gz", ".mha")
_WITH_ORIENTATION = (".jpg", ".jpeg", ".tif", ".tiff")
_SCREEN_DPI = (72.0, 96.0)
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
_EXACT_DIGITS = 6
_BESIDE_GEOMETRY: dict[str, Callable[[Any], bool]] = {
    "polarity": lambda value: value in ("bright_dense", "dark_dense"),
    "intensity": lambda value: value in ("log", "transmission"),
    "scale": lambda value: isinstance(value, dict) and is_number(value.get("slope")) and is_number(value.get("intercept")),
    "scale_known": lambda value: isinstance(value, bool),
    "invalid_value": is_number,
    "visible": lambda value: isinstance(value, list),
    "assumed": lambda value: isinstance(value, list) and all(isinstance(fact, str) for fact in value),
    "comment": lambda value: isinstance(value, str),
}
"""Keys of the side file that are not geometry, each with the check of its value."""


def read_image_radiograph(path: Path, options: ReadOptions) -> Radiograph:
    """See `radiograph.read_radiograph`."""
    name = path.name
    side = _read_side_file(path)
    pixels, is_inverted, header, warnings = _read_pixels(path, options.frame)
    argument = stated_geometry(name, options.geometry, options.view)
    stated, found = overrule(argument, _side_geometry(path, side), header)
    beam, reasons, more = resolve_beam(name, pixels.shape, stated=stated, found=found, setup=FILM)
    warnings += more
    if header and "detector_spacing_mm" not in stated:
        spacing = header["detector_spacing_mm"]
        warnings.append(f"{name}: pixel spacing taken from header, {spacing[0]:g} x {spacing[1]:g} mm, as one at the detector")
    valid = stated_visible(name, pixels, side.get("invalid_value"), side.get("visible"))
    valid &= stated_visible(name, pixels, options.invalid_value, options.visible)
    warnings += missing_value_warnings(name, pixels, options.invalid_value)
    reasons = with_earlier_assumptions(side.get("assumed", []), reasons, argument)
    if "scale" in side:
        if options.states_shades:
            raise ValueError(f"{name}: its side file states the scale, so polarity and intensity must be 'auto'")
        line_integral = _scaled(name, pixels, valid, side["scale"])
    else:
        polarity = options.polarity if options.polarity != "auto" else side.get("polarity", "auto")
        intensity = options.intensity if options.intensity != "auto" else side.get("intensity", "auto")
        line_integral, guessed, more = _from_shades(name, pixels, valid, is_inverted, polarity, intensity)
        reasons, warnings = {**reasons, **guessed}, warnings + more
    return Radiograph(
        line_integral=line_integral,
        geometry=beam,
        valid=valid,
        scale_known="scale" in side and side.get("scale_known", True),
        assumed=tuple(reasons),
        source=name,
        warnings=tuple(warnings),
        reasons=reasons,
    )


def write_image_radiograph(radiograph: Radiograph, path: Path, *, overwrite: bool = False) -> None:
    """Writes .png (16 bit codes), .nrrd or .npy (float32, the latter uncompressed) and `<file>.json`."""
    image, valid = radiograph.line_integral, radiograph.valid
    side: dict[str, Any] = {
        **radiograph.geometry.to_dict(),
        "scale_known": radiograph.scale_known,
        "assumed": radiograph.assumed,
        "comment": "Diff2CT radiograph. Research use only - not for diagnosis",
    }
    if suffix_of(path) == ".png":
        stored, slope, intercept = to_codes(image, valid)
        side.update(scale={"slope": slope, "intercept": intercept}, invalid_value=0)
    else:
        marker = math.floor(float(image.min())) - 1.0
        stored = np.where(valid, image, np.float32(marker))
        side.update(scale={"slope": 1.0, "intercept": 0.0}, invalid_value=marker)
    with replacing_file(path.with_name(path.name + ".json"), overwrite=overwrite) as temporary_side:
        temporary_side.write_text(json.dumps(side, indent=1), encoding="utf-8")
        if suffix_of(path) == ".npy":
            with replacing_file(path, overwrite=overwrite) as temporary:
                np.save(temporary, stored)
            return
        itk_image = sitk.GetImageFromArray(stored)
        row_mm, column_mm = radiograph.geometry.detector_spacing_mm
        itk_image.SetSpacing((column_mm, row_mm))
        write_image(itk_image, path, overwrite=overwrite)


def to_codes(line_integral: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(codes, slope, intercept): uint16 1..65535 over the valid range, 0 where invalid; value = slope * code + intercept."""
    low, high = float(line_integral[valid].min()), float(line_integral[valid].max())
    slope = (high - low) / 65534.0
    codes = np.rint((line_integral.astype(np.float64).clip(low, high) - low) / slope) + 1.0
    return np.where(valid, codes, 0.0).astype(np.uint16), slope, low - slope


def _read_side_file(path: Path) -> dict[str, Any]:
    stem = path.name[: -len(suffix_of(path))]
    for candidate in (path.with_name(path.name + ".json"), path.with_name(stem + ".json")):
        if not candidate.is_file():
            continue
        try:
            side = json.loads(candidate.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError; brackets in brackets
            raise ValueError(f"{candidate.name}: not valid JSON ({error})") from error
        if not isinstance(side, dict):
            raise ValueError(f"{candidate.name}: holds {type(side).__name__}, accepted is a JSON object")
        for key, accepted in _BESIDE_GEOMETRY.items():
            if key in side and not accepted(side[key]):
                raise ValueError(f"{candidate.name}: {key} is {side[key]!r}, which is not accepted")
        return side
    return {}


def _side_geometry(path: Path, side: Mapping[str, Any]) -> dict[str, Any]:
    geometry = {key: value for key, value in side.items() if key not in _BESIDE_GEOMETRY}
    for slot in {"ap", "lateral"} & geometry.keys():
        raise ValueError(f"{path.name}.json: has {slot!r}, accepted beside a picture are the fields of that picture alone")
    for key in ("known_length", "landmarks"):
        if key in geometry:
            raise ValueError(f"{path.name}.json: has {key!r}, accepted only in a file with the geometry of both X-rays")
    return stated_geometry(f"{path.name}.json", geometry, None)


def _read_pixels(path: Path, frame: int | None) -> tuple[np.ndarray, bool, dict[str, Any], list[str]]:
    """(pixels (H, W), whether low values are shown bright, facts of the header, warnings)."""
    name, is_inverted = path.name, False
    if suffix_of(path) == ".npy":
        try:
            with path.open("rb") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, OSError, OverflowError, TokenError) as error:
            raise ValueError(f"{name}: cannot be read as a NumPy array (damaged, truncated or holding objects)") from error
        channels, found, orientation = 1, {}, UPRIGHT
    else:
        image = read_image(path)
        array, channels = sitk.GetArrayFromImage(image), image.GetNumberOfComponentsPerPixel()
        found = _header_spacing(suffix_of(path), image.GetSpacing())
        orientation = orientation_of(path) if suffix_of(path) in _WITH_ORIENTATION else UPRIGHT
        is_inverted = channels == 1 and shows_zero_white(path)  # what ITK cannot read as grey comes as shown, in RGBA
    if np.issubdtype(array.dtype, np.complexfloating) or array.dtype.kind not in "uif":
        raise ValueError(f"{name}: pixels of type {array.dtype}, accepted are real numbers")
    warnings: list[str] = []
    if channels > 1:
        array, warnings = _to_grey(name, array)
    array = _one_frame(name, array, frame)
    if orientation != UPRIGHT:
        array = upright(array, orientation)
        warnings.append(f"{name}: {TURNS[orientation]}, as its orientation tag ({orientation}) says; check left and right")
        if orientation >= 5 and found:
            found["detector_spacing_mm"] = found["detector_spacing_mm"][::-1]
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {int((~np.isfinite(array)).sum())} pixels are NaN or infinite")
    return array, is_inverted, found, warnings


def _header_spacing(suffix: str, spacing_mm: tuple[float, ...]) -> dict[str, Any]:
    """Spacing of volume formats and TIFF, unless it is what programs write for want of one: 1 mm, or a screen's dpi."""
    column_mm, row_mm = spacing_mm[:2]
    fillers = [1.0, *(25.4 / dpi for dpi in _SCREEN_DPI)] if suffix in (".tif", ".tiff") else [1.0]
    if suffix not in _WITH_SPACING or any(np.allclose((row_mm, column_mm), filler, rtol=1e-4) for filler in fillers):
        return {}
    return {"detector_spacing_mm": (row_mm, column_mm)}


def _to_grey(name: str, array: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(..., C) -> (...): the colour if all channels are equal, else the luminance. An alpha channel is left out."""
    if array.shape[-1] not in (2, 3, 4):
        raise ValueError(f"{name}: {array.shape[-1]} values per pixel, accepted are grey, RGB and RGBA")
    if array.shape[-1] == 2:  # grey and alpha
        return array[..., 0], []
    red, green, blue = (array[..., c] for c in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return red, []
    grey = sum(weight * channel for weight, channel in zip(_LUMINANCE, (red, green, blue), strict=True))
    grey = np.round(grey, _EXACT_DIGITS)  # the weights add up to one only nearly, and `invalid_value` is looked for exactly
    return np.asarray(grey), [f"{name}: converted from colour to grey by luminance; coloured annotations stay in the image"]


def _one_frame(name: str, array: np.ndarray, frame: int | None) -> np.ndarray:
    frames = array.reshape(-1, *array.shape[-2:]) if array.ndim >= 2 else None
    if frames is None or len(frames) == 0 or array.ndim > 3:
        raise ValueError(f"{name}: an array of shape {array.shape}, accepted is one image (H, W) or frames (N, H, W)")
    return frames[choose_frame(name, len(frames), frame)]


def choose_frame(name: str, count: int, frame: int | None) -> int:
    """Index of the wanted frame; FrameNotStatedError unless there is just one or `frame` says which."""
    if frame is None and count > 1:
        raise FrameNotStatedError(name, count)
    if not isinstance(frame, int | np.integer | None):
        raise ValueError(f"{name}: frame is {frame!r}, accepted is a whole number")
    if frame is not None and not 0 <= frame < count:
        raise ValueError(f"{name}: frame {frame} does not exist, accepted are 0 to {count - 1}")
    return frame or 0


def _scaled(name: str, pixels: np.ndarray, valid: np.ndarray, scale: Mapping[str, float]) -> np.ndarray:
    if scale["slope"] == 0:
        raise ValueError(f"{name}: the slope of the scale is 0")
    line_integral = pixels.astype(np.float64) * scale["slope"] + scale["intercept"]
    return line_integral.clip(line_integral[valid].min(), line_integral[valid].max()).astype(np.float32)


def _from_shades(
    name: str, pixels: np.ndarray, valid: np.ndarray, is_inverted: bool, polarity: str, intensity: str
) -> tuple[np.ndarray, dict[str, str], list[str]]:
    """(line integrals up to gain and offset, reason of what was assumed, warnings) from shades of grey."""
    reasons, warnings = {}, saturation_warnings(name, pixels, valid)
    if polarity == "auto":
        reasons["polarity"] = BRIGHT_BONE
    if intensity == "auto":
        reasons["intensity"] = LOG_INTENSITY
    highest = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "ui" else float(pixels[valid].max())
    try:
        line_integral = to_line_integral(
            pixels,
            valid,
            grows_with_attenuation=(polarity != "dark_dense") != is_inverted,
            logarithmic=intensity != "transmission",
            highest_value=highest,
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return line_integral, reasons, warnings
