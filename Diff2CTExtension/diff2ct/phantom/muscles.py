"""Muscles along the spine: psoas, quadratus lumborum, erector spinae and multifidus, separated by fat planes.

Their centres follow the column (`LumbarAnatomy.centre_line`); cross-sectional areas as on CT at L3/L4, e.g. Danneels et al.,
Eur Spine J 2000;9:266: psoas about 8-15 cm2, erector spinae and multifidus together about 20-28 cm2 per side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.body import Body, BodyFields
from diff2ct.phantom.canvas import Canvas, Region
from diff2ct.phantom.noise import LatticeNoise

_FAT_BELOW_MUSCLE_HU = 110.0

# Per muscle: level -> values [mm] for an adult of size 1, lateral and backward from the centre line; linear in between.
_PSOAS = {  # lateral, backward, half width
    "S4": (74, -46, 18),
    "S2": (64, -34, 19),
    "S1": (54, -20, 20),
    "L4": (44, -2, 18),
    "L3": (38, 2, 15.5),
    "L2": (32, 6, 12),
    "L1": (28, 8, 8),
    "T12": (24, 10, 3),
}
_QUADRATUS = {"S1": (78,), "L3": (68,), "T12": (54,)}  # lateral
_BACK = {  # backward, half depth, half width of erector spinae, half width of multifidus
    "S4": (27, 8, 12, 8),
    "S1": (40, 17, 22, 15),
    "L4": (49, 22, 27, 15),
    "L2": (49, 22, 29, 12),
    "T12": (43, 16, 27, 9),
    "T9": (39, 13, 23, 8),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Muscles:
    """Per side (left, right): scale of psoas and back muscles. marbling: share of fat streaks, 0 to 1."""

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


@dataclass(frozen=True, eq=False)
class _Place:
    """The muscles' region in coordinates of the column: x outwards (per side), y back, z up [mm]; and its textures.

    x: (d, h, w) left of the centre line. levels: heights by name. All noises (d, h, w).
    """

    region: Region
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    fascia: np.ndarray
    levels: dict[str, float]
    size: float
    bumps: np.ndarray
    fat: np.ndarray
    grain: np.ndarray

    def along(self, table: Mapping[str, Sequence[float]]) -> list[np.ndarray]:
        """The table's columns at every height, (d, 1, 1) each, scaled to the patient."""
        names = sorted(table, key=self.levels.__getitem__)
        heights = [self.levels[name] for name in names]
        columns = np.array([table[name] for name in names]).T * self.size
        return [np.interp(self.z, heights, column).astype(np.float32) for column in columns]


def paint_muscles(
    canvas: Canvas,
    anatomy: LumbarAnatomy,
    muscles: Muscles,
    fields: BodyFields,
    rough: LatticeNoise,
    streaks: LatticeNoise,
    texture: LatticeNoise,
) -> None:
    """Paint all four muscles of both sides."""
    region = canvas.region(np.array([-130.0, -75, -1e4]), np.array([130.0, 130, 1e4]))
    if region is None:
        return
    center_x, center_y = anatomy.centre_line(region.z)
    hip = float(anatomy.sacrum.center_lps[2])
    world = (region.x, region.y, region.z)
    place = _Place(
        region=region,
        x=region.x - center_x,
        y=region.y - center_y,
        z=region.z,
        fascia=fields.fascia[region.slices],
        levels={v.name: float(v.pose.center_lps[2]) for v in anatomy.vertebrae} | {"S1": hip, "S2": hip - 50, "S4": hip - 105},
        size=anatomy.size,
        bumps=np.float32(1.8) * rough(*world),
        fat=np.clip(streaks(*world) - np.float32(1.6 - 1.7 * muscles.marbling), 0, 1),
        grain=8 * texture(*world),
    )
    for side, psoas, back in zip((1.0, -1.0), muscles.psoas, muscles.back, strict=True):
        _paint_psoas(canvas, place, side, psoas, muscles.hu)
        _paint_quadratus(canvas, place, side, psoas, muscles.hu)
        _paint_back(canvas, place, side, back, muscles.back_hu)


def _paint_psoas(canvas: Canvas, place: _Place, side: float, mass: float, hu: float) -> None:
    lateral, backward, width = place.along(_PSOAS)
    y = place.y - backward
    psoas = shapes.superellipse(side * place.x - lateral - 0.25 * y, y, mass * width, 1.1 * mass * width, 2.3) + place.bumps
    psoas = np.where(place.z < place.levels["T12"], psoas, shapes.FAR_MM)
    _fill(canvas, place, psoas, hu, 0.4)


def _paint_quadratus(canvas: Canvas, place: _Place, side: float, mass: float, hu: float) -> None:
    """From the twelfth rib down to the iliac crest."""
    (lateral,) = place.along(_QUADRATUS)
    s = place.size
    y = place.y - 28 * s
    quadratus = shapes.ellipse(side * place.x - lateral - 0.7 * y, y, 22 * mass * s, 8.5 * mass * s) + place.bumps
    between = (place.z < place.levels["T12"]) & (place.z > place.levels["S1"] + 5)
    _fill(canvas, place, np.where(between, quadratus, shapes.FAR_MM), hu, 0.5)


def _paint_back(canvas: Canvas, place: _Place, side: float, mass: float, hu: float) -> None:
    """Multifidus beside the spinous processes, erector spinae outside it, a fat cleft between them."""
    backward, depth, erector_width, multifidus_width = place.along(_BACK)
    s = place.size
    x, y = side * place.x, place.y - backward
    depth, erector_width, multifidus_width = mass * depth, mass * erector_width, mass * multifidus_width
    cleft = x - (26 * s + 0.25 * y)
    under_fascia = place.fascia + 1.5
    erector = shapes.superellipse(x - 13 * s - erector_width, y, erector_width, depth, 2.6) + place.bumps
    multifidus = shapes.ellipse(x - 14 * s, y - 1, multifidus_width, depth) + place.bumps
    _fill(canvas, place, np.maximum(np.maximum(erector, 0.8 - cleft), under_fascia), hu, 1.0)
    _fill(canvas, place, np.maximum(np.maximum(multifidus, cleft), under_fascia), hu - 6, 1.2)


def _fill(canvas: Canvas, place: _Place, distance: np.ndarray, hu: float, fat_share: float) -> None:
    fat = np.clip(fat_share * place.fat, 0, 0.8)
    canvas.paint(place.region, distance, hu + place.grain - _FAT_BELOW_MUSCLE_HU * fat)
