"""3D SSIM against MONAI, torchmetrics and scikit-image: speed, and error against float64."""

from __future__ import annotations

from dataclasses import replace

import torch

from diff2ct.metrics import WIDE
from diff2ct.phantom import make_phantom
from diff2ct.ssim import ssim_3d
from diff2ct.volume import VolumeGrid
from harness import Contender, Section, Settings, race
from machine import share_of_bandwidth

OURS = "Diff2CT"


def measure(settings: Settings) -> Section:
    size = 64 if settings.quick else 128
    section = Section(f"3D SSIM, Gaussian 11 x 11 x 11, sigma 1.5, {size}^3, float32")
    a, b = _pair(size)
    exact = float(ssim_3d(a.double(), b.double()))
    contenders: dict[str, Contender] = {OURS: lambda: float(ssim_3d(a, b))}
    for name, make in (("MONAI", _monai), ("torchmetrics", _torchmetrics), ("scikit-image", _skimage)):
        with section.optional(name):
            contenders[name] = make(a, b)
    timings = race(contenders, settings)
    for name, contender in contenders.items():
        value = contender()
        row = {"implementation": name, "ms": timings.ms(name), "x ours": timings.ratio(name, OURS)}
        row["share of the bandwidth"] = share_of_bandwidth(
            replace(settings, device="cpu"), a.nbytes + b.nbytes, timings.ms(name)
        )
        section.rows.append({**row, "SSIM": f"{value:.7f}", "error": f"{abs(value - exact):.1e}"})
    if "MONAI" in contenders:
        section.expect("3D SSIM: MONAI / ours, time", timings.ratio("MONAI", OURS), 8)
        ours, theirs = (abs(contenders[name]() - exact) for name in (OURS, "MONAI"))
        section.expect("3D SSIM: our error / MONAI's", ours / theirs, 1, at_least=False)
    with section.optional("float64 reference against scikit-image"):
        check = _skimage(a.double(), b.double())()
        section.notes.append(f"Error against ours in float64, {exact:.9f}; scikit-image in float64 says {check:.9f}.")
    section.notes.append("torchmetrics pads by reflection and averages over the border too: another definition.")
    return section


def _pair(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A phantom and a blurred, noisy copy, on [0, 1]."""
    hu = torch.from_numpy(make_phantom(900).render(VolumeGrid.centered(size, 256.0 / size)).hu.hu)
    truth = ((hu - WIDE.lo) / (WIDE.hi - WIDE.lo)).clamp(0, 1)
    blurred = torch.nn.functional.avg_pool3d(truth[None, None], 3, 1, 1)[0, 0]
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (blurred + 0.01 * noise).clamp(0, 1), truth


def _monai(a: torch.Tensor, b: torch.Tensor) -> Contender:
    from monai.metrics.regression import SSIMMetric

    metric = SSIMMetric(spatial_dims=3, data_range=1.0, kernel_type="gaussian", win_size=11, kernel_sigma=1.5)
    return lambda: float(metric(a[None, None], b[None, None]))


def _torchmetrics(a: torch.Tensor, b: torch.Tensor) -> Contender:
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    return lambda: float(ssim(a[None, None], b[None, None], gaussian_kernel=True, sigma=1.5, kernel_size=11, data_range=1.0))


def _skimage(a: torch.Tensor, b: torch.Tensor) -> Contender:
    from skimage.metrics import structural_similarity as ssim

    x, y = a.numpy(), b.numpy()
    return lambda: float(ssim(x, y, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False))
