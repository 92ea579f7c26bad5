"""One denoising step: the embedded network against MONAI's DiffusionModelUNet and against the paper's pixel network, and as a
share of what the machine can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from diff2ct.checkpoint import load_checkpoint
from diff2ct.networks import X2NoiseNet
from diff2ct.precision import cast_once, fastest_arithmetic, fastest_dtype
from diff2ct_training.recipes import paper
from harness import Contender, Section, Settings, extra_gpu_memory_mb, race
from machine import conv_gflops

OURS = "Diff2CT, embedded checkpoint"
MONAI, MONAI_FAST = "MONAI DiffusionModelUNet, as it comes", "MONAI DiffusionModelUNet, our layout and precision"
PAPER_STEPS = 1000


def measure(settings: Settings) -> Section:
    size = 32 if settings.quick else 128
    section = Section(f"One denoising step, {size}^3 voxels")
    dtype = fastest_dtype(settings.device)
    contenders: dict[str, Contender] = {OURS: embedded_step(size, settings.device)}
    with section.optional(MONAI):
        contenders |= _monai_steps(size, settings.device)
    timings = race(contenders, settings)
    peak = conv_gflops(settings, dtype)
    for name, step in contenders.items():
        gflop = count_gflop(step)
        rate = gflop / timings.ms(name) * 1e3
        row: dict[str, Any] = {"network": name, "GFLOP": gflop, "ms": timings.ms(name), "x ours": timings.ratio(name, OURS)}
        section.rows.append({**row, "GFLOP/s": rate, "share of the convolution peak": rate / peak})
    section.expect("share of the machine's convolution peak", section.rows[0]["share of the convolution peak"], 0.8)
    if settings.device == "cuda":
        section.notes.append(f"Our step allocates {extra_gpu_memory_mb(contenders[OURS]):.0f} MB on the GPU.")
    else:
        section.notes.append("GPU: skipped, torch finds no CUDA device here.")
    seconds, how = paper_step_seconds(settings)
    section.rows.append({"network": "paper's pixel network, base width 64, float32", "ms": 1e3 * seconds})
    section.rows[-1]["x ours"] = 1e3 * seconds / timings.ms(OURS)
    section.notes += [f"Ours and MONAI's fast variant in {dtype}. {how}"]
    section.notes.append(
        "MONAI: the same widths and blocks on the same eight Haar bands at half size, no attention, no condition."
    )
    return section


def embedded_step(size: int, device: str) -> Contender:
    """One call of the embedded network on random input, condition embedded before, as in sampling."""
    network = cast_once(load_checkpoint(device=device).network, device)
    x, t = torch.randn(1, 1, size, size, size, device=device), torch.full((1,), 500, device=device)
    views = torch.rand(1, network.config.num_views, network.config.condition_channels, 192, 192, device=device)
    with torch.inference_mode(), fastest_arithmetic(device):
        embedded = network.embed_condition(straight_views(views, size), (size, size, size))

    @torch.inference_mode()
    def step() -> None:
        with fastest_arithmetic(device):
            network.denoise(x, t, embedded)

    return step


def straight_views(images: torch.Tensor, size: int) -> Any:
    """Parallel views along two axes: what is looked up where does not change the time."""
    from diff2ct.views import PLANE_PIXELS, RectifiedViews

    scale = (PLANE_PIXELS - 1) / (size - 1)
    maps = torch.tensor([
        [[scale, 0, 0, 0], [0, 0, scale, 0], [0, 0, 0, 1], [0, 0, 0, 1]],
        [[0, scale, 0, 0], [0, 0, scale, 0], [0, 0, 0, 1], [0, 0, 0, 1]],
    ])  # fmt: skip
    return RectifiedViews(images, maps[None].to(images))


def _monai_steps(size: int, device: str) -> dict[str, Contender]:
    """By name; ImportError if MONAI is not installed."""
    return {
        MONAI: _monai_step(size, device, torch.float32, channels_last=False),
        MONAI_FAST: _monai_step(size, device, fastest_dtype(device), channels_last=True),
    }


def _monai_step(size: int, device: str, dtype: torch.dtype, *, channels_last: bool) -> Contender:
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    ours = load_checkpoint().network.config
    bands, small = 8**ours.haar_levels, size // 2**ours.haar_levels
    network = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=bands,
        out_channels=bands,
        channels=ours.widths,
        num_res_blocks=ours.blocks,
        attention_levels=(False,) * len(ours.widths),
        norm_num_groups=8,
    ).to(device)
    x, t = torch.randn(1, bands, small, small, small, device=device), torch.full((1,), 500, device=device)
    if channels_last:
        network, x = network.to(memory_format=torch.channels_last_3d), x.contiguous(memory_format=torch.channels_last_3d)
    network.eval()

    @torch.inference_mode()
    def step() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            network(x, t)

    return step


def monai_step_seconds(settings: Settings) -> dict[str, float]:
    """Seconds of one step at 128^3 of each variant, with --quick scaled up from 32^3."""
    size = 32 if settings.quick else 128
    return _step_seconds(_monai_steps(size, settings.device), size, settings)


def paper_step_seconds(settings: Settings) -> tuple[float, str]:
    """(seconds of one step at 128^3, how they were found). On a CPU a step at half the size is measured and scaled by the
    operations: at full size it takes minutes and 15 GB."""
    size = 128 if settings.device == "cuda" else 32 if settings.quick else 64
    seconds = _step_seconds({"paper": _paper_step(size, settings.device)}, size, settings)["paper"]
    scale = (128 // size) ** 3
    how = f"Paper: {seconds / scale:.2f} s measured at {size}^3, times {scale} for the operations at 128^3."
    return seconds, how


def _step_seconds(contenders: dict[str, Contender], size: int, settings: Settings) -> dict[str, float]:
    """Of steps at size^3, few of which are timed, as if at 128^3: all convolutions, so operations grow with the voxels."""
    timings = race(contenders, replace(settings, rounds=2, turn_s=0.0))
    return {name: (128 // size) ** 3 * timings.ms(name) / 1e3 for name in contenders}


def _paper_step(size: int, device: str) -> Contender:
    network = X2NoiseNet(paper().network).to(device).eval()
    x, t = torch.randn(1, 1, size, size, size, device=device), torch.full((1,), 500, device=device)
    with torch.inference_mode():
        embedded = network.embed_condition(torch.rand(1, 1, size, size, size, device=device), (size, size, size))
    return torch.inference_mode()(partial(network.denoise, x, t, embedded))


def count_gflop(call: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9
