"""Which files of the public layouts are CTs, which are labels, and whose they are. Only names count, so files are empty."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest

from diff2ct.volume_io import write_volume
from diff2ct_training.scans import check_names, find_scans, recognised
from tiny import tiny_body


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def found(root: Path, **options: str) -> tuple[dict, list[str]]:  # type: ignore[type-arg]
    scans, rejected = find_scans(root, **options)  # type: ignore[arg-type]
    return {scan.source: scan for scan in scans}, [one.source for one in rejected]


def test_verse(tmp_path: Path) -> None:
    a, b = "dataset-01training/rawdata/sub-verse004/sub-verse004", "dataset-03test/rawdata/sub-gl003/sub-gl003_dir-ax"
    split = "dataset-02validation/rawdata/sub-verse401/sub-verse401_split-verse253"
    labels = "dataset-01training/derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz"
    orphan = "dataset-01training/derivatives/sub-verse009/sub-verse009_seg-vert_msk.nii.gz"
    scans, rejected = found(tree(tmp_path, f"{a}_ct.nii.gz", f"{b}_ct.nii.gz", f"{split}_ct.nii.gz", labels, orphan))
    assert [scan.patient for scan in scans.values()] == ["sub-verse004", "sub-verse401", "sub-gl003"]
    assert [scan.official_split for scan in scans.values()] == ["train", "val", "test"]
    (label,) = scans[f"{a}_ct.nii.gz"].labels
    assert label.path == tmp_path / labels and label.scheme == "verse"
    assert scans[f"{b}_ct.nii.gz"].labels == () and rejected == [orphan]


def test_totalsegmentator(tmp_path: Path) -> None:
    names = ("liver", "vertebrae_L3", "sacrum")
    tree(tmp_path, "s0011/ct.nii.gz", "s1400/ct.nii.gz", *(f"s0011/segmentations/{name}.nii.gz" for name in names))
    (tmp_path / "meta.csv").write_text("image_id;age;split\ns0011;50;train\ns1400;60;test\n")
    scans, rejected = found(tmp_path)
    first, second = scans.values()
    assert (first.patient, first.name, first.dataset, rejected) == ("s0011", "s0011", "totalsegmentator", [])
    assert {label.structure for label in first.labels} == {"L3", "sacrum"}, "organs have no number here"
    assert (first.official_split, second.official_split) == ("train", "test")


@pytest.mark.parametrize(("images", "labels"), [("data", "label"), ("raw_data/volumes", "raw_data/labels")])
def test_ctspine1k(tmp_path: Path, images: str, labels: str) -> None:
    covid, colon = f"{images}/COVID-19/volume-covid19-A-0003_ct.nii.gz", f"{images}/colon/1.3.6.1.4.1.9328.50.4.0001.nii.gz"
    mask = f"{labels}/conlon/1.3.6.1.4.1.9328.50.4.0001_seg.nii.gz"  # spelled so by the publishers
    tree(tmp_path, covid, colon, mask)
    listing = "trainset:\nvolume-covid19-A-0003_ct.nii.gz\n\ntest_public:\n\ntest_private:\n1.3.6.1.4.1.9328.50.4.0001.nii.gz\n"
    (tmp_path / "data_split.txt").write_text(listing)
    scans, rejected = found(tmp_path)
    assert list(scans) == [covid, colon] and rejected == []
    assert scans[colon].patient == "1.3.6.1.4.1.9328.50.4.0001" and scans[colon].labels[0].scheme == "ctspine1k"
    assert (scans[covid].official_split, scans[colon].official_split) == ("train", "test")


def test_ctpelvic1k(tmp_path: Path) -> None:
    metal = "CTPelvic1K_dataset7_data/dataset7_CLINIC_metal_0000_data.nii.gz"
    clinic = "CTPelvic1K_dataset6_data/dataset6_CLINIC_0001_data.nii.gz"
    masks = ("mask/CLINIC_metal_0000_mask_4label.nii.gz", "mask/dataset6_CLINIC_0001_mask_4label.nii.gz")
    scans, rejected = found(tree(tmp_path, metal, clinic, *masks))
    assert {scan.patient for scan in scans.values()} == {"CLINIC_metal_0000", "CLINIC_0001"} and rejected == []
    assert all(scan.labels[0].scheme == "ctpelvic1k" for scan in scans.values())


def test_plain_files(tmp_path: Path) -> None:
    tree(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b/scan [1].nrrd", "c/\u00e4.mha", "notes.txt", ".hidden.nii.gz", "x_mask.nrrd")
    scans, rejected = found(tmp_path, label_scheme="verse")
    assert {source: scan.name for source, scan in scans.items()} == {
        "a.nii.gz": "a", "b/scan [1].nrrd": "b_scan_1_", "c/\u00e4.mha": "c_\u00e4",
        "x_mask.nrrd": "x_mask",  # its CT is not there, so it may be one itself
    }  # fmt: skip
    assert scans["a.nii.gz"].labels[0].path.name == "a_seg.nii.gz" and rejected == []
    scans, rejected = found(tmp_path)
    assert scans["a.nii.gz"].labels == () and rejected == ["a_seg.nii.gz"], "nothing is dropped without a word"


def test_patients_from_a_pattern(tmp_path: Path) -> None:
    tree(tmp_path, "p1/before.nii.gz", "p1/after.nii.gz", "other.nii.gz")
    scans, rejected = found(tmp_path, patient_pattern=r"^(p\d+)/")
    assert {scan.patient for scan in scans.values()} == {"p1"} and rejected == ["other.nii.gz"]
    for pattern in ("(", "p1", "(a)(b)"):
        with pytest.raises(ValueError, match="--patient-pattern"):
            find_scans(tmp_path, patient_pattern=pattern)


def write_series(folder: Path, change: dict[str, Any]) -> None:
    """A CT as DICOM slices, some of the header's values changed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_volume(tiny_body(), folder)
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        for keyword, value in change.items():
            setattr(header, keyword, value)
        header.save_as(file)


@pytest.mark.filterwarnings("ignore:Expected implicit VR")  # of the broken file
def test_dicom_series_are_told_apart(tmp_path: Path) -> None:
    for name, change in {
        "lidc": {"PatientID": "LIDC-IDRI-0001", "ContrastBolusAgent": "iodine"},
        "scout": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "film": {"Modality": "DX"},
        "enhanced": {"NumberOfFrames": 16},
    }.items():
        write_series(tmp_path / name, change)
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\0\x05\0XX\xff\xff")
    scans, rejected = find_scans(tmp_path)
    (scan,) = scans
    assert (scan.patient, scan.dataset, scan.contrast_agent) == ("LIDC-IDRI-0001", "lidc-idri", "iodine")
    assert scan.path == tmp_path / "lidc" and len(scan.files) == 16 and scan.series_uid in scan.source
    reasons = {one.source: one.reason for one in rejected}
    assert "localizer" in reasons["scout"] and "modality DX" in reasons["film"]
    assert "multi-frame" in reasons["enhanced"] and "broken.dcm" in reasons["broken.dcm"]


def test_lidc_idri(tmp_path: Path) -> None:
    """As downloaded: PATIENT/STUDY/SERIES, chest radiographs of some patients, readers' marks beside the slices."""
    for folder, change in {
        "LIDC-IDRI-0001/study/ct": {"PatientID": "LIDC-IDRI-0001"},
        "LIDC-IDRI-0001/other study/film": {"PatientID": "LIDC-IDRI-0001", "Modality": "DX"},
        "LIDC-IDRI-0002/study/ct": {"PatientID": "LIDC-IDRI-0002"},
        "LIDC-IDRI-0002/study/scout": {"PatientID": "LIDC-IDRI-0002", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "strange": {"PatientID": "TEST"},
    }.items():
        write_series(tmp_path / folder, change)
    tree(tmp_path, "LIDC-IDRI-0001/study/ct/069.xml", "LIDC-IDRI-0002/converted.nii.gz", "metadata.csv", "LICENSE")
    scans, rejected = find_scans(tmp_path, layout="lidc-idri")
    assert [(scan.patient, scan.dataset) for scan in scans] == [(f"LIDC-IDRI-000{n}", "lidc-idri") for n in (1, 2)]
    assert [scan.path for scan in scans] == [tmp_path / f"LIDC-IDRI-000{n}" / "study" / "ct" for n in (1, 2)]
    assert all(len(scan.files) == 16 and not scan.labels for scan in scans)
    reasons = {one.source.partition("#")[0]: one.reason for one in rejected}
    assert list(reasons) == ["LIDC-IDRI-0002/converted.nii.gz", "LIDC-IDRI-0002/study/scout", "strange"]
    assert "patient TEST, accepted in the layout lidc-idri" in reasons["strange"]
    assert "LIDC-IDRI-0002/converted.nii.gz" in found(tmp_path)[0], "not recognised where it is not stated"


@pytest.mark.parametrize(("at", "both"), [("Rows", False), ("Modality", True)])
def test_a_series_with_a_slice_that_is_cut_off_is_told(tmp_path: Path, at: str, both: bool) -> None:
    """In a flat export; before its series' UID the file does not tell of which of the two it is."""
    for name in "ab":
        write_volume(tiny_body(), tmp_path / name)
        for file in sorted((tmp_path / name).iterdir()):
            file.rename(tmp_path / f"{name}{file.name}")
        (tmp_path / name).rmdir()
    cut = sorted(tmp_path.glob("b*"))[-1]
    cut.write_bytes(cut.read_bytes()[: pydicom.dcmread(cut).get_item(at).value_tell - 8])
    scans, rejected = find_scans(tmp_path)
    assert [len(scan.files) for scan in scans] == ([] if both else [16])
    reasons = [one.reason for one in rejected]
    assert any("ends inside its header" in reason for reason in reasons)
    assert sum(f"slices may be missing, {cut.name} cannot be read" in reason for reason in reasons) == 1 + both
    if not both:
        assert scans[0].read().hu.shape == tiny_body().hu.shape


def test_a_report_beside_a_ct_is_no_damage(tmp_path: Path) -> None:
    """Without Rows, in the same study, of another kind than CT images."""
    write_volume(tiny_body(), tmp_path / "ct")
    report = pydicom.dcmread(next((tmp_path / "ct").iterdir()))
    del report.PixelData, report.Rows, report.Columns
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    report.Modality = "SR"
    report.save_as(tmp_path / "ct" / "dose.dcm")
    scans, rejected = find_scans(tmp_path)
    assert [len(scan.files) for scan in scans] == [16] and rejected == []


@pytest.mark.parametrize("harm", ["empty", "text", "without preamble", "dangling"])
@pytest.mark.parametrize("named", ["slice.dcm", "IM-0001-0016"])
def test_a_slice_that_is_no_dicom_any_more_is_not_passed_over(tmp_path: Path, harm: str, named: str) -> None:
    """At the end of a series, where no gap between slices would show it."""
    write_volume(tiny_body(), tmp_path / "ct")
    last = sorted((tmp_path / "ct").iterdir())[-1].rename(tmp_path / "ct" / named)
    whole = last.read_bytes()
    last.unlink()
    if harm == "dangling":
        last.symlink_to(tmp_path / "not fetched")
    else:
        last.write_bytes({"empty": b"", "text": b"version https://git-lfs", "without preamble": whole[132:]}[harm])
    scans, rejected = find_scans(tmp_path)
    if (harm, named) == ("text", "IM-0001-0016"):
        assert len(scans) == 1 and not rejected, "it may be anything"
        return
    reasons = {one.source: one.reason for one in rejected}
    assert scans == [] and f"slices may be missing, {named} cannot be read" in reasons["ct"]
    assert named in reasons[f"ct/{named}"]


@pytest.mark.parametrize("named", ["DONE", "notes.1", "notes.txt", "scan.raw"])
def test_what_lies_beside_a_series_and_is_not_named_as_slices_are_is_passed_over(tmp_path: Path, named: str) -> None:
    write_volume(tiny_body(), tmp_path / "ct")
    for content in (b"", b"\x02\x00\x00\x00\x03\x00\x00\x00"):
        (tmp_path / "ct" / named).write_bytes(content)
        scans, rejected = find_scans(tmp_path)
        assert len(scans) == 1 and not rejected


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_that_lead_to_no_file_are_told_and_hidden_folders_are_not_looked_into(tmp_path: Path) -> None:
    """An annex keeps the files that its links lead to in a hidden folder: no CT may count twice."""
    tree(tmp_path / "elsewhere", "b.nrrd")
    root = tree(tmp_path / "in", ".git/annex/objects/KEY.nrrd")
    (root / "a.nrrd").symlink_to(root / ".git" / "annex" / "objects" / "KEY.nrrd")
    (root / "c.nii.gz").symlink_to(root / ".git" / "annex" / "objects" / "not fetched")
    (root / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    scans, rejected = find_scans(root)
    assert [scan.source for scan in scans] == ["a.nrrd"]
    assert {one.source: one.reason for one in rejected} == {
        "c.nii.gz": "a link to a file that is not there", "more": "a link to a folder, which is not followed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("named", "files"),
    [("a.raw", ["a.raw"]), ("voxels.zraw", ["voxels.zraw"]), ("a%03d.raw 1 2 1", ["a001.raw", "a002.raw"]),
     ("LIST\none.raw\ntwo.raw\n", ["one.raw", "two.raw"]), ("LOCAL", [])],
)  # fmt: skip
def test_the_voxels_of_a_metaimage_are_files_of_the_scan(tmp_path: Path, named: str, files: list[str]) -> None:
    tree(tmp_path, "other.raw", *files)
    (tmp_path / "a.mhd").write_text(f"NDims = 3\nElementDataFile = {named}\n")
    (scan,), rejected = find_scans(tmp_path)
    assert [file.name for file in scan.files] == ["a.mhd", *files] and rejected == []


@pytest.mark.parametrize("data", ["/elsewhere/a%03d.raw 1 2 1", "a" * 300 + ".raw"])
def test_a_metaimage_whose_data_cannot_be_found_is_left_to_who_reads_it(tmp_path: Path, data: str) -> None:
    (tmp_path / "a.mhd").write_text(f"NDims = 3\nElementDataFile = {data}\n")
    (scan,), rejected = find_scans(tmp_path)
    assert scan.files == (tmp_path / "a.mhd",) and rejected == []


def test_two_scans_of_one_name_are_refused(tmp_path: Path) -> None:
    scans = [find_scans(tree(tmp_path / folder, "a.nrrd"))[0][0] for folder in ("one", "two")]
    with pytest.raises(ValueError, match="2 scans are called a"):
        check_names(scans)


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--layout: got 'bids'"):
        find_scans(tmp_path, layout="bids")
    with pytest.raises(ValueError, match="no such file"):
        find_scans(tmp_path / "missing")
    with pytest.raises(ValueError, match="--label-scheme: got 'mine'"):
        find_scans(tree(tmp_path, "a.nrrd", "a_seg.nrrd"), label_scheme="mine")


def test_a_layout_can_be_forced(tmp_path: Path) -> None:
    assert recognised(["s0001/ct.nii.gz", "s0001/segmentations/L3.nii.gz"]).name == "totalsegmentator"
    scans, _ = found(tree(tmp_path, "s0001/ct.nii.gz", "s0001/segmentations/liver.nii.gz"), layout="plain")
    assert set(scans) == {"s0001/ct.nii.gz", "s0001/segmentations/liver.nii.gz"}
