"""Group normalisation with one scale and shift per sample and channel, made for channels-last tensors, on CPU and CUDA.

torch's own forward pass on CUDA and its backward pass on both copy to channels-first and back, which a step of this network
notices. B batch, C channels, G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNKS = 64  # partial sums of a reduction; bf16 partial sums, float32 total


def group_norm(
    x: Tensor, num_groups: int, scale: Tensor, shift: Tensor, eps: float = 1e-5, *, by_sums: bool | None = None
) -> Tensor:
    """x (B, C, D, H, W) -> normalised over each group of C / num_groups channels, times scale (B, C), plus shift (B, C).

    by_sums: True forces the way that CUDA takes, which is tested so.
    """
    kind = x.device.type
    by_sums = kind == "cuda" if by_sums is None else by_sums
    if by_sums or (kind == "cpu" and x.shape[0] == 1):
        return _GroupNorm.apply(x, num_groups, scale, shift, eps, by_sums)
    if kind == "cpu":
        samples = zip(x.split(1), scale.split(1), shift.split(1), strict=True)
        return torch.cat([_GroupNorm.apply(a, num_groups, b, c, eps, False) for a, b, c in samples])
    with torch.autocast(kind, enabled=False):
        normalised = torch.nn.functional.group_norm(x, num_groups, eps=eps)
    return torch.addcmul(shift[..., None, None, None].to(x), normalised, scale[..., None, None, None].to(x))


class _GroupNorm(torch.autograd.Function):
    """Without by_sums one sample, B = 1: torch's kernel takes one scale per channel."""

    @staticmethod
    def forward(ctx, x, num_groups, scale, shift, eps, by_sums):  # type: ignore[no-untyped-def]
        scale, shift = (v.to(torch.promote_types(x.dtype, torch.float32)) for v in (scale, shift))
        if by_sums:
            with torch.autocast(x.device.type, enabled=False):  # it would write x out in float32
                y, mean, rstd = _normalise_by_sums(x, num_groups, scale, shift, eps)
        else:
            voxels = x[0, 0].numel()
            y, mean, rstd = torch.native_group_norm(x, scale[0], shift[0], 1, x.shape[1], voxels, num_groups, eps)
        ctx.save_for_backward(x, scale, mean, rstd)
        ctx.by_sums = by_sums
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, scale, mean, rstd = ctx.saved_tensors
        num_groups = mean.shape[1]
        group_size = x.shape[1] // num_groups
        mean, rstd = (v.to(scale.dtype).repeat_interleave(group_size, 1) for v in (mean, rstd))  # (B, C)
        sum_grad, sum_grad_x = (_sums if ctx.by_sums else _products)(grad, x)
        d_shift, d_scale = sum_grad, (sum_grad_x - mean * sum_grad) * rstd

        # dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = grad * scale and means over the group: linear in grad and x
        count = x[0, 0].numel() * group_size
        sums_g = ((scale * d).unflatten(1, (num_groups, -1)).sum(2) for d in (d_shift, d_scale))
        mean_g, mean_g_xhat = (total.repeat_interleave(group_size, 1) / count for total in sums_g)
        of_x = -(rstd**2) * mean_g_xhat
        constant = -rstd * mean_g - of_x * mean
        per_channel = [v.to(x.dtype)[..., None, None, None] for v in (constant, of_x, rstd * scale)]
        dx = torch.addcmul(torch.addcmul(per_channel[0], x, per_channel[1]), grad, per_channel[2])
        return dx, None, d_scale, d_shift, None, None


def _normalise_by_sums(x: Tensor, num_groups: int, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(normalised x, mean (B, G), 1 / SD (B, G)) in two sums over the voxels and one pass that multiplies and adds; any layout.

    scale, shift: (B, C), float32 or wider, which all arithmetic is in.
    """
    voxels, wide = (2, 3, 4), scale.dtype
    square = torch.linalg.vector_norm(x, dim=voxels, dtype=wide).square()  # x * x would be rounded to bf16, or written out wide
    sums = torch.stack([x.sum(voxels, dtype=wide), square]).unflatten(2, (num_groups, -1)).sum(3)
    mean, mean_square = sums * (1 / (x[0, 0].numel() * (x.shape[1] // num_groups)))
    rstd = torch.addcmul(mean_square, mean, mean, value=-1).clamp_(min=0).add_(eps).rsqrt_()
    factor = scale.unflatten(1, (num_groups, -1)) * rstd[..., None]  # (B, G, C / G)
    offset = torch.addcmul(shift.view_as(factor), factor, mean[..., None], value=-1)
    factor, offset = (v.flatten(1)[..., None, None, None] for v in (factor, offset))
    y = torch.addcmul(offset, x, factor, out=torch.empty_like(x))  # reads and writes bf16, multiplies in float32
    return y, mean, rstd


def _sums(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C) sum over the voxels of grad and of grad * x, float32 or wider."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return grad.sum((2, 3, 4), dtype=wide), (grad * x).sum((2, 3, 4), dtype=wide)


def _products(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """`_sums` of one sample, faster on the CPU: small matrix products over chunks of voxels."""
    chunks = next(n for n in range(_CHUNKS, 0, -1) if x[0, 0].numel() % n == 0)
    g, v = (t.permute(0, 2, 3, 4, 1).reshape(chunks, -1, t.shape[1]) for t in (grad, x))
    wide = torch.promote_types(x.dtype, torch.float32)
    sum_grad = (g.new_ones(chunks, 1, g.shape[1]) @ g).to(wide).sum(0)
    return sum_grad, torch.bmm(g.transpose(1, 2), v).diagonal(dim1=1, dim2=2).to(wide).sum(0, keepdim=True)
