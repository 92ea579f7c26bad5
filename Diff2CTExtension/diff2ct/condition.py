"""What a network is told about the X-rays. Four forms of one idea, that a voxel looks up each view where its ray meets it:

"views": the views themselves and the map from voxels to them (`diff2ct.views`); the network encodes them in 2D and looks its
own features up.
"geometric": a condition volume of fixed features, looked up here.
"added": the paper's condition volume; equal to a look-up for parallel rays along the axes.
"planes": the views themselves on the planes of the grid that face them, for networks that take rays as parallel to the axes.

B batch, C channels, V views, D x H x W voxels (k, j, i), Hd x Wd detector, R x R plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

from diff2ct.geometry import Beam, as_kind
from diff2ct.smooth import gaussian_blur
from diff2ct.standardize import standardize
from diff2ct.views import PLANE_PIXELS, PLANE_SPACING_MM, RectifiedViews, look_up, plane_to_lps
from diff2ct.volume import VolumeGrid

BAND_EDGES_MM = (2.0, 7.0, 25.0)
"""Detail is split into bands between Gaussians of these SDs at the isocentre: cortex and screws; vertebrae and ribs."""
CHANNELS_PER_VIEW = 2 + len(BAND_EDGES_MM)
SHARED_CHANNELS = len(BAND_EDGES_MM)
VIEW_CHANNELS = len(BAND_EDGES_MM) + 1 + 2
_PLANE_SIZE = (PLANE_PIXELS, PLANE_PIXELS)
_PLANE_IJK = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)  # [column, row, 0, 1] -> [column, row, 1]
_DEPTH_UNIT_MM = 128.0  # half the model grid: depth runs about -1..1

Condition = torch.Tensor | RectifiedViews


def stack_conditions(conditions: Sequence[Condition], device: torch.device | str = "cpu") -> Condition:
    """Conditions of single samples as a batch on `device`, in the memory layout that the network likes."""
    if isinstance(conditions[0], RectifiedViews):
        return RectifiedViews.stack(conditions).to(device)  # type: ignore[arg-type]  # all of one recipe
    return torch.stack(list(conditions)).to(device).contiguous(memory_format=torch.channels_last_3d)  # type: ignore[arg-type]


def rectified_views(
    images: Sequence[torch.Tensor], valid: Sequence[torch.Tensor], beams: Sequence[Beam], grid: VolumeGrid
) -> RectifiedViews:
    """Each view resampled to the plane through the isocentre that faces it: coronal for frontal views, sagittal for lateral
    ones, head up, columns toward the patient's left or back.

    So a 2D network meets every view in one frame and at one scale, whatever the detector's pixels, distance, tilt or side.
    images: per view (Hd, Wd) line integrals, gain and offset unknown, no finer than the plane by much (`Radiograph.resized`);
    valid: per view (Hd, Wd) bool.
    """
    planes, maps = [], []
    steps = (2 * torch.arange(PLANE_PIXELS) + 1) / PLANE_PIXELS - 1
    across, down = steps.expand(PLANE_PIXELS, -1), steps[:, None].expand(-1, PLANE_PIXELS)
    for image, mask, beam in zip(images, valid, beams, strict=True):
        plane = plane_to_lps(beam)
        weight, looked = _look_up_one(
            [mask.float(), image.float() * mask], beam.lps_to_pixel @ plane @ _PLANE_IJK, (1, *_PLANE_SIZE), beam
        )[:, 0]
        seen = weight > 0.99
        bands = image_and_bands(looked / weight.clamp(min=1e-6), seen, PLANE_SPACING_MM)
        planes.append(torch.stack([*(band * seen for band in bands), seen.float(), across.to(looked), down.to(looked)]))
        maps.append(torch.from_numpy(beam.onto_plane(plane) @ grid.ijk_to_lps).float())
    return RectifiedViews(torch.stack(planes), torch.stack(maps))


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
        pixel_mm = min(beam.patient_spacing_mm)
        *look, seen = lift([*image_and_bands(image.float(), mask, pixel_mm), mask.float()], beam, grid)
        seen = (seen > 0.99).float()
        looks.append(torch.stack(look) * seen)
        channels += [*looks[-1], seen, _depth(beam, grid).to(seen)]
    return torch.stack([*channels, *torch.stack(looks).amin(0)])


def image_and_bands(image: torch.Tensor, valid: torch.Tensor, pixel_mm: float) -> list[torch.Tensor]:
    """The image and its detail in each band of `BAND_EDGES_MM`, finest first, each (Hd, Wd) and standardised by itself: bone is
    a small contrast on a large body, and without its own scale it would be a whisper. pixel_mm: at the isocentre."""
    weight = valid.to(image)[None]
    centered = standardize(image, valid)[None]
    blurred = []
    for sigma_mm in BAND_EDGES_MM:
        share = gaussian_blur(weight, sigma_mm, pixel_mm).clamp(min=1e-3)
        blurred.append(gaussian_blur(centered * weight, sigma_mm, pixel_mm) / share)
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
        flat = lift([scale_to_unit(image.float(), mask)], as_kind(beam, "parallel"), grid)[0]
        total = total.to(flat) + flat
    return (total / len(beams))[None]


def facing_planes(
    images: Sequence[torch.Tensor], valid: Sequence[torch.Tensor], beams: Sequence[Beam], grid: VolumeGrid
) -> torch.Tensor:
    """Each view on the plane through the isocentre that faces it, in the frame of `grid`, a cube of N^3 voxels, and twice as
    fine: what PSR, 3DCNN and X2CT-GAN take for the projection of the volume along an axis. For parallel beams it is.

    Returns (V, 1, 2 N, 2 N) float32 in [-1, 1] per view, -1 where nothing is seen. Rows run as k does, columns as i for frontal
    views and as j for lateral ones, whatever the side that the X-rays came from.
    """
    if len(set(grid.size)) > 1:
        raise ValueError(f"grid.size: got {grid.size}, accepted is a cube for condition 'planes'")
    size = 2 * grid.size[0]
    planes = []
    for image, mask, beam in zip(images, valid, beams, strict=True):
        across, along = (1, 0) if beam.view.is_lateral else (0, 1)  # world axes, and i, j
        center = np.linalg.solve(grid.ijk_to_lps, [*beam.isocenter_lps, 1.0])
        pixel_to_ijk = np.zeros((4, 4))
        pixel_to_ijk[across, [0, 3]] = pixel_to_ijk[2, [1, 3]] = 0.5, -0.25
        pixel_to_ijk[along, 3], pixel_to_ijk[3, 3] = center[along], 1.0
        brightness = scale_to_unit(image.float(), mask) + 1  # 0 off the image, as where it is not valid
        matrix = beam.lps_to_pixel @ grid.ijk_to_lps @ pixel_to_ijk
        planes.append(_look_up_one([brightness], matrix, (1, size, size), beam)[0] - 1)
    return torch.stack(planes)


def scale_to_unit(image: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(Hd, Wd) -> [-1, 1] by the least and the greatest valid pixel, -1 where not valid."""
    low, high = image[valid].min(), image[valid].max()
    return torch.where(valid, 2 * (image - low) / (high - low).clamp(min=1e-6) - 1, torch.full_like(image, -1.0))


def lift(images: Sequence[torch.Tensor], beam: Beam, grid: VolumeGrid) -> torch.Tensor:
    """Value of each image (Hd, Wd) at the detector position of each voxel, bilinear, 0 off it -> (len(images), D, H, W)."""
    return _look_up_one(images, beam.lps_to_pixel @ grid.ijk_to_lps, grid.size, beam)


def _look_up_one(images: Sequence[torch.Tensor], matrix: np.ndarray, size: tuple[int, int, int], beam: Beam) -> torch.Tensor:
    """`views.look_up` of one view's images (Hd, Wd); matrix: (4, 4)."""
    stack = torch.stack(list(images))[None]
    return look_up(stack, torch.from_numpy(matrix).to(stack)[None], size, frame=beam.detector_size)[0]


def _depth(beam: Beam, grid: VolumeGrid) -> torch.Tensor:
    """(D, H, W) signed distance of each voxel from the isocentre along the beam, in `_DEPTH_UNIT_MM`."""
    matrix, toward = grid.ijk_to_lps, beam.toward_detector / _DEPTH_UNIT_MM
    along_i, along_j, along_k = toward @ matrix[:3, :3]
    start = float(toward @ (matrix[:3, 3] - beam.isocenter_lps))
    k, j, i = (torch.arange(n, dtype=torch.float32) for n in grid.size)
    return start + (along_k * k)[:, None, None] + (along_j * j)[:, None] + along_i * i


CONDITIONS: dict[str, Callable[..., Condition]] = {
    "views": rectified_views,
    "geometric": geometric_condition,
    "added": added_condition,
    "planes": facing_planes,
}
"""(images, valid, beams, grid) -> `Condition` of one sample."""


def condition_channels(kind: str, num_views: int = 2) -> int:
    """Channels that `CONDITIONS[kind]` returns, per view for "views"; the views are the channels of "planes"."""
    if kind not in CONDITIONS:
        raise ValueError(f"condition: got {kind!r}, accepted are {', '.join(CONDITIONS)}")
    if kind == "views":
        return VIEW_CHANNELS
    if kind == "planes":
        return num_views
    return 1 if kind == "added" else CHANNELS_PER_VIEW * num_views + SHARED_CHANNELS
