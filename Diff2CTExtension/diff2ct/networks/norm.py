"""Group normalisation with one scale and shift per sample and channel, with a backward pass made for channels-last on the CPU.

torch's own backward copies to channels-first and back, which a training step of this network notices.
"""

from __future__ import annotations

import torch

_CHUNKS = 64  # partial sums of a reduction; bf16 partial sums, float32 total


def group_norm(x: torch.Tensor, num_groups: int, scale: torch.Tensor, shift: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """x (B, C, D, H, W) -> normalised over each group of C / num_groups channels, times scale (B, C), plus shift (B, C)."""
    if x.device.type == "cpu":
        if x.shape[0] == 1:  # slices and a copy less
            return _GroupNorm.apply(x, num_groups, scale[0], shift[0], eps)
        return torch.cat([_GroupNorm.apply(x[b : b + 1], num_groups, scale[b], shift[b], eps) for b in range(x.shape[0])])
    with torch.autocast(x.device.type, enabled=False):
        normalised = torch.nn.functional.group_norm(x, num_groups, eps=eps)
    return torch.addcmul(shift[..., None, None, None].to(x), normalised, scale[..., None, None, None].to(x))


class _GroupNorm(torch.autograd.Function):
    """One sample (1, C, D, H, W); scale and shift (C,)."""

    @staticmethod
    def forward(ctx, x, num_groups, scale, shift, eps):  # type: ignore[no-untyped-def]
        scale, shift = (v.float() if x.dtype == torch.bfloat16 else v.to(x.dtype) for v in (scale, shift))
        y, mean, rstd = torch.native_group_norm(x, scale, shift, 1, x.shape[1], x[0, 0].numel(), num_groups, eps)
        ctx.save_for_backward(x, scale, mean, rstd)
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, scale, mean, rstd = ctx.saved_tensors
        channels, num_groups = x.shape[1], mean.shape[1]
        mean, rstd = (v[0].float().repeat_interleave(channels // num_groups) for v in (mean, rstd))
        sum_grad, sum_grad_x = _sums(grad, x)
        d_shift, d_scale = sum_grad, (sum_grad_x - mean * sum_grad) * rstd

        # dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = grad * scale and means over the group: linear in grad and x
        count = x[0, 0].numel() * (channels // num_groups)
        mean_g = (scale.float() * d_shift).view(num_groups, -1).sum(1).repeat_interleave(channels // num_groups) / count
        mean_g_xhat = (scale.float() * d_scale).view(num_groups, -1).sum(1).repeat_interleave(channels // num_groups) / count
        of_x = -(rstd**2) * mean_g_xhat
        constant = -rstd * mean_g - of_x * mean
        per_channel = [v.to(x.dtype).view(1, -1, 1, 1, 1) for v in (constant, of_x, rstd * scale)]
        dx = torch.addcmul(torch.addcmul(per_channel[0], x, per_channel[1]), grad, per_channel[2])
        return dx, None, d_scale, d_shift, None


def _sums(grad: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per channel sum of grad and of grad * x, float32 or wider: small matrix products over chunks of voxels."""
    chunks = next(n for n in range(_CHUNKS, 0, -1) if x[0, 0].numel() % n == 0)
    g, v = (t.permute(0, 2, 3, 4, 1).reshape(chunks, -1, t.shape[1]) for t in (grad, x))
    wide = torch.promote_types(x.dtype, torch.float32)
    sum_grad = (g.new_ones(chunks, 1, g.shape[1]) @ g).to(wide).sum((0, 1))
    return sum_grad, torch.bmm(g.transpose(1, 2), v).diagonal(dim1=1, dim2=2).to(wide).sum(0)
