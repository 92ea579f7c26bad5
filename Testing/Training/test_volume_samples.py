"""Recipes for volumes, in voxels of any size."""

from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest

from diff2ct.checkpoint import load_checkpoint
from diff2ct.networks import NETWORKS
from diff2ct.volume import VolumeGrid
from diff2ct_training.acquisitions import acquire_views, write_acquisition
from diff2ct_training.cases import Case, write_case
from diff2ct_training.lineage import trained_on
from diff2ct_training.recipes import debug, recipe_named
from diff2ct_training.volume_samples import VolumeRecipe
from tiny import tiny_body


def volume_recipe(name: str) -> VolumeRecipe:
    recipe = recipe_named(name)
    assert isinstance(recipe, VolumeRecipe)
    return recipe


@pytest.mark.parametrize("name", ["default", "paper", "psr", "psr-averaged", "cnn3d", "x2ct-gan"])
def test_a_recipe_in_larger_voxels_has_a_network_for_them(name: str) -> None:
    recipe = volume_recipe(name)
    coarse = recipe.at_spacing(4.0)
    assert coarse.grid == VolumeGrid.centered(64, 4.0) and coarse.at_spacing(2.0).grid == recipe.grid
    make = next(network for network, config in NETWORKS.values() if isinstance(coarse.network, config))
    assert getattr(make(coarse.network).config, "size", 64) == 64


def test_float32_where_a_network_comes_down_to_two_planes() -> None:
    grids = ("default", 4.0), ("default", 8.0), ("x2ct-gan", 2.0), ("x2ct-gan", 4.0)
    exact = {(name, mm) for name, mm in grids if volume_recipe(name).at_spacing(mm).precision == "32-true"}
    assert exact == {("default", 8.0), ("x2ct-gan", 4.0)}


def test_voxels_that_a_network_cannot_take_are_refused_by_the_option() -> None:
    with pytest.raises(ValueError, match=r"spacing_mm: got 8, .*size: got 32, accepted are multiples of 32 from 64"):
        volume_recipe("x2ct-gan").at_spacing(8.0)


def test_a_slab_keeps_its_height() -> None:
    assert volume_recipe("default").at_spacing(4.0).slab is None
    assert replace(volume_recipe("default"), slab=64).at_spacing(4.0).slab == 32


@pytest.mark.parametrize("spacing", [0.0, -2.0, 3.0, 300.0, 32.0])
def test_voxels_that_do_not_fill_the_cube_are_refused(spacing: float) -> None:
    with pytest.raises(ValueError, match="spacing_mm: got"):
        volume_recipe("default").at_spacing(spacing)


def test_more_cases_than_a_process_may_open_files(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    body = tiny_body()
    for n in range(40):
        write_case(tmp_path, Case(f"ct_{n:02d}", "ct", body.hu, body.grid, (0.0, 0.0, 0.0), f"scan {n}"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(file.name) for file in Path("/dev/fd").iterdir()}
    free = (number for number in count() if number not in taken)  # the limit is one of numbers, and other tests leave gaps
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, 20, None)), hard))
    try:
        samples = replace(debug(), uses=1).method().samples(tmp_path)
        assert len({samples[n].name for n in range(60)}) > 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_stored_xrays_are_found_once_for_all_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, body = debug(), tiny_body(VolumeGrid.centered(40, 8.0))
    record = {"source_sha256": "abc"}
    case = Case("ct_tiny", "ct", body.hu.astype("int16"), body.grid, (0.0, 0.0, 0.0), "made here", record=record)
    write_case(tmp_path, case)
    for n in range(2):
        write_acquisition(tmp_path, n, acquire_views(case, np.random.default_rng(n), recipe.acquisition, recipe.grid))
    method = recipe.method()
    samples = method.samples(tmp_path)
    method.write_checkpoint(tmp_path, "checkpoint", {"network": method.network.state_dict()}, {})
    again = recipe.method()
    start = again.load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert start["sha256"] == load_checkpoint(tmp_path / "checkpoint.safetensors").sha256
    assert trained_on({"teacher": {"started_from": start}, "origins": ["d"]}) == {"abc", "d"}
    provenance = load_checkpoint(tmp_path / "checkpoint.safetensors").provenance
    assert "cube_only" not in provenance and provenance["cts"] == ["made here"], "whoever stored them knows"

    def not_again(*args: object) -> None:
        raise AssertionError("searched or rendered again")

    monkeypatch.setattr(Path, "glob", not_again)
    monkeypatch.setattr("diff2ct_training.volume_samples.acquire_views", not_again)
    assert {samples[n].name for n in range(4)} == {"ct_tiny"}
