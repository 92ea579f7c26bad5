import math

import numpy as np
import pytest

from diff2ct.geometry import ConeBeam, View
from diff2ct.overlay import checkerboard, crop_bands, cut_faces, edges, gradient_correlation, match, without_padding
from diff2ct.volume import VolumeGrid

RNG = np.random.default_rng(5)
DRR = RNG.uniform(0.5, 4.0, (40, 30))
ALL = np.ones(DRR.shape, bool)


def test_match_finds_gain_and_offset() -> None:
    found = match(DRR, 3.0 * DRR - 2.0, ALL)
    assert found.gain == pytest.approx(3.0) and found.offset == pytest.approx(-2.0) and found.agreement == pytest.approx(1.0)


def test_match_looks_only_where_both_see_something() -> None:
    drr, xray, valid = DRR.copy(), 2.0 * DRR + 1.0, ALL.copy()
    drr[:10], xray[:10] = 0.0, 50.0  # the volume does not reach up there
    valid[:, :5], xray[:, :5] = False, -70.0  # the collimator
    found = match(drr, xray, valid)
    assert found.gain == pytest.approx(2.0) and found.agreement == pytest.approx(1.0)


def test_opposite_images_keep_a_positive_gain() -> None:
    found = match(DRR, -DRR, ALL)
    assert found.gain == pytest.approx(1.0) and found.agreement == pytest.approx(-1.0)


@pytest.mark.parametrize("drr", [np.zeros(DRR.shape), np.ones(DRR.shape)], ids=["missed", "flat"])
def test_nothing_to_match_is_nan(drr: np.ndarray) -> None:
    assert math.isnan(match(drr, DRR, ALL).agreement)


def test_agreement_sees_millimetres_although_the_tissue_outside_rules_the_plain_correlation() -> None:
    rows, columns = np.indices((80, 80))
    bone = np.exp(-(((rows - 40) / 4) ** 2) - ((columns - 40) / 3) ** 2)
    xray, drr = bone + 3 * columns / 80, 2.0 * bone + 1.0
    right, off = (gradient_correlation(np.roll(drr, shift, 0), xray, np.ones(drr.shape, bool)) for shift in (0, 3))
    assert right == pytest.approx(1.0) and off < 0.6
    plain = [np.corrcoef(np.roll(drr, shift, 0).ravel(), xray.ravel())[0, 1] for shift in (0, 3)]
    assert 0 < plain[0] < 0.1 and abs(plain[1] - plain[0]) < 0.02


def test_checkerboard_is_half_and_alternates() -> None:
    board = checkerboard((64, 48))
    assert board.shape == (64, 48) and board.mean() == 0.5
    assert not board[0, 0] and board[0, 8] and board[8, 0] and not board[8, 8]


def test_edges_are_thin_lines_at_the_step_and_not_at_the_border_of_the_volume() -> None:
    image = np.zeros((40, 40))
    image[:, 20:] = 1.0
    image += RNG.uniform(0, 1e-3, image.shape)
    seen = np.zeros(image.shape, bool)
    seen[5:35, 5:35] = True
    found = edges(np.where(seen, image, 9.0), seen)
    rows, columns = np.nonzero(found > 0.1)
    assert set(columns) <= {19, 20} and len(set(rows)) >= 25


def test_an_empty_view_has_no_edges() -> None:
    assert not edges(DRR, np.zeros(DRR.shape, bool)).any()


def test_crop_bands_are_the_faces_along_the_beam() -> None:
    beam = ConeBeam.from_view(
        View.AP, source_to_detector_mm=1000, source_to_isocenter_mm=800, detector_spacing_mm=(2, 2), detector_size=(200, 200)
    )
    grid = VolumeGrid.centered(50, 4.0)  # its faces at 100 mm, seen magnified 1000 / 900 and 1000 / 700
    far, near = 100 * 1000 / 900 / 2, 100 * 1000 / 700 / 2
    distance = np.abs(np.arange(200) - 99.5)
    expected = (distance >= far - 3) & (distance <= near + 3)
    bands = crop_bands(grid, np.eye(4), beam)
    assert np.array_equal(bands[100], expected) and np.array_equal(bands[:, 100], expected)
    moved = np.eye(4)
    moved[2, 3] = 20.0  # toward the head: the upper face is now 120 mm above the central ray
    top = np.flatnonzero(crop_bands(grid, moved, beam)[:, 100])[0]
    assert top == pytest.approx(99.5 - 120 * 1000 / 700 / 2 - 3, abs=1.0)


def test_a_volume_beside_the_detector_has_no_crop_bands() -> None:
    beam = ConeBeam.from_view(
        View.LL, source_to_detector_mm=1000, source_to_isocenter_mm=800, detector_spacing_mm=(1, 1), detector_size=(40, 30)
    )
    assert not crop_bands(VolumeGrid.centered(50, 4.0), np.eye(4), beam).any()


def test_crop_bands_of_a_face_that_is_a_line() -> None:
    """Its corners make a bow-tie less than a pixel high: the band is there all the same, from one side to the other."""
    beam = ConeBeam.from_view(
        View.AP, source_to_detector_mm=1000, source_to_isocenter_mm=800, detector_spacing_mm=(2, 2), detector_size=(201, 200)
    )
    grid = VolumeGrid.centered((50, 10, 50), 4.0)
    tilted = np.eye(4)
    slope, turn = np.arctan(100 / 800), np.radians(0.05)  # the upper face looks past the source, but for the turn about y
    tilted[1:3, 1:3] = (np.cos(slope), -np.sin(slope)), (np.sin(slope), np.cos(slope))
    about_y = np.eye(4)
    about_y[0, 0] = about_y[2, 2] = np.cos(turn)
    about_y[0, 2], about_y[2, 0] = np.sin(turn), -np.sin(turn)
    bands = crop_bands(grid, about_y @ tilted, beam)
    above = bands[:100, 45:155]
    assert above.any(axis=0).all() and above.sum(axis=0).max() <= 8


def test_the_faces_that_look_at_source_and_detector_do_not_count_however_the_others_stand() -> None:
    """A low volume far above the central ray, whose lower face is seen at a slant and large."""
    beam = ConeBeam.from_view(
        View.AP, source_to_detector_mm=1000, source_to_isocenter_mm=800, detector_spacing_mm=(4, 4), detector_size=(120, 100)
    )
    grid = VolumeGrid.centered((20, 80, 80), 4.0, (0.0, 0.0, 150.0))
    bands = crop_bands(grid, np.eye(4), beam)
    near, far = (59.5 - 110 * 1000 / (800 + y) / 4 for y in (-160, 160))  # rows of the edges of the lower face
    assert far - near > 10 and bands[math.ceil(near) : math.floor(far) + 1, 50].all()
    assert not bands[math.ceil(far) + 4 :, 50].any()


def test_cut_faces_are_those_with_tissue() -> None:
    hu = np.full((8, 10, 12), -1000.0)
    hu[:, 2:8, 3:] = 40.0  # cut at both ends along k and at the last column along i
    hu[4, 0, 4] = 200.0  # a wire on the table
    assert cut_faces(hu, -500.0).tolist() == [[False, True], [False, False], [True, True]]


@pytest.mark.parametrize("padding", [-3024.0, -1024.0, -1000.0])
@pytest.mark.parametrize("axis", range(3))
def test_slices_that_a_program_added_are_no_air(axis: int, padding: float) -> None:
    """The patient goes on behind the first and the last slice of a scan, but no longer behind empty ones beside them."""
    hu = np.full((10, 12, 14), -990.0)  # noise of air
    hu[2:8, 3:9, 4:10] = 40.0
    inner = [slice(None), slice(None), slice(None)]
    inner[axis] = slice((2, 3, 4)[axis], (6, 7, 8)[axis])
    padded = np.full_like(hu, padding)
    padded[tuple(inner)] = hu[tuple(inner)]
    turned = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    grid = VolumeGrid(hu.shape, (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), turned)
    kept, part = without_padding(padded, grid)
    assert np.array_equal(kept, hu[tuple(inner)]) and part.size == kept.shape
    first = [0, 0, 0]
    first[2 - axis] = inner[axis].start
    assert np.allclose(part.origin_lps, (grid.ijk_to_lps @ [*first, 1.0])[:3])
    assert cut_faces(kept, -500.0)[2 - axis].all() and not cut_faces(padded, -500.0).any()


def test_what_is_no_padding_stays() -> None:
    """Beside a body that lies in air little attenuates: the circle of a scanner ends in a point. And of nothing, nothing."""
    grid = VolumeGrid.centered((6, 41, 41), 2.0)
    rows, columns = np.indices((41, 41)) - 20
    circle = np.where(rows**2 + columns**2 < 18**2, 0.0, -1024.0) * np.ones((6, 1, 1))
    for hu in (circle, np.full(grid.size, -1024.0), np.full(grid.size, 40.0)):
        assert without_padding(hu, grid)[1] == grid


def test_a_face_in_air_has_no_band() -> None:
    beam = ConeBeam.from_view(
        View.AP, source_to_detector_mm=1000, source_to_isocenter_mm=800, detector_spacing_mm=(2, 2), detector_size=(200, 200)
    )
    only_top = np.array([[False, False], [True, True], [False, True]])
    bands = crop_bands(VolumeGrid.centered(50, 4.0), np.eye(4), beam, only_top)
    assert bands[:100, 100].any() and not bands[100:].any() and not bands[100, :].any()
