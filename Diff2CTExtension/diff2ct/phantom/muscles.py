"""Muscles along the spine: psoas, quadratus lumborum, erector spinae and multifidus, separated by fat planes.

Their centres follow the column (`LumbarAnatomy.centre_line`); cross-sectional areas as on CT at L3/L4, e.g. Danneels et al.,
Eur Spine J 2000;9:266: psoas about 8-15 cm2, erector spinae and multifidus together about 20-28 cm2 per side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.body import Body, BodyFields
from diff2ct.phantom.canvas import Canvas, Region
from diff2ct.phantom.noise import LatticeNoise


@dataclass(frozen=True, kw_only=True, eq=False)
class Muscles:
    """Per side (left, right): scale of psoas and back muscles; hu: mean, marbling: share of fat streaks, 0 to 1."""

    psoas: tuple[float, float]
    back: tuple[float, float]
    hu: float
    back_hu: float
    marbling: float

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: LumbarAnatomy, body: Body) -> Muscles:
        """Random muscle mass, a little asymmetric, fattier with age."""
        mass = float(rng.uniform(0.82, 1.15)) * (0.92 if anatomy.female else 1.05) * (0.92 if anatomy.age > 70 else 1.0)
        left, right, back_left, back_right = (mass * float(rng.normal(1, 0.04)) for _ in range(4))
        return cls(
            psoas=(left, right),
            back=(back_left, back_right),
            hu=body.muscle_hu,
            back_hu=body.muscle_hu - 22 * body.marbling,
            marbling=body.marbling,
        )


def paint_muscles(
    canvas: Canvas, anatomy: LumbarAnatomy, muscles: Muscles, fields: BodyFields, rough: LatticeNoise, streaks: LatticeNoise, texture: LatticeNoise
) -> None:
    """Paint all four muscles of both sides."""
    s = anatomy.size
    heights = {v.name: v.pose.center_lps[2] for v in anatomy.vertebrae}
    hip = anatomy.sacrum.center_lps[2]
    region = canvas.region(np.array([-130.0, -75, -1e4]), np.array([130.0, 130, 1e4]))
    if region is None:
        return
    cx, cy = anatomy.centre_line(region.z)
    z, x, y = region.z, region.x - cx, region.y - cy
    fascia = fields.fascia[region.slices]
    fat_streaks = np.clip(streaks(region.x, region.y, region.z) - (1.6 - 1.7 * muscles.marbling), 0, 1)
    bumps = np.float32(1.8) * rough(region.x, region.y, region.z)
    noise = 8 * texture(region.x, region.y, region.z)

    def at(knots: dict[float, float]) -> np.ndarray:
        order = sorted(knots)
        return np.interp(z, order, [knots[k] for k in order]).astype(np.float32)

    for index, side in enumerate((1.0, -1.0)):
        m = muscles.psoas[index] * s
        lateral = at({hip - 120: 74, hip - 50: 64, hip: 54, heights["L4"]: 44, heights["L2"]: 32, heights["T12"]: 24}) * s
        forward = at({hip - 120: -46, hip - 50: -34, hip: -20, heights["L4"]: -2, heights["L2"]: 6, heights["T12"]: 10}) * s
        wide = at({hip - 120: 18, hip: 20, heights["L4"]: 18, heights["L3"]: 15.5, heights["L1"]: 8, heights["T12"]: 3}) * m
        psoas = bumps + shapes.superellipse(side * x - lateral - 0.25 * (y - forward), y - forward, wide, wide * 1.1, 2.3)
        psoas = np.where(z < heights["T12"], psoas, shapes.FAR_MM)
        _fill(canvas, region, psoas, muscles.hu, 0.4 * fat_streaks, noise)

        quad = bumps + shapes.ellipse(
            side * x - at({hip: 78, heights["L3"]: 68, heights["T12"]: 54}) * s - 0.7 * (y - 28), y - 28 * s, 22 * m, 8.5 * m
        )
        quad = np.where((z < heights["T12"]) & (z > hip + 5), quad, shapes.FAR_MM)
        _fill(canvas, region, quad, muscles.hu, 0.5 * fat_streaks, noise)

        b = muscles.back[index] * s
        wide = at({hip - 90: 12, hip: 22, heights["L4"]: 27, heights["L2"]: 29, heights["T12"]: 27, heights["T9"]: 23}) * b
        deep = at({hip - 90: 8, hip: 17, heights["L4"]: 22, heights["L2"]: 22, heights["T12"]: 16, heights["T9"]: 13}) * b
        behind = at({hip - 90: 27, hip: 40, heights["L4"]: 49, heights["L2"]: 49, heights["T12"]: 43, heights["T9"]: 39}) * s
        erector = bumps + shapes.superellipse(side * x - 13 * s - wide, y - behind, wide, deep, 2.6)
        multifidus = bumps + shapes.ellipse(
            side * x - 14 * s, y - behind - 1, at({hip - 90: 8, hip: 15, heights["L4"]: 15, heights["L1"]: 10, heights["T10"]: 8}) * b, deep
        )
        divide = side * x - (26 * s + 0.25 * (y - behind))  # fat cleft between the two
        erector = np.maximum(np.maximum(erector, -divide + 0.8), fascia + 1.5)
        multifidus = np.maximum(np.maximum(multifidus, divide), fascia + 1.5)
        _fill(canvas, region, erector, muscles.back_hu, fat_streaks, noise)
        _fill(canvas, region, multifidus, muscles.back_hu - 6, 1.2 * fat_streaks, noise)


def _fill(canvas: Canvas, region: Region, distance: np.ndarray, hu: float, fat_part: np.ndarray, noise: np.ndarray) -> None:
    """Muscle with fat streaks at 110 HU below it."""
    canvas.paint(region, distance, hu + noise - 110 * np.clip(fat_part, 0, 0.8))
