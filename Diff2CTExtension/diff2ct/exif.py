"""The orientation tag of JPEG (EXIF) and TIFF files: how stored rows and columns are to be turned for display. Standard library
and numpy only, because SimpleITK does not tell the tag, loses the turns by 90 degrees, and reads a tagged 16-bit TIFF as 8 bit.

Tag 274, values 1 to 8: TIFF 6.0, page 36; EXIF 2.32, 4.6.4. BigTIFF files count as untagged.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

UPRIGHT = 1
TURNS = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored and turned by 90 degrees counterclockwise",
    6: "turned by 90 degrees clockwise",
    7: "mirrored and turned by 90 degrees clockwise",
    8: "turned by 90 degrees counterclockwise",
}
"""What `upright` does."""
_TAG, _SHORT = 274, 3


def jpeg_orientation(data: bytes) -> int:
    """1 to 8; 1 if the file does not tell."""
    at = 2  # after the start-of-image marker
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):  # end of image, start of pixels
        (length,) = struct.unpack_from(">H", data, at + 2)
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return _only(_orientation_fields(data[at + 10 : at + 2 + length])[:1])  # the second directory is a thumbnail's
        at += 2 + length
    return UPRIGHT


def tiff_orientation(data: bytes) -> int:
    """1 to 8; 1 if the file does not tell. Raises ValueError if its pages differ."""
    return _only(_orientation_fields(data))


def without_orientation(data: bytes) -> bytes:
    """The same TIFF file with every orientation set to upright."""
    changed = bytearray(data)
    for field in _orientation_fields(data):
        if field is not None:
            at, form, _ = field
            struct.pack_into(form, changed, at, UPRIGHT)
    return bytes(changed)


def read_orientation(path: Path) -> int:
    """1 to 8; 1 for files of other kinds and those that do not tell."""
    with path.open("rb") as file:
        start = file.read(2)
        if start not in (b"\xff\xd8", b"II", b"MM"):
            return UPRIGHT
        data = start + file.read()
    return jpeg_orientation(data) if start == b"\xff\xd8" else tiff_orientation(data)


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) as stored -> (H, W) or, from 5 on, (W, H) as it is to be seen."""
    if orientation >= 5:  # rows and columns change places
        stored = stored.T
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return stored[:: -1 if down else 1, :: -1 if across else 1]


def _only(fields: list[tuple[int, str, int] | None]) -> int:
    values = {UPRIGHT if field is None or field[2] not in TURNS else field[2] for field in fields} or {UPRIGHT}
    if len(values) > 1:
        raise ValueError(f"pages with orientations {sorted(values)}, accepted is one orientation for all")
    return values.pop()


def _orientation_fields(tiff: bytes) -> list[tuple[int, str, int] | None]:
    """(offset of the value, its struct format, value) of each image file directory, None where one has none."""
    endian = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    fields: list[tuple[int, str, int] | None] = []
    seen: set[int] = set()
    try:
        directory = struct.unpack_from(f"{endian}I", tiff, 4)[0] if endian else 0
        while directory and directory not in seen:
            seen.add(directory)
            (count,) = struct.unpack_from(f"{endian}H", tiff, directory)
            fields.append(None)
            for entry in range(directory + 2, directory + 2 + 12 * count, 12):
                tag, kind, number, value = struct.unpack_from(f"{endian}HHIH", tiff, entry)
                if (tag, kind, number) == (_TAG, _SHORT, 1):
                    fields[-1] = (entry + 8, f"{endian}H", value)
            (directory,) = struct.unpack_from(f"{endian}I", tiff, directory + 2 + 12 * count)
    except struct.error:
        pass  # cut short: what is missing has no orientation, and whoever reads the pixels will say so
    return fields
