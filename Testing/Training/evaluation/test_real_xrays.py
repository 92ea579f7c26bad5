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

from diff2ct.geometry import FanBeam, as_kind
from diff2ct.radiograph import Radiograph, write_radiograph
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import write_volume
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.evaluation.cases import PlannedCase
from diff2ct_training.evaluation.real_xrays import MIN_AGREEMENT, plan_real_xrays, read_table

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
    """Of a detector with gain, offset, noise and its own distances."""
    setup = BiplanarSetup(pixels=150, source_to_detector_mm=1400.0, source_to_isocenter_mm=1100.0)
    noise = np.random.default_rng(0)
    first, second = (
        replace(r, line_integral=3 * r.line_integral + 1 + noise.normal(0, 0.01, r.line_integral.shape), scale_known=False)
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
        assert one.geometry == other.geometry and not one.scale_known and other.scale_known
        assert one.geometry.source_to_detector_mm == film.geometry.source_to_detector_mm == 1400.0  # type: ignore[union-attr]
        np.testing.assert_allclose(one.line_integral, 3 * other.line_integral + 1, atol=0.15)


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
    with pytest.raises(ValueError, match=rf"moved\.png does not show this CT.*accepted is {MIN_AGREEMENT}"):
        case.make()


def test_remarks_tell_what_is_assumed(folder: Path, small_grid: VolumeGrid, films: tuple[Radiograph, Radiograph]) -> None:
    (folder / "ap.png.json").unlink()
    stated = films[0].geometry.to_dict()
    del stated["source_to_detector_mm"]
    (folder / "geometry.json").write_text(json.dumps({"ap": stated}))
    remarks = plan_real_xrays(table(folder, geometry="geometry.json"), small_grid, SETUP).remarks
    assert any(r.startswith("patient_ct: ") and '"source_to_detector_mm"' in r for r in remarks)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ap": "", "lateral": ""}, "row 1: accepted is a ct with ap, lateral or both"),
        ({"ct": ""}, "row 1: accepted is a ct"),
        ({"ap": "none.png"}, "row 1: ap: .*none.png: no such file"),
        ({"ap": "lateral.png"}, "patient_ct: lateral.png is LL, accepted as ap is a frontal X-ray"),
        ({"ap_frame": "-1"}, "row 1: ap_frame: got '-1', accepted is a frame's number"),
        ({"side": "left"}, "has 1 rows with the columns ct, ap, lateral, side; accepted are ct, ap, lateral"),
        ({"ap_view": "top"}, "column ap_view: got 'top', accepted is AP or PA"),
    ],
)
def test_what_is_wrong_with_a_row_is_told(plan: Plan, row: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^--real-xrays: .*{message}"):
        plan(**row)


def test_an_x_ray_without_a_place_in_the_frame_of_the_ct_is_refused(folder: Path, plan: Plan) -> None:
    (folder / "ap.png.json").unlink()
    with pytest.raises(ValueError, match=r"patient_ct: .*does not tell where in the CT's frame"):
        plan(ap_view="AP")


def test_a_folder_with_several_cts_is_refused(folder: Path, body: CtVolume) -> None:
    (folder / "cts").mkdir()
    for name in "ab":
        write_volume(body, folder / "cts" / f"{name}.nrrd")
    with pytest.raises(ValueError, match="row 1: ct: 2 CTs in"):
        read_table(table(folder, ct="cts"))


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"ct,ap\nx,y\n")
    with pytest.raises(ValueError, match="1 rows with the columns ct, ap; accepted are ct, ap, lateral"):
        read_table(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        read_table(tmp_path / "table.csv")
