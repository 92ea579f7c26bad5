"""Aorta, vena cava, iliac and mesenteric vessels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.canvas import Canvas
from diff2ct.phantom.noise import LatticeNoise
from diff2ct.phantom.tubes import Curve, tubes

_PLAQUE_HU = 750.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Vessels:
    """Centre lines and HU (130-300 in the contrasted aorta). calcified: share of the arterial wall with plaques, 0 to 1."""

    arteries: tuple[Curve, ...]
    veins: tuple[Curve, ...]
    artery_hu: float
    vein_hu: float
    calcified: float

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: LumbarAnatomy, contrast: bool) -> Vessels:
        """Aorta in front of the bodies on the left, vena cava on the right, mesenteric fan before them."""
        aorta = _trunk(rng, anatomy, 1.0, float(rng.uniform(8.5, 12.5)), 12.0)
        if rng.random() < 0.06:  # aneurysm
            line, radii = aorta[0]
            aorta[0] = (line, radii * (1 + 0.6 * np.exp(-(((line[:, 2] - rng.uniform(-20, 30)) / 25) ** 2))))
        cava = _trunk(rng, anatomy, -1.0, float(rng.uniform(9.5, 13.0)), 9.0)
        return cls(
            arteries=tuple(aorta),
            veins=(*cava, *_mesentery(rng, anatomy)),
            artery_hu=float(rng.uniform(130, 300) if contrast else rng.uniform(35, 48)),
            vein_hu=float(rng.uniform(100, 180) if contrast else rng.uniform(33, 46)),
            calcified=float(np.clip((anatomy.age - 45) / 45 + rng.normal(0, 0.25), 0, 1)),
        )


def _trunk(rng: np.random.Generator, anatomy: LumbarAnatomy, side: float, radius: float, gap: float) -> list[Curve]:
    """The great vessel on one side (+1 is left), `gap` [mm] in front of the bodies, and its iliac branches."""
    s = anatomy.size
    points = []
    for name in ("T8", "T10", "T12", "L1", "L2", "L3", "L4"):
        vertebra = anatomy.vertebra(name)
        lateral = side * (18 if name == "T8" else 12) * s + rng.normal(0, 2.5)
        points.append(vertebra.pose.to_lps([lateral, -vertebra.size.depth / 2 - gap - rng.uniform(0, 5), 0]))
    curves: list[Curve] = [(shapes.smooth_curve(np.array(points), 40), radius * s * np.linspace(1.1, 0.85, 40))]
    behind = 0.0 if side > 0 else 6.0  # iliac veins lie behind the arteries
    for branch in (1.0, -1.0):
        offsets = [[27, -34 + behind, 20], [50, -36 + behind, -25], [62, -52 + behind, -75], [68, -72 + behind, -130]]
        line = anatomy.sacrum.center_lps + np.array(offsets) * [branch, 1, 1] * s + rng.normal(0, 3, (4, 3))
        curves.append((shapes.smooth_curve(np.stack([points[-1], *line]), 24), np.full(24, 0.58 * radius * s)))
    return curves


def _mesentery(rng: np.random.Generator, anatomy: LumbarAnatomy) -> list[Curve]:
    """Thin branches that fan out from in front of L2."""
    root = anatomy.vertebra("L2").pose.center_lps + np.array([0, -52, 10]) * anatomy.size
    curves = []
    for _ in range(int(rng.integers(6, 18))):
        reach = rng.uniform([-95, -70, -120], [95, 0, 25])
        points = np.stack([root, root + 0.5 * reach + rng.normal(0, 8, 3), root + reach])
        curves.append((shapes.smooth_curve(points, 16), np.linspace(2.8, 1.3, 16)))
    return curves


def paint_vessels(canvas: Canvas, vessels: Vessels, plaques: LatticeNoise) -> None:
    """Veins, then arteries with calcified spots in their walls."""
    painted = tubes(canvas, list(vessels.veins), (1.15, 0.8, 1.0))
    if painted is not None:
        canvas.paint(*painted, vessels.vein_hu)
    painted = tubes(canvas, list(vessels.arteries))
    if painted is None:
        return
    region, wall = painted
    canvas.paint(region, wall, vessels.artery_hu)
    spots = np.clip(2 * (plaques(region.x, region.y, region.z) - 2.0 + 1.3 * vessels.calcified), 0, 1)
    canvas.blend(region, spots * canvas.occupancy(np.abs(wall + 0.7) - 1.1), _PLAQUE_HU)
