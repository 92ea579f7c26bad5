"""How near 2D/3D registration comes: CTs that were moved, against X-rays of where they were.

    .venv/bin/python Testing/Benchmarks/registering.py [--phantoms 903 904] [--cts CT.nii.gz ...]

Each CT is moved by a random shift of up to `SHIFT_MM` along each axis and a random turn of up to `TURN_DEG` about each, and
X-rayed there: as line integrals and by a random detector. It is then registered from where it lies, whole and cut to `KEPT` of
its height, so that the X-rays show more than it holds. Prints, as Markdown, the mean target registration error (mTRE: of eight
points 50 mm from the isocentre along each axis) before and after. About a minute per case on two CPU cores.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from diff2ct.phantom import make_phantom
from diff2ct.process import tune_allocator
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.registration import register, rotation
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume
from diff2ct.volume_io import read_ct
from diff2ct_training.drr import BiplanarSetup
from judging import XRAYS

SHIFT_MM, TURN_DEG, KEPT = 30.0, 5.0, 0.6
CORNERS = 50.0 * np.array(list(itertools.product((-1, 1), repeat=3)))
FOUND_MM = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, nargs="*", default=[903, 904])
    parser.add_argument("--cts", type=Path, nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=1, help="poses of each CT")
    options = parser.parse_args()
    tune_allocator()
    cases = [(f"phantom {seed}", lambda seed=seed: phantom_scan(seed)) for seed in options.phantoms]
    cases += [(path.name, lambda path=path: read_ct(path)) for path in options.cts]
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for number, (name, make) in enumerate(cases):
        ct = make()
        for draw in range(options.draws):
            rng = np.random.default_rng(1000 * number + draw)
            pose, center = random_pose(ct, rng)
            line_integrals = xrayed(ct, pose, center)
            for xrays in ("line integrals", "random detector"):
                pair = [XRAYS[xrays](r, 1000 * number + 10 * draw + v) for v, r in enumerate(line_integrals)]
                for part, seen in (("whole", ct), (f"{KEPT:.0%} of the height", cropped(ct, rng))):
                    result = register(seen, pair)
                    errors = [target_error_mm(pose, start, center) for start in (np.eye(4), result.pose_lps)]
                    found.setdefault((xrays, part), []).append((*errors, result.seconds))
                    agreement = ", ".join(f"{b:.2f} -> {a:.2f}" for b, a in zip(result.before, result.after, strict=True))
                    found_mm = f"{errors[0]:.1f} -> {errors[1]:.2f} mm, {result.seconds:.0f} s"
                    print(f"{name}, {xrays}, {part}: {found_mm}; {agreement}; rival {result.rival:.2f}", flush=True)
    heads = "X-rays", "CT", "cases", "mTRE before, mm", "median after, mm", "worst after, mm", f"within {FOUND_MM:g} mm", "s"
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for (xrays, part), rows in found.items():
        before, after, seconds = np.array(rows).T
        within = int((after < FOUND_MM).sum())
        print(
            f"| {xrays} | {part} | {len(rows)} | {before.mean():.1f} | {np.median(after):.2f} | {after.max():.2f} | "
            f"{within} | {seconds.mean():.0f} |"
        )


def phantom_scan(seed: int) -> CtVolume:
    phantom = make_phantom(seed)
    return phantom.render(phantom.body_grid()).hu


def random_pose(ct: CtVolume, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(4, 4) in LPS that moves the CT, and the point that it turns about, its middle."""
    center = np.array(ct.grid.center_lps)
    turn = rotation(np.radians(rng.uniform(-TURN_DEG, TURN_DEG, 3)))
    pose = np.eye(4)
    pose[:3, :3] = turn
    pose[:3, 3] = center + rng.uniform(-SHIFT_MM, SHIFT_MM, 3) - turn @ center
    return pose, center


def xrayed(ct: CtVolume, pose: np.ndarray, center: np.ndarray) -> list[Radiograph]:
    """Line integrals of the CT where the pose moves it."""
    mu, moved = hu_to_mu(torch.from_numpy(ct.hu)), torch.from_numpy(pose)
    beams = BiplanarSetup().beams(tuple(center.tolist()))
    return [Radiograph(project(mu, ct.grid, b, pose=moved).numpy(), b, scale_known=True, source=b.view.value) for b in beams]


def cropped(ct: CtVolume, rng: np.random.Generator) -> CtVolume:
    """Some neighbouring slices of it."""
    slices = len(ct.hu)
    kept = round(KEPT * slices)
    first = int(rng.integers(slices - kept + 1))
    origin = (ct.grid.ijk_to_lps @ [0.0, 0.0, first, 1.0])[:3]
    grid = replace(ct.grid, size=(kept, *ct.grid.size[1:]), origin_lps=tuple(origin.tolist()))
    return CtVolume(ct.hu[first : first + kept], grid)


def target_error_mm(true_pose: np.ndarray, pose: np.ndarray, center: np.ndarray) -> float:
    """Mean distance of where the two poses bring the points."""
    points = np.concatenate([CORNERS + center, np.ones((len(CORNERS), 1))], axis=1)
    return float(np.linalg.norm((points @ (true_pose - pose).T)[:, :3], axis=1).mean())


if __name__ == "__main__":
    main()
