"""A bone assembled from parts, each evaluated only in its own small box."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.canvas import Canvas, Pose, Region

Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Signed distance [mm] at body coordinates x, y, z [mm]."""

_MARGIN_MM = 4.0


class Union:
    """Signed distance `distance` (d, h, w) [mm] of a growing union in `region`; x, y, z: body coordinates of its voxels."""

    def __init__(self, canvas: Canvas, region: Region, pose: Pose) -> None:
        self._canvas, self._region, self._pose = canvas, region, pose
        self.x, self.y, self.z = region.local(pose)
        self.distance = np.full(self.x.shape, shapes.FAR_MM, dtype=np.float32)

    def add(self, part: Distance, ends: np.ndarray, radius_mm: float, blend_mm: float) -> None:
        """Join a part that lies within `radius_mm` of the box around `ends` (N, 3) [mm, body coordinates], with a fillet."""
        pad = radius_mm + blend_mm + self._canvas.edge_mm + _MARGIN_MM
        inner = self._canvas.pose_region(self._pose, np.min(ends, axis=0) - pad, np.max(ends, axis=0) + pad)
        if inner is None:
            return
        box = []
        for wanted, whole in zip(inner.slices, self._region.slices, strict=True):
            start, stop = max(wanted.start, whole.start) - whole.start, min(wanted.stop, whole.stop) - whole.start
            if stop <= start:
                return
            box.append(slice(start, stop))
        k, j, i = box
        added = part(self.x[k, j, i], self.y[k, j, i], self.z[k, j, i])
        self.distance[k, j, i] = shapes.smooth_union(self.distance[k, j, i], added, blend_mm)
