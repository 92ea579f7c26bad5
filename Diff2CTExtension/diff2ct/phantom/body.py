"""The trunk around the spine: outer surface, subcutaneous fat, abdominal wall, and the cavity inside.

Sizes: adult waist and hip widths and depths (NHANES III body measurements); CT muscle 45 to 65 HU, fat -110 to -90 HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.canvas import Canvas
from diff2ct.phantom.noise import LatticeNoise

_LATTICE_MM = 4.0
HALF_HEIGHT_MM = 190.0
"""The body part drawn reaches this far above and below the isocentre [mm]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """Shape of one trunk. All knots are over `heights` [mm]; a section has its widest point at (center_x, center_y).

    fat_mm: subcutaneous fat (back, side, front). wall_mm: thickness of the lateral abdominal muscles.
    powers: superellipse exponents (front, back). furrow_mm: depth of the groove over the spinous processes.
    """

    heights: np.ndarray
    center_x: np.ndarray
    center_y: np.ndarray
    half_width: np.ndarray
    front: np.ndarray
    back: np.ndarray
    powers: tuple[float, float]
    furrow_mm: float
    fat_mm: tuple[float, float, float]
    wall_mm: float
    rectus_mm: float
    fat_hu: float
    muscle_hu: float
    marbling: float

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: LumbarAnatomy) -> Body:
        """A random trunk that has room for this spine."""
        obesity = float(rng.beta(1.6, 1.8))  # 0 lean, 1 obese
        width = (300 + 125 * np.clip(obesity + rng.normal(0, 0.12), 0, 1)) * (0.97 + 0.06 * (anatomy.size > 1))
        depth = 202 + 96 * np.clip(obesity + rng.normal(0, 0.12), 0, 1)
        heights = np.array([-230.0, -150, -90, -45, 0, 45, 90, 140, 230])
        hips, chest = rng.uniform(1.0, 1.1) + 0.03 * anatomy.female, rng.uniform(0.94, 1.04)
        waist = rng.uniform(0.90, 1.0)
        profile = np.array(
            [hips, hips, (hips + waist) / 2 + 0.01, waist + 0.01, waist, waist, (waist + chest) / 2, chest, chest]
        )
        half_width = width / 2 * profile / profile.max()
        belly = rng.uniform(-0.02, 0.10) * (0.3 + obesity)
        shape = np.array([0.93, 0.95, 1.0 + belly, 1.02 + belly, 1.02 + belly, 1.0 + belly / 2, 0.98, 0.95, 0.93])
        posterior_fat = 8 + 34 * obesity * rng.uniform(0.5, 1.1)
        tips = [v.pose.to_lps([0, v.size.spinous_length, -0.6 * v.size.pedicle_height]) for v in anatomy.vertebrae]
        tips = [
            *(anatomy.sacrum.to_lps(np.array([0, y, z]) * anatomy.size) for y, z in ((27, -80), (34, -50), (44, -12))),
            *tips,
        ]
        tip_z, tip_y = np.array(tips)[:, 2], np.array(tips)[:, 1]
        order = np.argsort(tip_z)
        envelope = np.array([np.interp(h + np.linspace(-35, 35, 9), tip_z[order], tip_y[order]).max() for h in heights])
        flat = rng.uniform(0.15, 0.45)  # lying down flattens the back
        skin = (1 - flat) * envelope + flat * tip_y.max() + 4 + posterior_fat * rng.uniform(0.55, 0.8)
        total = np.maximum(depth * shape / shape.max(), 195)
        back = total * rng.uniform(0.40, 0.48)
        x_line, _ = anatomy.centre_line(heights)
        return cls(
            heights=heights,
            center_x=0.5 * x_line + rng.normal(0, 3) + rng.normal(0, 1.5, len(heights)),
            center_y=skin - back,
            half_width=half_width,
            front=total - back,
            back=back,
            powers=(float(rng.uniform(2.0, 2.5)), float(rng.uniform(2.5, 3.3))),
            furrow_mm=float(rng.uniform(2, 9)),
            fat_mm=(posterior_fat, 5 + 35 * obesity * rng.uniform(0.3, 1.0), 6 + 36 * obesity * rng.uniform(0.3, 1.0)),
            wall_mm=float(rng.uniform(11, 23)),
            rectus_mm=float(rng.uniform(3.5, 6.5)),
            fat_hu=float(rng.uniform(-112, -92)),
            muscle_hu=float(rng.uniform(45, 65)) - (8 if anatomy.age > 70 else 0),
            marbling=float(np.clip(rng.normal((anatomy.age - 30) / 90, 0.2), 0.03, 0.9)),
        )

    def section(self, z: np.ndarray) -> tuple[np.ndarray, ...]:
        """center_x, center_y, half_width, front, back at heights z (any shape) [mm], smooth in z."""
        knots = (self.center_x, self.center_y, self.half_width, self.front, self.back)
        fine = np.linspace(self.heights[0], self.heights[-1], 47)
        smooth = []
        for values in knots:
            curve = np.interp(fine, self.heights, values)
            padded = np.pad(curve, 3, mode="edge")
            curve = np.convolve(padded, np.ones(7) / 7, mode="valid")
            smooth.append(np.interp(z, fine, curve).astype(np.float32))
        return tuple(smooth)

    def skin_distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Signed distance of the skin [mm]."""
        cx, cy, a, front, back = self.section(z)
        dx, dy = x - cx, y - cy
        ahead = shapes.superellipse(dx, dy, a, front, self.powers[0])
        behind = shapes.superellipse(dx, dy, a, back, self.powers[1])
        distance = np.where(dy < 0, ahead, behind)
        furrow = self.furrow_mm * np.exp(-((dx / 16) ** 2)) * np.clip(dy / back, 0, 1)
        return (distance + furrow).astype(np.float32)

    def fat_thickness(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Subcutaneous fat below the skin at this direction [mm]."""
        cx, cy, a, front, back = self.section(z)
        u, v = (x - cx) / a, (y - cy) / np.where(y < cy, front, back)
        total = u * u + v * v + np.float32(1e-3)
        behind, side, ahead = self.fat_mm
        vertical = v * v * v * v / (total * total)
        return side + vertical * np.where(v > 0, behind - side, ahead - side)

    def wall_thickness(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Flat abdominal muscles: full at the flanks, an aponeurosis in front, none over the back muscles."""
        cx, cy = self.section(z)[:2]
        t = np.clip((np.abs(x - cx) - 58) / 32, 0, 1)
        least = np.clip(1.5 - 0.1 * (y - cy), 0, 1.5)
        return least + (self.wall_mm - least) * t * t * (3 - 2 * t)

    def cavity_point(self, angle_deg: float, z: float, inset_mm: float) -> np.ndarray:
        """(3,) point on the wall at this height; angle 0 is left, 90 back, 180 right, -90 front; inset below the fascia."""
        cx, cy, a, front, back = (float(v) for v in self.section(np.array(z)))
        c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
        power = self.powers[1] if s > 0 else self.powers[0]
        depth = back if s > 0 else front
        radius = (abs(c / a) ** power + abs(s / depth) ** power) ** (-1 / power)
        point = np.array([cx + radius * c, cy + radius * s, z])
        fat = float(self.fat_thickness(point[0], point[1], np.array(z)))
        shrink = 1 - (fat + inset_mm) / radius
        return np.array([cx + radius * c * shrink, cy + radius * s * shrink, z])


@dataclass(frozen=True, eq=False)
class BodyFields:
    """Signed distances (D, H, W) [mm] on the canvas: skin, fascia (below the subcutaneous fat), cavity (below the wall)."""

    skin: np.ndarray
    fascia: np.ndarray
    cavity: np.ndarray


def body_fields(canvas: Canvas, body: Body, rough: LatticeNoise) -> BodyFields:
    """Evaluate the smooth surfaces on a world-aligned lattice and interpolate, several times faster than voxel by voxel.

    rough: makes them uneven by a few millimetres.
    """
    nodes, weights = zip(*(_lattice(axis) for axis in canvas.axes), strict=True)
    x, y, z = nodes[0][None, None, :], nodes[1][None, :, None], nodes[2][:, None, None]
    uneven = rough(x * 0.4, y * 0.4, z * 0.4)
    skin = body.skin_distance(x, y, z) + 1.5 * uneven
    fascia = skin + body.fat_thickness(x, y, z) * (1 + 0.08 * rough(x * 0.3, y * 0.3, z * 0.3))
    cavity = fascia + body.wall_thickness(x, y, z)
    return BodyFields(*(_interpolate(field.astype(np.float32), weights) for field in (skin, fascia, cavity)))


def _lattice(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) positions -> world-aligned nodes (M,) around them and linear weights (N, M)."""
    first = int(np.floor(axis[0] / _LATTICE_MM))
    count = int(np.floor(axis[-1] / _LATTICE_MM)) - first + 2
    position = axis.astype(np.float64) / _LATTICE_MM - first
    base = np.clip(np.floor(position).astype(int), 0, count - 2)
    t = position - base
    weights = np.zeros((len(axis), count), dtype=np.float32)
    rows = np.arange(len(axis))
    weights[rows, base], weights[rows, base + 1] = 1 - t, t
    return ((first + np.arange(count)) * _LATTICE_MM).astype(np.float32), weights


def _interpolate(field: np.ndarray, weights: tuple[np.ndarray, ...]) -> np.ndarray:
    wx, wy, wz = weights
    field = np.tensordot(wz, field, axes=(1, 0))
    return np.matmul(np.matmul(wy, field), wx.T)


def paint_body(canvas: Canvas, body: Body, fields: BodyFields, texture: LatticeNoise) -> None:
    """Skin, fat and the muscles of the abdominal wall."""
    region = canvas.whole()
    inside = canvas.occupancy(fields.skin)
    canvas.blend(region, inside, 20.0)
    canvas.blend(region, canvas.occupancy(fields.skin + 1.8), body.fat_hu)
    noise = texture(region.x, region.y, region.z)
    _paint_wall(canvas, body, fields, noise)
    _paint_rectus(canvas, body, fields.fascia, noise)


def _paint_wall(canvas: Canvas, body: Body, fields: BodyFields, noise: np.ndarray) -> None:
    """External oblique, internal oblique and transversus with fat between; only the voxels of the wall are touched."""
    edge = canvas.edge_mm
    inside = np.flatnonzero((fields.fascia < edge / 2) & (fields.cavity > -edge / 2))
    fascia, cavity, grain = (field.ravel()[inside] for field in (fields.fascia, fields.cavity, noise))
    part = canvas.occupancy(fascia) - canvas.occupancy(cavity)
    thickness = cavity - fascia
    planes = np.zeros_like(part)
    for share in (0.36, 0.70):
        planes += np.clip(1.2 - np.abs(fascia + share * thickness) / (0.35 * canvas.voxel_mm + 0.8), 0, 1)
    planes *= np.clip((thickness - 6) / 6, 0, 1) * np.float32(0.35 + 0.4 * body.marbling)
    part *= 1 - np.clip(planes, 0, 0.9)
    muscle = body.muscle_hu + 8 * grain - 30 * body.marbling * np.clip(grain, 0, 2)
    flat = canvas.hu.reshape(-1)
    flat[inside] += part * (muscle - flat[inside])


def _paint_rectus(canvas: Canvas, body: Body, fascia: np.ndarray, noise: np.ndarray) -> None:
    """The two straight muscles beside the linea alba."""
    low = np.array([-90.0, body.center_y.min() - body.front.max() - 10, -1e4])
    region = canvas.region(low, np.array([90.0, body.center_y.max() - 0.4 * body.front.min(), 1e4]))
    if region is None:
        return
    cx, cy = body.section(region.z)[:2]
    d = -fascia[region.slices]
    for side in (1.0, -1.0):
        lens = shapes.ellipse(side * (region.x - cx) - 36, d - body.rectus_mm, 32.0, body.rectus_mm)
        lens = np.where(region.y < cy, lens, shapes.FAR_MM)
        canvas.paint(region, lens, body.muscle_hu + 8 * noise[region.slices])
