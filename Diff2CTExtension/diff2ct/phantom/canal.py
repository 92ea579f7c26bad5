"""Vertebral canal: epidural fat, dural sac with CSF, cord down to L1/L2 and the roots of the cauda equina."""

from __future__ import annotations

import numpy as np

from diff2ct.phantom import shapes
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.canvas import Canvas


def paint_canal(canvas: Canvas, anatomy: LumbarAnatomy) -> None:
    """Tubes along the canal; the vertebrae are painted later and leave their canal open."""
    knots = []
    for v in anatomy.vertebrae:
        point = v.pose.to_lps([0, (v.size.depth + v.size.canal_depth) / 2, 0])
        knots.append((*point, v.size.canal_width / 2, v.size.canal_depth / 2))
    s = anatomy.size
    for y, z, wide, deep in ((25, 0, 13, 9), (21, -25, 11, 7), (20, -45, 8, 5), (17, -70, 5, 4)):
        knots.insert(0, (*anatomy.sacrum.to_lps([0, y * s, z * s]), wide * s, deep * s))
    line = np.array(knots)
    pad = np.array([20.0, 20.0, 5.0])
    region = canvas.region(line[:, :3].min(axis=0) - pad, line[:, :3].max(axis=0) + pad)
    if region is None:
        return
    order = np.argsort(line[:, 2])
    cx, cy, wide, deep = (np.interp(region.z, line[order, 2], line[order, k]).astype(np.float32) for k in (0, 1, 3, 4))
    x, y = region.x - cx, region.y - cy
    canvas.paint(region, shapes.ellipse(x, y, wide + 1, deep + 1), -70.0)
    canvas.paint(region, shapes.ellipse(x, y, 0.74 * wide, 0.84 * deep), 12.0)
    conus = anatomy.vertebra("L1").pose.center_lps[2] - 10
    cord = np.clip((region.z - conus) / 25 + 1, 0, 1)
    canvas.paint(region, shapes.ellipse(x, y, 4.6 * cord + 0.01, 3.6 * cord + 0.01), 38.0)
    roots = shapes.ellipse(x, y - 0.35 * deep, 0.55 * wide, 0.28 * deep)
    canvas.paint(region, np.where(region.z < conus, roots, shapes.FAR_MM), 28.0)
