"""The inference path on a GPU, in well under a minute, by the GPU's own clock; run on its own:

    PYTHONPATH=Diff2CTExtension:Diff2CTTraining/src python3 Testing/Benchmarks/gpu.py --output gpu.json

Peaks of the device, one denoising step in every way that it can be run, the paper's network, whole reconstructions, the
projector, and whether all of it agrees with the CPU. --profile: where a step and a reconstruction spend their time.
--compile-seconds S: torch.compile too, given up after S seconds. Without a GPU it runs on the CPU, to see that it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import json
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from denoising import PAPER_STEPS, count_gflop, straight_views
from diff2ct.checkpoint import load_checkpoint
from diff2ct.cuda_graph import RecordedNetwork
from diff2ct.memory import needed_bytes, samples_at_once
from diff2ct.networks import X2NoiseNet
from diff2ct.networks.memory_format import channels_last
from diff2ct.precision import cast_once, fastest_arithmetic, fastest_dtype
from diff2ct.process import best_device, tune_allocator
from diff2ct.projector import backproject, project
from diff2ct.reconstruct import Reconstruction, reconstruct
from diff2ct.sample_case import sample_case
from diff2ct_training.recipes import paper
from harness import Section
from projection import GRID, oblique, straight

Call = Callable[[], Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=None, help="default: the fastest")
    parser.add_argument("--output", type=Path, help="FILE.json")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: to see that it runs")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--compile-seconds", type=float, default=0.0, metavar="S")
    parser.add_argument("--only-compile", action="store_true", help=argparse.SUPPRESS)  # in a process that can be ended
    options = parser.parse_args()
    tune_allocator()
    device = options.device or best_device()
    if torch.device(device).index is not None and torch.device(device).type == "cuda":
        torch.cuda.set_device(device)  # events, and figures of memory, are of the current one
    size = 32 if options.quick else 128
    if options.only_compile:
        print(json.dumps(compiled(size, device)))
        return 0

    start = time.perf_counter()
    sections = [peaks(device, options.quick)]
    report: dict[str, Any] = {"device": describe(device), "size": size}
    print(json.dumps(report["device"]), sections[0].markdown(), sep="\n", flush=True)
    peak = {row["what"]: row["TFLOP/s"] for row in sections[0].rows if "TFLOP/s" in row}
    parts: list[Callable[[], Section]] = [
        lambda: steps(size, device, max(peak.values()), max(v for k, v in peak.items() if "conv" in k)),
        lambda: paper_network(32 if options.quick else size, device, sections),
        lambda: reconstructions(device, options.quick),
        lambda: projector(device, options.quick),
    ]
    if options.compile_seconds > 0:
        parts.append(lambda: compiled_elsewhere(options, device))
    if options.profile:
        parts.append(lambda: profile(size, device))
    for part in parts:
        try:
            sections.append(part())
        except Exception as error:  # the other parts are still to be measured
            sections.append(Section(f"Failed: {type(error).__name__}", notes=[str(error)[:2000]]))
        print(sections[-1].markdown(), flush=True)
        if torch.device(device).type == "cuda":
            torch.cuda.empty_cache()
    report |= {"seconds": round(time.perf_counter() - start, 1), "sections": [asdict(section) for section in sections]}
    print(f"All of it took {report['seconds']} s.")
    if options.output:
        options.output.write_text(json.dumps(report, indent=1))
    return 0


# How it is measured


def milliseconds(call: Call, device: str, *, calls: int = 20, warm_up: int = 3) -> float:
    """Median of `calls` calls after some that do not count; on a GPU by events in its own stream, so that what the CPU does
    meanwhile counts only if the GPU waits for it."""
    for _ in range(warm_up):
        call()
    if torch.device(device).type != "cuda":
        times = []
        for _ in range(max(1, calls // 10)):
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)
    torch.cuda.synchronize()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(calls + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in pairwise(marks))


@contextlib.contextmanager
def peak_memory_mb(device: str, into: dict[str, Any]) -> Iterator[None]:
    """Adds the most that was allocated on the GPU at one time, in 10^6 bytes."""
    if torch.device(device).type != "cuda":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.synchronize()
    into["peak memory MB"] = torch.cuda.max_memory_allocated() / 1e6


@contextlib.contextmanager
def searching(enabled: bool) -> Iterator[None]:
    """cuDNN tries its algorithms instead of guessing the best."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def describe(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "dtype": str(fastest_dtype(device)),
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        free, total = torch.cuda.mem_get_info()
        found |= {"gpu": torch.cuda.get_device_name(), "free GB": free / 1e9, "total GB": total / 1e9}
        found |= {"cuDNN": torch.backends.cudnn.version(), "CUDA": torch.version.cuda}
    return found


# What is measured


def peaks(device: str, quick: bool) -> Section:
    section, dtype, side = Section("Peaks"), fastest_dtype(device), 512 if quick else 8192
    a = torch.randn(side, side, device=device).to(dtype)
    ms = milliseconds(lambda: a @ a, device, calls=10)
    section.rows.append({"what": f"matrix product {side}, {dtype}", "ms": ms, "TFLOP/s": 2 * side**3 / ms / 1e9})
    for channels, voxels in ((8, 16),) if quick else ((32, 64), (64, 64), (128, 64), (256, 32)):
        layer = torch.nn.Conv3d(channels, channels, 3, padding=1, bias=False).to(device, dtype)
        layer = layer.to(memory_format=torch.channels_last_3d)
        x = torch.randn(1, channels, *(voxels,) * 3, device=device).to(dtype)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for tried in (False, True):
            with torch.inference_mode(), searching(tried):
                ms = milliseconds(partial(layer, x), device, calls=10)
            how = "best of cuDNN's" if tried else "as cuDNN guesses"
            what = f"3D convolution, {channels} channels, {voxels}^3, {how}"
            section.rows.append({"what": what, "ms": ms, "TFLOP/s": 2 * 27 * channels**2 * voxels**3 / ms / 1e9})
    source = torch.empty((1 if quick else 64) << 20, device=device)
    target = torch.empty_like(source)
    ms = milliseconds(lambda: target.copy_(source), device, calls=10)
    section.rows.append({"what": "memory, copy", "ms": ms, "GB/s": 2 * 4 * source.numel() / ms / 1e6})
    return section


class Step:
    """The embedded network on `batch` volumes of size^3, condition embedded before, as in sampling."""

    def __init__(self, size: int, device: str, batch: int = 1, *, cast: bool = True) -> None:
        self.network = load_checkpoint(device=device).network
        assert isinstance(self.network, X2NoiseNet)
        config = self.network.config
        if cast:
            self.network = cast_once(self.network, device)
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(batch, 1, size, size, size, generator=generator).to(device)
        self.t = torch.full((batch,), 500, device=device)
        views = torch.rand(1, config.num_views, config.condition_channels, 192, 192, generator=generator).to(device)
        self.views, self.size, self.device = straight_views(views, size), (size, size, size), device
        with torch.inference_mode(), fastest_arithmetic(device):
            self.embedded = self.embed()
            self.run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
            self.run = partial(self.network.denoise, embedded_condition=self.embedded)

    def embed(self) -> list[torch.Tensor]:
        return self.network.embed_condition(self.views, self.size)

    @torch.inference_mode()
    def __call__(self) -> torch.Tensor:
        with fastest_arithmetic(self.device):
            return self.run(self.x, self.t)

    @torch.inference_mode()
    def embedding(self) -> None:
        with fastest_arithmetic(self.device):
            self.embed()


def steps(size: int, device: str, matmul_peak: float, conv_peak: float) -> Section:
    """One step in every way that it can be run."""
    section = Section(f"One denoising step, embedded checkpoint, {size}^3 voxels")
    plain = Step(size, device)
    tflop = count_gflop(plain) / 1e3

    def add(way: str, step: Step, call: Call | None = None, **more: Any) -> None:
        batch = len(step.x)
        row: dict[str, Any] = {"way": way, "samples": batch}
        with peak_memory_mb(device, row):
            row["ms"] = milliseconds(call or step, device)
        row["ms per sample"] = row["ms"] / batch
        rate = tflop * batch / row["ms"] * 1e3
        shares = {"TFLOP/s": rate, "of the convolution peak": rate / conv_peak, "of the matrix peak": rate / matmul_peak}
        section.rows.append({**row, **shares, **more})

    expected = plain()
    add("weights cast at each step", Step(size, device, cast=False))
    add("weights cast once", plain)
    with searching(True):
        add("the same, best of cuDNN's algorithms", plain)
    if torch.device(device).type == "cuda":
        for batch in (1, 2, 4, 8):
            step = Step(size, device, batch)
            add("step by step", step)
            step.run = RecordedNetwork(step.run)
            start = time.perf_counter()
            step()
            torch.cuda.synchronize()
            record_ms = 1e3 * (time.perf_counter() - start)
            add("CUDA graph", step, **{"ms to record": record_ms})
            if batch == 1:
                section.notes.append(f"CUDA graph against step by step: {difference(step(), expected)}")
            if step.run._graph is None:
                section.notes.append("The CUDA graph was NOT recorded: see the log.")
        with searching(True):
            step = Step(size, device)
            step.run = RecordedNetwork(step.run)
            add("CUDA graph, best of cuDNN's algorithms", step)
            section.notes.append(f"cuDNN's best against its guess: {difference(step(), expected)}")
    section.rows.append({"way": "embedding the condition, once", "samples": 1, "ms": milliseconds(plain.embedding, device)})
    section.notes.append(f"{1e3 * tflop:.1f} GFLOP a step.")
    return section


def difference(a: torch.Tensor, b: torch.Tensor) -> str:
    return f"largest difference {float((a - b).abs().max()):.3g}, mean {float((a - b).abs().mean()):.3g} of values up to 1"


def paper_network(size: int, device: str, sections: list[Section]) -> Section:
    """The paper's pixel network at full size, in float32 as published and in our arithmetic."""
    section = Section(f"One step of the paper's pixel network, base width 64, {size}^3 voxels")
    network = X2NoiseNet(paper().network).to(device).eval().requires_grad_(False)
    x, t = torch.randn(1, 1, size, size, size, device=device), torch.full((1,), 500, device=device)
    condition = torch.rand(1, 1, size, size, size, device=device)
    own = [row["ms"] for section in sections for row in section.rows if row.get("way") == "weights cast once"]
    for how in ("float32", "our precision and layout"):
        if how != "float32":
            network = cast_once(channels_last(network), device)
        with torch.inference_mode(), contextlib.nullcontext() if how == "float32" else fastest_arithmetic(device):
            embedded = network.embed_condition(condition, (size, size, size))
            row: dict[str, Any] = {"how": how}
            with peak_memory_mb(device, row):
                row["ms"] = milliseconds(partial(network.denoise, x, t, embedded), device, calls=3, warm_up=1)
        row[f"s for {PAPER_STEPS} steps"] = row["ms"] * PAPER_STEPS / 1e3
        section.rows.append({**row, **({"x ours": row["ms"] / own[0]} if own else {})})
    return section


def reconstructions(device: str, quick: bool) -> Section:
    """From two radiographs to HU, and the same on the CPU."""
    section = Section("Two X-rays to a volume of 128^3 voxels, embedded checkpoint, consistency included")
    pair, checkpoint = sample_case()[0], load_checkpoint(device=device)
    cases = [("first in the process", 1, None), ("again", 1, None), ("again", 1, None)]
    cases += [] if quick else [("4 samples", 4, None), ("10 samples", 10, None), ("50 steps", 1, 50)]
    results = []
    for name, num_samples, num_steps in cases:
        row: dict[str, Any] = {"which": name, "samples": num_samples, "steps": num_steps or checkpoint.sampling.num_steps}
        with peak_memory_mb(device, row):
            denoising_s, result = timed(pair, checkpoint, num_samples=num_samples, num_steps=num_steps, device=device)
        row |= {"denoising s": denoising_s, "all s": result.seconds, "samples at once": None}
        row["samples at once"] = samples_at_once(checkpoint.network, checkpoint.grid.size, num_samples, device)
        row["estimate MB"] = (
            needed_bytes(checkpoint.network, checkpoint.grid.size, num_samples, device, at_once=row["samples at once"]) or 0
        ) / 1e6
        section.rows.append(row)
        results.append(result)
    section.expect("denoising, one sample [s]", section.rows[1]["denoising s"], 0.1, at_least=False)
    same = np.abs(results[1].volume.hu - results[2].volume.hu).max()
    section.notes.append(f"The same seed twice: {same:.3g} HU apart at most.")
    if len(results) > 3:
        first = np.abs(results[3].samples_hu[0] - results[1].samples_hu[0])
        section.notes.append(f"Sample 0 alone and among 4: {first.max():.3g} HU apart at most, {first.mean():.3g} on average.")
    if torch.device(device).type == "cuda":
        on_cpu = reconstruct(pair, load_checkpoint())
        apart = np.abs(on_cpu.volume.hu - results[1].volume.hu)
        scores = [[round(view["ncc"], 5) for view in r.reprojection] for r in (results[1], on_cpu)]
        section.notes.append(
            f"CPU and GPU: {apart.mean():.3g} HU apart on average, 99.9 % within {np.quantile(apart, 0.999):.3g}; reprojection "
            f"NCC GPU {scores[0]}, CPU {scores[1]}; the CPU took {on_cpu.seconds:.2f} s."
        )
    return section


def timed(pair: Any, checkpoint: Any, **options: Any) -> tuple[float, Reconstruction]:
    """(seconds from before the first step to after the last, the result)."""
    marks: list[float] = []

    def mark(*_: int) -> bool:
        marks.append(time.perf_counter())
        return False

    result = reconstruct(pair, checkpoint, on_step=mark, is_cancelled=mark, **options)
    return marks[-1] - marks[0], result


def projector(device: str, quick: bool) -> Section:
    section = Section("Projector, 128^3 voxels")
    volume = 0.02 * torch.rand(GRID.size, generator=torch.Generator().manual_seed(0))
    there = volume.to(device)
    for pixels in (128,) if quick else (128, 256):
        for pose, beams in (("AP + lateral", straight(pixels)), ("20 degrees oblique", oblique(pixels))):
            image = torch.rand(beams[0].detector_size, device=device)
            row: dict[str, Any] = {"pose": pose, "detector": f"{pixels}^2"}
            row["forward ms"] = milliseconds(lambda beams=beams: [project(there, GRID, b) for b in beams], device)
            row["adjoint ms"] = milliseconds(lambda i=image, beams=beams: [backproject(i, GRID, b) for b in beams], device)
            exact = project(volume.double(), GRID, beams[0])
            row["relative error"] = float((project(there, GRID, beams[0]).cpu() - exact).norm() / exact.norm())
            back = backproject(image.cpu().double(), GRID, beams[0])
            row["of the adjoint"] = float((backproject(image, GRID, beams[0]).cpu() - back).norm() / back.norm())
            section.rows.append(row)
    return section


def compiled(size: int, device: str) -> dict[str, float]:
    """One step through torch.compile."""
    step = Step(size, device)
    step.run = torch.compile(step.network.denoise, mode="max-autotune-no-cudagraphs", dynamic=False)
    step.run = partial(step.run, embedded_condition=step.embedded)
    start = time.perf_counter()
    step()
    compile_s = time.perf_counter() - start
    ms = milliseconds(step, device)
    if torch.device(device).type == "cuda":
        step.run = RecordedNetwork(step.run)
        return {"ms": ms, "ms as CUDA graph": milliseconds(step, device), "s to compile": compile_s}
    return {"ms": ms, "s to compile": compile_s}


def compiled_elsewhere(options: argparse.Namespace, device: str) -> Section:
    section = Section("One denoising step through torch.compile")
    command = [sys.executable, __file__, "--only-compile", "--device", device, *(["--quick"] if options.quick else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.compile_seconds)
    except subprocess.TimeoutExpired:
        section.notes.append(f"Given up: not compiled within {options.compile_seconds:.0f} s.")
        return section
    if done.returncode:
        section.notes.append(f"Skipped, it fails: {done.stderr.strip().splitlines()[-1][:500]}")
    else:
        section.rows.append(json.loads(done.stdout.splitlines()[-1]))
    return section


def profile(size: int, device: str) -> Section:
    """Where a step spends the GPU's time, and a reconstruction the CPU's."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorded

    section, step = Section("Profile"), Step(size, device)
    step()
    on_gpu = torch.device(device).type == "cuda"
    with recorded(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as events:
        for _ in range(3):
            step()
        if on_gpu:
            torch.cuda.synchronize()
    order = "cuda_time_total" if on_gpu else "cpu_time_total"
    section.notes.append("```\n" + events.key_averages().table(sort_by=order, row_limit=24, max_name_column_width=60) + "\n```")
    pair, checkpoint = sample_case()[0], load_checkpoint(device=device)
    reconstruct(pair, checkpoint, device=device)
    calls = cProfile.Profile()
    calls.runcall(reconstruct, pair, checkpoint, device=device)
    found = pstats.Stats(calls).stats.items()  # type: ignore[attr-defined]
    rows = sorted(((times[3], times[0], Path(file).name, name) for (file, _, name), times in found), reverse=True)[:30]
    for seconds, count, file, name in rows:
        section.rows.append({"function": f"{file}: {name}".replace("|", "/"), "calls": count, "ms with callees": 1e3 * seconds})
    return section


if __name__ == "__main__":
    sys.exit(main())
