"""Data consistency: a reconstruction moved toward the X-rays it was made from, through the real projector.

    x = x_0 + S G u,    minimise over u   sum_v |W_v (y_v - A_v x)|^2 / noise^2 + |u|^2

x_0 the model's volume, A_v the exact projection, y_v the X-ray as line integrals of the cube alone, W_v the rays that
cross the whole cube, S how far off each voxel may be, G a Gaussian: errors of neighbours agree. It is the maximum a posteriori
estimate for errors of that covariance; a few steps of conjugate gradients from u = 0 stop early, as in DDS (Chung et al., ICLR
2024). One step is guidance with the gradient taken at x_0, not through the network (He et al., ICLR 2024; DPS: Chung et al.,
ICLR 2023).

Two things keep this from doing harm. An X-ray contains tissue beside the cube, and nobody knows its gain: per view a gain, an
offset and a smooth remainder are fitted first, robustly, so that an implant is no remainder. And two views say nothing about
depth: a residual spread evenly along its rays draws streaks through tissue that was right. So S is small where a calibration
expects small errors; what changes is metal, dense bone and gas, where errors are several times larger.

D x H x W voxels, Hd x Wd detector; HU at the border, attenuation [1/mm] inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diff2ct.geometry import Beam
from diff2ct.projector import backproject, project
from diff2ct.radiograph import Radiograph
from diff2ct.smooth import along_axes, unit_power_matrix
from diff2ct.uncertainty import Calibration, expected_error
from diff2ct.units import HU_WINDOW, MU_WATER_PER_MM, HuMap, hu_to_mu
from diff2ct.volume import VolumeGrid

WHEN = ("end", "steps")
_WHOLE_CHORD = 0.985
"""Rays whose way through the cube is shorter enter or leave by a side: what they meet is mostly not in the cube."""
_ROBUST_SCALE = 0.03  # line integral: smaller deviations count squared, larger ones by their size
_ROBUST_ROUNDS = 10
_SATURATED_PIXELS = 20
_PLATEAU = 1e-5  # of the range: what was one value before an image was resized
_TV_SCALE_HU = 100.0
_TV_ROUNDING_HU = 50.0


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """when: "end" corrects the mean of the samples, once; "steps" every x_0 estimate on the way, with weight rising to 1.
    num_iterations: of conjugate gradients; 1 is a guidance step.
    noise: SD of what the model cannot explain in a line integral, no unit; larger is gentler.
    share, least_error_hu: S is `share` of a voxel's expected error, plus all of it that exceeds `least_error_hu`.
    correlation_mm: over which the errors of neighbouring voxels agree.
    remainder_modes: cosines along each side of a view, the longest ones, that make its smooth remainder; 1 is an offset.
    trust: greatest change of a voxel, in units of S.
    tv: weight of total variation, 0 is none.
    """

    when: str = "end"
    num_iterations: int = 6
    noise: float = 0.5
    share: float = 0.15
    least_error_hu: float = 400.0
    correlation_mm: float = 2.5
    remainder_modes: int = 8
    trust: float = 2.0
    tv: float = 0.0

    def __post_init__(self) -> None:
        if self.when not in WHEN:
            raise ValueError(f"when: got {self.when!r}, accepted are {', '.join(WHEN)}")
        for name, low, high in (
            ("num_iterations", 1, 200),
            ("noise", 1e-6, 1e3),
            ("share", 0.0, 10.0),
            ("least_error_hu", 0.0, 1e4),
            ("correlation_mm", 0.1, 200.0),
            ("remainder_modes", 1, 32),
            ("trust", 0.0, 1e3),
            ("tv", 0.0, 1e3),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name}: got {value}, accepted is {low} to {high}")
            if isinstance(low, int) and not isinstance(value, int):
                raise ValueError(f"{name}: got {value}, accepted are whole numbers from {low} to {high}")


def consistency_from_words(words: Sequence[str]) -> Consistency:
    """Of "NAME=VALUE" for some of the fields."""
    values: dict[str, Any] = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator:
            raise ValueError(f"consistency: got {word!r}, accepted is NAME=VALUE")
        kind = next((f.type for f in fields(Consistency) if f.name == name), "str")
        try:
            values[name] = {"int": int, "float": float}.get(str(kind), str)(text)
        except ValueError:
            raise ValueError(f"{name}: got {text!r}, accepted is a number") from None
    found = consistency_from(values)
    assert isinstance(found, Consistency)  # of a dict
    return found


def consistency_from(value: Any) -> Consistency | bool | None:
    """What `reconstruct` takes, from JSON: null, true, false, or an object with fields of `Consistency`."""
    if isinstance(value, dict):
        unknown = sorted(set(value) - {f.name for f in fields(Consistency)})
        if unknown:
            accepted = ", ".join(f.name for f in fields(Consistency))
            raise ValueError(f"consistency: unknown {', '.join(unknown)}, accepted are {accepted}")
        return Consistency(**value)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"consistency: got {value!r}, accepted are true, false and an object")
    return value


@dataclass(frozen=True, eq=False)
class MeasuredView:
    """One X-ray at the resolution of the grid. image: (Hd, Wd) gain * line integral + offset; gain 1 if scale_known.

    used: (Hd, Wd) bool, rays that cross the whole cube and were recorded. saturated: (Hd, Wd) bool, pixels at the end of the
    detector's range: behind them there is at least this much.
    """

    image: Tensor
    used: Tensor
    saturated: Tensor
    beam: Beam
    scale_known: bool


def measured_views(
    radiographs: Sequence[Radiograph], grid: VolumeGrid, device: torch.device | str = "cpu"
) -> list[MeasuredView]:
    """What `correct_volume` compares with. A view none of whose rays cross the whole cube is left out."""
    views = []
    for radiograph in radiographs:
        small = radiograph.resized(patient_spacing_mm=min(grid.spacing_mm))
        index = _ray_axis(grid, small.geometry)
        chord = project(torch.ones(grid.size, device=device), grid, small.geometry).cpu()
        used = (chord > _WHOLE_CHORD * grid.size[2 - index] * grid.spacing_mm[index]) & torch.from_numpy(small.valid)
        if not used.any():
            continue
        seen = small.line_integral[small.valid]
        top = seen.max() - _PLATEAU * (seen.max() - seen.min())
        saturated = torch.from_numpy(small.line_integral >= top)
        if int(saturated.sum()) < _SATURATED_PIXELS:
            saturated = torch.zeros_like(saturated)
        image = torch.from_numpy(small.line_integral).to(device)
        views.append(MeasuredView(image, used.to(device), saturated.to(device), small.geometry, radiograph.scale_known))
    return views


def fit_intensity(view: MeasuredView, projected: Tensor, remainder_modes: int) -> tuple[float, Tensor]:
    """(gain, remainder (Hd, Wd)) with image = gain * (projected + remainder), as closely as the used pixels allow. A gain that
    is not above 0 says that the view and the volume do not agree at all; then there is no remainder.

    projected: (Hd, Wd) line integrals of the volume. The gain, 1 if the scale is known, is fitted with one offset; then the
    remainder, offset included, as a sum of `remainder_modes` x `remainder_modes` cosines. Both by iteratively reweighted least
    squares toward the least absolute deviation, so that what is small and dense is not smoothed into the remainder.
    """
    used = view.used
    image, seen = view.image[used].double(), projected[used].double()
    gain = 1.0
    if not view.scale_known:
        rough = float(image.std() / seen.std().clamp(min=1e-6))  # first to like units, which the robust scale is in
        gain = rough * float(_least_deviation(torch.stack([seen, torch.ones_like(seen)], dim=1), image / rough)[0])
        if not gain > 0:
            return gain, torch.zeros_like(projected)
    modes = _cosines(view.image.shape, remainder_modes, view.image.device)
    weights = _least_deviation(modes[:, used].T, image / gain - seen)
    return gain, (modes.flatten(1).T @ weights).view(view.image.shape).to(projected)


def correct_volume(
    hu: Tensor,
    error_hu: Tensor,
    grid: VolumeGrid,
    views: Sequence[MeasuredView],
    options: Consistency,
    *,
    weight: float = 1.0,
) -> tuple[Tensor, list[float]]:
    """(corrected HU (D, H, W), residual norms).

    hu: the model's volume. error_hu: the error to be expected of each voxel (`uncertainty.expected_error`). weight: of the
    X-rays, 0 to 1. The norms, before and after each iteration, are of W (y - A x), with total variation of its rows too, and
    do not increase.
    """
    if hu.shape != grid.size or error_hu.shape != hu.shape:
        raise ValueError(f"hu, error_hu: got {tuple(hu.shape)}, {tuple(error_hu.shape)}, accepted is {grid.size} twice")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight: got {weight}, accepted is 0 to 1")
    per_hu = MU_WATER_PER_MM / 1000
    spread = (options.share * error_hu + (error_hu - options.least_error_hu).clamp(min=0)) * per_hu
    mu = hu_to_mu(hu)
    scale = math.sqrt(weight) / options.noise
    residual, weights = [], []
    for view in views:
        projected = project(mu, grid, view.beam)
        gain, remainder = fit_intensity(view, projected, options.remainder_modes)
        if gain > 0:
            difference = view.image / gain - remainder - projected
            counts = view.used & ~(view.saturated & (difference < 0))
        else:  # it says nothing, not even that nothing changes along its rays
            difference, counts = torch.zeros_like(projected), torch.zeros_like(view.used)
        weights.append(counts.to(mu) * scale)
        residual.append(weights[-1] * difference)
    matrices = [
        unit_power_matrix(n, options.correlation_mm / math.sqrt(2) / mm, mu)
        for n, mm in zip(grid.size, grid.spacing_mm[::-1], strict=True)
    ]
    transposed = [m.T for m in matrices]
    edge_weights = _edge_weights(hu, options.tv) if options.tv > 0 else None

    def apply(u: Tensor) -> list[Tensor]:
        change = spread * along_axes(u, matrices)
        rows = [w * project(change, grid, view.beam) for w, view in zip(weights, views, strict=True)]
        return rows if edge_weights is None else [*rows, edge_weights * _gradient(change / per_hu)]

    def adjoint(rows: Sequence[Tensor]) -> Tensor:
        back = sum(backproject(w * row, grid, view.beam) for w, row, view in zip(weights, rows, views, strict=False))
        if edge_weights is not None:
            back = back + _gradient_adjoint(edge_weights * rows[-1]) / per_hu
        return along_axes(spread * back, transposed)

    rows = residual if edge_weights is None else [*residual, -edge_weights * _gradient(hu)]
    u, norms = conjugate_gradients(apply, adjoint, rows, torch.zeros_like(mu), options.num_iterations)
    change = (spread * along_axes(u, matrices)).clamp(min=-options.trust * spread, max=options.trust * spread)
    return (hu + change / per_hu).clamp(*HU_WINDOW), [norm / max(scale, 1e-12) for norm in norms]


def conjugate_gradients(
    apply: Callable[[Tensor], list[Tensor]],
    adjoint: Callable[[Sequence[Tensor]], Tensor],
    residual: Sequence[Tensor],
    u: Tensor,
    num_iterations: int,
) -> tuple[Tensor, list[float]]:
    """(u, norms): minimise |residual - apply(u)|^2 + |u|^2 from u = 0 by CGLS (Bjorck 1996, Sec. 7.4).

    apply maps u to a list of tensors like `residual`, adjoint is its adjoint. norms: of residual - apply(u), before and after
    each iteration; they never increase, as |u| never decreases (Steihaug 1983). Stops when nothing is left to gain.
    """
    rows = [row.clone() for row in residual]
    gradient = adjoint(rows)
    direction, energy = gradient.clone(), _dot([gradient], [gradient])
    norms, start = [math.sqrt(_dot(rows, rows))], energy
    for _ in range(num_iterations):
        if energy <= 1e-12 * start:
            break
        image = apply(direction)
        step = energy / (_dot(image, image) + _dot([direction], [direction]))
        u = u + step * direction
        rows = [row - step * part for row, part in zip(rows, image, strict=True)]
        gradient = adjoint(rows) - u
        previous, energy = energy, _dot([gradient], [gradient])
        direction = gradient + energy / previous * direction
        norms.append(math.sqrt(_dot(rows, rows)))
    return u, norms


class StepCorrection:
    """(x_0, t) -> x_0 for a sampler: every estimate corrected with weight alpha_bar_t / alpha_bar of the last step, none at
    zero SNR unless it is the only step. `uncorrected_hu` (B, D, H, W) is the last estimate as the network gave it."""

    def __init__(
        self,
        views: Sequence[MeasuredView],
        grid: VolumeGrid,
        hu_map: HuMap,
        calibration: Calibration,
        options: Consistency,
        alpha_bar: Tensor,
        last_timestep: int,
    ) -> None:
        self._views, self._grid, self._hu_map = views, grid, hu_map
        self._calibration, self._options = calibration, options
        self._weights = (alpha_bar / alpha_bar[last_timestep]).clamp(0, 1).tolist()
        self._weights[last_timestep] = 1.0  # also where both are 0
        self.uncorrected_hu: Tensor | None = None

    def __call__(self, x_0: Tensor, t: int) -> Tensor:
        """x_0: (B, 1, D, H, W) network units."""
        # the projector of a tilted view differentiates inside, which inference mode forbids
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(x_0.device.type, enabled=False):
            self.uncorrected_hu = self._hu_map.to_hu(x_0[:, 0].float().clone())
            if self._weights[t] == 0 or not self._views:
                return x_0
            volumes = [self._corrected(hu, t) for hu in self.uncorrected_hu.to(self._views[0].image.device)]
            return self._hu_map.to_x(torch.stack(volumes))[:, None].to(x_0)

    def _corrected(self, hu: Tensor, t: int) -> Tensor:
        error = expected_error(hu, None, self._calibration)
        return correct_volume(hu, error, self._grid, self._views, self._options, weight=self._weights[t])[0]


def _ray_axis(grid: VolumeGrid, beam: Beam) -> int:
    """Index axis (0 i, 1 j, 2 k) that runs most nearly along the central ray."""
    return int(np.abs(np.array(grid.direction).T @ beam.toward_detector).argmax())


def _least_deviation(columns: Tensor, target: Tensor) -> Tensor:
    """(n,) weights with columns (N, n) @ weights near target (N,), in float64, by iteratively reweighted least squares."""
    share = torch.ones_like(target)
    ridge = 1e-10 * float(columns.square().sum()) * torch.eye(columns.shape[1], dtype=columns.dtype, device=columns.device)
    weights = torch.zeros(columns.shape[1], dtype=columns.dtype, device=columns.device)
    for _ in range(_ROBUST_ROUNDS):
        weighted = columns * share[:, None]
        # around the last solution, so that the ridge does not pull an exact fit away
        normal, wanted = columns.T @ weighted + ridge, weighted.T @ (target - columns @ weights)
        weights = weights + torch.linalg.solve(normal.cpu(), wanted.cpu()).to(weights)  # too small a system for a GPU
        share = _ROBUST_SCALE / (target - columns @ weights).abs().clamp(min=_ROBUST_SCALE)
    return weights


def _cosines(shape: Sequence[int], count: int, device: torch.device) -> Tensor:
    """(n, Hd, Wd) float64: products of the `count` longest cosines along rows and columns, within a quarter ellipse."""
    orders = torch.arange(count, dtype=torch.float64, device=device)[:, None]
    rows, columns = (torch.cos(math.pi * orders * (torch.arange(n, device=device) + 0.5) / n) for n in shape)
    pairs = [(a, b) for a in range(count) for b in range(count) if a * a + b * b < count * count]
    return torch.stack([rows[a][:, None] * columns[b] for a, b in pairs])


def _gradient(volume: Tensor) -> Tensor:
    """(3, D, H, W) forward differences, 0 at the far end."""
    parts = []
    for axis in range(3):
        last = volume.narrow(axis, volume.shape[axis] - 1, 1)
        parts.append(torch.diff(volume, dim=axis, append=last))
    return torch.stack(parts)


def _gradient_adjoint(parts: Tensor) -> Tensor:
    """The adjoint of `_gradient`: minus the divergence."""
    total = torch.zeros_like(parts[0])
    for axis, part in enumerate(parts):
        inner = part.narrow(axis, 0, part.shape[axis] - 1)
        total.narrow(axis, 0, part.shape[axis] - 1).sub_(inner)
        total.narrow(axis, 1, part.shape[axis] - 1).add_(inner)
    return total


def _edge_weights(hu: Tensor, tv: float) -> Tensor:
    """(D, H, W) w with |w * gradient|^2 near tv * |gradient| / 100 HU at `hu` (lagged diffusivity, Vogel and Oman 1996)."""
    steepness = (_gradient(hu).square().sum(0) + _TV_ROUNDING_HU**2).sqrt()
    return (tv / (_TV_SCALE_HU * steepness)).sqrt()


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum(float((x * y).sum(dtype=torch.float64)) for x, y in zip(a, b, strict=True))
