"""Pedicle screws with tulip heads, rods, cross-link and interbody cage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy, Segment
from diff2ct.phantom.canvas import Canvas
from diff2ct.phantom.tubes import tubes
from diff2ct.phantom.vertebra import pedicle_axis

SCREW_LEVELS = ("S1", "L5", "L4", "L3", "L2", "L1")
MAX_SCREWS = 2 * len(SCREW_LEVELS)
_TULIP_MM, _TULIP_RADIUS_MM, _ROD_RADIUS_MM, _PITCH_MM = 15.0, 6.2, 2.75, 2.8
_ROD_SEAT_MM = 8.0
"""From the screw's head point back to the rod's axis [mm]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PedicleScrew:
    """One screw. head_lps: where the shaft meets the tulip; tip_lps: its end in the body, length_mm away along axis_lps."""

    tip_lps: np.ndarray
    head_lps: np.ndarray
    axis_lps: np.ndarray
    diameter_mm: float
    length_mm: float
    level: str
    side: str

    @property
    def rod_seat_lps(self) -> np.ndarray:
        """(3,) where the rod crosses the tulip."""
        return self.head_lps - _ROD_SEAT_MM * self.axis_lps

    @classmethod
    def from_head(
        cls, head_lps: np.ndarray, axis_lps: np.ndarray, *, length_mm: float, diameter_mm: float, level: str, side: str
    ) -> PedicleScrew:
        """The screw that starts at head_lps (3,) [mm] and goes along the unit vector axis_lps (3,)."""
        return cls(
            tip_lps=head_lps + length_mm * axis_lps,
            head_lps=head_lps,
            axis_lps=axis_lps,
            diameter_mm=diameter_mm,
            length_mm=length_mm,
            level=level,
            side=side,
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PedicleScrew:
        """What `to_dict` wrote. Raises ValueError if a screw is not described by it."""
        try:
            head, tip = (np.array(values[name], dtype=np.float64).reshape(3) for name in ("head_lps", "tip_lps"))
            along = tip - head
            length, diameter = float(values["length_mm"]), float(values["diameter_mm"])
            return cls(
                tip_lps=tip, head_lps=head, axis_lps=along / np.linalg.norm(along), diameter_mm=diameter, length_mm=length,
                level=str(values["level"]), side=str(values["side"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"screw: got {values!r}, accepted is what PedicleScrew.to_dict writes ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """JSON types; positions in LPS [mm]."""
        return {
            "level": self.level,
            "side": self.side,
            "diameter_mm": self.diameter_mm,
            "length_mm": self.length_mm,
            "head_lps": [round(float(x), 3) for x in self.head_lps],
            "tip_lps": [round(float(x), 3) for x in self.tip_lps],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Hardware:
    """All implants. rods: lists of points (N, 3), head to foot. cage: the segment it replaces the disc of, and its HU."""

    screws: tuple[PedicleScrew, ...]
    rods: tuple[np.ndarray, ...]
    crosslink: tuple[np.ndarray, np.ndarray] | None
    cages: tuple[tuple[Segment, float], ...]
    metal_hu: float

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: LumbarAnatomy, num_screws: int | None) -> Hardware:
        """Neighbouring levels from the lower spine up; an odd count leaves one side out."""
        if num_screws is None:
            num_screws = 0 if rng.random() < 0.25 else int(rng.integers(1, 11))
        if not 0 <= num_screws <= MAX_SCREWS:
            raise ValueError(f"num_screws: got {num_screws}, accepted is 0 to {MAX_SCREWS} or None for a random number")
        count = (num_screws + 1) // 2
        lowest = int(rng.integers(0, min(3, len(SCREW_LEVELS) - count) + 1)) if count else 0
        places = [(level, side) for level in SCREW_LEVELS[lowest : lowest + count] for side in ("left", "right")]
        if len(places) > num_screws:
            places.pop(int(rng.integers(len(places))))
        diameter = float(rng.choice([5.5, 6.0, 6.5, 7.0, 7.5]))
        screws = tuple(_place_screw(rng, anatomy, level, side, diameter) for level, side in places)
        rods, link = draw_rods(rng, screws)
        cages: list[tuple[Segment, float]] = []
        levels = {screw.level for screw in screws}
        for segment in anatomy.segments[:4]:
            if {segment.upper, segment.lower} <= levels and rng.random() < 0.3:
                cages.append((segment, float(rng.choice([130.0, 2600.0], p=[0.6, 0.4]))))
        return cls(
            screws=screws,
            rods=rods,
            crosslink=link,
            cages=tuple(cages),
            metal_hu=draw_metal_hu(rng),
        )


def _place_screw(rng: np.random.Generator, anatomy: LumbarAnatomy, level: str, side: str, diameter: float) -> PedicleScrew:
    sign = 1.0 if side == "left" else -1.0
    s = anatomy.size
    if level == "S1":
        pose = anatomy.sacrum
        middle, axis = np.array([sign * 21 * s, 18 * s, 3.0]), np.array([-sign * 0.36, -0.92, 0.05])
        entry_back, room = 14.0 * s, 46.0 * s
    else:
        vertebra = anatomy.vertebra(level)
        pose, size = vertebra.pose, vertebra.size
        middle, axis = pedicle_axis(vertebra, sign)
        entry_back, room = 0.95 * size.canal_depth, 0.95 * size.canal_depth + 0.84 * size.depth
        # a screw wider than the pedicle would break its wall
        diameter = min(diameter, max(5.5, size.pedicle_width * 0.85))
    stray = 2.2 if rng.random() < 0.12 else 0.7  # a slightly misplaced screw now and then
    middle = middle + rng.normal(0, 1, 3) * [stray, 0, stray]
    axis = axis + np.array([np.tan(np.radians(rng.normal(0, 3))), 0, np.tan(np.radians(rng.normal(0, 4)))])
    axis /= np.linalg.norm(axis)
    length = float(np.clip(5 * np.round(min(rng.uniform(0.82, 1.0) * room, 56) / 5), 35, 55))
    head = middle - axis * (entry_back + rng.uniform(0, 3))
    return PedicleScrew.from_head(
        pose.to_lps(head), pose.rotation @ axis, length_mm=length, diameter_mm=diameter, level=level, side=side
    )


def draw_rods(
    rng: np.random.Generator, screws: Sequence[PedicleScrew]
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, np.ndarray] | None]:
    """`Hardware.rods` and `Hardware.crosslink` for these screws; now and then a side goes without a rod."""
    rods = []
    for side in ("left", "right"):
        seats = [screw.rod_seat_lps for screw in screws if screw.side == side]
        if len(seats) > 1 and rng.random() < 0.93:
            rods.append(_rod(np.array(seats)))
    if len(rods) < 2 or rng.random() >= 0.2:
        return tuple(rods), None
    middle = rods[0].shape[0] // 2
    other = int(np.argmin(np.abs(rods[1][:, 2] - rods[0][middle, 2])))
    return tuple(rods), (rods[0][middle] + [0, 3.0, 0], rods[1][other] + [0, 3.0, 0])


def draw_metal_hu(rng: np.random.Generator) -> float:
    """What a scanner shows for titanium or steel [HU], often its upper end."""
    return float(np.clip(rng.uniform(3050, 4500), 0, 4096))


def _rod(seats: np.ndarray) -> np.ndarray:
    """(N, 3) curve through the seats from the top down, 7 mm longer at each end."""
    seats = seats[np.argsort(-seats[:, 2])]
    start, end = seats[0] - seats[1], seats[-1] - seats[-2]
    first = seats[0] + 7 * start / np.linalg.norm(start)
    last = seats[-1] + 7 * end / np.linalg.norm(end)
    return shapes.smooth_curve(np.concatenate([first[None], seats, last[None]]), 6 * (len(seats) + 2))


def paint_cages(canvas: Canvas, hardware: Hardware) -> None:
    """Bullet-shaped cages with a hollow middle and two marker pins."""
    for segment, hu in hardware.cages:
        half = np.array([11.0, 12.0, segment.disc_height / 2 + 0.6])
        region = canvas.pose_region(segment.pose, -half - 2, half + 2)
        if region is None:
            continue
        x, y, z = region.local(segment.pose)
        y = y + 2.0
        canvas.paint(region, shapes.box(x, y, z, (half[0], half[1], half[2]), 3.0), hu)
        canvas.paint(region, shapes.box(x, y, z, (6.5, 7.0, half[2]), 3.0), 180.0)
        for marker in (-10.0, 10.0):
            pin = shapes.capsule(x, y, z, (0, marker, -half[2] + 1), (0, marker, half[2] - 1), (0.7, 0.7))
            canvas.paint(region, pin, hardware.metal_hu)


def paint_hardware(canvas: Canvas, hardware: Hardware) -> None:
    """Screws, rods and cross-link."""
    for screw in hardware.screws:
        _paint_screw(canvas, screw, hardware.metal_hu)
    for rod in hardware.rods:
        painted = tubes(canvas, [(rod, np.full(len(rod), _ROD_RADIUS_MM))])
        if painted is not None:
            canvas.paint(*painted, hardware.metal_hu, canvas.voxel_mm)
    if hardware.crosslink is not None:
        painted = tubes(canvas, [(np.array(hardware.crosslink), np.array([2.4, 2.4]))])
        if painted is not None:
            canvas.paint(*painted, hardware.metal_hu, canvas.voxel_mm)


def _paint_screw(canvas: Canvas, screw: PedicleScrew, hu: float) -> None:
    back = screw.head_lps - (_TULIP_MM + 2) * screw.axis_lps
    ends = np.stack([back, screw.tip_lps])
    region = canvas.region(ends.min(axis=0) - 9, ends.max(axis=0) + 9)
    if region is None:
        return
    a = screw.axis_lps
    across = np.cross(a, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    along = np.cross(across, a)  # the rod's direction, nearly
    dx, dy, dz = region.x - screw.head_lps[0], region.y - screw.head_lps[1], region.z - screw.head_lps[2]
    t, u, w = (dx * e[0] + dy * e[1] + dz * e[2] for e in (a, across, along))
    radius = np.sqrt(u * u + w * w)
    major, minor = screw.diameter_mm / 2, 0.72 * screw.diameter_mm / 2
    thread = 0.5 + 0.5 * np.cos(np.arctan2(w, u) - 2 * np.pi * t / np.float32(_PITCH_MM))
    core = minor * np.clip((screw.length_mm - t) / 5.0, 0.5, 1) + (major - minor) * thread * np.clip(
        (screw.length_mm - t) / 9.0, 0, 1
    )
    middle = screw.length_mm / 2
    shaft = np.maximum(radius - core, np.abs(t - middle) - middle)
    tulip = np.maximum(radius - _TULIP_RADIUS_MM, np.abs(t + _TULIP_MM / 2 - 1) - _TULIP_MM / 2)
    slot = np.maximum(np.abs(u) - 2.9, t + 5.0)  # open to the back, along the rod
    nut = np.maximum(radius - 4.4, np.abs(t + 12.0) - 2.0)
    metal = np.minimum(np.minimum(shaft, np.maximum(tulip, -slot)), nut)
    canvas.paint(region, metal, hu, canvas.voxel_mm)  # metal blooms rather than blurs
