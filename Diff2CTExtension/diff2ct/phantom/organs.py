"""Lungs, liver, spleen, kidneys, stomach and vessels. Portal venous CT: organs 90-130, aorta 130-300 HU; plain: 40-65 HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy, rotation
from diff2ct.phantom.body import Body, BodyFields
from diff2ct.phantom.canvas import Canvas, Pose
from diff2ct.phantom.noise import LatticeNoise
from diff2ct.phantom.tubes import Curve, tubes


@dataclass(frozen=True, kw_only=True, eq=False)
class Blob:
    """An ellipsoidal organ whose surface is roughened. rough_mm: how much; inner: what is drawn inside ("", "kidney", "stomach")."""

    pose: Pose
    semi_axes: np.ndarray
    hu: float
    rough_mm: float
    inner: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Organs:
    """All organs of one patient. blobs are painted in order. dome: (right, left) height of the diaphragm [mm].

    vessels: (curve, HU) pairs. calcified: share of the arterial wall with plaques.
    """

    blobs: tuple[Blob, ...]
    dome: tuple[float, float]
    lung_hu: float
    arteries: tuple[Curve, ...]
    veins: tuple[Curve, ...]
    artery_hu: float
    vein_hu: float
    calcified: float
    contrast: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: LumbarAnatomy, body: Body) -> Organs:
        """Random organs, placed relative to the spine and the walls of this trunk."""
        s = anatomy.size
        contrast = bool(rng.random() < 0.55)
        t12 = anatomy.vertebra("T12").pose.center_lps
        dome_right = float(t12[2] + rng.uniform(15, 85))
        dome_left = dome_right - float(rng.uniform(0, 18))

        def near(level: str, x: float, y: float, z: float, jitter: float = 7.0) -> np.ndarray:
            return anatomy.vertebra(level).pose.center_lps + np.array([x, y, z]) * s + rng.normal(0, jitter, 3)

        def tilted(center: np.ndarray, spread: float = 12.0) -> Pose:
            return Pose(rotation(*rng.normal(0, spread, 3)), center)

        parenchyma = 45.0 if contrast else 0.0
        _, cy, half_width, front, _ = (float(v) for v in body.section(np.array(t12[2])))
        wall = half_width - body.fat_mm[1] - 12
        liver_hu = rng.uniform(48, 66) + parenchyma - (35 if rng.random() < 0.15 else 0)
        liver_low = rng.uniform(-25, 45)  # lower tip of the right lobe [mm]
        liver_up = max(dome_right - liver_low, 90) / 2
        right = np.array([-wall * 0.56, cy - 0.05 * front, liver_low + liver_up])
        blobs = [
            Blob(pose=tilted(right, 6), semi_axes=np.array([wall * 0.52, front * 0.72, liver_up]), hu=liver_hu, rough_mm=5),
            Blob(
                pose=tilted(near("T12", -15, -0.75 * front, 5), 10),
                semi_axes=np.array([wall * rng.uniform(0.4, 0.6), rng.uniform(28, 40), rng.uniform(38, 55)]),
                hu=liver_hu,
                rough_mm=4,
            ),
            Blob(
                pose=tilted(np.array([wall * 0.74, cy + 12, min(dome_left - 38, t12[2] + 20)]) + rng.normal(0, 6, 3), 15),
                semi_axes=np.array([rng.uniform(20, 30), rng.uniform(34, 50), rng.uniform(38, 62)]) * s,
                hu=rng.uniform(45, 58) + parenchyma * 1.3,
                rough_mm=3,
            ),
            Blob(
                pose=tilted(np.array([wall * 0.42, cy - 0.45 * front, t12[2] - rng.uniform(-15, 40)]), 25),
                semi_axes=np.array([rng.uniform(30, 58), rng.uniform(24, 42), rng.uniform(35, 62)]),
                hu=rng.uniform(5, 45) if rng.random() < 0.8 else rng.uniform(150, 450),
                rough_mm=4,
                inner="stomach",
            ),
        ]
        if rng.random() < 0.85:  # gallbladder
            center = np.array([-wall * rng.uniform(0.3, 0.5), cy - 0.5 * front, liver_low + rng.uniform(0, 35)])
            blobs.append(Blob(pose=tilted(center, 25), semi_axes=rng.uniform([11, 11, 20], [18, 18, 38]), hu=rng.uniform(2, 18), rough_mm=1))
        blobs.append(  # pancreas
            Blob(pose=tilted(near("L1", 12, -52, 8), 12), semi_axes=np.array([58, 10, 14]) * s, hu=rng.uniform(30, 45) + 0.9 * parenchyma, rough_mm=5)
        )
        for side in (1.0, -1.0):
            level = "L1" if side > 0 else "L2"
            center = near(level, side * (58 + 0.05 * half_width), 12, rng.uniform(-8, 22), 5)
            lean = Pose(rotation(rng.normal(-8, 5), side * rng.normal(-10, 5), side * rng.normal(-30, 12)), center)
            semi = np.array([rng.uniform(24, 31), rng.uniform(22, 28), rng.uniform(48, 62)]) * s
            hu = rng.uniform(28, 40) + (rng.uniform(70, 170) if contrast else 0)
            if rng.random() < 0.97:
                blobs.append(Blob(pose=lean, semi_axes=semi, hu=hu, rough_mm=2, inner="kidney"))
            if rng.random() < 0.2:
                cyst = lean.to_lps(rng.normal(0, 1, 3) * semi * 0.6)
                blobs.append(Blob(pose=tilted(cyst), semi_axes=rng.uniform(5, 20, 3) * 0.5 + 6, hu=rng.uniform(0, 15), rough_mm=0))
        arteries, veins = _draw_vessels(rng, anatomy)
        return cls(
            blobs=tuple(blobs),
            dome=(dome_right, dome_left),
            lung_hu=float(rng.uniform(-870, -740)),
            arteries=arteries,
            veins=veins,
            artery_hu=float(rng.uniform(130, 300)) if contrast else float(rng.uniform(35, 48)),
            vein_hu=float(rng.uniform(100, 180)) if contrast else float(rng.uniform(33, 46)),
            calcified=float(np.clip((anatomy.age - 45) / 45 + rng.normal(0, 0.25), 0, 1)),
            contrast=contrast,
        )


def _draw_vessels(rng: np.random.Generator, anatomy: LumbarAnatomy) -> tuple[tuple[Curve, ...], tuple[Curve, ...]]:
    """Aorta to the left and vena cava to the right in front of the bodies, both dividing at L4 into the iliac vessels."""
    s = anatomy.size
    names = ("T8", "T10", "T12", "L1", "L2", "L3", "L4")
    curves = []
    for side, radius, gap in ((1.0, rng.uniform(8.5, 12.5), 12.0), (-1.0, rng.uniform(9.5, 13.0), 9.0)):
        points = []
        for name in names:
            v = anatomy.vertebra(name)
            lateral = side * (12 if name != "T8" else 18) * s + rng.normal(0, 2.5)
            points.append(v.pose.to_lps([lateral, -v.size.depth / 2 - gap - rng.uniform(0, 5), 0]))
        trunk = shapes.smooth_curve(np.array(points), 40)
        wide = radius * s * (1.0 + 0.6 * np.exp(-(((trunk[:, 2] - rng.uniform(-20, 30)) / 25) ** 2)) * (rng.random() < 0.06))
        branches: list[Curve] = [(trunk, wide * np.linspace(1.1, 0.85, 40))]
        hip = anatomy.sacrum.center_lps
        for branch in (1.0, -1.0):
            line = np.array([
                points[-1],
                hip + np.array([branch * 27, -34 + 4 * (side < 0), 20]) * s,
                hip + np.array([branch * 50, -36 + 8 * (side < 0), -25]) * s,
                hip + np.array([branch * 62, -52, -75]) * s,
                hip + np.array([branch * 68, -72, -130]) * s,
            ])  # fmt: skip
            branches.append((shapes.smooth_curve(line + rng.normal(0, 2, line.shape) * [[0]] + 0.0, 24), np.full(24, radius * 0.58 * s)))
        curves.append(tuple(branches))
    root = anatomy.vertebra("L2").pose.center_lps + np.array([0, -52, 10]) * s
    for _ in range(int(rng.integers(6, 18))):  # mesenteric vessels fan out from in front of L2
        reach = np.array([rng.uniform(-95, 95), rng.uniform(-70, 0), rng.uniform(-120, 25)])
        line = shapes.smooth_curve(np.array([root, root + 0.5 * reach + rng.normal(0, 8, 3), root + reach]), 16)
        curves[1] = (*curves[1], (line, np.linspace(2.8, 1.3, 16)))
    return curves[0], curves[1]


def paint_organs(canvas: Canvas, organs: Organs, fields: BodyFields, rough: LatticeNoise, texture: LatticeNoise) -> None:
    """Solid organs, cut by the cavity wall and the diaphragm."""
    for blob in organs.blobs:
        reach = blob.semi_axes + blob.rough_mm * 2 + (9 if blob.inner == "kidney" else 4)
        region = canvas.pose_region(blob.pose, -reach, reach)
        if region is None:
            continue
        x, y, z = region.local(blob.pose)
        organ = shapes.ellipsoid(x, y, z, blob.semi_axes)
        if blob.rough_mm:
            organ += blob.rough_mm * rough(region.x, region.y, region.z)
        organ = shapes.smooth_intersection(organ, fields.cavity[region.slices] + 3.0, 6.0)
        noise = texture(region.x, region.y, region.z)
        if blob.inner == "stomach":
            canvas.paint(region, organ, 60.0)
            content = np.where(region.y < blob.pose.center_lps[1] - 0.35 * blob.semi_axes[1], np.float32(-950.0), blob.hu + 10 * noise)
            canvas.paint(region, organ + 4.0, content)
        elif blob.inner == "kidney":
            canvas.paint(region, organ - 5.0, -100.0)  # perirenal fat keeps liver and spleen off
            canvas.paint(region, organ, blob.hu + 5 * noise)
            side = np.sign(blob.pose.center_lps[0])
            sinus = shapes.ellipsoid(x + side * 0.55 * blob.semi_axes[0], y, z, blob.semi_axes * np.array([0.6, 0.34, 0.5]))
            canvas.paint(region, sinus + 4 * rough(region.x, region.y, region.z), -80 + 60 * np.clip(noise, 0, 1.5))
        else:
            canvas.paint(region, organ, blob.hu + 4 * noise)


def paint_lungs(
    canvas: Canvas, anatomy: LumbarAnatomy, organs: Organs, body: Body, fields: BodyFields, rough: LatticeNoise, texture: LatticeNoise
) -> None:
    """Air above the domes; the recess behind and beside them reaches lower."""
    region = canvas.region(np.array([-1e4, -1e4, min(organs.dome) - 85]), np.array([1e4, 1e4, 1e4]))
    if region is None:
        return
    cx, cy = anatomy.centre_line(region.z)
    _, by, half_width, front, _ = body.section(region.z)
    pleura = fields.cavity[region.slices] + 3.0
    bumps = 4 * rough(region.x, region.y, region.z)
    noise = texture(region.x, region.y, region.z)
    for side, dome in zip((-1.0, 1.0), organs.dome, strict=True):
        u = (region.x - cx - side * 0.52 * half_width) / (0.42 * half_width)
        v = (region.y - by + 0.15 * front) / (0.8 * front)
        below = dome - 62 * np.minimum(u * u + v * v, 1.4) - region.z + bumps
        beside = np.clip(-(region.y - cy) - 5, -14, 30) + 0.15 * np.clip(dome - region.z, -60, 0)  # heart and great vessels in front
        medial = 32 * anatomy.size - side * (region.x - cx) + beside + bumps
        lung = np.maximum(np.maximum(pleura, below * 0.8), medial)
        canvas.paint(region, lung, organs.lung_hu + 45 * noise + 130 * np.clip(noise - 1.4, 0, 3))
    heart = shapes.ellipsoid(region.x - 28, region.y - (by - 0.52 * front), region.z - (organs.dome[1] + 38), (52.0, 40.0, 42.0))
    heart = np.maximum(heart + bumps, fields.cavity[region.slices] + 8)
    canvas.paint(region, heart - 6.0, body.fat_hu)
    canvas.paint(region, heart, organs.vein_hu)


def paint_vessels(canvas: Canvas, organs: Organs, plaques: LatticeNoise) -> None:
    """Veins, then arteries with calcified spots in their walls."""
    painted = tubes(canvas, list(organs.veins), (1.15, 0.8, 1.0))
    if painted is not None:
        canvas.paint(*painted, organs.vein_hu)
    painted = tubes(canvas, list(organs.arteries))
    if painted is not None:
        region, wall = painted
        canvas.paint(region, wall, organs.artery_hu)
        if organs.calcified > 0.15:
            noise = plaques(region.x, region.y, region.z)
            plaque = canvas.occupancy(np.abs(wall + 0.7) - 1.1) * np.clip(2 * (noise - 2.0 + 1.3 * organs.calcified), 0, 1)
            canvas.blend(region, plaque, 750.0)
