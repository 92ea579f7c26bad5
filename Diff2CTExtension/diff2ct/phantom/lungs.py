"""Lung bases, the domes of the diaphragm below them and the heart between them."""

from __future__ import annotations

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.body import Body, BodyFields
from diff2ct.phantom.canvas import Canvas
from diff2ct.phantom.noise import LatticeNoise

_DOME_DROP_MM = 62.0
"""How much lower than its dome the lung reaches at the chest wall."""


def paint_lungs(
    canvas: Canvas,
    anatomy: LumbarAnatomy,
    body: Body,
    dome: tuple[float, float],
    lung_hu: float,
    heart_hu: float,
    fields: BodyFields,
    rough: LatticeNoise,
    texture: LatticeNoise,
) -> None:
    """Air above the domes (right, left) [mm]; the recess behind and beside them reaches lower."""
    region = canvas.region(np.array([-1e4, -1e4, min(dome) - 1.5 * _DOME_DROP_MM]), np.array([1e4, 1e4, 1e4]))
    if region is None:
        return
    cx, cy = anatomy.centre_line(region.z)
    _, center_y, half_width, front, _ = body.section(region.z)
    cavity = fields.cavity[region.slices]
    bumps = 4 * rough(region.x, region.y, region.z)
    noise = texture(region.x, region.y, region.z)
    for side, top in zip((-1.0, 1.0), dome, strict=True):
        u = (region.x - cx - side * 0.52 * half_width) / (0.42 * half_width)
        v = (region.y - center_y + 0.15 * front) / (0.8 * front)
        diaphragm = top - _DOME_DROP_MM * np.minimum(u * u + v * v, 1.4) - region.z + bumps
        ahead = np.clip(-(region.y - cy) - 5, -14, 30)  # wider in front of the spine: great vessels, heart
        medial = 32 * anatomy.size - side * (region.x - cx) + ahead + 0.15 * np.clip(top - region.z, -60, 0) + bumps
        lung = np.maximum(np.maximum(cavity + 3.0, 0.8 * diaphragm), medial)
        canvas.paint(region, lung, lung_hu + 45 * noise + 130 * np.clip(noise - 1.4, 0, 3))
    y, z = region.y - (center_y - 0.52 * front), region.z - (dome[1] + 38)
    heart = np.maximum(shapes.ellipsoid(region.x - 28, y, z, (52.0, 40.0, 42.0)) + bumps, cavity + 8)
    canvas.paint(region, heart - 6.0, body.fat_hu)
    canvas.paint(region, heart, heart_hu)
