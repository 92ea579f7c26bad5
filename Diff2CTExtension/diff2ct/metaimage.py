"""MetaImage files (.mha, .mhd) before ITK reads them: which files they are, and whether compressed ones are whole. Where their
data cannot be unpacked ITK only prints so, and takes for voxels what was in its memory."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from diff2ct.text_header import text_header

_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4, "MET_ULONG": 4,
    "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_BLOCK = 1 << 16
_ZLIB_OR_GZIP = 47


def meta_header(path: Path) -> tuple[dict[str, str], int]:
    """(fields, bytes before what follows them)."""
    return text_header(path, "=:", "elementdatafile")


def files_of(volume: Path) -> tuple[Path, ...]:
    """A file, and those beside it with its voxels, which the header of a MetaImage names: one, a list, or all of a pattern."""
    if volume.suffix.lower() != ".mhd":
        return (volume,)
    try:
        fields, length = meta_header(volume)
        named = fields.get("elementdatafile", "")
        if named.startswith("LIST"):
            lines = volume.read_bytes()[length:].decode("latin-1").splitlines()
            files = [volume.parent / line.strip() for line in lines]
        elif "%" in named:
            files = sorted(volume.parent.glob(re.sub(r"%\d*d", "*", named.split()[0])))
        else:
            files = [volume.parent / named]
        return (volume, *(file for file in files if file.is_file()))
    except (OSError, ValueError, NotImplementedError):  # who reads it will say what is wrong
        return (volume,)


def check_meta_complete(path: Path) -> None:
    """ValueError if the voxels are compressed and cannot be unpacked, or are not as many as the header says. ITK finds out by
    itself what is wrong with others."""
    fields, start = meta_header(path)
    if fields.get("compresseddata", "")[:1] not in ("T", "t", "1"):
        return
    data_file, size = fields.get("elementdatafile", ""), fields.get("compresseddatasize")
    if data_file.split(" ")[0] == "LIST" or "%" in data_file:
        return  # several files, each compressed by itself
    data_path = path
    if data_file.lower() != "local":
        data_path, start = path.parent / data_file, 0
    elif size is None:
        raise ValueError(f"{path.name}: has no CompressedDataSize, which compressed voxels in the same file need")
    try:
        expected = _num_bytes(fields)
        told = max(int(size or 0), 0)
    except (KeyError, ValueError):
        return  # ITK finds out
    if not data_path.is_file() or fields.get("headersize", "0") != "0":
        return  # ITK finds out the one, nobody writes the other
    left = None if told == 0 and data_path != path else told  # 0 is not known
    found = _unpacked(path.name, data_path, start, left)
    if found != expected:
        raise ValueError(f"{path.name}: damaged or truncated, {found} of {expected} bytes are there")


def _num_bytes(fields: Mapping[str, str]) -> int:
    """Of all voxels."""
    size = math.prod(int(n) for n in fields["dimsize"].split())
    return size * int(fields.get("elementnumberofchannels", "1")) * _BYTES[fields["elementtype"]]


def _unpacked(name: str, path: Path, start: int, left: int | None) -> int:
    """How many bytes come out of the `left` ones, None for all, from `start` on."""
    unpacking, length = zlib.decompressobj(_ZLIB_OR_GZIP), 0
    try:
        with path.open("rb") as file:
            file.seek(start)
            while not unpacking.eof and (block := file.read(_BLOCK if left is None else min(_BLOCK, left))):
                left = None if left is None else left - len(block)
                length += len(unpacking.decompress(block))
    except zlib.error as error:
        raise ValueError(f"{name}: damaged compressed data") from error
    if not unpacking.eof:
        raise ValueError(f"{name}: damaged or truncated compressed data")
    return length
