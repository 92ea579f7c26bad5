"""The case to try Diff2CT with: a phantom with pedicle screws, its two X-rays and its CT. Made here, nothing is downloaded."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from diff2ct.geometry import ConeBeam, View
from diff2ct.phantom import make_phantom
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid

SAMPLE_SEED = 12  # a patient without oral contrast: bowel full of it hides the spine
SAMPLE_SCREWS = 6

_DETECTOR_MM = 430.0


def sample_case(
    seed: int = SAMPLE_SEED, num_screws: int = SAMPLE_SCREWS, *, pixels: int = 512, spacing_mm: float = 2.0
) -> tuple[tuple[Radiograph, Radiograph], CtVolume]:
    """((AP, left lateral), CT of the whole body part) of the phantom `seed`, on a usual spine stand.

    pixels: along each edge of the detector. spacing_mm: of the CT, from which the X-rays are rendered. At 2 mm its voxels are
    those of the reconstruction: between voxels it would be interpolated to be compared, and any blurred volume be closer to it.
    """
    phantom = make_phantom(seed, num_screws=num_screws)
    ct = phantom.render(_on_lattice(phantom.body_grid(spacing_mm))).hu
    mu = hu_to_mu(torch.from_numpy(ct.hu))
    radiographs = []
    for view, word in ((View.AP, "AP"), (View.LL, "lateral")):
        beam = ConeBeam.from_view(
            view,
            source_to_detector_mm=1020.0,
            source_to_isocenter_mm=700.0,
            detector_spacing_mm=(_DETECTOR_MM / pixels,) * 2,
            detector_size=(pixels, pixels),
        )
        image = project(mu, ct.grid, beam).numpy()
        radiographs.append(Radiograph(image, beam, scale_known=True, source=f"phantom {seed} {word}"))
    return (radiographs[0], radiographs[1]), CtVolume(ct.hu.round(), ct.grid)


def _on_lattice(grid: VolumeGrid) -> VolumeGrid:
    """`grid` moved by less than a voxel, so that the origin lies in a corner between voxels, as in the model's cube."""
    x, y, z = (mm * (math.floor(first / mm) + 0.5) for first, mm in zip(grid.origin_lps, grid.spacing_mm, strict=True))
    return replace(grid, origin_lps=(x, y, z))
