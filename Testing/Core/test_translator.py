import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diff2ct.checkpoint import load_checkpoint, save_checkpoint
from diff2ct.geometry import View
from diff2ct.networks import ResNet2D, ResNet2DConfig
from diff2ct.radiograph import Radiograph, read_radiograph, write_radiograph
from diff2ct.translator import (
    STYLE_RANGE,
    Translator,
    from_square,
    load_translator,
    network_image,
    save_translator,
    to_square,
    translate,
)
from tiny import tiny_body, tiny_checkpoint, tiny_radiographs, tiny_translator


class Stub(ResNet2D):
    """A generator that is a known function."""

    def __init__(self, function) -> None:
        super().__init__(ResNet2DConfig(width=1, num_blocks=1))
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image)


def translator(function=None, size: int = 32) -> Translator:
    if function is None:
        return tiny_translator()
    return Translator(network=Stub(function), direction="real_to_drr", size=size)


def radiograph(view: View = View.LL, **changes) -> Radiograph:
    return replace(tiny_radiographs(tiny_body(), views=(view,))[0], **changes)


def test_a_generator_that_changes_nothing_leaves_the_image() -> None:
    before = radiograph()
    after = translate(before, translator(lambda x: x))
    np.testing.assert_allclose(after.line_integral, before.line_integral, atol=1e-5)


def test_what_the_generator_changes_comes_in_the_units_of_the_image() -> None:
    """0.1 on the network's scale is 0.1 STYLE_RANGE standard deviations of the X-ray."""
    before = radiograph()
    small, _ = to_square(torch.from_numpy(before.line_integral), torch.from_numpy(before.valid), 32)
    after = translate(before, translator(lambda x: x + 0.1))
    change = after.line_integral - before.line_integral
    sd = float(small.clamp(small.quantile(0.005), small.quantile(0.995)).std())
    np.testing.assert_allclose(change, 0.1 * STYLE_RANGE * sd, rtol=0.02)


def test_gain_and_offset_of_the_image_do_not_matter() -> None:
    before, model = radiograph(), translator()
    other = replace(before, line_integral=7 + 3 * before.line_integral)
    a, b = translate(before, model).line_integral, translate(other, model).line_integral
    np.testing.assert_allclose(7 + 3 * a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("view", list(View))
def test_geometry_mask_and_side_are_kept(view: View, tmp_path: Path) -> None:
    valid = np.ones((50, 50), bool)
    valid[:6], valid[:, 41:] = False, False
    before = radiograph(view, valid=valid)
    after = translate(before, translator())
    assert after.geometry == before.geometry and after.source == before.source
    np.testing.assert_array_equal(after.valid, valid)
    np.testing.assert_array_equal(after.line_integral[~valid], before.line_integral[~valid])
    assert np.abs(after.line_integral - before.line_integral)[valid].max() > 1e-3
    assert not after.scale_known and after.assumed == ("style",)
    assert "real to drr" in after.warnings[-1]

    for suffix in (".png", ".nrrd", ".dcm"):
        write_radiograph(after, tmp_path / f"x{suffix}")
        read = read_radiograph(tmp_path / f"x{suffix}")
        assert read.geometry == before.geometry and not read.scale_known and "style" in read.assumed
        np.testing.assert_array_equal(read.valid, valid)


def test_left_stays_left() -> None:
    """A generator that brightens the right half of what it sees brightens the right half of the X-ray."""

    def brighten_right(x: torch.Tensor) -> torch.Tensor:
        return x + 0.2 * (torch.arange(x.shape[-1]) >= x.shape[-1] // 2)

    before = radiograph(View.PA)
    change = translate(before, translator(brighten_right)).line_integral - before.line_integral
    assert np.abs(change[:, :23]).max() < 1e-5 < change[:, 27:].min()


def test_detail_finer_than_the_network_survives() -> None:
    before = radiograph()
    dotted = before.line_integral + 0.05 * (np.indices((50, 50)).sum(0) % 2)
    model = translator(lambda x: 0.5 * x, size=16)
    after = translate(replace(before, line_integral=dotted), model)
    fine = after.line_integral[:, 1:] - after.line_integral[:, :-1]
    expected = dotted[:, 1:] - dotted[:, :-1]
    assert np.corrcoef(fine.ravel(), expected.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("shape", [(40, 40), (64, 36), (40, 64), (16, 12)])
def test_square_and_back(shape: tuple[int, int]) -> None:
    rows, columns = torch.meshgrid(torch.arange(shape[0]) / 20, torch.arange(shape[1]) / 30, indexing="ij")
    image = torch.sin(rows) + torch.cos(columns)
    square, valid = to_square(image, torch.ones(shape, dtype=torch.bool), 32)
    assert square.shape == valid.shape == (32, 32)
    assert int(valid.sum()) == pytest.approx(32 * 32 * min(shape) / max(shape), abs=33)
    back = from_square(square, shape)
    torch.testing.assert_close(back[2:-2, 2:-2], image[2:-2, 2:-2], atol=0.01, rtol=0)


def test_invalid_pixels_do_not_bleed_into_the_square() -> None:
    image, valid = torch.ones(64, 64), torch.ones(64, 64, dtype=torch.bool)
    image[:, 40:], valid[:, 40:] = 1e6, False
    square, square_valid = to_square(image, valid, 16)
    torch.testing.assert_close(square[square_valid], torch.ones(int(square_valid.sum())))
    assert square_valid[:, :10].all() and not square_valid[:, 10:].any()


def test_network_image_is_bounded_and_masked() -> None:
    torch.manual_seed(0)
    image, valid = torch.randn(24, 24), torch.ones(24, 24, dtype=torch.bool)
    image[0, 0], valid[:5] = 1e5, False
    seen = network_image(image, valid)
    assert float(seen.abs().max()) <= 1 and not seen[:5].any()
    assert float(seen[5:].std()) == pytest.approx(1 / STYLE_RANGE, rel=0.05)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_translator(tmp_path / "style.safetensors", translator())
    return tmp_path / "style.safetensors"


def test_round_trip(file: Path) -> None:
    made, read = translator(), load_translator(file, direction="real_to_drr")
    assert (read.direction, read.size, read.provenance) == (made.direction, made.size, made.provenance)
    assert len(read.sha256) == 64 and not any(p.requires_grad for p in read.network.parameters())
    a, b = (translate(radiograph(), t).line_integral for t in (made, read))
    np.testing.assert_allclose(a, b, atol=0.02)
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_the_wrong_direction_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match=r"style\.safetensors translates real_to_drr, accepted is drr_to_real"):
        load_translator(file, direction="drr_to_real")


def test_a_checkpoint_is_no_translator_and_the_other_way_round(file: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "denoiser.safetensors", tiny_checkpoint())
    with pytest.raises(ValueError, match="diff2ct-translator"):
        load_translator(tmp_path / "denoiser.safetensors")
    with pytest.raises(ValueError, match="diff2ct-checkpoint"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda h: h.pop("size"), "lacks size"),
        (lambda h: h.update(size=33), "size"),
        (lambda h: h.update(size="big"), "size"),
        (lambda h: h.update(direction="sideways"), "sideways"),
        (lambda h: h["network"].update(width=8), "shape"),
        (lambda h: h["network"].update(depth=8), "depth"),
        (lambda h: h.update(network=[]), "network"),
    ],
)
def test_a_header_that_does_not_validate_is_refused_by_field(file: Path, change, named: str) -> None:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    header = json.loads(metadata["header"])
    change(header)
    save_file(load_file(file), file, metadata={**metadata, "header": json.dumps(header)})
    with pytest.raises(ValueError, match=named) as raised:
        load_translator(file)
    assert str(file) in str(raised.value)
