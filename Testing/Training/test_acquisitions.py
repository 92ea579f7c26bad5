from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct.geometry import ConeBeam, FanBeam, as_kind
from diff2ct.projector import project
from diff2ct.units import hu_to_mu
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import (
    AcquisitionConfig,
    acquire_views,
    acquisition_files,
    amplify_bone,
    coarsened,
    random_beams,
    read_acquisition,
    write_acquisition,
)
from diff2ct_training.cases import UNSCANNED
from rods import CALM, GRID, case


def test_a_tall_scan_is_used_along_its_height() -> None:
    tall = case("ct", size=(200, 60, 70))
    heights = {acquire_views(tall, np.random.default_rng(s), CALM, GRID).cube.origin_lps[2] for s in range(6)}
    assert max(heights) - min(heights) > 100


def test_a_scan_centred_on_a_vertebra_is_used_there() -> None:
    tall = replace(case("ct", size=(200, 60, 70)), center_lps=(0.0, 0.0, 40.0), centered_on="L3")
    cubes = {acquire_views(tall, np.random.default_rng(s), CALM, GRID).cube for s in range(6)}
    assert [cube.center_lps[2] for cube in cubes] == pytest.approx([40.0], abs=2.0)  # half a voxel of the case


@pytest.mark.parametrize(("kind", "made_by"), [("ct", ""), ("phantom", "v1, 2 mm, centre body, cube")])
def test_a_cube_does_not_leave_a_case_that_goes_on_beside_it(kind: str, made_by: str) -> None:
    """A crop of the cube's size, and a scan of 48 mm more from left to right."""
    config = replace(CALM, isocenter_sd_mm=(40, 40, 40))
    for width in (32, 38):
        cut = replace(case(kind, size=(32, 32, width), spacing=8.0), record={"made_by": made_by})
        cubes = [acquire_views(cut, np.random.default_rng(s), config, GRID).cube for s in range(20)]
        first = np.array([(np.array(cube.origin_lps) - cut.grid.origin_lps) / 8.0 for cube in cubes]).round()
        assert set(first[:, 1]) == {0} and first[:, 0].min() == 0 and first[:, 0].max() == width - 32
        assert len(set(first[:, 2])) > 5  # above and below nothing is claimed


def test_beside_a_whole_phantom_there_is_air() -> None:
    config = replace(CALM, isocenter_sd_mm=(40, 40, 40))
    whole = case(size=(32, 32, 32), spacing=8.0)
    assert len({acquire_views(whole, np.random.default_rng(s), config, GRID).cube.origin_lps[0] for s in range(9)}) > 5


def test_cube_only_hides_what_lies_outside_the_cube() -> None:
    wide = case(size=(80, 90, 90))
    wide.hu[:, :, :6] = 0  # a wall at the patient's right, outside the cube
    images = {}
    for cube_only in (0.0, 1.0):
        config = replace(CALM, cube_only=cube_only, field_mm=(420, 420))
        images[cube_only] = acquire_views(wide, np.random.default_rng(1), config, GRID).images[1]
    assert float(images[0.0].max()) > float(images[1.0].max())


def test_beams_vary_as_configured() -> None:
    rng = np.random.default_rng(0)
    pairs = [random_beams(rng, (1.0, 2.0, 3.0), AcquisitionConfig()) for _ in range(50)]
    for frontal, lateral in pairs:
        assert not frontal.view.is_lateral and lateral.view.is_lateral
        for beam in (frontal, lateral):
            assert 1.1 <= beam.magnification <= 1.5
            assert 249 < beam.detector_spacing_mm[0] * beam.detector_size[0] / beam.magnification < 421
            assert beam.isocenter_lps == (1.0, 2.0, 3.0)
    assert {f.view.value for f, _ in pairs} == {"AP", "PA"} and {lat.view.value for _, lat in pairs} == {"LL", "RL"}


def test_a_share_of_the_pairs_is_scanned_by_a_fan() -> None:
    """Both views of a pair, level, and with the field of view that a cone would have."""
    rng, config = np.random.default_rng(0), AcquisitionConfig(fan_share=0.3, angle_sd_deg=3.0)
    pairs = [random_beams(rng, (1.0, 2.0, 3.0), config) for _ in range(100)]
    fans = [pair for pair in pairs if isinstance(pair[0], FanBeam)]
    assert 15 < len(fans) < 45
    for frontal, lateral in fans:
        assert isinstance(lateral, FanBeam) and lateral.view.is_lateral
        for beam in (frontal, lateral):
            fields_mm = [mm * n for mm, n in zip(beam.patient_spacing_mm, beam.detector_size, strict=True)]
            assert all(249 < field < 421 for field in fields_mm) and beam.primary_angle_deg % 90 != 0
    assert all(isinstance(beam, ConeBeam) for pair in pairs if pair not in fans for beam in pair)


def test_a_fan_makes_its_own_images() -> None:
    """Not those of the cone that it agrees with at the isocentre."""
    body = case(size=(60, 60, 70))
    made = acquire_views(body, np.random.default_rng(2), replace(CALM, fan_share=1.0), GRID)
    mu = hu_to_mu(torch.from_numpy(body.hu))
    for image, beam in zip(made.images, made.beams, strict=True):
        fan, cone = (project(mu, body.grid, as_kind(beam, kind)) for kind in ("fan", "cone"))
        alike = [float(torch.corrcoef(torch.stack([image.flatten(), other.flatten()]))[0, 1]) for other in (fan, cone)]
        assert alike[0] > 0.997 > 0.994 > alike[1]  # a detector saturates, so not 1


def test_a_stored_acquisition_comes_back_as_it_was(tmp_path: Path) -> None:
    ct = case("ct")
    made = acquire_views(ct, np.random.default_rng(3), AcquisitionConfig(detector_pixels=40), GRID)
    path = write_acquisition(tmp_path, 2, made)
    assert acquisition_files(tmp_path, ct.name) == [path] and path.name == "rod.xray002.npz"
    read = read_acquisition(path, ct, GRID)
    for a, b in ((made.images, read.images), (made.valid, read.valid)):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert read.beams == made.beams and read.cube == made.cube and read.bone_gain == made.bone_gain != 1
    assert torch.equal(made.truth(made.cube)[0], read.truth(read.cube)[0])


@pytest.mark.parametrize("seed", range(4))
def test_a_stored_acquisition_serves_the_same_cube_in_larger_voxels(tmp_path: Path, seed: int) -> None:
    """The truth there is the mean of the truth here, wherever the cube begins in the case."""
    ct = case("phantom", size=(81, 60, 71))
    ct.hu[:] = np.random.default_rng(seed).integers(-1000, 1000, ct.hu.shape)
    fine = VolumeGrid.centered(16, ct.grid.spacing_mm[0])
    path = write_acquisition(tmp_path, 0, made := acquire_views(ct, np.random.default_rng(seed), CALM, fine))
    coarse = read_acquisition(path, ct, VolumeGrid.centered(8, 2 * ct.grid.spacing_mm[0]))
    assert coarse.cube.size == (8, 8, 8) and coarse.cube.center_lps == pytest.approx(made.cube.center_lps)
    expected = torch.nn.functional.avg_pool3d(made.truth(made.cube)[0][None], 2)[0]
    torch.testing.assert_close(coarse.truth(coarse.cube)[0], expected)
    with pytest.raises(ValueError, match="is for a model grid"):
        read_acquisition(path, ct, VolumeGrid.centered(16, 2 * ct.grid.spacing_mm[0]))


def test_a_larger_voxel_that_was_scanned_in_part_is_not_known() -> None:
    ct = case("ct", size=(8, 8, 8), spacing=2.0)
    ct.hu[:] = 100
    ct.hu[3, 5, 7] = UNSCANNED
    hu = coarsened(ct, VolumeGrid.centered(4, 4.0)).hu
    assert hu[1, 2, 3] == UNSCANNED and (hu == 100).sum() == 4**3 - 1


def test_voxels_that_no_blocks_make_up_are_left_alone() -> None:
    ct = case("ct", size=(8, 8, 8), spacing=2.0)
    assert coarsened(ct, VolumeGrid.centered(4, 3.0)) is ct


def test_a_stored_acquisition_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = write_acquisition(tmp_path, 0, acquire_views(case(), np.random.default_rng(3), CALM, GRID))
    with pytest.raises(ValueError, match=r"rod\.xray000\.npz is for a model grid"):
        read_acquisition(path, case(), VolumeGrid.centered(20, 16.0))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"rod\.xray000\.npz cannot be read"):
        read_acquisition(path, case(), GRID)


def test_bone_gain_leaves_soft_tissue_alone() -> None:
    hu = torch.tensor([-1000.0, 40.0, 150.0, 650.0])
    torch.testing.assert_close(amplify_bone(hu, 1.2), torch.tensor([-1000.0, 40.0, 150.0, 750.0]))
    assert amplify_bone(hu, 1.0) is hu
