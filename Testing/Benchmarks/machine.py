"""What this machine can do at most: convolution and matrix product, memory bandwidth. Other parts tell their share of it."""

from __future__ import annotations

from functools import lru_cache

import torch

from harness import Section, Settings, race

_CHANNELS, _SIZE = 64, 48
_COPIED_BYTES = 256 << 20


def measure(settings: Settings) -> Section:
    section = Section("Machine")
    for dtype in (torch.bfloat16, torch.float32):
        section.rows.append({"what": f"3D convolution, {dtype}", "value": conv_gflops(settings, dtype), "unit": "GFLOP/s"})
    section.rows.append({"what": "matrix product, float32", "value": _matmul_gflops(settings), "unit": "GFLOP/s"})
    section.rows.append({"what": "memory, copy", "value": copy_gb_per_s(settings), "unit": "GB/s"})
    section.notes.append(
        f"Best of {settings.rounds} turns. Convolution: 3^3, {_CHANNELS} channels, {_SIZE}^3 voxels, channels-last."
    )
    return section


@lru_cache
@torch.no_grad()
def conv_gflops(settings: Settings, dtype: torch.dtype) -> float:
    """The convolution peak, on a shape that suits it."""
    layer = torch.nn.Conv3d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False).to(settings.device, dtype)
    layer = layer.to(memory_format=torch.channels_last_3d)
    x = torch.rand(1, _CHANNELS, _SIZE, _SIZE, _SIZE, device=settings.device).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    flop = 2 * 27 * _CHANNELS**2 * _SIZE**3
    return flop / race({"conv": lambda: layer(x)}, settings).best_ms("conv") / 1e6


def _matmul_gflops(settings: Settings) -> float:
    a = torch.rand(2048, 2048, device=settings.device)
    return 2 * 2048**3 / race({"mm": lambda: a @ a}, settings).best_ms("mm") / 1e6


def share_of_bandwidth(settings: Settings, num_bytes: float, ms: float) -> float:
    """Of the copy's: what must be read and written at least, in the time that it took."""
    return num_bytes / ms / 1e6 / copy_gb_per_s(settings)


@lru_cache
def copy_gb_per_s(settings: Settings) -> float:
    """Bytes read plus bytes written."""
    source = torch.zeros(_COPIED_BYTES // 4, device=settings.device)
    target = torch.empty_like(source)
    return 2 * _COPIED_BYTES / race({"copy": lambda: target.copy_(source)}, settings).best_ms("copy") / 1e6
