"""Files of a case made from a CT or a phantom: X-rays with their exact geometry, the CT they were rendered from, labels,
screws."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from diff2ct.phantom import LumbarPhantom, make_phantom
from diff2ct.radiograph import Radiograph, write_radiograph
from diff2ct.reconstruct import grid_around_isocenter
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import read_ct, resample, write_volume
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.framing import body_center
from diff2ct_training.outputs import output_folder

FORMATS = ("dcm", "png", "nrrd")
MODEL_GRID = VolumeGrid.centered()
BODY_SPACING_MM = 2.0
NOTICE = "Research use only - not for diagnosis."


def write_drr_files(
    path: Path,
    folder: Path,
    setup: BiplanarSetup,
    *,
    isocenter: str,
    formats: Sequence[str],
    write_truth: bool,
    overwrite: bool,
) -> list[Path]:
    """Radiographs of the whole CT in `path`, and with `write_truth` the CT on the model grid; returns the paths.

    isocenter: "x,y,z" in LPS [mm], or "auto" for the `body_center`.
    """
    point = None if isocenter == "auto" else parse_point(isocenter)
    output_folder(folder, [*radiograph_names(formats), *(["truth.nrrd"] if write_truth else [])], overwrite=overwrite)
    ct = read_ct(path)
    radiographs = render_radiographs(ct, setup.beams(point or body_center(ct)), f"DRR of {path.name}")
    paths = write_radiographs(radiographs, folder, formats, overwrite=overwrite)
    if write_truth:
        truth = resample(ct, grid_around_isocenter(MODEL_GRID, radiographs))
        paths.append(folder / "truth.nrrd")
        write_volume(truth, paths[-1], attributes={"Source": path.name, "Notice": NOTICE}, overwrite=overwrite)
    return paths


def write_radiographs(
    radiographs: Sequence[Radiograph], folder: Path, formats: Iterable[str], *, overwrite: bool, tail: str = ""
) -> list[Path]:
    """What `radiograph_names` says, in its order; returns the paths. tail: put after "ap" and "lateral"."""
    paths = []
    for suffix in formats:
        for radiograph in radiographs:
            name = ("lateral" if radiograph.geometry.view.is_lateral else "ap") + tail
            write_radiograph(radiograph, folder / f"{name}.{suffix}", overwrite=overwrite)
            paths += [folder / file for file in _file_names(name, suffix)]
    return paths


def radiograph_names(formats: Iterable[str]) -> list[str]:
    """What `write_radiographs` writes."""
    formats = list(formats)
    unknown = [f for f in formats if f not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"--format: got {', '.join(unknown) or 'none'}, accepted are {', '.join(FORMATS)}")
    return [file for suffix in formats for view in ("ap", "lateral") for file in _file_names(view, suffix)]


def _file_names(view: str, suffix: str) -> list[str]:
    """DICOM holds its geometry itself, the others need a file beside them."""
    return [f"{view}.{suffix}"] if suffix == "dcm" else [f"{view}.{suffix}", f"{view}.{suffix}.json"]


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
    attributes = {"Notice": f"Synthetic phantom. {NOTICE}", "Source": f"diff2ct.phantom.make_phantom({phantom.seed})"}
    truth, labels, screws = (folder / file for file in PHANTOM_FILES[:3])
    write_volume(CtVolume(image.hu.hu.round(), model_grid), truth, attributes=attributes, overwrite=overwrite)
    write_volume(CtVolume(image.labels, model_grid), labels, attributes=attributes, overwrite=overwrite)
    screws.write_text(json.dumps([screw.to_dict() for screw in phantom.screws], indent=1) + "\n", encoding="ascii")
    return [truth, labels, screws, *write_radiographs(radiographs, folder, ("dcm", "png"), overwrite=overwrite)]


def write_phantoms(
    seeds: Sequence[int],
    folder: Path,
    setup: BiplanarSetup,
    *,
    num_screws: int | None,
    overwrite: bool,
    on_phantom: Callable[[], None],
) -> list[Path]:
    """One phantom into `folder`, several into `folder/phantom_SEED`; returns the paths."""
    if not len(seeds):
        raise ValueError("--count: got 0 or less, accepted is 1 or more")
    if min(seeds) < 0:
        raise ValueError(f"--seed: got {min(seeds)}, accepted is 0 or more")
    folders = [folder if len(seeds) == 1 else folder / f"phantom_{seed}" for seed in seeds]
    for each in folders:
        output_folder(each, PHANTOM_FILES, overwrite=overwrite)
    paths = []
    for seed, each in zip(seeds, folders, strict=True):
        paths += write_phantom(make_phantom(seed, num_screws=num_screws), each, setup, overwrite=overwrite)
        on_phantom()
    return paths


def parse_point(text: str) -> tuple[float, float, float]:
    """ "x,y,z" in LPS [mm]."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--isocenter: got {text!r}, accepted are auto and x,y,z in LPS mm") from None
    return x, y, z
