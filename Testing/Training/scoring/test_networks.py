"""Inception and LPIPS from local files: small stand-ins with the interface of the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diff2ct_training.scoring.inception import Inception
from diff2ct_training.scoring.lpips import Lpips
from diff2ct_training.scoring.slices import plane_slices

CHANNELS = (3, 64, 192, 384, 256, 256)


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


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Random weights of AlexNet's shapes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lpips")
    kernels = dict(zip((0, 3, 6, 8, 10), (11, 5, 3, 3, 3), strict=True))
    trunk = {}
    for n, (index, size) in enumerate(kernels.items()):
        trunk[f"features.{index}.weight"] = torch.randn(CHANNELS[n + 1], CHANNELS[n], size, size) / (size * CHANNELS[n] ** 0.5)
        trunk[f"features.{index}.bias"] = torch.zeros(CHANNELS[n + 1])
    torch.save(trunk, folder / "alexnet.pth")
    torch.save({f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate(CHANNELS[1:])}, folder / "heads.pth")
    return folder / "alexnet.pth", folder / "heads.pth"


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

    reference = _LPIPS(pretrained=False, net="alex", pnet_rand=True).eval()
    trunk, heads = (torch.load(file, weights_only=True) for file in lpips_files)
    own = reference.net.state_dict()
    reference.net.load_state_dict({key: trunk[f"features.{key.split('.', 1)[1]}"] for key in own})
    reference.load_state_dict(heads, strict=False)
    slices = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(1))
    other = (slices + 0.1).clip(0, 1)
    images = [(2 * s - 1)[:, None].expand(-1, 3, -1, -1) for s in (other, slices)]
    torch.testing.assert_close(Lpips(*lpips_files)(other, slices), reference(*images).flatten(), atol=1e-5, rtol=1e-4)


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
