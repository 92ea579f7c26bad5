"""Inception and LPIPS from local files: small stand-ins with the interface of the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diff2ct_training.scoring.inception import Inception
from diff2ct_training.scoring.lpips import TRUNKS, Lpips, load_lpips
from diff2ct_training.scoring.slices import plane_slices

SHAPES = {
    "alex": ((64, 192, 384, 256, 256), (11, 5, 3, 3, 3)),
    "vgg": ((8, 16, 32, 64, 64), (3,) * 5),
}
"""(channels, kernel) of each stage."""


class Pooled(nn.Module):
    """Means of a 4 x 4 grid of patches of each channel: a deterministic feature extractor with Inception's interface."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        assert return_features and images.dtype == torch.uint8
        return nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "pooled.pt"
    torch.jit.script(Pooled()).save(str(path))
    return path


def test_features_of_slices(inception_file: Path) -> None:
    slices = torch.linspace(0, 1, 70)[:, None, None].expand(70, 8, 8)
    features = Inception(inception_file)(slices)
    assert features.shape == (70, 3 * 16) and features.dtype == np.float32
    np.testing.assert_allclose(features, (slices[:, 0, :1] * 255).round().expand(-1, 48), rtol=1e-6)


@pytest.mark.parametrize("content", [None, b"not a network"])
def test_a_wrong_inception_file_says_how_to_get_the_right_one(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "inception.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"inception\.pt .*fetch https://"):
        Inception(path)


@pytest.fixture(scope="module", params=["alex", "vgg"])
def lpips_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Random weights of the shapes of AlexNet, or of a VGG-16 with an eighth of its channels."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    trunk, heads, channels = {}, {}, 3
    for n, (stage, width, size) in enumerate(zip(TRUNKS[request.param], *SHAPES[request.param], strict=True)):
        for index in stage.convolutions:
            trunk[f"features.{index}.weight"] = torch.randn(width, channels, size, size) / (size * channels**0.5)
            trunk[f"features.{index}.bias"], channels = torch.zeros(width), width
        heads[f"lin{n}.model.1.weight"] = torch.rand(1, width, 1, 1)
    torch.save(trunk, folder / "trunk.pth")
    torch.save(heads, folder / "heads.pth")
    return folder / "trunk.pth", folder / "heads.pth"


def test_lpips_is_zero_for_equal_slices_and_grows_with_noise(lpips_files: tuple[Path, Path]) -> None:
    distance = Lpips(*lpips_files)
    slices = torch.rand(3, 64, 70, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(slices.shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(distance(slices, slices), torch.zeros(3))
    little, much = distance(slices + 0.05 * noise, slices), distance(slices + 0.5 * noise, slices)
    assert (0 < little).all() and (little < much).all()


def test_lpips_is_torchmetrics(lpips_files: tuple[Path, Path]) -> None:
    pytest.importorskip("torchvision", exc_type=Exception, reason="torchmetrics' LPIPS needs torchvision")
    from torchmetrics.functional.image.lpips import _LPIPS

    trunk, heads = (torch.load(file, weights_only=True) for file in lpips_files)
    if Lpips(*lpips_files).name == "vgg":
        pytest.skip("torchmetrics builds all of VGG-16, half a gigabyte; see the next test")
    reference = _LPIPS(pretrained=False, net="alex", pnet_rand=True).eval()
    own = reference.net.state_dict()
    reference.net.load_state_dict({key: trunk[f"features.{key.split('.', 1)[1]}"] for key in own})
    reference.load_state_dict(heads, strict=False)
    slices = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(1))
    other = (slices + 0.1).clip(0, 1)
    images = [(2 * s - 1)[:, None].expand(-1, 3, -1, -1) for s in (other, slices)]
    torch.testing.assert_close(Lpips(*lpips_files)(other, slices), reference(*images).flatten(), atol=1e-5, rtol=1e-4)


def test_lpips_of_vgg_is_that_of_torchvisions_layers(lpips_files: tuple[Path, Path]) -> None:
    """Configuration D (Simonyan and Zisserman 2015): features are taken before each of four poolings and at the end."""
    if Lpips(*lpips_files).name == "alex":
        pytest.skip("compared with torchmetrics")
    trunk, heads = (torch.load(file, weights_only=True) for file in lpips_files)
    layers: list[nn.Module] = []
    for n in range(30):
        weight = trunk.get(f"features.{n}.weight")
        if weight is None:
            layers.append(nn.MaxPool2d(2, 2) if n in (4, 9, 16, 23) else nn.ReLU())
        else:
            layers.append(nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1))
    network = nn.Sequential(*layers)
    network.load_state_dict({name.removeprefix("features."): tensor for name, tensor in trunk.items()})
    slices = torch.rand(2, 64, 70, generator=torch.Generator().manual_seed(1))
    other = (slices + 0.1).clip(0, 1)
    shift, scale = (torch.tensor(v)[:, None, None] for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    expected = torch.zeros(2)
    a, b = (((2 * s - 1)[:, None].expand(-1, 3, -1, -1) - shift) / scale for s in (other, slices))
    for n, (start, end) in enumerate(zip((0, 4, 9, 16, 23), (4, 9, 16, 23, 30), strict=True)):
        a, b = network[start:end](a), network[start:end](b)
        difference = nn.functional.normalize(a) - nn.functional.normalize(b)
        expected += (difference.square() * heads[f"lin{n}.model.1.weight"]).sum(1).mean((1, 2))
    torch.testing.assert_close(Lpips(*lpips_files)(other, slices), expected.detach(), atol=1e-5, rtol=1e-4)


def test_wrong_lpips_files_and_small_slices_are_refused(lpips_files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not exist.*fetch torchvision"):
        Lpips(tmp_path / "alexnet.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match="no file of tensors"):
        Lpips(tmp_path / "text.pth", lpips_files[1])
    with pytest.raises(ValueError, match="is missing"):
        Lpips(lpips_files[1], lpips_files[1])
    with pytest.raises(ValueError, match="63 pixels or more"):
        Lpips(*lpips_files)(torch.zeros(1, 32, 32), torch.zeros(1, 32, 32))


def test_one_file_of_each_trunk_is_taken(lpips_files: tuple[Path, Path]) -> None:
    trunk, _ = lpips_files
    (one,) = load_lpips((trunk,))
    assert load_lpips(()) == ()
    with pytest.raises(ValueError, match=f"--lpips: got {one.name} and {one.name}, accepted is one file for each of alex, vgg"):
        load_lpips((trunk, trunk))


def test_slices_of_three_planes_without_those_outside_the_mask() -> None:
    hu = torch.arange(4 * 5 * 6.0).reshape(4, 5, 6)
    mask = torch.ones(4, 5, 6, dtype=torch.bool)
    mask[3] = False
    planes = plane_slices(hu, mask)
    assert {name: tuple(s.shape) for name, s in planes.items()} == {
        "axial": (3, 5, 6), "coronal": (5, 4, 6), "sagittal": (6, 4, 5),
    }  # fmt: skip
    assert (planes["coronal"][:, 3] == 0).all()  # air
    assert float(planes["sagittal"][2, 1, 3]) == pytest.approx((hu[1, 3, 2] + 1000) / 5096)
