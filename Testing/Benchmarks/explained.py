"""How well the volume made from two films explains them: as they are, and read with bone dark instead of bright.

    .venv/bin/python Testing/Benchmarks/explained.py [--phantoms 903 904] [--cts CT.nii.gz ...]

Prints the correlation of each film with its re-projection, and how many pairs the warning of `diff2ct.told.unexplained` would
tell: of the right ones it should be none, of the inverted ones all. About ten seconds per pair on two CPU cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.process import tune_allocator
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import reconstruct
from diff2ct.told import USUAL_NCC, unexplained
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import ct_case, phantom_case
from judging import random_film

PAIRS_PER_CASE = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, nargs="*", default=[903, 904, 905, 906])
    parser.add_argument("--cts", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    tune_allocator()
    checkpoint, setup = load_checkpoint(), BiplanarSetup()
    cases = [phantom_case(seed, checkpoint.grid, setup) for seed in options.phantoms]
    cases += [ct_case(path, checkpoint.grid, setup) for path in options.cts]
    found: dict[str, list[Sequence[dict[str, float]]]] = {"right": [], "inverted": []}
    for number, case in enumerate(cases):
        for n in range(1, PAIRS_PER_CASE + 1):
            films = [random_film(radiograph, 100 * number + 10 * n + v) for v, radiograph in enumerate(case.radiographs)]
            for name, pair in (("right", films), ("inverted", [inverted(film) for film in films])):
                found[name].append(explained(pair, checkpoint))
                print(
                    f"{case.name} pair {n}, {name}: " + ", ".join(f"{view['ncc']:.2f}" for view in found[name][-1]), flush=True
                )
    for name, pairs in found.items():
        values = [view["ncc"] for pair in pairs for view in pair]
        told = sum(bool(unexplained(pair)) for pair in pairs)
        low = sum(not value >= USUAL_NCC for value in values)
        print(f"{name}: {min(values):.2f} to {max(values):.2f}, {low} of {len(values)} films below {USUAL_NCC:g}; ", end="")
        print(f"{told} of {len(pairs)} pairs told")


def inverted(film: Radiograph) -> Radiograph:
    return replace(film, line_integral=-film.line_integral)


def explained(pair: Sequence[Radiograph], checkpoint: Checkpoint) -> Sequence[dict[str, float]]:
    return reconstruct(pair, checkpoint, num_samples=4).reprojection


if __name__ == "__main__":
    main()
