import json

import numpy as np
import pytest

from diff2ct.geometry import ConeBeam, ParallelBeam, View, angle_between_deg, beam_from_dict

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


def test_dicom_positioner_angles() -> None:
    lao = ConeBeam(primary_angle_deg=90, **CONE)  # LAO: detector at the patient's left
    np.testing.assert_allclose(lao.toward_detector, LEFT, atol=1e-12)
    cranial = ConeBeam(primary_angle_deg=0, secondary_angle_deg=30, **CONE)
    assert cranial.toward_detector @ HEAD == pytest.approx(0.5)
    assert cranial.toward_detector @ POSTERIOR < 0


@pytest.mark.parametrize("kind", [ConeBeam, ParallelBeam])
@pytest.mark.parametrize("view", list(View))
def test_laterality_as_radiologists_hang_films(kind: type, view: View) -> None:
    beam = kind.from_view(view, **(CONE if kind is ConeBeam else PARALLEL))
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


@pytest.mark.parametrize("kind", [ConeBeam, ParallelBeam])
def test_json_round_trip_is_exact(kind: type) -> None:
    values = CONE if kind is ConeBeam else PARALLEL
    beam = kind(
        primary_angle_deg=1 / 3, secondary_angle_deg=0.1, roll_deg=-2, mirrored=True, isocenter_lps=(0.1, 0.2, 0.3), **values
    )
    assert beam_from_dict(json.loads(json.dumps(beam.to_dict()))) == beam


def test_json_with_a_view_instead_of_angles() -> None:
    assert beam_from_dict({"view": "ap", **CONE}) == ConeBeam.from_view(View.AP, **CONE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"source_to_isocenter_mm": 1200.0}, "source_to_isocenter_mm"),
        ({"detector_spacing_mm": (0.0, 1.0)}, "detector_spacing_mm"),
        ({"detector_size": (1, 5)}, "detector_size"),
        ({"primary_angle_deg": float("nan")}, "primary_angle_deg"),
        ({"isocenter_lps": (0.0, 0.0)}, "isocenter_lps"),
        ({"sid": 5}, "sid"),
        ({"kind": "fan"}, "fan"),
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
