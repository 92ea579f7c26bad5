"""X-ray pairs of many cases: images, geometry, manifest, and going on where it stopped."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from diff2ct.radiograph import read_radiograph
from diff2ct.volume_io import read_ct, write_volume
from diff2ct_training import cli
from diff2ct_training.cases import write_case
from diff2ct_training.checksums import sha256_of
from diff2ct_training.drr import BiplanarSetup, render_radiographs
from diff2ct_training.drr_sets import DrrSet, render_set
from diff2ct_training.framing import body_center
from diff2ct_training.stated_film import read_film, read_geometry
from rods import case
from tiny import tiny_body

SETUP = BiplanarSetup(pixels=32)
BOTH = DrrSet(count=2, setup=SETUP, vary=True, detectors=("ideal", "simulated"), formats=("png",))


@pytest.fixture()
def cases(tmp_path: Path) -> Path:
    """Two small prepared cases, one of them a test patient."""
    folder = tmp_path / "cases"
    small = case(size=(20, 24, 28), spacing=16.0)
    write_case(folder, replace(small, name="ct_a"))
    write_case(folder, replace(small, name="ct_b", split="test"))
    return folder


def render(source: Path, output: Path, wanted: DrrSet = BOTH, **options: Any) -> str:
    return render_set(source, output, wanted, on_progress=lambda *_, **__: None, **options)[0]


def manifest(output: Path) -> list[dict[str, str]]:
    with (output / "manifest.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_pairs_of_the_same_rays(cases: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert "8 X-ray pairs" in render(cases, output)
    rows = manifest(output)
    assert len(rows) == 2 * 2 * 2 * 2 and {row["split"] for row in rows} == {"train", "test"}
    assert all(sha256_of(output / row["file"]) == row["sha256"] for row in rows)
    folder = output / "ct_a" / "001"
    ideal, simulated = (read_radiograph(folder / f"ap{tail}.png") for tail in ("", "_simulated"))
    assert ideal.geometry == simulated.geometry and ideal.scale_known and not simulated.scale_known
    seen = simulated.valid
    assert np.corrcoef(ideal.line_integral[seen], simulated.line_integral[seen])[0, 1] > 0.5
    film = read_film("ap", folder / "ap_simulated.png", None, None, read_geometry(folder / "geometry.json")["ap"])
    assert film.geometry == ideal.geometry
    assert read_radiograph(output / "ct_a" / "000" / "ap.png").geometry != ideal.geometry, "acquisitions differ"
    json.loads((folder / "acquisition.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_one_split_only(cases: Path, tmp_path: Path) -> None:
    render(cases, tmp_path / "out", split="test")
    assert {row["case"] for row in manifest(tmp_path / "out")} == {"ct_b"}
    with pytest.raises(ValueError, match="in the val split"):
        render(cases, tmp_path / "out", split="val")


def test_it_goes_on_where_it_stopped(cases: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    render(cases, output)
    before = manifest(output)
    kept = (output / "ct_a" / "000" / "ap.png").stat().st_mtime_ns
    half = output / "ct_b" / "001.partial"  # killed while it wrote
    (output / "ct_b" / "001").rename(half)
    (half / "ap.png").write_bytes(b"half a")
    render(cases, output)
    assert manifest(output) == before and not half.exists()
    assert (output / "ct_a" / "000" / "ap.png").stat().st_mtime_ns == kept
    other = replace(BOTH, strength=0.5)
    with pytest.raises(ValueError, match=r"000 was rendered in another way .* --overwrite"):
        render(cases, output, other)
    render(cases, output, other, overwrite=True)
    assert [row["sha256"] for row in manifest(output) if row["detector"] == "ideal"] == [
        row["sha256"] for row in before if row["detector"] == "ideal"
    ], "the rays are the same"
    assert manifest(output) != before


def test_ct_files_and_their_truth(tmp_path: Path) -> None:
    write_volume(tiny_body(), tmp_path / "in.nrrd")
    (tmp_path / "scans").mkdir()
    (tmp_path / "in.nrrd").rename(tmp_path / "scans" / "one.nrrd")
    (tmp_path / "scans" / "bad.nrrd").write_text("no volume")
    arguments = ["drr", tmp_path / "scans", "--output", tmp_path / "out", "--acquisitions", 1, "--pixels", 32, "--write-truth"]
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert result.exit_code == 0 and "1 X-ray pairs" in result.stdout
    assert "not rendered: bad.nrrd" in result.stderr
    folder = tmp_path / "out" / "one" / "000"
    ct = read_ct(tmp_path / "scans" / "one.nrrd")
    expected, _ = render_radiographs(ct, SETUP.beams(body_center(ct)), "")
    found = read_radiograph(folder / "ap.dcm")
    assert found.geometry == expected.geometry
    np.testing.assert_allclose(found.line_integral, expected.line_integral, atol=1e-3)
    np.testing.assert_allclose(read_ct(folder / "truth.nrrd").grid.center_lps, body_center(ct), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"count": 0}, "--acquisitions"),
        ({"count": 2}, "the same"),
        ({"detectors": ("film",)}, "--detector"),
        ({"detectors": ("ideal", "ideal")}, "--detector"),
        ({"strength": 2.0}, "--strength"),
        ({"formats": ("jpg",)}, "--format"),
        ({"vary": True, "setup": BiplanarSetup(beam="parallel")}, "--beam parallel"),
        ({"detectors": ("simulated",), "setup": BiplanarSetup(beam="fan")}, "--detector"),
    ],
)
def test_sets_that_make_no_sense(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        DrrSet(**{"count": 1, "setup": SETUP, **options})


def test_options_of_sets_need_a_set(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["drr", "ct.nrrd", "--output", str(tmp_path / "out"), "--vary"])
    assert result.exit_code == 2 and "--acquisitions makes one" in result.stderr
