"""CTs and phantoms -> prepared cases: what they are, where they go, and that nothing is lost or silently dropped."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from diff2ct.phantom import LABELS, make_phantom
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import inside_grid, to_sitk, write_volume
from diff2ct_training import case_origin, cli
from diff2ct_training.acquisitions import Acquisition, acquire_views, acquisition_files, write_acquisition
from diff2ct_training.cases import UNSCANNED, Case, filled, labels_file, list_cases, read_case, read_labels, write_case
from diff2ct_training.checksums import sha256_of
from diff2ct_training.drr import BiplanarSetup
from diff2ct_training.evaluation.cases import ct_case, prepared_case
from diff2ct_training.prepare import CaseOptions, Prepared, prepare, prepare_xrays
from diff2ct_training.prepare_command import PrepareRequest, run_preparation, verify_folder
from diff2ct_training.prepare_pictures import planes_through_center
from diff2ct_training.scans import find_scans
from diff2ct_training.splits import SplitRule
from diff2ct_training.warp import random_warp, warp
from rods import CALM, GRID, case
from tiny import tiny_body

TRAIN, TEST = SplitRule(), SplitRule(test=1.0)


def trunk(seed: int = 0) -> CtVolume:
    """A slab of tissue with a rod of bone, 56 mm tall, and noise that tells one scan from another."""
    grid = VolumeGrid.centered((14, 30, 36), 4.0)
    _, j, i = np.indices(grid.size)
    hu = np.where(((i - 17.5) / 15) ** 2 + ((j - 14.5) / 11) ** 2 < 1, 40.0, -1000.0)
    hu[np.hypot(i - 18, j - 20) < 3] = 600
    return CtVolume(hu + np.random.default_rng(seed).normal(0, 5, grid.size).round(), grid)


def ct_folder(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(names):
        write_volume(trunk(n), folder / name)
    return folder


def prepared(cases: Path, source: Path, split: SplitRule = TRAIN, **options: Any) -> Prepared:
    """`prepare` of what is in `source`; options of the cases, workers and overwrite."""
    scans, rejected = find_scans(source, label_scheme="totalsegmentator")
    run = {name: options.pop(name) for name in ("workers", "overwrite") if name in options}
    return prepare(cases, scans=scans, rejected=rejected, split=split, options=CaseOptions(**options), **run)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_ct_that_stands_in_two_splits_under_two_names_is_told(tmp_path: Path) -> None:
    source = ct_folder(tmp_path / "in", "a.nii.gz", "b.nii.gz", "c.nrrd")
    (source / "a again.nii.gz").write_bytes((source / "a.nii.gz").read_bytes())
    write_volume(trunk(1), source / "b again.nrrd")  # other files, the same voxels
    splits = {"a": "train", "a again": "test", "b": "val", "b again": "train", "c": "test"}
    (tmp_path / "split.csv").write_text("patient,split\n" + "".join(f"{name},{split}\n" for name, split in splits.items()))
    request = PrepareRequest(output=tmp_path / "out", cts=(source,), split=str(tmp_path / "split.csv"))
    text = run_preparation(request, on_progress=lambda *_, **__: None).text
    assert text.count("the same CT in several splits: ") == 2
    assert "a again.nii.gz (test), a.nii.gz (train)" in text and "b again.nrrd (train), b.nii.gz (val)" in text
    assert (tmp_path / "out" / "report.md").read_text().count("the same CT in several splits") == 2


def test_cts_become_cases_with_bent_copies(tmp_path: Path) -> None:
    done = prepared(tmp_path / "cases", ct_folder(tmp_path / "in", "scan.nii.gz"), num_variants=3, screw_share=0)
    assert done.cases == ["ct_scan_000", "ct_scan_001", "ct_scan_002"]
    cases = [read_case(f) for f in list_cases(tmp_path / "cases", "train")]
    assert {c.kind for c in cases} == {"ct"} and {c.source for c in cases} == {"scan.nii.gz"}
    assert cases[0].grid.spacing_mm == (2.0, 2.0, 2.0) and cases[0].hu.shape == (27, 59, 71)
    assert not np.array_equal(cases[1].hu, cases[2].hu)
    assert all(-1024 <= c.hu.min() and c.hu.max() <= 4096 for c in cases)


def test_each_scan_is_bent_in_a_way_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("one", "other"):
        write_volume(trunk(0), tmp_path / "in" / f"{name}.nrrd")
    prepared(tmp_path / "cases", tmp_path / "in", num_variants=2, screw_share=0)
    one, other = ([read_case(tmp_path / "cases" / f"ct_{name}_00{n}.json").hu for n in range(2)] for name in ("one", "other"))
    assert np.array_equal(one[0], other[0]) and not np.array_equal(one[1], other[1])


def test_a_picture_of_each_ct(tmp_path: Path) -> None:
    prepared(tmp_path / "cases", ct_folder(tmp_path / "in", "scan.nii.gz"), num_variants=2)
    (picture,) = (tmp_path / "cases" / "pictures").iterdir()
    assert picture.name == "ct_scan_000.png" and "pictures/ct_scan_000.png" in (tmp_path / "cases" / "report.md").read_text()
    hu = np.full((4, 6, 8), -1000, np.int16)
    hu[3, 0, 0] = hu[3, 3, 0] = 800  # at the top in front on the right, and on the right of the coronal plane
    case = Case("ct_a", "ct", hu, VolumeGrid((4, 6, 8), (2, 2, 2), (0, 0, 0)), (0.0, 6.0, 6.0), "a")
    axial, coronal, sagittal = (planes_through_center(case)[:, x : x + w] for x, w in ((0, 8), (12, 8), (24, 6)))
    assert [tuple(np.argwhere(plane == 255)[0]) for plane in (axial, coronal, sagittal)] == [(0, 0), (0, 0), (0, 0)]
    assert axial.shape == (6, 8) and (planes_through_center(case) == 255).sum() == 5


def test_where_an_oblique_scan_has_no_voxels_nothing_is_known(tmp_path: Path) -> None:
    """A trunk, head and feet beyond the scan, scanned at 15 degrees."""
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    grid = replace(trunk().grid, direction=((1, 0, 0), (0, c, -s), (0, s, c)))
    (tmp_path / "in").mkdir()
    write_volume(CtVolume(trunk().hu, grid), tmp_path / "in" / "tilted.nrrd")
    prepared(tmp_path / "cases", tmp_path / "in", num_variants=2)
    straight, bent = (read_case(tmp_path / "cases" / f"ct_tilted_00{n}.json") for n in range(2))
    np.testing.assert_array_equal(straight.hu == UNSCANNED, ~inside_grid(CtVolume(trunk().hu, grid), straight.grid))
    assert 0.2 < straight.record["unscanned_share"] < 0.6 and 0.1 < (bent.hu == UNSCANNED).mean() < 0.7
    assert ((bent.hu == UNSCANNED) != (straight.hu == UNSCANNED)).mean() > 0.01, "it is bent like the scan"
    cube = VolumeGrid((3, 3, 3), (2.0, 2.0, 2.0), straight.grid.origin_lps)  # a corner below and in front of the scan
    hu, known = Acquisition(straight, cube, [], [], []).truth(cube)
    assert not known.any() and float(hu.max()) == -1000
    hu, known = Acquisition(straight, straight.grid, [], [], []).truth(straight.grid)
    assert known.float().mean() == pytest.approx(1 - straight.record["unscanned_share"], abs=1e-4) and float(hu.min()) >= -1024
    aired, small = replace(straight, hu=filled(straight.hu)), VolumeGrid.centered(16, 2.0)
    views = [acquire_views(one, np.random.default_rng(0), CALM, small).images for one in (straight, aired)]
    assert all(torch.equal(a, b) for a, b in zip(*views, strict=True)), "air to X-rays"
    case = prepared_case(tmp_path / "cases" / "ct_tilted_000.json", VolumeGrid.centered(64, 2.0), BiplanarSetup(pixels=32))
    share = ct_case(tmp_path / "in" / "tilted.nrrd", VolumeGrid.centered(64, 2.0), BiplanarSetup(pixels=32)).mask.mean()
    assert case.mask.mean() == pytest.approx(share, rel=0.1) and case.truth.hu.min() >= -1025


def test_a_straight_scan_is_known_everywhere(tmp_path: Path) -> None:
    prepared(tmp_path / "cases", ct_folder(tmp_path / "in", "scan.nii.gz"), num_variants=2)
    for name in ("ct_scan_000", "ct_scan_001"):
        case = read_case(tmp_path / "cases" / f"{name}.json")
        assert case.record["unscanned_share"] == 0 and case.hu.min() >= -1024


def test_an_oblique_case_of_an_earlier_version_is_told(tmp_path: Path) -> None:
    source, cases = ct_folder(tmp_path / "in", "scan.nii.gz"), tmp_path / "cases"
    prepared(cases, source)
    description = json.loads((cases / "ct_scan_000.json").read_text())
    del description["record"]["unscanned_share"]
    (cases / "ct_scan_000.json").write_text(json.dumps(description))
    assert prepared(cases, source).cases == ["ct_scan_000"]
    description["record"]["quality"]["oblique_deg"] = 15.0
    (cases / "ct_scan_000.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="air where an oblique scan has no voxels"):
        prepared(cases, source)


def test_a_test_patient_is_not_bent(tmp_path: Path) -> None:
    done = prepared(tmp_path / "cases", ct_folder(tmp_path / "in", "scan.nii.gz"), TEST, num_variants=3)
    assert done.cases == ["ct_scan_000"]
    assert [f.stem for f in list_cases(tmp_path / "cases", "test")] == ["ct_scan_000"]
    with pytest.raises(ValueError, match="in the train split"):
        list_cases(tmp_path / "cases", "train")


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = ct_folder(tmp_path / "in", "scan.nii.gz")
    prepared(tmp_path / "cases", source, num_variants=2)
    first, second = (tmp_path / "cases" / f"ct_scan_00{n}.npy" for n in range(2))
    before, bytes_before = first.stat().st_mtime_ns, second.read_bytes()
    second.with_suffix(".json").unlink()  # killed between the two files of a case
    second.write_bytes(b"half a")
    prepared(tmp_path / "cases", source, num_variants=2)
    assert first.stat().st_mtime_ns == before
    assert second.read_bytes() == bytes_before and second.with_suffix(".json").exists()
    verify_folder(tmp_path / "cases")


def test_other_options_do_not_pass_unnoticed(tmp_path: Path) -> None:
    source, cases = ct_folder(tmp_path / "in", "scan.nii.gz"), tmp_path / "cases"
    prepared(cases, source)
    with pytest.raises(ValueError, match=r"ct_scan_000\.json was prepared in another way .*--overwrite"):
        prepared(cases, source, clip_hu=(-1000, 2000))
    with pytest.raises(ValueError, match="another way"):
        prepared(cases, source, TEST)
    (cases / "ct_scan_000.xray000.npz").write_bytes(b"of the earlier case")
    prepared(cases, source, clip_hu=(-1000, 500), overwrite=True)
    assert read_case(cases / "ct_scan_000.json").hu.max() == 500 and not list(cases.glob("*.npz"))


def test_a_case_that_can_no_longer_be_made_does_not_stay_as_it_was(tmp_path: Path) -> None:
    source, cases = ct_folder(tmp_path / "in", "scan.nii.gz", "labelled.nii.gz"), tmp_path / "cases"
    labels = np.zeros(trunk().grid.size)
    labels[8:12, 18:22, 16:20] = LABELS["L3"]
    write_volume(CtVolume(labels, trunk().grid), source / "labelled_seg.nii.gz")
    prepared(cases, source)
    done = prepared(cases, source, center="L3", overwrite=True)
    assert done.cases == ["ct_labelled_000"] and "no L3" in done.rejected[0].reason
    assert [file.stem for file in list_cases(cases)] == ["ct_labelled_000"] and not (cases / "ct_scan_000.npy").exists()
    assert {row["source"]: row["status"] for row in rows(cases / "report.csv")} == {
        "labelled.nii.gz": "prepared", "scan.nii.gz": "skipped",
    }  # fmt: skip


def test_a_case_of_a_metaimage_that_an_earlier_version_prepared_is_the_same(tmp_path: Path) -> None:
    """It took the SHA-256 of the header alone, where the voxels are not in NAME.raw."""
    source, cases = tmp_path / "in", tmp_path / "cases"
    written = sitk.ReadImage(str(ct_folder(tmp_path / "written", "scan.nrrd") / "scan.nrrd"))
    source.mkdir()
    sitk.WriteImage(written, str(source / "scan.mhd"), useCompression=True)
    assert (source / "scan.zraw").is_file()
    assert prepared(cases, source).cases == ["ct_scan_000"]
    described = json.loads((cases / "ct_scan_000.json").read_text())
    assert described["record"]["source_sha256"] != sha256_of(source / "scan.mhd")
    described["record"] |= {"source_sha256": sha256_of(source / "scan.mhd"), "source_stamp": "of other files"}
    (cases / "ct_scan_000.json").write_text(json.dumps(described))
    assert prepared(cases, source).cases == ["ct_scan_000"]


def test_voxels_of_label_maps_count_where_they_lie_beside_their_header(tmp_path: Path) -> None:
    source, cases = ct_folder(tmp_path / "in", "scan.nii.gz"), tmp_path / "cases"
    labels = np.zeros(trunk().grid.size, np.int16)
    labels[8:12, 18:22, 16:20] = LABELS["L3"]
    sitk.WriteImage(sitk.Cast(to_sitk(CtVolume(labels, trunk().grid)), sitk.sitkUInt8), str(source / "scan_seg.mhd"))
    prepared(cases, source)
    raw = (source / "scan_seg.raw").read_bytes()
    (source / "scan_seg.raw").write_bytes(raw.replace(bytes([LABELS["L3"]]), bytes([LABELS["L4"]])))
    with pytest.raises(ValueError, match="with other label maps"):
        prepared(cases, source)

    (source / "scan_seg.raw").write_bytes(raw)
    described = json.loads((cases / "ct_scan_000.json").read_text())
    header = f"{sha256_of(source / 'scan_seg.mhd')}  totalsegmentator\n"
    described["record"] |= {"label_maps_sha256": hashlib.sha256(header.encode()).hexdigest(), "source_stamp": "of other files"}
    (cases / "ct_scan_000.json").write_text(json.dumps(described))
    assert prepared(cases, source).cases == ["ct_scan_000"], "an earlier version took the header alone"


def test_another_scan_of_the_same_name_does_not_pass_for_it(tmp_path: Path) -> None:
    """One patient's scan in one folder, another's of the same file name in another."""
    cases, first, second = tmp_path / "cases", ct_folder(tmp_path / "a", "scan.nrrd"), tmp_path / "b"
    second.mkdir()
    write_volume(trunk(7), second / "scan.nrrd")
    prepared(cases, first, num_variants=2)
    before = read_case(cases / "ct_scan_001.json").hu.copy()
    with pytest.raises(ValueError, match=r"ct_scan_000\.json was prepared in another way .*from another scan of that name"):
        prepared(cases, second, num_variants=2)
    moved = first.rename(tmp_path / "moved")
    os.utime(moved / "scan.nrrd", (0, 0))
    assert prepared(cases, moved, num_variants=2).cases == ["ct_scan_000", "ct_scan_001"], "the same scan, elsewhere"
    prepared(cases, second, num_variants=2, overwrite=True)
    assert not np.array_equal(read_case(cases / "ct_scan_001.json").hu, before), "bent copies too"


def test_a_scan_is_not_read_to_tell_that_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ct_folder(tmp_path / "in", "scan.nrrd")
    prepared(tmp_path / "cases", source)
    monkeypatch.setattr(case_origin, "sha256_of_files", lambda files: pytest.fail("was read"))
    assert prepared(tmp_path / "cases", source).cases == ["ct_scan_000"]


def test_labels_and_patients_that_came_later_are_not_passed_over(tmp_path: Path) -> None:
    source, cases = ct_folder(tmp_path / "in", "scan.nii.gz"), tmp_path / "cases"
    prepared(cases, source, num_variants=2)
    labels = np.zeros(trunk().grid.size)
    labels[8:12, 18:22, 16:20] = LABELS["L3"]
    write_volume(CtVolume(labels, trunk().grid), source / "scan_seg.nii.gz")
    bent = (cases / "ct_scan_001.npy").stat().st_mtime_ns
    with pytest.raises(ValueError, match="with other label maps"):
        prepared(cases, source, num_variants=2)
    prepared(cases, source, num_variants=2, overwrite=True)
    assert read_labels(cases / "ct_scan_000.json") is not None
    assert (cases / "ct_scan_001.npy").stat().st_mtime_ns == bent, "labels decide nothing of a copy around the body's middle"
    scans, _ = find_scans(source, label_scheme="verse")
    with pytest.raises(ValueError, match="other meanings of their numbers"):
        prepare(cases, scans=scans, split=TRAIN, options=CaseOptions(num_variants=2))
    scans, _ = find_scans(source, label_scheme="totalsegmentator", patient_pattern="(sc)an")
    with pytest.raises(ValueError, match="scan as patient, not sc"):
        prepare(cases, scans=scans, split=TRAIN, options=CaseOptions(num_variants=2))


def test_cases_of_an_earlier_version_are_compared_by_what_they_say(tmp_path: Path) -> None:
    source, cases = ct_folder(tmp_path / "in", "scan.nii.gz"), tmp_path / "cases"
    prepared(cases, source)
    description = json.loads((cases / "ct_scan_000.json").read_text())
    for key in ("source_stamp", "label_maps_sha256"):
        del description["record"][key]
    (cases / "ct_scan_000.json").write_text(json.dumps(description))
    assert prepared(cases, source).cases == ["ct_scan_000"]
    write_volume(CtVolume(np.eye(36)[:30] * np.ones((14, 1, 1)), trunk().grid), source / "scan_seg.nii.gz")
    with pytest.raises(ValueError, match="with other label maps"):
        prepared(cases, source)
    write_volume(trunk(7), source / "scan.nii.gz", overwrite=True)
    with pytest.raises(ValueError, match="from another scan"):
        prepared(cases, source)


def test_bad_files_are_listed_and_skipped(tmp_path: Path) -> None:
    source = ct_folder(tmp_path / "in", "good.nii.gz")
    (source / "bad.nrrd").write_text("no volume")
    write_volume(CtVolume((trunk().hu > 0).astype(float), trunk().grid), source / "segments.nii.gz")
    done = prepared(tmp_path / "cases", source)
    assert done.cases == ["ct_good_000"]
    reasons = {one.source: one.reason for one in done.rejected}
    assert "cannot be read as .nrrd" in reasons["bad.nrrd"] and "label map" in reasons["segments.nii.gz"]
    report = {row["source"]: row for row in rows(tmp_path / "cases" / "report.csv")}
    status = {name: row["status"] for name, row in report.items()}
    assert status == {"good.nii.gz": "prepared", "bad.nrrd": "skipped", "segments.nii.gz": "skipped"}
    assert "bad.nrrd" in (tmp_path / "cases" / "report.md").read_text()
    (source / "bad.nrrd").unlink()
    write_volume(trunk(7), source / "bad.nrrd")
    assert prepared(tmp_path / "cases", source).cases == ["ct_bad_000", "ct_good_000"]
    assert "cannot be read" not in (tmp_path / "cases" / "report.csv").read_text(), "mended files are no longer listed"


def test_two_workers_make_the_same_cases(tmp_path: Path) -> None:
    source = ct_folder(tmp_path / "in", "a.nii.gz", "b.nii.gz")
    (source / "bad.nrrd").write_text("no volume")
    outcomes = [prepared(tmp_path / str(n), source, workers=n, num_variants=2, screw_share=0) for n in (1, 2)]
    assert sorted(outcomes[0].cases) == sorted(outcomes[1].cases) and len(outcomes[1].rejected) == 1
    digests = [{row["case"]: row["sha256"] for row in rows(tmp_path / str(n) / "manifest.csv")} for n in (1, 2)]
    assert digests[0] == digests[1] and len(digests[0]) == 4


def test_the_manifest_tells_what_changed(tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    prepared(cases, ct_folder(tmp_path / "in", "a.nii.gz", "b.nii.gz"))
    assert "2 cases, all as the manifest says" in verify_folder(cases)
    file = cases / "ct_a_000.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    (cases / "ct_b_000.npy").unlink()
    with pytest.raises(ValueError, match=r"ct_a_000\.npy: its SHA-256.*ct_b_000\.npy: missing"):
        verify_folder(cases)


def test_the_manifest_tells_of_a_patient_who_changed_sides_and_of_other_xrays(tmp_path: Path) -> None:
    write_case(tmp_path, case())
    prepare_xrays(tmp_path, 2, CALM, GRID)
    verify_folder(tmp_path)
    file, (first, second) = tmp_path / "rod.json", acquisition_files(tmp_path, "rod")
    file.write_text(file.read_text().replace('"train"', '"test"'))
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match=r"rod\.json: its SHA-256.*rod: the SHA-256 of its stored X-rays"):
        verify_folder(tmp_path)
    second.unlink()
    with pytest.raises(ValueError, match="rod: 1 stored X-ray pairs, the manifest has 2"):
        verify_folder(tmp_path)
    listing = rows(tmp_path / "manifest.csv")
    new = ("json_sha256", "xrays", "xrays_sha256")
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:  # as earlier versions wrote it
        writer = csv.DictWriter(stream, [column for column in listing[0] if column not in new], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(listing)
    verify_folder(tmp_path)


def test_a_crop_around_a_vertebra(tmp_path: Path) -> None:
    source = ct_folder(tmp_path / "in", "scan.nii.gz", "unlabelled.nii.gz")
    labels = np.zeros(trunk().grid.size)
    labels[8:12, 18:22, 16:20] = LABELS["L3"]
    write_volume(CtVolume(labels, trunk().grid), source / "scan_seg.nii.gz")
    done = prepared(tmp_path / "cases", source, center="L3", crop=True, num_variants=2)
    assert done.cases == ["ct_scan_000", "ct_scan_001"]
    assert [one.reason for one in done.rejected] == ["no L3 to centre on: it has no label map, or one without --label-scheme"]
    straight, bent = (read_case(tmp_path / "cases" / f"{name}.json") for name in done.cases)
    expected = trunk().grid.ijk_to_lps @ [17.5, 19.5, 9.5, 1]
    np.testing.assert_allclose(straight.center_lps, expected[:3], atol=1.1)  # half a voxel
    assert straight.centered_on == bent.centered_on == "L3"
    assert np.linalg.norm(np.subtract(bent.center_lps, straight.center_lps)) > 0.5, "bent as the scan is"
    stored = read_labels(tmp_path / "cases" / "ct_scan_000.json")
    assert stored is not None and stored.shape == straight.hu.shape and (stored == LABELS["L3"]).any()
    assert read_labels(tmp_path / "cases" / "ct_scan_001.json") is None
    assert straight.grid.origin_lps[2] > trunk().grid.origin_lps[2] - 0.1 and straight.hu.shape <= (128, 128, 128)


def test_phantoms_by_seed(tmp_path: Path) -> None:
    prepare(tmp_path, phantom_seeds=[3], options=CaseOptions(crop=True))
    one = read_case(tmp_path / "phantom_000003.json")
    assert (one.kind, one.split, one.hu.dtype) == ("phantom", "test", np.int16)
    assert one.hu.shape[0] == 128 and max(one.hu.shape) == 128, "the cube, as far as there is a body"
    assert one.screws == tuple(json.loads(json.dumps([s.to_dict() for s in make_phantom(3).screws])))
    stored = read_labels(tmp_path / "phantom_000003.json")
    assert stored is not None and stored.shape == one.hu.shape and one.hu[stored == LABELS["L3"]].mean() > 100
    write_case(tmp_path, replace(one, hu=np.array(one.hu)))
    assert not labels_file(tmp_path / "phantom_000003.json").exists(), "labels of an earlier case do not stay"


def test_the_command(tmp_path: Path) -> None:
    source = ct_folder(tmp_path / "in", "p1_before.nii.gz", "p1_after.nii.gz")
    (source / "bad.nrrd").write_text("no volume")
    (tmp_path / "split.csv").write_text("patient,split\np1,val\n")

    def call(*options: object) -> Any:
        arguments = ["prepare", "--output", tmp_path / "out", *options]
        return CliRunner().invoke(cli.main, [str(a) for a in arguments])

    options = ("--cts", source, "--patient-pattern", r"^(p\d)_", "--split", tmp_path / "split.csv", "--clip", -1000, 500)
    result = call(*options, "--remove-table")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("2 cases in ") and "1 not prepared" in result.stdout
    assert "not prepared: bad.nrrd: --patient-pattern" in result.stderr
    cases = [read_case(file) for file in list_cases(tmp_path / "out", "val")]
    assert [c.patient for c in cases] == ["p1", "p1"] and all(c.hu.max() == 500 for c in cases)
    assert call("--verify").stdout.endswith("2 cases, all as the manifest says\n")
    refused = call(*options)
    assert refused.exit_code == 2 and "another way" in refused.stderr and refused.stdout == ""
    for options in ((), ("--reference", "lumbar"), ("--cts", tmp_path / "missing"), ("--phantoms", 1, "--workers", 0)):
        assert call(*options).exit_code == 2, options


def test_a_folder_without_cts_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("none")
    request = PrepareRequest(output=tmp_path / "out", cts=(tmp_path / "in",))
    with pytest.raises(ValueError, match="no CT in"):
        run_preparation(request, on_progress=lambda *_, **__: None)
    (tmp_path / "in" / "bad.nrrd").write_text("no volume")
    with pytest.raises(ValueError, match=r"none of 1 CTs could be prepared \(bad\.nrrd"):
        run_preparation(request, on_progress=lambda *_, **__: None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("screw_share", 40), ("num_variants", 0), ("center", "X9"), ("clip_hu", (0, 100)), ("clip_hu", (-1000, 40_000))],
)
def test_options_are_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        CaseOptions(**{name: value})  # type: ignore[arg-type]


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
    write_case(tmp_path, replace(case(), name="judge", split="test"))
    assert prepare_xrays(tmp_path, 2, config, GRID) == 2 and not acquisition_files(tmp_path, "judge"), "nobody trains on it"


def test_xrays_made_in_another_way_do_not_pass_unnoticed(tmp_path: Path) -> None:
    write_case(tmp_path, case())
    prepare_xrays(tmp_path, 3, CALM, GRID)
    with pytest.raises(ValueError, match=r"rod\.xray000\.npz was .*: fan_share 0\.0, not 0\.5; detector_pixels .*--overwrite"):
        prepare_xrays(tmp_path, 3, replace(CALM, fan_share=0.5, detector_pixels=12), GRID)
    before = [file.read_bytes() for file in acquisition_files(tmp_path, "rod")]
    prepare_xrays(tmp_path, 2, replace(CALM, isocenter_sd_mm=(9, 9, 9)), GRID, overwrite=True)
    after = [file.read_bytes() for file in acquisition_files(tmp_path, "rod")]
    assert len(after) == 2 and after[0] != before[0], "none of the others stays"
    earlier = acquire_views(case(), np.random.default_rng(0), CALM, GRID)
    write_acquisition(tmp_path, 0, earlier)  # as earlier versions wrote it, without a word of how it was made
    prepare_xrays(tmp_path, 2, replace(CALM, isocenter_sd_mm=(9, 9, 9)), GRID)
    unknown = acquisition_files(tmp_path, "rod")[0].read_bytes()
    prepare_xrays(tmp_path, 2, CALM, GRID, overwrite=True)
    assert acquisition_files(tmp_path, "rod")[0].read_bytes() != unknown, "to be sure"
    acquisition_files(tmp_path, "rod")[1].write_bytes(b"cut off")
    with pytest.raises(ValueError, match="cannot be read"):
        prepare_xrays(tmp_path, 2, CALM, GRID)
    prepare_xrays(tmp_path, 2, CALM, GRID, overwrite=True)
    write_acquisition(tmp_path, 7, earlier)
    prepare_xrays(tmp_path, 2, CALM, GRID, overwrite=True)
    verify_folder(tmp_path)  # the manifest knows what was removed, too


def test_xrays_of_a_folder_that_is_there(tmp_path: Path) -> None:
    """As on the GPU machine that it was copied to, where no CTs are."""
    for name, split in (("phantom_a", "train"), ("phantom_b", "test")):
        write_case(tmp_path, replace(case(), name=name, split=split))
    request = PrepareRequest(output=tmp_path, num_xrays=2, recipe="debug")
    outcome = run_preparation(request, on_progress=lambda *_, **__: None)
    assert outcome.text == f"2 X-ray pairs in {tmp_path}" and len(acquisition_files(tmp_path, "phantom_a")) == 2
    with pytest.raises(ValueError, match="no prepared case in"):
        run_preparation(replace(request, output=tmp_path / "empty"), on_progress=lambda *_, **__: None)


def test_a_body_is_bent_by_mm_and_degrees_along_each_axis() -> None:
    size, matrices, bends = (16, 48, 96), [], []
    half_mm = np.array(size[::-1]) * 2.0 / 2
    for seed in range(200):
        bending = random_warp(np.random.default_rng(seed), size)
        matrices.append(np.diag(half_mm) @ bending.matrix @ np.diag(1 / half_mm))
        bends.append(bending.bend[0] * half_mm[:, None, None, None])
    np.testing.assert_allclose(np.std(bends, axis=(0, 2, 3, 4)), 8.0, rtol=0.03)
    turns = np.array([np.linalg.svd(m)[0] @ np.linalg.svd(m)[2] for m in matrices])
    degrees = np.degrees(np.arccos(((np.trace(turns, axis1=1, axis2=2) - 1) / 2).clip(-1, 1)))
    assert np.sqrt((degrees**2).mean()) == pytest.approx(4 * np.sqrt(3), rel=0.1)
    scales = np.array([np.linalg.svd(m)[1] for m in matrices])
    assert 1 / 1.2 < scales.min() < 1 < scales.max() < 1 / 0.8


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
    write_volume(phantom.render(VolumeGrid.centered((44, 48, 44), 4.0)).hu, tmp_path / "scan.nii.gz")
    names = prepared(tmp_path / "all", tmp_path / "scan.nii.gz", num_variants=2, screw_share=1.0).cases
    prepared(tmp_path / "none", tmp_path / "scan.nii.gz", num_variants=2, screw_share=0)
    (plain, fused), (_, bent) = ([read_case(tmp_path / f / f"{n}.json") for n in names] for f in ("all", "none"))
    assert plain.screws == () and plain.source == "scan.nii.gz"  # the scan itself stays what it is
    assert len(fused.screws) >= 4
    assert fused.screws and fused.source == "scan.nii.gz"
    assert fused.hu.max() > 2500 and bent.hu.max() < 2500
    assert (fused.hu != bent.hu).mean() < 0.02  # the same body otherwise
    assert fused.center_lps == bent.center_lps


def test_where_there_is_no_spine_there_are_no_screws(tmp_path: Path) -> None:
    prepared(tmp_path / "cases", ct_folder(tmp_path / "in", "scan.nii.gz"), screw_share=1.0)
    assert read_case(tmp_path / "cases" / "ct_scan_000.json").screws == ()
