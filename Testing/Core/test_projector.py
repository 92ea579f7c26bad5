import numpy as np
import pytest
import torch

import phantoms
from diff2ct.geometry import Beam, ConeBeam, FanBeam, ParallelBeam, View
from diff2ct.projector import _cached_plan, backproject, project
from diff2ct.volume import VolumeGrid

CONE = {
    "source_to_detector_mm": 1020.0,
    "source_to_isocenter_mm": 700.0,
    "detector_spacing_mm": (6.0, 5.0),
    "detector_size": (61, 74),
}
PARALLEL = {"detector_spacing_mm": (4.0, 4.5), "detector_size": (60, 52)}
BEAMS: dict[str, Beam] = {
    **{f"cone {v.value}": ConeBeam.from_view(v, **CONE) for v in View},
    **{f"fan {v.value}": FanBeam.from_view(v, **CONE) for v in (View.AP, View.RL)},
    **{f"parallel {v.value}": ParallelBeam.from_view(v, **PARALLEL) for v in (View.AP, View.RL)},
    "cone rolled": ConeBeam.from_view(View.AP, roll_deg=7, **CONE),
    "cone on its side": ConeBeam.from_view(View.AP, roll_deg=90, **CONE),
    "cone oblique": ConeBeam(primary_angle_deg=35, secondary_angle_deg=-15, isocenter_lps=(9, -4, 6), **CONE),
    "cone from above": ConeBeam(primary_angle_deg=10, secondary_angle_deg=70, **CONE),
    "fan oblique": FanBeam(primary_angle_deg=35, isocenter_lps=(9, -4, 6), **CONE),
    "parallel oblique": ParallelBeam(primary_angle_deg=20, secondary_angle_deg=10, mirrored=True, **PARALLEL),
}
GRID = VolumeGrid((34, 30, 38), (5.0, 6.0, 5.5), (-100.0, -85.0, -92.0))
TILT = phantoms.rotation_from_angles(8, -12, 20)
TILTED_GRID = VolumeGrid((34, 30, 38), (5.0, 6.0, 5.5), (-110.0, -60.0, -95.0), tuple(map(tuple, TILT)))


def exact(solids: list, beam: Beam) -> np.ndarray:
    """(H, W) exact line integrals."""
    rows, columns = np.meshgrid(*(np.arange(n) for n in beam.detector_size), indexing="ij")
    pixels = np.stack([rows, columns], -1)
    if not isinstance(beam, ParallelBeam):
        start, end = beam.sources_lps(pixels), beam.pixel_to_lps(pixels)
    else:
        u, v = beam.detector_axes
        along_v = (pixels[..., :1] - beam.principal_point[0]) * beam.detector_spacing_mm[0]
        along_u = (pixels[..., 1:] - beam.principal_point[1]) * beam.detector_spacing_mm[1]
        middle = np.array(beam.isocenter_lps) + along_u * u + along_v * v
        start, end = middle - 1000 * beam.toward_detector, middle + 1000 * beam.toward_detector
    return phantoms.line_integral(solids, start, end)


@pytest.mark.parametrize("grid", [GRID, TILTED_GRID], ids=["straight grid", "tilted grid"])
@pytest.mark.parametrize("name", BEAMS)
@pytest.mark.parametrize("separable", [True, False])
def test_backproject_is_the_adjoint_of_project(name: str, grid: VolumeGrid, separable: bool) -> None:
    beam, generator = BEAMS[name], torch.Generator().manual_seed(1)
    x = torch.randn(grid.size, generator=generator, dtype=torch.float64)
    y = torch.randn(beam.detector_size, generator=generator, dtype=torch.float64)
    forward = float((project(x, grid, beam, separable=separable) * y).sum())
    adjoint = float((x * backproject(y, grid, beam, separable=separable)).sum())
    assert forward == pytest.approx(adjoint, rel=1e-9)


@pytest.mark.parametrize("name", BEAMS)
def test_adjoint_in_single_precision(name: str) -> None:
    beam, generator = BEAMS[name], torch.Generator().manual_seed(2)
    x, y = torch.rand(GRID.size, generator=generator), torch.rand(beam.detector_size, generator=generator)
    forward, adjoint = (project(x, GRID, beam) * y).double().sum(), (x * backproject(y, GRID, beam)).double().sum()
    assert float(forward) == pytest.approx(float(adjoint), rel=1e-5)


@pytest.mark.parametrize("name", BEAMS)
def test_fast_path_equals_general_path(name: str) -> None:
    x = torch.rand(GRID.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    fast, general = (project(x, GRID, BEAMS[name], separable=s) for s in (True, False))
    torch.testing.assert_close(fast, general, rtol=1e-9, atol=1e-9)


SOLIDS = {
    "sphere": [phantoms.sphere((10, -15, 8), 55, 0.02)],
    "ellipsoid": [phantoms.Ellipsoid((-12, 6, -10), (70, 40, 55), 0.02, phantoms.rotation_from_angles(20, 30, -40))],
}


@pytest.mark.parametrize("solid", SOLIDS)
@pytest.mark.parametrize("name", BEAMS)
def test_line_integrals_of_analytic_solids(name: str, solid: str) -> None:
    beam, grid = BEAMS[name], VolumeGrid.centered(56, 4.0)
    volume = torch.from_numpy(phantoms.voxelise(SOLIDS[solid], grid, 3))
    expected, got = exact(SOLIDS[solid], beam), project(volume, grid, beam).numpy()
    error = np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2))
    assert error < 0.04, "4 mm voxels blur the edge; inside, the integral is exact"
    inside = expected > 0.85 * expected.max()
    np.testing.assert_allclose(got[inside].mean(), expected[inside].mean(), rtol=0.01)


@pytest.mark.parametrize("name", ["cone AP", "cone PA", "cone rolled", "cone oblique", "fan AP", "fan oblique", "parallel AP"])
def test_slab_thickness_over_cosine(name: str) -> None:
    beam, grid = BEAMS[name], VolumeGrid.centered(56, 4.0)
    slab, smaller = (phantoms.Slab((0, 0, 0), (side, 26, side), 0.03) for side in (200.0, 80.0))
    through = np.isclose(exact([slab], beam), exact([smaller], beam), rtol=1e-9) & (exact([slab], beam) > 0)
    got = project(torch.from_numpy(phantoms.voxelise([slab], grid, 2)), grid, beam).numpy()
    assert through.sum() > 100, "rays that enter by one large face and leave by the other"
    np.testing.assert_allclose(got[through], exact([slab], beam)[through], rtol=2e-3)


def test_finer_voxels_come_closer() -> None:
    beam, errors = BEAMS["cone oblique"], []
    for size, spacing in ((32, 7.0), (64, 3.5)):
        grid = VolumeGrid.centered(size, spacing)
        got = project(torch.from_numpy(phantoms.voxelise(SOLIDS["ellipsoid"], grid, 3)), grid, beam).numpy()
        errors.append(np.sqrt(np.mean((got - exact(SOLIDS["ellipsoid"], beam)) ** 2)))
    assert errors[1] < 0.5 * errors[0]


def test_a_point_lands_where_geometry_says() -> None:
    grid = VolumeGrid.centered(33, 5.0)
    for name, beam in BEAMS.items():
        volume = torch.zeros(grid.size)
        volume[20, 9, 25] = 1  # k, j, i
        point = grid.ijk_to_lps @ [25, 9, 20, 1]
        image = project(volume, grid, beam)
        rows, columns = (torch.arange(n) for n in image.shape)
        center = [(image.sum(1) * rows).sum() / image.sum(), (image.sum(0) * columns).sum() / image.sum()]
        np.testing.assert_allclose(center, beam.project_points(point[:3]), atol=0.25, err_msg=name)


def test_batches_and_channels_are_independent() -> None:
    x = torch.rand(2, 3, *GRID.size)
    image = project(x, GRID, BEAMS["cone AP"])
    assert image.shape == (2, 3, *CONE["detector_size"])
    torch.testing.assert_close(image[1, 2], project(x[1, 2], GRID, BEAMS["cone AP"]), rtol=1e-4, atol=1e-4)
    volume = backproject(image, GRID, BEAMS["cone AP"])
    assert volume.shape == x.shape


@pytest.mark.parametrize("separable", [True, False])
def test_detector_beside_the_volume_sees_air(separable: bool) -> None:
    beam = ConeBeam.from_view(View.AP, principal_point=(30.0, 400.0), **CONE)
    image = project(torch.rand(GRID.size), GRID, beam, separable=separable)
    assert not image.any()
    assert not backproject(torch.rand(beam.detector_size), GRID, beam, separable=separable).any()


@pytest.mark.parametrize("name", ["cone AP", "cone oblique"])
def test_gradient_to_the_volume_is_the_backprojection(name: str) -> None:
    x = torch.rand(GRID.size, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(BEAMS[name].detector_size, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((project(x, GRID, BEAMS[name]) * weight).sum(), x)
    torch.testing.assert_close(gradient, backproject(weight, GRID, BEAMS[name]))


@pytest.mark.parametrize("name", ["cone AP", "fan oblique", "parallel oblique"])
@pytest.mark.parametrize("entry", [(0, 3), (2, 3), (0, 1)])
def test_gradient_to_the_pose(name: str, entry: tuple[int, int]) -> None:
    grid, beam = VolumeGrid.centered(20, 9.0), BEAMS[name]
    volume = torch.from_numpy(phantoms.voxelise(SOLIDS["ellipsoid"], grid, 2))
    weight = torch.rand(beam.detector_size, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def loss(pose: torch.Tensor) -> torch.Tensor:
        return (project(volume, grid, beam, pose=pose) * weight).sum()

    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([1.3, -0.7, 2.1])
    step = torch.zeros(4, 4, dtype=torch.float64)
    step[entry] = 1e-6
    (gradient,) = torch.autograd.grad(loss(pose.requires_grad_()), pose)
    numeric = (loss((pose + step).detach()) - loss((pose - step).detach())) / 2e-6
    assert float(gradient[entry]) == pytest.approx(float(numeric), rel=1e-3)


def test_moving_the_patient_equals_moving_the_grid() -> None:
    volume = torch.rand(GRID.size, dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([4.0, -3.0, 6.0])
    x, y, z = GRID.origin_lps
    moved = VolumeGrid(GRID.size, GRID.spacing_mm, (x + 4, y - 3, z + 6))
    for beam in BEAMS.values():
        torch.testing.assert_close(project(volume, GRID, beam, pose=pose), project(volume, moved, beam))


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="volume"):
        project(torch.zeros(3, 4, 5), GRID, BEAMS["cone AP"])
    with pytest.raises(ValueError, match="image"):
        backproject(torch.zeros(3, 4), GRID, BEAMS["cone AP"])
    with pytest.raises(ValueError, match="source"):
        project(torch.zeros(GRID.size), GRID, ConeBeam.from_view(View.AP, **{**CONE, "source_to_isocenter_mm": 50.0}))
    with pytest.raises(ValueError, match="pose"):
        project(torch.zeros(GRID.size), GRID, BEAMS["cone AP"], pose=torch.eye(3))


@pytest.mark.parametrize("name", ["cone AP", "cone oblique"])
def test_gradient_to_the_image_is_the_projection(name: str) -> None:
    y = torch.rand(BEAMS[name].detector_size, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(GRID.size, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((backproject(y, GRID, BEAMS[name]) * weight).sum(), y)
    torch.testing.assert_close(gradient, project(weight, GRID, BEAMS[name]))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_turning_the_patient_equals_turning_the_grid(axis: int) -> None:
    """A quarter turn and a little more: other index planes than before then face the beam."""
    degrees = [97.0 if n == axis else 0.0 for n in range(3)]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = phantoms.rotation_from_angles(*degrees), (4, -3, 6)
    matrix = pose @ GRID.ijk_to_lps
    direction = matrix[:3, :3] / GRID.spacing_mm
    turned = VolumeGrid(GRID.size, GRID.spacing_mm, tuple(matrix[:3, 3]), tuple(map(tuple, direction)))
    volume = torch.rand(GRID.size, dtype=torch.float64)
    for name in ("cone AP", "fan RL", "parallel oblique"):
        image = project(volume, GRID, BEAMS[name], pose=torch.from_numpy(pose))
        torch.testing.assert_close(image, project(volume, turned, BEAMS[name]), rtol=1e-6, atol=1e-6)


def test_thick_slices_do_not_draw_the_planes_to_themselves() -> None:
    """The beam rises by 15 degrees: it crosses columns every 2.5 mm and slices of 20 mm every 77 mm only."""
    beam = ConeBeam.from_view(View.PA, secondary_angle_deg=15, **CONE)
    grid = VolumeGrid((10, 70, 70), (2.5, 2.5, 20.0), (-86.25, -86.25, -90.0))
    ball = [phantoms.sphere((0, 0, 0), 60, 0.02)]
    expected, got = exact(ball, beam), project(torch.from_numpy(phantoms.voxelise(ball, grid, 2)), grid, beam).numpy()
    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 0.1


@pytest.mark.parametrize("view", list(View))
def test_a_beam_along_the_axes_takes_the_fast_path(view: View) -> None:
    """The volume lies beside the axis of the beam, where a column of pixels is not a column of the detector's middle."""
    beside = VolumeGrid((8, 9, 10), (5.0, 6.0, 5.5), (40.0, 50.0, 60.0))
    for kind, values in ((ConeBeam, CONE), (FanBeam, CONE), (ParallelBeam, PARALLEL)):
        plan = _cached_plan(beside, kind.from_view(view, **values), None, True, torch.float32, torch.device("cpu"))
        assert plan.separable, kind.KIND


def test_the_volume_begins_where_its_outermost_voxels_do() -> None:
    grid = VolumeGrid.centered(16, 10.0)  # to 80 mm, the last centres are at 75 mm
    outside, inside = (ConeBeam.from_view(View.AP, **{**CONE, "source_to_isocenter_mm": mm}) for mm in (81.0, 79.0))
    project(torch.zeros(grid.size), grid, outside)
    with pytest.raises(ValueError, match="1 mm behind the source"):
        project(torch.zeros(grid.size), grid, inside)


def test_a_detector_that_is_hardly_turned_is_not_taken_for_a_straight_one() -> None:
    beam = ConeBeam.from_view(View.AP, roll_deg=0.2, **CONE)  # a tenth of a voxel from the first row to the last
    x = torch.rand(GRID.size, dtype=torch.float64)
    torch.testing.assert_close(project(x, GRID, beam), project(x, GRID, beam, separable=False))


def test_gradient_to_a_turn_knows_that_the_way_through_a_slab_becomes_longer() -> None:
    """36 mm at right angles, 36 mm / cos(angle) aslant."""
    grid = VolumeGrid.centered((40, 9, 40), 4.0)
    beam = ParallelBeam.from_view(View.AP, detector_spacing_mm=(4, 4), detector_size=(3, 3))
    angle = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 0], pose[0, 1], pose[1, 0], pose[1, 1] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    middle = project(torch.ones(grid.size, dtype=torch.float64), grid, beam, pose=pose)[1, 1]
    (gradient,) = torch.autograd.grad(middle, angle)
    assert middle.item() == pytest.approx(36 / np.cos(0.2))
    assert float(gradient) == pytest.approx(36 * np.sin(0.2) / np.cos(0.2) ** 2)
