"""Gaussian smoothing against its formula: widths in samples and mm, what happens at the border, noise after it."""

import math

import pytest
import torch

from diff2ct.smooth import along_axes, gaussian_blur, gaussian_matrix, smooth_volume, unit_power_matrix

DOUBLE = torch.zeros(0, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.3, 2.0, 50.0])
def test_what_is_the_same_everywhere_stays_so_up_to_the_border(sigma):
    matrix = gaussian_matrix(30, sigma, DOUBLE)
    assert torch.allclose(matrix.sum(1), torch.ones(30, dtype=torch.float64))
    assert torch.allclose(smooth_volume(torch.full((7, 8, 9), 5.0), sigma), torch.full((7, 8, 9), 5.0))


def test_a_point_becomes_a_gaussian():
    distance = torch.arange(41, dtype=torch.float64) - 20
    expected = torch.exp(-0.5 * (distance / 3.0).square()) / (3.0 * math.sqrt(2 * math.pi))
    assert torch.allclose(gaussian_matrix(41, 3.0, DOUBLE)[20], expected, atol=1e-9)


def test_white_noise_keeps_its_variance_and_correlates_over_sqrt_two_sigma():
    matrix = unit_power_matrix(60, 2.5, DOUBLE)
    covariance = matrix @ matrix.T
    assert torch.allclose(covariance.diagonal(), torch.ones(60, dtype=torch.float64))
    distance = torch.arange(20, 41, dtype=torch.float64) - 30
    assert torch.allclose(covariance[30, 20:41], torch.exp(-0.5 * (distance / (math.sqrt(2) * 2.5)).square()), atol=1e-6)


def test_each_matrix_works_along_its_own_axis():
    volume, *matrices = (torch.rand(shape, dtype=torch.float64) for shape in ((4, 5, 6), (4, 4), (5, 5), (6, 6)))
    assert torch.allclose(along_axes(volume, matrices), torch.einsum("Dd,Hh,Ww,dhw->DHW", *matrices, volume))


def test_blur_is_in_mm_along_rows_and_columns():
    point = torch.zeros(1, 81, 101, dtype=torch.float64)
    point[0, 40, 50] = 1.0
    assert gaussian_blur(point, 0.0, 1.5) is point
    rows, columns = torch.arange(81.0).double()[:, None] - 40, torch.arange(101.0).double() - 50
    expected = torch.exp(-0.5 * (rows.square() + columns.square()) / 4.0**2) / (2 * math.pi * 4.0**2)  # 4 pixels of 1.5 mm
    assert torch.allclose(gaussian_blur(point, 6.0, 1.5)[0], expected, atol=1e-9)
