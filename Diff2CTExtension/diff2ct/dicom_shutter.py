"""Collimator and display shutter of a DICOM X-ray -> mask of the pixels that see the patient (PS3.3 C.8.7.3 and C.7.6.11)."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from diff2ct.dicom_file import number, numbers


def visible_pixels(dataset: Dataset, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool. Positions in DICOM count from 1; the edges themselves belong to the visible part."""
    known = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
    visible = np.ones(size, bool)
    for prefix in ("Collimator", "Shutter"):
        shapes = dataset.get(f"{prefix}Shape") or []
        for shape in [shapes] if isinstance(shapes, str) else shapes:
            if shape in known:
                visible &= known[shape](dataset, prefix, size)
    return visible


def _rectangle(dataset: Dataset, prefix: str, size: tuple[int, int]) -> np.ndarray:
    rows, columns = _positions(size)
    inside = np.ones(size, bool)
    for keyword, beyond in (
        ("LeftVerticalEdge", lambda edge: columns < edge),
        ("RightVerticalEdge", lambda edge: columns > edge),
        ("UpperHorizontalEdge", lambda edge: rows < edge),
        ("LowerHorizontalEdge", lambda edge: rows > edge),
    ):
        edge = number(dataset, prefix + keyword)
        if edge is not None:
            inside &= ~beyond(edge)
    return inside


def _circle(dataset: Dataset, prefix: str, size: tuple[int, int]) -> np.ndarray:
    center = numbers(dataset, f"CenterOfCircular{prefix}", 2)
    radius = number(dataset, f"RadiusOfCircular{prefix}")
    if center is None or radius is None:
        return np.ones(size, bool)
    rows, columns = _positions(size)
    return (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius**2


def _polygon(dataset: Dataset, prefix: str, size: tuple[int, int]) -> np.ndarray:
    """Even-odd rule: inside if a ray toward higher columns crosses the outline an odd number of times."""
    flat = dataset.get(f"VerticesOfThePolygonal{prefix}") or []
    vertices = np.array([float(v) for v in flat[: len(flat) // 2 * 2]]).reshape(-1, 2)
    if len(vertices) < 3:
        return np.ones(size, bool)
    rows, columns = _positions(size)
    inside = np.zeros(size, bool)
    for (row_a, column_a), (row_b, column_b) in zip(vertices, np.roll(vertices, 1, axis=0), strict=True):
        if row_a == row_b:
            continue
        crosses = (rows >= min(row_a, row_b)) & (rows < max(row_a, row_b))
        inside ^= crosses & (columns <= column_a + (rows - row_a) * (column_b - column_a) / (row_b - row_a))
    return inside


def _positions(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.ogrid[1 : size[0] + 1, 1 : size[1] + 1]
    return rows, columns
