"""Tags of JPEG (EXIF) and TIFF files that say how stored pixels are to be shown: turned, or with 0 for white. Standard library
and numpy only, because SimpleITK tells neither, loses the turns by 90 degrees, and reads a turned 16-bit TIFF as 8 bit.

Orientation, tag 274, values 1 to 8: TIFF 6.0, page 36; EXIF 2.32, 4.6.4. Photometric interpretation, tag 262, 0 for white: TIFF
6.0, page 37. BigTIFF files count as untagged.
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
_ORIENTATION, _PHOTOMETRIC, _SHORT = 274, 262, 3


def jpeg_orientation(data: bytes) -> int:
    """1 to 8; 1 if the file does not tell."""
    at = 2  # after the start-of-image marker
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):  # end of image, start of pixels
        (length,) = struct.unpack_from(">H", data, at + 2)
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return _only(_fields(data[at + 10 : at + 2 + length], _ORIENTATION)[:1])  # the second directory is a thumbnail's
        at += 2 + length
    return UPRIGHT


def tiff_orientation(data: bytes) -> int:
    """1 to 8; 1 if the file does not tell. Raises ValueError if its pages differ."""
    return _only(_fields(data, _ORIENTATION))


def tiff_shows_zero_white(data: bytes) -> bool:
    """True if the first page of a TIFF file is WhiteIsZero, as film scanners write."""
    first = next(iter(_fields(data, _PHOTOMETRIC)), None)
    return first is not None and first[2] == 0


def without_orientation(data: bytes) -> bytes:
    """The same TIFF file with every orientation set to upright."""
    changed = bytearray(data)
    for field in _fields(data, _ORIENTATION):
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


def _fields(tiff: bytes, wanted: int) -> list[tuple[int, str, int] | None]:
    """(offset of the value, its struct format, value) of one tag in each image file directory, None where one has none."""
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
                if (tag, kind, number) == (wanted, _SHORT, 1):
                    fields[-1] = (entry + 8, f"{endian}H", value)
            (directory,) = struct.unpack_from(f"{endian}I", tiff, directory + 2 + 12 * count)
    except struct.error:
        pass  # cut short: what is missing has no tags, and whoever reads the pixels will say so
    return fields
