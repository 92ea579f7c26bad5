"""The projector against DiffDRR, nanodrr, RTK and plastimatch: time, memory, and error against exact integrals.

All cast the same rays: from the source to each pixel of a `ConeBeam`. The peers' own pose handling is left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from diff2ct.geometry import ConeBeam, View
from diff2ct.phantom import make_phantom
from diff2ct.projector import project
from diff2ct.units import hu_to_mu
from diff2ct.volume import VolumeGrid
from harness import Contender, Seconds, Section, Settings, Unavailable, extra_gpu_memory_mb, extra_memory_mb, race
from machine import share_of_bandwidth

OURS = "Diff2CT"
GRID = VolumeGrid.centered(128, 2.0)
DETECTOR_MM = 384.0
Render = Callable[[torch.Tensor], torch.Tensor]
"""mu (D, H, W) -> line integrals (H, W)."""


def measure(settings: Settings) -> Section:
    section = Section("Projector, 128^3 voxels of 2 mm, cone beam 1020 / 700 mm")
    volume = _spine().to(settings.device)
    for pixels in (128,) if settings.quick else (128, 256):
        for pose, beams in (("AP + lateral", straight(pixels)), ("20 degrees oblique", oblique(pixels))):
            _race(section, settings, volume, pose, beams, pixels)
    _errors(section, settings)
    section.notes.append(
        "Time: of all views. Share of the bandwidth: of a copy's, were the volume read once for each view and the image "
        "written, forward. Memory: what a process grows by in one call, 1 view, forward and where possible backward, its "
        "gradient (8 MB) included. RTK cuts the interpolant off at the outer voxel centres, which the spine reaches; "
        "plastimatch tells its time itself, without reading and writing."
    )
    return section


def straight(pixels: int) -> list[ConeBeam]:
    return [ConeBeam.from_view(view, **_system(pixels)) for view in (View.AP, View.LL)]


def oblique(pixels: int) -> list[ConeBeam]:
    """One view, turned by 20 degrees and tilted by 5."""
    return [ConeBeam(primary_angle_deg=200.0, secondary_angle_deg=5.0, mirrored=True, **_system(pixels))]


def _system(pixels: int) -> dict:
    return {
        "source_to_detector_mm": 1020.0,
        "source_to_isocenter_mm": 700.0,
        "detector_spacing_mm": (DETECTOR_MM / pixels,) * 2,
        "detector_size": (pixels, pixels),
    }


@lru_cache
def _spine() -> torch.Tensor:
    return hu_to_mu(torch.from_numpy(make_phantom(900).render(GRID).hu.hu))


def _race(section: Section, settings: Settings, volume: torch.Tensor, pose: str, beams: list[ConeBeam], pixels: int) -> None:
    renders: dict[str, list[Render]] = {}
    for name, make in RENDERERS.items():
        with section.optional(f"{name}, {pose}"):
            renders[name] = [make(beam, settings.device) for beam in beams]
            renders[name][0](volume)
    trained = volume.clone().requires_grad_()
    forward: dict[str, Contender] = {name: partial(_forward, of_views, volume) for name, of_views in renders.items()}
    both: dict[str, Contender] = {
        name: partial(_forward_backward, renders[name], trained) for name in renders if name in DIFFERENTIABLE
    }
    with section.optional(f"plastimatch, {pose}"):
        if settings.clock == "cpu":
            raise Unavailable("it tells its wall time only, and the others' CPU time is asked for")
        forward["plastimatch exact (C++)"] = _plastimatch(beams, volume)
    one_way, two_way = race(forward, settings), race(both, settings)
    for name in forward:
        row = {"pose": pose, "detector": f"{pixels}^2", "method": name, "forward ms": one_way.ms(name)}
        row["x ours"] = one_way.ratio(name, OURS)
        least = len(beams) * (volume.nbytes + 4 * pixels**2)
        row["share of the bandwidth"] = share_of_bandwidth(settings, least, one_way.ms(name))
        if name in both:
            row["forward + backward ms"], row["x ours (f+b)"] = two_way.ms(name), two_way.ratio(name, OURS)
        if settings.device == "cuda":
            row["memory MB"] = extra_gpu_memory_mb(both.get(name, forward[name]))
        elif name in renders:
            row["memory MB"] = extra_memory_mb(_remembered, name, beams[0], name in both)
        section.rows.append(row)
    _targets(section, one_way, two_way, forward, pose, pixels)


def _targets(section: Section, one_way, two_way, forward: dict, pose: str, pixels: int) -> None:  # type: ignore[no-untyped-def]
    """What issue 5 asks for, on two CPU cores."""
    label, siddon, nanodrr = f"{pose}, {pixels}^2", "DiffDRR Siddon", "nanodrr"
    if pose.startswith("AP") and siddon in forward:
        forward_wanted, both_wanted = {128: (25, 15), 256: (45, 30)}[pixels]
        section.expect(f"forward, {label}: {siddon} / ours", one_way.ratio(siddon, OURS), forward_wanted)
        section.expect(f"forward + backward, {label}: {siddon} / ours", two_way.ratio(siddon, OURS), both_wanted)
    if pose.startswith("20") and nanodrr in forward:
        section.expect(f"forward, {label}: {nanodrr} / ours", one_way.ratio(nanodrr, OURS), 5)
    for name in forward:
        if "C++" in name:
            section.expect(f"forward, {label}: {name} / ours", one_way.ratio(name, OURS), 1)
    if pixels == 256 and section.rows and (own := next(r for r in section.rows[::-1] if r["method"] == OURS)).get("memory MB"):
        section.expect(f"extra memory, {label} [MB]", own["memory MB"], 100, at_least=False)


def _forward(renders: list[Render], volume: torch.Tensor) -> None:
    with torch.no_grad():
        for render in renders:
            render(volume)


def _forward_backward(renders: list[Render], volume: torch.Tensor) -> None:
    volume.grad = None
    sum(render(volume).square().mean() for render in renders).backward()


def _remembered(name: str, beam: ConeBeam, backward: bool) -> Contender:
    """In a process of its own: one call, forward or both."""
    render = RENDERERS[name](beam, "cpu")
    volume = torch.rand(GRID.size, generator=torch.Generator().manual_seed(0)) * 0.02
    if not backward:
        return partial(_forward, [render], volume)
    return partial(_forward_backward, [render], volume.requires_grad_())


# The contenders


def _ours(beam: ConeBeam, device: str) -> Render:
    return lambda volume: project(volume, GRID, beam)


def _diffdrr(beam: ConeBeam, device: str, *, points: int = 0) -> Render:
    """Siddon, or trilinear with `points` samples along the volume. DiffDRR's volumes are (x, y, z)."""
    from diffdrr.renderers import Siddon, Trilinear

    source, target = _rays(beam, device)
    length = (target - source).norm(dim=-1)[:, None]
    lps_to_ijk = torch.from_numpy(np.linalg.inv(GRID.ijk_to_lps)).to(device)
    source, target = (p.double() @ lps_to_ijk[:3, :3].T + lps_to_ijk[:3, 3] for p in (source, target))
    renderer, options = (Trilinear(), {"n_points": points}) if points else (Siddon(), {})

    def render(volume: torch.Tensor) -> torch.Tensor:
        image = renderer(volume.permute(2, 1, 0), source.float(), target.float(), length, **options)
        return image.reshape(beam.detector_size)

    return render


def _nanodrr(beam: ConeBeam, device: str, *, samples: int = 160) -> Render:
    """As many samples as its accuracy needs to equal Joseph's, 160; its fused kernel on a GPU."""
    from nanodrr.data import Subject
    from nanodrr.drr.renderer import render as march

    source, target = _rays(beam, device)
    matrix = torch.from_numpy(GRID.ijk_to_lps)
    identity = torch.eye(4, device=device)[None]
    labels = torch.zeros(1, 1, *GRID.size, device=device)
    height, width = beam.detector_size

    def render(volume: torch.Tensor) -> torch.Tensor:
        subject = Subject(
            volume[None, None],
            labels,
            matrix.float().to(device),
            matrix.inverse().float().to(device),
            Subject._make_voxel_to_grid((1, 1, *GRID.size)).to(device),
            torch.zeros(3, device=device),
            max_label=0,
            convert_to_mu=False,
        )
        sdd = torch.tensor([beam.source_to_detector_mm], device=device)
        return march(subject, identity[:, :3, :3], identity, sdd, height, width, samples, src=source, tgt=target)[0, 0]

    return render


def _rays(beam: ConeBeam, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Source (1, 1, 3) and pixels (1, H * W, 3) [mm], LPS."""
    rows, columns = np.meshgrid(*(np.arange(n) for n in beam.detector_size), indexing="ij")
    pixels = beam.pixel_to_lps(np.stack([rows, columns], -1)).reshape(1, -1, 3)
    return tuple(torch.from_numpy(p).float().to(device) for p in (beam.source_lps.reshape(1, 1, 3), pixels))  # type: ignore[return-value]


def _rtk(beam: ConeBeam, device: str) -> Render:
    """RTK's Joseph, as many threads as torch has."""
    if device != "cpu":
        raise Unavailable("measured on the CPU only")
    import itk
    from itk import RTK as rtk

    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(torch.get_num_threads())
    u, v = beam.detector_axes
    center = beam.source_lps + beam.source_to_detector_mm * beam.toward_detector
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    if not geometry.AddProjection(*(vector.tolist() for vector in (beam.source_lps, center, u, v))):
        raise Unavailable("RTK does not take this geometry")
    height, width = beam.detector_size
    row_mm, column_mm = beam.detector_spacing_mm
    image_type = itk.Image[itk.F, 3]

    def render(volume: torch.Tensor) -> torch.Tensor:
        ct = itk.image_view_from_array(volume.numpy())
        ct.SetOrigin(list(GRID.origin_lps))
        ct.SetSpacing(list(GRID.spacing_mm))
        empty = itk.image_from_array(np.zeros((1, height, width), np.float32))
        empty.SetSpacing([column_mm, row_mm, 1.0])
        empty.SetOrigin([-beam.principal_point[1] * column_mm, -beam.principal_point[0] * row_mm, 0.0])
        projector = rtk.JosephForwardProjectionImageFilter[image_type, image_type].New()
        projector.SetInput(0, empty)
        projector.SetInput(1, ct)
        projector.SetGeometry(geometry)
        projector.Update()
        return torch.from_numpy(itk.array_from_image(projector.GetOutput()))[0]

    return render


RENDERERS: dict[str, Callable[[ConeBeam, str], Render]] = {
    OURS: _ours,
    "DiffDRR Siddon": _diffdrr,
    "DiffDRR trilinear": partial(_diffdrr, points=200),
    "nanodrr": _nanodrr,
    "RTK Joseph (C++)": _rtk,
}
DIFFERENTIABLE = (OURS, "DiffDRR Siddon", "DiffDRR trilinear", "nanodrr")


def _plastimatch(beams: list[ConeBeam], volume: torch.Tensor) -> Contender:
    """The program of Debian. Its own account of the time, without reading and writing; it counts wall time."""
    program = shutil.which("plastimatch")
    if program is None:
        raise Unavailable("the program plastimatch is not installed (Debian: apt-get install plastimatch)")
    if volume.device.type != "cpu":
        raise Unavailable("measured on the CPU only")
    import SimpleITK as sitk

    folder = tempfile.mkdtemp(prefix="diff2ct-benchmark-")
    image = sitk.GetImageFromArray((volume.numpy() / 0.02 * 1000 - 1000).astype(np.float32))
    image.SetSpacing(GRID.spacing_mm)
    image.SetOrigin(GRID.origin_lps)
    sitk.WriteImage(image, f"{folder}/volume.mha")
    commands = []
    for beam in beams:
        options = {
            "--algorithm": "exact",
            "--sad": f"{beam.source_to_isocenter_mm}",
            "--sid": f"{beam.source_to_detector_mm}",
            "--dim": " ".join(map(str, beam.detector_size)),
            "--detector-size": f"{DETECTOR_MM} {DETECTOR_MM}",
            "--nrm": " ".join(f"{x:.9f}" for x in -beam.toward_detector),
            "--vup": " ".join(f"{x:.9f}" for x in -beam.detector_axes[1]),
            "--output-format": "raw",
            "--output": f"{folder}/drr",
            "--input": f"{folder}/volume.mha",
        }
        commands.append([program, "drr", *(part for pair in options.items() for part in pair)])
    environment = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PATH": str(Path(program).parent)}

    def run() -> Seconds:
        total = 0.0
        for command in commands:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found = re.search(r"Total time:\s*([\d.e-]+)", done.stdout)
            if found is None:
                raise Unavailable(f"plastimatch tells no time: {done.stdout[-200:]!r}")
            total += float(found.group(1))
        return Seconds(total)

    run()
    return run


# Accuracy


def _errors(section: Section, settings: Settings) -> None:
    """Relative RMS error of one view: of ellipsoids against exact integrals, and of the spine against the integral of the
    trilinear interpolant."""
    import phantoms

    solids = [
        phantoms.Ellipsoid((0, 5, 0), (110, 80, 118), 0.02, phantoms.rotation_from_angles(0, 0, 10)),
        phantoms.Ellipsoid((-30, 20, 30), (30, 20, 45), 0.015, phantoms.rotation_from_angles(20, 10, 30)),
        phantoms.Ellipsoid((35, -20, -20), (25, 35, 50), -0.012, phantoms.rotation_from_angles(-15, 25, 0)),
        phantoms.sphere((0, 40, 10), 18, 0.03),
    ]
    ellipsoids = torch.from_numpy(phantoms.voxelise(solids, GRID, 2 if settings.quick else 4)).float()
    spine = _spine()
    found: dict[tuple[str, str], float] = {}
    for pose, beam in (("AP", straight(128)[0]), ("lateral", straight(128)[1]), ("oblique", oblique(128)[0])):
        source, pixels = _rays(beam, "cpu")
        exact = phantoms.line_integral(solids, source.double().numpy(), pixels.double().numpy()).reshape(beam.detector_size)
        continuum = _continuum(spine, beam, 500 if settings.quick else 2000)
        for name, make in RENDERERS.items():
            with section.optional(f"{name}, error"):
                render = make(beam, "cpu")
                against_exact = _relative_rms(render(ellipsoids).numpy(), exact)
                against_continuum = _relative_rms(render(spine).numpy(), continuum)
                found[name, pose] = against_exact
                row = {"pose": pose, "detector": "128^2", "method": name, "error, ellipsoids %": against_exact}
                section.rows.append({**row, "error, spine against continuum %": against_continuum})
        if (siddon := found.get(("DiffDRR Siddon", pose))) is not None:
            section.expect(f"error of ellipsoids, {pose}: ours / Siddon's", found[OURS, pose] / siddon, 1, at_least=False)


def _continuum(volume: torch.Tensor, beam: ConeBeam, num_samples: int) -> np.ndarray:
    """(H, W) integrals of the trilinear interpolant with zeros around, by midpoints, a few at a time."""
    source, pixels = (p.double() for p in _rays(beam, "cpu"))
    lps_to_ijk = torch.from_numpy(np.linalg.inv(GRID.ijk_to_lps))
    start, end = (p @ lps_to_ijk[:3, :3].T + lps_to_ijk[:3, 3] for p in (source, pixels))
    near, far = 0.3, 1.0  # of the way to the detector; the cube lies between 500 and 900 of 1020 mm
    steps = near + (torch.arange(num_samples, dtype=torch.float64) + 0.5) / num_samples * (far - near)
    size = torch.tensor(GRID.size[::-1], dtype=torch.float64)
    image = torch.zeros(pixels.shape[1], dtype=torch.float64)
    for some in steps.split(50):
        points = start + some[:, None, None] * (end - start)  # (steps, H * W, 3)
        positions = ((2 * points + 1) / size - 1).float()[None, :, :, None]
        image += (
            torch.nn.functional.grid_sample(volume[None, None], positions, align_corners=False)[0, 0, ..., 0].sum(0).double()
        )
    length = (pixels - source).norm(dim=-1)[0] * (far - near) / num_samples
    return (image * length).reshape(beam.detector_size).numpy()


def _relative_rms(image: np.ndarray, expected: np.ndarray) -> float:
    return 100 * float(np.sqrt(np.mean((image - expected) ** 2) / np.mean(expected**2)))
