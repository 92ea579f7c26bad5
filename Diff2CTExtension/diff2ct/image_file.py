"""One image file through SimpleITK, with the checks ITK leaves out. Radiographs and CTs both start here.

ITK reads a truncated NIfTI or JPEG without complaint, turns a NIfTI spacing of 0 into 1 mm and a TIFF with an orientation tag
into 8 bits, so these are looked at first.
"""

from __future__ import annotations

import gzip
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from diff2ct import exif

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""Of a segment with a length or of the end: neither a byte FF of the pixels, written FF00, nor a restart between them."""


def suffix_of(path: Path) -> str:
    """Lower-case suffix; ".nii.gz" counts as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def check_file(path: Path) -> None:
    """ValueError unless `path` is a file with something in it."""
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, accepted is a file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name}: the file is empty")


def read_image(path: Path) -> sitk.Image:
    """Any image file that SimpleITK knows -> its image, rows and columns as stored; one ValueError if that cannot be."""
    check_file(path)
    if suffix_of(path) in (".nii", ".nii.gz"):
        check_nifti_complete(path)
    elif suffix_of(path) in (".jpg", ".jpeg"):
        _check_jpeg_complete(path)
    try:
        with quiet_itk(), _untagged(path) as file:
            return sitk.ReadImage(str(file))
    except RuntimeError as error:
        if _is_grey_with_alpha(path):
            raise ValueError(f"{path.name}: a grey PNG with transparency; save it without, or as RGB") from error
        raise ValueError(f"{path.name}: cannot be read as {suffix_of(path)} (damaged, truncated or another format)") from error


def orientation_of(path: Path) -> int:
    """EXIF orientation of an image file, see `exif.upright`; ValueError if its pages differ."""
    try:
        return exif.read_orientation(path)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def shows_zero_white(path: Path) -> bool:
    """True for a TIFF whose value 0 is to be shown white; ITK gives its values as stored."""
    return suffix_of(path) in (".tif", ".tiff") and exif.tiff_shows_zero_white(path.read_bytes())


def _is_grey_with_alpha(path: Path) -> bool:
    """True for colour type 4 of PNG (ISO/IEC 15948, 11.2.2) and for 0 with a grey that is transparent (11.3.2.1), which
    SimpleITK does not know."""
    start = path.read_bytes().partition(b"IDAT")[0]
    is_png, colour_type = start[:8] == b"\x89PNG\r\n\x1a\n", start[25:26]
    return is_png and (colour_type == b"\x04" or (colour_type == b"\0" and b"tRNS" in start))


@contextmanager
def _untagged(path: Path) -> Iterator[Path]:
    """The file itself, or for a TIFF that is not upright a temporary copy without its orientation tag."""
    if suffix_of(path) not in (".tif", ".tiff") or orientation_of(path) == exif.UPRIGHT:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"untagged{suffix_of(path)}"
        copy.write_bytes(exif.without_orientation(path.read_bytes()))
        yield copy


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keeps ITK's warnings off the console while the block runs."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def nifti_header(path: Path) -> dict[str, tuple[float, ...]]:
    """dim, bitpix, pixdim, vox_offset, qform_code, sform_code of a NIfTI-1 file (nifti1.h of the NIFTI-1 data format)."""
    try:
        with _open_nifti(path) as file:
            header = file.read(348)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name}: damaged gzip data") from error
    endian = next((e for e in "<>" if header[:4] == struct.pack(e + "i", 348)), None)
    if endian is None or len(header) < 348:
        raise ValueError(f"{path.name}: not a NIfTI-1 file")
    layout = {"dim": ("8h", 40), "bitpix": ("h", 72), "pixdim": ("8f", 76), "vox_offset": ("f", 108), "codes": ("2h", 252)}
    return {name: struct.unpack_from(endian + form, header, at) for name, (form, at) in layout.items()}


def check_nifti_complete(path: Path) -> None:
    """ValueError if voxels are missing at the end of a NIfTI-1 file."""
    header = nifti_header(path)
    rank = int(header["dim"][0])
    expected = int(header["vox_offset"][0]) + int(np.prod(header["dim"][1 : rank + 1])) * int(header["bitpix"][0]) // 8
    length = 0
    try:
        with _open_nifti(path) as file:
            while block := file.read(1 << 22):
                length += len(block)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name}: damaged or truncated gzip data") from error
    if length < expected:
        raise ValueError(f"{path.name}: truncated, {length} of {expected} bytes are there")


def _open_nifti(path: Path):  # type: ignore[no-untyped-def]
    return gzip.open(path, "rb") if suffix_of(path) == ".nii.gz" else path.open("rb")


def _check_jpeg_complete(path: Path) -> None:
    """The decoder fills a cut JPEG with grey, so its end-of-image marker is looked for, past every segment and scan (ITU-T
    T.81, B.1.1): a thumbnail in a segment has an end marker of its own, and other data, as a phone's film, may follow."""
    data = path.read_bytes()
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"{path.name}: not a JPEG file")
    marker = _JPEG_MARKER.search(data, 2)
    while marker is not None and marker[1] != b"\xd9":
        (length,) = struct.unpack_from(">H", data.ljust(marker.end() + 2, b"\0"), marker.end())
        marker = _JPEG_MARKER.search(data, marker.end() + length)  # pixels of a scan, if any, have no such marker in them
    if marker is None:
        raise ValueError(f"{path.name}: truncated, the JPEG has no end marker")
