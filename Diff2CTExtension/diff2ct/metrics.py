"""How good a reconstructed volume is: protocol "D2CT-eval v1".

All inputs are HU, (D, H, W) = (k, j, i), prediction and truth on one grid. Each figure says its window, region and kernel,
because the same pair scores PSNR 31 dB in one window and 16 dB in another. Whole-volume figures in the paper's wide window
prove little (a body mask filled with 40 HU scores 32 dB); the ones that count are inside the body: `ssim_3d_body`, `bone_dice`,
`mae_hu_bone`, `mae_hu_body`.

`mask` marks the voxels that the truth covers (a scan may be shorter than the reconstruction cube). Nothing outside is looked
at: every mean is over covered voxels, and SSIM averages the windows centred on one (see `diff2ct.ssim`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from diff2ct.ssim import ssim_2d, ssim_3d
from diff2ct.units import HU_AIR, HU_WINDOW


@dataclass(frozen=True)
class Window:
    """HU range [lo, hi] that a normalised metric maps to [0, 1]; values outside are clipped."""

    lo: float
    hi: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lo) and math.isfinite(self.hi) and self.lo < self.hi):
            raise ValueError(f"Window: got lo {self.lo}, hi {self.hi}, accepted are finite HU with lo < hi")

    def to_unit(self, hu: Tensor) -> Tensor:
        return (hu.clip(self.lo, self.hi) - self.lo) / (self.hi - self.lo)


WIDE = Window(*HU_WINDOW)
"""The paper's window; HU errors are taken inside it."""
X2CT = Window(-1000.0, 1500.0)
"""The window of X2CT-GAN and its successors."""
BODY = Window(-200.0, 800.0)
"""Soft tissue and bone: the window in which a spine is read."""

SKIN_HU = -300.0
"""Body mask: anything denser belongs to a body, a table or clothes."""
SOFT_HU = (-200.0, 300.0)
"""Soft-tissue region of the HU errors, both ends included; below it is air, as lung and bowel gas."""
FAT_HU = (-200.0, -30.0)
"""Fat, a part of the soft-tissue region, both ends included."""
BONE_REGION_HU = 300.0
"""Bone region of the HU errors: truth above this."""
BONE_DICE_HU = 200.0
"""Bone Dice: above this. Lower than BONE_REGION_HU, as thin cortex is blurred by 2 mm voxels."""
METAL_HU = 2500.0
"""Metal region and metal Dice: above this."""

REGIONS = ("whole", "body", "air", "fat", "soft", "bone", "metal")

METRIC_NAMES = (
    *(f"{error}_hu_{region}" for region in REGIONS for error in ("mae", "rmse", "bias")),
    *(f"{metric}_{window}" for window in ("wide", "x2ct") for metric in ("mae", "cosine", "psnr", "ssim_3d", "ssim_2d")),
    "ssim_3d_body",
    "bone_dice",
    "metal_dice",
)
"""Keys of `evaluate_volume`, in its order."""


@torch.no_grad()
def evaluate_volume(
    prediction: Tensor, truth: Tensor, mask: Tensor | None = None, regions: dict[str, Tensor] | None = None
) -> dict[str, float]:
    """Every figure of the protocol for one case.

    prediction, truth: (D, H, W) floating point HU on one grid, D toward the head, at least 11 voxels along each axis.
    mask: (D, H, W) bool, voxels that the truth covers; default all. Values elsewhere may be anything, NaN included.
    regions: `region_masks` of this truth and mask, for who scores several predictions; worked out here by default.

    Keys (`METRIC_NAMES`); a figure over an empty region is NaN:
        mae_hu_*, rmse_hu_*, bias_hu_*: [HU] after clipping to `WIDE`, bias = mean(prediction - truth), over `region_masks`.
        mae_*, cosine_*, psnr_*, ssim_3d_*, ssim_2d_* for wide, x2ct: whole volume, on [0, 1] in that window; psnr inf if equal.
        ssim_3d_body: `ssim_3d` in the window `BODY`, windows centred in the body mask.
        bone_dice, metal_dice: `dice` above BONE_DICE_HU and METAL_HU; the truth's bone counts inside its body only.
    """
    _check_pair(prediction, truth, mask)
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, truth.dtype), torch.float32)
    covered = torch.ones_like(truth, dtype=torch.bool) if mask is None else mask
    mask = None if covered.all() else covered
    prediction, truth = (torch.where(covered, hu.to(dtype), HU_AIR).clip(WIDE.lo, WIDE.hi) for hu in (prediction, truth))
    regions = region_masks(truth, mask) if regions is None else regions

    scores: dict[str, float] = {}
    for name in REGIONS:
        for error, value in hu_errors(prediction, truth, regions[name]).items():
            scores[f"{error}_hu_{name}"] = value
    for name, window in (("wide", WIDE), ("x2ct", X2CT)):
        p, t = window.to_unit(prediction), window.to_unit(truth)
        scores[f"mae_{name}"] = float((p - t)[covered].abs().mean())
        scores[f"cosine_{name}"] = cosine(p[covered], t[covered])
        scores[f"psnr_{name}"] = psnr(prediction, truth, window, mask)
        scores[f"ssim_3d_{name}"] = float(ssim_3d(p, t, mask))
        scores[f"ssim_2d_{name}"] = float(ssim_2d(p, t, mask))
    scores["ssim_3d_body"] = float(ssim_3d(BODY.to_unit(prediction), BODY.to_unit(truth), mask, regions["body"]))
    scores["bone_dice"] = dice(prediction > BONE_DICE_HU, (truth > BONE_DICE_HU) & regions["body"])
    scores["metal_dice"] = dice(prediction > METAL_HU, truth > METAL_HU)
    return scores


def body_mask(truth_hu: Tensor) -> Tensor:
    """(D, H, W) HU -> (D, H, W) bool: the largest 6-connected component above SKIN_HU with its gas filled; all False if none.

    Filled slice by slice (D = axial slices), so that lung and bowel stay in though the top and bottom of a cube cut them open:
    air belongs to the body if it cannot leave its slice. Where the left or right side of the cube (an end of W) cuts the trunk,
    air cannot leave between two body voxels of that side. A table stays in if it touches the skin; arms apart stay out.
    """
    _check_volume("truth_hu", truth_hu)
    tissue = truth_hu > SKIN_HU
    if not tissue.any():
        return tissue
    component = _components(tissue, axes=(0, 1))
    body = tissue & (component == component[tissue].bincount().argmax())

    closed = torch.cat([_between(body[..., :1]), body, _between(body[..., -1:])], dim=2)
    air = functional.pad(~closed, (1, 1, 1, 1), value=True)  # a way round the body in each slice
    component = _components(air, axes=(1,))
    outside = air & (component == component[:, :1, :1])
    return ~outside[:, 1:-1, 2:-2]


def region_masks(truth_hu: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """The `REGIONS` of the HU errors, (D, H, W) bool each, from the truth alone.

    whole: all that the truth covers. body: `body_mask`; inside it air: below SOFT_HU, lung and bowel gas; soft: SOFT_HU, of
    which fat: FAT_HU; bone: above BONE_REGION_HU, metal included. metal: above METAL_HU, dilated by one voxel (3 x 3 x 3) as
    its edge is where errors are.
    """
    _check_volume("truth_hu", truth_hu)
    covered = torch.ones_like(truth_hu, dtype=torch.bool) if mask is None else mask
    body = body_mask(torch.where(covered, truth_hu, HU_AIR)) & covered
    metal = (truth_hu > METAL_HU) & covered
    dilated = functional.max_pool3d(metal[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    return {
        "whole": covered,
        "body": body,
        "air": body & (truth_hu < SOFT_HU[0]),
        "fat": body & (truth_hu >= FAT_HU[0]) & (truth_hu <= FAT_HU[1]),
        "soft": body & (truth_hu >= SOFT_HU[0]) & (truth_hu <= SOFT_HU[1]),
        "bone": body & (truth_hu > BONE_REGION_HU),
        "metal": dilated & covered,
    }


def hu_errors(prediction: Tensor, truth: Tensor, region: Tensor) -> dict[str, float]:
    """mae, rmse and bias = mean(prediction - truth) [HU] over `region` (bool, same shape); NaN if it is empty."""
    error = prediction[region] - truth[region]
    return {"mae": float(error.abs().mean()), "rmse": float(error.square().mean().sqrt()), "bias": float(error.mean())}


def psnr(prediction: Tensor, truth: Tensor, window: Window, mask: Tensor | None = None) -> float:
    """10 log10(1 / MSE) [dB] on [0, 1] in `window` over the whole volume (the covered part); inf if equal."""
    _check_pair(prediction, truth, mask)
    squared = (window.to_unit(prediction) - window.to_unit(truth)).square()
    return float(-10.0 * torch.log10((squared if mask is None else squared[mask]).mean()))


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two images taken as vectors, any equal shapes; NaN if one is all 0."""
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())


def dice(a: Tensor, b: Tensor) -> float:
    """2 |a and b| / (|a| + |b|) of two bool masks. NaN if both are empty; 0 if one is, e.g. for metal that was invented."""
    total = int(a.count_nonzero()) + int(b.count_nonzero())
    return 2.0 * int((a & b).count_nonzero()) / total if total else math.nan


def reprojection_error(measured: Tensor, reprojected: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """How well projections of a volume explain the X-rays it was made from, per view.

    measured, reprojected: (V, H, W) line integrals. valid: (V, H, W) bool, e.g. inside the collimation.
    Returns (V,) relative L2 error |gain * reprojected + offset - measured| / |measured| with the gain >= 0 and offset that make
    it smallest (detectors do not tell theirs), and (V,) normalised cross-correlation in [-1, 1], NaN if one has no contrast.
    """
    if measured.ndim != 3 or measured.shape != reprojected.shape or measured.shape != valid.shape:
        raise ValueError(
            f"measured, reprojected, valid: got {tuple(measured.shape)}, {tuple(reprojected.shape)}, {tuple(valid.shape)}, "
            "accepted are three equal shapes (V, H, W)"
        )
    measured, reprojected = torch.where(valid, measured, 0), torch.where(valid, reprojected, 0)
    count = valid.sum((1, 2), keepdim=True)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2))

    def centered(image: Tensor) -> tuple[Tensor, Tensor]:
        deviation = torch.where(valid, image - image.sum((1, 2), keepdim=True) / count, 0)
        energy = dot(deviation, deviation)
        return deviation, torch.where(energy > 1e-12 * dot(image, image), energy, torch.nan)  # less is rounding

    (m, mm), (r, rr) = centered(measured), centered(reprojected)
    gain = (dot(m, r) / rr).clamp_min(0.0).nan_to_num(0.0)
    residual = gain[:, None, None] * r - m
    return (dot(residual, residual) / dot(measured, measured)).sqrt(), dot(m, r) / (mm * rr).sqrt()


def _between(line: Tensor) -> Tensor:
    """(D, H, 1) bool -> (D, H, 1) bool: True from the first to the last True along H."""
    return (line.cumsum(1) > 0) & (line.flip(1).cumsum(1).flip(1) > 0)


def _components(mask: Tensor, axes: tuple[int, ...]) -> Tensor:
    """(D, H, W) bool -> (D, H, W) int64: number of the component of each True voxel (elsewhere meaningless).

    Voxels connect through faces along W and along `axes` (0 and 1). The nodes of the graph are the runs of True along W, some
    thousands where there are millions of voxels; each takes the lowest number in reach until nothing changes.
    """
    run_starts = mask.clone()
    run_starts[..., 1:] &= ~mask[..., :-1]
    run = (run_starts.flatten().cumsum(0) - 1).view(mask.shape).clamp_min_(0)

    edges = []
    for axis in axes:
        length = mask.shape[axis] - 1
        touching = mask.narrow(axis, 0, length) & mask.narrow(axis, 1, length)
        first_touch = touching.clone()  # one edge for each pair of runs that lie side by side
        first_touch[..., 1:] &= ~touching[..., :-1]
        edges.append(torch.stack([run.narrow(axis, 0, length)[first_touch], run.narrow(axis, 1, length)[first_touch]]))
    one, other = torch.cat(edges, dim=1)

    component = torch.arange(int(run_starts.sum()), device=mask.device)
    while True:
        lowest = torch.minimum(component[one], component[other])
        joined = component.scatter_reduce(0, component[one], lowest, "amin").scatter_reduce(0, component[other], lowest, "amin")
        joined = joined[joined]
        if torch.equal(joined, component):
            return component[run]
        component = joined


def _check_pair(prediction: Tensor, truth: Tensor, mask: Tensor | None) -> None:
    _check_volume("truth", truth)
    if prediction.shape != truth.shape or not prediction.is_floating_point():
        raise ValueError(
            f"prediction: got {prediction.dtype} {tuple(prediction.shape)}, accepted is floating point HU of the truth's shape "
            f"{tuple(truth.shape)}"
        )
    if mask is not None and (mask.shape != truth.shape or mask.dtype != torch.bool or not mask.any()):
        raise ValueError(
            f"mask: got {mask.dtype} {tuple(mask.shape)} with {int(mask.sum())} voxels set, accepted is bool of the truth's "
            f"shape {tuple(truth.shape)} with at least one"
        )
    for name, hu in (("prediction", prediction), ("truth", truth)):
        if hu.sum().isfinite():  # a tenth of the time of asking each voxel
            continue
        finite = hu.isfinite() if mask is None else hu.isfinite() | ~mask
        if not finite.all():
            raise ValueError(f"{name}: {int((~finite).sum())} voxels are NaN or infinite, accepted are finite HU")


def _check_volume(name: str, hu: Tensor) -> None:
    if hu.ndim != 3 or not hu.is_floating_point():
        raise ValueError(f"{name}: got {hu.dtype} of shape {tuple(hu.shape)}, accepted is floating point HU (D, H, W)")
