"""What an evaluation writes when its rows are there: tables, tests, and one picture per dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diff2ct.volume import CtVolume
from diff2ct_training.tables import Row, compare, markdown_table, summarize, write_rows

HEADLINE_METRICS = ("ssim_3d_body", "bone_dice", "metal_dice", "mae_hu_bone", "mae_hu_body", "bias_hu_body")
"""Inside the body, where it counts."""
WIDE_METRICS = ("ssim_3d_wide", "psnr_wide", "mae_wide", "ssim_2d_x2ct", "psnr_x2ct", "bias_hu_whole", "seconds")
"""Whole volume, as other papers report; a body filled with water already scores high."""
CASES_IN_FIGURE = 3


def write_report(rows: Sequence[Row], output: Path, settings: str) -> None:
    """`summary.csv`, `summary.md` with `settings` on top, and `tests.csv` if there are cases enough."""
    write_rows(summarize(rows), output / "summary.csv")
    reference = rows[0]["method"]
    tests = compare(rows, reference, HEADLINE_METRICS)
    (output / "tests.csv").unlink(missing_ok=True)
    if tests:
        write_rows(tests, output / "tests.csv")
    tables = (markdown_table(rows, HEADLINE_METRICS), markdown_table(rows, WIDE_METRICS))
    text = (
        f"{settings}\n\n## Inside the body\n\n{tables[0]}\n## Whole volume\n\n{tables[1]}\n"
        "SSIM, Dice and PSNR: higher is better; MAE [HU]: lower; bias [HU]: nearer 0.\n"
        "Windows, regions and kernels: diff2ct.metrics. All metrics with bootstrap intervals: summary.csv.\n"
        + (f"Paired Wilcoxon tests of {reference}, Holm-corrected: tests.csv.\n" if tests else "Too few cases for tests.\n")
    )
    (output / "summary.md").write_text(text, encoding="ascii")


class CaseFigure:
    """`figure_DATASET.png`: the first cases of a dataset, every method. A JSON file beside it says what made its volumes, so
    that they are computed again only if the picture would change.

    names: the cases. made_by: by dataset, case and method. afresh: draw it whatever is there.
    """

    def __init__(
        self,
        output: Path,
        dataset: str,
        names: Sequence[str],
        made_by: Mapping[tuple[str, str, str], str],
        *,
        afresh: bool = False,
    ) -> None:
        self.dataset, self.names = dataset, tuple(names)
        self.path = output / f"figure_{dataset.replace(' ', '_').lower()}.png"
        self._beside = self.path.with_suffix(".json")
        parts = {f"{case}, {method}": text for (of, case, method), text in made_by.items() if of == dataset and case in names}
        self._made_by = json.dumps(parts, indent=1) + "\n"
        self._is_there = self.path.exists() and self._beside.exists() and self._beside.read_text() == self._made_by
        self._is_there &= not afresh
        self._shown: list[tuple[str, CtVolume, dict[str, np.ndarray]]] = []

    def wants(self, dataset: str, name: str) -> bool:
        """The volumes of this case are needed."""
        return not self._is_there and dataset == self.dataset and name in self.names

    def add(self, name: str, truth: CtVolume, volumes: dict[str, np.ndarray]) -> None:
        """One case: HU (D, H, W) by method. The last one draws the picture."""
        from diff2ct_training.figures import methods_figure

        self._shown.append((name, truth, volumes))
        if len(self._shown) == len(self.names):
            methods_figure(self.path, self._shown, f"{self.dataset}: every method got the same two X-rays")
            self._beside.write_text(self._made_by)
            self._shown = []
