"""Cases: phantoms, CT files with labels, prepared cases with screws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diff2ct import volume_io
from diff2ct.phantom import PedicleScrew, make_phantom
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import write_volume
from diff2ct_training.cases import Case, write_case
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation import cases, methods
from diff2ct_training.evaluation.cases import (
    ct_case,
    fingerprint,
    phantom_case,
    plan_ct,
    plan_cts,
    plan_phantom,
    plan_prepared,
    prepared_case,
)
from diff2ct_training.evaluation.labels import find_labels, labels_on_grid, read_vertebrae
from diff2ct_training.phantom_seeds import TEST_SEEDS

SETUP = BiplanarSetup(pixels=64)


def test_phantom_case_is_held_out_and_fits_its_radiographs(small_grid: VolumeGrid) -> None:
    case = phantom_case(3, small_grid, SETUP, body_spacing_mm=8.0)
    assert case.name == "phantom_003" and case.mask.all()
    assert case.grid == small_grid
    assert case.radiographs[0].line_integral.max() > 3.0  # a trunk, not a cube's worth of air
    assert case.labels is not None and case.labels.shape == small_grid.size and 28 in case.labels
    assert case.screws is not None and case.spacing_mm is None and case.read_scan is None
    with pytest.raises(ValueError, match="10000"):
        phantom_case(10000, small_grid, SETUP)


def test_a_short_scan_is_known_where_it_has_data(
    trunk: CtVolume, small_grid: VolumeGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    def read_ct(path: Path) -> CtVolume:
        reads.append(1)
        return volume_io.read_ct(path)

    monkeypatch.setattr(cases, "read_ct", read_ct)
    short = CtVolume(trunk.hu[40:60], VolumeGrid.centered((20, 60, 70), 4.0))
    write_volume(short, tmp_path / "short_ct.nii.gz")
    case = ct_case(tmp_path / "short_ct.nii.gz", small_grid, SETUP)
    assert (case.dataset, case.name) == ("real CTs", "short_ct")
    assert 0.2 < case.mask.mean() < 0.4  # 80 of 256 mm
    assert case.radiographs[0].line_integral[0].max() == 0.0  # nothing was scanned there
    assert case.spacing_mm == pytest.approx((4.0, 4.0)) and case.labels is None and case.screws is None
    assert reads == [1] and case.read_scan is not None, "its own voxels are read again when they are asked for"
    part = case.read_scan()
    assert part is not None and part.hu.shape == (20, 60, 62) and reads == [1, 1], "those between voxels of the grid"
    assert plan_ct(tmp_path / "short_ct.nii.gz", small_grid, SETUP).has_scan


def test_labels_lie_where_the_ct_lies(trunk: CtVolume, small_grid: VolumeGrid, tmp_path: Path) -> None:
    """On another grid than the CT, as a segmenter may leave them: a box of 80 mm around the middle."""
    write_volume(trunk, tmp_path / "trunk.nrrd")
    fine = VolumeGrid.centered((40, 40, 40), 4.0)
    box = np.zeros(fine.size, np.float32)
    box[10:30, 10:30, 10:30] = 31
    (tmp_path / "labels").mkdir()
    write_volume(CtVolume(box, fine), tmp_path / "labels" / "trunk_vertebrae.nii.gz")
    case = plan_ct(tmp_path / "trunk.nrrd", small_grid, SETUP, tmp_path / "labels").make()
    assert case.labels is not None and set(np.unique(case.labels)) == {0, 31}
    k, j, i = np.nonzero(case.labels)
    points = np.column_stack([i, j, k]) @ case.grid.ijk_to_lps[:3, :3].T + case.grid.ijk_to_lps[:3, 3]
    assert np.abs(points).max() < 40 and len(points) == pytest.approx(80**3 / 8**3, rel=0.3)


def test_a_ct_is_no_label_map(trunk: CtVolume, small_grid: VolumeGrid, tmp_path: Path) -> None:
    write_volume(trunk, tmp_path / "trunk.nrrd")
    with pytest.raises(ValueError, match="accepted are whole labels"):
        read_vertebrae(tmp_path / "trunk.nrrd", small_grid)
    assert find_labels(tmp_path, "other") is None


def test_labels_move_to_another_grid() -> None:
    coarse = VolumeGrid.centered((2, 2, 2), 4.0)
    labels = np.arange(1, 9, dtype=np.uint8).reshape(2, 2, 2)
    fine = labels_on_grid(labels, coarse, VolumeGrid.centered((4, 4, 6), 2.0))
    np.testing.assert_array_equal(fine[:, :, 1:5], labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    assert not fine[:, :, [0, 5]].any()


def test_prepared_cases_bring_their_screws(trunk: CtVolume, small_grid: VolumeGrid, tmp_path: Path) -> None:
    (screw,) = make_phantom(1, num_screws=1).screws
    spacings = {"pixel_spacing_mm": 0.7, "slice_spacing_mm": 2.5}
    case = Case(
        "ct_trunk_001", "ct", trunk.hu.round(), trunk.grid, (0.0, 0.0, 0.0), "trunk.nrrd", (screw.to_dict(),), split="test",
        record=spacings, patient="P1",
    )  # fmt: skip
    write_case(tmp_path, case, np.where(trunk.hu > 200, 29, 25))
    planned = plan_prepared(tmp_path / "ct_trunk_001.json", small_grid, SETUP)
    read = planned.make()
    assert planned.patient == "P1"
    assert read.dataset == planned.dataset == "CTs, test split" and read.screws is not None and len(read.screws) == 1
    np.testing.assert_allclose(read.screws[0].tip_lps, screw.tip_lps, atol=1e-3)
    np.testing.assert_allclose(read.screws[0].axis_lps, screw.axis_lps, atol=1e-4)
    assert read.screws[0].level == screw.level and read.spacing_mm == (0.7, 2.5)
    assert read.labels is not None and set(np.unique(read.labels)) == {0, 29}  # a sacrum is no vertebra
    bone = read.truth.hu[read.labels == 29]
    assert (bone > 200).mean() > 0.9
    with pytest.raises(ValueError, match="to_dict"):
        PedicleScrew.from_dict({"level": "L4"})


@pytest.mark.parametrize("block", [1, 2])
def test_the_truth_of_a_prepared_case_is_its_voxels(tmp_path: Path, block: int) -> None:
    """Not a second interpolation of them: neither noise nor edges become smoother, wherever the isocentre is."""
    grid = VolumeGrid((40, 44, 48), (4.0, 4.0, 4.0), (-90.0, -80.0, -70.0))
    noise = np.random.default_rng(0).integers(-1000, 1000, grid.size).astype(np.int16)
    center = (3.3, 7.1, 8.9)
    write_case(tmp_path, Case("ct_a", "ct", noise, grid, center, "a.nrrd", split="test"))
    case = prepared_case(tmp_path / "ct_a.json", VolumeGrid.centered(16 // block, 4.0 * block), BiplanarSetup(pixels=8))
    assert np.abs(case.grid.center_lps - center).max() <= 2.0 + 1e-9
    first = (np.array(case.grid.origin_lps) - (block - 1) / 2 * 4.0 - grid.origin_lps) / 4.0
    i, j, k = np.round(first).astype(int)
    np.testing.assert_allclose(first, (i, j, k), atol=1e-9)
    voxels = noise[k : k + 16, j : j + 16, i : i + 16].astype(np.float32)
    n = 16 // block
    expected = voxels.reshape(n, block, n, block, n, block).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(case.truth.hu, expected, atol=0.01)
    assert case.mask.all()
    np.testing.assert_allclose([r.geometry.isocenter_lps for r in case.radiographs], [case.grid.center_lps] * 2, atol=1e-9)


def test_identities_tell_setups_and_files_apart(tmp_path: Path, small_grid: VolumeGrid) -> None:
    for name, content in (("a.nrrd", b"1"), ("b.nrrd", b"1"), ("c.nrrd", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (plan_ct(tmp_path / f"{name}.nrrd", small_grid, SETUP) for name in "abc")
    assert a.identity == b.identity != c.identity and a.name != b.name
    assert plan_ct(tmp_path / "a.nrrd", small_grid, BiplanarSetup(pixels=65)).identity != a.identity
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.nrrd").write_bytes(b"3")
    assert plan_ct(tmp_path / "a.nrrd", small_grid, SETUP, tmp_path / "labels").identity != a.identity
    (tmp_path / "d.mhd").write_text("NDims = 3\nElementDataFile = d.zraw\n")
    identities = set()
    for content in (b"1", b"2"):
        (tmp_path / "d.zraw").write_bytes(content)
        identities.add(plan_cts([tmp_path / "d.mhd"], small_grid, SETUP)[0][0].identity)
    assert len(identities) == 2, "the voxels beside their header"
    assert plan_phantom(3, small_grid, SETUP).name == "phantom_003"
    assert len({plan_phantom(n, small_grid, SETUP).identity for n in range(3)}) == 3


def test_the_voxels_beside_a_header_count(tmp_path: Path) -> None:
    header, voxels = tmp_path / "labels.mhd", tmp_path / "labels.raw"
    header.write_text("ObjectType = Image\nNDims = 3\nElementDataFile = labels.raw\n")
    voxels.write_bytes(b"L3")
    before = fingerprint(header)
    voxels.write_bytes(b"L4")
    assert fingerprint(header) != before


def test_train_mean_uses_training_seeds_only(monkeypatch: pytest.MonkeyPatch, small_grid: VolumeGrid) -> None:
    used: list[int] = []

    def fake_mean(seeds, grid, *, workers):  # type: ignore[no-untyped-def]
        used.extend(seeds)
        return np.zeros(grid.size, np.float32)

    monkeypatch.setattr(methods.baselines, "train_mean", fake_mean)
    methods.train_mean_method(4, small_grid)
    assert used == [10000, 10001, 10002, 10003]
    assert not set(used) & set(TEST_SEEDS)
