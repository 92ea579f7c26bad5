"""Measures of vertebrae that were built to measure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diff2ct.phantom import LABELS, make_phantom
from diff2ct.volume import VolumeGrid
from diff2ct_training.scoring.shapes import cobb_deg, lordosis_deg, score_shapes, shapes_of

MM = 1.0
SPACING = (MM, MM, MM)
L5, L4 = LABELS["L5"], LABELS["L4"]


def spine(
    *,
    height: float = 28.0,
    front_loss: float = 0.0,
    canal: float = 16.0,
    pedicle: float = 8.0,
    sagittal_deg: float = 0.0,
    coronal_deg: float = 0.0,
) -> np.ndarray:
    """L4 above L5, each a box 48 x 34 x `height` mm with a ring behind it. The upper endplate of L4 falls by `front_loss` from
    back to front; all of L5 is sheared: it rises toward the back and toward the left by these angles."""
    labels = np.zeros((110, 80, 80), np.uint8)
    z, y, x = np.meshgrid(*(np.arange(n) + 0.5 - n / 2 for n in labels.shape), indexing="ij")
    for number, middle, loss, tilts in ((L4, 25.0, front_loss, (0.0, 0.0)), (L5, -25.0, 0.0, (sagittal_deg, coronal_deg))):
        rise = sum(math.tan(math.radians(deg)) * along for deg, along in zip(tilts, (y + 17.0, x), strict=True))
        level = z - middle - rise
        body = (np.abs(x) < 24) & (y > -34) & (y < 0) & (level > -height / 2) & (level < height / 2 + loss * y / 34)
        beside = (y >= 0) & (y < canal + 6) & (level > 0) & (level < 10) & (np.abs(x) < 10 + pedicle)
        labels[body | (beside & ~((np.abs(x) < 10) & (y < canal)))] = number
    return labels


def test_lengths_are_those_it_was_built_with() -> None:
    measured = shapes_of(spine(), SPACING)
    assert list(measured) == [L5, L4]
    expected = {"height_anterior": 28, "height_middle": 28, "height_posterior": 28, "canal": 16, "pedicle": 8}
    assert measured[L4].lengths_mm == pytest.approx(expected, abs=0.5)


def test_a_wedge_is_lower_in_front() -> None:
    lengths = shapes_of(spine(front_loss=10.0), SPACING)[L4].lengths_mm
    assert lengths["height_anterior"] == pytest.approx(19.0, abs=0.7)  # the front fifth: 0.9 of the loss
    assert lengths["height_middle"] == pytest.approx(23.0, abs=0.7)
    assert lengths["height_posterior"] == pytest.approx(27.0, abs=0.7)


@pytest.mark.parametrize("deg", [-12.0, 9.0])
def test_angles_are_those_it_was_built_with(deg: float) -> None:
    bent = shapes_of(spine(sagittal_deg=deg), SPACING)
    assert bent[L5].sagittal_deg == pytest.approx((deg, deg), abs=0.7)
    assert lordosis_deg(bent, [L5, L4]) == pytest.approx(deg, abs=0.7)
    assert cobb_deg(bent, [L5, L4]) == pytest.approx(0.0, abs=0.7)
    assert bent[L5].lengths_mm["height_middle"] == pytest.approx(28 * math.cos(math.radians(deg)), abs=0.5)
    side = shapes_of(spine(coronal_deg=deg), SPACING)
    assert side[L5].coronal_deg == pytest.approx((deg, deg), abs=0.7)
    assert cobb_deg(side, [L5, L4]) == pytest.approx(abs(deg), abs=0.7)


def test_lengths_and_angles_are_in_mm_whatever_the_voxels() -> None:
    spacing, rise = (2.0, 1.0, 1.5), math.tan(math.radians(9.0))
    lengths = shapes_of(spine(), spacing)[L4].lengths_mm
    expected = {"height_anterior": 42, "height_middle": 42, "height_posterior": 42, "canal": 16, "pedicle": 16}
    assert lengths == pytest.approx(expected, abs=0.8)
    back, side = (shapes_of(spine(**{f"{plane}_deg": 9.0}), spacing)[L5] for plane in ("sagittal", "coronal"))
    assert back.sagittal_deg == pytest.approx((math.degrees(math.atan(1.5 * rise)),) * 2, abs=0.7)
    assert side.coronal_deg == pytest.approx((math.degrees(math.atan(1.5 / 2.0 * rise)),) * 2, abs=0.7)


def test_errors_are_the_differences_that_were_put_in() -> None:
    truth = spine()
    assert all(value == 0 for value in score_shapes(truth, truth, SPACING).values())
    errors = score_shapes(spine(canal=12.0, pedicle=5.0, sagittal_deg=10.0), truth, SPACING)
    assert errors["vertebra_canal_error_mm"] == pytest.approx(4.0, abs=0.5)
    assert errors["vertebra_pedicle_error_mm"] == pytest.approx(3.0, abs=0.5)
    assert errors["lordosis_error_deg"] == pytest.approx(10.0, abs=0.7)
    assert errors["vertebra_tilt_error_deg"] == pytest.approx(5.0, abs=0.7)  # one of two vertebrae
    assert errors["cobb_error_deg"] == pytest.approx(0.0, abs=0.7)


def test_what_cannot_be_measured_is_not_made_up() -> None:
    truth = spine()
    lost = np.where(truth == L4, 0, truth)
    errors = score_shapes(lost, truth, SPACING)
    assert errors["vertebra_canal_error_mm"] == 0.0 and math.isnan(errors["lordosis_error_deg"])
    solid = truth.copy()
    solid[:, 40:] = 0  # bodies alone enclose no canal
    assert shapes_of(solid, SPACING) == {}
    assert all(math.isnan(value) for value in score_shapes(solid, truth, SPACING).values())
    known = np.ones(truth.shape, bool)
    known[:50] = False
    assert list(shapes_of(truth, SPACING, known)) == [L4], "L5 is cut"


def test_a_phantom_has_the_measures_it_was_drawn_with() -> None:
    """Tilted vertebrae of 2 mm voxels with hollow endplates, whose rims no axial slice tells from the arch."""
    phantom = make_phantom(5, num_screws=0)
    grid = VolumeGrid.centered((124, 112, 64), 2.0)
    measured = shapes_of(phantom.render(grid).labels, grid.spacing_mm)
    drawn = {v.label: v for v in phantom.anatomy.vertebrae if v.name in ("L5", "L4", "L3", "L2", "L1", "T12")}
    assert set(measured) >= set(drawn)
    for label, vertebra in drawn.items():
        tilt = float(np.mean(measured[label].sagittal_deg))
        assert tilt == pytest.approx(-math.degrees(math.asin(vertebra.pose.rotation[1, 2])), abs=4.0), vertebra.name
        heights = [measured[label].lengths_mm[f"height_{place}"] for place in ("anterior", "middle", "posterior")]
        assert np.mean(heights) == pytest.approx(vertebra.size.height, abs=3.5), vertebra.name
        assert measured[label].lengths_mm["pedicle"] == pytest.approx(vertebra.size.pedicle_width, abs=3.0), vertebra.name
        assert 0.9 < measured[label].lengths_mm["canal"] / vertebra.size.canal_depth < 1.4, vertebra.name
