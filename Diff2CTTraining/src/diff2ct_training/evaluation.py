"""Cases x methods -> per-case CSV, summary tables and figures. Phantoms and real CTs are separate datasets and never
averaged together.

Every method gets the same radiographs, rendered from the whole body or scan; every score is taken on the model grid, and for
real CTs only where the scan has data. Phantom seeds 0..999 are for evaluation, the training's start at 10000.

Every row says what made it (`made_by`): an evaluation that is repeated, extended or was interrupted computes only what is not
there yet.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import Checkpoint
from diff2ct.metrics import body_mask, evaluate_volume
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import grid_around_isocenter, reconstruct
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training import baselines
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation_report import CASES_IN_FIGURE, CaseFigure, write_report
from diff2ct_training.prepare import body_center
from diff2ct_training.tables import KEYS, Row, read_rows, write_rows

VERSION = 1
"""Part of every row's `made_by`. Raise it when a metric, a phantom, the rendering, a baseline or the inference path comes to
give other numbers: rows of another version are computed again."""
PHANTOMS, REAL_CTS = "phantoms", "real CTs"
EVALUATION_SEEDS = range(1000)
FIRST_TRAINING_SEED = 10_000


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """One patient. truth: on the model grid. mask: (D, H, W) bool, where the truth is known."""

    dataset: str
    name: str
    radiographs: tuple[Radiograph, Radiograph]
    truth: CtVolume
    mask: np.ndarray

    @property
    def grid(self) -> VolumeGrid:
        return self.truth.grid


Method = Callable[[EvaluationCase], np.ndarray]
"""A case's radiographs -> HU (D, H, W) on its grid. Only oracles look at the truth."""


@dataclass(frozen=True, eq=False)
class PlannedCase:
    """A case that is rendered when it is needed. identity: everything that decides what it is, as text."""

    dataset: str
    name: str
    identity: str
    make: Callable[[], EvaluationCase]


@dataclass(frozen=True, eq=False)
class PlannedMethod:
    """A method that is set up when it is needed. identity: everything that decides what it gives, as text."""

    identity: str
    build: Callable[[], Method]


def plan_phantom(seed: int, model_grid: VolumeGrid, setup: BiplanarSetup) -> PlannedCase:
    """`phantom_case`, later."""
    identity = f"make_phantom({seed}) on {_describe(model_grid)}, X-rays {setup.describe()}"
    return PlannedCase(PHANTOMS, phantom_name(seed), identity, partial(phantom_case, seed, model_grid, setup))


def plan_ct(path: Path, model_grid: VolumeGrid, setup: BiplanarSetup) -> PlannedCase:
    """`ct_case`, later. The file counts by what is in it, not by where it is."""
    identity = f"CT {fingerprint(path)} on {_describe(model_grid)}, X-rays {setup.describe()}"
    return PlannedCase(REAL_CTS, ct_name(path), identity, partial(ct_case, path, model_grid, setup))


def _describe(grid: VolumeGrid) -> str:
    return f"{' x '.join(map(str, grid.size))} voxels of {' x '.join(f'{mm:g}' for mm in grid.spacing_mm)} mm"


def fingerprint(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file, or of all files in a folder with their names."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def phantom_name(seed: int) -> str:
    return f"phantom_{seed:03d}"


def ct_name(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def phantom_case(seed: int, model_grid: VolumeGrid, setup: BiplanarSetup, *, body_spacing_mm: float = 2.0) -> EvaluationCase:
    """An evaluation phantom; its isocentre is the origin of its own frame. model_grid: the cube around the origin."""
    from diff2ct.phantom import make_phantom

    if seed not in EVALUATION_SEEDS:
        raise ValueError(f"seed: got {seed}, accepted are evaluation seeds 0..{EVALUATION_SEEDS[-1]}")
    phantom = make_phantom(seed)
    name = phantom_name(seed)
    body = phantom.render(phantom.body_grid(body_spacing_mm)).hu
    radiographs = render_radiographs(body, setup.beams((0.0, 0.0, 0.0)), name)
    return EvaluationCase(PHANTOMS, name, radiographs, phantom.render(model_grid).hu, np.ones(model_grid.size, dtype=bool))


def ct_case(path: Path, model_grid: VolumeGrid, setup: BiplanarSetup) -> EvaluationCase:
    """A real CT; isocentre as `body_center` chooses it, scores where the scan has data."""
    from diff2ct.volume_io import inside_grid, read_ct, resample

    scan = read_ct(path)
    name = ct_name(path)
    radiographs = render_radiographs(scan, setup.beams(body_center(scan)), name)
    grid = grid_around_isocenter(model_grid, radiographs)
    return EvaluationCase(REAL_CTS, name, radiographs, resample(scan, grid), inside_grid(scan, grid))


def diff2ct_method(checkpoint: Checkpoint, *, num_steps: int | None, num_samples: int, seed: int, device: str) -> Method:
    """The whole inference path that the module and the command line run."""

    def method(case: EvaluationCase) -> np.ndarray:
        result = reconstruct(
            case.radiographs, checkpoint, num_steps=num_steps, num_samples=num_samples, seed=seed, device=device
        )
        return result.volume.hu

    return method


BASELINES: dict[str, Method] = {
    "flat-body": lambda case: baselines.flat_body(case.radiographs, case.grid),
    "backprojection": lambda case: baselines.backprojection(case.radiographs, case.grid),
    "sirt": lambda case: baselines.sirt(case.radiographs, case.grid),
    "sirt-tv": lambda case: baselines.sirt(case.radiographs, case.grid, tv_weight=baselines.TV_WEIGHT),
    "oracle-true-body-flat": lambda case: baselines.fill_body(body_mask(torch.from_numpy(case.truth.hu)).numpy()),
}
"""Methods without weights. The oracle, the true outline filled with soft tissue, shows what a score owes to outlines alone."""


def train_mean_method(num_phantoms: int, model_grid: VolumeGrid, on_phantom: Callable[[], None] | None = None) -> Method:
    """The same volume for every case: the mean of the first `num_phantoms` training phantoms, computed here once."""
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + num_phantoms)
    mean = baselines.train_mean(seeds, model_grid, on_phantom)
    return lambda case: mean


def evaluate(
    cases: Sequence[PlannedCase],
    methods: Mapping[str, PlannedMethod],
    output: Path,
    *,
    settings: str = "",
    afresh: bool = False,
    on_result: Callable[[str, str], None] | None = None,
) -> list[Row]:
    """Run every method on every case and write `per_case.csv` (after each result), `summary.csv`, `tests.csv`, `summary.md`
    and one figure per dataset into the folder `output`.

    Rows that `per_case.csv` has already, made by the same case and method, are kept, unless `afresh`. Rows of other cases and
    methods stay at its end; the summary is of these `cases` and `methods` only.

    settings: lines on top of the summary that say how it was made. on_result: called with case and method after each.

    Returns the rows of `cases` and `methods`.
    """
    output.mkdir(parents=True, exist_ok=True)
    wanted = {
        (case.dataset, case.name, name): f"v{VERSION}; {case.identity}; {method.identity}"
        for case in cases
        for name, method in methods.items()
    }
    if len(wanted) < len(cases) * len(methods):
        raise ValueError(
            f"cases: got two of the same name among {', '.join(case.name for case in cases)}, accepted is one each"
        )
    file = output / "per_case.csv"
    found = {_key(row): row for row in read_rows(file)} if file.exists() and not afresh else {}
    rows = {key: row for key, row in found.items() if key not in wanted or row.get("made_by") == wanted[key]}
    figures = []
    for dataset in dict.fromkeys(case.dataset for case in cases):
        names = [case.name for case in cases if case.dataset == dataset][:CASES_IN_FIGURE]
        figures.append(CaseFigure(output, dataset, names, wanted, afresh=afresh))
    built = {name: cache(method.build) for name, method in methods.items()}

    for planned in cases:
        figure = next((f for f in figures if f.wants(planned.dataset, planned.name)), None)
        keys = {name: (planned.dataset, planned.name, name) for name in methods}
        case = planned.make() if figure is not None or any(key not in rows for key in keys.values()) else None
        volumes = {}
        for name, key in keys.items():
            if case is not None and (figure is not None or key not in rows):
                method = built[name]()
                start = time.perf_counter()
                volumes[name] = method(case)
                seconds = time.perf_counter() - start
                if key not in rows:
                    scores = evaluate_volume(*(torch.from_numpy(a) for a in (volumes[name], case.truth.hu, case.mask)))
                    rows[key] = dict(zip(KEYS, key, strict=True)) | {"made_by": wanted[key], "seconds": seconds, **scores}
                    write_rows([rows[k] for k in dict.fromkeys([*wanted, *rows]) if k in rows], file)
            if on_result is not None:
                on_result(planned.name, name)
        if figure is not None and case is not None:
            figure.add(case.name, case.truth, volumes)
    result = [rows[key] for key in wanted]
    write_report(result, output, settings)
    return result


def _key(row: Row) -> tuple[str, str, str]:
    return row["dataset"], row["case"], row["method"]
