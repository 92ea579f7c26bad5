"""Radiographs on a grid: what the denoiser is told about the X-rays. Two forms, equal for parallel rays along the axes.

C channels, V views, D x H x W voxels (k, j, i), Hd x Wd detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn.functional import grid_sample

from diff2ct.geometry import Beam, ParallelBeam
from diff2ct.simulate import gaussian_blur, standardize
from diff2ct.volume import VolumeGrid

BAND_EDGES_MM = (2.0, 7.0, 25.0)
"""Detail is split into bands between Gaussians of these SDs at the isocentre: cortex and screws; vertebrae and ribs."""
CHANNELS_PER_VIEW = 2 + len(BAND_EDGES_MM)
SHARED_CHANNELS = len(BAND_EDGES_MM)
_DEPTH_UNIT_MM = 128.0  # half the model grid: depth runs about -1..1


def geometric_condition(
    images: Sequence[torch.Tensor], valid: Sequence[torch.Tensor], beams: Sequence[Beam], grid: VolumeGrid
) -> torch.Tensor:
    """Each voxel looks up each view where its own ray hits the detector (PerX2CT, ICASSP 2023; field practice since).

    images: per view (Hd, Wd) line integrals, gain and offset unknown; valid: per view (Hd, Wd) bool.
    Returns (5 V + 3, D, H, W) float32. Per view: the standardised image and its two detail bands (0 where not seen), seen or
    not (1 or 0), and the signed depth along the beam from the isocentre in units of 128 mm. Then what all views agree on: the
    least of image and of each band over the views. A body, a vertebra, a screw is bright in all of them; a sum of views does
    not tell, and a network takes long to find this out.
    """
    channels, looks = [], []
    for image, mask, beam in zip(images, valid, beams, strict=True):
        *look, seen = lift([*image_and_bands(image.float(), mask, beam), mask.float()], beam, grid)
        seen = (seen > 0.99).float()
        looks.append(torch.stack(look) * seen)
        channels += [*looks[-1], seen, _depth(beam, grid).to(seen)]
    return torch.stack([*channels, *torch.stack(looks).amin(0)])


def image_and_bands(image: torch.Tensor, valid: torch.Tensor, beam: Beam) -> list[torch.Tensor]:
    """The image and its detail in each band of `BAND_EDGES_MM`, finest first, each (Hd, Wd) and standardised by itself: bone is
    a small contrast on a large body, and without its own scale it would be a whisper."""
    weight = valid.to(image)[None]
    centered = standardize(image, valid)[None]
    blurred = []
    for sigma_mm in BAND_EDGES_MM:
        sigma, pixel = sigma_mm * beam.magnification, min(beam.detector_spacing_mm)
        share = gaussian_blur(weight, sigma, pixel).clamp(min=1e-3)
        blurred.append(gaussian_blur(centered * weight, sigma, pixel) / share)
    bands = [fine - coarse for fine, coarse in pairwise(blurred)]
    return [centered[0], *(standardize(band[0], valid) for band in bands)]


def added_condition(
    images: Sequence[torch.Tensor], valid: Sequence[torch.Tensor], beams: Sequence[Beam], grid: VolumeGrid
) -> torch.Tensor:
    """The paper's condition: expand each X-ray along its own ray, permute to volume axes, add (arXiv 2408.09731, Sec. 3).

    The rays are taken as parallel to the axes whatever `beams` says, as in the paper: the image is sampled at the grid's
    in-plane positions in the isocentre plane. Which axis belongs to which view and which way it runs comes from the beam.
    Returns (1, D, H, W) float32 in [-1, 1] per view and averaged over views.
    """
    total = torch.zeros(grid.size)
    for image, mask, beam in zip(images, valid, beams, strict=True):
        flat = lift([scale_to_unit(image.float(), mask)], isocenter_parallel(beam), grid)[0]
        total = total.to(flat) + flat
    return (total / len(beams))[None]


def scale_to_unit(image: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(Hd, Wd) -> [-1, 1] by the least and the greatest valid pixel, -1 where not valid."""
    low, high = image[valid].min(), image[valid].max()
    return torch.where(valid, 2 * (image - low) / (high - low).clamp(min=1e-6) - 1, torch.full_like(image, -1.0))


def isocenter_parallel(beam: Beam) -> Beam:
    """The parallel beam that agrees with `beam` in the plane through the isocentre."""
    row_mm, column_mm = beam.detector_spacing_mm
    return ParallelBeam(
        detector_spacing_mm=(row_mm / beam.magnification, column_mm / beam.magnification),
        detector_size=beam.detector_size,
        primary_angle_deg=beam.primary_angle_deg,
        secondary_angle_deg=beam.secondary_angle_deg,
        roll_deg=beam.roll_deg,
        mirrored=beam.mirrored,
        principal_point=beam.principal_point,
        isocenter_lps=beam.isocenter_lps,
    )


def lift(images: Sequence[torch.Tensor], beam: Beam, grid: VolumeGrid) -> torch.Tensor:
    """Value of each image (Hd, Wd) at the detector position of each voxel, bilinear, 0 off it -> (len(images), D, H, W)."""
    stack = torch.stack(list(images))[None]  # (1, C, Hd, Wd)
    matrix = torch.from_numpy(beam.lps_to_pixel @ grid.ijk_to_lps).to(stack)  # (3, 4)
    k, j, i = (torch.arange(n, device=stack.device, dtype=stack.dtype) for n in grid.size)
    column, row, depth = (
        (matrix[a, 2] * k + matrix[a, 3])[:, None, None] + (matrix[a, 1] * j)[:, None] + matrix[a, 0] * i for a in range(3)
    )
    height, width = beam.detector_size
    positions = torch.stack([(2 * column / depth + 1) / width - 1, (2 * row / depth + 1) / height - 1], dim=-1)
    flat = positions.reshape(1, grid.size[0] * grid.size[1], grid.size[2], 2)
    return grid_sample(stack, flat, mode="bilinear", padding_mode="zeros", align_corners=False)[0].unflatten(1, grid.size[:2])


def _depth(beam: Beam, grid: VolumeGrid) -> torch.Tensor:
    """(D, H, W) signed distance of each voxel from the isocentre along the beam, in `_DEPTH_UNIT_MM`."""
    matrix, toward = grid.ijk_to_lps, beam.toward_detector / _DEPTH_UNIT_MM
    along_i, along_j, along_k = toward @ matrix[:3, :3]
    start = float(toward @ (matrix[:3, 3] - beam.isocenter_lps))
    k, j, i = (torch.arange(n, dtype=torch.float32) for n in grid.size)
    return start + (along_k * k)[:, None, None] + (along_j * j)[:, None] + along_i * i


CONDITIONS = {"geometric": geometric_condition, "added": added_condition}


def condition_channels(kind: str, num_views: int = 2) -> int:
    """Channels that `CONDITIONS[kind]` returns."""
    if kind not in CONDITIONS:
        raise ValueError(f"condition: got {kind!r}, accepted are {', '.join(CONDITIONS)}")
    return 1 if kind == "added" else CHANNELS_PER_VIEW * num_views + SHARED_CHANNELS
