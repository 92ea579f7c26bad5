"""What data consistency changes: each variant against the same reconstruction without it, on held-out phantoms and CTs.

    .venv/bin/python Testing/Benchmarks/consistency.py --phantoms 6 --cts CRLM-CT-1004.nii.gz --cts CRLM-CT-1006.nii.gz

Prints one Markdown table per kind of case and X-ray: without, and the mean change of each figure by each variant. X-rays: line
integrals of known scale; the same with unknown gain and offset; a random detector (noise, scatter, blur, film processing) of
unknown scale. About 40 s per case on two quiet CPU cores, most of it for --steps, which samples anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import load_checkpoint
from diff2ct.consistency import Consistency, correct_volume, measured_views
from diff2ct.metrics import evaluate_volume
from diff2ct.process import tune_allocator
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import Reconstruction, reconstruct, reproject
from diff2ct.simulate import acquire, random_detector
from diff2ct.volume import CtVolume
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import EvaluationCase, ct_case, phantom_case

FIGURES = (
    "ssim_3d_body", "bone_dice", "metal_dice", "mae_hu_bone", "mae_hu_body", "mae_hu_whole", "bias_hu_body", "psnr_wide",
    "relative_l2", "ncc",
)  # fmt: skip
VARIANTS = {
    "default": Consistency(),
    "guidance, 1 iteration": Consistency(num_iterations=1),
    "gentler, noise 0.5": Consistency(noise=0.5),
    "stronger, noise 0.15": Consistency(noise=0.15),
    "only above 400 HU": Consistency(share=0.0),
    "every voxel alike": Consistency(share=1.0, least_error_hu=1e4),
    "every voxel alike, TV": Consistency(share=1.0, least_error_hu=1e4, tv=0.01),
    "naive: every voxel alike, offset only": Consistency(share=1.0, least_error_hu=1e4, remainder_modes=1),
}


def unknown_scale(radiograph: Radiograph, seed: int) -> Radiograph:
    """Gain and offset as of a detector that tells neither."""
    return replace(radiograph, line_integral=37.0 * radiograph.line_integral - 11.0, scale_known=False)


def random_film(radiograph: Radiograph, seed: int) -> Radiograph:
    """As a random detector shows it, brighter for denser."""
    generator = torch.Generator().manual_seed(seed)
    model = random_detector(generator, 1.0)
    pixel_mm = radiograph.geometry.detector_spacing_mm[0]
    image, valid = acquire(torch.from_numpy(radiograph.line_integral)[None], pixel_mm, model, generator)
    sign = 1.0 if model.bright_is_dense else -1.0
    return replace(radiograph, line_integral=sign * image[0].numpy(), valid=valid[0].numpy(), scale_known=False)


XRAYS: dict[str, Callable[[Radiograph, int], Radiograph]] = {
    "line integrals": lambda radiograph, seed: radiograph,
    "unknown gain and offset": unknown_scale,
    "random detector": random_film,
}


def figures_of(volume: CtVolume, case: EvaluationCase, radiographs: Sequence[Radiograph]) -> dict[str, float]:
    """Figures against the truth, and the re-projection error, mean of the views."""
    scores = evaluate_volume(*(torch.from_numpy(a) for a in (volume.hu, case.truth.hu, case.mask)))
    fits = [reproject(volume, radiograph) for radiograph in radiographs]
    return {**scores, **{name: float(np.mean([fit[name] for fit in fits])) for name in ("relative_l2", "ncc")}}


def corrected_volume(result: Reconstruction, radiographs: Sequence[Radiograph], options: Consistency) -> CtVolume:
    """What `reconstruct` gives with these options, from what it gave without; not for when="steps"."""
    assert result.error_hu is not None
    grid, views = result.volume.grid, measured_views(radiographs, result.volume.grid)
    hu, error_hu = torch.from_numpy(result.volume.hu), torch.from_numpy(result.error_hu)
    return CtVolume(correct_volume(hu, error_hu, grid, views, options)[0].numpy(), grid)


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: the first row's means, then the mean change of the others."""
    base, *others = rows.items()
    lines = ["| | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    lines.append(f"| {base[0]} | " + " | ".join(_mean([row[f] for row in base[1]], "") for f in FIGURES) + " |")
    for name, values in others:
        changes = ([row[f] - before[f] for row, before in zip(values, base[1], strict=True)] for f in FIGURES)
        lines.append(f"| {name} | " + " | ".join(_mean(change, "+") for change in changes) + " |")
    return "\n".join(lines)


def _mean(values: Sequence[float], sign: str) -> str:
    known = [v for v in values if np.isfinite(v)]
    return f"{np.mean(known):{sign}.3f}" if known else "-"


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
                    rows.setdefault(xrays, {}).setdefault(name, []).append(figures_of(volume, case, radiographs))
        for xrays, of_variants in rows.items():
            print(f"\n## {len(cases)} {kind}, {xrays}\n\n{table(of_variants)}", flush=True)


if __name__ == "__main__":
    main()
