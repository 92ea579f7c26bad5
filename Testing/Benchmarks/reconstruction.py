"""A whole reconstruction at 128^3 in a process of its own, against the paper's recipe of 1000 steps."""

from __future__ import annotations

from child import run_worker
from denoising import PAPER_STEPS, paper_step_seconds
from diff2ct.checkpoint import load_checkpoint
from harness import Section, Settings


def measure(settings: Settings) -> Section:
    section = Section("Reconstruction, two X-rays to 128^3 voxels, embedded checkpoint")
    seconds, num_steps = {}, load_checkpoint().sampling.num_steps
    for num_samples in (1, 4):
        done = run_worker(settings, samples=num_samples)
        sampling, end = (next(t for name, t in done["marks"] if name == mark) for mark in ("sampling", "writing"))
        seconds[num_samples] = end - sampling
        row = {
            "samples": num_samples,
            "steps each": num_steps,
            "reconstruct s": seconds[num_samples],
            "process to file s": done["marks"][-1][1],
        }
        section.rows.append({**row, "peak memory MB": done["peak_memory_mb"]})
    paper_seconds, how = paper_step_seconds(settings)
    section.rows.append({"samples": "paper", "steps each": PAPER_STEPS, "reconstruct s": PAPER_STEPS * paper_seconds})
    section.expect("reconstruction, 4 samples [s], for 2 cores", seconds[4], 8, at_least=False)
    section.expect("peak memory, 4 samples [MB]", section.rows[1]["peak memory MB"], 1000, at_least=False)
    section.expect("paper's recipe / ours, 4 samples", PAPER_STEPS * paper_seconds / seconds[4], 4000)
    section.notes.append(f"{how} The paper's row is that times {PAPER_STEPS} steps, in float32.")
    return section
