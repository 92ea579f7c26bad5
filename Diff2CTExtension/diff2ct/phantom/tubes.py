"""Curved tubes: ribs, vessels, bowel, rods. Their union is one signed distance, so that walls have no inner seams."""

from __future__ import annotations

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.canvas import Canvas, Region

Curve = tuple[np.ndarray, np.ndarray]
"""Points (N, 3) [mm] and radii (N,) [mm]."""


def tubes(
    canvas: Canvas, curves: list[Curve], flatten: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> tuple[Region, np.ndarray] | None:
    """Box around all curves and the signed distance of their union in it; None if they miss the grid."""
    pad = max(float(radii.max()) for _, radii in curves) + 2 * canvas.edge_mm
    points = np.concatenate([p for p, _ in curves])
    whole = canvas.region(points.min(axis=0) - pad, points.max(axis=0) + pad)
    if whole is None:
        return None
    distance = np.full(canvas.hu[whole.slices].shape, shapes.FAR_MM, dtype=np.float32)
    for p, r in curves:
        for i in range(len(p) - 1):
            reach = max(r[i], r[i + 1]) + 2 * canvas.edge_mm
            part = canvas.region(np.minimum(p[i], p[i + 1]) - reach, np.maximum(p[i], p[i + 1]) + reach)
            if part is None:
                continue
            inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(part.slices, whole.slices, strict=True))
            d = shapes.capsule(part.x, part.y, part.z, p[i], p[i + 1], (float(r[i]), float(r[i + 1])), flatten)
            np.minimum(distance[inner], d, out=distance[inner])
    return whole, distance
