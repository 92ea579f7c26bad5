"""2D/3D registration: how a CT must be moved for its DRRs to show what the X-rays show.

A search by correlation over all shifts, then Gauss-Newton steps with Levenberg's damping over six degrees of freedom, from
coarse to fine. Compared are bands of detail with their local contrast taken out, so that neither the gain of a detector nor the
processing of a film matters, nor tissue that the X-ray sees and a cropped CT lacks, which is smooth.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diff2ct.diffusion import Cancelled
from diff2ct.geometry import Beam
from diff2ct.overlay import crop_bands, cut_faces, gradient_correlation, without_padding
from diff2ct.pooling import pooled
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.smooth import gaussian_matrix
from diff2ct.units import TISSUE_HU, hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid

VOXEL_MM = 3.0
"""To which finer CTs are averaged."""
LEVELS_MM = (5.0, 3.0, 2.0)
"""Widths of the finest detail that is compared, one level after the other; pixels in the patient are as large, 4 mm at most."""
_SEARCH_MM = 5.0
_HEIGHTS, _PLACES, _APART_MM = 5, 3, 12.0
"""Heights, and at each of them places across each view, that the search finds, and how far apart: a vertebra higher or lower
everything looks alike."""
_CANDIDATES, _LEAST_SHARE = 3, 0.5
"""How many of them are refined, and with how much of the agreement of the best one at least."""
_ELSEWHERE_MM = 8.0
"""From where that has come to rest which was refined once: another place."""
_LEAST_OVERLAP = 0.35
"""Share of what the DRR shows, or of the X-ray if that is smaller, that a shift leaves in sight."""
_LEAST_PIXELS = 200
_ARM_MM = 60.0
"""A turn counts as the way that a point makes so far from the isocentre."""
_MOST_STEP_MM, _STILL_MM = 10.0, 0.03
_ITERATIONS, _TRIES = 12, 6
_USUAL_ITERATIONS = 6, 2, 2
"""How many a level takes, as was seen with phantoms; so much of the work is expected to be left."""
_COST_OF_DRR, _VOXELS_PER_COST, _COST_OF_AGREEMENT = 4000, 100, 1.5
"""To tell how much of the work is done. A DRR takes as long as its pixels and so many more; so many voxels of the CT are
prepared in the time of one pixel; an agreement takes as long as so many DRRs. Measured on phantoms with voxels of 3 mm, one
thread of an Intel Xeon."""
_FAINT = 0.3
_LEAST_POWER = 1e-4
"""Of the damping of a degree of freedom, in shares of the largest: parallel rays do not tell a shift along them at all."""
_RIGID = 1e-3
"""How far the columns of a turn may be from orthonormal, as in `VolumeGrid`."""


@dataclass(frozen=True, eq=False)
class Registration:
    """pose_lps: (4, 4), moves the CT to where the X-rays show it [mm]. before, after: gradient correlation of each X-ray and
    its DRR at the start and there, 1 is perfect, NaN without overlap (`overlay.gradient_correlation`). rival: how well the best
    other place fits that was tried, as share of this one; 0 if there was none, near 1 this one may be wrong."""

    pose_lps: np.ndarray
    before: tuple[float, ...]
    after: tuple[float, ...]
    rival: float
    seconds: float


def register(
    ct: CtVolume,
    radiographs: Sequence[Radiograph],
    *,
    start_lps: np.ndarray | None = None,
    search: bool = True,
    on_progress: Callable[[float], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> Registration:
    """Rigid registration of a CT to one or several X-rays of the same patient, whose geometry stays.

    start_lps: (4, 4) pose to begin with, by default none: as the CT lies. search: look for the shift first, over as far as the
    DRRs still meet the X-rays, and from the isocentre if they do not; the turn must be right to some 15 degrees. Without it the
    start must be right to about a centimetre. One X-ray alone hardly tells how far the CT is from its source. on_progress: told
    the share of the work that is done, which never falls and ends with 1.

    Raises ValueError for a pose that is not rigid and if an X-ray and its DRR have nothing to compare, `diffusion.Cancelled`
    between steps.
    """
    if not radiographs:
        raise ValueError("radiographs: got none, accepted is one or more")
    start = time.perf_counter()
    first = np.eye(4) if start_lps is None else _rigid(start_lps)
    levels = [[_View(r, mm) for r in radiographs] for mm in LEVELS_MM]
    hu, grid = without_padding(ct.hu, ct.grid)
    mu, grid = pooled(hu_to_mu(torch.from_numpy(hu)), grid, [max(1, round(VOXEL_MM / mm)) for mm in grid.spacing_mm])
    center = np.mean([r.geometry.isocenter_lps for r in radiographs], axis=0)
    cut = cut_faces(mu.numpy(), hu_to_mu(np.float64(TISSUE_HU)))
    work = _Work(is_cancelled or (lambda: False), on_progress or (lambda share: None), done=hu.size / _VOXELS_PER_COST)
    scene = _Scene(mu, grid, cut, center, work)
    usual = _USUAL_ITERATIONS[: len(levels)]
    refining, *rest = (work.of_refining(views, count) for views, count in zip(levels, usual, strict=True))
    rest.append(2 * sum(view.cost for view in levels[-1]))  # the agreements before and after
    poses, views = [first], levels[0]
    if search:
        searching = [_View(r, _SEARCH_MM) for r in radiographs]
        work.begin(work.of_agreements(searching, _HEIGHTS * _PLACES ** len(views)), (1 + _CANDIDATES) * refining + sum(rest))
        near = first if scene.meets(searching, first) else scene.centered(first)
        poses = [near, *scene.likeliest(searching, scene.shifted(searching, near))]
    refined = []
    for number, pose in enumerate(poses, 1):
        work.begin(refining, (len(poses) - number) * refining + sum(rest))
        refined.append(scene.refined(views, pose))
    pose, rival = scene.best(views, refined)
    for number, views in enumerate(levels[1:]):
        work.begin(rest[number], sum(rest[number + 1 :]))
        pose = scene.refined(views, pose)
    work.begin(rest[-1], 0.0)
    before, after = (tuple(scene.gradient_agreement(view, at) for view in views) for at in (first, pose))
    if any(map(math.isnan, after)):
        raise ValueError("ct: its DRRs and the X-rays show nothing in common that could be compared")
    work.end()
    return Registration(pose, before, after, rival, seconds=time.perf_counter() - start)


@dataclass
class _Work:
    """Told of each DRR before it is made: stops if that is wanted, and tells the share of the work that is done. How much is
    left is expected, of the part that goes on and of all later ones. Costs are in pixels of DRRs."""

    is_cancelled: Callable[[], bool]
    on_progress: Callable[[float], None]
    done: float
    part: float = 0.0
    later: float = 0.0
    told: float = 0.0

    def begin(self, part: float, later: float) -> None:
        self.part, self.later = part, later

    def advance(self, view: _View, drrs: float = 1.0) -> None:
        if self.is_cancelled():
            raise Cancelled("cancelled while the CT was registered")
        cost = drrs * view.cost
        left = max(cost, self.part) + self.later
        self.told = max(self.told, self.done / (self.done + left))
        self.on_progress(self.told)
        self.done, self.part = self.done + cost, max(0.0, self.part - cost)

    def end(self) -> None:
        self.on_progress(1.0)

    @staticmethod
    def of_agreements(views: Sequence[_View], count: int) -> float:
        return count * _COST_OF_AGREEMENT * sum(view.cost for view in views)

    @staticmethod
    def of_refining(views: Sequence[_View], iterations: int) -> float:
        """In each iteration: where it is, a step along each degree of freedom, and the way that is tried."""
        return iterations * (1 + 6 + 1) * sum(view.cost for view in views)


class _View:
    """An X-ray at one level of detail. seen: (H, W) where it shows the patient, without a margin of its border."""

    def __init__(self, radiograph: Radiograph, detail_mm: float):
        small = radiograph.resized(patient_spacing_mm=min(detail_mm, 4.0))
        self.beam: Beam = small.geometry
        sigmas = [detail_mm / mm for mm in self.beam.patient_spacing_mm]
        like = torch.zeros((), dtype=torch.float32)
        self._blurs = [
            [gaussian_matrix(n, factor * sigma, like) for n, sigma in zip(self.beam.detector_size, sigmas, strict=True)]
            for factor in (1, 4, 8)
        ]
        self.cost = _COST_OF_DRR + math.prod(self.beam.detector_size)
        self.image = torch.from_numpy(small.line_integral)
        valid = torch.from_numpy(small.valid)
        inside = self._blur(valid.float(), 0) > 0.98
        inside[0] = inside[-1] = False
        inside[:, 0] = inside[:, -1] = False
        self.seen = valid & inside
        if int(self.seen.sum()) < _LEAST_PIXELS:
            raise ValueError(f"radiographs: the {self.beam.view.value} X-ray shows too little to compare it with a CT")

    def _blur(self, image: Tensor, which: int) -> Tensor:
        rows, columns = self._blurs[which]
        return rows @ image @ columns.T

    def detail(self, image: Tensor, where: Tensor) -> Tensor:
        """What is neither finer nor much coarser than the level, over its local contrast; only what is inside of `where` counts
        for it (normalised convolution), and outside it is 0."""
        share = where.float()

        def mean(values: Tensor, which: int) -> Tensor:
            return self._blur(values * share, which) / self._blur(share, which).clamp_min(1e-6)

        band = (mean(image, 0) - mean(image, 1)) * share
        contrast = mean(band.square(), 2).clamp_min(0).sqrt()
        present = contrast[where]
        return band / (contrast + _FAINT * present.median()).clamp_min(1e-12) if len(present) else band


@dataclass(frozen=True)
class _Scene:
    """The CT, the faces at which it was cut, the point that it turns about, and who is told of the work."""

    mu: Tensor
    grid: VolumeGrid
    cut: np.ndarray
    center: np.ndarray
    work: _Work

    def drr(self, view: _View, pose: np.ndarray, drrs: float = 1.0) -> Tensor:
        """0 where no ray meets the CT, nor one that does not lie wholly before the source. drrs: as how many it counts, with
        what is made of it."""
        self.work.advance(view, drrs)
        try:  # what makes many projections from one pose faster takes longer than one
            return project(self.mu, self.grid, view.beam, pose=torch.from_numpy(pose), separable=False)
        except ValueError:
            return torch.zeros(view.beam.detector_size)

    def compared(self, view: _View, drr: Tensor, pose: np.ndarray) -> Tensor:
        """(H, W) bool: where both show the patient."""
        return view.seen & (drr > 0) & self._uncut(view, pose)

    def _uncut(self, view: _View, pose: np.ndarray) -> Tensor:
        return ~torch.from_numpy(crop_bands(self.grid, pose, view.beam, self.cut))

    def meets(self, views: Sequence[_View], pose: np.ndarray) -> bool:
        """Whether every X-ray would show some of the CT."""
        return all(int((self.drr(view, pose) > 0).sum()) >= _LEAST_PIXELS for view in views)

    def centered(self, pose: np.ndarray) -> np.ndarray:
        """`pose`, then a shift that brings the middle of the CT to the isocentre."""
        result = pose.copy()
        result[:3, 3] = self.center - pose[:3, :3] @ self.grid.center_lps
        return result

    def agreement(self, views: Sequence[_View], pose: np.ndarray) -> float:
        """Mean correlation of what is compared, of all views; -1 where there is nothing."""
        found = []
        for view in views:
            drr = self.drr(view, pose, _COST_OF_AGREEMENT)
            where = self.compared(view, drr, pose)
            enough = int(where.sum()) >= _LEAST_PIXELS
            pair = (_unit(view.detail(image, where), where) for image in (drr, view.image))
            found.append(float(torch.dot(*pair)) if enough else -1.0)
        return float(np.mean(found))

    def gradient_agreement(self, view: _View, pose: np.ndarray) -> float:
        drr = self.drr(view, pose)
        where = self.compared(view, drr, pose).numpy()
        return gradient_correlation(drr.numpy(), view.image.numpy(), where) if where.any() else math.nan

    def moved(self, pose: np.ndarray, six: np.ndarray) -> np.ndarray:
        """`pose`, then a turn about the centre and a shift. six: shift [mm], turn [mm at `_ARM_MM`] about x, y, z."""
        turn = rotation(six[3:] / _ARM_MM)
        step = np.eye(4)
        step[:3, :3] = turn
        step[:3, 3] = self.center + six[:3] - turn @ self.center
        result: np.ndarray = step @ pose
        return result

    def shifted(self, views: Sequence[_View], pose: np.ndarray) -> list[np.ndarray]:
        """`pose` moved to where DRRs and X-rays fit best."""
        profiles = []
        for view in views:
            drr = self.drr(view, pose)
            profiles.append(_correlations(view, drr, (drr > 0) & self._uncut(view, pose)))
        return _best_shifts(views, profiles, pose)

    def likeliest(self, views: Sequence[_View], poses: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The best ones, without those that are far behind: to refine takes time."""
        agreements = [self.agreement(views, pose) for pose in poses]
        best = max(agreements, default=0.0)
        least = best - (1 - _LEAST_SHARE) * abs(best)
        order = sorted(range(len(poses)), key=lambda index: -agreements[index])
        return [poses[index] for index in order[:_CANDIDATES] if agreements[index] >= least]

    def best(self, views: Sequence[_View], poses: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
        """The pose with the best agreement, and that of the best one elsewhere, as share of it."""
        agreements = [self.agreement(views, pose) for pose in poses]
        top = int(np.argmax(agreements))
        middle = np.append(self.center, 1.0)
        off_mm = [float(np.linalg.norm((np.linalg.inv(pose) - np.linalg.inv(poses[top])) @ middle)) for pose in poses]
        others = [agreement for agreement, mm in zip(agreements, off_mm, strict=True) if mm > _ELSEWHERE_MM]
        return poses[top], max(0.0, *others) / agreements[top] if others and agreements[top] > 0 else 0.0

    def refined(self, views: Sequence[_View], pose: np.ndarray) -> np.ndarray:
        """The nearest pose at which the sum of squared differences is smallest."""
        damping = 1e-2
        for _iteration in range(_ITERATIONS):
            drrs = [self.drr(view, pose) for view in views]
            where = [self.compared(view, drr, pose) for view, drr in zip(views, drrs, strict=True)]
            if min(int(there.sum()) for there in where) < _LEAST_PIXELS:
                return pose
            overlap = _Overlap.of(views, where)
            residual = overlap.residual(drrs)
            jacobian = np.stack([self._residual(overlap, pose, one) - residual for one in np.eye(6)], axis=1)
            hessian, slope = jacobian.T @ jacobian, jacobian.T @ residual
            power = np.diag(hessian)
            power = power.clip(max(_LEAST_POWER * power.max(), 1e-30))
            step = None
            for _try in range(_TRIES):
                six = -np.linalg.solve(hessian + damping * np.diag(power), slope)
                six /= max(1.0, float(np.abs(six).max()) / _MOST_STEP_MM)
                if np.square(self._residual(overlap, pose, six)).sum() < np.square(residual).sum():
                    step, damping = six, max(damping / 4, 1e-4)
                    break
                damping *= 6
            if step is None:
                return pose
            pose = self.moved(pose, step)
            if np.abs(step).max() < _STILL_MM:
                return pose
        return pose

    def _residual(self, overlap: _Overlap, pose: np.ndarray, six: np.ndarray) -> np.ndarray:
        moved = self.moved(pose, six)
        return overlap.residual([self.drr(view, moved) for view in overlap.views])


@dataclass(frozen=True)
class _Overlap:
    """What is compared, and the detail of the X-rays there, so that a step is judged where it began."""

    views: Sequence[_View]
    where: Sequence[Tensor]
    details: Sequence[Tensor]

    @classmethod
    def of(cls, views: Sequence[_View], where: Sequence[Tensor]) -> _Overlap:
        return cls(
            views, where, [_unit(view.detail(view.image, there), there) for view, there in zip(views, where, strict=True)]
        )

    def residual(self, drrs: Sequence[Tensor]) -> np.ndarray:
        """(N,) by how much the detail of the DRRs differs."""
        found = [
            _unit(view.detail(drr, there), there) - detail
            for view, drr, there, detail in zip(self.views, drrs, self.where, self.details, strict=True)
        ]
        return torch.cat(found).double().numpy()


def _unit(image: Tensor, where: Tensor) -> Tensor:
    """Its values there, with mean 0 and length 1."""
    values = image[where]
    values = values - values.mean()
    return values / values.norm().clamp_min(1e-12)


def _correlations(view: _View, drr: Tensor, where: Tensor) -> Tensor:
    """(2H - 1, 2W - 1): correlation of X-ray and DRR for each shift of the DRR by whole pixels, from -(H - 1), -(W - 1) on; -1
    where too little is left in sight."""
    height, width = view.beam.detector_size
    size = 2 * height - 1, 2 * width - 1

    def spectrum(image: Tensor) -> Tensor:
        return torch.fft.rfft2(image.double(), s=size)

    def sums(of_xray: Tensor, of_drr: Tensor) -> Tensor:
        """For each shift, the sum of products."""
        found = torch.fft.irfft2(spectrum(of_xray) * spectrum(of_drr).conj(), s=size)
        return torch.roll(found, (height - 1, width - 1), (0, 1))

    seen, there = view.seen.float(), where.float()
    band, detail = view.detail(view.image, view.seen), view.detail(drr, where)
    count = sums(seen, there).clamp_min(1.0)
    band_sum, detail_sum = sums(band, there), sums(seen, detail)
    product = sums(band, detail) - band_sum * detail_sum / count
    band_power = sums(band.square(), there) - band_sum.square() / count
    detail_power = sums(seen, detail.square()) - detail_sum.square() / count
    power = band_power.clamp_min(1e-6) * detail_power.clamp_min(1e-6)
    least = max(_LEAST_PIXELS, _LEAST_OVERLAP * min(float(seen.sum()), float(there.sum())))
    return torch.where(count > least, product / power.sqrt() * (count / count.max()).sqrt(), -1.0)


def _best_shifts(views: Sequence[_View], correlations: Sequence[Tensor], pose: np.ndarray) -> list[np.ndarray]:
    """`pose` moved to the best heights that all views agree on, in steps of 1 mm, and there across each view to its best
    places."""
    sides = [_upright(view.beam, found.numpy()) for view, found in zip(views, correlations, strict=True)]
    reach = min((len(found) + 1) // 2 * float(np.linalg.norm(per_row)) for found, per_row, _per_column in sides)
    heights = np.arange(-math.floor(reach), math.floor(reach) + 1)
    score, of_views = np.zeros(len(heights)), []
    for found, per_row, per_column in sides:
        no_shift, no_way = (n // 2 for n in found.shape)
        at = np.rint(heights / per_row[2]).astype(int) + no_shift
        is_known = (at >= 0) & (at < len(found))
        profiles = found[at.clip(0, len(found) - 1)]
        score += np.where(is_known, profiles.max(axis=1), -1.0)
        steps = np.arange(found.shape[1]) - no_way
        of_views.append((profiles, steps * float(np.linalg.norm(per_column)), steps[:, None] * per_column * [1.0, 1.0, 0.0]))
    poses = []
    for height in _peaks(score, heights, _HEIGHTS, least=-len(views)):
        ways = []
        for profiles, across_mm, across_lps in of_views:
            places = _peaks(profiles[height], across_mm, _PLACES, least=-1.0)
            ways.append([across_lps[place] for place in places] or [np.zeros(3)])
        for shifts in itertools.product(*ways):
            moved = pose.copy()
            moved[:3, 3] += np.sum(shifts, axis=0) + [0.0, 0.0, heights[height]]
            poses.append(moved)
    return poses


def _upright(beam: Beam, correlations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(correlations, shift per row, shift per column [mm], LPS) with the rows along the body, also of a picture on its side."""
    per_column, per_row = (axis * mm for axis, mm in zip(beam.detector_axes, beam.patient_spacing_mm[::-1], strict=True))
    if abs(beam.detector_axes[0][2]) > abs(beam.detector_axes[1][2]):
        return correlations.T, per_column, per_row
    return correlations, per_row, per_column


def _peaks(score: np.ndarray, places_mm: np.ndarray, count: int, least: float) -> list[int]:
    """Indices of the best places above `least`, the best first and none near a better one."""
    score, found = score.copy(), []
    for _peak in range(count):
        top = int(score.argmax())
        if score[top] <= least:
            break
        found.append(top)
        score[np.abs(places_mm - places_mm[top]) < _APART_MM] = -math.inf
    return found


def _rigid(pose: np.ndarray) -> np.ndarray:
    """(4, 4) float64; ValueError if it is no turn and shift."""
    pose = np.array(pose, dtype=np.float64)
    if pose.shape != (4, 4):
        raise ValueError(f"start_lps: got shape {pose.shape}, accepted is (4, 4)")
    turn = pose[:3, :3]
    unchanged = np.allclose(turn.T @ turn, np.eye(3), atol=_RIGID) and np.linalg.det(turn) > 0
    if not (np.isfinite(pose).all() and unchanged and np.allclose(pose[3], (0, 0, 0, 1))):
        raise ValueError(f"start_lps: got {pose.tolist()}, accepted is a rigid one, a turn and a shift")
    return pose


def rotation(vector: np.ndarray) -> np.ndarray:
    """(3, 3): turn about `vector` by its length [rad] (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    result: np.ndarray = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return result
