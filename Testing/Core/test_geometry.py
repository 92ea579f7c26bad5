import json

import numpy as np
import pytest

from diff2ct.geometry import BEAMS, ConeBeam, FanBeam, ParallelBeam, View, angle_between_deg, as_kind, beam_from_dict

CONE = {
    "source_to_detector_mm": 1000.0,
    "source_to_isocenter_mm": 800.0,
    "detector_spacing_mm": (0.5, 0.4),
    "detector_size": (801, 1001),
}
PARALLEL = {"detector_spacing_mm": (0.5, 0.4), "detector_size": (801, 1001)}
LEFT, POSTERIOR, HEAD = np.eye(3)


@pytest.mark.parametrize(
    ("view", "toward_detector"), [(View.AP, POSTERIOR), (View.PA, -POSTERIOR), (View.LL, LEFT), (View.RL, -LEFT)]
)
def test_detector_stands_where_the_view_says(view: View, toward_detector: np.ndarray) -> None:
    beam = ConeBeam.from_view(view, **CONE)
    np.testing.assert_allclose(beam.toward_detector, toward_detector, atol=1e-12)
    np.testing.assert_allclose(beam.source_lps, -800 * toward_detector, atol=1e-9)
    assert beam.view is view


@pytest.mark.parametrize(
    ("angle", "view"),
    [(44, View.PA), (-44, View.PA), (80, View.LL), (-80, View.RL), (260, View.RL), (136, View.AP), (-136, View.AP)],
)
def test_an_oblique_beam_is_of_the_nearest_standard_view(angle: float, view: View) -> None:
    assert ConeBeam(primary_angle_deg=angle, **CONE).view is view


def test_dicom_positioner_angles() -> None:
    lao = ConeBeam(primary_angle_deg=90, **CONE)  # LAO: detector at the patient's left
    np.testing.assert_allclose(lao.toward_detector, LEFT, atol=1e-12)
    cranial = ConeBeam(primary_angle_deg=0, secondary_angle_deg=30, **CONE)
    assert cranial.toward_detector @ HEAD == pytest.approx(0.5)
    assert cranial.toward_detector @ POSTERIOR < 0


@pytest.mark.parametrize("kind", BEAMS.values())
@pytest.mark.parametrize("view", list(View))
def test_laterality_as_radiologists_hang_films(kind: type, view: View) -> None:
    beam = kind.from_view(view, **(PARALLEL if kind is ParallelBeam else CONE))
    center = beam.project_points([0, 0, 0])
    head = beam.project_points(10 * HEAD) - center
    side = beam.project_points(10 * (POSTERIOR if view.is_lateral else LEFT)) - center
    assert head[0] < 0, "the head is up"
    assert side[1] > 0, "the patient's left, or back, is on the right of the image"
    assert abs(head[1]) < 1e-6 and abs(side[0]) < 1e-6


def test_magnification_by_depth() -> None:
    beam = ConeBeam.from_view(View.AP, **CONE)
    assert beam.magnification == 1.25
    shift_mm = []
    for y in (-100.0, 0.0, 100.0):
        here, there = beam.project_points([[0, y, 0], [20, y, 0]])
        shift_mm.append((there - here)[1] * 0.4 / 20)
    np.testing.assert_allclose(shift_mm, [1000 / 700, 1.25, 1000 / 900])


def test_a_scanning_fan_magnifies_across_the_body_only() -> None:
    beam = FanBeam.from_view(View.AP, **CONE)
    across_mm, along_mm = [], []
    for y in (-100.0, 0.0, 100.0):
        here, left, up = beam.project_points([[0, y, 0], [20, y, 0], [0, y, 20]])
        across_mm.append((left - here)[1] * 0.4 / 20)
        along_mm.append((here - up)[0] * 0.5 / 20)
    np.testing.assert_allclose(across_mm, [1000 / 700, 1.25, 1000 / 900])
    np.testing.assert_allclose(along_mm, 1.0)
    assert beam.patient_spacing_mm == (0.5, pytest.approx(0.4 / 1.25))


def test_a_scanning_fan_and_a_cone_agree_in_the_row_of_the_isocentre() -> None:
    cone, fan = (kind(primary_angle_deg=95, isocenter_lps=(5, -6, 7), **CONE) for kind in (ConeBeam, FanBeam))
    middle = np.array([[30.0, 20.0, 7.0], [-60.0, 4.0, 7.0]])
    np.testing.assert_allclose(fan.project_points(middle), cone.project_points(middle))


def test_every_row_of_a_fan_has_its_own_source() -> None:
    beam = FanBeam(primary_angle_deg=80, isocenter_lps=(5, -6, 7), **CONE)
    pixels = np.array([[0.0, 3.0], [400.0, 500.0], [800.0, 999.0]])
    source, end = beam.sources_lps(pixels), beam.pixel_to_lps(pixels)
    np.testing.assert_allclose(source[:, 2], end[:, 2], err_msg="each ray stays at its height")
    np.testing.assert_allclose(source[1], beam.source_lps)
    for share in (0.3, 0.6, 1.0):
        np.testing.assert_allclose(beam.project_points(source + share * (end - source)), pixels, atol=1e-8)


@pytest.mark.parametrize("field", ["roll_deg", "secondary_angle_deg"])
def test_a_scanning_fan_is_not_tilted(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: got 3.0, accepted is 0"):
        FanBeam(primary_angle_deg=90, **{field: 3}, **CONE)


@pytest.mark.parametrize("kind", BEAMS.values())
@pytest.mark.parametrize("angle", [90.0, 97.0, 180.0, -84.0])
def test_rays_meet_a_plane_where_points_on_it_have_the_same_pixel(kind: type, angle: float) -> None:
    beam = kind(primary_angle_deg=angle, isocenter_lps=(5, -6, 7), **(PARALLEL if kind is ParallelBeam else CONE))
    across = [0.0, 2.0, 0.0] if beam.view.is_lateral else [2.0, 0.0, 0.0]
    plane = np.vstack([np.stack([across, [0.0, 0.0, -2.0], beam.isocenter_lps], axis=1), [0.0, 0.0, 1.0]])
    points = np.random.default_rng(0).uniform(-100, 100, (20, 3))
    a, b, w, v = beam.onto_plane(plane) @ np.concatenate([points, np.ones((20, 1))], axis=1).T
    on_plane = (plane @ np.stack([a / w, b / v, np.ones(20)]))[:3].T
    np.testing.assert_allclose(beam.project_points(on_plane), beam.project_points(points), atol=1e-8)


def test_a_plane_across_the_scan_is_refused() -> None:
    across = np.vstack([np.stack([[0, 0, 1], [1, 0, 0], [0, 0, 0]], axis=1), [0, 0, 1]])
    with pytest.raises(ValueError, match="plane_to_lps"):
        FanBeam.from_view(View.AP, **CONE).onto_plane(across)


def test_pixel_and_point_are_inverse_on_the_detector() -> None:
    beam = ConeBeam(
        primary_angle_deg=37, secondary_angle_deg=-11, roll_deg=4, mirrored=True,
        principal_point=(390.25, 511.5), isocenter_lps=(5, -6, 7), **CONE,
    )  # fmt: skip
    pixels = np.array([[0.0, 0.0], [800.0, 1000.0], [390.25, 511.5], [123.4, 567.8]])
    np.testing.assert_allclose(beam.project_points(beam.pixel_to_lps(pixels)), pixels, atol=1e-8)
    np.testing.assert_allclose(beam.project_points(beam.isocenter_lps), [390.25, 511.5], atol=1e-9)


@pytest.mark.parametrize("view", list(View))
def test_roll_turns_the_detector_not_the_beam(view: View) -> None:
    """The patient appears turned counter-clockwise, whatever the view and its mirroring: at +20 degrees the head leans left."""
    plain, rolled = (ConeBeam.from_view(view, roll_deg=r, **CONE) for r in (0, 20))
    np.testing.assert_allclose(plain.toward_detector, rolled.toward_detector)
    head_mm = (rolled.project_points(10 * HEAD) - np.array(plain.principal_point)) * (0.5, 0.4)
    np.testing.assert_allclose(head_mm, [-12.5 * np.cos(np.radians(20)), -12.5 * np.sin(np.radians(20))], atol=1e-6)


def test_parallel_rays_do_not_magnify() -> None:
    beam = ParallelBeam.from_view(View.LL, **PARALLEL)
    for x in (-300.0, 0.0, 300.0):
        here, there = beam.project_points([[x, 0, 0], [x, 20, 0]])
        assert (there - here)[1] * 0.4 == pytest.approx(20)
    with pytest.raises(AttributeError, match="source"):
        _ = beam.source_lps


@pytest.mark.parametrize("kind", BEAMS.values())
def test_json_round_trip_is_exact(kind: type) -> None:
    values = {**(PARALLEL if kind is ParallelBeam else CONE), **({} if kind is FanBeam else {"roll_deg": -2})}
    beam = kind(primary_angle_deg=1 / 3, mirrored=True, isocenter_lps=(0.1, 0.2, 0.3), **values)
    assert beam_from_dict(json.loads(json.dumps(beam.to_dict()))) == beam


@pytest.mark.parametrize("kind", BEAMS)
def test_another_kind_of_beam_agrees_at_the_isocentre(kind: str) -> None:
    cone = ConeBeam(primary_angle_deg=80, isocenter_lps=(5, -6, 7), **CONE)
    other = as_kind(cone, kind)
    u, v = cone.detector_axes
    facing = np.array(cone.isocenter_lps) + np.random.default_rng(1).uniform(-90, 90, (9, 2)) @ np.stack([u, v])
    assert other.KIND == kind
    np.testing.assert_allclose(other.project_points(facing), cone.project_points(facing), atol=1e-8)
    if kind == "parallel":
        with pytest.raises(ValueError, match="kind: got 'cone' for parallel rays"):
            as_kind(other, "cone")
    else:
        assert as_kind(other, "cone") == cone
    with pytest.raises(ValueError, match="kind"):
        as_kind(cone, "helix")


def test_json_with_a_view_instead_of_angles() -> None:
    assert beam_from_dict({"view": "ap", **CONE}) == ConeBeam.from_view(View.AP, **CONE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"source_to_isocenter_mm": 1200.0}, "source_to_isocenter_mm"),
        ({"source_to_isocenter_mm": 1000.0}, "source_to_isocenter_mm"),
        ({"detector_spacing_mm": (0.0, 1.0)}, "detector_spacing_mm"),
        ({"detector_size": (1, 5)}, "detector_size"),
        ({"primary_angle_deg": float("nan")}, "primary_angle_deg"),
        ({"isocenter_lps": (0.0, 0.0)}, "isocenter_lps"),
        ({"sid": 5}, "sid"),
        ({"kind": "helix"}, "helix"),
        ({"view": "LATERAL"}, "LATERAL"),
    ],
)
def test_bad_geometry_is_refused_by_name(change: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        beam_from_dict({"view": "AP", **CONE, **change})


def test_missing_distances_are_named() -> None:
    with pytest.raises(ValueError, match="source_to_detector_mm"):
        beam_from_dict({"view": "AP", **PARALLEL})


def test_angle_between_views() -> None:
    ap, lateral = (ConeBeam.from_view(v, **CONE) for v in (View.AP, View.RL))
    assert angle_between_deg(ap, lateral) == pytest.approx(90)
    assert angle_between_deg(ap, ConeBeam.from_view(View.PA, **CONE)) == pytest.approx(0)
    assert angle_between_deg(ap, ConeBeam(primary_angle_deg=100, **CONE)) == pytest.approx(80)


def test_a_beam_and_itself_are_no_degrees_apart() -> None:
    for angle in range(0, 360, 5):
        oblique = ConeBeam(primary_angle_deg=angle, secondary_angle_deg=11, **CONE)  # some squares of these add up to 1 + 2e-16
        assert angle_between_deg(oblique, oblique) == pytest.approx(0, abs=1e-5)


def test_a_field_that_is_given_counts_more_than_the_views_own() -> None:
    oblique = ConeBeam.from_view(View.AP, primary_angle_deg=170, mirrored=False, **CONE)
    assert (oblique.primary_angle_deg, oblique.mirrored) == (170, False)
    assert beam_from_dict({"view": "AP", "primary_angle_deg": 170, "mirrored": False, **CONE}) == oblique
