"""Products of sparse with dense matrices, against dense ones."""

import pytest
import torch

from diff2ct.sparse import SparseMatrix

SHAPE = (7, 5)


def example(dtype: torch.dtype = torch.float64) -> tuple[SparseMatrix, torch.Tensor]:
    """A matrix with an empty row, an empty column and entries in no order, and the same as a dense one."""
    rows, columns = torch.tensor([3, 0, 6, 3, 1, 0]), torch.tensor([4, 1, 0, 0, 1, 4])
    weights = torch.tensor([0.5, -2.0, 1.25, 3.0, 0.0, 0.75], dtype=dtype)
    dense = torch.zeros(SHAPE, dtype=dtype)
    dense[rows, columns] = weights
    return SparseMatrix.from_entries(rows, columns, weights, SHAPE), dense


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_product_equals_the_dense_one(dtype: torch.dtype) -> None:
    matrix, dense = example(dtype)
    x, y = torch.rand(SHAPE[1], 3, dtype=dtype), torch.rand(SHAPE[0], 4, dtype=dtype)
    torch.testing.assert_close(matrix @ x, dense @ x)
    torch.testing.assert_close(matrix.T @ y, dense.T @ y)
    torch.testing.assert_close(matrix.T.T @ x, dense @ x)


def test_any_memory_layout_of_the_dense_matrix() -> None:
    matrix, dense = example()
    x = torch.rand(6, SHAPE[1], dtype=torch.float64)[::2].T
    torch.testing.assert_close(matrix @ x, dense @ x)


def test_entries_of_weight_zero_are_left_out() -> None:
    matrix, dense = example()
    assert len(matrix.weights) == int((dense != 0).sum())


def test_matrix_without_entries() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    matrix = SparseMatrix.from_entries(none, none, none.double(), SHAPE)
    torch.testing.assert_close(matrix @ torch.rand(SHAPE[1], 3).double(), torch.zeros(SHAPE[0], 3).double())
    torch.testing.assert_close(matrix.T @ torch.rand(SHAPE[0], 3).double(), torch.zeros(SHAPE[1], 3).double())


def test_path_for_devices_without_embedding_bag(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, dense = example()
    monkeypatch.setattr("diff2ct.sparse._FAST_DEVICES", ())
    x = torch.rand(SHAPE[1], 3, dtype=torch.float64)
    torch.testing.assert_close(matrix @ x, dense @ x)
