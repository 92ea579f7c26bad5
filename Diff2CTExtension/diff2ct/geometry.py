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

A beam is reduced to one 4x4 matrix `lps_to_pixel`; everything else (projector, condition, overlays) needs only that.
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
        """View from "AP", "PA", "LL" or "RL" in any case; "LAT" and "LATERAL" are refused as they do not tell the side."""
        try:
            return cls(str(name).strip().upper())
        except ValueError:
            raise ValueError(f"view: got {name!r}, accepted are {', '.join(v.value for v in cls)}") from None


_ANGLE_AND_MIRROR = {View.PA: (0.0, False), View.AP: (180.0, True), View.LL: (90.0, False), View.RL: (-90.0, True)}


@dataclass(frozen=True, kw_only=True)
class _Beam:
    """What all beams share: the detector and how it is turned about the isocentre.

    detector_spacing_mm: (row, column) distance between pixel centres, at the detector; of rows that a scanning fan paints one
        after the other, how far it moves from one to the next.
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
        """(4, 4): [x, y, z, 1] [mm] -> [column * w, row * v, w, v]. w and v are the depth from the source [mm] where rays
        diverge in that direction, 1 where they do not: both for a cone, w for a scanning fan, neither for parallel rays."""
        raise AttributeError(f"{type(self).__name__} has no projection matrix")

    @property
    def patient_spacing_mm(self) -> tuple[float, float]:
        """(row, column) distance between pixel centres carried back to the isocentre."""
        raise AttributeError(f"{type(self).__name__} has no rays")

    def onto_plane(self, plane_to_lps: np.ndarray) -> np.ndarray:
        """(4, 4): [x, y, z, 1] [mm] -> [a * w, b * v, w, v] where the ray through a point meets a plane.

        plane_to_lps: (4, 3), [a, b, 1] of the plane -> [x, y, z, 1]; for a scanning fan b runs along the scan.
        """
        plane_to_pixel = (self.lps_to_pixel @ plane_to_lps)[:3]
        return (np.linalg.inv(plane_to_pixel) @ self.lps_to_pixel[:3])[[0, 1, 2, 2]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the class in "kind"; `beam_from_dict` is the inverse."""
        return {"kind": self.KIND, **asdict(self)}

    def project_points(self, points_lps: np.ndarray) -> np.ndarray:
        """Points (..., 3) [mm] -> (..., 2) pixel positions (row, column)."""
        points = np.asarray(points_lps, dtype=np.float64)
        q = points @ self.lps_to_pixel[:, :3].T + self.lps_to_pixel[:, 3]
        return np.stack([q[..., 1] / q[..., 3], q[..., 0] / q[..., 2]], axis=-1)


@dataclass(frozen=True, kw_only=True)
class _Diverging(_Beam):
    """A source at a finite distance.

    source_to_detector_mm: DICOM (0018,1110), the clinical SID.
    source_to_isocenter_mm: the clinical SOD; DICOM (0018,9402), or (0018,1111), except in DX, where that ends at the table or
        bucky.
    Others: see `_Beam`.
    """

    source_to_detector_mm: float
    source_to_isocenter_mm: float

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
        """(3,) position of the focal spot [mm]; of one that moves, while it passes the isocentre."""
        return np.array(self.isocenter_lps) - self.source_to_isocenter_mm * self.toward_detector

    def sources_lps(self, row_column: np.ndarray) -> np.ndarray:
        """Pixel positions (..., 2) (row, column) -> (..., 3) focal spots that they see [mm]."""
        return np.broadcast_to(self.source_lps, (*np.shape(row_column)[:-1], 3))

    def pixel_to_lps(self, row_column: np.ndarray) -> np.ndarray:
        """Pixel positions (..., 2) (row, column) -> (..., 3) points on the detector plane [mm]."""
        rc = np.asarray(row_column, dtype=np.float64)
        u, v = self.detector_axes
        center = self.source_lps + self.source_to_detector_mm * self.toward_detector
        along_u = (rc[..., 1:] - self.principal_point[1]) * self.detector_spacing_mm[1]
        along_v = (rc[..., :1] - self.principal_point[0]) * self.detector_spacing_mm[0]
        return center + along_u * u + along_v * v

    def _depth_row(self) -> np.ndarray:
        """(4,): [x, y, z, 1] -> depth from the source."""
        return np.append(self.toward_detector, -self.toward_detector @ self.source_lps)

    def _column_row(self) -> np.ndarray:
        """(4,): [x, y, z, 1] -> column * depth."""
        return self._diverging_row(self.detector_axes[0], self.detector_spacing_mm[1], self.principal_point[1])

    def _diverging_row(self, axis: np.ndarray, spacing_mm: float, middle: float) -> np.ndarray:
        along = self.source_to_detector_mm / spacing_mm * axis
        return np.append(along, -along @ self.source_lps) + middle * self._depth_row()


@dataclass(frozen=True, kw_only=True)
class ConeBeam(_Diverging):
    """A point source and a flat detector. Fields: see `_Diverging` and `_Beam`.

    >>> ap = ConeBeam.from_view(View.AP, source_to_detector_mm=1000, source_to_isocenter_mm=800,
    ...                         detector_spacing_mm=(1, 1), detector_size=(401, 301))
    >>> ap.project_points([[80.0, 0.0, 0.0]])  # 80 mm to the patient's left, at the isocentre: 100 mm right of the middle
    array([[200., 250.]])
    """

    KIND: ClassVar[str] = "cone"

    @property
    def lps_to_pixel(self) -> np.ndarray:
        row = self._diverging_row(self.detector_axes[1], self.detector_spacing_mm[0], self.principal_point[0])
        return np.stack([self._column_row(), row, self._depth_row(), self._depth_row()])

    @property
    def patient_spacing_mm(self) -> tuple[float, float]:
        row_mm, column_mm = self.detector_spacing_mm
        return row_mm / self.magnification, column_mm / self.magnification


@dataclass(frozen=True, kw_only=True)
class FanBeam(_Diverging):
    """A point source and a line of detectors that move along the body together and paint one row after the other: EOS, and the
    scout of a CT. Magnifies across the body and not along it (linear pushbroom camera: Gupta and Hartley, IEEE TPAMI 1997).

    detector_spacing_mm: (way of the source from one row to the next, distance between columns at the detector).
    secondary_angle_deg, roll_deg: 0, as the fan moves along the body axis. Others: see `_Diverging` and `_Beam`.

    >>> ap = FanBeam.from_view(View.AP, source_to_detector_mm=1000, source_to_isocenter_mm=800,
    ...                        detector_spacing_mm=(1, 1), detector_size=(401, 301))
    >>> ap.project_points([[80.0, 0.0, 0.0], [0.0, 0.0, 80.0]])  # 100 mm right of the middle; 80 mm above it
    array([[200., 250.],
           [120., 150.]])
    """

    KIND: ClassVar[str] = "fan"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("secondary_angle_deg", "roll_deg"):
            if getattr(self, name) != 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, accepted is 0 for a fan, which moves along the body axis")

    @property
    def lps_to_pixel(self) -> np.ndarray:
        along = self.detector_axes[1] / self.detector_spacing_mm[0]
        row = np.append(along, self.principal_point[0] - along @ self.isocenter_lps)
        return np.stack([self._column_row(), row, self._depth_row(), [0.0, 0.0, 0.0, 1.0]])

    @property
    def patient_spacing_mm(self) -> tuple[float, float]:
        row_mm, column_mm = self.detector_spacing_mm
        return row_mm, column_mm / self.magnification

    def sources_lps(self, row_column: np.ndarray) -> np.ndarray:
        rc = np.asarray(row_column, dtype=np.float64)
        return self.source_lps + (rc[..., :1] - self.principal_point[0]) * self.detector_spacing_mm[0] * self.detector_axes[1]

    def onto_plane(self, plane_to_lps: np.ndarray) -> np.ndarray:
        to_pixel, on_plane = self.lps_to_pixel, self.lps_to_pixel @ plane_to_lps
        if not np.allclose([on_plane[0, 1], on_plane[2, 1], on_plane[1, 0]], 0):
            raise ValueError("plane_to_lps: got a plane that lies across the scan, accepted is one whose b runs along it")
        across = np.linalg.inv(on_plane[[0, 2]][:, [0, 2]]) @ to_pixel[[0, 2]]  # the columns tell a, the rows b
        along = np.linalg.inv(on_plane[[1, 3]][:, [1, 2]]) @ to_pixel[[1, 3]]
        return np.stack([across[0], along[0], across[1], along[1]])


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
            [0.0, 0.0, 0.0, 1.0],
        ])  # fmt: skip

    @property
    def patient_spacing_mm(self) -> tuple[float, float]:
        return self.detector_spacing_mm


Beam = ConeBeam | FanBeam | ParallelBeam
BEAMS: dict[str, type[ConeBeam] | type[FanBeam] | type[ParallelBeam]] = {b.KIND: b for b in (ConeBeam, FanBeam, ParallelBeam)}


def as_kind(beam: Beam, kind: str) -> Beam:
    """The cone, fan or parallel beam that agrees with `beam` in the plane through the isocentre."""
    if kind not in BEAMS:
        raise ValueError(f"kind: got {kind!r}, accepted are {', '.join(BEAMS)}")
    if isinstance(beam, ParallelBeam) and kind != "parallel":
        raise ValueError(f"kind: got {kind!r} for parallel rays, which have no distances, accepted is 'parallel'")
    larger, (row_mm, column_mm) = beam.magnification, beam.patient_spacing_mm
    along, across = {"cone": (larger, larger), "fan": (1.0, larger), "parallel": (1.0, 1.0)}[kind]
    values = {**beam.to_dict(), "kind": kind, "detector_spacing_mm": (row_mm * along, column_mm * across)}
    if kind == "parallel":
        for name in ("source_to_detector_mm", "source_to_isocenter_mm"):
            values.pop(name, None)
    return beam_from_dict(values)


def beam_from_dict(values: dict[str, Any]) -> Beam:
    """Beam from `to_dict` or a hand-written JSON object. "view" may stand for the angles; unknown and missing keys are
    named."""
    given = dict(values)
    kind = given.pop("kind", "cone")
    if kind not in BEAMS:
        raise ValueError(f"kind: got {kind!r}, accepted are {', '.join(BEAMS)}")
    view = given.pop("view", None)
    if view is not None:
        angle, mirrored = _ANGLE_AND_MIRROR[View.parse(view)]
        given = {"primary_angle_deg": angle, "mirrored": mirrored, **given}
    names = {f.name for f in fields(BEAMS[kind])}
    unknown = sorted(set(given) - names)
    if unknown:
        raise ValueError(f"geometry: unknown {', '.join(unknown)}; accepted are {', '.join(sorted(names))}, view, kind")
    optional = {"secondary_angle_deg", "roll_deg", "mirrored", "principal_point", "isocenter_lps"}
    missing = sorted(names - optional - set(given))
    if missing:
        raise ValueError(f"geometry: {', '.join(missing)} missing; a {kind} beam needs {', '.join(sorted(names - optional))}")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return BEAMS[kind](**arguments)


def angle_between_deg(first: Beam, second: Beam) -> float:
    """Angle between the two central rays in [0, 90] degrees; 90 for a biplanar pair."""
    cosine = abs(float(first.toward_detector @ second.toward_detector))
    return math.degrees(math.acos(min(1.0, cosine)))
