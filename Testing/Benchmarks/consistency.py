"""What data consistency changes: each variant against the same reconstruction without it, on held-out phantoms and CTs.

    .venv/bin/python Testing/Benchmarks/consistency.py --phantoms 6 --cts CRLM-CT-1004.nii.gz --cts CRLM-CT-1006.nii.gz

Prints one Markdown table per kind of case and X-ray: without, and the mean change of each figure by each variant. X-rays: line
integrals of known scale; the same with unknown gain and offset; a random detector (noise, scatter, blur, film processing) of
unknown scale. About 40 s per case on two quiet CPU cores, most of it for --steps, which samples anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from diff2ct.checkpoint import load_checkpoint
from diff2ct.consistency import Consistency, correct_volume, measured_views
from diff2ct.process import tune_allocator
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import Reconstruction, reconstruct
from diff2ct.volume import CtVolume
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import ct_case, phantom_case
from judging import XRAYS, scores_of, table

VARIANTS = {
    "default": Consistency(),
    "noise 0.3": Consistency(noise=0.3),
    "noise 0.15": Consistency(noise=0.15),
    "guidance, 1 iteration": Consistency(noise=0.3, num_iterations=1),
    "only above 400 HU": Consistency(noise=0.3, share=0.0),
    "every voxel alike": Consistency(noise=0.3, share=1.0, least_error_hu=1e4),
    "every voxel alike, TV": Consistency(noise=0.3, share=1.0, least_error_hu=1e4, tv=0.01),
    "naive: every voxel alike, offset only": Consistency(noise=0.3, share=1.0, least_error_hu=1e4, remainder_modes=1),
}


def corrected_volume(result: Reconstruction, radiographs: Sequence[Radiograph], options: Consistency) -> CtVolume:
    """What `reconstruct` gives with these options, from what it gave without; not for when="steps"."""
    assert result.error_hu is not None
    grid, views = result.volume.grid, measured_views(radiographs, result.volume.grid)
    hu, error_hu = torch.from_numpy(result.volume.hu), torch.from_numpy(result.error_hu)
    return CtVolume(correct_volume(hu, error_hu, grid, views, options)[0].numpy(), grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=900)
    parser.add_argument("--cts", type=Path, action="append", default=[])
    parser.add_argument("--xrays", choices=XRAYS, action="append", help="default: all")
    parser.add_argument("--steps", action="store_true", help="also correct at every step")
    options = parser.parse_args()
    tune_allocator()
    checkpoint, setup = load_checkpoint(), BiplanarSetup()
    kinds = {
        "phantoms": [
            lambda seed=seed: phantom_case(seed, checkpoint.grid, setup)
            for seed in range(options.first_seed, options.first_seed + options.phantoms)
        ],
        "CTs": [lambda path=path: ct_case(path, checkpoint.grid, setup) for path in options.cts],
    }
    for kind, cases in kinds.items():
        rows: dict[str, dict[str, list[dict[str, float]]]] = {}
        for n, make in enumerate(cases):
            case = make()
            for xrays in options.xrays or XRAYS:
                radiographs = [XRAYS[xrays](r, 1000 * n + v) for v, r in enumerate(case.radiographs)]
                result = reconstruct(radiographs, checkpoint, num_samples=4, consistency=False)
                volumes = {"without": result.volume}
                volumes |= {name: corrected_volume(result, radiographs, variant) for name, variant in VARIANTS.items()}
                if options.steps:
                    each = reconstruct(radiographs, checkpoint, num_samples=4, consistency=Consistency(when="steps"))
                    volumes["at every step"] = each.volume
                for name, volume in volumes.items():
                    rows.setdefault(xrays, {}).setdefault(name, []).append(scores_of(volume, case, radiographs))
        for xrays, of_variants in rows.items():
            print(f"\n## {len(cases)} {kind}, {xrays}\n\n{table(of_variants)}", flush=True)


if __name__ == "__main__":
    main()
