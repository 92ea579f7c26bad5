"""What parts of the default recipe bring: trained without each of them, on the same cases for the same number of steps.

    .venv/bin/python Testing/Benchmarks/ablation.py --output ablation --cases cases --steps 900 --spacing 4 --side-by-side 2
        [--phantoms 6] [--cts CT.nii.gz --cts ...]

`cases`: phantoms and CTs that `diff2ct prepare` wrote, without X-rays: training renders them as each variant wants them. Plain
phantoms are the same patients in four values: air, soft tissue, bone, metal. Prints a Markdown table per kind of held-out case
and X-ray: the whole recipe, then the mean change of each figure with one thing changed, and with one sample instead of the mean
of four. Goes on where it was stopped. Whether to move a volume toward its X-rays afterwards is `consistency.py`'s question.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diff2ct.checkpoint import load_checkpoint
from diff2ct.process import tune_allocator
from diff2ct.reconstruct import reconstruct
from diff2ct.volume import CtVolume
from diff2ct_training.cases import list_cases, read_case, read_labels, write_case
from diff2ct_training.console import note
from diff2ct_training.denoiser import DenoiserRecipe
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import ct_case, phantom_case
from diff2ct_training.loop import train
from diff2ct_training.parallel import Failed, run_all
from diff2ct_training.recipes import default
from judging import XRAYS, scores_of, table

WHOLE = "the whole recipe"
PLAIN = "with plain phantoms"
VARIANTS: dict[str, Callable[[DenoiserRecipe], DenoiserRecipe]] = {
    WHOLE: lambda recipe: recipe,
    PLAIN: lambda recipe: recipe,  # differs in its cases
    "without real CTs": lambda recipe: replace(recipe, ct_share=0.0),
    "without simulated detectors": lambda recipe: replace(recipe, acquisition=replace(recipe.acquisition, ideal_detector=1.0)),
    "without pose errors": lambda recipe: replace(
        recipe, acquisition=replace(recipe.acquisition, pose_error_deg=0.0, pose_error_mm=0.0)
    ),
    "without the window terms": lambda recipe: replace(recipe, body_window_weight=0.0, metal_window_weight=0.0),
}
JUDGED_ON = ("line integrals", "random detector")
SAMPLES = 4


@dataclass(frozen=True)
class Run:
    """One variant's training. spacing_mm: of its voxels."""

    variant: str
    cases: Path
    output: Path
    num_steps: int
    spacing_mm: float

    @property
    def folder(self) -> Path:
        return self.output / self.variant.replace(" ", "-")


def plain(hu: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """HU (D, H, W) of a phantom as simple ones are: air, one soft tissue, one bone, metal. labels: where vertebrae are."""
    bone = (hu > 200) if labels is None else (hu > 200) | (labels > 0)
    return np.select([hu > 2000, bone, hu > -500], [3000, 400, 40], -1000)


def write_plain(cases: Path, folder: Path) -> None:
    """The training cases with plain phantoms, the CTs linked."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in list_cases(cases, "train"):
        if (folder / file.name).exists():
            continue
        case = read_case(file)
        if case.kind == "phantom":
            write_case(folder, replace(case, hu=plain(case.hu, read_labels(file))))
        else:
            (folder / f"{case.name}.npy").unlink(missing_ok=True)
            (folder / f"{case.name}.npy").symlink_to(file.with_suffix(".npy").resolve())
            (folder / file.name).write_text(file.read_text())


def train_variant(run: Run) -> None:
    recipe = VARIANTS[run.variant](replace(default().at_spacing(run.spacing_mm), num_steps=run.num_steps))
    train(recipe, run.cases, run.folder)


def judge(runs: list[Run], phantoms: range, cts: list[Path]) -> str:
    """Markdown."""
    checkpoints = {run.variant: load_checkpoint(run.folder / "checkpoint.safetensors") for run in runs}
    grid, setup = checkpoints[WHOLE].grid, BiplanarSetup()
    kinds = {
        "phantoms": [lambda seed=seed: phantom_case(seed, grid, setup) for seed in phantoms],
        "CTs": [lambda path=path: ct_case(path, grid, setup) for path in cts],
    }
    parts = []
    for kind, cases in kinds.items():
        rows: dict[str, dict[str, list[dict[str, float]]]] = {xrays: {} for xrays in JUDGED_ON}
        for n, make in enumerate(cases):
            case = make()
            for xrays in JUDGED_ON:
                radiographs = [XRAYS[xrays](radiograph, 1000 * n + v) for v, radiograph in enumerate(case.radiographs)]
                for variant, checkpoint in checkpoints.items():
                    result = reconstruct(radiographs, checkpoint, num_samples=SAMPLES, consistency=False)
                    volumes = {variant: result.volume}
                    if variant == WHOLE:
                        volumes["one sample"] = CtVolume(result.samples_hu[0], result.volume.grid)
                    for name, volume in volumes.items():
                        rows[xrays].setdefault(name, []).append(scores_of(volume, case, radiographs))
        parts += [f"## {len(cases)} {kind}, {xrays}\n\n{table(found)}" for xrays, found in rows.items() if found]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("ablation"))
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--spacing", type=float, default=2.0, help="voxels [mm]")
    parser.add_argument("--side-by-side", type=int, default=1, help="variants trained at once, on equal shares of the cores")
    parser.add_argument("--phantoms", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=900)
    parser.add_argument("--cts", type=Path, action="append", default=[], help="never trained on")
    options = parser.parse_args()
    tune_allocator()
    if any(options.cases.glob("*.xray*.npz")):
        parser.error(
            f"--cases: {options.cases} holds X-rays, accepted are cases without, which each variant renders its own way"
        )
    if not any(file.name.startswith("ct") for file in list_cases(options.cases, "train")):
        parser.error(f"--cases: {options.cases} holds no training CT, accepted are phantoms and CTs")
    write_plain(options.cases, options.output / "plain")
    folders = {PLAIN: options.output / "plain"}
    runs = [
        Run(variant, folders.get(variant, options.cases), options.output, options.steps, options.spacing)
        for variant in VARIANTS
    ]
    for run, result in run_all(train_variant, runs, options.side_by_side):
        if isinstance(result, Failed):
            parser.error(f"{run.variant}: {result.reason}")
        note(f"{run.variant}: trained")
    text = judge(runs, range(options.first_seed, options.first_seed + options.phantoms), options.cts)
    (options.output / "ablation.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
