"""Real X-rays with their CT: two cases of each patient, that differ in nothing but the pixels."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diff2ct.geometry import Beam, FanBeam, View, as_kind
from diff2ct.overlay import LEAST_AGREEMENT, match
from diff2ct.radiograph import Radiograph, write_radiograph
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import write_volume
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation import real_xrays
from diff2ct_training.evaluation.cases import PlannedCase
from diff2ct_training.evaluation.real_xray_table import read_table
from diff2ct_training.evaluation.real_xrays import at_height_of, plan_real_xrays

SETUP = BiplanarSetup(pixels=64)
ISOCENTER = (4.0, -6.0, 10.0)


@pytest.fixture(scope="module")
def body(trunk: CtVolume) -> CtVolume:
    """The trunk with something along its axis for X-rays to agree on."""
    hu = trunk.hu.copy()
    hu[10::15, 20:40, 20:50] = 700.0
    return CtVolume(hu, trunk.grid)


@pytest.fixture(scope="module")
def films(body: CtVolume) -> tuple[Radiograph, Radiograph]:
    """Of a detector with gain, offset, noise, a collimator and its own distances."""
    setup = BiplanarSetup(pixels=150, source_to_detector_mm=1400.0, source_to_isocenter_mm=1100.0)
    noise, valid = np.random.default_rng(0), np.ones((150, 150), bool)
    valid[:, :30] = False
    first, second = (
        replace(
            r,
            line_integral=3 * r.line_integral + 1 + noise.normal(0, 0.01, r.line_integral.shape),
            valid=valid,
            scale_known=False,
        )
        for r in render_radiographs(body, setup.beams(ISOCENTER), "film")
    )
    return first, second


@pytest.fixture()
def folder(body: CtVolume, films: tuple[Radiograph, Radiograph], tmp_path: Path) -> Path:
    write_volume(body, tmp_path / "patient_ct.nrrd")
    for name, film in zip(("ap", "lateral"), films, strict=True):
        write_radiograph(film, tmp_path / f"{name}.png")
    return tmp_path


def table(folder: Path, **row: str) -> Path:
    columns = {"ct": "patient_ct.nrrd", "ap": "ap.png", "lateral": "lateral.png", **row}
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerow(columns)
    return folder / "table.csv"


Plan = Callable[..., list[PlannedCase]]


@pytest.fixture()
def plan(folder: Path, small_grid: VolumeGrid) -> Plan:
    return lambda **row: plan_real_xrays(table(folder, **row), small_grid, SETUP).cases


def test_a_patient_is_two_cases_that_differ_in_the_pixels_alone(
    plan: Plan, films: tuple[Radiograph, Radiograph], body: CtVolume
) -> None:
    planned = plan(name="Anna/B")
    assert [(p.dataset, p.name) for p in planned] == [("real X-rays", "Anna_B"), ("DRRs for real X-rays", "Anna_B_drrs")]
    real, drrs = (pickle.loads(pickle.dumps(p)).make() for p in planned)
    np.testing.assert_array_equal(real.truth.hu, drrs.truth.hu)
    assert real.grid == drrs.grid and real.grid.center_lps == pytest.approx(ISOCENTER)
    assert real.spacing_mm == pytest.approx((4.0, 4.0))
    for one, other, film in zip(real.radiographs, drrs.radiographs, films, strict=True):
        assert one.geometry == other.geometry and one.scale_known is other.scale_known is False  # so neither is made consistent
        np.testing.assert_array_equal(one.valid, other.valid)
        assert 0.75 < one.valid.mean() < 0.85
        assert one.geometry.source_to_detector_mm == film.geometry.source_to_detector_mm == 1400.0  # type: ignore[union-attr]
        np.testing.assert_allclose(one.line_integral[one.valid], 3 * other.line_integral[one.valid] + 1, atol=0.15)


@pytest.mark.parametrize(("given", "drawn", "dataset"), [(0, 1, "real frontal X-rays"), (1, 0, "real lateral X-rays")])
def test_a_drr_stands_in_for_a_view_that_there_is_not(plan: Plan, given: int, drawn: int, dataset: str) -> None:
    real, drrs = (p.make() for p in plan(**{("ap", "lateral")[drawn]: ""}))
    assert (real.dataset, drrs.dataset) == (dataset, f"DRRs for {dataset}")
    assert real.radiographs[given].line_integral.shape == (150, 150)
    np.testing.assert_array_equal(real.radiographs[drawn].line_integral, drrs.radiographs[drawn].line_integral)
    usual = SETUP.beams(ISOCENTER)[drawn]
    assert real.radiographs[drawn].geometry == usual and usual.view.is_lateral == bool(drawn)


def test_what_stands_in_for_a_view_is_made_by_a_beam_of_the_same_kind(
    folder: Path, body: CtVolume, films: tuple[Radiograph, Radiograph], plan: Plan
) -> None:
    fan = as_kind(films[0].geometry, "fan")
    write_radiograph(render_radiographs(body, (fan, films[1].geometry), "fan")[0], folder / "scout.nrrd")
    case = plan(ap="scout.nrrd", lateral="")[0].make()
    assert all(isinstance(r.geometry, FanBeam) for r in case.radiographs)


def test_large_x_rays_are_averaged_down(folder: Path, body: CtVolume, plan: Plan) -> None:
    setup = BiplanarSetup(pixels=600)
    write_radiograph(render_radiographs(body, setup.beams(ISOCENTER), "fine")[0], folder / "fine.nrrd")
    case = plan(ap="fine.nrrd", lateral="")[0].make()
    assert case.radiographs[0].geometry.patient_spacing_mm == pytest.approx((1.0, 1.0), rel=0.01)


def test_views_and_geometry_may_stand_in_the_table(folder: Path, plan: Plan, films: tuple[Radiograph, Radiograph]) -> None:
    stated = {"ap": films[0].geometry.to_dict(), "lateral": films[1].geometry.to_dict()}
    (folder / "geometry.json").write_text(json.dumps(stated))
    for name in stated:
        (folder / f"{name}.png.json").unlink()
    before = plan(geometry="geometry.json", ap_view="AP", lateral_view="LL")
    assert [r.geometry for r in before[0].make().radiographs] == [film.geometry for film in films]
    stated["ap"]["source_to_detector_mm"] += 1.0
    (folder / "geometry.json").write_text(json.dumps(stated))
    after = plan(geometry="geometry.json", ap_view="AP", lateral_view="LL")
    assert before[0].identity != after[0].identity  # rows of an evaluation before are not those of this one
    assert len({case.identity for case in (*before, *after)}) == 4


def test_an_x_ray_of_another_place_is_refused(folder: Path, films: tuple[Radiograph, Radiograph], plan: Plan) -> None:
    """As one of another patient, or mirrored, would be."""
    elsewhere = replace(films[0].geometry, isocenter_lps=(34.0, -6.0, 40.0))
    write_radiograph(replace(films[0], geometry=elsewhere), folder / "moved.png")
    (case, _) = plan(ap="moved.png", lateral="")
    with pytest.raises(ValueError, match=rf"moved\.png does not show this CT.*accepted is {LEAST_AGREEMENT}"):
        case.make()


def test_slices_that_a_program_added_to_a_ct_are_no_edge_that_an_x_ray_must_have(
    folder: Path, body: CtVolume, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreements = []
    monkeypatch.setattr(real_xrays, "match", lambda *images: agreements.append(match(*images)) or match(*images))
    hu, middle = body.hu.copy(), len(body.hu) // 2
    hu[:middle] = -1024.0
    origin = (body.grid.ijk_to_lps @ [0.0, 0.0, middle, 1.0])[:3]
    cut = CtVolume(hu[middle:], replace(body.grid, size=hu[middle:].shape, origin_lps=tuple(origin.tolist())))
    for name, ct in (("cut", cut), ("padded", CtVolume(hu, body.grid))):
        write_volume(ct, folder / f"{name}.nrrd")
        plan(ct=f"{name}.nrrd", lateral="")[0].make()
    assert agreements[1].agreement == pytest.approx(agreements[0].agreement, abs=0.01)


@pytest.mark.parametrize("off_mm", [0.0, 40.0, -90.0])
def test_the_cube_of_scouts_is_at_the_height_of_their_ct(
    folder: Path, body: CtVolume, films: tuple[Radiograph, Radiograph], plan: Plan, off_mm: float
) -> None:
    """Wherever the middle of the scouts is; a fan's rays are the same about any height."""
    scouts = [as_kind(replace(film.geometry, isocenter_lps=(4.0, -6.0, 10.0 + off_mm)), "fan") for film in films]
    tall = [resized_rows(scout, 500) for scout in scouts]
    for name, radiograph in zip(("ap", "lateral"), render_radiographs(body, (tall[0], tall[1]), "scout"), strict=True):
        write_radiograph(radiograph, folder / f"{name}.nrrd")
    case = plan(ap="ap.nrrd", lateral="lateral.nrrd")[0].make()
    assert case.grid.center_lps[2] == pytest.approx(body.grid.center_lps[2])
    points = np.random.default_rng(0).uniform(-80, 80, (9, 3))
    for radiograph, beam in zip(case.radiographs, tall, strict=True):
        expected = beam.project_points(points)
        scale = radiograph.geometry.detector_size[0] / beam.detector_size[0]
        found = radiograph.geometry.project_points(points)
        np.testing.assert_allclose((found + 0.5) / scale, expected + 0.5, atol=1e-6)


@pytest.mark.parametrize("coronal", [False, True])
def test_where_a_scout_ends_the_cube_is_in_the_middle_of_what_it_shows(coronal: bool) -> None:
    """A CT from -198 to 198 mm, in axial slices or in coronal ones with rows from head to feet; a scout from 300 to -50 mm."""
    grid = VolumeGrid((100, 60, 70), (4.0, 4.0, 4.0), (-138.0, -118.0, -198.0))
    if coronal:
        directions = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
        grid = VolumeGrid((60, 100, 70), (4.0, 4.0, 4.0), (-138.0, -118.0, 198.0), directions)
    fan = FanBeam.from_view(
        View.LL, source_to_detector_mm=1300.0, source_to_isocenter_mm=1000.0, detector_spacing_mm=(3.5, 2.0),
        detector_size=(101, 90), principal_point=(80.0, 44.5), isocenter_lps=(0.0, 0.0, 20.0),
    )  # fmt: skip
    scout = Radiograph(np.eye(101, 90, dtype=np.float32), fan)
    (moved,) = at_height_of(grid, {"lateral": scout}).values()
    assert moved.geometry.isocenter_lps == pytest.approx((0.0, 0.0, (198 - 50) / 2))
    points = np.random.default_rng(0).uniform(-80, 80, (9, 3))
    np.testing.assert_allclose(moved.geometry.project_points(points), fan.project_points(points))
    with pytest.raises(ValueError, match="their heights have none in common"):
        at_height_of(replace(grid, origin_lps=(-138.0, -118.0, -600.0)), {"lateral": scout})


def resized_rows(fan: Beam, rows: int) -> Beam:
    """As many rows around the middle, so that the fan's way is longer."""
    return replace(fan, detector_size=(rows, fan.detector_size[1]), principal_point=((rows - 1) / 2, fan.principal_point[1]))


def test_a_ct_that_is_hardly_in_the_cube_is_refused(
    folder: Path, body: CtVolume, films: tuple[Radiograph, Radiograph], small_grid: VolumeGrid
) -> None:
    for number, film in enumerate(films):
        low = replace(film.geometry, isocenter_lps=(4.0, -6.0, -290.0), detector_size=(400, 150), principal_point=(249.5, 74.5))
        write_radiograph(render_radiographs(body, (low, low), "low")[0], folder / f"low{number}.nrrd")
    (case, _) = plan_real_xrays(table(folder, ap="low0.nrrd", lateral="low1.nrrd"), small_grid, SETUP).cases
    with pytest.raises(ValueError, match=r"the CT fills \d+% of the cube about the X-rays' isocentre .*accepted are 25%"):
        case.make()


def test_remarks_tell_what_is_assumed(folder: Path, small_grid: VolumeGrid, films: tuple[Radiograph, Radiograph]) -> None:
    (folder / "ap.png.json").unlink()
    stated = films[0].geometry.to_dict()
    del stated["source_to_detector_mm"]
    (folder / "geometry.json").write_text(json.dumps({"ap": stated}))
    remarks = plan_real_xrays(table(folder, geometry="geometry.json"), small_grid, SETUP).remarks
    assert any(r.startswith("patient_ct: ") and '"source_to_detector_mm"' in r for r in remarks)


def test_remarks_tell_views_that_do_not_fit(folder: Path, small_grid: VolumeGrid, films: tuple[Radiograph, Radiograph]) -> None:
    moved = replace(films[1].geometry, isocenter_lps=(4.0, -6.0, 30.0))
    write_radiograph(replace(films[1], geometry=moved), folder / "moved.png")
    remarks = plan_real_xrays(table(folder, lateral="moved.png"), small_grid, SETUP).remarks
    assert any("isocentres of the two views lie 20.0 mm apart" in remark for remark in remarks)


def test_landmarks_of_a_geometry_file_move_a_film_as_elsewhere(
    folder: Path, plan: Plan, small_grid: VolumeGrid, films: tuple[Radiograph, Radiograph]
) -> None:
    row, column = films[1].geometry.principal_point
    beside = folder / "lateral.png.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "principal_point": [row - 12, column]}))
    seen = (film.geometry.project_points(np.array([ISOCENTER]))[0].tolist() for film in films)
    views = {name: {"landmarks": {"L3": place}} for name, place in zip(("ap", "lateral"), seen, strict=True)}
    (folder / "geometry.json").write_text(json.dumps(views))
    planned = plan_real_xrays(table(folder, geometry="geometry.json"), small_grid, SETUP)
    assert not planned.rejected and any("the lateral picture was moved" in remark for remark in planned.remarks)
    lateral = planned.cases[0].make().radiographs[1]
    assert lateral.geometry.principal_point == pytest.approx((row, column), abs=1e-6)
    alone = plan_real_xrays(table(folder, geometry="geometry.json", lateral=""), small_grid, SETUP)
    assert "landmarks of ap: it is the only X-ray" in alone.rejected[0].reason


def test_rows_are_patients_of_their_own_unless_the_table_says_otherwise(plan: Plan) -> None:
    """Whatever the CTs' files are called: ct.nii.gz, most often."""
    assert {case.patient for case in plan()} == {""}
    assert {case.patient for case in plan(patient="P7")} == {"P7"}


def test_whether_the_scale_is_known_is_part_of_what_a_case_is(folder: Path, plan: Plan) -> None:
    before = plan()[0].identity
    side = json.loads((folder / "ap.png.json").read_text())
    (folder / "ap.png.json").write_text(json.dumps({**side, "scale_known": True}))
    assert plan()[0].identity != before


def test_label_maps_are_found_by_the_rows_name_and_by_the_cts(folder: Path, body: CtVolume, small_grid: VolumeGrid) -> None:
    (folder / "labels").mkdir()
    label_map = CtVolume(np.where(body.hu > 500, 28.0, 0.0), body.grid)
    for name in ("Anna B", "patient_ct_vertebrae"):
        file = folder / "labels" / f"{name}.nii.gz"
        write_volume(label_map, file)
        real, drrs = plan_real_xrays(table(folder, name="Anna B"), small_grid, SETUP, folder / "labels").cases
        assert real.has_labels and drrs.has_labels is None  # counted once
        assert all(case.make().labels.any() for case in (real, drrs))  # type: ignore[union-attr]
        file.unlink()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ap": "", "lateral": ""}, "line 2: accepted is a ct with ap, lateral or both"),
        ({"ct": ""}, "line 2: accepted is a ct"),
        ({"ap": "none.png"}, "line 2: ap: .*none.png: no such file"),
        ({"ap_frame": "-1"}, "line 2: ap_frame: got '-1', accepted is a frame's number"),
        ({"side": "left"}, "has 1 rows with the columns ct, ap, lateral, side; accepted is CSV in UTF-8"),
        ({"ct": "ap.png"}, "line 2: ct: no CT in"),
    ],
)
def test_what_is_wrong_with_a_row_is_told(plan: Plan, row: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^--real-xrays: .*{message}"):
        plan(**row)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"ap": "lateral.png"}, "lateral.png is LL, accepted as ap is a frontal X-ray"),
        ({"ap_view": "top"}, "column ap_view: got 'top', accepted is AP or PA"),
        ({"ap": "unplaced.png", "ap_view": "AP"}, "does not tell where in the CT's frame"),
        ({"ap": "damaged.png"}, "damaged.png"),
    ],
)
def test_a_patient_with_an_x_ray_that_cannot_be_used_is_left_out(
    folder: Path, small_grid: VolumeGrid, row: dict[str, str], reason: str
) -> None:
    (folder / "unplaced.png").write_bytes((folder / "ap.png").read_bytes())
    (folder / "damaged.png").write_bytes((folder / "ap.png").read_bytes()[:200])
    planned = plan_real_xrays(table(folder, **row), small_grid, SETUP)
    assert not planned.cases
    (rejected,) = planned.rejected
    assert rejected.source == "patient_ct" and reason in rejected.reason


def test_one_of_several_series_is_named_by_one_of_its_files(folder: Path, body: CtVolume) -> None:
    """As a study of two kernels has them."""
    (folder / "study").mkdir()
    for name in "ab":
        write_volume(body, folder / "study" / name)
    with pytest.raises(ValueError, match=r"line 2: ct: 2 CTs in .*accepted is one; name a file of the wanted one, such as"):
        read_table(table(folder, ct="study"))
    wanted = sorted((folder / "study" / "b").iterdir())[3]
    (patient,) = read_table(table(folder, ct=str(wanted.relative_to(folder)), name="P1"))
    assert wanted in patient.scan.files and {file.parent.name for file in patient.scan.files} == {"b"}


def test_tables_as_spreadsheets_write_them(folder: Path) -> None:
    text = "\ufeffct, ap ,lateral,name\r\npatient_ct.nrrd,ap.png,,Änne\r\npatient_ct.nrrd,,lateral.png\r\n,,,\r\n\r\n"
    (folder / "table.csv").write_bytes(text.encode())
    assert [patient.name for patient in read_table(folder / "table.csv")] == ["Änne", "patient_ct"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ct,ap\nx,y\n", "1 rows with the columns ct, ap; accepted is CSV in UTF-8, separated by commas"),
        ("ct;ap;lateral\nx;y;z\n", "the columns ct;ap;lateral; accepted is CSV in UTF-8, separated by commas"),
        ("ct,ap,lateral,ap\nx,y,z,w\n", "the columns ct, ap, lateral, ap; accepted"),
        ("ct,ap,lateral\n", "0 rows"),
        ("ct,ap,lateral\npatient_ct.nrrd,ap.png,lateral.png,PA\n", "line 2: 4 values for 3 columns"),
        ("ct,ap,lateral\n" + 2 * "patient_ct.nrrd,ap.png,\n", "several rows called patient_ct"),
        ("ct,ap,lateral\nx,y,z\nu,v,\n", "line 2: ct: .*no such file; line 3: ct: .*no such file"),
        (b"\xff\xfe\x00", "cannot be read .*UTF-8"),
    ],
)
def test_a_table_that_is_not_right_is_refused(folder: Path, text: str | bytes, message: str) -> None:
    (folder / "table.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_table(folder / "table.csv")
