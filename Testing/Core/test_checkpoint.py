import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diff2ct.checkpoint import EMBEDDED, Checkpoint, load_checkpoint, save_checkpoint, store_calibration
from diff2ct.diffusion import Sampling
from diff2ct.networks import Psr, PsrConfig
from diff2ct.units import HuMap
from diff2ct.volume import VolumeGrid
from tiny import tiny_calibration, tiny_checkpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_checkpoint())
    return tmp_path / "tiny.safetensors"


def rewrite(file: Path, change) -> None:
    """Change the header of a checkpoint by `change(header)`, leaving the weights."""
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    header = json.loads(metadata["header"])
    change(header)
    save_file(load_file(file), file, metadata={**metadata, "header": json.dumps(header)})


def test_round_trip(file: Path) -> None:
    made, read = tiny_checkpoint(), load_checkpoint(file)
    for name in ("diffusion", "hu_map", "condition", "grid", "provenance", "network_name"):
        assert getattr(read, name) == getattr(made, name)
    assert read.network.config == made.network.config
    for (name, a), b in zip(made.network.state_dict().items(), read.network.state_dict().values(), strict=True):
        torch.testing.assert_close(a.half().float(), b, msg=name)
    assert read.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_calibration_is_part_of_the_file(file: Path) -> None:
    plain = load_checkpoint(file)
    store_calibration(tiny_calibration(), plain.sha256, file)
    calibrated = load_checkpoint(file)
    assert plain.calibration is None and calibrated.calibration == tiny_calibration()
    assert calibrated.sha256 == hashlib.sha256(file.read_bytes()).hexdigest() != plain.sha256
    torch.testing.assert_close(calibrated.network.state_dict(), plain.network.state_dict(), rtol=0, atol=0)
    save_checkpoint(file, calibrated)
    assert load_checkpoint(file).calibration == tiny_calibration()
    with pytest.raises(ValueError, match="written anew"):
        store_calibration(tiny_calibration(), plain.sha256, file)


def test_8_bits_take_half_the_room(file: Path, tmp_path: Path) -> None:
    made, small = tiny_checkpoint(), tmp_path / "small.safetensors"
    save_checkpoint(small, made, dtype=torch.int8)
    assert small.stat().st_size < 0.7 * file.stat().st_size  # scales and header weigh in a network this tiny
    read = load_checkpoint(small).network.state_dict()
    for name, weight in made.network.state_dict().items():
        if weight.ndim > 1:
            half_a_step = weight.abs().flatten(1).amax(1) / 127 / 2
            assert ((weight - read[name]).abs().flatten(1).amax(1) <= 1.001 * half_a_step + 1e-12).all(), name
        else:
            torch.testing.assert_close(weight.half().float(), read[name], msg=name)
    store_calibration(tiny_calibration(), load_checkpoint(small).sha256, small)
    torch.testing.assert_close(load_checkpoint(small).network.state_dict(), read, rtol=0, atol=0)
    save_checkpoint(file, load_checkpoint(small), dtype=torch.int8)  # what has 8 bits keeps them
    torch.testing.assert_close(load_checkpoint(file).network.state_dict(), read)


def test_scales_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "small.safetensors", tiny_checkpoint(), dtype=torch.int8)
    with safe_open(tmp_path / "small.safetensors", framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(tmp_path / "small.safetensors")
    name = next(name for name in tensors if name.endswith(":scale"))
    save_file({**tensors, name: tensors[name].flatten()[:1]}, tmp_path / "bad.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match="does not fit its network: 0 tensors missing, 1 unknown"):
        load_checkpoint(tmp_path / "bad.safetensors")
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, tmp_path / "bad.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"is of torch.int8, accepted is torch.float32"):
        load_checkpoint(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=r"dtype: got torch.uint8"):
        save_checkpoint(tmp_path / "bad.safetensors", tiny_checkpoint(), dtype=torch.uint8)
    save_file({**tensors, name: tensors[name] * float("nan")}, tmp_path / "bad.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match="NaN or infinite"):
        load_checkpoint(tmp_path / "bad.safetensors")


def test_loaded_network_only_infers(file: Path) -> None:
    network = load_checkpoint(file).network
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_nothing_is_left_beside_the_file(file: Path) -> None:
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_others_may_read_the_file_as_any_new_one(file: Path, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    (tmp_path / f"{file.name}.partial").touch(0o600)  # of a process that was killed
    save_checkpoint(file, tiny_checkpoint())
    assert file.stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_disk_that_keeps_no_modes_takes_a_checkpoint(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    file.unlink()
    save_checkpoint(file, tiny_checkpoint())
    assert load_checkpoint(file).network_name == "x2noisenet"


def test_a_full_disk_leaves_what_was_there(file: Path, full_disk: Any) -> None:
    before = file.read_bytes()
    with full_disk(2000), pytest.raises(OSError, match=r"tiny\.safetensors: cannot be written \(.*too large"):
        save_checkpoint(file, tiny_checkpoint())
    assert file.read_bytes() == before and [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_file_of_somebody_else_is_told_as_that(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # permissions do not bind every user
    with pytest.raises(ValueError, match=r"tiny\.safetensors cannot be read \(Permission denied\)"):
        load_checkpoint(file)


def test_missing_corrupt_and_foreign_files(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.safetensors is not a file"):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"tiny\.safetensors is corrupt"):
        load_checkpoint(file)
    file.write_bytes(b"\x80\x02}q\x00.")  # a pickle
    with pytest.raises(ValueError, match="corrupt"):
        load_checkpoint(file)
    save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match="another program"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda h: h.pop("hu_map"), "hu_map"),
        (lambda h: h["network"].update(name="resnet"), "resnet"),
        (lambda h: h["network"].update(widths=[16, 16]), "shape"),
        (lambda h: h["network"].update(depth=3), "depth"),
        (lambda h: h["diffusion"].update(schedule="exotic"), "exotic"),
        (lambda h: h["grid"].update(spacing_mm=[0, 1, 1]), "spacing_mm"),
        (lambda h: h.update(condition="magic"), "magic"),
        (lambda h: h.update(condition="added"), "condition_channels"),
        (lambda h: h.update(provenance="me"), "provenance"),
        (lambda h: h.update(calibration=[]), "calibration"),
        (lambda h: h.update(calibration={**asdict(tiny_calibration()), "error_hu": [[1.0]]}), "error_hu"),
        (lambda h: h.update(calibration={**asdict(tiny_calibration()), "more": 1}), "more"),
    ],
)
def test_a_header_that_does_not_validate_is_refused_by_field(file: Path, change, named: str) -> None:
    rewrite(file, change)
    with pytest.raises(ValueError, match=named):
        load_checkpoint(file)


def test_weights_that_do_not_fit_are_refused(file: Path) -> None:
    tensors = load_file(file)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    name = next(iter(tensors))
    save_file({k: v for k, v in tensors.items() if k != name}, file, metadata=metadata)
    with pytest.raises(ValueError, match="1 tensors missing"):
        load_checkpoint(file)
    save_file({**tensors, name: torch.full_like(tensors[name], float("nan"))}, file, metadata=metadata)
    with pytest.raises(ValueError, match=name):
        load_checkpoint(file)


def test_condition_and_network_must_agree() -> None:
    with pytest.raises(ValueError, match="condition_channels"):
        replace(tiny_checkpoint(), condition="added")


def test_the_embedded_checkpoint_loads_and_stays_small() -> None:
    assert EMBEDDED.stat().st_size <= 16_000_000
    checkpoint = load_checkpoint()
    assert checkpoint.grid == VolumeGrid.centered(128, 2.0)
    assert (EMBEDDED.parent / "default.md").is_file(), "no checkpoint without its model card"


def one_pass_checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    network, grid = Psr(PsrConfig(size=16, width=8, down_blocks=(1, 1))), VolumeGrid.centered(16, 16.0)
    return Checkpoint(
        network=network, network_name="psr", diffusion=None, hu_map=HuMap(), condition="planes", grid=grid
    )  # fmt: skip


def test_a_network_without_diffusion_goes_round_with_its_batch_norms(tmp_path: Path) -> None:
    made = one_pass_checkpoint()
    made.network(torch.rand(2, 2, 1, 32, 32))  # so that the norms have counted
    save_checkpoint(tmp_path / "psr.safetensors", made)
    read = load_checkpoint(tmp_path / "psr.safetensors")
    assert read.in_one_pass and not tiny_checkpoint().in_one_pass
    for (name, a), b in zip(made.network.state_dict().items(), read.network.state_dict().values(), strict=True):
        assert a.dtype == b.dtype, name
        torch.testing.assert_close(a.half().float(), b.float(), msg=name)


def test_a_network_is_used_only_as_it_was_trained() -> None:
    with pytest.raises(ValueError, match="diffusion"):
        replace(tiny_checkpoint(), diffusion=None)
    made = one_pass_checkpoint()
    with pytest.raises(ValueError, match="diffusion"):
        replace(made, diffusion=tiny_checkpoint().diffusion)
    with pytest.raises(ValueError, match="condition"):
        replace(made, condition="added")
    with pytest.raises(ValueError, match=r"grid\.size.*16\^3"):
        replace(made, grid=VolumeGrid.centered(32, 8.0))


def test_the_way_of_sampling_is_the_files_or_the_usual_one(file: Path) -> None:
    rewrite(file, lambda header: header.pop("sampling"))
    assert load_checkpoint(file).sampling == Sampling()
    rewrite(file, lambda header: header.update(sampling={"sampler": "ddpm", "num_steps": 1000}))
    assert load_checkpoint(file).sampling == Sampling(sampler="ddpm", num_steps=1000)
    rewrite(file, lambda header: header.update(sampling={"sampler": "euler"}))
    with pytest.raises(ValueError, match="euler"):
        load_checkpoint(file)
