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

_GAS_HU = -960.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Gut:
    """One piece of bowel. gas: share of gas, 0 to 1; stool: mottled content; hu: of the fluid or stool."""

    curve: Curve
    wall_mm: float
    wall_hu: float
    hu: float
    gas: float
    stool: bool


@dataclass(frozen=True, kw_only=True)
class _Room:
    """Where bowel lies [mm]: half width, front and middle of the cavity, height of S1; and what all of it has in common."""

    side: float
    front: float
    middle: float
    hip: float
    wall_hu: float
    oral_hu: float


def draw_bowel(rng: np.random.Generator, anatomy: LumbarAnatomy, body: Body) -> tuple[Gut, ...]:
    """Colon, a random number of small bowel loops and, mostly, the duodenum."""
    _, center_y, half_width, front, _ = (float(v) for v in body.section(np.array(0.0)))
    room = _Room(
        side=half_width - body.fat_mm[1] - body.wall_mm - float(rng.uniform(20, 32)),
        front=center_y - front + body.fat_mm[2] + float(rng.uniform(28, 45)),
        middle=center_y,
        hip=float(anatomy.sacrum.center_lps[2]),
        wall_hu=float(rng.uniform(35, 60)) + (40 if rng.random() < 0.5 else 0),
        oral_hu=float(rng.uniform(150, 500)) if rng.random() < 0.15 else 0.0,
    )
    guts = _draw_colon(rng, room, float(rng.uniform(15, 25)) * anatomy.size)
    guts += [_draw_loop(rng, room) for _ in range(int(rng.integers(10, 36)))]
    if rng.random() < 0.85:  # duodenum: down on the right, then across in front of vena cava and aorta at L3
        knots = np.array([[-42, -30, 35], [-40, -32, 2], [5, -50, 0], [35, -48, 15]]) + anatomy.vertebra("L3").pose.center_lps
        guts.append(_gut(rng, room, knots, float(rng.uniform(9, 13)), False, 0.0))
    return tuple(guts)


def _draw_colon(rng: np.random.Generator, room: _Room, radius: float) -> list[Gut]:
    """Ascending, transverse (sagging) and descending colon with sigmoid and rectum."""
    a, y, f, hip = room.side, room.middle, room.front, room.hip
    right, left, sag = rng.uniform(25, 60), rng.uniform(45, 95), rng.uniform(0, 75)
    ascending = [[-0.72 * a, y - 28, hip - 40], [-0.9 * a, y - 8, hip + 15], [-a - 3, y + 8, -35], [-a + 2, y + 5, right]]
    transverse = [
        [-a, y - 20, right],
        [-0.4 * a, f, right - 0.6 * sag],
        [0.2 * a, f, right - sag],
        [0.6 * a, f + 6, left - 0.5 * sag],
        [a, y - 8, left],
    ]
    descending = [
        [a, y, left],
        [a + 4, y + 14, 0],
        [0.92 * a, y - 2, hip + 20],
        [0.7 * a, y - 30, hip - 40],
        [10, y + 5, hip - 85],
        [0, y + 35, hip - 130],
    ]
    return [
        _gut(rng, room, np.array(ascending), 1.1 * radius, True, float(rng.uniform(0, 0.8))),
        _gut(rng, room, np.array(transverse), radius, True, float(rng.uniform(0.1, 1.0))),
        _gut(rng, room, np.array(descending), 0.75 * radius, True, float(rng.uniform(0, 0.7))),
    ]


def _draw_loop(rng: np.random.Generator, room: _Room) -> Gut:
    """A random walk of small bowel in the middle of the abdomen."""
    low = np.array([-0.75 * room.side, room.front - 8, room.hip - 120])
    high = np.array([0.75 * room.side, room.middle - 18, 60])
    knots = [rng.uniform(low + [0, 8, 30], high - [0, 7, 15])]
    for _ in range(int(rng.integers(3, 7))):
        knots.append(np.clip(knots[-1] + rng.normal(0, 1, 3) * [34, 18, 20], low, high))
    gas = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.3 else 0.0
    return _gut(rng, room, np.array(knots), float(rng.uniform(8.5, 16)), False, gas)


def _gut(rng: np.random.Generator, room: _Room, knots: np.ndarray, radius: float, stool: bool, gas: float) -> Gut:
    """Bowel along shaken knots (N, 3), wider and narrower along its way; colon with haustra."""
    knots = knots + rng.normal(0, 6, knots.shape)
    length = float(np.linalg.norm(np.diff(knots, axis=0), axis=1).sum())
    line = shapes.smooth_curve(knots, max(int(length / 7), 6))
    t = np.linspace(0, 1, len(line))
    swell = np.interp(t, np.linspace(0, 1, 5), rng.uniform(0.7, 1.25, 5))
    haustra = 0.16 * np.sin(2 * np.pi * (t * len(line) / rng.uniform(3.5, 5.0) + rng.random()))
    return Gut(
        curve=(line, radius * swell * (1 + haustra if stool else 1)),
        wall_mm=float(rng.uniform(1.5, 3.5)),
        wall_hu=room.wall_hu,
        hu=room.oral_hu if room.oral_hu and rng.random() < 0.7 else float(rng.uniform(5, 40)),
        gas=gas,
        stool=stool,
    )


def paint_bowel(canvas: Canvas, guts: tuple[Gut, ...], fields: BodyFields, mottle: LatticeNoise) -> None:
    """Wall, content, then gas above its level."""
    for gut in guts:
        painted = tubes(canvas, [gut.curve])
        if painted is None:
            continue
        region, wall = painted
        wall = np.maximum(wall, fields.cavity[region.slices] + 2.0)
        lumen = wall + gut.wall_mm
        noise = mottle(region.x, region.y, region.z)
        content = gut.hu + 4 * noise
        if gut.stool:
            content += 20 * noise - 500 * np.clip(noise - 0.8, 0, 1.2)  # bubbles
        canvas.paint(region, wall, gut.wall_hu)
        canvas.paint(region, lumen, content)
        if gut.gas > 0:
            line, radii = gut.curve
            level = np.float32(line[:, 1].mean() + radii.mean() * (2 * gut.gas - 1))
            surface = region.y - level + (5 * noise if gut.stool else 0)
            canvas.paint(region, np.maximum(lumen, surface), _GAS_HU)
