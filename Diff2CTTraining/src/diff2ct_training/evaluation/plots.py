"""The figures of an evaluation: panels of reconstructions as in the paper's Fig. 1 and 3, scores with their intervals, scores
over the original resolution as in Fig. 2, and coverage.

Panels are PNG on black, as CT is read; charts are SVG. Each is a file of its own and is embedded in the report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diff2ct.atomic import replacing_file
from diff2ct_training.evaluation.catalog import HEADLINES, column_of
from diff2ct_training.evaluation.dataset_report import (
    ONE_SAMPLE,
    ORACLE,
    DatasetReport,
    coarsest_case,
    typical_case,
    worst_case,
)
from diff2ct_training.evaluation.methods import ORACLE_GRID
from diff2ct_training.evaluation.results import TRUTH, Results
from diff2ct_training.evaluation.statistics import bootstrap_interval, correlation, patient_means, values_of
from diff2ct_training.evaluation.tables import Row
from diff2ct_training.figures import DIFFERENCE_HU, NOTICE, PLANES, bare
from diff2ct_training.pictures import WINDOW_HU

ACCENT, INK, FAINT, RULE = "#0b6e99", "#1f2933", "#7b8794", "#d9dee4"
DIM = "#9aa0a6"
OTHERS = ("#c2571a", "#3f7d3a", "#7a4fa3", "#a8842c", "#b23a68", "#4a6fa5", "#5b6770")
MAX_BESIDE = 7
"""Methods beside each other in a figure; more go below."""
TRUTH_AS_METHOD = ("oracle-truth", ORACLE_GRID)
"""In tables only: in a chart they would squeeze all others together."""
_CHART: Any = {
    "font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": RULE,
    "xtick.color": FAINT, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path",
    "svg.hashsalt": "diff2ct",
}  # fmt: skip


@dataclass(frozen=True)
class ReportFigure:
    """A written figure. caption: what it shows and how to read it. wide: wants more width than text has."""

    path: Path
    title: str
    caption: str
    wide: bool = False
    width_px: int = 1120


def write_figures(results: Results, dataset: DatasetReport) -> list[ReportFigure]:
    """All figures of a dataset that its results allow, in the order of the report."""
    slug = dataset.name.replace(" ", "_").lower()
    place = results.output
    figures = [scores_figure(place / f"figure_scores_{slug}.svg", dataset)]
    shown = {
        "typical": (typical_case(dataset), "The median case by SSIM in the body of {}."),
        "worst": (worst_case(dataset), "The case with the lowest SSIM in the body of {}."),
        "coarse": (coarsest_case(dataset), "The scan with the coarsest original voxels (Fig. 3 of the paper)."),
    }
    for name, (case, caption) in shown.items():
        path = place / f"figure_{name}_{slug}.png"
        if case is None or (name == "worst" and len(dataset.cases) < 3):
            path.unlink(missing_ok=True)
            continue
        width = panels_figure(path, results, dataset, case)
        title = {"typical": "A typical case", "worst": "The worst case", "coarse": "A low-resolution case"}[name]
        text = (
            caption.format(dataset.reference)
            + f" Planes through the spine, {WINDOW_HU[0]:.0f} to {WINDOW_HU[1]:.0f} HU, the patient's left on the right."
        )
        figures.append(ReportFigure(path, f"{title}: {case}", text, wide=True, width_px=min(width, 1120)))
    for name, chart in {"spacing": spacing_figure, "coverage": coverage_figure}.items():
        path = place / f"figure_{name}_{slug}.svg"
        figure = chart(path, dataset)
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            figures.append(figure)
    return figures


def panel_methods(dataset: DatasetReport) -> list[str]:
    """Methods that panels show: no second row of one method, no volume that is the truth."""
    return [m for m in dataset.methods if not m.endswith(ONE_SAMPLE) and m not in TRUTH_AS_METHOD]


def in_lines(methods: Sequence[str]) -> list[list[str]]:
    """As few lines of at most `MAX_BESIDE` as there may be, as equal as they may be; one even without methods."""
    count = max(1, math.ceil(len(methods) / MAX_BESIDE))
    length = math.ceil(len(methods) / count)
    return [list(methods[n * length : (n + 1) * length]) for n in range(count)]


def panels_figure(path: Path, results: Results, dataset: DatasetReport, case: str) -> int:
    """Columns: the X-rays, the truth and each method, in blocks of up to `MAX_BESIDE` methods; rows: axial, coronal, sagittal,
    and the sagittal error. Returns how wide it wants to be shown [pixels]."""
    blocks = in_lines(panel_methods(dataset))
    truth = results.arrays((dataset.name, case, TRUTH))
    rows = [*PLANES, "sagittal error"]
    cell, left, gap, head = 1.75, 0.36, 0.04, 0.50
    heights = [cell * shape[0] / shape[1] for shape in (truth[f"plane_{name.split()[0]}"].shape for name in rows)]
    block_height = head + sum(heights) + gap * len(rows)
    size = (left + (2 + len(blocks[0])) * (cell + gap), 0.30 + len(blocks) * block_height)
    figure = Figure(figsize=size, facecolor="black")
    for b, methods in enumerate(blocks):
        volumes = {m: results.arrays((dataset.name, case, m)) for m in methods}
        top = size[1] - 0.24 - b * block_height - head
        for r, name in enumerate(rows):
            y, height = top - sum(heights[: r + 1]) - gap * r, heights[r]
            for c, column in enumerate(("X-rays", "truth", *methods)):
                x = left + c * (cell + gap)
                axes = figure.add_axes((x / size[0], y / size[1], cell / size[0], height / size[1]))
                bare(axes)
                _show_panel(axes, name, column, truth, volumes.get(column, {}))
                if r == 0:
                    weight = "bold" if column == dataset.reference else "normal"
                    axes.set_title(_wrapped(column), color="white", fontsize=11, pad=4, weight=weight)
            label: dict[str, Any] = {"color": DIM, "fontsize": 11, "rotation": 90, "va": "center", "ha": "center"}
            figure.text(0.2 / size[0], (y + height / 2) / size[1], name, **label)
    corner: dict[str, Any] = {"color": DIM, "fontsize": 9, "va": "top"}
    figure.text(0.995, 1 - 0.07 / size[1], NOTICE, ha="right", **corner)
    figure.text(left / size[0], 1 - 0.07 / size[1], case, ha="left", **corner)
    _save(figure, path, dpi=120)
    return round(95 * size[0])


def _show_panel(axes: Axes, row: str, column: str, truth: dict[str, np.ndarray], volume: dict[str, np.ndarray]) -> None:
    """One cell: the frontal X-ray beside the coronal planes, the lateral one beside the sagittal ones."""
    smooth: dict[str, Any] = {"interpolation": "bilinear", "aspect": "auto"}
    if column == "X-rays":
        image = truth.get({"coronal": "xray_0", "sagittal": "xray_1"}.get(row, ""))
        if image is not None:
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear", aspect="equal")
    elif row in PLANES:
        image = (truth if column == "truth" else volume)[f"plane_{row}"]
        axes.imshow(image, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], **smooth)
    elif column == "truth":
        note = f"red: too dense\nblue: not dense enough\nfull colour: {DIFFERENCE_HU:.0f} HU"
        axes.text(0.5, 0.5, note, color=DIM, fontsize=9, ha="center", va="center", transform=axes.transAxes)
    else:
        error = volume["plane_sagittal"].astype(np.float32) - truth["plane_sagittal"]
        axes.imshow(error, cmap="RdBu_r", vmin=-DIFFERENCE_HU, vmax=DIFFERENCE_HU, **smooth)


def scores_figure(path: Path, dataset: DatasetReport) -> ReportFigure:
    """A chart per headline score: every case as a dot, the mean and its 95 % interval above them."""
    metrics = [m for m in HEADLINES if len(values_of(dataset.rows, m))]
    methods = [m for m in dataset.methods if m not in TRUTH_AS_METHOD] or dataset.methods
    with mpl.rc_context(_CHART):
        figure = Figure(figsize=(10.5, 0.75 + 0.31 * len(methods)))
        left = 0.0095 * max(len(m) for m in methods)
        axes_list = figure.subplots(1, max(len(metrics), 1), sharey=True, squeeze=False)[0]
        for axes, metric in zip(axes_list, metrics, strict=False):
            for y, method in enumerate(methods):
                values = values_of([row for row in dataset.rows if row["method"] == method], metric)
                if not len(values):
                    continue
                color = color_of(method, dataset)
                jitter = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
                axes.scatter(values, y + jitter, s=7, color=color, alpha=0.28, linewidths=0)
                low, high = bootstrap_interval(values)
                if math.isfinite(low):
                    axes.plot([low, high], [y, y], color=color, lw=2.2, solid_capstyle="butt")
                axes.scatter([values.mean()], [y], s=26, color=color, zorder=3, edgecolors="white", linewidths=0.8)
            better = {"up": "higher is better", "down": "lower is better", "zero": "near 0 is better"}.get(
                column_of(metric).arrow, ""
            )
            _label(axes, metric)
            axes.set_xlabel(better, fontsize=8, color=FAINT, loc="left")
            axes.grid(axis="x", color=RULE, lw=0.6)
            axes.spines["left"].set_visible(False)
        axes_list[0].set_yticks(range(len(methods)), methods)
        axes_list[0].set_ylim(len(methods) - 0.5, -0.5)
        for label in axes_list[0].get_yticklabels():
            label.set_fontweight("bold" if label.get_text() == dataset.reference else "normal")
        height = figure.get_figheight()
        figure.subplots_adjust(left=left, right=0.995, wspace=0.12, top=1 - 0.3 / height, bottom=0.42 / height)
        _save(figure, path)
    caption = "Dots: cases, those of one patient averaged. Large dot and bar: mean and its 95 % bootstrap interval."
    return ReportFigure(path, "Scores inside the body", caption)


def spacing_figure(path: Path, dataset: DatasetReport) -> ReportFigure | None:
    """Scores over the original in-plane pixel spacing, with rank correlations (Fig. 2 of the paper). None if fewer than three
    scans differ in it."""
    rows = [row for row in dataset.rows if "pixel_spacing_mm" in row]
    if len({row["pixel_spacing_mm"] for row in rows}) < 3:
        return None
    metrics = [m for m in HEADLINES if len(values_of(rows, m))]
    lines = in_lines([m for m in panel_methods(dataset) if not m.startswith(ORACLE)])
    below_in = 0.55 + 0.16 * len(lines[0])  # under each chart: its axis, and a line of text for each method
    line_in = 2.7 + below_in
    height = line_in * len(lines)
    with mpl.rc_context(_CHART):
        figure = Figure(figsize=(10.5, height))
        for n, methods in enumerate(lines):
            top = height - n * line_in
            grid = figure.add_gridspec(
                1, len(metrics), left=0.045, right=0.995, wspace=0.25, top=(top - 0.52) / height,
                bottom=(top - line_in + below_in) / height,
            )  # fmt: skip
            for m, metric in enumerate(metrics):
                axes = figure.add_subplot(grid[0, m])
                for line, method in enumerate(methods):
                    of_method = [row for row in rows if row["method"] == method]
                    _scatter_with_trend(axes, of_method, metric, color_of(method, dataset), line)
                _label(axes, metric)
                axes.set_xlabel("original pixel spacing [mm]", fontsize=8, color=FAINT, loc="left")
                axes.grid(color=RULE, lw=0.6)
                axes.tick_params(labelsize=8)
            dots = [axes.scatter([], [], s=16, color=color_of(method, dataset), label=method) for method in methods]
            where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.03, top / height)}
            figure.legend(handles=dots, ncols=len(dots), frameon=False, fontsize=8.5, **where)
        _save(figure, path)
    caption = (
        "Does a score depend on how fine the scan was? Dots: cases, those of one patient averaged. Spearman's rank "
        "correlation, p as of a single test; lines by least squares."
    )
    return ReportFigure(path, "Score against original pixel spacing", caption)


def _scatter_with_trend(axes: Axes, rows: Sequence[Row], metric: str, color: str, line: int) -> None:
    """A method's patients, a straight line through them, and its correlation as the `line`-th line of text below the chart."""
    x, y = patient_means(rows, "pixel_spacing_mm", metric)
    axes.scatter(x, y, s=16, color=color, alpha=0.75, linewidths=0)
    rho, p = correlation(x, y)
    if math.isfinite(rho):
        slope, start = np.polyfit(x, y, 1)
        ends = np.array([x.min(), x.max()])
        axes.plot(ends, slope * ends + start, color=color, lw=1.2)
        where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "fontsize": 8}
        axes.annotate(
            f"\N{GREEK SMALL LETTER RHO} {rho:+.2f}, p {p:.2g}", (0, 0), xytext=(0, -36 - 11.5 * line), color=color, **where
        )


def _label(axes: Axes, metric: str) -> None:
    column = column_of(metric)
    axes.set_title(column.label + (f" [{column.unit}]" if column.unit else ""), fontsize=10, loc="left", weight="bold")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def coverage_figure(path: Path, dataset: DatasetReport) -> ReportFigure | None:
    """Coverage found over coverage named, for methods of several samples; None if there are none."""
    levels = (50, 80, 90)
    methods = [m for m in dataset.methods if len(values_of([r for r in dataset.rows if r["method"] == m], "coverage_t_50"))]
    if not methods:
        return None
    with mpl.rc_context(_CHART):
        figure = Figure(figsize=(4.2, 3.6))
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=FAINT, lw=1, ls=(0, (4, 3)))
        axes.text(38, 42, "as named", color=FAINT, fontsize=8, rotation=40, ha="center", va="center")
        for method in methods:
            rows = [row for row in dataset.rows if row["method"] == method]
            color = color_of(method, dataset)
            calibrated = [
                100 * float(v.mean()) for level in levels if len(v := values_of(rows, f"coverage_calibrated_{level}"))
            ]
            if len(calibrated) == len(levels):
                axes.plot(levels, calibrated, "o", color=color, ms=6, mfc="white", mew=1.6, label=f"{method}, calibrated")
            found = [100 * float(values_of(rows, f"coverage_t_{level}").mean()) for level in levels]
            axes.plot(levels, found, "o-", color=color, lw=1.6, ms=5, label=method)
            for level, value in zip(levels, found, strict=True):
                axes.annotate(f"{value:.0f}", (level, value), textcoords="offset points", xytext=(5, -9), fontsize=8, color=INK)
        axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="coverage named [%]", ylabel="coverage found [%]")
        axes.grid(color=RULE, lw=0.6)
        axes.tick_params(length=0, labelsize=8)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        figure.subplots_adjust(left=0.14, right=0.97, top=0.97, bottom=0.14)
        _save(figure, path)
    caption = (
        "How often the true HU lies in Student's prediction interval of the samples, inside the body. Below the line: too sure."
    )
    return ReportFigure(path, "Coverage", caption, width_px=440)


def color_of(method: str, dataset: DatasetReport) -> str:
    """The reference has the accent, oracles are faint, the others have colours of their own, as far as these go."""
    if method.startswith(ORACLE):
        return "#b5bdc6"
    if method in (dataset.reference, dataset.reference + ONE_SAMPLE):
        return ACCENT if method == dataset.reference else "#79b4cd"
    others = [m for m in panel_methods(dataset) if m != dataset.reference and not m.startswith(ORACLE)]
    return OTHERS[others.index(method.removesuffix(ONE_SAMPLE)) % len(OTHERS)]


def _wrapped(text: str) -> str:
    return text if len(text) <= 18 else text.replace("-", "-\n", 1) if "-" in text[:18] else text[:18] + "\n" + text[18:]


def _save(figure: Figure, path: Path, **options: Any) -> None:
    """Without the date, so that equal results give equal files."""
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with replacing_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, facecolor=figure.get_facecolor(), metadata=metadata, **options)
