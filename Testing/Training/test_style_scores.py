import numpy as np
import pytest
import torch

from diff2ct_training.style_scores import landmark_shifts, style_error

VALID = torch.ones(80, 80, dtype=torch.bool)
LANDMARKS = np.array([[30.0, 30.0], [45.0, 38.0], [38.0, 48.0]])


def blobs(rows: float = 0.0, columns: float = 0.0) -> torch.Tensor:
    """Discs all over the image, moved by (rows, columns) pixels."""
    r, c = torch.meshgrid(torch.arange(80.0) - rows, torch.arange(80.0) - columns, indexing="ij")
    image = torch.zeros(80, 80)
    rng = np.random.default_rng(0)
    for row, column, radius in zip(*rng.uniform(0, 80, (2, 60)), rng.uniform(2, 7, 60), strict=True):
        image += torch.sigmoid(2 * (radius - ((r - row).square() + (c - column).square()).sqrt()))
    return image


@pytest.mark.parametrize("moved", [(0.0, 0.0), (1.0, -2.0), (0.5, 0.25), (-1.3, 2.6)])
def test_a_known_shift_is_found(moved: tuple[float, float]) -> None:
    shifts = landmark_shifts(blobs(), blobs(*moved), VALID, LANDMARKS)
    np.testing.assert_allclose(shifts, np.tile(moved, (3, 1)), atol=0.12)


def test_another_contrast_is_no_shift() -> None:
    styled = 3 + torch.log(0.2 + blobs())
    assert np.abs(landmark_shifts(blobs(), styled, VALID, LANDMARKS)).max() < 0.1
    shifts = landmark_shifts(blobs(), 3 + torch.log(0.2 + blobs(0, 1.5)), VALID, LANDMARKS)
    np.testing.assert_allclose(shifts, np.tile((0, 1.5), (3, 1)), atol=0.15)


def test_one_thing_that_moves_is_found_where_it_is() -> None:
    """A screw tip that a CycleGAN pushed two pixels up, in an image that otherwise stays."""
    before, after = blobs(), blobs()
    r, c = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")
    before += 6 * torch.sigmoid(3 * (4 - ((r - 30).square() + (c - 30).square()).sqrt()))
    after += 6 * torch.sigmoid(3 * (4 - ((r - 28).square() + (c - 30).square()).sqrt()))
    shifts = landmark_shifts(before, after, VALID, np.array([[30.0, 30.0], [50.0, 52.0]]), half_window=6)
    np.testing.assert_allclose(shifts, [[-2, 0], [0, 0]], atol=0.4)


def test_landmarks_that_cannot_be_judged_are_nan() -> None:
    valid = VALID.clone()
    valid[:, 60:] = False
    image = blobs()
    image[:40, :40] = 0
    shifts = landmark_shifts(image, image, valid, np.array([[2.0, 40.0], [40.0, 55.0], [20.0, 20.0], [60.0, 40.0]]))
    assert np.isnan(shifts).all(1).tolist() == [True, True, True, False], "border, collimator, nothing to see"


def test_error_in_standard_deviations() -> None:
    torch.manual_seed(0)
    noise = torch.rand(2, 80, 80)
    assert style_error(blobs(), 4 - 1 + 3 * blobs(), VALID) == pytest.approx(0, abs=1e-4)
    assert style_error(noise[0], noise[1], VALID) == pytest.approx(2**0.5, rel=0.03)
    valid = VALID.clone()
    valid[:20] = False
    changed = noise[0].clone()
    changed[:20] = 9
    assert style_error(changed, noise[0], valid) == pytest.approx(0, abs=1e-5)
