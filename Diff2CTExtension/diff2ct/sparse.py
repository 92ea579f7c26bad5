"""A sparse matrix times a dense one, for the few entries per row that linear interpolation and its adjoint have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.functional import embedding_bag

_FAST_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """(M, K) in compressed rows; row m has the entries offsets[m] to offsets[m + 1].

    columns, weights: (entries,) int32 and float. offsets: (M + 1,) int32.
    """

    columns: torch.Tensor
    weights: torch.Tensor
    offsets: torch.Tensor
    num_columns: int

    @classmethod
    def from_entries(
        cls, rows: torch.Tensor, columns: torch.Tensor, weights: torch.Tensor, shape: tuple[int, int]
    ) -> SparseMatrix:
        """Entries in any order, those of weight 0 are left out. rows, columns, weights: same shape."""
        kept = weights != 0
        rows, columns, weights = rows[kept], columns[kept], weights[kept]
        order = rows.argsort(stable=True)
        ends = rows.bincount(minlength=shape[0]).cumsum(0)
        offsets = torch.cat([ends.new_zeros(1), ends])
        return cls(columns[order].int(), weights[order], offsets.int(), shape[1])

    def to(self, device: torch.device, dtype: torch.dtype) -> SparseMatrix:
        weights = self.weights.to(dtype).to(device)  # in this order: not every device has float64
        return SparseMatrix(self.columns.to(device), weights, self.offsets.to(device), self.num_columns)

    @cached_property
    def T(self) -> SparseMatrix:
        """(K, M), made when first asked for."""
        rows = self._rows()
        return SparseMatrix.from_entries(self.columns.long(), rows, self.weights, (self.num_columns, len(self.offsets) - 1))

    def __matmul__(self, dense: torch.Tensor) -> torch.Tensor:
        """(K, P) of the weights' dtype -> (M, P)."""
        dense = dense.contiguous()  # else torch takes a slow path
        if dense.device.type in _FAST_DEVICES:
            # a weighted sum over a bag of table rows, which torch keeps fast for recommender systems
            return embedding_bag(
                self.columns, dense, self.offsets, mode="sum", per_sample_weights=self.weights, include_last_offset=True
            )
        taken = dense[self.columns.long()] * self.weights[:, None]
        return dense.new_zeros(len(self.offsets) - 1, dense.shape[1]).index_add_(0, self._rows(), taken)

    def _rows(self) -> torch.Tensor:
        """(entries,) row of each entry."""
        counts = self.offsets.diff().long()
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
