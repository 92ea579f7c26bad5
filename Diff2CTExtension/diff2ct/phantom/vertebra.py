"""Vertebrae and discs. Body coordinates: x to the left, y back, z up, origin in the middle of the vertebral body [mm]."""

from __future__ import annotations

from functools import partial

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy, Segment, Vertebra
from diff2ct.phantom.canvas import Canvas
from diff2ct.phantom.noise import LatticeNoise
from diff2ct.phantom.union import Union

_SIDES = (1.0, -1.0)


def paint_spine(canvas: Canvas, anatomy: LumbarAnatomy, texture: LatticeNoise) -> None:
    """Canal, discs, then vertebrae T8 to L5 with their labels."""
    for segment in anatomy.segments:
        _paint_disc(canvas, segment, texture)
    for index, vertebra in enumerate(anatomy.vertebrae):
        below = anatomy.segments[index]
        above = anatomy.segments[index + 1] if index + 1 < len(anatomy.segments) else None
        _paint_vertebra(canvas, vertebra, below, above, texture)


def _paint_vertebra(canvas: Canvas, v: Vertebra, below: Segment, above: Segment | None, texture: LatticeNoise) -> None:
    s = v.size
    reach = s.transverse_width / 2 + 6
    low = np.array([-reach, -s.depth / 2 - 8, -s.height / 2 - 30])
    high = np.array([reach, s.spinous_length + 6, s.height / 2 + 24])
    region = canvas.pose_region(v.pose, low, high)
    if region is None:
        return
    parts = Union(canvas, region, v.pose)
    x, y, z = parts.x, parts.y, parts.z
    side_wall, endplate = _body_distances(v, x, y, z)
    body = shapes.smooth_intersection(side_wall, endplate, 1.5)
    arch = _arch_distance(v, below, above, parts)
    bone = shapes.smooth_union(body, arch, 4.0)

    noise = texture(region.x, region.y, region.z)
    spongy = v.trabecular_hu * (1 + 0.20 * noise)
    spongy += (0.5 * v.trabecular_hu + 60) * np.exp(np.minimum(endplate, 0) / 2.5)  # denser toward the endplates
    behind = np.clip((y - 0.35 * s.depth) / (0.4 * s.depth), 0, 1)  # arch and pedicles hold more bone
    spongy += behind * (0.4 * v.trabecular_hu + 50)
    vein = shapes.ellipsoid(x, y - s.depth / 2, z, (4.0, 9.0, 2.5))  # basivertebral vein
    spongy -= canvas.occupancy(vein) * 0.6 * v.trabecular_hu
    # body wall: thin cortex; endplates and arch: thicker
    thickness = v.cortex_mm * np.where(endplate > side_wall, np.float32(1.45), np.float32(1.0))
    thickness = np.where(arch < body, np.float32(0.4 + 0.9 * v.cortex_mm), thickness)
    canvas.paint(region, bone, v.cortical_hu)
    canvas.paint(region, bone + thickness, spongy)
    canvas.label(region, bone, v.label)


def _body_distances(v: Vertebra, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances of the (endless) side wall and of the space between the endplates."""
    s = v.size
    height = s.height - 2 * y * np.float32(np.tan(np.radians(s.wedge_deg / 2)))
    w = np.clip(2 * z / height, -1.15, 1.15)  # -1 lower, +1 upper endplate
    width = (s.width_upper + s.width_lower) / 4 + w * (s.width_upper - s.width_lower) / 4
    ratio = np.float32(s.depth / 2) / width
    scale = 1 - np.float32(v.waist) * (1 - w * w)
    scale = scale - np.float32(0.03) * np.clip(np.abs(w) - 0.85, 0, 1) / np.float32(0.15)  # rounded rim
    rim = _osteophytes(v, x, y, w)
    u, d = x / scale, y / scale
    wall = shapes.superellipse(u, d / ratio, width, width, 2.35) - rim
    dent_radius, dent = np.float32(0.55 * s.width_upper), np.float32(0.09 * s.depth + 0.8)
    back = dent_radius - np.sqrt(u * u + (d - (s.depth / 2 + dent_radius - dent)) ** 2)  # concave posterior wall
    wall = shapes.smooth_intersection(wall, back, 3.0)
    radius = (u / width) ** 2 + (d / (np.float32(s.depth / 2))) ** 2
    bowl = np.float32(v.concavity_mm) * np.clip(1 - radius / 0.75, 0, 1)
    endplate = np.abs(z) - (height / 2 - bowl)
    return wall, endplate


def _osteophytes(v: Vertebra, x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """How far spurs stick out [mm]: at the rims, to the front and the sides, lobed."""
    rng = np.random.default_rng(v.seed)
    angle = np.arctan2(-y, x)
    lobes = sum(rng.uniform(0.2, 0.5) * np.cos(k * angle + np.float32(rng.uniform(0, 6.28))) for k in (1, 2, 3, 5))
    lobes = np.clip(lobes + np.float32(0.45), 0, 1.2) * np.clip(0.8 - 1.2 * y / v.size.depth, 0, 1)
    upper, lower = v.osteophyte_mm
    return lobes * (upper * np.exp(-(((w - 1) / 0.22) ** 2)) + lower * np.exp(-(((w + 1) / 0.22) ** 2)))


def pedicle_axis(v: Vertebra, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Isthmus centre and unit direction (from back to front, converging), both (3,) in body coordinates; side +1 is left."""
    s = v.size
    angle = np.radians(s.pedicle_angle_deg)
    middle = np.array(
        [side * (s.canal_width + s.pedicle_width) / 2, s.depth / 2 + 1.5, s.height / 2 - s.pedicle_height / 2 - 1.0]
    )
    return middle, np.array([-side * np.sin(angle), -np.cos(angle), 0.0])


def _arch_distance(v: Vertebra, below: Segment, above: Segment | None, bone: Union) -> np.ndarray:
    """Pedicles, laminae and processes around the free canal."""
    s = v.size
    lumbar = v.name.startswith("L")
    k = s.canal_depth / 18.0
    for index, side in enumerate(_SIDES):
        middle, direction = pedicle_axis(v, side)
        tube = partial(_pedicle, middle, direction, s.pedicle_width, s.pedicle_height)
        bone.add(tube, np.stack([middle - 12 * direction, middle + 17 * direction]), s.pedicle_height / 2 + 3, 1.0)
        junction = middle + [side * 1.0, 0.70 * s.canal_depth, -2.0]
        pars = np.array(
            [side * (s.canal_width / 2 + 1.5), s.depth / 2 + 0.86 * s.canal_depth, middle[2] - 0.62 * s.pedicle_height]
        )
        _add_rod(bone, junction, pars, (5.2 * k, 4.6 * k), 3.0)
        if not v.laminectomy:
            ridge = np.array([0.0, s.depth / 2 + s.canal_depth + 5.0, pars[2] - 7.0])
            bone.add(partial(_lamina, v, side, pars), np.stack([pars, ridge]), 0.42 * s.height + 2, 3.0)
        tip = np.array(
            [side * s.transverse_width / 2, s.depth / 2 + 0.80 * s.canal_depth, middle[2] + (2.0 if lumbar else 4.0)]
        )
        root = middle + [side * 2.0, 0.55 * s.canal_depth, -1.0]
        thick = (8.5, 4.0) if v.name == "L5" else (6.5, 4.0) if lumbar else (6.0, 5.0)
        _add_rod(bone, root, tip, thick, 3.0, (1.0, 0.55, 1.0))
        _add_articular(v, below, index, -1.0, pars, bone)
        if above is not None:
            _add_articular(v, above, index, 1.0, junction, bone)
    if not v.laminectomy:
        root, tip = _spinous_ends(v)
        bone.add(partial(_spinous, v), np.stack([root, tip]), s.spinous_height / 2 + 3, 3.0)
    return np.maximum(bone.distance, -canal_distance(v, bone.x, bone.y))


def _add_rod(
    bone: Union,
    start: np.ndarray,
    end: np.ndarray,
    radii: tuple[float, float],
    blend_mm: float,
    flatten: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> None:
    rod = partial(shapes.capsule, start=start, end=end, radii=radii, flatten=flatten)
    bone.add(rod, np.stack([start, end]), max(radii), blend_mm)


def canal_distance(v: Vertebra, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance of the vertebral canal, rounded triangular, endless along z."""
    s = v.size
    d = y - (s.depth / 2 + s.canal_depth / 2)
    half_width = np.float32(s.canal_width / 2) * (1 - np.float32(0.35) * np.clip(2 * d / s.canal_depth, 0, 1.4))
    return shapes.superellipse(x, d, half_width, s.canal_depth / 2, 2.6)


def _pedicle(
    middle: np.ndarray, direction: np.ndarray, width: float, height: float, x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> np.ndarray:
    """Elliptic tube along `direction`, a little narrower at the isthmus."""
    dx, dy, dz = x - middle[0], y - middle[1], z - middle[2]
    along = dx * direction[0] + dy * direction[1]
    across = dx * direction[1] - dy * direction[0]
    flare = 1 + np.float32(0.0018) * along * along
    tube = shapes.ellipse(across, dz, flare * np.float32(width / 2), flare * np.float32(height / 2))
    return np.maximum(tube, np.abs(along - 2.5) - 14.0)


def _lamina(v: Vertebra, side: float, pars: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Half of the roof: a slab from the pars to the midline, upper edge in front of the lower one."""
    s = v.size
    ridge = np.array([0.0, s.depth / 2 + s.canal_depth + 5.0])
    start = pars[:2] + [side * 1.0, 0.0]
    axis = ridge - start
    half_height = 0.40 * s.height
    middle_z = pars[2] - 3.0
    yy = y + np.float32(0.30) * (z - np.float32(middle_z))
    t = np.clip(((x - start[0]) * axis[0] + (yy - start[1]) * axis[1]) / (axis @ axis), 0, 1)
    slab = np.sqrt((x - start[0] - t * axis[0]) ** 2 + (yy - start[1] - t * axis[1]) ** 2) - 3.3
    return shapes.smooth_intersection(slab, np.abs(z - (middle_z - 4.0 * t)) - half_height, 4.0)


def _add_articular(v: Vertebra, segment: Segment, index: int, up: float, root: np.ndarray, bone: Union) -> None:
    """Articular process to the joint of `segment`; up = +1: superior process (outside), -1: inferior process (inside)."""
    lumbar = segment.upper.startswith("L") or segment.upper == "T12"
    grown = 1 + 0.35 * segment.degeneration
    thick, wide, tall = (3.6 * grown, 6.8 * grown, 8.2 * grown) if lumbar else (2.6, 5.5, 7.0)
    gap = 1.1 - 0.6 * segment.degeneration
    normal = segment.facet_normals_lps[index]
    center = v.pose.from_lps(segment.facets_lps[index] + up * normal * (gap + thick)).astype(np.float32)
    n = normal @ v.pose.rotation
    upward = np.array([0.0, 0.0, 1.0]) - n[2] * n
    upward /= np.linalg.norm(upward)
    frame = np.stack([np.cross(upward, n), n, upward]).astype(np.float32)

    def plate(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        dx, dy, dz = x - center[0], y - center[1], z - center[2]
        u, v, w = (dx * a[0] + dy * a[1] + dz * a[2] for a in frame)
        return shapes.ellipsoid(u, v, w, (wide, thick, tall))

    bone.add(plate, center[None], max(wide, tall), 2.0)
    _add_rod(bone, root, center - [0, 0, 2.0 * up], (4.8 if lumbar else 3.5, 3.4 * grown if lumbar else 2.6), 2.0)


def _spinous_ends(v: Vertebra) -> tuple[np.ndarray, np.ndarray]:
    """Root and tip of the spinous process, (3,) each."""
    s = v.size
    root = np.array([0.0, s.depth / 2 + s.canal_depth + 3.0, s.height / 2 - 1.35 * s.pedicle_height])
    return root, np.array(
        [0.0, s.spinous_length, root[2] - (s.spinous_length - root[1]) * np.tan(np.radians(s.spinous_tilt_deg))]
    )


def _spinous(v: Vertebra, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The hatchet blade, thicker along its lower back edge."""
    s = v.size
    tilt = np.radians(s.spinous_tilt_deg)
    root, tip = _spinous_ends(v)
    length = float(np.linalg.norm(tip - root))
    along = (y - root[1]) * np.cos(tilt) - (z - root[2]) * np.sin(tilt)
    upward = (y - root[1]) * np.sin(tilt) + (z - root[2]) * np.cos(tilt)
    bend = np.float32(np.random.default_rng(v.seed + 1).normal(0, 1.5) / length) * along  # rarely straight
    u = np.clip(along / length, 0, 1)
    half_thickness = 2.9 + 1.6 * u * u * np.clip(0.6 - upward / s.spinous_height, 0, 1)
    half_height = s.spinous_height / 2 * (0.85 + 0.25 * u)
    blade = shapes.superellipse(along - 0.42 * length, upward, 0.58 * length, half_height, 3.0)
    return shapes.smooth_intersection(np.abs(x - bend) - half_thickness, blade, 3.0)


def _paint_disc(canvas: Canvas, segment: Segment, texture: LatticeNoise) -> None:
    """Fibrous ring, softer nucleus, gas if worn out. Painted first and too tall: the vertebrae then cut its faces."""
    half = np.array([segment.width / 2 + 4, segment.depth / 2 + 4, segment.disc_height / 2 + 6])
    region = canvas.pose_region(segment.pose, -half, half)
    if region is None:
        return
    x, y, z = region.local(segment.pose)
    rng = np.random.default_rng(segment.seed)
    bulge = 0.5 + 2.0 * segment.degeneration * rng.random()
    wall = shapes.superellipse(x, y, segment.width / 2 + bulge, segment.depth / 2 + bulge * 0.7, 2.35)
    back = np.float32(28.0) - np.sqrt(x * x + (y - (segment.depth / 2 + 26.0 - bulge * 0.6)) ** 2)
    wall = shapes.smooth_intersection(wall, back, 4.0)
    thickness = segment.disc_height / 2 - y * np.float32(np.tan(np.radians(segment.wedge_deg / 2)))
    disc = np.maximum(wall, np.abs(z) - (thickness + 3.5))
    hu = segment.disc_hu + 8 * texture(region.x, region.y, region.z)
    nucleus = shapes.ellipse(x, y - 2, 0.30 * segment.width, 0.30 * segment.depth)
    hu -= 14 * (1 - segment.degeneration) * shapes.occupancy(nucleus, 8.0)
    canvas.paint(region, disc, hu)
    if segment.vacuum:
        center = np.array([rng.uniform(-8, 8), rng.uniform(-9, 5)])
        gas = shapes.ellipsoid(
            x - center[0], y - center[1], z, (rng.uniform(5, 14), rng.uniform(4, 9), max(segment.disc_height * 0.25, 1.0))
        )
        canvas.paint(region, gas, float(rng.uniform(-950, -600)))
