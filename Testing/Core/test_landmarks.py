"""Geometry from what the pictures show: a known length, and landmarks that are seen in both views."""

from dataclasses import replace

import numpy as np
import pytest

from diff2ct.geometry import ConeBeam, FanBeam, ParallelBeam, View
from diff2ct.landmarks import height_gap_mm, match_landmarks, spacing_of_length, with_known_length, with_landmarks
from diff2ct.radiograph import Radiograph

BOTH = ("principal_point", "detector_spacing_mm")


def beam(view, kind=ConeBeam, **fields):
    distances = {} if kind is ParallelBeam else {"source_to_detector_mm": 1150.0, "source_to_isocenter_mm": 900.0}
    values = {"detector_spacing_mm": (0.5, 0.4), "detector_size": (900, 1000), **distances, **fields}
    return kind.from_view(view, **values)


def structures(count, seed=0):
    """(N, 3) points in the patient, not in one line."""
    return np.random.default_rng(seed).uniform((-60, -70, -110), (60, 70, 110), (count, 3))


@pytest.mark.parametrize("kind", [ConeBeam, FanBeam, ParallelBeam])
def test_a_cropped_picture_is_put_back(kind):
    ap, true = (
        beam(View.AP, kind),
        beam(View.LL, kind, source_to_detector_mm=1200.0) if kind is ConeBeam else beam(View.LL, kind),
    )
    points = structures(3)
    row, column = true.principal_point
    told = replace(true, principal_point=(row + 41.5, column))
    match = match_landmarks(ap, told, ap.project_points(points), true.project_points(points))
    assert match.moved == 1 and match.size == 1
    assert match.fields == {"principal_point": pytest.approx((row, column), abs=1e-8)}
    assert match.shift_mm == pytest.approx(-41.5 * true.patient_spacing_mm[0])
    assert match.before_mm == height_gap_mm(ap, told, ap.project_points(points), true.project_points(points)) > 10
    assert match.after_mm == pytest.approx(0, abs=1e-8)
    np.testing.assert_allclose(match.points_lps, points, atol=1e-8)


@pytest.mark.parametrize("kind", [ConeBeam, FanBeam])
@pytest.mark.parametrize("tilt", [0.0, 8.0])
def test_two_landmarks_tell_the_size_of_an_uncalibrated_picture_as_well(kind, tilt):
    tilted = {"secondary_angle_deg": tilt, "roll_deg": tilt / 2} if kind is ConeBeam else {}
    ap, true = beam(View.PA, kind), beam(View.RL, kind, **tilted)
    points = np.array([[10.0, -20.0, 80.0], [-15.0, 45.0, -90.0]])
    told = replace(true, principal_point=(430.0, 499.5), detector_spacing_mm=(0.575, 0.46))
    match = match_landmarks(ap, told, ap.project_points(points), true.project_points(points), assumed=((), BOTH))
    assert match.size == pytest.approx(1 / 1.15)
    assert match.fields["detector_spacing_mm"] == pytest.approx((0.5, 0.4))
    assert match.fields["principal_point"] == pytest.approx((449.5, 499.5))
    np.testing.assert_allclose(match.points_lps, points, atol=1e-6)


def test_a_size_that_is_known_stays_and_so_does_one_that_landmarks_cannot_tell():
    ap, true = beam(View.AP), beam(View.LL)
    told = replace(true, detector_spacing_mm=(0.55, 0.44))
    high_and_low, near = np.array([[0, 0, 90.0], [5, 5, -90.0]]), np.array([[0, 0, 30.0], [5, 5, -9.0]])
    for points, assumed in ((high_and_low, ("principal_point",)), (near, BOTH)):
        match = match_landmarks(ap, told, ap.project_points(points), true.project_points(points), assumed=((), assumed))
        assert match.size == 1 and set(match.fields) == {"principal_point"}
        assert match.after_mm > 0.5  # a wrong size keeps them apart


@pytest.mark.parametrize(
    ("assumed", "moved"),
    [
        (((), ()), 1),
        ((("principal_point",), ("principal_point",)), 1),
        ((("principal_point",), ()), 0),
        ((BOTH, ("principal_point",)), 0),
        ((("principal_point",), BOTH), 1),
    ],
)
def test_the_view_of_which_less_is_known_is_moved(assumed, moved):
    ap, lateral = beam(View.AP), beam(View.LL)
    points, beams = structures(2, seed=3), [ap, lateral]
    row, column = beams[moved].principal_point
    seen = [b.project_points(points) for b in beams]
    beams[moved] = replace(beams[moved], principal_point=(row - 12.0, column))
    match = match_landmarks(*beams, *seen, assumed=assumed)
    assert match.moved == moved
    assert match.fields["principal_point"] == pytest.approx((row, column))


def test_a_stand_that_was_moved_instead_is_nearly_the_same():
    """Tube and detector stood 30 mm lower for the lateral view: at 60 mm from the middle rays differ by some 2 mm."""
    ap, told = beam(View.AP), beam(View.LL)
    true = replace(told, isocenter_lps=(0.0, 0.0, -30.0))
    points = np.array([[0, 60.0, 20.0], [60.0, 0, -40.0], [-60.0, 30.0, 0]])
    match = match_landmarks(ap, told, ap.project_points(points), true.project_points(points))
    assert match.shift_mm == pytest.approx(-30, abs=1)
    assert match.before_mm > 28 and match.after_mm < 2.5


def test_clicks_that_are_off_are_averaged():
    ap, true = beam(View.AP), beam(View.LL)
    points, rng = structures(40), np.random.default_rng(5)
    clicks = [b.project_points(points) + rng.normal(0, 2, (40, 2)) for b in (ap, true)]
    match = match_landmarks(ap, replace(true, principal_point=(400.0, 499.5)), *clicks)
    assert match.fields["principal_point"][0] == pytest.approx(449.5, abs=1.5)
    assert 0.3 < match.after_mm < 2


def test_what_happened_is_told_in_words():
    ap, true = beam(View.AP), beam(View.LL)
    points = np.array([[0, 0, 80.0], [0, 0, -80.0]])
    told = replace(true, principal_point=(449.5 - 20, 499.5), detector_spacing_mm=(0.6, 0.48))
    match = match_landmarks(ap, told, ap.project_points(points), true.project_points(points), assumed=((), BOTH))
    assert str(match) == (
        "landmarks: the lateral picture was moved 7.8 mm toward the head and its pixels made 0.833 times as large; they "
        f"were {match.before_mm:.1f} mm apart in height and are 0.0 mm"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"in_ap": [[1.0, 2.0]]}, "1 and 2 landmarks"),
        ({"in_ap": [[900.0, 5.0], [1.0, 1.0]]}, r"in_ap: got \(900, 5\).*900 x 1000 pixels"),
        ({"in_lateral": [[float("nan"), 5.0], [1.0, 1.0]]}, r"in_lateral: got \(nan, 5\)"),
        ({"in_lateral": [1.0, 2.0]}, r"in_lateral: got shape \(2,\)"),
        ({"in_lateral": []}, "in_lateral: got shape"),
        ({"in_lateral": [["high", "low"]]}, "in_lateral: got"),
        ({"lateral": beam(View.PA)}, "rays hardly cross"),
        ({"lateral": beam(View.LL, roll_deg=90.0)}, "hangs upright"),
        ({"in_ap": [[700.0, 499.5], [200.0, 499.5]]}, "contradict each other.*same order"),
        ({"in_ap": [[340.0, 499.5], [560.0, 499.5]]}, "pixels .* times as large in the lateral picture, accepted are 0.5 to 2"),
    ],
)
def test_landmarks_that_cannot_be_are_refused(change, words):
    arguments = {"ap": beam(View.AP), "lateral": beam(View.LL), "in_ap": [[200.0, 499.5], [700.0, 499.5]]}
    arguments |= {"in_lateral": [[200.0, 499.5], [700.0, 499.5]]}
    with pytest.raises(ValueError, match=words):
        match_landmarks(**{**arguments, **change}, assumed=((), BOTH))


def test_a_known_length_gives_the_size_of_a_pixel():
    """A ball of 25 mm at the isocentre whose picture spans 100 columns: 0.25 mm in the patient, times 1150 / 900 behind it."""
    ap = beam(View.AP)
    row_mm, column_mm = spacing_of_length(ap, [[450.0, 400.0], [450.0, 500.0]], 25.0)
    assert column_mm == pytest.approx(0.25 * 1150 / 900)
    assert row_mm / column_mm == pytest.approx(0.5 / 0.4)
    calibrated = replace(ap, detector_spacing_mm=(row_mm, column_mm))
    ends = [[300.0, 400.0], [430.0, 480.0]]
    for kind in (calibrated, beam(View.LL, FanBeam), beam(View.AP, ParallelBeam)):
        true_mm = np.hypot(*(np.subtract(*ends) * kind.patient_spacing_mm))
        wrong = replace(kind, detector_spacing_mm=tuple(1.3 * mm for mm in kind.detector_spacing_mm))
        assert spacing_of_length(wrong, ends, true_mm) == pytest.approx(kind.detector_spacing_mm)


@pytest.mark.parametrize(
    ("ends", "length_mm", "words"),
    [
        ([[1, 1], [50, 50]], 0.0, "length_mm: got 0.0"),
        ([[1, 1], [50, 50]], float("nan"), "length_mm: got nan"),
        ([[1, 1], [4, 4]], 10.0, "4.2 pixels apart"),
        ([[1, 1], [50, 5000]], 10.0, r"ends: got \(50, 5000\)"),
        ([[1, 1], [50, 50], [60, 60]], 10.0, "2 points"),
    ],
)
def test_lengths_that_tell_nothing_are_refused(ends, length_mm, words):
    with pytest.raises(ValueError, match=words):
        spacing_of_length(beam(View.AP), ends, length_mm)


def radiograph(geometry, **fields):
    return Radiograph(np.random.default_rng(0).random(geometry.detector_size, np.float32), geometry, **fields)


def test_radiographs_know_afterwards_what_they_were_told():
    ap = radiograph(beam(View.AP), assumed=("detector_spacing_mm", "polarity"))
    calibrated = with_known_length(ap, [[450.0, 400.0], [450.0, 500.0]], 25.0)
    assert calibrated.assumed == ("polarity",) and calibrated.geometry.detector_spacing_mm[1] == pytest.approx(
        0.25 * 1150 / 900
    )

    true, points = beam(View.LL), np.array([[0, 0, 80.0], [0, 20, -80.0]])
    told = replace(true, principal_point=(430.0, 499.5), detector_spacing_mm=(0.6, 0.48))
    lateral = radiograph(told, assumed=("view", *BOTH))
    seen = ap.geometry.project_points(points), true.project_points(points)
    half_known = with_landmarks(radiograph(ap.geometry, assumed=("detector_spacing_mm",)), lateral, *seen)[1]
    assert half_known.assumed == ("view", "detector_spacing_mm")  # as good as the other's, and that is assumed
    assert half_known.reasons["detector_spacing_mm"].endswith("landmarks; all sizes are in proportion to it")
    assert half_known.geometry.detector_spacing_mm == pytest.approx((0.5, 0.4))

    same, moved, match = with_landmarks(radiograph(ap.geometry), lateral, *seen)
    assert same.geometry == ap.geometry and match.moved == 1
    assert moved.assumed == ("view",)
    assert moved.geometry.principal_point == pytest.approx((449.5, 499.5))
    assert moved.geometry.detector_spacing_mm == pytest.approx((0.5, 0.4))
