"""CT volumes from and to files and grids: left stays left in every format, nothing aliases, nothing doubtful passes."""

import gzip
import re
import struct
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import phantoms
from diff2ct.dicom_file import save
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import antialiasing_sigmas, inside_grid, read_ct, resample, write_volume

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
OBLIQUE = tuple(map(tuple, phantoms.rotation_from_angles(12.0, -20.0, 33.0).tolist()))
MARKER_LPS = np.array([24.0, -12.0, 31.0])  # left, anterior, cranial
FILES = ["x.nrrd", "x.nii.gz", "x.mha", "x/"]


def field(points: np.ndarray) -> np.ndarray:
    """HU at LPS points (..., 3): air, a lopsided body, one dense marker; smooth, so linear interpolation is close."""
    x, y, z = np.moveaxis(points, -1, 0)
    body = 1000.0 * np.exp(-(((x / 45) ** 2 + (y / 35) ** 2 + (z / 55) ** 2) ** 2)) * (1 + 0.004 * x + 0.003 * y + 0.002 * z)
    marker = 1500.0 * np.exp(-((points - MARKER_LPS) ** 2).sum(-1) / 128.0)
    return -1000.0 + body + marker


def points_of(grid: VolumeGrid) -> np.ndarray:
    """(D, H, W, 3) LPS of all voxel centres."""
    k, j, i = np.meshgrid(*map(np.arange, grid.size), indexing="ij")
    return np.stack([i, j, k], -1) @ grid.ijk_to_lps[:3, :3].T + grid.ijk_to_lps[:3, 3]


def sampled(grid: VolumeGrid) -> CtVolume:
    return CtVolume(field(points_of(grid)), grid)


def centered(size: tuple[int, int, int], spacing: tuple[float, float, float], direction: Any) -> VolumeGrid:
    grid = VolumeGrid(size, spacing, (0.0, 0.0, 0.0), direction)
    x, y, z = -grid.center_lps
    return replace(grid, origin_lps=(x, y, z))


def signed_permutations() -> list[tuple[tuple[float, ...], ...]]:
    """All 48 ways in which index axes can run along patient axes, left-handed ones included."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        matrix = np.zeros((3, 3))
        for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
            matrix[world, axis] = sign
        found.append(tuple(map(tuple, matrix.tolist())))
    return found


UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
CT = sampled(centered((25, 21, 18), (5.0, 5.5, 6.0), UPRIGHT))


def marker_position(ct: CtVolume) -> np.ndarray:
    return points_of(ct.grid)[np.unravel_index(np.argmax(ct.hu), ct.hu.shape)]


# Files


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("direction", [*signed_permutations(), OBLIQUE])
def test_left_stays_left_in_every_format_and_orientation(tmp_path: Path, name: str, direction: Any) -> None:
    original = sampled(centered((14, 12, 11), (8.0, 9.0, 9.5), direction))
    write_volume(original, f"{tmp_path}/{name}")
    copy = read_ct(f"{tmp_path}/{name}")
    np.testing.assert_allclose(copy.hu, field(points_of(copy.grid)), atol=0.51 if name == "x/" else 0.02)
    np.testing.assert_allclose(marker_position(copy), marker_position(original), atol=1e-3)
    if np.linalg.det(np.array(direction)) > 0:
        np.testing.assert_allclose(copy.grid.ijk_to_lps, original.grid.ijk_to_lps, atol=1e-4)


@pytest.mark.parametrize("name", ["x.nrrd", "x.nii.gz", "x.mha"])
def test_foreign_readers_agree_on_the_side(tmp_path: Path, name: str) -> None:
    """Not through our reader: SimpleITK's own physical points."""
    write_volume(CT, tmp_path / name)
    image = sitk.ReadImage(str(tmp_path / name))
    value = image[image.TransformPhysicalPointToIndex(MARKER_LPS.tolist())]
    mirrored = image[image.TransformPhysicalPointToIndex((MARKER_LPS * (-1, 1, 1)).tolist())]
    assert value > 0 > mirrored


def test_nifti_header_is_ras(tmp_path: Path) -> None:
    """The raw sform: +x must be the patient's right-to-left turned into NIfTI's left-to-right, without trusting ITK."""
    write_volume(CT, tmp_path / "x.nii.gz")
    header = gzip.decompress((tmp_path / "x.nii.gz").read_bytes())[:348]
    rows = [struct.unpack_from("<4f", header, 280 + 16 * r) for r in range(3)]
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ CT.grid.ijk_to_lps
    np.testing.assert_allclose(rows, ras[:3], atol=1e-4)


@pytest.mark.parametrize("name", ["x.nrrd", "x.nii.gz", "x.mha"])
def test_values_round_trip_exactly(tmp_path: Path, name: str) -> None:
    for hu, stored in ((CT.hu, "32-bit float"), (np.rint(CT.hu), "16-bit signed integer")):
        write_volume(CtVolume(hu, CT.grid), tmp_path / name, overwrite=True)
        np.testing.assert_array_equal(read_ct(tmp_path / name).hu, hu)
        assert sitk.ReadImage(str(tmp_path / name)).GetPixelIDTypeAsString() == stored


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha", "x.nii.gz"])
def test_attributes_are_kept(tmp_path: Path, name: str) -> None:
    write_volume(CT, tmp_path / name, attributes={"Diff2CT.Seed": "7", "Diff2CT.Notice": "Research use only"})
    if name == "x.nii.gz":
        assert '"Diff2CT.Seed": "7"' in (tmp_path / "x.nii.gz.json").read_text()
    else:
        image = sitk.ReadImage(str(tmp_path / name))
        assert image.GetMetaData("Diff2CT.Seed") == "7" and image.GetMetaData("Diff2CT.Notice") == "Research use only"


def test_nothing_is_overwritten_unasked_and_nothing_half_written_stays(tmp_path: Path) -> None:
    for name in FILES:
        write_volume(CT, f"{tmp_path}/{name}")
        with pytest.raises(ValueError, match="exists already"):
            write_volume(CT, f"{tmp_path}/{name}")
        write_volume(replace(CT, hu=CT.hu / 2), f"{tmp_path}/{name}", overwrite=True)
        assert read_ct(f"{tmp_path}/{name}").hu.max() == pytest.approx(CT.hu.max() / 2, abs=1)
    (tmp_path / "x" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds more than \*.dcm"):
        write_volume(CT, f"{tmp_path}/x/", overwrite=True)
    (tmp_path / "empty").mkdir()
    write_volume(CT, tmp_path / "empty")
    for bad in ("x.dcm", "x.png", "x.nii", "nowhere/x.nrrd"):
        with pytest.raises(ValueError, match=r"cannot be written|does not exist"):
            write_volume(CT, tmp_path / bad)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "x", "x.mha", "x.nii.gz", "x.nrrd"]


@pytest.mark.parametrize("name", ["x.nrrd", "x.nii.gz", "x.mha"])
@pytest.mark.parametrize("room", [0, 5000])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, full_disk: Any, name: str, room: int) -> None:
    write_volume(CT, tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with full_disk(room), pytest.raises(ValueError, match=f"{name}: cannot be written"):
        write_volume(replace(CT, hu=CT.hu / 2), tmp_path / name, overwrite=True)
    assert (tmp_path / name).read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [name]


NOT_UTF8 = "R\udcf6ntgen"  # as Python gives the Latin-1 name on the disk


@pytest.mark.skipif(sys.platform != "linux", reason="the disk takes no such name")
def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    write_volume(CT, tmp_path / "x.nrrd")
    (tmp_path / "x.nrrd").rename(tmp_path / f"{NOT_UTF8}.nrrd")
    series(tmp_path / "slices")
    next((tmp_path / "slices").iterdir()).rename(tmp_path / "slices" / NOT_UTF8)
    for path in (tmp_path / f"{NOT_UTF8}.nrrd", tmp_path / "slices"):
        with pytest.raises(ValueError, match=r"R\\udcf6ntgen.*: the name is not in UTF-8; rename") as caught:
            read_ct(path)
        assert str(caught.value).encode()
    for name in ("x.nrrd", "x.nii.gz", ""):
        with pytest.raises(ValueError, match="the name is not in UTF-8; rename"):
            write_volume(CT, tmp_path / f"{NOT_UTF8}{name}", overwrite=True)


# DICOM


def series(folder: Path, change: Callable[[int, pydicom.Dataset], None] | None = None, ct: CtVolume = CT) -> Path:
    """A CT series with each slice changed by `change(k, dataset)`; file names do not tell the order."""
    write_volume(ct, folder, overwrite=True)
    for k, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        if change:
            change(k, dataset)
        path.unlink()
        save(dataset, folder / f"{(k * 7) % 31:02d}_{k}.dcm")
    return folder


def moved(vector: tuple[float, float, float]) -> Callable[[int, pydicom.Dataset], None]:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient = [f"{p + v * k:.6f}" for p, v in zip(dataset.ImagePositionPatient, vector, strict=True)]

    return change


FILM_NAME = "R\u00f6ntgen \u0440\u0435\u043d\u0442\u0433\u0435\u043d.png"  # in two scripts


def test_written_series_says_what_it_is(tmp_path: Path) -> None:
    write_volume(CT, f"{tmp_path}/x/", attributes={"seed": "7", "film": FILM_NAME})
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "x").iterdir())]
    assert len(slices) == CT.grid.size[0] and len({s.SOPInstanceUID for s in slices}) == len(slices)
    assert len({(s.SeriesInstanceUID, s.StudyInstanceUID, s.FrameOfReferenceUID) for s in slices}) == 1
    first = slices[0]
    assert list(first.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"] and first.Modality == "CT"
    assert first.ImageComments == "Research use only - not for diagnosis" and "Synthetic" in first.SeriesDescription
    assert "not a measured CT" in first.DerivationDescription and "seed=7" in first.DerivationDescription
    assert f"film={FILM_NAME}" in first.DerivationDescription
    assert first.ContributingEquipmentSequence[0].Manufacturer == "Diff2CT"
    assert list(first.PixelSpacing) == [5.5, 5.0] and first.SliceThickness == first.SpacingBetweenSlices == 6.0
    assert all(len(str(value)) <= 16 for value in [*first.ImagePositionPatient, *first.ImageOrientationPatient])
    write_volume(CT, f"{tmp_path}/y/")
    assert pydicom.dcmread(tmp_path / "y" / "0001.dcm").SeriesInstanceUID != first.SeriesInstanceUID


def test_series_is_sorted_by_position_and_rescaled(tmp_path: Path) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        stored = dataset.pixel_array.astype(np.int32)  # HU + 1024
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", str(-1024 + k)
        dataset.PixelData = ((stored - k) * 2).clip(0).astype("<u2").tobytes()

    copy = read_ct(series(tmp_path / "x", change))
    np.testing.assert_allclose(copy.grid.ijk_to_lps, CT.grid.ijk_to_lps, atol=1e-4)
    np.testing.assert_allclose(copy.hu, np.rint(CT.hu), atol=0.01)


def test_one_file_stands_for_its_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "x")
    (folder / "notes.txt").write_text("not DICOM")
    np.testing.assert_allclose(read_ct(sorted(folder.glob("*.dcm"))[3]).hu, np.rint(CT.hu), atol=0.01)


def test_several_series_must_be_told_apart(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    series(study / "a")
    series(study / "b", ct=replace(CT, hu=CT.hu / 2))
    uid = pydicom.dcmread(next((study / "b").iterdir())).SeriesInstanceUID
    with pytest.raises(ValueError, match=r"study: holds 2 CT series; pass one file of the wanted one: .*25 images") as caught:
        read_ct(study)
    named = re.search(r"(\S+) for " + re.escape(uid), str(caught.value))
    assert named is not None and read_ct(named[1]).hu.max() == pytest.approx(CT.hu.max() / 2, abs=1)
    assert read_ct(study, series_uid=uid).hu.max() == pytest.approx(CT.hu.max() / 2, abs=1)
    with pytest.raises(ValueError, match=r"series_uid: got '1.2.3'"):
        read_ct(study, series_uid="1.2.3")
    with pytest.raises(ValueError, match="accepted only for DICOM"):
        write_volume(CT, tmp_path / "x.nrrd")
        read_ct(tmp_path / "x.nrrd", series_uid=uid)


@pytest.mark.filterwarnings("ignore:Expected implicit VR")  # of the broken file
def test_only_the_files_that_are_named_are_opened(tmp_path: Path) -> None:
    """As many series as a PACS writes into one folder cost no more than their own slices."""
    folder = series(tmp_path / "study")
    files = sorted(folder.iterdir())
    (folder / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\0\x05\0XX\xff\xff")
    with pytest.raises(ValueError, match="damaged"):
        read_ct(folder)
    np.testing.assert_array_equal(read_ct(folder, files=files).hu, read_ct(series(tmp_path / "alone")).hu)


@pytest.mark.parametrize("at", ["Modality", "Rows"])  # before and behind the series' UID
def test_a_slice_that_ends_inside_its_header_is_not_passed_over(tmp_path: Path, at: str) -> None:
    """The last one: without it the others are an even stack."""
    last = sorted(series(tmp_path / "study").iterdir())[-1]
    last.write_bytes(last.read_bytes()[: pydicom.dcmread(last).get_item(at).value_tell - 8])
    with pytest.raises(ValueError, match=f"{last.name}: damaged DICOM file .*inside its header"):
        read_ct(tmp_path / "study")


def test_scouts_and_other_modalities_beside_a_ct_do_not_disturb(tmp_path: Path) -> None:
    folder = series(tmp_path / "x")
    for name, elements in {
        "scout.dcm": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
        "dose.dcm": {"Modality": "OT", "SeriesInstanceUID": "1.2.3"},
    }.items():
        dataset = pydicom.dcmread(next(folder.iterdir()))
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        save(dataset, folder / name)
    assert read_ct(folder).grid.size == CT.grid.size


def set_elements(**elements: Any) -> Callable[[int, pydicom.Dataset], None]:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)

    return change


def tilt_one(k: int, dataset: pydicom.Dataset) -> None:
    if k == 4:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0.9961947, 0.0871557]


def without(keyword: str) -> Callable[[int, pydicom.Dataset], None]:
    return lambda k, dataset: delattr(dataset, keyword)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (moved((0.0, 1.0632, 0.0)), r"gantry was tilted by 10.0 degrees"),
        (moved((0.0, 0.15, 0.0)), r"gantry was tilted by 1.4 degrees"),
        (moved((0.0, 0.0, -6.0)), "same position"),
        (
            lambda k, d: setattr(d, "ImagePositionPatient", [0, 0, k * 5.0 + (k > 9) * 5.0]),
            "missing or unevenly spaced.*10.000 mm",
        ),
        (tilt_one, "differ in orientation"),
        (without("ImagePositionPatient"), "ImagePositionPatient is missing"),
        (without("PixelSpacing"), "PixelSpacing is missing"),
        (set_elements(PixelSpacing=[0, 0]), "PixelSpacing is 0"),
        (set_elements(Modality="MR"), "no CT series"),
        (set_elements(NumberOfFrames=2), "multi-frame"),
        (set_elements(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "0 slice"),
    ],
)
def test_series_that_are_not_an_even_upright_stack_are_refused(
    tmp_path: Path, change: Callable[[int, pydicom.Dataset], None], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_ct(series(tmp_path / "x", change))


def test_slightly_uneven_slices_are_warned_about(tmp_path: Path) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, f"{float(z) + (0.2 if k == 7 else 0.0):.4f}"]

    with pytest.warns(UserWarning, match=r"slices lie up to 0.200 mm off"):
        assert read_ct(series(tmp_path / "x", change)).grid.spacing_mm[2] == pytest.approx(6.0)


def test_broken_folders_and_slices(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme.txt").write_text("no DICOM here")
    with pytest.raises(ValueError, match="holds no DICOM images"):
        read_ct(tmp_path / "none")
    with pytest.raises(ValueError, match="no such file or folder"):
        read_ct(tmp_path / "missing")
    folder = series(tmp_path / "cut")
    victim = sorted(folder.iterdir())[5]
    victim.write_bytes(victim.read_bytes()[:-300])
    with pytest.raises(ValueError, match="cut"):
        read_ct(folder)
    lonely = series(tmp_path / "lonely")
    for path in sorted(lonely.iterdir())[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="1 slice"):
        read_ct(lonely)


# What is not a CT in HU


def save_values(path: Path, values: np.ndarray, spacing: tuple[float, ...] | None = None, **options: Any) -> Path:
    image = sitk.GetImageFromArray(values, **options)
    if spacing:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def test_volumes_that_are_not_hu_are_refused(tmp_path: Path) -> None:
    hu = CT.hu
    cases: dict[str, np.ndarray] = {
        "no value below 0.*rescale intercept": hu - hu.min(),
        "no value below 0.*label map": (hu > 0).astype(np.uint8),
        "too close together": hu / np.abs(hu).max(),
        "constant": np.full_like(hu, -5),
        "NaN": np.where(hu > 500, np.nan, hu),
        "not HU": hu * 1e4,
        "accepted is a volume": hu[3],
        "size 18 x 21 x 1,": hu[:1],
    }
    for message, values in cases.items():
        with pytest.raises(ValueError, match=f"x.nrrd: .*{message}"):
            read_ct(save_values(tmp_path / "x.nrrd", values))
    phases = sitk.JoinSeries([sitk.GetImageFromArray(hu)] * 2)
    sitk.WriteImage(phases, str(tmp_path / "x.nrrd"))
    with pytest.raises(ValueError, match="size 18 x 21 x 25 x 2,"):
        read_ct(tmp_path / "x.nrrd")
    with pytest.raises(ValueError, match="3 values per voxel"):
        read_ct(save_values(tmp_path / "x.nrrd", np.stack([hu] * 3, -1), isVector=True))
    with pytest.warns(UserWarning, match="there is no air"):
        read_ct(save_values(tmp_path / "x.nrrd", hu.clip(-200)))


@pytest.mark.parametrize("suffix", ["mha", "mhd"])  # with its voxels, and with a .raw beside it
def test_padding_below_air_becomes_minus_1024(tmp_path: Path, suffix: str) -> None:
    hu = np.where(CT.hu < -999, -3024, CT.hu)
    copy = read_ct(save_values(tmp_path / f"x.{suffix}", hu, (6.0, 5.5, 5.0)))
    assert copy.hu.min() == -1024
    np.testing.assert_array_equal(copy.hu[hu > -1000], hu[hu > -1000])


def patched_nifti(path: Path, changes: dict[int, bytes]) -> Path:
    save_values(path, CT.hu, (2.0, 2.5, 3.0))
    data = bytearray(path.read_bytes())
    for at, value in changes.items():
        data[at : at + len(value)] = value
    path.write_bytes(bytes(data))
    return path


def test_nifti_without_spacing_or_side_is_refused(tmp_path: Path) -> None:
    path, zeros = tmp_path / "x.nii", np.zeros(3, "<f4").tobytes()
    with pytest.raises(ValueError, match="spacing is missing, pixdim is"):
        read_ct(patched_nifti(path, {80: zeros}))
    with pytest.raises(ValueError, match="does not tell where the patient's left is"):
        read_ct(patched_nifti(path, {252: bytes(4)}))
    ones = np.ones(3, "<f4").tobytes()
    rows = {280 + 20 * axis: np.float32(step).tobytes() for axis, step in enumerate((-1.0, -1.0, 1.0))}
    with pytest.raises(ValueError, match="1 without a unit"):
        read_ct(patched_nifti(path, {80: ones, 123: b"\0", **rows}))
    unitless = read_ct(patched_nifti(path, {123: b"\0"}))
    assert unitless.grid.spacing_mm == pytest.approx((2.0, 2.5, 3.0))  # mm is what NIfTI means where it says nothing


def test_broken_files_give_one_sentence_with_their_name(tmp_path: Path) -> None:
    for suffix in ("nii", "nii.gz", "nrrd", "mha"):
        whole = save_values(tmp_path / f"whole.{suffix}", CT.hu).read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) * 7 // 10])
        (tmp_path / f"text.{suffix}").write_text("not an image\n" * 60)
        (tmp_path / f"empty.{suffix}").write_bytes(b"")
    (tmp_path / "film.png").write_bytes(b"\x89PNG")
    for path in tmp_path.iterdir():
        if not path.name.startswith("whole"):
            with pytest.raises(ValueError, match=path.name.replace(".", r"\.")) as caught:
                read_ct(path)
            assert "\n" not in str(caught.value)


# Grids


@pytest.mark.parametrize("source", [UPRIGHT, OBLIQUE, signed_permutations()[29]])
@pytest.mark.parametrize("target", [UPRIGHT, OBLIQUE])
def test_resampling_follows_the_field(source: Any, target: Any) -> None:
    """Anisotropic and oblique, both ways: every target voxel inside the scan has the value of the field at its LPS position."""
    ct = sampled(centered((60, 50, 56), (2.2, 2.4, 2.0), source))
    grid = centered((30, 34, 28), (2.4, 2.2, 2.5), target)
    result = resample(ct, grid)
    inside = inside_grid(ct, grid)
    assert inside.mean() > 0.9
    error = np.abs(result.hu - field(points_of(grid)))[inside]
    assert error.max() < 60 and error.mean() < 5  # of 2500 HU; linear interpolation flattens the marker's top


def test_coarse_grids_average_instead_of_aliasing() -> None:
    """A wave too short for the new grid must vanish, one long enough must stay; without the filter both would come through."""
    fine = VolumeGrid.centered(64, 1.0)
    coarse = VolumeGrid.centered(15, 4.0)
    for axis in range(3):
        phase = points_of(fine)[..., axis]
        short = CtVolume(500.0 * np.cos(2 * np.pi * phase / 4.2), fine)
        long = CtVolume(500.0 * np.cos(2 * np.pi * phase / 40.0), fine)
        assert np.abs(resample(short, coarse).hu[3:-3, 3:-3, 3:-3]).max() < 35  # exp(-2 (pi sigma / 4.2)^2) of 500
        assert resample(long, coarse).hu.max() > 450
    anisotropic = VolumeGrid((64, 64, 16), (4.0, 1.0, 1.0), fine.origin_lps)
    assert antialiasing_sigmas(fine, anisotropic) == pytest.approx((np.sqrt(15) / 2.35482, 0.0, 0.0), rel=1e-4)
    assert antialiasing_sigmas(coarse, fine) == (0.0, 0.0, 0.0)


def test_the_filter_is_as_wide_in_voxels_of_any_size() -> None:
    fine, coarse = VolumeGrid.centered(64, 3.0), VolumeGrid.centered(15, 12.0)
    short = CtVolume(500.0 * np.cos(2 * np.pi * points_of(fine)[..., 0] / (3 * 4.2)), fine)
    long = CtVolume(500.0 * np.cos(2 * np.pi * points_of(fine)[..., 0] / (3 * 40.0)), fine)
    assert np.abs(resample(short, coarse).hu[3:-3, 3:-3, 3:-3]).max() < 35
    assert resample(long, coarse).hu.max() > 450


def test_the_filter_runs_along_the_axes_of_the_scan_as_it_is_stored() -> None:
    """A sagittal one: its columns run to the back, its rows to the feet, its slices to the left."""
    sagittal = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    scan = VolumeGrid((30, 40, 50), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), sagittal)
    thick = VolumeGrid((10, 40, 30), (1.0, 1.0, 4.0), (0.0, 0.0, -36.0))  # axial slices
    assert antialiasing_sigmas(scan, thick) == pytest.approx((0.0, np.sqrt(15) / 2.35482, 0.0), rel=1e-4)


def test_outside_is_filled_and_marked() -> None:
    ct = sampled(centered((20, 20, 20), (3.0, 3.0, 3.0), OBLIQUE))
    grid = VolumeGrid.centered(40, 3.0)
    inside = inside_grid(ct, grid)
    assert 0.05 < inside.mean() < 0.3
    result = resample(ct, grid, fill_hu=-777.0)
    np.testing.assert_array_equal(result.hu == -777.0, ~inside)
    assert inside_grid(ct, ct.grid).all()


def test_cropping_before_filtering_changes_nothing() -> None:
    ct = sampled(centered((50, 50, 50), (2.0, 2.0, 2.0), OBLIQUE))
    small = VolumeGrid.centered(6, 6.0, (10.0, -5.0, 20.0))
    large = VolumeGrid.centered(18, 6.0, (10.0, -5.0, 20.0))
    np.testing.assert_allclose(resample(ct, small).hu, resample(ct, large).hu[6:12, 6:12, 6:12], atol=0.1)


def test_grid_far_from_the_scan_is_all_fill() -> None:
    far = VolumeGrid.centered(8, 12.0, (5000.0, 0.0, 0.0))
    assert not inside_grid(CT, far).any()
    assert (resample(CT, far).hu == -1000).all()


@pytest.mark.skipif(not SHARED.exists(), reason="the shared CTs are not here")
@pytest.mark.parametrize("name", ["crlm_1004_abdomen.nii.gz", "totalseg_example_lumbar_pelvis_hipnail.nii.gz"])
def test_real_cts(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ct = read_ct(SHARED / name)
    grid = VolumeGrid.centered(48, 6.0, tuple(ct.grid.center_lps))  # type: ignore[arg-type]
    cube = resample(ct, grid)
    write_volume(cube, f"{tmp_path}/dicom/")
    copy = read_ct(f"{tmp_path}/dicom/")
    np.testing.assert_allclose(copy.hu, cube.hu, atol=0.51)
    if "hipnail" in name:
        # The nail is in the left femur (manifest): dense metal lies left of the middle of the body.
        metal, body = np.argwhere(ct.hu > 2500).mean(0)[::-1], np.argwhere(ct.hu > -200).mean(0)[::-1]
        assert (ct.grid.ijk_to_lps[:3, :3] @ (metal - body))[0] > 40


@pytest.mark.skipif(not SHARED.exists(), reason="the shared label map is not here")
def test_real_label_map_is_refused() -> None:
    with pytest.raises(ValueError, match="label map"):
        read_ct(SHARED / "totalseg_example_vertebrae.nii.gz")
