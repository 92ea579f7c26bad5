"""Implicit shapes: first-order signed distances [mm], negative inside. Coordinates are broadcastable float32 arrays [mm].

Distances are exact near the surface (what partial volume and shells need) and only roughly so far away from it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

FAR_MM = np.float32(1e3)
"""Signed distance of "nowhere near"."""


def ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, semi_axes: ArrayLike) -> np.ndarray:
    """Signed distance of an axis-aligned ellipsoid at the origin: (r - 1) / |grad r| with r the scaled radius."""
    a, b, c = np.asarray(semi_axes, dtype=np.float32)
    r = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2) + np.float32(1e-6)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2) + np.float32(1e-6)
    return (r - 1) * r / slope


def ellipse(x: np.ndarray, y: np.ndarray, a: float | np.ndarray, b: float | np.ndarray) -> np.ndarray:
    """Signed distance of an elliptic cylinder along z; the semi-axes may vary from voxel to voxel."""
    r = np.sqrt((x / a) ** 2 + (y / b) ** 2) + np.float32(1e-6)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2) + np.float32(1e-6)
    return (r - 1) * r / slope


def superellipse(x: np.ndarray, y: np.ndarray, a: float | np.ndarray, b: float | np.ndarray, power: float) -> np.ndarray:
    """Signed distance of the cylinder |x / a|^p + |y / b|^p = 1: power 2 is an ellipse, larger ones are boxier."""
    u, v = np.abs(x / a) + np.float32(1e-4), np.abs(y / b) + np.float32(1e-4)
    up, vp = u ** (power - 1), v ** (power - 1)
    total = up * u + vp * v
    r = total ** (1 / power)
    slope = r / total * np.sqrt((up / a) ** 2 + (vp / b) ** 2)
    return (r - 1) / slope


def box(x: np.ndarray, y: np.ndarray, z: np.ndarray, half_sizes: tuple[float, float, float], rounding: float) -> np.ndarray:
    """Signed distance of a box with edges and corners of radius `rounding`."""
    qx, qy, qz = (np.abs(c) - (h - rounding) for c, h in zip((x, y, z), half_sizes, strict=True))
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2 + np.maximum(qz, 0) ** 2)
    return outside + np.minimum(np.maximum(np.maximum(qx, qy), qz), 0) - rounding


def capsule(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    start: ArrayLike,
    end: ArrayLike,
    radii: tuple[float, float],
    flatten: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> np.ndarray:
    """Signed distance of a rod from `start` to `end` with the two end radii.

    flatten: scale of the section along x, y, z; (1, 0.5, 1) makes the rod half as thick along y.
    """
    f = np.asarray(flatten, dtype=np.float64)
    p, q = np.asarray(start, dtype=np.float64) / f, np.asarray(end, dtype=np.float64) / f
    axis = q - p
    px, py, pz = x / f[0] - p[0], y / f[1] - p[1], z / f[2] - p[2]
    t = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / max(float(axis @ axis), 1e-9), 0, 1)
    dx, dy, dz = px - t * axis[0], py - t * axis[1], pz - t * axis[2]
    length = np.sqrt(dx * dx + dy * dy + dz * dz) + np.float32(1e-6)
    distance = length - (radii[0] + (radii[1] - radii[0]) * t)
    if flatten == (1.0, 1.0, 1.0):
        return distance
    slope = np.sqrt((dx / f[0]) ** 2 + (dy / f[1]) ** 2 + (dz / f[2]) ** 2) / length
    return distance / np.maximum(slope, 1e-3)


def smooth_union(first: np.ndarray, second: np.ndarray, blend_mm: float) -> np.ndarray:
    """Union with a fillet of about `blend_mm` (quadratic polynomial minimum)."""
    h = np.maximum(blend_mm - np.abs(first - second), 0)
    return np.minimum(first, second) - h * h / (4 * blend_mm)


def smooth_intersection(first: np.ndarray, second: np.ndarray, blend_mm: float) -> np.ndarray:
    """Intersection with an edge rounded by about `blend_mm`."""
    h = np.maximum(blend_mm - np.abs(first - second), 0)
    return np.maximum(first, second) + h * h / (4 * blend_mm)


def occupancy(distance: np.ndarray, edge_mm: float) -> np.ndarray:
    """Part of a voxel that lies inside, 0 to 1: the partial volume effect."""
    return np.clip(np.float32(0.5) - distance / np.float32(edge_mm), 0, 1)


def smooth_curve(points: np.ndarray, num_points: int) -> np.ndarray:
    """(N, 3) control points -> (num_points, 3) on a Catmull-Rom curve through them."""
    p = np.asarray(points, dtype=np.float64)
    padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    s = np.linspace(0, len(p) - 1 - 1e-9, num_points)
    i, t = s.astype(int), (s % 1)[:, None]
    a, b, c, d = padded[i], padded[i + 1], padded[i + 2], padded[i + 3]
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
