"""X-ray pairs of many CTs or prepared cases, ideal and as a simulated detector shows them: the data of style translation, and
test images that any program can read.

OUTPUT/CASE/NNN holds acquisition NNN of a case: ap.* and lateral.* (ideal line integrals), ap_simulated.* and
lateral_simulated.* (the same rays), geometry.json, which `diff2ct reconstruct --geometry` takes, and acquisition.json with what
it was made of. OUTPUT/manifest.csv lists all images with their SHA-256. An acquisition appears whole or not at all.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diff2ct.atomic import replacing_file
from diff2ct.geometry import Beam
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import grid_around_isocenter
from diff2ct.simulate import acquire, random_detector
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume
from diff2ct.volume_io import resample, write_volume
from diff2ct_training.acquisitions import AcquisitionConfig, random_beams
from diff2ct_training.cases import filled, list_cases, read_case
from diff2ct_training.checksums import sha256_of
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.framing import body_center
from diff2ct_training.parallel import Failed, run_all
from diff2ct_training.sample_files import MODEL_GRID, NOTICE, radiograph_names, write_radiographs
from diff2ct_training.scans import Rejected, Scan, check_names, find_scans

IDEAL, SIMULATED = "ideal", "simulated"
TAILS = {IDEAL: "", SIMULATED: "_simulated"}
VERSION = 1
"""Part of what an acquisition is made by. Raise it when the same source and options come to give other images."""
MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = ("case", "acquisition", "split", "patient", "source", "detector", "view", "file", "sha256")


@dataclass(frozen=True, kw_only=True)
class DrrSet:
    """count: acquisitions of each case. setup: distances and detector, unless `vary` draws distances, angles and isocentre as
    `AcquisitionConfig` has them: cones alone, about the case's centre, however tall it is; then only its pixels count.
    detectors: "ideal", "simulated" or both, of the same rays. strength: of `random_detector`.
    write_truth: also the CT on the model grid around each isocentre.
    """

    count: int
    setup: BiplanarSetup
    vary: bool = False
    detectors: tuple[str, ...] = (IDEAL,)
    strength: float = 1.0
    formats: tuple[str, ...] = ("dcm",)
    write_truth: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"--acquisitions: got {self.count}, accepted is 1 or more")
        unknown = [name for name in self.detectors if name not in TAILS]
        if unknown or not self.detectors or len(set(self.detectors)) < len(self.detectors):
            raise ValueError(
                f"--detector: got {', '.join(self.detectors) or 'none'}, accepted are {', '.join(TAILS)}, once each"
            )
        if not 0 <= self.strength <= 1:
            raise ValueError(f"--strength: got {self.strength}, accepted is 0 to 1")
        if self.count > 1 and not self.vary and SIMULATED not in self.detectors:
            raise ValueError(f"--acquisitions: {self.count} ideal X-rays without --vary would all be the same, accepted is 1")
        if self.vary and self.setup.beam != "cone":
            raise ValueError(f"--vary: got --beam {self.setup.beam} too, accepted is cone")
        if SIMULATED in self.detectors and self.setup.beam == "fan":
            raise ValueError(f"--detector: got {SIMULATED} with --beam fan, accepted is {IDEAL}: simulated detectors are flat")
        radiograph_names(self.formats)

    def describe(self) -> str:
        """All that decides an acquisition, but for case and number, as text."""
        geometry = f"random, {self.setup.pixels} pixels" if self.vary else self.setup.describe()
        parts = [f"v{VERSION}", geometry, " and ".join(self.detectors), " ".join(self.formats)]
        parts += [f"strength {self.strength:g}"] * (SIMULATED in self.detectors) + ["truth"] * self.write_truth
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class SetTask:
    """A CT or prepared case, and the numbers of its acquisitions that are to be made."""

    source: Scan | Path
    folder: Path
    numbers: tuple[int, ...]
    wanted: DrrSet


def render_set(
    source: Path,
    output: Path,
    wanted: DrrSet,
    *,
    split: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    on_progress: Callable[..., None],
) -> tuple[str, list[Rejected]]:
    """Render a folder of CTs or of prepared cases (all, or one split of them) into `output`; goes on where it stopped.

    on_progress: as `console.Progress`. Returns a line that says what there is, and what could not be rendered and why.
    """
    sources, rejected = find_sources(source, split)
    tasks = []
    for one in sources:
        folder = output / (one.stem if isinstance(one, Path) else one.name)
        missing = tuple(n for n in range(wanted.count) if not _is_made(folder / f"{n:03d}", wanted, overwrite))
        if missing:
            tasks.append(SetTask(source=one, folder=folder, numbers=missing, wanted=wanted))
    output.mkdir(parents=True, exist_ok=True)
    on_progress(len(sources) - len(tasks), len(sources))
    for task, result in run_all(_render, tasks, workers):
        name = str(task.source) if isinstance(task.source, Path) else task.source.source
        if isinstance(result, Failed):
            rejected.append(Rejected(name, result.reason))
        on_progress(description=name)
    rows = _manifest_rows(output)
    with replacing_file(output / MANIFEST, overwrite=True) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, MANIFEST_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if not rows:
        raise ValueError(f"{source}: nothing could be rendered ({'; '.join(f'{r.source}: {r.reason}' for r in rejected[:3])})")
    pairs = len({(row["case"], row["acquisition"], row["detector"]) for row in rows})
    return f"{pairs} X-ray pairs in {output}, {len(rejected)} not rendered: {output / MANIFEST}", rejected


def find_sources(source: Path, split: str | None) -> tuple[list[Scan | Path], list[Rejected]]:
    """Prepared cases (JSON files) if the folder holds any, else CTs."""
    if source.is_dir() and any(file.with_suffix(".npy").exists() for file in source.glob("*.json")):
        return list(list_cases(source, split)), []
    if split is not None:
        raise ValueError(f"--split: {source} holds no prepared cases, which alone have a split")
    scans, rejected = find_scans(source)
    if not scans:
        raise ValueError(f"{source}: neither CTs nor prepared cases")
    check_names(scans)
    return list(scans), rejected


def _is_made(folder: Path, wanted: DrrSet, overwrite: bool) -> bool:
    """True if this acquisition is there and made like this; ValueError if it was made otherwise and may not be replaced."""
    record = folder / "acquisition.json"
    if not record.exists():
        return False
    made_by = json.loads(record.read_text(encoding="utf-8"))["made_by"]
    if made_by != wanted.describe() and not overwrite:
        raise ValueError(
            f"{folder} was rendered in another way ({made_by}) than asked for ({wanted.describe()}); choose another folder, or "
            "--overwrite renders it again"
        )
    return bool(made_by == wanted.describe())


def _render(task: SetTask) -> None:
    source = task.source
    if isinstance(source, Path):
        case = read_case(source)
        ct, center = CtVolume(filled(case.hu), case.grid), case.center_lps
        facts = {"source": case.source, "patient": case.patient, "split": case.split}
    else:
        ct = source.read()
        center = body_center(ct)
        facts = {"source": source.source, "patient": source.patient, "split": ""}
    mu = hu_to_mu(torch.from_numpy(ct.hu))
    for n in task.numbers:
        folder = task.folder / f"{n:03d}"
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir(parents=True)
        _render_acquisition(partial, ct, mu, center, n, task.folder.name, task.wanted, facts)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)


def _render_acquisition(
    folder: Path,
    ct: CtVolume,
    mu: torch.Tensor,
    center: tuple[float, float, float],
    number: int,
    name: str,
    wanted: DrrSet,
    facts: dict[str, str],
) -> None:
    """Write acquisition `number` of a case into an empty folder."""
    rng = np.random.default_rng([number, 2, *name.encode()])
    beams = _random_beams(rng, center, wanted.setup.pixels) if wanted.vary else list(wanted.setup.beams(center))
    integrals = [project(mu, ct.grid, beam) for beam in beams]
    title = f"DRR of {name}, acquisition {number}"
    ideal = [
        Radiograph(image.numpy(), beam, scale_known=True, source=f"{title} {beam.view.value}")
        for image, beam in zip(integrals, beams, strict=True)
    ]
    detectors: dict[str, Any] = {}
    for detector in wanted.detectors:
        shown = ideal
        if detector == SIMULATED:
            shown = []
            for image, beam in zip(integrals, beams, strict=True):
                generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
                model = random_detector(generator, wanted.strength)
                pixels, valid = acquire(image[None], beam.detector_spacing_mm[0], model, generator)
                words = f"{title} {beam.view.value}, simulated detector"
                shown.append(Radiograph(pixels[0].numpy(), beam, valid=valid[0].numpy(), source=words))
                detectors[_view(beam)] = {key: None if value == math.inf else value for key, value in asdict(model).items()}
        write_radiographs(shown, folder, wanted.formats, overwrite=False, tail=TAILS[detector])
    if wanted.write_truth:
        truth = resample(ct, grid_around_isocenter(MODEL_GRID, ideal))
        write_volume(truth, folder / "truth.nrrd", attributes={"Source": facts["source"], "Notice": NOTICE})
    (folder / "geometry.json").write_text(json.dumps({_view(beam): beam.to_dict() for beam in beams}, indent=1))
    images = {
        file.name: sha256_of(file)
        for file in sorted(folder.iterdir())
        if file.name.endswith(tuple(f".{s}" for s in wanted.formats))
    }
    record = {
        "made_by": wanted.describe(),
        "case": name,
        "acquisition": number,
        **facts,
        "images": images,
        "detectors": detectors,
    }
    (folder / "acquisition.json").write_text(json.dumps(record, indent=1, allow_nan=False))


def _random_beams(rng: np.random.Generator, center: tuple[float, float, float], pixels: int) -> list[Beam]:
    config = AcquisitionConfig(detector_pixels=pixels)
    x, y, z = (float(c + d) for c, d in zip(center, rng.normal(size=3) * config.isocenter_sd_mm, strict=True))
    return random_beams(rng, (x, y, z), config)


def _view(beam: Beam) -> str:
    return "lateral" if beam.view.is_lateral else "ap"


def _manifest_rows(output: Path) -> list[dict[str, Any]]:
    """One row per image of all acquisitions in the folder."""
    rows = []
    for record_file in sorted(output.glob("*/[0-9][0-9][0-9]*/acquisition.json")):
        if record_file.parent.suffix == ".partial":
            continue
        record = json.loads(record_file.read_text(encoding="utf-8"))
        for name, digest in record["images"].items():
            view, _, detector = name.partition(".")[0].partition("_")
            rows.append(
                {
                    **{key: record[key] for key in ("case", "acquisition", "split", "patient", "source")},
                    "detector": detector or IDEAL,
                    "view": view,
                    "file": (record_file.parent / name).relative_to(output).as_posix(),
                    "sha256": digest,
                }
            )
    return rows
