"""The CUDA path without a GPU: nothing on the way from X-rays to a volume mixes devices. See `pretend_cuda`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from diff2ct.condition import condition_channels
from diff2ct.consistency import Consistency
from diff2ct.diffusion import SAMPLERS
from diff2ct.geometry import ConeBeam, View
from diff2ct.networks import NETWORKS, Cnn3dConfig, PsrConfig, X2ctConfig, X2NoiseNetConfig
from diff2ct.networks.memory_format import channels_last
from diff2ct.projector import backproject, project
from diff2ct.reconstruct import reconstruct
from pretend_cuda import OnGpu, pretended_gpu, put_on_gpu
from tiny import CONE, GRID, tiny_body, tiny_calibration, tiny_checkpoint, tiny_radiographs, tiny_translator

CONFIGS = {
    "views": X2NoiseNetConfig(condition_channels=condition_channels("views"), widths=(8, 8), blocks=(1, 1), view_widths=(8, 8)),
    "added": X2NoiseNetConfig(condition_channels=1, haar_levels=0, widths=(8, 8), blocks=(1, 1)),
    "cnn3d": Cnn3dConfig(widths=(8, 16), convs=(1, 2)),
    "psr": PsrConfig(size=16, width=8, down_blocks=(1, 1)),
    "x2ct": X2ctConfig(size=16, width=8, layers=(2, 2), growth=4, decoder_widths=(4, 8, 8)),
}
"""The embedded checkpoint's kind, the paper's, and those of one pass; `tiny_checkpoint` is "geometric"."""


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with pretended_gpu(monkeypatch):
        yield


def test_what_torch_refuses_on_a_gpu_is_refused_here() -> None:
    here, there = torch.ones(3), torch.ones(3, device="cuda")
    assert there.device.type == "cuda" and (there * torch.tensor(2.0)).sum().device.type == "cuda"
    for mixed in (
        lambda: here + there,
        lambda: here[torch.tensor([0], device="cuda")],
        lambda: torch.stack([here.sum(), there.sum()]),
        lambda: torch.randn(3, device="cuda", generator=torch.Generator()),
        lambda: there.numpy(),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            mixed()
    assert type(there[torch.tensor([0])]) is OnGpu and type(there.cpu()) is torch.Tensor


@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_projector(angle: float) -> None:
    beam = ConeBeam.from_view(View.AP, **CONE)
    beam = replace(beam, primary_angle_deg=beam.primary_angle_deg + angle, secondary_angle_deg=angle)
    volume = torch.rand(2, *GRID.size)
    image = project(volume.to("cuda"), GRID, beam)
    back = backproject(image, GRID, beam)
    assert type(image) is OnGpu and type(back) is OnGpu
    torch.testing.assert_close(image.cpu(), project(volume, GRID, beam))
    torch.testing.assert_close(back.cpu(), backproject(image.cpu(), GRID, beam), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("when", ["end", "steps", None])
def test_reconstruction_with_every_sampler_and_consistency(when: str | None) -> None:
    checkpoint = replace(tiny_checkpoint(), calibration=tiny_calibration())
    options = False if when is None else Consistency(when=when, num_iterations=2, tv=0.1)
    radiographs = tiny_radiographs(tiny_body())
    found = []
    for device in ("cpu", "cuda"):
        if device == "cuda":
            put_on_gpu(checkpoint.network)
        for sampler in SAMPLERS:
            found.append(
                reconstruct(
                    radiographs, checkpoint, num_steps=2, num_samples=2, sampler=sampler, consistency=options, device=device
                ).samples_hu
            )
    for on_cpu, on_gpu in zip(found[: len(SAMPLERS)], found[len(SAMPLERS) :], strict=True):
        torch.testing.assert_close(torch.from_numpy(on_gpu), torch.from_numpy(on_cpu), rtol=0.01, atol=5)


@pytest.mark.parametrize("which", CONFIGS)
def test_every_network_and_condition(which: str) -> None:
    config = CONFIGS[which]
    name, kind = next((name, kind) for name, (kind, of) in NETWORKS.items() if isinstance(config, of))
    network = put_on_gpu(channels_last(kind(config)).eval().requires_grad_(False))
    one_pass = which not in ("views", "added")
    changes = {"condition": "planes", "diffusion": None} if one_pass else {"condition": which}
    checkpoint = replace(tiny_checkpoint(), network=network, network_name=name, **changes)
    translator = tiny_translator()
    put_on_gpu(translator.network)
    result = reconstruct(tiny_radiographs(tiny_body()), checkpoint, num_steps=1, translator=translator, device="cuda")
    assert result.volume.hu.shape == GRID.size
