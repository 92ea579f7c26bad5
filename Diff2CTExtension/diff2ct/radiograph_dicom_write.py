"""A radiograph as a DICOM file of its own: a derived, synthetic secondary capture that every viewer shows.

Secondary Capture is the image class that may carry a rescale to line integrals (DX may not, PS3.3 C.8.11.3.1.2). The standard
elements hold the geometry as far as DICOM has words for it; a private element holds the beam exactly.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from diff2ct.atomic import replacing_file
from diff2ct.dicom_file import OWN_FAN, decimal_string, save, set_pixels, set_private_text, synthetic_dataset
from diff2ct.geometry import ConeBeam, FanBeam
from diff2ct.radiograph import Radiograph
from diff2ct.radiograph_image import to_codes

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))


def write_dicom_radiograph(radiograph: Radiograph, path: Path, *, overwrite: bool = False) -> None:
    """See `radiograph.write_radiograph`. Line integrals come back to 1e-5 of their range, the geometry exactly."""
    beam = radiograph.geometry
    dataset = synthetic_dataset(
        _SECONDARY_CAPTURE,
        patient_name="DIFF2CT^DRR",
        series_description=f"DRR (synthetic) {beam.view.value}",
        derivation="Line integrals of X-ray attenuation, written by Diff2CT. Not an acquired radiograph.",
    )
    dataset.Modality, dataset.ConversionType, dataset.ImageType = "DX", "SYN", ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = [_letter(axis) for axis in beam.detector_axes]
    dataset.ViewPosition = beam.view.value
    dataset.PositionerPrimaryAngle = decimal_string(beam.primary_angle_deg)
    dataset.PositionerSecondaryAngle = decimal_string(beam.secondary_angle_deg)
    dataset.ImagerPixelSpacing = [decimal_string(s) for s in beam.detector_spacing_mm]
    if isinstance(beam, FanBeam):
        dataset.ManufacturerModelName = OWN_FAN
        dataset.PixelSpacing = [decimal_string(s) for s in beam.patient_spacing_mm]
        dataset.PixelSpacingCalibrationType = "GEOMETRY"
    if isinstance(beam, ConeBeam | FanBeam):
        dataset.DistanceSourceToDetector = decimal_string(beam.source_to_detector_mm)
        dataset.DistanceSourceToPatient = decimal_string(beam.source_to_isocenter_mm)
        dataset.EstimatedRadiographicMagnificationFactor = decimal_string(beam.magnification)
    codes, slope, intercept = to_codes(radiograph.line_integral, radiograph.valid)
    set_pixels(dataset, codes)
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = decimal_string(slope), decimal_string(intercept), "US"
    dataset.PresentationLUTShape, dataset.PixelPaddingValue = "IDENTITY", 0
    shown = radiograph.line_integral[radiograph.valid]
    low, high = float(shown.min()), float(shown.max())
    dataset.WindowCenter, dataset.WindowWidth = decimal_string((low + high) / 2), decimal_string(high - low)
    statement = {"geometry": beam.to_dict(), "scale_known": radiograph.scale_known, "assumed": radiograph.assumed}
    set_private_text(dataset, json.dumps(statement))
    with replacing_file(path, overwrite=overwrite) as temporary:
        save(dataset, temporary)


def _letter(axis: np.ndarray) -> str:
    """The patient direction nearest to an LPS vector: L, R, P, A, H or F."""
    index = int(np.argmax(np.abs(axis)))
    return _LETTERS[index][0 if axis[index] > 0 else 1]
