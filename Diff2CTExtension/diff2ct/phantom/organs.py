"""Liver, spleen, stomach, gallbladder, pancreas and kidneys: rough ellipsoids between spine, wall and diaphragm.

Portal venous CT: organs 90-130 HU, renal cortex up to 200; plain CT: 30-65 HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy, rotation
from diff2ct.phantom.body import Body, BodyFields
from diff2ct.phantom.canvas import Canvas, Pose, Region
from diff2ct.phantom.noise import LatticeNoise


@dataclass(frozen=True, kw_only=True, eq=False)
class Organ:
    """A rough ellipsoid. kind: "solid", "kidney" (fat around, sinus inside) or "stomach" (wall, fluid, gas on top)."""

    pose: Pose
    semi_axes: np.ndarray
    hu: float
    rough_mm: float
    kind: str = "solid"


@dataclass(frozen=True, kw_only=True, eq=False)
class Abdomen:
    """What organs are placed by. dome: (right, left) height of the diaphragm [mm]. contrast: intravenous contrast was given.

    side, front: reach of the cavity at T12 from its widest place, whose y is center_y [mm].
    """

    dome: tuple[float, float]
    contrast: bool
    side: float
    center_y: float
    front: float

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: LumbarAnatomy, body: Body) -> Abdomen:
        """A random breathing position in this trunk."""
        height = float(anatomy.vertebra("T12").pose.center_lps[2])
        _, center_y, half_width, front, _ = (float(v) for v in body.section(np.array(height)))
        right = height + float(rng.uniform(15, 85))
        return cls(
            dome=(right, right - float(rng.uniform(0, 18))),
            contrast=bool(rng.random() < 0.55),
            side=half_width - body.fat_mm[1] - 12,
            center_y=center_y,
            front=front,
        )


def draw_organs(rng: np.random.Generator, anatomy: LumbarAnatomy, abdomen: Abdomen) -> tuple[Organ, ...]:
    """All organs in painting order."""
    return (
        *_draw_liver(rng, anatomy, abdomen),
        _draw_spleen(rng, anatomy, abdomen),
        _draw_stomach(rng, anatomy, abdomen),
        _draw_pancreas(rng, anatomy, abdomen),
        *_draw_kidneys(rng, anatomy, abdomen),
    )


def _tilted(rng: np.random.Generator, center: np.ndarray, spread_deg: float) -> Pose:
    return Pose(rotation(*rng.normal(0, spread_deg, 3)), center)


def _draw_liver(rng: np.random.Generator, anatomy: LumbarAnatomy, abdomen: Abdomen) -> list[Organ]:
    """Right lobe, left lobe in front of the spine and, mostly, the gallbladder."""
    side, y, front = abdomen.side, abdomen.center_y, abdomen.front
    hu = rng.uniform(48, 66) + 45 * abdomen.contrast - (35 if rng.random() < 0.15 else 0)  # some livers are fatty
    low = rng.uniform(-25, 45)
    half_height = max(abdomen.dome[0] - low, 90) / 2
    right = np.array([-0.56 * side, y - 0.05 * front, low + half_height])
    left = anatomy.vertebra("T12").pose.center_lps + np.array([-15, -0.75 * front, 5]) + rng.normal(0, 7, 3)
    left_axes = np.array([side * rng.uniform(0.4, 0.6), rng.uniform(28, 40), rng.uniform(38, 55)])
    organs = [
        Organ(pose=_tilted(rng, right, 6), semi_axes=np.array([0.52 * side, 0.72 * front, half_height]), hu=hu, rough_mm=5),
        Organ(pose=_tilted(rng, left, 10), semi_axes=left_axes, hu=hu, rough_mm=4),
    ]
    if rng.random() < 0.85:
        center = np.array([-side * rng.uniform(0.3, 0.5), y - 0.5 * front, low + rng.uniform(0, 35)])
        axes = rng.uniform([11, 11, 20], [18, 18, 38])
        organs.append(Organ(pose=_tilted(rng, center, 25), semi_axes=axes, hu=rng.uniform(2, 18), rough_mm=1))
    return organs


def _draw_spleen(rng: np.random.Generator, anatomy: LumbarAnatomy, abdomen: Abdomen) -> Organ:
    height = min(abdomen.dome[1] - 38, anatomy.vertebra("T12").pose.center_lps[2] + 20)
    center = np.array([0.74 * abdomen.side, abdomen.center_y + 12, height]) + rng.normal(0, 6, 3)
    axes = rng.uniform([20, 34, 38], [30, 50, 62]) * anatomy.size
    hu = rng.uniform(45, 58) + 58 * abdomen.contrast
    return Organ(pose=_tilted(rng, center, 15), semi_axes=axes, hu=hu, rough_mm=3)


def _draw_stomach(rng: np.random.Generator, anatomy: LumbarAnatomy, abdomen: Abdomen) -> Organ:
    height = anatomy.vertebra("T12").pose.center_lps[2] - rng.uniform(-15, 40)
    center = np.array([0.42 * abdomen.side, abdomen.center_y - 0.45 * abdomen.front, height])
    axes = rng.uniform([30, 24, 35], [58, 42, 62])
    hu = rng.uniform(5, 45) if rng.random() < 0.8 else rng.uniform(150, 450)  # water or oral contrast
    return Organ(pose=_tilted(rng, center, 25), semi_axes=axes, hu=hu, rough_mm=4, kind="stomach")


def _draw_pancreas(rng: np.random.Generator, anatomy: LumbarAnatomy, abdomen: Abdomen) -> Organ:
    s = anatomy.size
    center = anatomy.vertebra("L1").pose.center_lps + np.array([12, -52, 8]) * s + rng.normal(0, 7, 3)
    hu = rng.uniform(30, 45) + 40 * abdomen.contrast
    return Organ(pose=_tilted(rng, center, 12), semi_axes=np.array([58, 10, 14]) * s, hu=hu, rough_mm=5)


def _draw_kidneys(rng: np.random.Generator, anatomy: LumbarAnatomy, abdomen: Abdomen) -> list[Organ]:
    """Left at L1, right at L2, leaning on the psoas; one may lack, some have cysts."""
    s = anatomy.size
    organs = []
    for side, level in ((1.0, "L1"), (-1.0, "L2")):
        offset = np.array([side * (58 + 0.06 * abdomen.side), 12, rng.uniform(-8, 22)]) * s
        center = anatomy.vertebra(level).pose.center_lps + offset + rng.normal(0, 5, 3)
        pose = Pose(rotation(rng.normal(-8, 5), side * rng.normal(-10, 5), side * rng.normal(-30, 12)), center)
        axes = rng.uniform([24, 22, 48], [31, 28, 62]) * s
        hu = rng.uniform(28, 40) + rng.uniform(70, 170) * abdomen.contrast
        if rng.random() < 0.97:
            organs.append(Organ(pose=pose, semi_axes=axes, hu=hu, rough_mm=2, kind="kidney"))
        if rng.random() < 0.2:
            cyst = _tilted(rng, pose.to_lps(rng.normal(0, 0.6, 3) * axes), 30)
            organs.append(Organ(pose=cyst, semi_axes=rng.uniform(8, 16, 3), hu=rng.uniform(0, 15), rough_mm=0))
    return organs


def paint_organs(
    canvas: Canvas, organs: tuple[Organ, ...], fields: BodyFields, rough: LatticeNoise, texture: LatticeNoise
) -> None:
    """Paint all organs, cut by the wall of the cavity."""
    paint = {"solid": _paint_solid, "kidney": _paint_kidney, "stomach": _paint_stomach}
    for organ in organs:
        reach = organ.semi_axes + 2 * organ.rough_mm + 9
        region = canvas.pose_region(organ.pose, -reach, reach)
        if region is None:
            continue
        x, y, z = region.local(organ.pose)
        bumps = np.clip(rough(region.x, region.y, region.z), -2, 2)
        surface = shapes.ellipsoid(x, y, z, organ.semi_axes) + organ.rough_mm * bumps
        surface = shapes.smooth_intersection(surface, fields.cavity[region.slices] + 3.0, 6.0)
        paint[organ.kind](canvas, organ, region, surface, texture(region.x, region.y, region.z))


def _paint_solid(canvas: Canvas, organ: Organ, region: Region, surface: np.ndarray, noise: np.ndarray) -> None:
    canvas.paint(region, surface, organ.hu + 4 * noise)


def _paint_kidney(canvas: Canvas, organ: Organ, region: Region, surface: np.ndarray, noise: np.ndarray) -> None:
    x, y, z = region.local(organ.pose)
    canvas.paint(region, surface - 5.0, -100.0)  # perirenal fat keeps liver and spleen off
    canvas.paint(region, surface, organ.hu + 5 * noise)
    medial = np.sign(organ.pose.center_lps[0]) * 0.55 * organ.semi_axes[0]
    sinus = shapes.ellipsoid(x + np.float32(medial), y, z, organ.semi_axes * np.array([0.6, 0.34, 0.5]))
    canvas.paint(region, sinus + 1.5 * noise, -80 + 60 * np.clip(noise, 0, 1.5))


def _paint_stomach(canvas: Canvas, organ: Organ, region: Region, surface: np.ndarray, noise: np.ndarray) -> None:
    canvas.paint(region, surface, 60.0)
    canvas.paint(region, surface + 4.0, organ.hu + 10 * noise)
    level = region.y - np.float32(organ.pose.center_lps[1] - 0.35 * organ.semi_axes[1])
    canvas.paint(region, np.maximum(surface + 4.0, level), -950.0)
