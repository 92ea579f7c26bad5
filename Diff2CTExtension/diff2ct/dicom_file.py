"""One DICOM file: opening, stored pixel values, numbers of the header, and the frame of every file that Diff2CT writes."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, generate_uid

try:
    from pydicom.encaps import get_frame
    from pydicom.pixels import apply_modality_lut
except ImportError:  # pydicom 2.4
    from pydicom.encaps import generate_pixel_data_frame
    from pydicom.pixel_data_handlers.util import apply_modality_lut  # type: ignore[no-redef]

    def get_frame(buffer: bytes, index: int, *, number_of_frames: int) -> bytes:  # type: ignore[misc]
        return list(generate_pixel_data_frame(buffer, number_of_frames))[index]


from diff2ct import __version__
from diff2ct.image_file import quiet_itk

NOT_FOR_DIAGNOSIS = "Research use only - not for diagnosis"
OWN_MANUFACTURER = "Diff2CT"
OWN_FAN = "Diff2CT, scanning fan"
"""Model name in a DRR along a fan."""
PRIVATE_GROUP, PRIVATE_CREATOR, PRIVATE_ELEMENT = 0x0D2D, "DIFF2CT", 0x01
_PIXEL_ELEMENTS = (
    "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns whatever pydicom raises on a damaged file into one ValueError with the file's name.

    pydicom interprets elements when they are first asked for, so damage shows anywhere in the block, not only on opening.
    """
    try:
        yield
    except InvalidDicomError as error:
        raise ValueError(f"{path.name}: not a DICOM file") from error
    except ValueError as error:
        if path.name in str(error):
            raise
        raise ValueError(f"{path.name}: damaged DICOM file ({error})") from error
    except (
        AttributeError,
        BytesLengthException,
        EOFError,
        LookupError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        TypeError,
        struct.error,
        zlib.error,
    ) as error:
        raise ValueError(f"{path.name}: damaged DICOM file ({error})") from error


def read_header(path: Path, keywords: list[str]) -> Dataset:
    """These elements of a file, without its pixels. Every one is interpreted here, where damage is still told with its name."""
    with damage_named(path):
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=keywords)
        for _ in header:
            pass
        return header


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers of an element, None if it is absent, empty or something else."""
    try:
        value = dataset.get(keyword)
        values = tuple(float(v) for v in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and bool(np.all(np.isfinite(values))) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """One finite number of an element, None if it is absent, empty or something else."""
    values = numbers(dataset, keyword, 1)
    return values[0] if values else None


def count_frames(dataset: Dataset) -> int:
    """As the header says, without decoding one."""
    return max(1, int(number(dataset, "NumberOfFrames") or 1))


def stored_frame(dataset: Dataset, path: Path, index: int) -> np.ndarray:
    """(H, W) stored pixel values of one frame of a grey image, before any modality or display transformation. Use in
    `damage_named`."""
    kind = dataset.get("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(
            f"{path.name}: PhotometricInterpretation is {kind}, accepted are MONOCHROME1 and MONOCHROME2; "
            "an X-ray in colour can be saved as PNG"
        )
    bits = int(dataset.BitsStored)
    below = max(0, min(int(number(dataset, "HighBit") or 0) + 1, int(dataset.BitsAllocated)) - bits)
    # A value may begin above the lowest bit in files from before 2014: pydicom does not see that, GDCM cuts off the other end.
    dataset.BitsStored = bits + below
    words = _decompressed(dataset, index) if dataset.file_meta.TransferSyntaxUID.is_compressed else _plain(dataset, index)
    dataset.BitsStored = bits
    is_shifted = words.max() >= 2**bits or words.min() < -(2**bits)  # else only High Bit is wrong
    return words >> below if is_shifted else words


def _plain(dataset: Dataset, index: int) -> np.ndarray:
    array = dataset.pixel_array
    return array.reshape(-1, *array.shape[-2:])[index]


def _decompressed(dataset: Dataset, index: int) -> np.ndarray:
    """GDCM, inside ITK, decodes what pydicom needs further packages for: of a run this frame alone, as all would take long.

    It would rescale and invert MONOCHROME1, wrongly where values are signed: it gets a copy that says nothing of either.
    """
    bare = Dataset()
    bare.file_meta = dataset.file_meta
    for keyword in _PIXEL_ELEMENTS:
        if keyword in dataset:
            bare.add(dataset[keyword])
    bare.PhotometricInterpretation = "MONOCHROME2"
    count = count_frames(dataset)
    frame = get_frame(dataset.PixelData, index, number_of_frames=count)
    if dataset.file_meta.TransferSyntaxUID == RLELossless and not 1 <= int.from_bytes(frame[:4], "little") <= 15:
        raise ValueError("an RLE frame without segments")  # of which GDCM takes down the whole process
    if count > 1:
        bare.NumberOfFrames = 1
        bare.PixelData = encapsulate([frame])
        bare["PixelData"].VR, bare["PixelData"].is_undefined_length = "OB", True
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetOutputPixelType(sitk.sitkInt32)
    with tempfile.TemporaryDirectory() as folder, quiet_itk():
        copy = Path(folder) / "bare.dcm"
        save(bare, copy)
        reader.SetFileName(str(copy))
        array = sitk.GetArrayFromImage(reader.Execute())
    return array.reshape(array.shape[-2:])


def modality_values(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Stored values after rescale or the modality look-up table, float64."""
    return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)


def synthetic_dataset(sop_class_uid: str, *, patient_name: str, series_description: str, derivation: str) -> Dataset:
    """What every DICOM file of Diff2CT has in common: nobody may take it for an acquired image of a patient."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(sop_class_uid)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, as names of X-ray files are in any script
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.PatientID = patient_name, "DIFF2CT"
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        setattr(dataset, keyword, "")
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.SoftwareVersions = OWN_MANUFACTURER, "Diff2CT", __version__
    dataset.SeriesDescription, dataset.DerivationDescription = series_description, derivation[:1024]
    dataset.ImageComments = NOT_FOR_DIAGNOSIS
    dataset.ContributingEquipmentSequence = [_contributing_equipment()]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    return dataset


def _contributing_equipment() -> Dataset:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109102", "DCM", "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer, item.ManufacturerModelName, item.SoftwareVersions = "Diff2CT", "Diff2CT", __version__
    item.ContributionDescription = f"Computed image. {NOT_FOR_DIAGNOSIS}"
    return item


def decimal_string(value: float) -> str:
    """A number as DICOM writes it: as many digits as fit into 16 characters."""
    for digits in range(16, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value} does not fit into 16 characters")


def set_pixels(dataset: Dataset, stored: np.ndarray) -> None:
    """Stored values (H, W) uint16 and the elements that follow from them."""
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"


def set_private_text(dataset: Dataset, text: str) -> None:
    dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True).add_new(PRIVATE_ELEMENT, "UT", text)


def private_text(dataset: Dataset) -> str | None:
    """What `set_private_text` wrote, None if it is not there (other programs and anonymisers drop private elements)."""
    try:
        value = dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[PRIVATE_ELEMENT].value
    except KeyError:
        return None
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def save(dataset: Dataset, path: Path) -> None:
    """Writes a complete DICOM file (Part 10), with pydicom 2.4 as with 3."""
    if int(pydicom.__version__.split(".")[0]) >= 3:
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.save_as(path, write_like_original=False)
