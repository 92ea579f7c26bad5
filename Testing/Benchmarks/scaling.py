"""How time grows with grid, views and samples."""

from __future__ import annotations

from functools import partial

import torch

from denoising import embedded_step
from diff2ct.checkpoint import load_checkpoint
from diff2ct.geometry import ConeBeam
from diff2ct.projector import project
from diff2ct.reconstruct import reconstruct
from diff2ct.sample_case import sample_case
from diff2ct.volume import VolumeGrid
from harness import Contender, Section, Settings, race
from projection import DETECTOR_MM, straight


def measure(settings: Settings) -> Section:
    section = Section("Scaling")
    sizes = (32, 64) if settings.quick else (64, 128, 192)
    steps = {f"{n}^3": embedded_step(n, settings.device) for n in sizes}
    _add(section, settings, "denoising step, grid", steps)
    pairs = {f"{n}^3": _projection(n, straight(128), settings.device) for n in sizes}
    _add(section, settings, "AP + lateral projection at 128^2, grid", pairs)
    views = {f"{n} views": _projection(sizes[1], _around(n), settings.device) for n in (1, 2, 4, 8)}
    _add(section, settings, "projection at 128^2, views around the patient", views)
    checkpoint, (pair, _) = load_checkpoint(device=settings.device), sample_case()
    samples = {
        f"{k} samples": partial(reconstruct, pair, checkpoint, num_samples=k, device=settings.device)
        for k in ((1, 2) if settings.quick else (1, 2, 4))
    }
    few = Settings(threads=settings.threads, rounds=2, turn_s=0.0, clock=settings.clock, device=settings.device)
    _add(section, few, "reconstruction at 128^3", samples)
    return section


def _add(section: Section, settings: Settings, what: str, contenders: dict[str, Contender]) -> None:
    timings, first = race(contenders, settings), next(iter(contenders))
    for name in contenders:
        section.rows.append({"what": f"{what}: {name}", "ms": timings.ms(name), "x the first": timings.ratio(name, first)})


def _projection(size: int, beams: list[ConeBeam], device: str) -> Contender:
    grid = VolumeGrid.centered(size, 256.0 / size)
    volume = torch.rand(grid.size, device=device)
    return lambda: [project(volume, grid, beam) for beam in beams]


def _around(num_views: int) -> list[ConeBeam]:
    """Views in steps of 180 degrees over their number; all but AP and lateral are oblique."""
    return [
        ConeBeam(
            source_to_detector_mm=1020.0,
            source_to_isocenter_mm=700.0,
            detector_spacing_mm=(DETECTOR_MM / 128,) * 2,
            detector_size=(128, 128),
            primary_angle_deg=180.0 * n / num_views,
        )
        for n in range(num_views)
    ]
