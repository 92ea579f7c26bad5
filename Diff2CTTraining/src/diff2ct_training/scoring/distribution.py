"""Do the slices of all reconstructions look like slices of real CTs? FID and KID over features of pooled slices.

Features are (N, F), one row per slice. FID (Heusel et al. 2017) is biased upwards when N is not much larger than F, so N is
always told with it, and KID (Binkowski et al. 2018), unbiased, stands beside it. Neither is comparable across papers.
"""

from __future__ import annotations

import math

import numpy as np

_BLOCK = 1000


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2)), C the sample covariances.

    The last trace is the sum of singular values of A B^T / sqrt((N_a - 1)(N_b - 1)), A and B the centred features, or of the
    product of triangular factors where there are more slices than features: no square root of a singular matrix is taken.
    """
    _check(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    shift = a.mean(axis=0) - b.mean(axis=0)
    factors = [(x - x.mean(axis=0)) / math.sqrt(len(x) - 1) for x in (a, b)]
    spread = sum(float((f**2).sum()) for f in factors)
    small = [np.asarray(np.linalg.qr(f, mode="r")) if f.shape[0] > f.shape[1] else f for f in factors]
    common = float(np.linalg.svd(small[0] @ small[1].T, compute_uv=False).sum())
    return float(shift @ shift) + spread - 2 * common


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy with kernel (x.y / F + 1)^3, over all pairs of slices.

    Others average it over random subsets of 1000, which has the same expectation and more variance.
    """
    _check(a, b)
    within = [
        (_kernel_sum(x, x) - float((((x.astype(np.float64) ** 2).sum(axis=1) / x.shape[1] + 1.0) ** 3).sum())) for x in (a, b)
    ]
    pairs = [len(x) * (len(x) - 1) for x in (a, b)]
    return within[0] / pairs[0] + within[1] / pairs[1] - 2.0 * _kernel_sum(a, b) / (len(a) * len(b))


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of the kernel over all pairs, block by block."""
    total = 0.0
    for start in range(0, len(a), _BLOCK):
        k = a[start : start + _BLOCK].astype(np.float64) @ b.T.astype(np.float64)
        k /= a.shape[1]
        k += 1.0
        total += float(np.einsum("ij,ij,ij->", k, k, k))
    return total


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features: got shapes {a.shape} and {b.shape}, accepted are (N, F) and (M, F) with N, M of 2 or more")
