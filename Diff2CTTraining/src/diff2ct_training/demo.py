"""`diff2ct demo`, without the command line: a phantom with pedicle screws, its X-rays as files, and the CT reconstructed
from them.

The phantom's seed is none of the training's, which start at 10000.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diff2ct.checkpoint import load_checkpoint
from diff2ct.phantom import make_phantom
from diff2ct.sample_case import SAMPLE_SCREWS, SAMPLE_SEED
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.outputs import output_folder
from diff2ct_training.reconstruct_command import ReconstructionRequest, reconstruct_files
from diff2ct_training.sample_files import PHANTOM_FILES, write_phantom


def run_demo(
    folder: Path,
    *,
    checkpoint: Path | None = None,
    num_steps: int | None = None,
    num_samples: int = 1,
    device: str = "cpu",
    body_spacing_mm: float = 2.0,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Write the case, reconstruct from the written DICOM files, draw `demo.png`. Files of an earlier demo in `folder` are
    replaced.

    Returns every file written and the report of `reconstruct_files`.
    """
    model_grid = load_checkpoint(checkpoint).grid
    output_folder(folder, PHANTOM_FILES, overwrite=True)
    phantom = make_phantom(SAMPLE_SEED, num_screws=SAMPLE_SCREWS)
    files = write_phantom(
        phantom, folder, BiplanarSetup(), model_grid=model_grid, body_spacing_mm=body_spacing_mm, overwrite=True
    )
    request = ReconstructionRequest(
        ap=folder / "ap.dcm",
        lateral=folder / "lateral.dcm",
        output=folder / "reconstruction.nrrd",
        truth=folder / "truth.nrrd",
        figure=folder / "demo.png",
        title=f"Diff2CT: two X-rays in, one CT volume out. Phantom {SAMPLE_SEED}, not seen in training",
        checkpoint=checkpoint,
        num_steps=num_steps,
        num_samples=num_samples,
        device=device,
        overwrite=True,
    )
    report = reconstruct_files(request, on_step)
    return [*files, folder / "reconstruction.nrrd", folder / "demo.png"], report
