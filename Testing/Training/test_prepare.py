from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diff2ct.phantom import make_phantom
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import write_volume
from diff2ct_training.acquisitions import acquisition_files
from diff2ct_training.cases import list_cases, read_case, write_case
from diff2ct_training.prepare import axis_aligned_grid, body_center, prepare, prepare_xrays
from diff2ct_training.warp import random_warp, warp
from rods import CALM, GRID, case
from tiny import tiny_body


def test_cts_become_cases_with_bent_copies(tmp_path: Path) -> None:
    write_volume(tiny_body(), tmp_path / "scan.nii.gz")
    names = prepare(tmp_path / "cases", ct_paths=[tmp_path / "scan.nii.gz"], num_variants=3, screw_share=0)
    assert names == ["ct_scan_000", "ct_scan_001", "ct_scan_002"]
    cases = [read_case(f) for f in list_cases(tmp_path / "cases")]
    assert {c.kind for c in cases} == {"ct"} and {c.source for c in cases} == {"scan.nii.gz"}
    assert cases[0].grid.spacing_mm == (2.0, 2.0, 2.0)
    assert not np.array_equal(cases[1].hu, cases[2].hu)
    assert all(-1024 <= c.hu.min() and c.hu.max() <= 4096 for c in cases)


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write_volume(tiny_body(), tmp_path / "scan.nii.gz")
    prepare(tmp_path / "cases", ct_paths=[tmp_path / "scan.nii.gz"], num_variants=2)
    first = tmp_path / "cases" / "ct_scan_000.npy"
    before = first.stat().st_mtime_ns
    (tmp_path / "cases" / "ct_scan_001.json").unlink()
    prepare(tmp_path / "cases", ct_paths=[tmp_path / "scan.nii.gz"], num_variants=2)
    assert first.stat().st_mtime_ns == before
    assert (tmp_path / "cases" / "ct_scan_001.json").exists()


def test_a_bad_ct_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.nrrd").write_text("no volume")
    with pytest.raises(ValueError, match=r"bad\.nrrd"):
        prepare(tmp_path / "cases", ct_paths=[tmp_path / "bad.nrrd"])


def test_xrays_rendered_ahead_are_what_training_uses(tmp_path: Path) -> None:
    write_case(tmp_path, case())
    config = replace(CALM, isocenter_sd_mm=(9, 9, 9))
    assert prepare_xrays(tmp_path, 2, config, GRID) == 2
    first, second = acquisition_files(tmp_path, "rod")
    before = first.read_bytes()
    assert before != second.read_bytes()
    second.unlink()
    prepare_xrays(tmp_path, 2, config, GRID)
    assert first.read_bytes() == before and second.exists(), "only what is missing is made"
    assert len(list_cases(tmp_path)) == 1, "an acquisition is no case"


def test_axis_aligned_grid_holds_an_oblique_one() -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    oblique = VolumeGrid((10, 20, 30), (1, 1, 3), (5, 6, 7), ((c, -s, 0), (s, c, 0), (0, 0, 1)))
    straight = axis_aligned_grid(oblique, 2.0)
    corners = np.array([[i, j, k, 1] for i in (0, 29) for j in (0, 19) for k in (0, 9)]) @ oblique.ijk_to_lps.T
    inside = corners @ straight.lps_to_ijk.T
    assert inside[:, :3].min() > -1e-6
    assert (inside[:, :3].max(0) <= np.array(straight.size[::-1])).all()


def test_body_center() -> None:
    ct = tiny_body()
    assert np.abs(np.array(body_center(ct)) - (8, 0, 0)).max() < 20
    with pytest.raises(ValueError, match="-300 HU"):
        body_center(CtVolume(np.full((4, 4, 4), -1000.0), VolumeGrid.centered(4, 1.0)))


def test_warp_is_smooth_and_keeps_tissue() -> None:
    hu = tiny_body(VolumeGrid.centered(16, 2.0)).hu
    rng = np.random.default_rng(1)
    still = warp(hu, type(random_warp(rng, hu.shape))(np.eye(3, dtype=np.float32), np.zeros((1, 3, 5, 5, 5), np.float32)))
    np.testing.assert_allclose(still, hu, atol=1e-2)
    bent = warp(hu, random_warp(rng, hu.shape, bend_mm=1.0))
    assert 0.6 < (bent > -500).sum() / (hu > -500).sum() < 1.6
    assert bent.min() >= -1000.01 and bent.max() <= 1500.01


def test_a_share_of_the_bent_copies_gets_screws(tmp_path: Path) -> None:
    phantom = make_phantom(3, num_screws=0)
    write_volume(phantom.render(phantom.body_grid(4.0)).hu, tmp_path / "scan.nii.gz")
    names = prepare(tmp_path / "all", ct_paths=[tmp_path / "scan.nii.gz"], num_variants=2, screw_share=1.0)
    prepare(tmp_path / "none", ct_paths=[tmp_path / "scan.nii.gz"], num_variants=2, screw_share=0)
    (plain, fused), (_, bent) = ([read_case(tmp_path / f / f"{n}.json") for n in names] for f in ("all", "none"))
    assert plain.screws == () and plain.source == "scan.nii.gz"  # the scan itself stays what it is
    assert len(fused.screws) >= 4
    assert fused.screws and fused.source == "scan.nii.gz"
    assert fused.hu.max() > 2500 and bent.hu.max() < 2500
    assert (fused.hu != bent.hu).mean() < 0.02  # the same body otherwise
    assert fused.center_lps == bent.center_lps


def test_where_there_is_no_spine_the_source_says_so(tmp_path: Path) -> None:
    write_volume(tiny_body(), tmp_path / "scan.nii.gz")
    names = prepare(tmp_path / "cases", ct_paths=[tmp_path / "scan.nii.gz"], num_variants=2, screw_share=1.0)
    case = read_case(tmp_path / "cases" / f"{names[1]}.json")
    assert case.screws == ()


def test_a_share_above_one_is_refused(tmp_path: Path) -> None:
    write_volume(tiny_body(), tmp_path / "scan.nii.gz")
    with pytest.raises(ValueError, match=r"screw_share: got 40"):
        prepare(tmp_path / "cases", ct_paths=[tmp_path / "scan.nii.gz"], num_variants=2, screw_share=40)
