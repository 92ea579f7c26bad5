"""X-ray projection of a volume and its exact adjoint, for cone, fan and parallel beams in any pose. Differentiable.

`project` is Joseph's method (IEEE TMI 1982): the volume is cut into the index planes most nearly perpendicular to the central
ray; each ray takes one bilinear sample per plane, times the length of ray between planes. Outside the volume there is nothing
(air).

What a detector column sees is a plane, and so is what a row sees; a pixel's ray is where the two meet. Two linear equations
give its position in every index plane, linear in the plane's number, for all beams alike. Where the detector is parallel to the
index axes the bilinear sample separates and planes are projected by two sparse matrices, one that interpolates rows, one that
interpolates columns and sums the planes; else by a 2D `grid_sample`. No 3D marching.

Axes: S planes, R and P the in-plane axes matching detector rows and columns, H x W detector, N volumes in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import grid_sample

from diff2ct.geometry import Beam
from diff2ct.sparse import SparseMatrix
from diff2ct.volume import VolumeGrid

_COORDINATE_BYTES = 4 << 20  # kept at one time by the general path
_PLANE_CHUNK = 16  # planes that the separable path takes at a time on a CPU: they stay in the cache, 16 voxels are a cache line


def project(
    volume: torch.Tensor, grid: VolumeGrid, beam: Beam, *, pose: torch.Tensor | None = None, separable: bool = True
) -> torch.Tensor:
    """Line integrals of `volume` along the rays of `beam`.

    volume: (..., D, H, W) [1/mm] on `grid`; any float dtype, computed in float32 or float64.
    pose: (4, 4) rigid transform of the patient in LPS [mm]; gradients flow to it.
    separable: False forces the general path, which the separable one is tested against.
    Returns (..., H, W) of the detector, dimensionless. Raises ValueError if the volume reaches the source.
    """
    _check_shape("volume", volume, grid.size)
    if pose is not None and tuple(pose.shape) != (4, 4):
        raise ValueError(f"pose: got shape {tuple(pose.shape)}, accepted is (4, 4)")
    stack = volume.reshape(-1, *grid.size)
    stack = stack if stack.dtype == torch.float64 else stack.float()
    if pose is not None and pose.requires_grad:
        image = _project_general(stack, _plan(grid, beam, pose))
    else:
        image = _Project.apply(stack, _cached_plan(grid, beam, _pose_key(pose), separable, stack.dtype, stack.device))
    return image.reshape(*volume.shape[:-3], *beam.detector_size)


def backproject(image: torch.Tensor, grid: VolumeGrid, beam: Beam, *, separable: bool = True) -> torch.Tensor:
    """Exact adjoint of `project`: <project(x), y> = <x, backproject(y)>.

    image: (..., H, W) of the detector. Returns (..., D, H, W) on `grid`, in image unit times mm.
    """
    _check_shape("image", image, beam.detector_size)
    stack = image.reshape(-1, *beam.detector_size)
    stack = stack if stack.dtype == torch.float64 else stack.float()
    volume = _Backproject.apply(stack, _cached_plan(grid, beam, None, separable, stack.dtype, stack.device))
    return volume.reshape(*image.shape[:-2], *grid.size)


def _check_shape(name: str, tensor: torch.Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape[-len(expected) :]) != expected:
        raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, accepted is (..., {', '.join(map(str, expected))})")


@dataclass(frozen=True, eq=False)
class _SeparableChunk:
    """Some planes S and how they are sampled. rows: (S * H, R * S); columns: (W, S * P), sums the planes."""

    planes: slice
    rows: SparseMatrix
    columns: SparseMatrix


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where each ray meets each plane: position(s) = start + s * step, in voxels, and the length of ray per plane; all (H, W),
    float64 on the CPU as they are made.

    separable: the sparse matrices of the separable path, () where the beam does not allow it.
    """

    axis: int  # array axis (0 D, 1 H, 2 W) that counts the planes
    rows_are_first: bool  # True if R comes before P among the two remaining array axes
    size: tuple[int, int, int]
    p_start: torch.Tensor
    p_step: torch.Tensor
    r_start: torch.Tensor
    r_step: torch.Tensor
    length_mm: torch.Tensor
    separable: tuple[_SeparableChunk, ...] = ()

    @property
    def srp(self) -> tuple[int, int, int]:
        """Sizes (S, R, P)."""
        first, second = (n for a, n in enumerate(self.size) if a != self.axis)
        return (self.size[self.axis], *((first, second) if self.rows_are_first else (second, first)))

    @property
    def permutation(self) -> tuple[int, int, int]:
        """Array axes of the volume in the order (S, R, P)."""
        first, second = (a for a in range(3) if a != self.axis)
        return (self.axis, *((first, second) if self.rows_are_first else (second, first)))


def _pose_key(pose: torch.Tensor | None) -> tuple[float, ...] | None:
    return None if pose is None else tuple(pose.detach().double().flatten().tolist())


@lru_cache(maxsize=8)
def _cached_plan(
    grid: VolumeGrid,
    beam: Beam,
    pose_key: tuple[float, ...] | None,
    separable: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> _Plan:
    """The plan of one geometry; its sparse matrices and lengths are of `dtype` and on `device`."""
    pose = None if pose_key is None else torch.tensor(pose_key, dtype=torch.float64).reshape(4, 4)
    plan = _plan(grid, beam, pose)
    matrices = tuple(_separable_chunks(plan, dtype, device)) if separable and _is_separable(plan) else ()
    return replace(plan, separable=matrices, length_mm=plan.length_mm.to(dtype).to(device))


def _plan(grid: VolumeGrid, beam: Beam, pose: torch.Tensor | None) -> _Plan:
    ijk_to_lps = torch.from_numpy(grid.ijk_to_lps)
    if pose is not None:
        ijk_to_lps = pose.double().cpu() @ ijk_to_lps
    ijk_to_pixel = torch.from_numpy(beam.lps_to_pixel) @ ijk_to_lps  # (4, 4)
    nearest = nearest_mm(ijk_to_pixel.detach(), grid)
    if nearest <= 0:
        raise ValueError(
            f"beam: the volume reaches {-nearest:.0f} mm behind the source; accepted is a source outside the volume"
        )

    toward = torch.from_numpy(beam.toward_detector)
    alignment = torch.nn.functional.normalize(ijk_to_lps[:3, :3].detach(), dim=0).T @ toward
    s_index = int(alignment.abs().argmax())  # 0 i, 1 j, 2 k
    rest = [a for a in range(3) if a != s_index]
    along_columns = ijk_to_pixel[0, :3].detach() - ijk_to_pixel[2, :3].detach() * beam.principal_point[1]
    p_index, r_index = sorted(rest, key=lambda a: -abs(float(along_columns[a])))

    (p_0, p_step), (r_0, r_step) = _ray_positions(ijk_to_pixel[:, [p_index, r_index, s_index, 3]], beam.detector_size)
    columns = ijk_to_lps[:3, :3]
    step_mm = columns[:, p_index] * p_step[..., None] + columns[:, r_index] * r_step[..., None] + columns[:, s_index]
    return _Plan(
        axis=2 - s_index,
        rows_are_first=r_index > p_index,  # array axes run against index axes
        size=grid.size,
        p_start=p_0,
        p_step=p_step,
        r_start=r_0,
        r_step=r_step,
        length_mm=step_mm.norm(dim=-1),
    )


def nearest_mm(ijk_to_pixel: torch.Tensor, grid: VolumeGrid) -> float:
    """How far from the source the volume begins along the central ray [mm], below 0 behind it; of rays that diverge."""
    ends = [(-0.5, n - 0.5) for n in grid.size[::-1]]
    corners = torch.tensor([[i, j, k, 1.0] for i in ends[0] for j in ends[1] for k in ends[2]], dtype=torch.float64)
    return float((corners @ ijk_to_pixel[2]).min())


def _ray_positions(
    prs_to_pixel: torch.Tensor, detector_size: tuple[int, int]
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """((start, step) of p, (start, step) of r): each pixel's ray is at start + s * step [voxels] in plane s, all (H, W).

    prs_to_pixel: (4, 4) [p, r, s, 1] -> [column * w, row * v, w, v].
    """
    rows, columns = (torch.arange(n, dtype=torch.float64)[:, None] for n in detector_size)
    to_column, to_row, w, v = prs_to_pixel
    in_column = (columns * w - to_column).T[:, None, :]  # (4, 1, W): [p, r, s, 1] @ it = 0 in the plane that a column sees
    in_row = (rows * v - to_row).T[:, :, None]  # (4, H, 1)
    area = in_column[0] * in_row[1] - in_column[1] * in_row[0]
    p_step, p_start = ((in_column[1] * in_row[n] - in_column[n] * in_row[1]) / area for n in (2, 3))
    r_step, r_start = ((in_column[n] * in_row[0] - in_column[0] * in_row[n]) / area for n in (2, 3))
    return (p_start, p_step), (r_start, r_step)


def _is_separable(plan: _Plan) -> bool:
    """True if p depends on the column and r on the row only."""
    depth = plan.srp[0]
    for start, step, dim in ((plan.p_start, plan.p_step, 0), (plan.r_start, plan.r_step, 1)):
        for position in (start, start + depth * step):
            if float((position.amax(dim) - position.amin(dim)).max()) > 1e-6:
                return False
    return True


def _separable_chunks(plan: _Plan, dtype: torch.dtype, device: torch.device) -> Iterator[_SeparableChunk]:
    num_s, num_r, num_p = plan.srp
    height, width = plan.length_mm.shape
    for planes in torch.arange(num_s).split(_PLANE_CHUNK if device.type == "cpu" else num_s):
        count = len(planes)
        s = torch.arange(count)[:, None, None].expand(-1, -1, 2)
        r, r_weights = _linear_weights(plan.r_start[:, 0], plan.r_step[:, 0], planes, num_r)  # (S, H, 2)
        p, p_weights = _linear_weights(plan.p_start[0], plan.p_step[0], planes, num_p)  # (S, W, 2)
        rows = (s * height + torch.arange(height)[:, None], r * count + s, r_weights, (count * height, num_r * count))
        columns = (torch.arange(width)[:, None].expand_as(p), s * num_p + p, p_weights, (width, count * num_p))
        yield _SeparableChunk(
            slice(int(planes[0]), int(planes[-1]) + 1),
            *(SparseMatrix.from_entries(m, k, w, shape).to(device, dtype) for m, k, w, shape in (rows, columns)),
        )


def _linear_weights(
    start: torch.Tensor, step: torch.Tensor, planes: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which two of `count` samples each pixel interpolates in each plane and how much of each, both (S, pixels, 2); weight 0
    outside."""
    position = start + planes[:, None] * step
    below = position.floor()
    part = position - below
    samples = torch.stack([below, below + 1], dim=-1)
    inside = (samples >= 0) & (samples < count)
    return samples.clamp(0, count - 1).long(), torch.stack([1 - part, part], dim=-1) * inside


class _Project(torch.autograd.Function):
    """(N, D, H, W) -> (N, H, W). Linear, so the derivative is the adjoint and nothing needs to be saved."""

    @staticmethod
    def forward(ctx: Any, volume: torch.Tensor, plan: _Plan) -> torch.Tensor:
        ctx.plan = plan
        return _project_separable(volume, plan) if plan.separable else _project_general(volume, plan)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Backproject.apply(grad, ctx.plan), None


class _Backproject(torch.autograd.Function):
    """(N, H, W) -> (N, D, H, W), the adjoint of `_Project`."""

    @staticmethod
    def forward(ctx: Any, image: torch.Tensor, plan: _Plan) -> torch.Tensor:
        ctx.plan = plan
        return _backproject_separable(image, plan) if plan.separable else _backproject_general(image, plan)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Project.apply(grad, ctx.plan), None


def _as_planes(volume: torch.Tensor, plan: _Plan) -> torch.Tensor:
    """(N, D, H, W) -> view (S, N, R, P)."""
    s, r, p = (a + 1 for a in plan.permutation)
    return volume.permute(s, 0, r, p)


def _project_separable(volume: torch.Tensor, plan: _Plan) -> torch.Tensor:
    num_n, num_p = volume.shape[0], plan.srp[2]
    height, width = plan.length_mm.shape
    planes = _as_planes(volume, plan)
    image = volume.new_zeros(width, num_n * height)
    for chunk in plan.separable:
        part = planes[chunk.planes].permute(2, 0, 1, 3).reshape(-1, num_n * num_p)  # (R * S, N * P)
        part = (chunk.rows @ part).view(-1, height, num_n, num_p).permute(0, 3, 2, 1)
        image += chunk.columns @ part.reshape(-1, num_n * height)  # (W, S * P) @ (S * P, N * H)
    return image.view(width, num_n, height).permute(1, 2, 0) * plan.length_mm.to(volume)


def _backproject_separable(image: torch.Tensor, plan: _Plan) -> torch.Tensor:
    num_n, (_, num_r, num_p) = image.shape[0], plan.srp
    height, width = plan.length_mm.shape
    volume = image.new_empty(num_n, *plan.size)
    planes = _as_planes(volume, plan)
    weighted = (image * plan.length_mm.to(image)).permute(2, 0, 1).reshape(width, num_n * height)
    for chunk in plan.separable:
        part = (chunk.columns.T @ weighted).view(-1, num_p, num_n, height).permute(0, 3, 2, 1)
        part = chunk.rows.T @ part.reshape(-1, num_n * num_p)  # (R * S, S * H) @ (S * H, N * P)
        planes[chunk.planes] = part.view(num_r, -1, num_n, num_p).permute(1, 2, 0, 3)
    return volume


def _general_chunks(plan: _Plan, like: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """(planes, normalised sample positions (S, H, W, 2) for `grid_sample` with align_corners=False) a few planes at a time."""
    _, num_r, num_p = plan.srp
    start = torch.stack([(2 * plan.p_start + 1) / num_p - 1, (2 * plan.r_start + 1) / num_r - 1], dim=-1).to(like)
    step = torch.stack([2 * plan.p_step / num_p, 2 * plan.r_step / num_r], dim=-1).to(like)
    at_a_time = max(1, _COORDINATE_BYTES // (start.numel() * like.element_size()))
    for first in range(0, plan.srp[0], at_a_time):
        last = min(first + at_a_time, plan.srp[0])
        planes = torch.arange(first, last, dtype=like.dtype, device=like.device)
        yield slice(first, last), start + planes[:, None, None, None] * step


def _sample_planes(planes: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """(S, N, R, P) sampled at (S, H, W, 2), summed over planes -> (N, H, W)."""
    return grid_sample(planes, positions, mode="bilinear", padding_mode="zeros", align_corners=False).sum(0)


def _project_general(volume: torch.Tensor, plan: _Plan) -> torch.Tensor:
    planes = _as_planes(volume, plan)
    image = volume.new_zeros(volume.shape[0], *plan.length_mm.shape)
    for chunk, positions in _general_chunks(plan, volume):
        image = image + _sample_planes(planes[chunk], positions)
    return image * plan.length_mm.to(volume)


def _backproject_general(image: torch.Tensor, plan: _Plan) -> torch.Tensor:
    _, num_r, num_p = plan.srp
    weighted = image * plan.length_mm.to(image)
    volume = image.new_empty(image.shape[0], *plan.size)
    planes = _as_planes(volume, plan)
    for chunk, positions in _general_chunks(plan, image):
        with torch.enable_grad():  # the gradient of a linear map is its adjoint: exact by construction
            zeros = image.new_zeros(positions.shape[0], image.shape[0], num_r, num_p, requires_grad=True)
            (planes[chunk],) = torch.autograd.grad(_sample_planes(zeros, positions), zeros, weighted)
    return volume
