"""A recorded network against the network itself; recording needs CUDA."""

import logging
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diff2ct.cuda_graph import RecordedNetwork
from diff2ct.networks.memory_format import channels_last
from diff2ct.precision import cast_once, fastest_arithmetic
from tiny import tiny_checkpoint


def test_where_recording_fails_the_network_itself_answers_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: torch.Tensor) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(RecordedNetwork, "_record", fail)
    recorded = RecordedNetwork(lambda x, t: x * t)
    with caplog.at_level(logging.WARNING):
        for factor in (2, 3):
            assert torch.equal(recorded(torch.ones(2), torch.tensor(factor)), torch.full((2,), float(factor)))
    assert [record.message.split(": ")[1] for record in caplog.records] == ["operation not permitted when stream is capturing"]


class Recording(TorchDispatchMode):
    """Refuses what a graph cannot record: waiting for a number of the GPU, and numbers that come from the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or name in ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh"):
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "spoil", [lambda t: float(t[0]), lambda t: t.new_tensor(1.0), lambda t: t[t > 0]], ids=["wait", "copy", "mask"]
)
def test_what_cannot_be_recorded_is_refused_here_too(spoil: Any) -> None:
    with pytest.raises(RuntimeError, match="capturing"), Recording():
        spoil(torch.ones(2))


def test_the_network_can_be_recorded() -> None:
    network = tiny_checkpoint().network
    x, t = torch.randn(2, 1, 16, 16, 16), torch.full((2,), 100)
    with torch.inference_mode():
        embedded = network.embed_condition(torch.randn(1, 13, 16, 16, 16), (16, 16, 16))
        network.denoise(x, t, embedded)  # fills what is kept per device
        with Recording():
            network.denoise(x, t, embedded)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
def test_replay_equals_the_network() -> None:
    network = cast_once(channels_last(tiny_checkpoint().network.to("cuda")), "cuda")
    with torch.inference_mode(), fastest_arithmetic("cuda"):
        recorded = RecordedNetwork(lambda x, t, *embedded: network.denoise(x, t, embedded))
        found = []
        for n, batch in enumerate((2, 2, 1)):  # another shape is not replayed
            embedded = network.embed_condition(torch.randn(batch, 13, 16, 16, 16, device="cuda"), (16, 16, 16))
            x, t = torch.randn(batch, 1, 16, 16, 16, device="cuda"), torch.full((batch,), 100 * n, device="cuda")
            found.append((recorded(x, t, *embedded), network.denoise(x, t, embedded)))
    assert recorded._graph is not None
    for replayed, expected in found:
        torch.testing.assert_close(replayed, expected)
