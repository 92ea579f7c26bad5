"""Colon and small bowel: walls around fluid, stool and gas. Gas floats to the front, as the patient lies on the back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.body import Body, BodyFields
from diff2ct.phantom.canvas import Canvas
from diff2ct.phantom.noise import LatticeNoise
from diff2ct.phantom.tubes import Curve, tubes


@dataclass(frozen=True, kw_only=True, eq=False)
class Gut:
    """One piece of bowel. gas: share of gas, 0 to 1; stool: mottled content; hu: of the fluid or stool."""

    curve: Curve
    wall_mm: float
    wall_hu: float
    hu: float
    gas: float
    stool: bool


def draw_bowel(rng: np.random.Generator, anatomy: LumbarAnatomy, body: Body) -> tuple[Gut, ...]:
    """Colon frame (ascending, transverse, descending) and a random number of small bowel loops."""
    s = anatomy.size
    oral = float(rng.uniform(150, 500)) if rng.random() < 0.15 else 0.0
    wall_hu = float(rng.uniform(35, 60)) + (40 if rng.random() < 0.5 else 0)
    _, cy, half_width, front, _ = (float(v) for v in body.section(np.array(0.0)))
    side = half_width - body.fat_mm[1] - body.wall_mm - rng.uniform(20, 32)
    ahead = cy - front + body.fat_mm[2] + rng.uniform(28, 45)
    hip = anatomy.sacrum.center_lps[2]
    guts = []

    def add(points: list[tuple[float, float, float]], radius: float, stool: bool, gas: float) -> None:
        knots = np.array(points) + rng.normal(0, 6, (len(points), 3))
        line = shapes.smooth_curve(knots, max(int(np.linalg.norm(np.diff(knots, axis=0), axis=1).sum() / 7), 6))
        t = np.linspace(0, 1, len(line))
        haustra = 1 + 0.16 * np.sin(2 * np.pi * (t * len(line) / rng.uniform(3.5, 5.0) + rng.random())) * stool
        swell = np.interp(t, np.linspace(0, 1, 5), rng.uniform(0.7, 1.25, 5))
        hu = oral if oral and rng.random() < 0.7 else float(rng.uniform(5, 40))
        guts.append(
            Gut(curve=(line, radius * haustra * swell), wall_mm=float(rng.uniform(1.5, 3.5)), wall_hu=wall_hu, hu=hu, gas=gas, stool=stool)
        )

    colon_radius = rng.uniform(15, 25) * s
    top_right, top_left = rng.uniform(25, 60), rng.uniform(45, 95)
    sag = rng.uniform(0, 75)
    add([(-0.72 * side, cy - 28, hip - 40), (-0.9 * side, cy - 8, hip + 15), (-side - 3, cy + 8, -35), (-side + 2, cy + 5, top_right)], colon_radius * 1.1, True, rng.uniform(0, 0.8))
    add(
        [(-side, cy - 20, top_right), (-0.4 * side, ahead, top_right - 0.6 * sag), (0.2 * side, ahead, top_right - sag),
         (0.6 * side, ahead + 6, top_left - 0.5 * sag), (side, cy - 8, top_left)],
        colon_radius, True, rng.uniform(0.1, 1.0),
    )  # fmt: skip
    add([(side, cy, top_left), (side + 4, cy + 14, 0), (0.92 * side, cy - 2, hip + 20), (0.7 * side, cy - 30, hip - 40), (10, cy + 5, hip - 85), (0, cy + 35, hip - 130)],
        colon_radius * 0.75, True, rng.uniform(0, 0.7))  # fmt: skip
    for _ in range(int(rng.integers(10, 36))):
        start = np.array([rng.uniform(-0.7, 0.7) * side, rng.uniform(ahead, cy - 25), rng.uniform(hip - 90, 45)])
        points = [start]
        for _ in range(int(rng.integers(3, 7))):
            step = rng.normal(0, 1, 3) * [34, 18, 20]
            points.append(np.clip(points[-1] + step, [-0.75 * side, ahead - 8, hip - 120], [0.75 * side, cy - 18, 60]))
        add([tuple(p) for p in points], rng.uniform(8.5, 16), False, rng.uniform(0.4, 1.0) if rng.random() < 0.3 else 0.0)
    if rng.random() < 0.85:  # duodenum, in front of the vena cava and aorta at L3
        v = anatomy.vertebra("L3").pose.center_lps
        add([(v[0] - 42, v[1] - 30, v[2] + 35), (v[0] - 40, v[1] - 32, v[2] + 2), (v[0] + 5, v[1] - 50, v[2]), (v[0] + 35, v[1] - 48, v[2] + 15)],
            rng.uniform(9, 13), False, 0.0)  # fmt: skip
    return tuple(guts)


def paint_bowel(canvas: Canvas, guts: tuple[Gut, ...], fields: BodyFields, mottle: LatticeNoise) -> None:
    """Wall, content, then gas above its level."""
    for gut in guts:
        painted = tubes(canvas, [gut.curve])
        if painted is None:
            continue
        region, wall = painted
        wall = np.maximum(wall, fields.cavity[region.slices] + 2.0)
        canvas.paint(region, wall, gut.wall_hu)
        noise = mottle(region.x, region.y, region.z)
        content = gut.hu + (25 * noise if gut.stool else 4 * noise)
        if gut.stool:
            content -= 500 * np.clip(noise - 0.8, 0, 1.2)
        lumen = wall + gut.wall_mm
        canvas.paint(region, lumen, content)
        if gut.gas > 0:
            line, radii = gut.curve
            level = float(np.mean(line[:, 1]) + radii.mean() * (2 * gut.gas - 1))
            surface = region.y - np.float32(level) + (5 * noise if gut.stool else 0)
            canvas.paint(region, np.maximum(lumen, surface), -960.0)
