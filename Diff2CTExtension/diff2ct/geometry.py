"""Where the X-ray source, the detector and the patient are. World: patient LPS, mm, float64.

Frames and signs
----------------
* LPS: +x to the patient's left, +y to the back (posterior), +z to the head (superior).
* The isocentre is the point around which both views turn; the reconstruction cube is centred on it.
* Angles are DICOM's positioner angles (PS3.3 C.8.7.5): they place the *detector* around the patient. Primary 0 = detector in
  front of the chest (a PA beam), +90 = detector on the patient's left (LAO), 180 = detector behind (an AP beam). Secondary > 0
  = detector toward the head (cranial).
* Image arrays are (H, W) = (rows, columns); pixel (0, 0) is the centre of the top left pixel; rows go down.
* Displayed orientation: frontal views have the patient's left on the image's right, lateral views have the front of the patient
  on the image's left, as radiologists hang them. `mirrored` says that this is the view from the source instead of the detector.

A beam is reduced to one 3x4 matrix `lps_to_pixel`; everything else (projector, condition, overlays) needs only that.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar

import numpy as np


class View(StrEnum):
    """DICOM View Position (0018,5101). AP: the beam enters at the front. LL: the left side lies against the detector."""

    AP = "AP"
    PA = "PA"
    LL = "LL"
    RL = "RL"

    @property
    def is_lateral(self) -> bool:
        return self in (View.LL, View.RL)

    @classmethod
    def parse(cls, name: str) -> View:
        """View from its DICOM or everyday name; "LAT" and "LATERAL" are refused as they do not tell the side."""
        try:
            return cls(str(name).strip().upper())
        except ValueError:
            raise ValueError(f"view: got {name!r}, accepted are {', '.join(v.value for v in cls)}") from None


_ANGLE_AND_MIRROR = {View.PA: (0.0, False), View.AP: (180.0, True), View.LL: (90.0, False), View.RL: (-90.0, True)}


@dataclass(frozen=True, kw_only=True)
class _Beam:
    """What cone and parallel beams share: the detector and how it is turned about the isocentre.

    detector_spacing_mm: (row, column) distance between pixel centres, at the detector.
    detector_size: (H, W) in pixels.
    primary_angle_deg, secondary_angle_deg: DICOM positioner angles, see the module text.
    roll_deg: the detector is turned about the beam axis so that the patient appears turned counter-clockwise by this angle.
    mirrored: True if the image is displayed as seen from the source, False if as seen from the detector.
    principal_point: (row, column) index of the pixel that the axis through the isocentre meets; default: detector centre.
    isocenter_lps: (x, y, z) of the isocentre [mm].
    """

    detector_spacing_mm: tuple[float, float]
    detector_size: tuple[int, int]
    primary_angle_deg: float
    secondary_angle_deg: float = 0.0
    roll_deg: float = 0.0
    mirrored: bool = False
    principal_point: tuple[float, float] = None  # type: ignore[assignment]  # two numbers after __post_init__
    isocenter_lps: tuple[float, float, float] = (0.0, 0.0, 0.0)

    KIND: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.principal_point is None:
            height, width = self.detector_size  # type: ignore[unreachable]
            object.__setattr__(self, "principal_point", ((height - 1) / 2, (width - 1) / 2))
        for name, count in (("detector_spacing_mm", 2), ("principal_point", 2), ("isocenter_lps", 3)):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) != count or not np.all(np.isfinite(value)):
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted are {count} finite numbers")
            object.__setattr__(self, name, value)
        if min(self.detector_spacing_mm) <= 0:
            raise ValueError(f"detector_spacing_mm: got {self.detector_spacing_mm}, accepted are two lengths above 0 mm")
        size = tuple(int(n) for n in self.detector_size)
        if len(size) != 2 or min(size) < 2:
            raise ValueError(f"detector_size: got {self.detector_size}, accepted is (H, W) with at least 2 x 2 pixels")
        object.__setattr__(self, "detector_size", size)
        for name in ("primary_angle_deg", "secondary_angle_deg", "roll_deg"):
            angle = float(getattr(self, name))
            if not abs(angle) <= 360:  # nor NaN
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted is an angle in [-360, 360] degrees")
            object.__setattr__(self, name, angle)

    @classmethod
    def from_view(cls, view: View, **kwargs: Any) -> Any:
        """The beam of a standard view (no tilt, standard display); all other fields as keywords."""
        primary_angle_deg, mirrored = _ANGLE_AND_MIRROR[View(view)]
        return cls(**{"primary_angle_deg": primary_angle_deg, "mirrored": mirrored, **kwargs})

    @property
    def view(self) -> View:
        """The standard view nearest to the primary angle."""
        quarter = round(self.primary_angle_deg / 90.0) % 4
        return (View.PA, View.LL, View.AP, View.RL)[quarter]

    @property
    def toward_detector(self) -> np.ndarray:
        """Unit vector (3,) from the isocentre to the detector, LPS."""
        a, b = math.radians(self.primary_angle_deg), math.radians(self.secondary_angle_deg)
        return np.array([math.cos(b) * math.sin(a), -math.cos(b) * math.cos(a), math.sin(b)])

    @property
    def detector_axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (3,) along increasing column and along increasing row, LPS."""
        a, b = math.radians(self.primary_angle_deg), math.radians(self.secondary_angle_deg)
        head = np.array([-math.sin(b) * math.sin(a), math.sin(b) * math.cos(a), math.cos(b)])
        right = np.cross(-self.toward_detector, head)  # of somebody who looks from the detector to the source
        if self.mirrored:
            right = -right
        c, s = math.cos(math.radians(self.roll_deg)), math.sin(math.radians(self.roll_deg))
        return c * right - s * head, -(c * head + s * right)

    @property
    def source_lps(self) -> np.ndarray:
        raise AttributeError(f"{type(self).__name__} has no source point")

    @property
    def lps_to_pixel(self) -> np.ndarray:
        """(3, 4): [x, y, z, 1] [mm] -> [column * w, row * w, w]. w is the depth from the source [mm], or 1 for parallel
        rays."""
        raise AttributeError(f"{type(self).__name__} has no projection matrix")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the class in "kind"; `beam_from_dict` is the inverse."""
        return {"kind": self.KIND, **asdict(self)}

    def project_points(self, points_lps: np.ndarray) -> np.ndarray:
        """Points (..., 3) [mm] -> (..., 2) pixel positions (row, column)."""
        points = np.asarray(points_lps, dtype=np.float64)
        q = points @ self.lps_to_pixel[:, :3].T + self.lps_to_pixel[:, 3]
        return np.stack([q[..., 1] / q[..., 2], q[..., 0] / q[..., 2]], axis=-1)


@dataclass(frozen=True, kw_only=True)
class ConeBeam(_Beam):
    """A point source and a flat detector.

    source_to_detector_mm: DICOM (0018,1110), the clinical SID.
    source_to_isocenter_mm: the clinical SOD; DICOM (0018,1111), except in DX, where that ends at the table or bucky.
    Others: see `_Beam`.

    >>> ap = ConeBeam.from_view(View.AP, source_to_detector_mm=1000, source_to_isocenter_mm=800,
    ...                         detector_spacing_mm=(1, 1), detector_size=(401, 301))
    >>> ap.project_points([[80.0, 0.0, 0.0]])  # 80 mm to the patient's left, at the isocentre: 100 mm right of the middle
    array([[200., 250.]])
    """

    source_to_detector_mm: float
    source_to_isocenter_mm: float

    KIND: ClassVar[str] = "cone"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.source_to_isocenter_mm < self.source_to_detector_mm < math.inf:
            got = f"{self.source_to_detector_mm}, {self.source_to_isocenter_mm}"
            raise ValueError(
                f"source_to_detector_mm, source_to_isocenter_mm: got {got}, "
                "accepted is 0 < source_to_isocenter_mm < source_to_detector_mm"
            )

    @property
    def magnification(self) -> float:
        """Size on the detector / size at the isocentre, DICOM (0018,1114)."""
        return self.source_to_detector_mm / self.source_to_isocenter_mm

    @property
    def source_lps(self) -> np.ndarray:
        """(3,) position of the focal spot [mm]."""
        return np.array(self.isocenter_lps) - self.source_to_isocenter_mm * self.toward_detector

    @property
    def lps_to_pixel(self) -> np.ndarray:
        d, (u, v) = self.toward_detector, self.detector_axes
        row0, column0 = self.principal_point
        row_mm, column_mm = self.detector_spacing_mm
        m = np.stack([
            self.source_to_detector_mm / column_mm * u + column0 * d,
            self.source_to_detector_mm / row_mm * v + row0 * d,
            d,
        ])  # fmt: skip
        return np.concatenate([m, -m @ self.source_lps[:, None]], axis=1)

    def pixel_to_lps(self, row_column: np.ndarray) -> np.ndarray:
        """Pixel positions (..., 2) (row, column) -> (..., 3) points on the detector plane [mm]."""
        rc = np.asarray(row_column, dtype=np.float64)
        u, v = self.detector_axes
        center = self.source_lps + self.source_to_detector_mm * self.toward_detector
        along_u = (rc[..., 1:] - self.principal_point[1]) * self.detector_spacing_mm[1]
        along_v = (rc[..., :1] - self.principal_point[0]) * self.detector_spacing_mm[0]
        return center + along_u * u + along_v * v


@dataclass(frozen=True, kw_only=True)
class ParallelBeam(_Beam):
    """Parallel rays, as the paper's replication of the X-ray along an axis assumes. Detector spacing equals patient spacing."""

    KIND: ClassVar[str] = "parallel"

    magnification: ClassVar[float] = 1.0

    @property
    def lps_to_pixel(self) -> np.ndarray:
        u, v = self.detector_axes
        row0, column0 = self.principal_point
        row_mm, column_mm = self.detector_spacing_mm
        center = np.array(self.isocenter_lps)
        return np.array([
            [*(u / column_mm), column0 - center @ u / column_mm],
            [*(v / row_mm), row0 - center @ v / row_mm],
            [0.0, 0.0, 0.0, 1.0],
        ])  # fmt: skip


Beam = ConeBeam | ParallelBeam


def beam_from_dict(values: dict[str, Any]) -> Beam:
    """Beam from `to_dict` or a hand-written JSON object. "view" may stand for the angles; unknown and missing keys are
    named."""
    given = dict(values)
    kind = given.pop("kind", "cone")
    classes: dict[str, type[ConeBeam] | type[ParallelBeam]] = {"cone": ConeBeam, "parallel": ParallelBeam}
    if kind not in classes:
        raise ValueError(f"kind: got {kind!r}, accepted are 'cone' and 'parallel'")
    view = given.pop("view", None)
    if view is not None:
        angle, mirrored = _ANGLE_AND_MIRROR[View.parse(view)]
        given = {"primary_angle_deg": angle, "mirrored": mirrored, **given}
    names = {f.name for f in fields(classes[kind])}
    unknown = sorted(set(given) - names)
    if unknown:
        raise ValueError(f"geometry: unknown {', '.join(unknown)}; accepted are {', '.join(sorted(names))}, view, kind")
    optional = {"secondary_angle_deg", "roll_deg", "mirrored", "principal_point", "isocenter_lps"}
    missing = sorted(names - optional - set(given))
    if missing:
        raise ValueError(f"geometry: {', '.join(missing)} missing; a {kind} beam needs {', '.join(sorted(names - optional))}")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return classes[kind](**arguments)


def angle_between_deg(first: Beam, second: Beam) -> float:
    """Angle between the two central rays in [0, 90] degrees; 90 for a biplanar pair."""
    cosine = abs(float(first.toward_detector @ second.toward_detector))
    return math.degrees(math.acos(min(1.0, cosine)))
