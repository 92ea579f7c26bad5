"""Sacrum and iliac bones."""

from __future__ import annotations

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LABELS, LumbarAnatomy, rotation
from diff2ct.phantom.canvas import Canvas, Pose
from diff2ct.phantom.noise import LatticeNoise

_SIDES = (1.0, -1.0)


def paint_sacrum(canvas: Canvas, anatomy: LumbarAnatomy, texture: LatticeNoise) -> None:
    """S1 to S5 with the alae, foramina, canal, crest and S1's articular processes. Origin: the middle of S1's body."""
    s = anatomy.size
    region = canvas.pose_region(anatomy.sacrum, np.array([-64, -36, -118]) * s, np.array([64, 58, 44]) * s)
    if region is None:
        return
    x, y, z = region.local(anatomy.sacrum)
    lower = anatomy.vertebra("L5").size
    top = lower.height * 0.5
    heights = np.array([-110, -88, -70, -50, -27, 0, 20]) * s
    middle = np.interp(z, heights, np.array([-22, -10, -2, 3, 3, 0, -2]) * s).astype(np.float32)
    half_width = np.interp(z, heights, np.array([6, 10, 13, 16, 19, 23.5, 24.8]) * s).astype(np.float32)
    half_depth = np.interp(z, heights, np.array([5, 6, 7.5, 9, 12, 15.5, 16.8]) * s).astype(np.float32)
    d = y - middle
    column = shapes.superellipse(x, d, half_width, half_depth, 2.4)
    plate = z - (top - 1.2 * np.clip(1 - (x / (18 * s)) ** 2 - (d / (12 * s)) ** 2, 0, 1))
    bone = shapes.smooth_intersection(column, np.maximum(plate, -112 * s - z), 2.0)
    drooping = z + np.float32(0.22) * np.maximum(np.abs(x) - 20 * s, 0)  # the alae slope down to the sides
    wing_heights = np.array([-112, -92, -74, -55, -30, -10, 4, 12]) * s
    half_span = np.interp(drooping, wing_heights, np.array([3, 12, 24, 36, 49, 57, 55, 46]) * s).astype(np.float32)
    wing_depth = np.interp(drooping, wing_heights, np.array([2, 6, 9, 11, 13, 14, 13, 9]) * s).astype(np.float32)
    back = 5 * s + np.float32(0.12) * np.abs(x)  # the pelvic surface is hollow from side to side
    wing = shapes.superellipse(x, d - back, half_span, wing_depth, 2.6)
    wing = shapes.smooth_intersection(wing, drooping - (top - 3 * s), 8.0)
    bone = shapes.smooth_union(bone, wing, 5.0)
    canal_depth = np.interp(z, heights, np.array([1, 3, 5, 6, 7, 8.5, 9]) * s).astype(np.float32)
    canal_width = np.interp(z, heights, np.array([2, 5, 8, 10, 12.5, 15, 15]) * s).astype(np.float32)
    roof = d - (half_depth + 2 * canal_depth + 3.5 * s)
    for side in _SIDES:  # laminae: from the lateral mass up to the crest
        out = np.clip(side * x / (18 * s), 0, 1)
        slab = np.sqrt((side * x - 18 * s * out) ** 2 + (roof + 8 * s * out) ** 2) - 3.6
        bone = shapes.smooth_union(bone, shapes.smooth_intersection(slab, np.abs(z + 33 * s) - 38 * s, 4.0), 3.0)
    crest = np.abs(roof - 4 * s) - (5.0 + 2.0 * np.cos(z * np.float32(2 * np.pi / (24 * s))))
    crest = shapes.smooth_intersection(np.maximum(np.abs(x) - 2.6, crest), np.abs(z + 33 * s) - 34 * s, 3.0)
    bone = shapes.smooth_union(bone, crest, 3.0)
    bone = shapes.smooth_union(bone, _s1_processes(anatomy, x, y, z), 3.0)
    bone = np.maximum(bone, -shapes.ellipse(x, d - half_depth - canal_depth, canal_width, canal_depth))
    for side in _SIDES:
        for fx, fz, radius in ((19, -15, 4.8), (17, -38, 4.2), (14, -59, 3.4)):
            p, q = np.array([side * fx * 1.12, -25, fz - 4]) * s, np.array([side * fx * 0.9, 45, fz + 3]) * s
            bone = np.maximum(bone, -shapes.capsule(x, y, z, p, q, (radius * s, radius * 0.8 * s)))
    spongy = anatomy.trabecular_hu * (0.85 + 0.22 * texture(region.x, region.y, region.z))
    spongy -= (0.7 * anatomy.trabecular_hu) * np.clip(np.abs(x) / (30 * s) - 0.6, 0, 1)  # fatty alae
    spongy += 90 * np.exp(np.minimum(plate, 0) / 3.0) * (column < 2)
    joint_space = np.maximum(bone - 1.6, 30 * s - np.abs(x))  # cartilage between sacrum and ilium, which was painted before
    canvas.paint(region, joint_space, 60.0)
    canvas.paint(region, bone, anatomy.cortical_hu)
    canvas.paint(region, bone + (0.2 + anatomy.cortex_mm), spongy)
    canvas.label(region, bone, LABELS["S1"])


def _s1_processes(anatomy: LumbarAnatomy, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The two superior articular processes, outside and in front of L5's inferior ones."""
    segment, s = anatomy.segments[0], anatomy.size
    grown = 1 + 0.3 * segment.degeneration
    bone = np.full(x.shape, shapes.FAR_MM, dtype=np.float32)
    for index, side in enumerate(_SIDES):
        offset = segment.facet_normals_lps[index] * (1.1 - 0.6 * segment.degeneration + 3.6 * grown)
        center = anatomy.sacrum.from_lps(segment.facets_lps[index] + offset)
        root = np.array([side * 25 * s, 22 * s, 0.0])
        plate = shapes.ellipsoid(x - center[0], y - center[1], z - center[2], (5.0 * grown, 5.0 * grown, 8.5 * grown))
        neck = shapes.capsule(x, y, z, root, center, (6.5, 4.0))
        bone = np.minimum(bone, shapes.smooth_union(plate, neck, 2.0))
    return bone


def ilium_frame(anatomy: LumbarAnatomy) -> Pose:
    """World-aligned frame at the middle of S1, turned with the pelvis."""
    r = anatomy.sacrum.rotation
    axial = np.degrees(np.arctan2(r[1, 0], r[0, 0]))
    coronal = np.degrees(np.arcsin(-r[2, 0]))
    return Pose(rotation(0.0, float(coronal), float(axial)), anatomy.sacrum.center_lps)


def ilium_distances(
    anatomy: LumbarAnatomy, side: float, x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One iliac wing in `ilium_frame` coordinates: signed distance of the bone and of its (endless) inner face, < 0 outside.

    The wing is a bent blade, thick at crest, joint and hip.
    """
    s = anatomy.size
    wide = 1.05 if anatomy.female else 1.0
    forward = np.array([0.50, -0.866, 0.0])
    upward = np.array([0.20, 0.08, 0.98])
    upward = upward - (upward @ forward) * forward
    upward /= np.linalg.norm(upward)
    outward = np.cross(forward, upward)
    outward *= np.sign(outward[0])
    center = np.array([80 * wide, -14, -32]) * s
    dx, dy, dz = side * x - center[0], y - center[1], z - center[2]
    f, u, n = ((dx * a[0] + dy * a[1] + dz * a[2]) / np.float32(s) for a in (forward, upward, outward))
    outline = shapes.superellipse(f, u - 4 - 8 * np.cos(f * np.float32(0.02)), 80.0, 66.0, 2.2)
    n = n - 13 * (1 - (f / 75) ** 2) + 5 * np.clip(u / 60, -1, 1) ** 2
    half = 2.6 + 4.5 * np.exp(np.minimum(outline, 0) / 9) + 7.0 / (1 + np.exp((f + 42) / 6)) + 9.0 / (1 + np.exp((u + 42) / 7))
    return np.float32(s) * shapes.smooth_intersection(np.abs(n) - half, outline, 5.0), -n * np.float32(s)


def paint_ilia(canvas: Canvas, anatomy: LumbarAnatomy, texture: LatticeNoise, muscle_hu: float, fascia: np.ndarray) -> None:
    """Iliac wings with iliacus inside and the gluteal muscles outside. fascia: (D, H, W) its signed distance [mm]."""
    frame, s = ilium_frame(anatomy), anatomy.size
    for side in _SIDES:
        near, far = np.array([15.0, -125, -165]) * s, np.array([170.0, 105, 60]) * s
        mirrored = np.array([[side * near[0], *near[1:]], [side * far[0], *far[1:]]])
        region = canvas.pose_region(frame, mirrored.min(axis=0), mirrored.max(axis=0))
        if region is None:
            continue
        x, y, z = region.local(frame)
        bone, inner = ilium_distances(anatomy, side, x, y, z)
        bone = shapes.smooth_intersection(bone, fascia[region.slices] + 7.0, 8.0)  # the crest stays below the fascia
        noise = texture(region.x, region.y, region.z)
        bulk = 12 + 24 * np.clip(0.5 - inner / (10 * s), 0, 1)
        muscle = bone - bulk * np.clip((25 * s - z) / (60 * s), 0.05, 1) * s
        muscle = shapes.smooth_intersection(muscle, fascia[region.slices] + 1.0, 4.0)
        canvas.paint(region, muscle, muscle_hu + 10 * noise)
        canvas.paint(region, bone, anatomy.cortical_hu)
        canvas.paint(region, bone + (0.4 + 1.2 * anatomy.cortex_mm), anatomy.trabecular_hu * (0.8 + 0.2 * noise))
