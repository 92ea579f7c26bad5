"""What reconstructions are judged on: X-rays of three kinds, and figures against the truth and the X-rays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from diff2ct.metrics import evaluate_volume
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import reproject
from diff2ct.simulate import acquire, random_detector
from diff2ct.volume import CtVolume
from diff2ct_training.evaluation.cases import EvaluationCase

FIGURES = (
    "ssim_3d_body", "bone_dice", "metal_dice", "mae_hu_bone", "mae_hu_body", "mae_hu_whole", "bias_hu_body", "psnr_wide",
    "relative_l2", "ncc",
)  # fmt: skip


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


def scores_of(volume: CtVolume, case: EvaluationCase, radiographs: Sequence[Radiograph]) -> dict[str, float]:
    """Figures against the truth, and the re-projection error, mean of the views."""
    scores = evaluate_volume(*(torch.from_numpy(a) for a in (volume.hu, case.truth.hu, case.mask)))
    fits = [reproject(volume, radiograph) for radiograph in radiographs]
    return {**scores, **{name: float(np.mean([fit[name] for fit in fits])) for name in ("relative_l2", "ncc")}}


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: the first row's means, then the mean change of the others."""
    base, *others = rows.items()
    lines = ["| | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    lines.append(f"| {base[0]} | " + " | ".join(mean_of([row[f] for row in base[1]]) for f in FIGURES) + " |")
    for name, values in others:
        changes = ([row[f] - before[f] for row, before in zip(values, base[1], strict=True)] for f in FIGURES)
        lines.append(f"| {name} | " + " | ".join(mean_of(change, "+") for change in changes) + " |")
    return "\n".join(lines)


def mean_of(values: Sequence[float], sign: str = "") -> str:
    """Of what is known, as text; sign: "+" where it is a change."""
    known = [v for v in values if np.isfinite(v)]
    return f"{np.mean(known):{sign}.3f}" if known else "-"
