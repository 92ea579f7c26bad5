"""An X-ray image with its geometry: the form in which every radiograph, real or rendered, enters Diff2CT.

Reading and writing is split by format: `radiograph_dicom`, `radiograph_image`. What neither the file nor the caller tells is
taken from `assumptions`, listed in `Radiograph.assumed` and explained in `Radiograph.reasons`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from diff2ct.examination import NOT_TOLD, Examination
from diff2ct.geometry import Beam, View


@dataclass(frozen=True, eq=False)
class Radiograph:
    """Line integrals on a detector. Valid from birth.

    line_integral: (H, W) float32, finite, larger = more attenuating. -ln(I / I0), no unit, if `scale_known`; else up to an
        unknown gain > 0 and offset.
    geometry: cone, fan or parallel beam with detector_size (H, W).
    valid: (H, W) bool, False where the collimator or a shutter hides the patient. None stands for all True.
    scale_known: see line_integral.
    assumed: names of the facts about geometry and intensity that nobody measured, such as "source_to_detector_mm".
    source: file name or another word for where it came from.
    warnings: sentences about what may spoil the result, beside what is assumed.
    examination: of which patient and when, as far as the file tells and two can be compared.
    reasons: for names in `assumed`, why the value is what it is and what follows if it is wrong; see `told`.
    """

    line_integral: np.ndarray
    geometry: Beam
    valid: np.ndarray = None  # type: ignore[assignment]  # an array after __post_init__
    scale_known: bool = False
    assumed: tuple[str, ...] = ()
    source: str = ""
    warnings: tuple[str, ...] = ()
    examination: Examination = NOT_TOLD
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = f"{self.source}: " if self.source else ""
        image = np.ascontiguousarray(self.line_integral, dtype=np.float32)
        if image.ndim != 2 or image.size == 0:
            raise ValueError(f"{name}line_integral has shape {image.shape}, accepted is an image (H, W)")
        if image.shape != self.geometry.detector_size:
            size = self.geometry.detector_size
            raise ValueError(f"{name}line_integral has shape {image.shape}, the geometry's detector_size is {size}")
        if not np.isfinite(image).all():
            raise ValueError(f"{name}{int((~np.isfinite(image)).sum())} pixels are NaN or infinite, accepted are finite values")
        valid = np.ones(image.shape, bool) if self.valid is None else np.ascontiguousarray(self.valid, dtype=bool)
        if valid.shape != image.shape:
            raise ValueError(f"{name}valid has shape {valid.shape}, accepted is the image's {image.shape}")
        if not valid.any():
            raise ValueError(f"{name}no pixel is valid: collimator or shutter hide the whole image")
        if np.ptp(image[valid]) == 0:
            raise ValueError(f"{name}the image is constant, every pixel has the value {image[valid][0]:g}")
        for key, value in (
            ("line_integral", image),
            ("valid", valid),
            ("assumed", tuple(self.assumed)),
            ("warnings", tuple(self.warnings)),
        ):
            object.__setattr__(self, key, value)

    def resized(self, *, patient_spacing_mm: float | None = None, max_pixels: int | None = None) -> Radiograph:
        """Down-sampled by area averaging, so that no detail aliases; never up-sampled.

        patient_spacing_mm: wanted pixel size at the isocentre; the nearest one that keeps the edges of the image in place is
            used.
        max_pixels: most pixels along the longer side.
        The average leaves out invalid pixels; a new pixel is valid if more than half of its area was.
        """
        if (patient_spacing_mm is None) == (max_pixels is None):
            got = f"patient_spacing_mm={patient_spacing_mm}, max_pixels={max_pixels}"
            raise ValueError(f"resized: got {got}, accepted is exactly one of them")
        if max_pixels is not None and max_pixels < 2:
            raise ValueError(f"max_pixels: got {max_pixels}, accepted is 2 or more")
        size_mm = [n * s for n, s in zip(self.line_integral.shape, self.geometry.patient_spacing_mm, strict=True)]
        if patient_spacing_mm is None:
            patient_spacing_mm = max(size_mm) / int(max_pixels or 2)
        if not 0 < patient_spacing_mm < math.inf:
            raise ValueError(f"patient_spacing_mm: got {patient_spacing_mm}, accepted is a length above 0 mm")
        height, width = (
            min(n, max(2, round(mm / patient_spacing_mm))) for n, mm in zip(self.line_integral.shape, size_mm, strict=True)
        )
        if (height, width) == self.line_integral.shape:
            return self
        image, share = _area_means(self.line_integral, (height, width)), np.ones((height, width), np.float32)
        if not self.valid.all():
            share = _area_means(self.valid.astype(np.float32), (height, width))
            masked = _area_means(np.where(self.valid, self.line_integral, np.float32(0.0)), (height, width))
            seen = share > 1e-3
            image = np.where(seen, masked / np.where(seen, share, 1.0), image)
        return replace(self, line_integral=image, valid=share > 0.5, geometry=resized_beam(self.geometry, (height, width)))


@dataclass(frozen=True)
class ReadOptions:
    """What the caller of `read_radiograph` states, as explained there."""

    view: View | str | None
    geometry: Beam | Mapping[str, Any] | None
    frame: int | None
    polarity: str
    intensity: str
    invalid_value: float | None
    visible: Sequence[int] | None

    def __post_init__(self) -> None:
        for name, value, accepted in (
            ("polarity", self.polarity, ("auto", "bright_dense", "dark_dense")),
            ("intensity", self.intensity, ("auto", "log", "transmission")),
        ):
            if value not in accepted:
                raise ValueError(f"{name}: got {value!r}, accepted are {', '.join(map(repr, accepted))}")

    @property
    def states_shades(self) -> bool:
        """Whether they tell how pixel values follow the line integrals, which a file with its scale knows itself."""
        return (self.polarity, self.intensity) != ("auto", "auto")


def read_radiograph(
    path: str | Path,
    *,
    view: View | str | None = None,
    geometry: Beam | Mapping[str, Any] | None = None,
    frame: int | None = None,
    polarity: str = "auto",
    intensity: str = "auto",
    invalid_value: float | None = None,
    visible: Sequence[int] | None = None,
) -> Radiograph:
    """A radiograph from DICOM (CR, DX, RF, XA, CT scout), PNG, JPEG, TIFF, NRRD, NIfTI, MetaImage or NumPy.

    view: AP, PA, LL or RL, where the file does not tell it.
    geometry: a whole beam, or some of its fields as for `geometry.beam_from_dict`. It wins over the file, with a warning.
    frame: which one of a multi-frame file, from 0.
    polarity: "bright_dense" if bone is shown bright, "dark_dense" if dark, "auto" to read it or to assume and say so.
    intensity: "log" if values are proportional to line integrals, "transmission" if to the X-ray intensity behind the patient.
    invalid_value: stored value of a border that does not see the patient.
    visible: (top, bottom, left, right), first and last row and column of the image that see the patient, from 0. As stored in a
        DICOM file, upright in a picture. Both add to what the file itself marks.

    Raises ValueError naming the file if it cannot be read or if the view is unknown.
    """
    path = Path(path)
    options = ReadOptions(view, geometry, frame, polarity, intensity, invalid_value, visible)
    try:
        return _read(path, options)
    except OSError as error:  # no permission, a drive that went away
        raise ValueError(f"{path.name}: cannot be read ({error.strerror or error})") from error


def read_beam(
    path: str | Path,
    *,
    view: View | str | None = None,
    geometry: Beam | Mapping[str, Any] | None = None,
    frame: int | None = None,
) -> tuple[Beam, tuple[str, ...]]:
    """(geometry, what is assumed of it) of a DICOM file, as `read_radiograph` finds them; quick, as no pixels are decoded.

    Raises ValueError naming the file if it cannot be read, is not DICOM, or if the view is unknown.
    """
    from diff2ct.image_file import check_file, is_dicom
    from diff2ct.radiograph_dicom import read_dicom_beam

    path = Path(path)
    try:
        check_file(path)
        if not is_dicom(path):
            raise ValueError(f"{path.name}: not a DICOM file")
        return read_dicom_beam(path, ReadOptions(view, geometry, frame, "auto", "auto", None, None))
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read ({error.strerror or error})") from error


def _read(path: Path, options: ReadOptions) -> Radiograph:
    """By the reader that the file needs; pydicom and SimpleITK come with it: drawing a geometry needs neither."""
    from diff2ct.image_file import check_file, is_dicom, suffix_of
    from diff2ct.radiograph_image import IMAGE_SUFFIXES, read_image_radiograph

    check_file(path)
    dicom = is_dicom(path)  # whatever it is called: as a picture it would lose its header
    if not dicom and suffix_of(path) in IMAGE_SUFFIXES:
        return read_image_radiograph(path, options)
    if not dicom and suffix_of(path) not in ("", ".dcm", ".dicom", ".ima"):
        raise ValueError(f"{path.name}: not a radiograph, accepted are DICOM, {', '.join(IMAGE_SUFFIXES)}")
    from diff2ct.radiograph_dicom import read_dicom_radiograph

    return read_dicom_radiograph(path, options)


def write_radiograph(radiograph: Radiograph, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes .dcm (derived DICOM), .png (16 bit), .nrrd or .npy (float32), all but DICOM with a JSON file beside it.

    Read back by `read_radiograph`, geometry, mask and assumptions are exactly the same, line integrals to 1e-4 of their range.
    """
    from diff2ct.image_file import suffix_of

    path = Path(path)
    if suffix_of(path) == ".dcm":
        from diff2ct.radiograph_dicom_write import write_dicom_radiograph

        write_dicom_radiograph(radiograph, path, overwrite=overwrite)
    elif suffix_of(path) in (".png", ".nrrd", ".npy"):
        from diff2ct.radiograph_image import write_image_radiograph

        write_image_radiograph(radiograph, path, overwrite=overwrite)
    else:
        raise ValueError(f"{path.name}: suffix {suffix_of(path)!r} cannot be written, accepted are .dcm, .png, .nrrd, .npy")


def _area_means(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 -> `size`, no larger: means over the areas of the new pixels."""
    for axis, new_count in enumerate(size):
        count = image.shape[axis]
        edges = np.arange(new_count + 1) * count  # between new pixels, in shares 1 / new_count of an old one
        first, shares = edges // new_count, (edges % new_count / new_count).astype(np.float32)
        old = np.moveaxis(image, axis, 0)
        cut = shares[:, None] * old[first.clip(max=count - 1)]  # what lies before each edge of the old pixel that it cuts
        whole = np.add.reduceat(old, first[:-1], axis=0)
        image = np.moveaxis((whole - cut[:-1] + cut[1:]) * np.float32(new_count / count), 0, axis)
    return image


def resized_beam(beam: Beam, size: tuple[int, int]) -> Beam:
    """The same detector cut into `size` pixels: its edges, at -0.5 and n - 0.5 pixels, stay where they are."""
    factors = [n / m for n, m in zip(beam.detector_size, size, strict=True)]
    row_mm, column_mm = (s * f for s, f in zip(beam.detector_spacing_mm, factors, strict=True))
    row0, column0 = ((p + 0.5) / f - 0.5 for p, f in zip(beam.principal_point, factors, strict=True))
    return replace(beam, detector_size=size, detector_spacing_mm=(row_mm, column_mm), principal_point=(row0, column0))
