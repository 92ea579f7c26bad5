"""What it costs to take the X-rays of a scanning fan (EOS, CT scouts) for those of a cone, and what its own geometry gives.

    .venv/bin/python Testing/Benchmarks/beams.py [--phantoms 903 904] [--cts CT.nii.gz ...]

The same patients are X-rayed by a cone and by a fan, and reconstructed with the embedded checkpoint: the cone's X-rays as such,
the fan's as such, and the fan's taken for those of the cone that agrees with it at the isocentre. Prints the means as Markdown.
About a minute per case on two CPU cores.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.geometry import as_kind
from diff2ct.process import tune_allocator
from diff2ct.reconstruct import reconstruct
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import EvaluationCase, ct_case, phantom_case
from judging import mean_of, scores_of

WAYS = {"cone": ("cone", "cone"), "fan": ("fan", "fan"), "fan, taken for a cone": ("fan", "cone")}
"""By name: the beam that makes the X-rays, and the one that the reconstruction is told."""
FIGURES = ("ssim_3d_body", "bone_dice", "metal_dice", "mae_hu_bone", "mae_hu_body", "psnr_wide", "ncc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, nargs="*", default=[903, 904, 905, 906])
    parser.add_argument("--cts", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    tune_allocator()
    checkpoint = load_checkpoint()
    setups = {beam: BiplanarSetup(beam=beam) for beam in ("cone", "fan")}
    scores: dict[str, dict[str, list[dict[str, float]]]] = {}
    for make, whom in ((phantom_case, options.phantoms), (ct_case, options.cts)):
        for one in whom:
            cases = {beam: make(one, checkpoint.grid, setup) for beam, setup in setups.items()}
            for way, (real, told) in WAYS.items():
                found = scored(cases[real], told, checkpoint)
                scores.setdefault(cases[real].dataset, {}).setdefault(way, []).append(found)
                shown = ", ".join(f"{name} {found[name]:.3f}" for name in FIGURES[:3])
                print(f"{cases[real].name} {way}: {shown}", flush=True)
    for kind, ways in scores.items():
        print(f"\n{kind}:\n\n| X-rays | cases | " + " | ".join(FIGURES) + " |\n" + "|---" * (2 + len(FIGURES)) + "|")
        for way, found_of in ways.items():
            means = (mean_of([found[name] for found in found_of]) for name in FIGURES)
            print(f"| {way} | {len(found_of)} | " + " | ".join(means) + " |")


def scored(case: EvaluationCase, told: str, checkpoint: Checkpoint) -> dict[str, float]:
    """Figures of the reconstruction that is told that a beam of this kind made the case's X-rays."""
    pair = [replace(radiograph, geometry=as_kind(radiograph.geometry, told)) for radiograph in case.radiographs]
    return scores_of(reconstruct(pair, checkpoint, num_samples=4).volume, case, pair)


if __name__ == "__main__":
    main()
