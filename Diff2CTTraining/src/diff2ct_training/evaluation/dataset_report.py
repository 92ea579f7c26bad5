"""What the results of one dataset say: its tables, tests and distances, and which of its cases are worth showing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diff2ct_training.evaluation.catalog import SECTIONS, Section
from diff2ct_training.evaluation.results import TRUTH, Key, Results
from diff2ct_training.evaluation.statistics import bootstrap_interval, compare, patient_of, sample_sd, values_of
from diff2ct_training.evaluation.tables import Cell, Row, Table
from diff2ct_training.scoring.distribution import fid, kid
from diff2ct_training.scoring.slices import PLANES

ORACLE = "oracle"
"""Methods of this prefix look at the truth: they are never the best of a table."""
ONE_SAMPLE = ", one sample"
"""Rows of the first of several samples: no methods of their own, and not tested."""
SIGNIFICANT = 0.05
LEGACY_FID = (
    "FID per case (legacy): the mean over cases of the FID of a case's slices alone, biased far upwards by their small number; "
    "to stand beside the table of arXiv 2408.09731 and nothing else."
)
GRID_CEILING = (
    "oracle-grid is the truth, linearly interpolated back to the original voxels of its CT and compared with the CT there: "
    "what a reconstruction without any error would score against the CT itself. All others are scored on the grid, against "
    "that truth. Windows of SSIM are as many voxels in both, not millimetres. Phantoms are rendered on the grid and prepared "
    "cases lie on theirs: they have no such row."
)
_DISTANCES = ("fid", "kid", "fid_per_case_legacy")


@dataclass(frozen=True, eq=False)
class DatasetReport:
    """What is known of one dataset. tables: per section that has scores. reference: the first method, with which the others are
    compared."""

    name: str
    rows: list[Row]
    reference: str
    tables: list[tuple[Section, Table]]
    tests: list[Row]
    distribution: list[Row]
    screws: list[Row]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(row["method"] for row in self.rows))

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(row["case"] for row in self.rows))


def report_dataset(results: Results, keys: Sequence[Key]) -> DatasetReport:
    rows = results.rows(keys)
    reference = rows[0]["method"]
    rivals = [row for row in rows if not row["method"].startswith(ORACLE) and not row["method"].endswith(ONE_SAMPLE)]
    tests = [test for section in SECTIONS for test in compare(rivals, reference, section.tests)]
    tables = []
    for section in SECTIONS:
        table = table_of(section, rows, tests, reference)
        if table.columns:
            tables.append((section, table))
    return DatasetReport(keys[0][0], rows, reference, tables, tests, pooled_distances(results, keys), results.screw_rows(keys))


def table_of(section: Section, rows: Sequence[Row], tests: Sequence[Row], reference: str) -> Table:
    """The columns of `section` for which any method has a score, and the methods that have any of these."""
    methods = tuple(dict.fromkeys(row["method"] for row in rows))
    metrics = [metric for metric in section.columns if len(values_of(rows, metric))]
    by_method = {method: [row for row in rows if row["method"] == method] for method in methods}
    p_values = {(test["method"], test["metric"]): test["p_holm"] for test in tests}
    cells: dict[str, list[Cell | None]] = {method: [] for method in methods}
    for metric in metrics:
        column = section.columns[metric]
        means = {m: float(v.mean()) for m in methods if len(v := values_of(by_method[m], metric))}
        best = best_of({m: v for m, v in means.items() if not m.startswith(ORACLE)}, "" if column.given else column.arrow)
        for method in methods:
            values = values_of(by_method[method], metric)
            p = p_values.get((method, metric))
            cells[method].append(
                Cell(
                    float(values.mean()), sample_sd(values), *bootstrap_interval(values), len(values),
                    best=method in best, differs=None if p is None else p < SIGNIFICANT,
                ) if len(values) else None
            )  # fmt: skip
    columns = tuple(section.columns[metric] for metric in metrics)
    num_cases, num_patients = len({row["case"] for row in rows}), len({patient_of(row) for row in rows})
    title = f"{section.title}: {rows[0]['dataset']}"
    scored = {method: tuple(of_method) for method, of_method in cells.items() if any(of_method)}
    return Table(title, num_cases, columns, tuple(scored), scored, reference, num_patients)


def best_of(means: dict[str, float], arrow: str) -> set[str]:
    """The methods with the best mean; none if no method is better than another."""
    if not arrow:
        return set()
    worth = {method: {"up": -mean, "down": mean, "zero": abs(mean)}[arrow] for method, mean in means.items()}
    if len(set(worth.values())) < 2:
        return set()
    return {method for method, value in worth.items() if value == min(worth.values())}


def pooled_distances(results: Results, keys: Sequence[Key]) -> list[Row]:
    """FID and KID of every method, per plane over the slices of all cases, and the mean; empty without features.

    fid_per_case_legacy: `LEGACY_FID`; the paper's FID has a spread, so it must be of single cases or folds.
    """
    rows: list[Row] = []
    by_method: dict[str, list[Key]] = {}
    for key in keys:
        by_method.setdefault(key[2], []).append(key)
    for method, of_method in by_method.items():
        planes = []
        for plane in PLANES:
            pairs = _features_of_cases(results, of_method, f"features_{plane}")
            if not pairs:
                continue
            predicted, true = (np.concatenate([pair[n] for pair in pairs]) for n in (0, 1))
            planes.append({
                "dataset": of_method[0][0], "method": method, "plane": plane, "slices": len(true), "features": true.shape[1],
                "fid": fid(predicted, true), "kid": kid(predicted, true),
                "fid_per_case_legacy": float(np.mean([fid(p, t) if len(t) > 1 else math.nan for p, t in pairs])),
            })  # fmt: skip
        rows += planes
        if len(planes) == len(PLANES):
            total = {name: float(np.mean([p[name] for p in planes])) for name in _DISTANCES}
            rows.append({**planes[0], "plane": "mean", "slices": sum(p["slices"] for p in planes), **total})
    return rows


def _features_of_cases(results: Results, keys: Sequence[Key], name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(predicted, true) of each case; empty if one has none."""
    pairs = []
    for key in keys:
        predicted, true = (results.arrays(one, name).get(name) for one in (key, (*key[:2], TRUTH)))
        if predicted is None or true is None:
            return []
        pairs.append((predicted, true))
    return pairs


def typical_case(dataset: DatasetReport) -> str:
    """The case in the middle of the reference's SSIM: neither a lucky nor an unlucky one."""
    ranked = _ranked(dataset)
    return ranked[len(ranked) // 2]


def worst_case(dataset: DatasetReport) -> str:
    return _ranked(dataset)[0]


def _ranked(dataset: DatasetReport, metric: str = "ssim_3d_body") -> list[str]:
    """Cases from the reference's worst to its best; in their order where there is no score."""
    scored = {row["case"]: float(row.get(metric, math.nan)) for row in dataset.rows if row["method"] == dataset.reference}
    known = sorted((case for case in scored if math.isfinite(scored[case])), key=lambda case: scored[case])
    return known or dataset.cases


def coarsest_case(dataset: DatasetReport) -> str | None:
    """The case with the widest original spacing; None if the cases do not differ in it."""
    spacings = {row["case"]: spacing_of(row) for row in dataset.rows}
    known = {case: value for case, value in spacings.items() if math.isfinite(value)}
    if len(set(known.values())) < 2:
        return None
    return max(known, key=lambda case: known[case])


def spacing_of(row: Row) -> float:
    """The original voxel's edge [mm], as the cube root of its volume; NaN if not known."""
    in_plane, between = (float(row.get(name, math.nan)) for name in ("pixel_spacing_mm", "slice_spacing_mm"))
    return float((in_plane**2 * between) ** (1 / 3))
