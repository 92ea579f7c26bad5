"""CT -> radiograph pair: geometry, magnification, and that X-rays show the whole scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diff2ct.geometry import BEAMS, ConeBeam, ParallelBeam, View
from diff2ct.radiograph import read_radiograph
from diff2ct.radiograph_pair import check_pair
from diff2ct.units import MU_WATER_PER_MM
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import read_ct, write_volume
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.sample_files import parse_point, write_drr_files, write_phantoms

SETUP = BiplanarSetup(pixels=128)


def test_default_pair_is_orthogonal_with_the_stated_distances() -> None:
    ap, lateral = BiplanarSetup().beams((1.0, 2.0, 3.0))
    assert isinstance(ap, ConeBeam) and ap.view is View.AP and lateral.view is View.LL
    assert ap.toward_detector @ lateral.toward_detector == pytest.approx(0.0, abs=1e-12)
    assert ap.magnification == pytest.approx(1020 / 700)
    assert ap.detector_spacing_mm[0] * ap.detector_size[0] == pytest.approx(430.0)
    assert ap.isocenter_lps == lateral.isocenter_lps == (1.0, 2.0, 3.0)


def test_parallel_pair_sees_the_same_field_at_the_isocenter() -> None:
    beam, _ = BiplanarSetup(beam="parallel").beams((0.0, 0.0, 0.0))
    assert isinstance(beam, ParallelBeam)
    assert beam.detector_spacing_mm[0] * beam.detector_size[0] == pytest.approx(430.0 * 700 / 1020)


def test_water_slab_has_its_thickness_as_line_integral() -> None:
    hu = np.full((40, 40, 40), -1000.0)
    hu[:, 15:25] = 0.0  # 40 mm of water from front to back
    ap, _ = render_radiographs(CtVolume(hu, VolumeGrid.centered(40, 4.0)), SETUP.beams((0, 0, 0)), "slab")
    assert ap.line_integral[64, 64] == pytest.approx(40 * MU_WATER_PER_MM, rel=2e-3)
    assert ap.scale_known


@pytest.mark.parametrize("beam", BEAMS)
def test_bead_lands_where_the_geometry_says(beam: str) -> None:
    grid = VolumeGrid.centered(64, 4.0)
    hu = np.full(grid.size, -1000.0)
    hu[45, 20, 41] = 3000.0
    bead = grid.ijk_to_lps @ [41, 20, 45, 1]
    for radiograph in render_radiographs(CtVolume(hu, grid), BiplanarSetup(beam=beam).beams((0, 0, 0)), "bead"):
        expected = radiograph.geometry.project_points(bead[:3])
        image = radiograph.line_integral
        rows, columns = np.indices(image.shape)
        center = [(rows * image).sum() / image.sum(), (columns * image).sum() / image.sum()]
        assert np.allclose(center, expected, atol=0.5)


def test_tissue_outside_the_cube_is_in_the_radiograph(trunk: CtVolume) -> None:
    """A real X-ray sums up everything in its path: a plate 150 mm in front of the isocentre is beyond the 256 mm cube."""
    hu = np.full((40, 100, 40), -1000.0)
    plate = VolumeGrid.centered((40, 100, 40), 4.0)
    hu[:, 12:14] = 0.0  # y = -150 and -146 mm
    ap, _ = render_radiographs(CtVolume(hu, plate), SETUP.beams((0, 0, 0)), "plate")
    assert ap.line_integral[64, 64] == pytest.approx(8 * MU_WATER_PER_MM, rel=2e-3)


def test_pair_of_a_body_fits_together(trunk: CtVolume) -> None:
    ap, lateral = render_radiographs(trunk, SETUP.beams((0, 0, 0)), "trunk")
    assert not [w for w in check_pair(ap, lateral) if "profiles" not in w]  # a cylinder has no vertebrae to align by
    assert ap.line_integral.max() > lateral.line_integral[64, 64] * 0.5


@pytest.mark.parametrize(
    ("name", "value"), [("detector_mm", 0.0), ("pixels", 1), ("lateral", View.PA), ("source_to_isocenter_mm", 2000.0)]
)
def test_setup_refuses(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        BiplanarSetup(**{name: value}).beams((0, 0, 0))  # type: ignore[arg-type]


def test_files_come_back_with_exact_geometry(trunk: CtVolume, tmp_path: Path) -> None:
    write_volume(trunk, tmp_path / "ct.nrrd")
    paths = write_drr_files(
        tmp_path / "ct.nrrd", tmp_path / "out", SETUP, isocenter="5,-4,30", formats=["dcm", "png", "nrrd"], write_truth=True,
        overwrite=False,
    )  # fmt: skip
    assert all(path.is_file() for path in paths)
    expected, _ = render_radiographs(trunk, SETUP.beams((5.0, -4.0, 30.0)), "")
    for suffix in ("dcm", "png", "nrrd"):
        found = read_radiograph(tmp_path / "out" / f"ap.{suffix}")
        assert found.geometry == expected.geometry
        assert np.allclose(found.line_integral, expected.line_integral, atol=1e-3)
    truth = read_ct(tmp_path / "out" / "truth.nrrd")
    assert truth.grid.size == (128, 128, 128)
    assert np.allclose(truth.grid.center_lps, (5, -4, 30))


def test_auto_isocenter_is_the_middle_of_the_body(trunk: CtVolume, tmp_path: Path) -> None:
    moved = CtVolume(trunk.hu, VolumeGrid(trunk.grid.size, trunk.grid.spacing_mm, (100.0, 200.0, -300.0)))
    write_volume(moved, tmp_path / "ct.nrrd")
    options = {"isocenter": "auto", "formats": ["dcm"], "write_truth": False, "overwrite": False}
    write_drr_files(tmp_path / "ct.nrrd", tmp_path / "out", SETUP, **options)  # type: ignore[arg-type]
    isocenter = read_radiograph(tmp_path / "out" / "ap.dcm").geometry.isocenter_lps
    assert np.allclose(isocenter, moved.grid.center_lps, atol=4.0)


def test_existing_files_are_kept(trunk: CtVolume, tmp_path: Path) -> None:
    write_volume(trunk, tmp_path / "ct.nrrd")
    (tmp_path / "lateral.dcm").write_text("mine")
    options = {"isocenter": "auto", "formats": ["dcm"], "write_truth": False}
    with pytest.raises(ValueError, match=r"lateral\.dcm exists"):
        write_drr_files(tmp_path / "ct.nrrd", tmp_path, SETUP, overwrite=False, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "ap.dcm").exists() and (tmp_path / "lateral.dcm").read_text() == "mine"


@pytest.mark.parametrize("text", ["1,2", "1,2,3,4", "middle", "1;2;3"])
def test_isocenter_is_three_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="isocenter"):
        parse_point(text)


@pytest.mark.parametrize("seeds", [range(0), range(-1, 1)])
def test_phantom_counts_and_seeds_are_checked(seeds: range, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--count|--seed"):
        write_phantoms(seeds, tmp_path, SETUP, num_screws=None, overwrite=False, on_phantom=lambda: None)


def test_screw_list_holds_lengths_and_places() -> None:
    from diff2ct.phantom import make_phantom

    screws = [screw.to_dict() for screw in make_phantom(7, num_screws=4).screws]
    assert len(screws) == 4
    for screw in screws:
        assert np.linalg.norm(np.subtract(screw["tip_lps"], screw["head_lps"])) == pytest.approx(screw["length_mm"], abs=0.01)
        assert (screw["side"] == "left") == (screw["head_lps"][0] > screws_midline(screws))


def screws_midline(screws: list[dict]) -> float:
    return float(np.mean([screw["head_lps"][0] for screw in screws]))
