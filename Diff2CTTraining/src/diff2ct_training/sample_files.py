"""Files of a case made from a CT or a phantom: X-rays with their exact geometry, the CT they were rendered from, labels, screws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from diff2ct.phantom import LumbarPhantom
from diff2ct.radiograph import Radiograph, write_radiograph
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import resample, write_volume
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.outputs import output_folder

FORMATS = ("dcm", "png", "nrrd")
MODEL_GRID = VolumeGrid.centered()
BODY_SPACING_MM = 2.0
SYNTHETIC = {"Notice": "Synthetic phantom, not a patient. Research use only - not for diagnosis."}


def write_drr_case(
    ct: CtVolume,
    folder: Path,
    setup: BiplanarSetup,
    *,
    isocenter_lps: tuple[float, float, float],
    formats: Sequence[str],
    write_truth: bool,
    source: str,
    overwrite: bool,
) -> list[Path]:
    """Radiographs of a whole scan, and with `write_truth` the scan on the model grid around the isocentre; returns the paths."""
    names = [*radiograph_names(formats), *(["truth.nrrd"] if write_truth else [])]
    output_folder(folder, names, overwrite=overwrite)
    paths = write_radiographs(render_radiographs(ct, setup.beams(isocenter_lps), source), folder, formats, overwrite=overwrite)
    if write_truth:
        grid = VolumeGrid.centered(MODEL_GRID.size, MODEL_GRID.spacing_mm[0], isocenter_lps)
        paths.append(folder / "truth.nrrd")
        attributes = {"Source": source, "Notice": "Research use only - not for diagnosis."}
        write_volume(resample(ct, grid), paths[-1], attributes=attributes, overwrite=overwrite)
    return paths


def write_radiographs(
    radiographs: Sequence[Radiograph], folder: Path, formats: Iterable[str], *, overwrite: bool
) -> list[Path]:
    """`ap.dcm`, `lateral.dcm` and so on for every format; returns the paths, in this order."""
    paths = []
    for suffix in formats:
        for radiograph in radiographs:
            name = "lateral" if radiograph.geometry.view.is_lateral else "ap"
            paths.append(folder / f"{name}.{suffix}")
            write_radiograph(radiograph, paths[-1], overwrite=overwrite)
    return paths


def radiograph_names(formats: Iterable[str]) -> list[str]:
    """What `write_radiographs` writes."""
    formats = list(formats)
    unknown = [f for f in formats if f not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"--format: got {', '.join(unknown) or 'none'}, accepted are {', '.join(FORMATS)}")
    return [f"{view}.{suffix}" for suffix in formats for view in ("ap", "lateral")]


PHANTOM_FILES = ("truth.nrrd", "labels.nrrd", "screws.json", *radiograph_names(("dcm", "png")))


def write_phantom(
    phantom: LumbarPhantom,
    folder: Path,
    setup: BiplanarSetup,
    *,
    model_grid: VolumeGrid = MODEL_GRID,
    body_spacing_mm: float = BODY_SPACING_MM,
    overwrite: bool,
) -> list[Path]:
    """CT and labels on the model grid, screws, and X-rays of the whole body as DICOM and PNG; returns the paths."""
    origin = (0.0, 0.0, 0.0)
    name = f"phantom {phantom.seed}"
    radiographs = render_radiographs(phantom.render(phantom.body_grid(body_spacing_mm)).hu, setup.beams(origin), name)
    image = phantom.render(model_grid)
    attributes = {**SYNTHETIC, "Source": f"diff2ct.phantom.make_phantom, seed {phantom.seed}"}
    truth, labels, screws = (folder / file for file in PHANTOM_FILES[:3])
    write_volume(CtVolume(image.hu.hu.round(), model_grid), truth, attributes=attributes, overwrite=overwrite)
    write_volume(CtVolume(image.labels, model_grid), labels, attributes=attributes, overwrite=overwrite)
    screws.write_text(json.dumps(screw_list(phantom), indent=1) + "\n", encoding="ascii")
    return [truth, labels, screws, *write_radiographs(radiographs, folder, ("dcm", "png"), overwrite=overwrite)]


def screw_list(phantom: LumbarPhantom) -> list[dict[str, Any]]:
    """Every pedicle screw as JSON types; positions in LPS [mm]."""
    return [
        {
            "level": screw.level,
            "side": screw.side,
            "diameter_mm": screw.diameter_mm,
            "length_mm": screw.length_mm,
            "head_lps": [round(float(x), 3) for x in screw.head_lps],
            "tip_lps": [round(float(x), 3) for x in screw.tip_lps],
        }
        for screw in phantom.screws
    ]
