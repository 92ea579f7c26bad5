"""The reference data set: phantoms that anyone can render, in the paper's numbers of training and test patients.

Not the volumes but seeds and figures are kept, in lumbar_phantom_268.csv. SHA-256 sums of volumes would not do: another
machine's floating point rounds a voxel here and there differently, though the patient is the same. The figures are of the
phantom rendered at 8 mm, which takes a moment, with a tolerance far below what tells two patients apart.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from diff2ct.phantom import make_phantom
from diff2ct_training.acquisitions import AcquisitionConfig
from diff2ct_training.cases import describe_case
from diff2ct_training.framing import SPACING_MM
from diff2ct_training.phantom_seeds import TEST_SEEDS, phantom_case_name, phantom_split, training_seeds

NAME = "lumbar-phantom-268"
NUM_TEST, NUM_TRAINING = 56, 212
TABLE = files("diff2ct_training").joinpath("lumbar_phantom_268.csv")
COLUMNS = ("case", "split", "size", "screws", "mean_hu", "bone_ml", "metal_ml", "spine_ml")
TOLERANCES = {"mean_hu": 0.02, "bone_ml": 1.0, "metal_ml": 1.0, "spine_ml": 1.0}
"""Half a millilitre is one voxel of 8 mm."""
_CHECK_SPACING_MM = 8.0


def reference_seeds(name: str) -> tuple[int, ...]:
    """Seeds of a reference data set, test patients first."""
    if name != NAME:
        raise ValueError(f"--reference: got {name!r}, accepted is {NAME}")
    return (*TEST_SEEDS[:NUM_TEST], *training_seeds(NUM_TRAINING))


def reference_acquisition(recipes: AcquisitionConfig) -> AcquisitionConfig:
    """How the patients of a reference data set are X-rayed: as a recipe has it, but by cones alone, as they were when it was
    fixed."""
    return replace(recipes, fan_share=0.0)


def reference_row(seed: int) -> dict[str, str]:
    """`COLUMNS` of the phantom that this machine draws from `seed`; size is of its prepared case."""
    phantom = make_phantom(seed)
    image = phantom.render(phantom.body_grid(_CHECK_SPACING_MM))
    hu, voxel_ml = image.hu.hu, _CHECK_SPACING_MM**3 / 1e3
    return {
        "case": phantom_case_name(seed),
        "split": phantom_split(seed),
        "size": _by(phantom.body_grid(SPACING_MM).size),
        "screws": str(len(phantom.screws)),
        "mean_hu": f"{hu.mean(dtype=np.float64):.3f}",
        "bone_ml": f"{(hu > 300).sum() * voxel_ml:.3f}",
        "metal_ml": f"{(hu > 2500).sum() * voxel_ml:.3f}",
        "spine_ml": f"{np.count_nonzero(image.labels) * voxel_ml:.3f}",
    }


def read_reference(table: Traversable = TABLE) -> dict[str, dict[str, str]]:
    """Case -> `COLUMNS`, as they were when the data set was fixed."""
    return {row["case"]: row for row in csv.DictReader(table.read_text(encoding="ascii").splitlines())}


def write_reference(file: Path, seeds: Iterable[int]) -> None:
    """Fix the data set anew, with all `reference_seeds`: only when the phantom itself has changed and with it all results."""
    with file.open("w", encoding="ascii", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(reference_row(seed) for seed in seeds)


def differences(got: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Columns of `got` in which a patient is not the expected one, with both figures."""
    return [
        f"{name} is {value}, not {expected[name]}"
        for name, value in got.items()
        if (abs(float(value) - float(expected[name])) > TOLERANCES[name] if name in TOLERANCES else value != expected[name])
    ]


def check_reference(name: str, folder: Path) -> str:
    """One line that says that `folder` holds this data set, by what its cases say of themselves; ValueError with the first one
    that differs. What is in the files is checked by `prepare --verify`."""
    expected = read_reference()
    for case, row in expected.items():
        there = describe_case(folder / f"{case}.json")
        size, screws = _by(there["grid"]["size"]), str(len(there["screws"]))
        problems = differences({"size": size, "screws": screws, "split": there["split"]}, row)
        if problems:
            raise ValueError(f"{name}: {case} is not the reference patient: {'; '.join(problems)}")
    return f"{name}: all {len(expected)} cases are there"


def _by(size: Iterable[int]) -> str:
    """(D, H, W) as "W x H x D"."""
    return " x ".join(str(n) for n in reversed(list(size)))
