import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from diff2ct.condition import (
    BAND_EDGES_MM,
    CONDITIONS,
    added_condition,
    condition_channels,
    facing_planes,
    geometric_condition,
    image_and_bands,
    lift,
    rectified_views,
    scale_to_unit,
)
from diff2ct.geometry import Beam, ConeBeam, FanBeam, ParallelBeam, View, as_kind
from diff2ct.projector import project
from diff2ct.views import PLANE_PIXELS, PLANE_SPACING_MM, RectifiedViews, look_up, plane_to_lps
from diff2ct.volume import VolumeGrid

GRID = VolumeGrid.centered((8, 10, 12), 5.0)
CONE = {
    "source_to_detector_mm": 1000.0,
    "source_to_isocenter_mm": 800.0,
    "detector_spacing_mm": (4.0, 4.0),
    "detector_size": (40, 50),
}


def parallel_views() -> tuple[ParallelBeam, ParallelBeam]:
    """Detectors whose pixels are the grid's own columns: the case that the paper assumes."""
    ap = ParallelBeam.from_view(View.AP, detector_spacing_mm=(5, 5), detector_size=(8, 12))
    lateral = ParallelBeam.from_view(View.LL, detector_spacing_mm=(5, 5), detector_size=(8, 10))
    return ap, lateral


def everywhere(image: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(image, dtype=torch.bool)


def test_the_papers_condition_is_expand_permute_add() -> None:
    ap, lateral = torch.rand(8, 12), torch.rand(8, 10)
    condition = added_condition([ap, lateral], [everywhere(ap), everywhere(lateral)], parallel_views(), GRID)
    ap_unit, lateral_unit = (
        scale_to_unit(x, everywhere(x)).flip(0) for x in (ap, lateral)
    )  # row 0 is the head, k = 0 the feet
    expanded = ap_unit[:, None, :].expand(8, 10, 12) + lateral_unit[:, :, None].expand(8, 10, 12)
    torch.testing.assert_close(condition, expanded[None] / 2)


def test_geometric_lookup_equals_replication_for_parallel_rays() -> None:
    ap, lateral = torch.rand(8, 12), torch.rand(8, 10)
    masks = [everywhere(ap), everywhere(lateral)]
    paper = added_condition([ap, lateral], masks, parallel_views(), GRID)
    lifted = [
        lift([scale_to_unit(x, m)], beam, GRID)[0] for x, m, beam in zip((ap, lateral), masks, parallel_views(), strict=True)
    ]
    torch.testing.assert_close(paper[0], (lifted[0] + lifted[1]) / 2)


def test_a_voxel_sees_its_own_shadow() -> None:
    grid = VolumeGrid.centered(33, 5.0)
    volume = torch.zeros(grid.size)
    volume[20, 9, 25] = 1
    for beam in (
        ConeBeam.from_view(View.PA, **CONE),
        ConeBeam(primary_angle_deg=80, secondary_angle_deg=12, roll_deg=5, mirrored=True, **CONE),
    ):
        seen = lift([project(volume, grid, beam)], beam, grid)[0]
        assert float(seen[20, 9, 25]) > 0.5 * float(seen.max())
        assert float(seen[20, 9, 5]) == 0 or abs(beam.toward_detector[0]) > 0.9  # beside it, not along the ray


def test_channels_of_the_geometric_condition() -> None:
    images = [torch.rand(CONE["detector_size"]) for _ in range(2)]
    beams = [ConeBeam.from_view(v, **CONE) for v in (View.AP, View.LL)]
    condition = geometric_condition(images, [everywhere(i) for i in images], beams, GRID)
    assert condition.shape == (condition_channels("geometric"), *GRID.size) == (13, 8, 10, 12)
    assert set(condition[3].unique().tolist()) == {1.0}, "the whole grid is seen"
    torch.testing.assert_close(condition[10:], torch.minimum(condition[0:3], condition[5:8]))
    # depth grows toward the detector: posterior (+j) in AP, left (+i) in LL; 5 mm are 5 / 128
    np.testing.assert_allclose(condition[4].diff(dim=1).numpy(), 5 / 128, atol=1e-6)
    np.testing.assert_allclose(condition[9].diff(dim=2).numpy(), 5 / 128, atol=1e-6)
    assert float(condition[4].mean()) == pytest.approx(0, abs=1e-6)


def test_a_small_contrast_on_a_large_body_is_loud_in_its_band() -> None:
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")
    body = 5 * torch.exp(-(((rows - 40) / 25) ** 2 + ((columns - 40) / 25) ** 2))
    vertebra = 0.2 * torch.exp(-(((rows - 40) / 3) ** 2 + ((columns - 40) / 3) ** 2))
    plain, with_bone = (image_and_bands(image, everywhere(image), 3.2) for image in (body, body + vertebra))
    louder = [float(b[40, 40] - a[40, 40]) for a, b in zip(plain, with_bone, strict=True)]
    assert max(louder[1:]) > 10 * louder[0] > 0


def test_gain_and_offset_do_not_matter() -> None:
    beams = [ConeBeam.from_view(v, **CONE) for v in (View.AP, View.LL)]
    images = [torch.rand(CONE["detector_size"]) for _ in range(2)]
    masks = [everywhere(i) for i in images]
    changed = [7.5 * images[0] - 3, 0.02 * images[1] + 100]
    torch.testing.assert_close(
        geometric_condition(images, masks, beams, GRID), geometric_condition(changed, masks, beams, GRID), rtol=1e-2, atol=5e-3
    )


def a_marked_body() -> tuple[torch.Tensor, VolumeGrid]:
    """A ball, and a dense marker on the patient's left, front and head side."""
    grid = VolumeGrid.centered(64, 4.0)
    k, j, i = torch.meshgrid(*(torch.arange(64.0) - 31.5 for _ in range(3)), indexing="ij")
    volume = ((i**2 + j**2 + k**2) < 24**2).float()
    volume[40:44, 20:24, 44:48] = 20
    return volume, grid


WIDE = {**CONE, "detector_spacing_mm": (2.0, 2.0), "detector_size": (200, 200)}


@pytest.mark.parametrize("first, second", [(View.AP, View.PA), (View.LL, View.RL)])
def test_rectified_views_look_the_same_from_either_side(first: View, second: View) -> None:
    """The beam's side changes magnification a little, but not where left, front and head are."""
    volume, grid = a_marked_body()
    pictures = []
    for view in (first, second):
        beam = ConeBeam.from_view(view, **WIDE)
        image = project(volume, grid, beam)
        pictures.append(rectified_views([image], [everywhere(image)], [beam], grid).images[0])
    for picture in pictures:
        row, column = divmod(int(picture[0].argmax()), PLANE_PIXELS)
        down, across = (row - (PLANE_PIXELS - 1) / 2) * PLANE_SPACING_MM, (column - (PLANE_PIXELS - 1) / 2) * PLANE_SPACING_MM
        assert -55 < down < -30, "toward the head is up"
        assert 40 < across < 75 if not first.is_lateral else -50 < across < -25, "left, or back, is right"


@pytest.mark.parametrize(
    "beam",
    [ConeBeam(primary_angle_deg=90, secondary_angle_deg=7, roll_deg=4, **WIDE), FanBeam(primary_angle_deg=97, **WIDE)],
    ids=["tilted cone", "oblique fan"],
)
def test_voxels_find_their_shadow_in_the_rectified_plane(beam: Beam) -> None:
    """The plane holds what the detector shows: both look-ups agree, voxel by voxel."""
    volume, grid = a_marked_body()
    image = project(volume, grid, beam)
    views = rectified_views([image], [everywhere(image)], [beam], grid)
    direct = lift([image_and_bands(image, everywhere(image), 1.6)[0]], beam, grid)[0]
    through_plane = look_up(views.images[:, :1], views.ijk_to_plane, grid.size)[0, 0]
    inside = (slice(8, 56),) * 3
    assert float(torch.corrcoef(torch.stack([direct[inside].flatten(), through_plane[inside].flatten()]))[0, 1]) > 0.99
    marker = (slice(40, 44), slice(20, 24), slice(44, 48))
    assert float(through_plane[marker].min()) > float(through_plane[inside].quantile(0.95))


def test_bands_hold_the_detail_of_their_size_in_mm() -> None:
    """Waves of 24 and 60 mm at the isocentre: of each, a band keeps the difference between two Gaussians."""
    beam = ParallelBeam.from_view(View.AP, detector_spacing_mm=(1.0, 1.0), detector_size=(320, 320))
    x = torch.arange(320.0)
    image = sum(torch.cos(2 * math.pi * x / length) for length in (24, 60)).expand(320, 320)
    bands = rectified_views([image], [everywhere(image)], [beam], GRID).images[0, 1:3, PLANE_PIXELS // 2].double().numpy()
    mm, middle = np.arange(PLANE_PIXELS) * PLANE_SPACING_MM, slice(48, 144)
    waves = np.stack([f(2 * np.pi * mm / length) for length in (24, 60) for f in (np.cos, np.sin)], axis=1)[middle]
    for band, (fine, coarse) in zip(bands, pairwise(BAND_EDGES_MM), strict=True):
        parts = np.linalg.lstsq(waves, band[middle], rcond=None)[0]
        found = np.hypot(*parts[:2]) / np.hypot(*parts[2:])
        short, long = (np.subtract(*(np.exp(-2 * (np.pi * s / length) ** 2) for s in (fine, coarse))) for length in (24, 60))
        assert found == pytest.approx(short / long, rel=0.1)


def test_rectified_views_do_not_depend_on_the_detector() -> None:
    volume, grid = a_marked_body()
    fine, coarse = (
        ConeBeam.from_view(View.AP, **{**WIDE, "detector_spacing_mm": (s, s), "detector_size": (n, n)})
        for s, n in ((1.0, 400), (2.0, 200))
    )
    pictures = []
    for beam, gain in ((fine, 3.0), (coarse, 1.0)):
        image = gain * project(volume, grid, beam) + gain
        pictures.append(rectified_views([image], [everywhere(image)], [beam], grid).images[0])
    assert pictures[0].shape == (condition_channels("views"), PLANE_PIXELS, PLANE_PIXELS)
    assert float((pictures[0][0] - pictures[1][0]).abs().mean()) < 0.03
    torch.testing.assert_close(pictures[0][3:], pictures[1][3:])


def test_what_is_not_seen_says_so() -> None:
    beam = ConeBeam.from_view(View.AP, **{**CONE, "detector_size": (40, 10)})  # 40 mm wide: 32 mm at the isocentre
    image, valid = torch.rand(40, 10), torch.ones(40, 10, dtype=torch.bool)
    valid[:20] = False  # the upper half is collimated
    value, _, _, seen, *_ = geometric_condition([image], [valid], [beam], GRID)
    assert not seen[:, :, 0].any() and not seen[:, :, -1].any(), "beside the detector"
    assert not seen[4:].any() and seen[:3, :, 5:7].all(), "above and below the collimator's edge"
    assert not value[seen == 0].any()


def test_what_is_partly_hidden_counts_as_not_seen() -> None:
    """The first row that is seen lies 5 mm below the middle; between it and the one above the value is a mixture."""
    beam = ParallelBeam.from_view(View.AP, detector_spacing_mm=(10.0, 10.0), detector_size=(40, 40))
    image, valid = torch.rand(40, 40), torch.ones(40, 40, dtype=torch.bool)
    valid[:20] = False
    seen = rectified_views([image], [valid], [beam], GRID).images[0, 3]
    first = int(seen[:, PLANE_PIXELS // 2].nonzero()[0])
    assert 4.9 < (first - (PLANE_PIXELS - 1) / 2) * PLANE_SPACING_MM < 4.9 + PLANE_SPACING_MM


def test_the_grid_follows_the_isocentre() -> None:
    image = torch.rand(CONE["detector_size"])
    here = ConeBeam.from_view(View.AP, **CONE)
    there = replace(here, isocenter_lps=(30.0, -20.0, 55.0))
    x, y, z = GRID.origin_lps
    moved = replace(GRID, origin_lps=(x + 30, y - 20, z + 55))
    torch.testing.assert_close(lift([image], here, GRID), lift([image], there, moved), rtol=1e-4, atol=1e-4)


def test_isocentre_parallel_agrees_in_the_isocentre_plane() -> None:
    cone = ConeBeam.from_view(View.AP, isocenter_lps=(3, 4, 5), **CONE)
    points = np.array([[30.0, 4.0, -20.0], [-11.0, 4.0, 40.0]])
    np.testing.assert_allclose(cone.project_points(points), as_kind(cone, "parallel").project_points(points), atol=1e-9)


def test_unknown_condition_is_refused() -> None:
    assert set(CONDITIONS) == {"views", "geometric", "added", "planes"}
    with pytest.raises(ValueError, match="condition"):
        condition_channels("concatenated")


@pytest.mark.parametrize("views", [(View.AP, View.LL), (View.PA, View.RL)], ids=str)
def test_planes_are_the_projections_along_the_axes_from_whichever_side(views: tuple[View, View]) -> None:
    grid = VolumeGrid.centered(16, 5.0)
    mu = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(1)) + 0.5
    beams = [ParallelBeam.from_view(v, detector_spacing_mm=(5, 5), detector_size=(16, 16)) for v in views]
    images = [project(mu, grid, beam) for beam in beams]
    planes = facing_planes(images, [everywhere(x) for x in images], beams, grid)
    assert planes.shape == (2, 1, 32, 32)
    for plane, axis in zip(planes[:, 0], (1, 2), strict=True):
        expected = scale_to_unit(mu.sum(axis), torch.ones(16, 16, dtype=torch.bool))
        between = torch.nn.functional.interpolate(expected[None, None], scale_factor=2, mode="bilinear")[0, 0]
        torch.testing.assert_close(plane[1:-1, 1:-1], between[1:-1, 1:-1], rtol=1e-3, atol=1e-3)


def test_planes_are_dark_where_nothing_is_seen_and_need_a_cube() -> None:
    beam = ConeBeam.from_view(View.AP, **{**CONE, "detector_size": (10, 10)})
    image = torch.rand(10, 10)
    planes = facing_planes([image], [everywhere(image)], [beam], VolumeGrid.centered(16, 5.0))
    assert planes[0, 0, 0, 0] == -1 and planes[0, 0, 16, 16] > -1
    with pytest.raises(ValueError, match="cube"):
        facing_planes([image], [everywhere(image)], [beam], GRID)


def test_the_middle_of_the_plane_is_the_isocentre_and_its_pixels_know_where_they_are() -> None:
    beam = ConeBeam(primary_angle_deg=80, isocenter_lps=(5, -6, 7), **CONE)
    middle = (PLANE_PIXELS - 1) / 2
    np.testing.assert_allclose(plane_to_lps(beam) @ [middle, middle, 1], [5, -6, 7, 1])
    image = torch.rand(CONE["detector_size"])
    across, down = rectified_views([image], [everywhere(image)], [beam], GRID).images[0, 4:]
    centers = torch.linspace(-1 + 1 / PLANE_PIXELS, 1 - 1 / PLANE_PIXELS, PLANE_PIXELS)  # -1 and 1 are the plane's borders
    torch.testing.assert_close(across, centers.expand_as(across))
    torch.testing.assert_close(down, centers[:, None].expand_as(down))


def test_detail_at_the_detector_is_taken_at_its_size_in_the_patient() -> None:
    """4 mm pixels magnified 1.25 times are 3.2 mm at the isocentre."""
    beam, image = ConeBeam.from_view(View.AP, **CONE), torch.rand(CONE["detector_size"])
    condition = geometric_condition([image], [everywhere(image)], [beam], GRID)
    torch.testing.assert_close(condition[:3], lift(image_and_bands(image, everywhere(image), 3.2), beam, GRID))


def test_detail_ends_at_the_collimator_as_at_the_detectors_edge() -> None:
    image, valid = torch.rand(60, 50), torch.zeros(60, 50, dtype=torch.bool)
    valid[8:40, 5:45] = True
    cut = image[8:40, 5:45]
    for band, of_cut in zip(image_and_bands(image, valid, 3.0), image_and_bands(cut, everywhere(cut), 3.0), strict=True):
        torch.testing.assert_close(band[8:40, 5:45], of_cut, rtol=1e-3, atol=1e-3)
        assert not band[~valid].any()


@pytest.mark.parametrize("condition", ["views", "geometric", "added", "planes"])
def test_what_is_not_valid_does_not_matter(condition: str) -> None:
    beam, cube = ConeBeam.from_view(View.AP, roll_deg=3, **CONE), VolumeGrid.centered(12, 8.0)
    image, chance = torch.rand(2, *CONE["detector_size"], generator=torch.Generator().manual_seed(6))
    valid = chance > 0.1
    seen, other = (CONDITIONS[condition]([x], [valid], [beam], cube) for x in (image, torch.where(valid, image, 1e4)))
    if isinstance(seen, RectifiedViews):
        seen, other = seen.images, other.images
    torch.testing.assert_close(seen, other)


def test_scale_to_unit_goes_by_what_is_valid() -> None:
    image = torch.tensor([[-50.0, 2.0, 4.0], [6.0, 3.0, 900.0]])
    valid = (image > 0) & (image < 900)
    assert scale_to_unit(image, valid).tolist() == [[-1.0, -1.0, 0.0], [1.0, -0.5, -1.0]]


def test_the_papers_condition_does_not_diverge_though_the_beam_does() -> None:
    beam, image = ConeBeam.from_view(View.AP, **CONE), torch.rand(CONE["detector_size"])
    condition = added_condition([image], [everywhere(image)], [beam], GRID)[0]
    torch.testing.assert_close(condition, condition[:, :1].expand_as(condition), rtol=1e-4, atol=1e-4)
    in_plane = replace(GRID, size=(8, 1, 12), origin_lps=(GRID.origin_lps[0], 0.0, GRID.origin_lps[2]))
    seen = lift([scale_to_unit(image, everywhere(image))], beam, in_plane)[0]
    torch.testing.assert_close(condition[:, :1], seen, rtol=1e-4, atol=1e-4)


def test_depth_and_planes_start_at_the_isocentre_wherever_the_cube_is() -> None:
    cube, image = VolumeGrid.centered(12, 8.0), torch.rand(CONE["detector_size"])
    beam = ConeBeam.from_view(View.AP, isocenter_lps=(0.0, -30.0, 0.0), **CONE)
    depth = geometric_condition([image], [everywhere(image)], [beam], cube)[4]
    y = cube.origin_lps[1] + 8.0 * torch.arange(12.0)
    torch.testing.assert_close(depth, ((y + 30.0) / 128.0)[:, None].expand_as(depth))
    cone, parallel = (facing_planes([image], [everywhere(image)], [b], cube) for b in (beam, as_kind(beam, "parallel")))
    torch.testing.assert_close(cone, parallel, rtol=1e-4, atol=1e-4)


def test_a_voxel_whose_ray_meets_the_collimators_edge_is_not_seen() -> None:
    """The first row that is valid lies at -5 mm. Slice 2 lies at -7.5 mm; slice 3, at -2.5 mm, is hidden by a quarter."""
    beam = ParallelBeam.from_view(View.AP, detector_spacing_mm=(10.0, 10.0), detector_size=(40, 40))
    image, valid = torch.rand(40, 40), torch.ones(40, 40, dtype=torch.bool)
    valid[:20] = False
    seen = geometric_condition([image], [valid], [beam], GRID)[3]
    assert seen[:3].all() and not seen[3:].any()


def test_a_block_of_voxels_looks_up_from_its_middle() -> None:
    """On a ramp that is the mean of what its voxels look up."""
    beam = ParallelBeam.from_view(View.LL, detector_spacing_mm=(3.0, 3.0), detector_size=(40, 40))
    ramp = (torch.arange(40.0)[:, None] + 0.3 * torch.arange(40.0))[None, None]
    matrix = torch.from_numpy(beam.lps_to_pixel @ GRID.ijk_to_lps).float()[None]
    voxels = look_up(ramp, matrix, GRID.size, frame=beam.detector_size)
    blocks = look_up(ramp, matrix, (4, 5, 6), frame=beam.detector_size, stride=2)
    torch.testing.assert_close(blocks, torch.nn.functional.avg_pool3d(voxels, 2))
