"""Table removal on phantoms, and on any prepared CTs without a table, that are laid on tables of known shape.

    .venv/bin/python Testing/Benchmarks/table_removal.py [--cases CASES] [--phantoms 3]

A table is a hollow shell of 4 mm, 440 mm wide, filled with foam, flat or bowed, touching the back or 6 mm behind it. Printed
per scan and table: how much dense table there was and is left, and how much of the body was lost, in ml. Exit status 1 if more
than 1 % of a table is left or more than 0.1 % of a body is lost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from diff2ct.metrics import SKIN_HU
from diff2ct.phantom import make_phantom
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.cases import filled, list_cases, read_case
from diff2ct_training.framing import SPACING_MM
from diff2ct_training.scanner_table import find_body, without_table

MAX_LEFT, MAX_LOST = 0.01, 0.001
BOWS, GAPS_MM = {"flat": 0.0, "bowed": 0.0005}, (0.0, 6.0)
SHELL_HU, FOAM_HU = -80.0, -940.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--phantoms", type=int, default=3)
    options = parser.parse_args()
    good = True
    print(f"{'scan':40} {'table':>12} {'ml there':>9} {'ml left':>8} {'body ml':>8} {'ml lost':>8}")
    for name, hu in scans(options.cases, options.phantoms):
        for (bow, curvature), gap_mm in product(BOWS.items(), GAPS_MM):
            alone = np.pad(hu, ((0, 0), (0, 40), (30, 30)), constant_values=-1000.0)
            laid = on_table(alone, curvature, gap_mm)
            ct = CtVolume(laid, VolumeGrid.centered(laid.shape, SPACING_MM))
            clean = without_table(ct, find_body(ct)).hu
            body, table = alone > SKIN_HU, (laid > SKIN_HU) & (alone <= SKIN_HU)
            left, lost = (clean > SKIN_HU) & table, body & (np.abs(clean - alone) > 1)
            there, remains, size, loss = (part.sum() * SPACING_MM**3 / 1e3 for part in (table, left, body, lost))
            print(f"{name:40} {bow:>6}, {gap_mm:g} mm {there:9.0f} {remains:8.1f} {size:8.0f} {loss:8.2f}")
            good &= bool(remains <= MAX_LEFT * there and loss <= MAX_LOST * size)
    return 0 if good else 1


def scans(cases: Path | None, num_phantoms: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, HU (D, H, W) at 2 mm) of scans that show no table."""
    for seed in range(num_phantoms):
        phantom = make_phantom(seed)
        yield f"phantom {seed}", phantom.render(phantom.body_grid(SPACING_MM)).hu.hu
    for file in list_cases(cases) if cases else ():
        hu = filled(read_case(file).hu)
        if not find_body(CtVolume(hu, VolumeGrid.centered(hu.shape, SPACING_MM))).has_table:
            yield file.stem, hu


def on_table(hu: np.ndarray, curvature: float, gap_mm: float) -> np.ndarray:
    """The scan with a table right behind the back, or `gap_mm` further; bowed upward at its sides by curvature * x^2."""
    there = (hu > SKIN_HU).any(axis=0)
    y, x = (index * SPACING_MM for index in np.indices(there.shape))
    x -= x.mean()
    lowest = (y + curvature * x**2)[there].max() + SPACING_MM + gap_mm  # of the back, against a table of this shape
    below = y - (lowest - curvature * x**2)
    wide = np.abs(x) < 220
    laid = np.where((below >= 2) & (below < 38) & wide, np.float32(FOAM_HU), hu)
    shell = ((below >= -2) & (below < 2)) | ((below >= 38) & (below < 42))
    return np.where(shell & wide & (hu <= SKIN_HU), np.float32(SHELL_HU), laid)


if __name__ == "__main__":
    sys.exit(main())
