"""X-rays with their geometry as plain arrays in one .npz file, so that training needs no image library: those of a prepared
case (see `acquisitions`), or films of patients nobody has a CT of (see `films`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from diff2ct.atomic import completing_file
from diff2ct.geometry import Beam, beam_from_dict


def write_xrays(
    path: Path, images: Sequence[np.ndarray], valid: Sequence[np.ndarray], beams: Sequence[Beam], **header: Any
) -> None:
    """images, valid: (H, W) float32 and bool, of one size, one per beam. header: more facts, plain JSON. Complete or not at
    all."""
    text = json.dumps({**header, "beams": [beam.to_dict() for beam in beams]})
    with completing_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, images=np.stack(images), valid=np.stack(valid), header=text)


def read_xrays(path: Path) -> tuple[np.ndarray, np.ndarray, list[Beam], dict[str, Any]]:
    """(images (V, H, W), valid (V, H, W), beams, header). Raises ValueError naming the file if it cannot be read."""
    with _opened(path) as stored:
        images, valid, header = stored["images"], stored["valid"], json.loads(str(stored["header"]))
        beams = [beam_from_dict(b) for b in header["beams"]]
    if images.ndim != 3 or valid.shape != images.shape or valid.dtype != bool or len(beams) != len(images):
        got = f"{images.shape} {images.dtype}, {valid.shape} {valid.dtype} and {len(beams)} beams"
        raise ValueError(f"X-rays: {path} holds {got}, accepted are images and bool masks (V, H, W) and V beams")
    return images, valid, beams, header


def read_beams(path: Path) -> list[Beam]:
    """The beams of stored X-rays without their pixels."""
    with _opened(path) as stored:
        return [beam_from_dict(b) for b in json.loads(str(stored["header"]))["beams"]]


def read_header(path: Path) -> dict[str, Any]:
    """All but the pixels."""
    with _opened(path) as stored:
        return dict(json.loads(str(stored["header"])))


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, KeyError, TypeError, ValueError, BadZipFile) as error:
        raise ValueError(f"X-rays: {path} cannot be read: {error}") from error
