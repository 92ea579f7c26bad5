"""NIfTI-1 files before ITK reads them: their header, whether all voxels are there, and whether one place is meant (nifti1.h of
the NIFTI-1 data format).

A file may say twice where its voxels are, by a matrix (sform) and by a quaternion with pixdim (qform). Where these differ ITK
takes one in silence, the upright qform beside the sform of a tilted gantry; a sform that stands alone and is 0.005 degrees off
right angles, as a registration or a rounding leaves it, it does not read at all.
"""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

Header = Mapping[str, tuple[Any, ...]]

_LENGTH = 348
_LAYOUT = {
    "dim": ("8h", 40),
    "bitpix": ("h", 72),
    "pixdim": ("8f", 76),
    "vox_offset": ("f", 108),
    "units": ("B", 123),
    "codes": ("2h", 252),
    "quaternion": ("6f", 256),
    "sform": ("12f", 280),
}
_READ_BY_ITK, _MOST_SHEAR = 2e-5, 0.01
"""Cosines between axes: up to the one ITK 5.4 reads a sform, beyond the other its axes mean something, such as a tilt."""


def nifti_header(path: Path) -> Header:
    """What `_LAYOUT` names; codes: of qform and sform. ValueError if this is no NIfTI-1 file."""
    try:
        with _opened(path) as file:
            start = file.read(_LENGTH)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name}: damaged gzip data") from error
    endian = _endian(path.name, start)
    return {field: struct.unpack_from(endian + form, start, at) for field, (form, at) in _LAYOUT.items()}


def check_nifti_complete(path: Path) -> None:
    """ValueError if voxels are missing at the end."""
    header = nifti_header(path)
    rank = int(header["dim"][0])
    offset = float(header["vox_offset"][0])
    if not math.isfinite(offset):
        raise ValueError(f"{path.name}: damaged, its voxels begin at byte {offset}")
    expected = int(offset) + math.prod(header["dim"][1 : rank + 1]) * int(header["bitpix"][0]) // 8
    length = 0
    try:
        with _opened(path) as file:
            while block := file.read(1 << 22):
                length += len(block)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name}: damaged or truncated gzip data") from error
    if length < expected:
        raise ValueError(f"{path.name}: truncated, {length} of {expected} bytes are there")


@contextmanager
def at_right_angles(path: Path) -> Iterator[Path]:
    """The file itself, or for a volume whose sform, alone, is slightly off right angles a temporary copy with the nearest ones,
    and a warning. ValueError if it is sheared, or contradicts the qform or pixdim."""
    header = nifti_header(path)
    has_sform = header["codes"][1] > 0 and (any(header["sform"]) or header["codes"][0] <= 0)
    if not has_sform or header["dim"][0] < 3 or min(header["dim"][1:4]) < 2 or not min(header["pixdim"][1:4]) > 0:
        yield path  # an X-ray, or what is no CT for another reason
        return
    sform = np.array(header["sform"], np.float64).reshape(3, 4)
    corners = np.array(list(product(*((0, n - 1) for n in header["dim"][1:4]))), np.float64)
    shear = _shear(path.name, sform)
    _check_agreement(path.name, header, sform, corners)
    if shear <= _READ_BY_ITK or header["codes"][0] > 0:
        yield path
        return
    upright, moved_mm = _upright(sform, corners)
    warnings.warn(
        f"{path.name}: its axes are {_degrees(shear):.3f} degrees off right angles; they are taken as right angles, which "
        f"moves voxels by up to {moved_mm:.2f} mm",
        stacklevel=3,
    )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "upright.nii"
        with _opened(path) as source, copy.open("wb") as target:
            start = bytearray(source.read(_LENGTH))
            form, at = _LAYOUT["sform"]
            struct.pack_into(_endian(path.name, start) + form, start, at, *upright.ravel())
            target.write(start)
            shutil.copyfileobj(source, target, 1 << 22)
        yield copy


def _shear(name: str, sform: np.ndarray) -> float:
    """Largest cosine between two axes of a sform (3, 4); ValueError if that is no inaccuracy any more."""
    steps = np.linalg.norm(sform[:, :3], axis=0)
    if not np.isfinite(sform).all() or not steps.all():
        raise ValueError(f"{name}: its sform is {sform.tolist()}, accepted are three axes and a place")
    axes = sform[:, :3] / steps
    shear = float(np.abs(np.triu(axes.T @ axes, 1)).max())
    if shear > _MOST_SHEAR:
        raise ValueError(
            f"{name}: its axes are sheared by {_degrees(shear):.1f} degrees, as after a tilt of the gantry; resample it to an "
            "upright grid first"
        )
    return shear


def _degrees(cosine: float) -> float:
    return float(np.degrees(np.arcsin(min(cosine, 1.0))))


def _check_agreement(name: str, header: Header, sform: np.ndarray, corners: np.ndarray) -> None:
    """ValueError if sform (3, 4) and what else the header says are more than half a voxel apart at one of `corners` (8, 3)."""
    steps = np.linalg.norm(sform[:, :3], axis=0)
    others = {"pixdim": np.column_stack([sform[:, :3] / steps * header["pixdim"][1:4], sform[:, 3]])}
    if header["codes"][0] > 0:
        others["qform"] = _qform(header)
    for word, other in others.items():
        apart = corners @ (sform - other)[:, :3].T + (sform - other)[:, 3]
        if not np.abs(np.linalg.solve(other[:, :3], apart.T)).max() <= 0.5:
            mm = np.linalg.norm(apart, axis=1).max()
            raise ValueError(f"{name}: sform and {word} contradict each other, they put a corner {mm:.1f} mm apart")


def _upright(sform: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, float]:
    """((3, 4) with the right angles that are nearest to `sform`'s axes, around the same middle; how far a corner moves)."""
    steps = np.linalg.norm(sform[:, :3], axis=0)
    u, _, vt = np.linalg.svd(sform[:, :3] / steps)
    change = u @ vt * steps - sform[:, :3]
    middle = corners.mean(0)
    moved_mm = np.linalg.norm((corners - middle) @ change.T, axis=1).max()
    return sform + np.column_stack([change, -change @ middle]), float(moved_mm)


def _qform(header: Header) -> np.ndarray:
    """(3, 4) of the quaternion, "METHOD 2" in nifti1.h."""
    b, c, d, *place = header["quaternion"]
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handedness = -1 if header["pixdim"][0] < 0 else 1
    return np.column_stack([rotation * header["pixdim"][1:4] * (1, 1, handedness), place])


def _endian(name: str, start: bytes | bytearray) -> str:
    endian = next((e for e in "<>" if start[:4] == struct.pack(e + "i", _LENGTH)), None)
    if endian is None or len(start) < _LENGTH:
        raise ValueError(f"{name}: not a NIfTI-1 file")
    return endian


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")
