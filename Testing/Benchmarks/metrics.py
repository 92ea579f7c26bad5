"""Our metrics against those of MONAI, torchmetrics and scikit-image, on the same arrays: time, and how far off each is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diff2ct.metrics import BONE_DICE_HU, WIDE, Window, dice, psnr
from diff2ct.phantom import make_phantom
from diff2ct.ssim import ssim_2d, ssim_3d
from diff2ct.volume import VolumeGrid
from diff2ct_training.scoring.distribution import fid, kid
from diff2ct_training.scoring.vertebrae import score_labels, whole_vertebrae
from harness import Section, Settings, race
from machine import share_of_bandwidth

OURS = "Diff2CT"
_SIGMA, _GAUSSIAN, _UNIFORM = 1.5, 11, 7
_EXTENT_MM = 256.0
_UNIT = Window(0.0, 1.0)

Metric = Callable[[], float]
Pairs = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Comparison:
    """One metric of one pair. peers: what makes each, ImportError if it is not installed. exact: what it should say, by default
    what ours says. num_bytes: read at least, 0 if that says nothing."""

    metric: str
    ours: Metric
    peers: Mapping[str, Callable[[], Metric]] = field(default_factory=dict)
    exact: float | None = None
    num_bytes: int = 0


def measure(settings: Settings) -> Section:
    size = 64 if settings.quick else 128
    section = Section(f"Metrics, volumes of {size}^3 voxels, float32, on the CPU")
    on_cpu = replace(settings, device="cpu")
    hu, labels = _phantom(size)
    compare(image_comparisons(*degraded_pair(hu)), section, on_cpu)
    compare(mask_comparisons(hu, labels, _EXTENT_MM / size), section, on_cpu)
    compare(feature_comparisons(*((200, 64) if settings.quick else (1000, 2048))), section, on_cpu)
    section.notes += [
        "off by: from float64 for SSIM, PSNR and KID, from closed forms for FID, from ours for the rest.",
        "torchmetrics averages SSIM over a border that it pads by reflection: here its map is cut as the others'. MONAI and "
        "torchmetrics divide covariances of 7 x 7 pixels by 49, where scikit-image and ours divide by 48: another definition.",
        "HD95, ASSD and NSD: mean of the whole vertebrae of a label map. Ours works out all three, Dice and centroids at once; "
        "MONAI gets masks, made before.",
    ]
    return section


def compare(comparisons: Iterator[Comparison], section: Section, settings: Settings) -> None:
    """A row for each contender. Targets of 3D SSIM are those of the project."""
    for comparison in comparisons:
        contenders = {OURS: comparison.ours}
        for name, make in comparison.peers.items():
            with section.optional(f"{comparison.metric}: {name}"):
                contenders[name] = make()
        timings = race(contenders, settings)
        values = {name: contender() for name, contender in contenders.items()}
        exact = values[OURS] if comparison.exact is None else comparison.exact
        for name, value in values.items():
            row = {"metric": comparison.metric, "implementation": name, "ms": timings.ms(name)}
            row |= {"x ours": timings.ratio(name, OURS), "value": f"{value:.7f}", "off by": f"{abs(value - exact):.1e}"}
            if comparison.num_bytes:
                row["share of the bandwidth"] = share_of_bandwidth(settings, comparison.num_bytes, timings.ms(name))
            section.rows.append(row)
        if comparison.metric.startswith("3D SSIM") and "MONAI" in values:
            section.expect("3D SSIM: MONAI / ours, time", timings.ratio("MONAI", OURS), 8)
            ours, theirs = (abs(values[name] - exact) for name in (OURS, "MONAI"))
            section.expect("3D SSIM: our error / MONAI's", ours / theirs, 1, at_least=False)


def image_comparisons(a: Tensor, b: Tensor) -> Iterator[Comparison]:
    """a, b: (D, H, W) float32 on [0, 1]."""
    x, y, num_bytes = a.double(), b.double(), a.nbytes + b.nbytes
    volumes = [(a[None, None], b[None, None])]
    gaussian = {"gaussian_weights": True, "sigma": _SIGMA, "use_sample_covariance": False}
    yield Comparison(
        f"3D SSIM, Gaussian {_GAUSSIAN}^3",
        lambda: float(ssim_3d(a, b)),
        {
            "MONAI": lambda: _monai_ssim(volumes, 3, kernel_type="gaussian", win_size=_GAUSSIAN, kernel_sigma=_SIGMA),
            "torchmetrics": lambda: _torchmetrics_ssim(volumes, _GAUSSIAN, gaussian_kernel=True, sigma=_SIGMA),
            "scikit-image": lambda: _skimage_ssim([(a, b)], **gaussian),
        },
        float(ssim_3d(x, y)),
        num_bytes,
    )
    planes = [(a.movedim(axis, 0), b.movedim(axis, 0)) for axis in range(3)]
    slices = [(a[:, None].contiguous(), b[:, None].contiguous()) for a, b in planes]
    yield Comparison(
        f"2D SSIM of slices in 3 planes, uniform {_UNIFORM}^2",
        lambda: float(ssim_2d(a, b)),
        {
            "MONAI": lambda: _monai_ssim(slices, 2, kernel_type="uniform", win_size=_UNIFORM),
            "torchmetrics": lambda: _torchmetrics_ssim(slices, _UNIFORM, gaussian_kernel=False),
            "scikit-image": lambda: _skimage_ssim([pair for ab in planes for pair in zip(*ab, strict=True)]),
        },
        float(ssim_2d(x, y)),
        num_bytes,
    )
    yield Comparison(
        "PSNR",
        lambda: psnr(a, b, _UNIT),
        {
            "MONAI": lambda: _monai_psnr(a, b),
            "torchmetrics": lambda: _torchmetrics_psnr(a, b),
            "scikit-image": lambda: _skimage_psnr(a, b),
        },
        psnr(x, y, _UNIT),
        num_bytes,
    )


def mask_comparisons(hu: Tensor, labels: np.ndarray, spacing_mm: float) -> Iterator[Comparison]:
    """Of a phantom, HU and vertebra numbers, with itself moved by a voxel along one axis and two along another."""
    bone = hu > BONE_DICE_HU
    other = bone.roll((1, 2), (0, 2))
    yield Comparison(
        "Dice of bone",
        lambda: dice(bone, other),
        {"MONAI": lambda: _monai_dice(bone, other), "torchmetrics": lambda: _torchmetrics_dice(bone, other)},
        num_bytes=bone.nbytes + other.nbytes,
    )
    moved = np.roll(labels, (1, 2), (0, 2))
    whole = whole_vertebrae(labels)
    masks = [torch.from_numpy(np.stack([one == number for number in whole]))[None].float() for one in (moved, labels)]
    peers = {
        "hd95_mm": lambda: _monai_surface("compute_hausdorff_distance", masks, spacing_mm, percentile=95),
        "assd_mm": lambda: _monai_surface("compute_average_surface_distance", masks, spacing_mm, symmetric=True),
        "nsd_2mm": lambda: _monai_surface("compute_surface_dice", masks, spacing_mm, class_thresholds=[2.0] * len(whole)),
    }
    for name, peer in peers.items():
        figure, unit = name.split("_")
        yield Comparison(
            f"{figure.upper()} of vertebrae, {unit}",
            partial(_ours_of_labels, f"vertebra_{name}", moved, labels, spacing_mm),
            {"MONAI": peer},
        )


def feature_comparisons(num_slices: int, num_features: int) -> Iterator[Comparison]:
    """FID and KID of given features: b = `scale` a + `shift`, so that FID = |mean_a - mean_b|^2 + (1 - scale)^2 tr(C_a)."""
    rng, scale = np.random.default_rng(0), 1.5
    mixed = rng.standard_normal((num_slices, num_features)) @ rng.standard_normal((num_features, num_features))
    a = (mixed / math.sqrt(num_features)).astype(np.float32)
    b = np.float32(scale) * a + rng.standard_normal(num_features).astype(np.float32)
    x, y = a.astype(np.float64), b.astype(np.float64)
    exact = float(((x.mean(0) - y.mean(0)) ** 2).sum() + (1 - scale) ** 2 * x.var(0, ddof=1).sum())
    what = f"of {num_slices} x {num_features} features"
    yield Comparison(f"FID {what}", lambda: fid(a, b), {"torchmetrics": lambda: _torchmetrics_fid(a, b)}, exact)
    yield Comparison(f"KID {what}", lambda: kid(a, b), {"torchmetrics": lambda: _torchmetrics_kid(a, b)}, _plain_kid(x, y))


def degraded_pair(hu: Tensor) -> tuple[Tensor, Tensor]:
    """A blurred, noisy copy and the volume itself, on [0, 1]."""
    truth = WIDE.to_unit(hu)
    blurred = torch.nn.functional.avg_pool3d(truth[None, None], 3, 1, 1)[0, 0]
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (blurred + 0.01 * noise).clamp(0, 1), truth


def _phantom(size: int) -> tuple[Tensor, np.ndarray]:
    """(D, H, W) HU and vertebra numbers."""
    image = make_phantom(900).render(VolumeGrid.centered(size, _EXTENT_MM / size))
    return torch.from_numpy(image.hu.hu), image.labels


def _ours_of_labels(name: str, prediction: np.ndarray, truth: np.ndarray, spacing_mm: float) -> float:
    return score_labels(prediction, truth, (spacing_mm,) * 3)[name]


def _plain_kid(a: np.ndarray, b: np.ndarray) -> float:
    """Its definition over all pairs at once."""
    n = len(a)
    within, between = [(x @ x.T / x.shape[1] + 1) ** 3 for x in (a, b)], (a @ b.T / a.shape[1] + 1) ** 3
    return float(sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in within) - 2 * between.mean())


def _monai_ssim(pairs: Pairs, dims: int, **options: Any) -> Metric:
    from monai.metrics.regression import SSIMMetric

    metric = SSIMMetric(spatial_dims=dims, data_range=1.0, **options)
    return lambda: float(np.mean([float(metric(a, b).mean()) for a, b in pairs]))


def _torchmetrics_ssim(pairs: Pairs, taps: int, **options: Any) -> Metric:
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    def inside(a: Tensor, b: Tensor) -> float:
        whole = ssim(a, b, kernel_size=taps, data_range=1.0, return_full_image=True, **options)[1]
        cut = slice(taps // 2, -(taps // 2))
        return float(whole[(..., *(cut,) * (a.ndim - 2))].mean())

    return lambda: float(np.mean([inside(a, b) for a, b in pairs]))


def _skimage_ssim(pairs: Pairs, **options: Any) -> Metric:
    from skimage.metrics import structural_similarity as ssim

    arrays = [(a.numpy(), b.numpy()) for a, b in pairs]
    return lambda: float(np.mean([ssim(a, b, data_range=1.0, **options) for a, b in arrays]))


def _monai_psnr(a: Tensor, b: Tensor) -> Metric:
    from monai.metrics.regression import PSNRMetric

    metric = PSNRMetric(max_val=1.0)
    return lambda: float(metric(a[None, None], b[None, None]))


def _torchmetrics_psnr(a: Tensor, b: Tensor) -> Metric:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return lambda: float(peak_signal_noise_ratio(a, b, data_range=1.0))


def _skimage_psnr(a: Tensor, b: Tensor) -> Metric:
    from skimage.metrics import peak_signal_noise_ratio

    return partial(peak_signal_noise_ratio, b.numpy(), a.numpy(), data_range=1.0)


def _monai_dice(a: Tensor, b: Tensor) -> Metric:
    from monai.metrics import compute_dice

    return lambda: float(compute_dice(a[None, None], b[None, None]))


def _torchmetrics_dice(a: Tensor, b: Tensor) -> Metric:
    from torchmetrics.functional.segmentation import dice_score

    return lambda: float(dice_score(a[None, None], b[None, None], num_classes=1))


def _monai_surface(name: str, masks: list[Tensor], spacing_mm: float, **options: Any) -> Metric:
    import monai.metrics

    compute = partial(getattr(monai.metrics, name), include_background=True, spacing=spacing_mm, **options)
    return lambda: float(compute(*masks).mean())


def _torchmetrics_fid(a: np.ndarray, b: np.ndarray) -> Metric:
    from torchmetrics.image.fid import FrechetInceptionDistance

    return _of_features(lambda features: FrechetInceptionDistance(features), a, b)


def _torchmetrics_kid(a: np.ndarray, b: np.ndarray) -> Metric:
    from torchmetrics.image.kid import KernelInceptionDistance

    return _of_features(lambda features: KernelInceptionDistance(features, subsets=1, subset_size=len(a)), a, b)


def _of_features(make: Callable[[torch.nn.Module], Any], a: np.ndarray, b: np.ndarray) -> Metric:
    """torchmetrics' classes, with features in place of images and of the network's."""
    network = torch.nn.Identity()
    network.num_features = a.shape[1]
    metric = make(network)
    tensors = [torch.from_numpy(x) for x in (a, b)]

    def compute() -> float:
        metric.reset()
        for features, is_real in zip(tensors, (True, False), strict=True):
            metric.update(features, real=is_real)
        value = metric.compute()
        return float(value[0] if isinstance(value, tuple) else value)

    return compute
