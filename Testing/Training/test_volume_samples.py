"""Recipes for volumes, in voxels of any size."""

from dataclasses import replace

import pytest

from diff2ct.networks import NETWORKS
from diff2ct.volume import VolumeGrid
from diff2ct_training.recipes import recipe_named
from diff2ct_training.volume_samples import VolumeRecipe


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
    precisions = {
        (name, mm): volume_recipe(name).at_spacing(mm).precision for name in ("default", "x2ct-gan") for mm in (4.0, 8.0)
    }
    exact = {key for key, precision in precisions.items() if precision == "32-true"}
    assert exact == {("default", 8.0), ("x2ct-gan", 4.0), ("x2ct-gan", 8.0)}


def test_a_slab_keeps_its_height() -> None:
    assert volume_recipe("default").at_spacing(4.0).slab is None
    assert replace(volume_recipe("default"), slab=64).at_spacing(4.0).slab == 32


@pytest.mark.parametrize("spacing", [0.0, -2.0, 3.0, 300.0, 32.0])
def test_voxels_that_do_not_fill_the_cube_are_refused(spacing: float) -> None:
    with pytest.raises(ValueError, match="spacing_mm: got"):
        volume_recipe("default").at_spacing(spacing)
