"""A whole reconstruction at 128^3 in a process of its own, against as many steps of MONAI's network and the paper's 1000."""

from __future__ import annotations

from child import run_worker
from denoising import PAPER_STEPS, monai_step_seconds, paper_step_seconds
from diff2ct.checkpoint import load_checkpoint
from harness import Section, Settings

OURS = "Diff2CT"
NUM_SAMPLES = (1, 4)
"""The last is the default, and what others are compared with."""


def measure(settings: Settings) -> Section:
    section = Section("Reconstruction, two X-rays to 128^3 voxels")
    num_steps, most = load_checkpoint().sampling.num_steps, NUM_SAMPLES[-1]
    for num_samples in NUM_SAMPLES:
        done = run_worker(settings, samples=num_samples)
        sampling, end = (next(t for name, t in done["marks"] if name == mark) for mark in ("sampling", "writing"))
        ours = end - sampling
        row = {"network": OURS, "samples": num_samples, "steps each": num_steps, "reconstruct s": ours}
        section.rows.append({**row, "process to file s": done["marks"][-1][1], "peak memory MB": done["peak_memory_mb"]})
    section.rows[-1]["x ours"] = 1.0

    def extrapolated(network: str, num_samples: int, num_steps: int, step_seconds: float) -> float:
        """How many times as long as ours that many steps take, and a row for them."""
        seconds = num_samples * num_steps * step_seconds
        row = {"network": network, "samples": num_samples, "steps each": num_steps, "reconstruct s": seconds}
        section.rows.append({**row, "x ours": seconds / ours})
        return seconds / ours

    with section.optional("MONAI"):
        for network, step_seconds in monai_step_seconds(settings).items():
            extrapolated(network, most, num_steps, step_seconds)
            section.notes.append(f"{network}: extrapolated, {step_seconds:.2f} s for a step times {most * num_steps} steps.")
    paper_seconds, how = paper_step_seconds(settings)
    times_ours = extrapolated("paper's pixel network, float32", 1, PAPER_STEPS, paper_seconds)
    section.notes.append(f"{how} Its row is extrapolated: that times {PAPER_STEPS} steps.")
    section.notes.append("Extrapolated rows are steps alone; ours has the condition and data consistency too.")
    section.expect(f"reconstruction, {most} samples [s], for 2 cores", ours, 8, at_least=False)
    section.expect(f"peak memory, {most} samples [MB]", section.rows[1]["peak memory MB"], 1000, at_least=False)
    section.expect(f"paper's recipe / ours, {most} samples", times_ours, 4000)
    return section
