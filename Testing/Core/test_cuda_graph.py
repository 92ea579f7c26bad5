"""A recorded network against the network itself; recording needs CUDA."""

import logging

import pytest
import torch

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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
def test_replay_equals_the_network() -> None:
    network = cast_once(channels_last(tiny_checkpoint().network.to("cuda")), "cuda")
    condition = torch.randn(1, 13, 16, 16, 16, device="cuda")
    with torch.inference_mode(), fastest_arithmetic("cuda"):
        embedded = network.embed_condition(condition, (16, 16, 16))
        recorded = RecordedNetwork(lambda x, t: network.denoise(x, t, embedded))
        found = []
        for n, batch in enumerate((2, 2, 1)):  # another shape is not replayed
            x, t = torch.randn(batch, 1, 16, 16, 16, device="cuda"), torch.full((batch,), 100 * n, device="cuda")
            found.append((recorded(x, t), network.denoise(x, t, embedded)))
    assert recorded._graph is not None
    for replayed, expected in found:
        torch.testing.assert_close(replayed, expected)
