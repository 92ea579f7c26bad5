"""Ribs 8 to 12: from their vertebra round the wall, each further down toward the front."""

from __future__ import annotations

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.body import Body
from diff2ct.phantom.canvas import Canvas
from diff2ct.phantom.tubes import Curve, tubes

_END_DEG = {"T12": (62.0, 32.0), "T11": (35.0, -8.0), "T10": (-22.0, -45.0), "T9": (-35.0, -58.0), "T8": (-45.0, -65.0)}
"""Where a rib ends, as an angle on the wall (90 is the back, 0 the side): drawn between the two."""


def rib_curves(rng: np.random.Generator, anatomy: LumbarAnatomy, body: Body) -> list[Curve]:
    """Centre lines of all ribs, both sides."""
    curves = []
    for name, (early, late) in _END_DEG.items():
        vertebra = anatomy.vertebra(name)
        length = rng.uniform(0, 1)
        slope = rng.uniform(26, 40) * anatomy.size  # drop [mm] per 45 degrees
        for side in (1.0, -1.0):
            head = vertebra.pose.to_lps([side * (vertebra.size.width_upper / 2 + 1), vertebra.size.depth * 0.42, 4.0])
            neck = vertebra.pose.to_lps([side * (vertebra.size.width_upper / 2 + 17), vertebra.size.depth * 0.5 + 16, 4.0])
            end = early + (late - early) * np.clip(length + rng.normal(0, 0.1), 0, 1)
            points = [head, neck]
            angles = np.arange(64.0, end - 1, -14.0) if end < 50 else np.array([60.0, end])
            start_z = vertebra.pose.center_lps[2] - 2
            for angle in angles:
                z = start_z - slope * np.clip((78 - angle) / 45, 0, 2.0) + 0.12 * slope * max(0, (20 - angle) / 45) ** 2
                points.append(body.cavity_point(angle if side > 0 else 180 - angle, z, 0.55 * body.wall_mm + 3))
            line = shapes.smooth_curve(np.array(points), 8 * len(points))
            radii = np.interp(np.linspace(0, 1, len(line)), [0, 0.1, 0.5, 1], [4.6, 4.0, 4.9, 3.4]) * anatomy.size
            curves.append((line, radii))
    return curves


def paint_ribs(canvas: Canvas, anatomy: LumbarAnatomy, curves: list[Curve]) -> None:
    """Flattened tubes with a cortex."""
    painted = tubes(canvas, curves, (0.85, 0.85, 1.25))
    if painted is None:
        return
    region, bone = painted
    canvas.paint(region, bone, anatomy.cortical_hu * 0.95)
    canvas.paint(region, bone + (0.3 + anatomy.cortex_mm), 0.8 * anatomy.trabecular_hu)
