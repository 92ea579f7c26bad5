"""One image file through SimpleITK, with the checks ITK leaves out. Radiographs and CTs both start and end here.

ITK reads a truncated NIfTI or JPEG and a damaged MetaImage without complaint and turns a TIFF with an orientation tag into 8
bits, so these are looked at first; `nifti` says what else it does to NIfTI. Of a NIfTI that finds no room on the disk it writes
the part that does.
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from diff2ct import exif
from diff2ct.atomic import replacing_file
from diff2ct.file_name import check_name
from diff2ct.metaimage import check_meta_complete
from diff2ct.nifti import at_right_angles, check_nifti_complete

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""Of a segment with a length or of the end: neither a byte FF of the pixels, written FF00, nor a restart between them."""


def suffix_of(path: Path) -> str:
    """Lower-case suffix; ".nii.gz" counts as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def is_dicom(path: Path) -> bool:
    """By its content, whatever it is called."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def check_file(path: Path) -> None:
    """ValueError unless `path` is a file with something in it, of a name that is text."""
    check_name(path)
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
    elif suffix_of(path) in (".mha", ".mhd"):
        check_meta_complete(path)
    try:
        with quiet_itk(), _as_itk_reads_it(path) as file:
            return sitk.ReadImage(str(file))
    except RuntimeError as error:
        if _is_grey_with_alpha(path):
            raise ValueError(f"{path.name}: a grey PNG with transparency; save it without, or as RGB") from error
        raise ValueError(f"{path.name}: cannot be read as {suffix_of(path)} (damaged, truncated or another format)") from error


def write_image(image: sitk.Image, path: Path, *, overwrite: bool = False, compress: bool = True) -> None:
    """Any image file that SimpleITK knows, by the suffix, whole or not at all; one ValueError if that cannot be."""
    with replacing_file(path, overwrite=overwrite) as temporary:
        try:
            with quiet_itk():
                sitk.WriteImage(image, str(temporary), useCompression=compress)
        except RuntimeError as error:
            raise ValueError(f"{path}: cannot be written ({str(error).strip().splitlines()[-1]})") from error
        if suffix_of(path) in (".nii", ".nii.gz"):
            try:
                check_nifti_complete(temporary)
            except ValueError as error:
                raise ValueError(f"{path}: cannot be written, only a part of it came onto the disk; is it full?") from error


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
def _as_itk_reads_it(path: Path) -> Iterator[Path]:
    """The file itself, or a temporary copy: of a TIFF that is not upright without its orientation tag, of a NIfTI as
    `at_right_angles` says."""
    if suffix_of(path) in (".nii", ".nii.gz"):
        with at_right_angles(path) as file:
            yield file
        return
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
