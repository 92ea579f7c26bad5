"""Does CycleGAN translate X-ray styles, and does anything move when it does? Measured where the truth is known.

    .venv/bin/python Testing/Benchmarks/style.py --output style [--steps 1500] [--edge-weight 1] [--help]

Real films have no DRR to compare with. Here the physics simulator is the hospital: one kind of detector (beam hardening, focal
spot, scatter, quantum noise, film processing with local contrast, an S-curve, a collimator that varies) takes X-rays of
phantoms. CycleGAN learns from DRRs of some phantoms and films of others; for phantoms that it never saw, DRR and film of the
same rays are both known. In both directions, with nothing done, with the histogram of each image matched to the other style's,
and with the trained network:

error: root mean square difference to the known image of the wanted style, in standard deviations of an X-ray (gain and offset
    do not count). Films are noisy, so toward films there is a floor: the error between two films of the same rays.
landmark shift: how far the surroundings of vertebral bodies, endplate corners, screw tips and heads moved, at the isocentre.
reconstruction: what the embedded checkpoint makes of DRRs, films, and films translated to DRRs (--reconstruct N phantoms).

Writes results.md and style.png. Goes on where it stopped; a small network on a CPU, not what a GPU would train.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diff2ct.checkpoint import load_checkpoint
from diff2ct.compare import compare_volumes
from diff2ct.networks import ResNet2DConfig
from diff2ct.phantom import LumbarPhantom, make_phantom
from diff2ct.process import tune_allocator
from diff2ct.radiograph import Radiograph
from diff2ct.reconstruct import reconstruct
from diff2ct.simulate import LOG_RANGE, DetectorModel, acquire
from diff2ct.standardize import standardize
from diff2ct.translator import load_translator, translate
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct_training.acquisitions import AcquisitionConfig, acquire_views, acquisition_files, acquisition_path
from diff2ct_training.cases import Case
from diff2ct_training.cyclegan import CycleGanRecipe
from diff2ct_training.loop import train
from diff2ct_training.recipes import cyclegan
from diff2ct_training.style_scores import landmark_shifts, style_error
from diff2ct_training.xray_file import read_xrays, write_xrays

SPACING_MM = 3.0
ACQUISITION = AcquisitionConfig(ideal_detector=1.0, cube_only=0.0, pose_error_deg=0.0, pose_error_mm=0.0, detector_pixels=192)
DRR_SEEDS, FILM_SEEDS = 10_000, 11_000
"""First phantom of each style; those of the test are 0, 1, 2 ..."""
NOTHING, MATCHED, TRANSLATED = "nothing done", "histogram matched", "CycleGAN"


@dataclass(frozen=True, eq=False)
class Pair:
    """One view of a test phantom in both styles, and a second film of it. landmarks: (N, 2) rows and columns."""

    drr: Radiograph
    film: Radiograph
    second_film: Radiograph
    landmarks: np.ndarray


def hospital(rng: np.random.Generator) -> DetectorModel:
    """The detector of the simulated films; only the collimator varies."""
    top, bottom, left, right = rng.uniform(0, 0.12, 4)
    return DetectorModel(
        beam_hardening=0.03, photons_per_pixel=3e5, scatter_fraction=0.4, focal_blur_mm=0.8, detector_blur_mm=0.4,
        collimation=(top, bottom, left, right), tone="film", local_contrast=0.75, local_contrast_sigma_mm=25.0,
        film_contrast=4.5, gamma=0.9, bright_is_dense=True, gain=0.9, offset=0.05, bits=12,
    )  # fmt: skip


def x_ray(seed: int, spacing_mm: float = SPACING_MM) -> tuple[LumbarPhantom, list[Radiograph]]:
    """A phantom and its frontal and lateral DRR, about a random isocentre."""
    phantom = make_phantom(seed)
    image = phantom.render(phantom.body_grid(spacing_mm)).hu
    case = Case(f"phantom_{seed:06d}", "phantom", image.hu.round().astype(np.int16), image.grid, (0.0, 0.0, 0.0), "")
    grid = VolumeGrid.centered(round(256 / spacing_mm), spacing_mm)
    views = acquire_views(case, np.random.default_rng(seed), ACQUISITION, grid)
    return phantom, [
        Radiograph(LOG_RANGE * i.numpy(), beam, scale_known=True, source=f"{case.name} {beam.view.value}")
        for i, beam in zip(views.images, views.beams, strict=True)
    ]


def film_of(drr: Radiograph, seed: int, noise_seed: int = 0) -> Radiograph:
    """What the hospital's detector shows of the same rays."""
    model, noise = hospital(np.random.default_rng([seed, 1])), torch.Generator().manual_seed(2 * seed + noise_seed)
    image, valid = acquire(torch.from_numpy(drr.line_integral)[None], drr.geometry.detector_spacing_mm[0], model, noise)
    return replace(drr, line_integral=image[0].numpy(), valid=valid[0].numpy(), scale_known=False)


def store(folder: Path, seeds: range, style: Callable[[Radiograph, int], Radiograph]) -> Path:
    """X-rays of one style as training reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = acquisition_path(folder, f"phantom_{seed:06d}", 0)
        if not path.exists():
            views = [style(drr, seed) for drr in x_ray(seed)[1]]
            write_xrays(path, [v.line_integral for v in views], [v.valid for v in views], [v.geometry for v in views])
    return folder


def held_out_pairs(count: int) -> list[Pair]:
    pairs = []
    for seed in range(count):
        phantom, drrs = x_ray(seed)
        points = landmarks_of(phantom)
        for drr in drrs:
            film, second = film_of(drr, seed), film_of(drr, seed, 1)
            pairs.append(Pair(replace(drr, valid=film.valid), film, second, drr.geometry.project_points(points)))
    return pairs


def landmarks_of(phantom: LumbarPhantom) -> np.ndarray:
    """(N, 3) LPS [mm]: middle and four endplate corners of each vertebral body, tip and head of each screw."""
    points = [p for screw in phantom.screws for p in (screw.tip_lps, screw.head_lps)]
    for vertebra in phantom.anatomy.vertebrae:
        size, pose = vertebra.size, vertebra.pose
        half = 0.5 * np.array([size.width_upper, size.depth, size.height])
        corners = [(x, 0, z) for x in (-1, 1) for z in (-1, 1)] + [(0, y, z) for y in (-1, 1) for z in (-1, 1)]
        points += [pose.center_lps, *(pose.center_lps + pose.rotation @ (half * c) for c in corners)]
    return np.array(points)


def matched_to(folder: Path) -> Callable[[Radiograph], Radiograph]:
    """Histogram matching: each image gets the mean quantiles of all standardised X-rays of its kind in `folder`."""
    shares = np.linspace(0, 1, 257)
    quantiles: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for path in acquisition_files(folder, "*"):
        images, valid, beams, _ = read_xrays(path)
        seen = standardize(torch.from_numpy(images), torch.from_numpy(valid)).numpy()
        for image, mask, beam in zip(seen, valid, beams, strict=True):
            quantiles[beam.view.is_lateral].append(np.quantile(image[mask], shares))
    wanted = {lateral: np.mean(of_kind, axis=0) for lateral, of_kind in quantiles.items()}

    def match(radiograph: Radiograph) -> Radiograph:
        own = np.quantile(radiograph.line_integral[radiograph.valid], shares)
        rank = np.interp(radiograph.line_integral, own, shares)
        return replace(radiograph, line_integral=np.interp(rank, shares, wanted[radiograph.geometry.view.is_lateral]))

    return match


def score(pairs: list[Pair], to_drr: bool, change: Callable[[Radiograph], Radiograph]) -> dict[str, float]:
    errors, shifts = [], []
    for pair in pairs:
        before, wanted = (pair.film, pair.drr) if to_drr else (pair.drr, pair.film)
        after = change(before)
        drr, styled, truth = (torch.from_numpy(r.line_integral) for r in (pair.drr, after, wanted))
        valid = torch.from_numpy(pair.film.valid)
        errors.append(style_error(styled, truth, valid))
        mm = before.geometry.detector_spacing_mm[0] / before.geometry.magnification
        # against the noiseless DRR: what counts is where things are, not where they were seen in a noisy film
        shift = landmark_shifts(drr, styled, valid, pair.landmarks)
        shifts.append(np.hypot(*shift.T) * mm)
    all_mm = np.concatenate(shifts)
    all_mm = all_mm[np.isfinite(all_mm)]
    return {
        "error": float(np.mean(errors)),
        "mean": float(all_mm.mean()),
        "p95": float(np.quantile(all_mm, 0.95)),
        "most": float(all_mm.max()),
        "count": len(all_mm),
    }


def score_reconstruction(count: int, change: Callable[[Radiograph], Radiograph]) -> list[str]:
    """Rows of a table: SSIM in the body, bone Dice and body MAE of the embedded checkpoint, means of `count` phantoms."""
    checkpoint, rows = load_checkpoint(), []
    scores: dict[str, list[list[float]]] = {"DRR": [], "film": [], "film, CycleGAN": []}
    for seed in range(count):
        phantom, drrs = x_ray(seed, 2.0)
        films = [film_of(drr, seed) for drr in drrs]
        drrs = [replace(d, valid=f.valid) for d, f in zip(drrs, films, strict=True)]
        for name, pair in (("DRR", drrs), ("film", films), ("film, CycleGAN", [change(f) for f in films])):
            volume = reconstruct(pair, checkpoint).volume
            truth = CtVolume(phantom.render(volume.grid).hu.hu, volume.grid)
            found = compare_volumes(volume, truth).scores
            scores[name].append([float(found[key] or np.nan) for key in ("ssim_3d_body", "bone_dice", "mae_hu_body")])
    for name, values in scores.items():
        ssim, dice, mae = np.mean(values, axis=0)
        rows.append(f"| {name} | {ssim:.3f} | {dice:.3f} | {mae:.1f} |")
    return rows


def picture(path: Path, pairs: list[Pair], to_drr: Callable, to_film: Callable) -> None:  # type: ignore[type-arg]
    """Per view: the film, what becomes of it, the DRR, what becomes of that."""
    from matplotlib.image import imsave

    rows = []
    for pair in pairs:
        images = [pair.film, to_drr(pair.film), pair.drr, to_film(pair.drr)]
        seen = [standardize(torch.from_numpy(r.line_integral), torch.from_numpy(r.valid)).numpy() for r in images]
        rows.append(np.concatenate(seen, axis=1))
    imsave(path, np.concatenate(rows).clip(-2.5, 2.5), cmap="gray")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("style"), help="folder for data, run and results")
    parser.add_argument("--run", default="run", help="name of the run in it")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--residual", action="store_true", help="generators that add to the image")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--edge-weight", type=float, default=1.0)
    parser.add_argument("--phantoms", type=int, default=30, help="of each style")
    parser.add_argument("--test", type=int, default=8, help="phantoms to test on")
    parser.add_argument("--reconstruct", type=int, default=0, help="phantoms to reconstruct")
    options = parser.parse_args()
    tune_allocator()

    output, start = options.output, time.monotonic()
    drrs = store(output / "drrs", range(DRR_SEEDS, DRR_SEEDS + options.phantoms), lambda drr, seed: drr)
    films = store(output / "films", range(FILM_SEEDS, FILM_SEEDS + options.phantoms), film_of)
    print(f"X-rays of 2 x {options.phantoms} phantoms: {time.monotonic() - start:.0f} s", flush=True)
    run, begun = output / options.run, time.monotonic()
    train(recipe_of(options, films), drrs, run, on_step=lambda step, of, loss: tell(step, of, loss, begun))
    to_drr, to_film = (
        partial(translate, translator=load_translator(run / f"checkpoint_{name}.safetensors"))
        for name in ("real_to_drr", "drr_to_real")
    )

    pairs = held_out_pairs(options.test)
    lines = [
        f"{options.test} phantoms never seen, {len(pairs)} X-rays; {options.steps} steps, edge weight {options.edge_weight:g}, "
        f"{options.size} pixels, width {options.width}, {options.blocks} blocks, {options.phantoms} phantoms of each style.",
        "",
        "| direction | done | error [SD] | landmark shift [mm]: mean | 95 % | most | landmarks |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for toward, method, matched in ((True, to_drr, drrs), (False, to_film, films)):
        for name, change in ((NOTHING, lambda r: r), (MATCHED, matched_to(matched)), (TRANSLATED, method)):
            s = score(pairs, toward, change)
            direction = "film -> DRR" if toward else "DRR -> film"
            figures = f"{s['error']:.3f} | {s['mean']:.2f} | {s['p95']:.2f} | {s['most']:.2f} | {s['count']:.0f}"
            lines.append(f"| {direction} | {name} | {figures} |")
    floor = np.mean([
        style_error(*(torch.from_numpy(r.line_integral) for r in (p.film, p.second_film)), torch.from_numpy(p.film.valid))
        for p in pairs
    ])  # fmt: skip
    lines += ["", f"Error between two films of the same rays: {floor:.3f} SD."]
    if options.reconstruct:
        header = ["", "| X-rays | SSIM in the body | bone Dice | body MAE [HU] |", "| --- | --- | --- | --- |"]
        lines += [*header, *score_reconstruction(options.reconstruct, to_drr)]
    (run / "results.md").write_text("\n".join(lines) + "\n")
    picture(run / "style.png", pairs[:6], to_drr, to_film)
    print("\n".join(lines))
    return 0


def recipe_of(options: argparse.Namespace, films: Path) -> CycleGanRecipe:
    return replace(
        cyclegan(), name="style-benchmark", films=str(films), size=options.size, num_steps=options.steps,
        generator=ResNet2DConfig(width=options.width, num_blocks=options.blocks, residual=options.residual),
        discriminator_widths=tuple(options.width * k for k in (1, 2, 4, 8)), edge_weight=options.edge_weight,
        learning_rate=options.learning_rate, ema_decay=0.99, precision="32-true", save_every=100, picture_every=500,
    )  # fmt: skip


def tell(step: int, of: int, loss: float, begun: float) -> None:
    if step % 100 == 0:
        print(f"step {step} of {of}: loss {loss:.3f}, {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
