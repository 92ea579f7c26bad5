"""One file that is a trained model: safetensors weights, and a JSON header that says all that using them needs. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diff2ct.condition import CONDITIONS, condition_channels
from diff2ct.diffusion import Diffusion
from diff2ct.networks import NETWORKS, X2NoiseNet, X2NoiseNetConfig
from diff2ct.uncertainty import Calibration, calibration_path, read_calibration
from diff2ct.units import HuMap
from diff2ct.volume import VolumeGrid

FORMAT = "diff2ct-checkpoint"
VERSION = 1
EMBEDDED = Path(__file__).parent / "checkpoints" / "default.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network with the process, units, condition and grid it was trained for.

    grid: the model grid around the isocentre at the origin. provenance: what made it (recipe, data, steps, date), plain JSON.
    sha256: of the file it came from, "" before it is saved.
    calibration: what is known of its errors, from the file beside it (`uncertainty.calibration_path`); None without one.
    """

    network: X2NoiseNet
    network_name: str
    diffusion: Diffusion
    hu_map: HuMap
    condition: str
    grid: VolumeGrid
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        _check_condition(self.network.config, self.condition)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float16) -> None:
    """Write weights as `dtype`; the file appears under its name only when complete."""
    header = {
        "network": {"name": checkpoint.network_name, **asdict(checkpoint.network.config)},
        "diffusion": asdict(checkpoint.diffusion),
        "hu_map": asdict(checkpoint.hu_map),
        "condition": checkpoint.condition,
        "grid": asdict(checkpoint.grid),
        "provenance": checkpoint.provenance,
    }
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in checkpoint.network.state_dict().items()}
    temporary = Path(path).with_name(f".{Path(path).name}.partial")
    save_file(tensors, temporary, metadata={"format": FORMAT, "version": str(VERSION), "header": json.dumps(header)})
    temporary.replace(path)


def load_checkpoint(
    path: str | Path | None = None, *, device: torch.device | str = "cpu", calibrated: bool = True
) -> Checkpoint:
    """Read and validate a checkpoint; None is the embedded one. Weights become float32 on `device`, ready to sample.

    calibrated: with the calibration that lies beside it, if there is one.

    Raises ValueError that names the file and the field if it is missing, truncated, foreign or does not fit its own header.
    """
    path = EMBEDDED if path is None else Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint: {path} is not a file; accepted is a .safetensors file written by Diff2CT")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = _header(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"checkpoint: {path} is corrupt, truncated or no safetensors file ({error})") from None
    network_class, config_class = NETWORKS[header["network"]["name"]]
    try:
        config = config_class(**{k: v for k, v in header["network"].items() if k != "name"})
        diffusion, hu_map, grid = Diffusion(**header["diffusion"]), HuMap(**header["hu_map"]), VolumeGrid(**header["grid"])
        _check_condition(config, header["condition"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"checkpoint: the header of {path} does not validate: {error}") from None
    with torch.device("meta"):
        network = network_class(config)
    _check_tensors(path, network.state_dict(), tensors)
    network.load_state_dict({name: t.float() for name, t in tensors.items()}, assign=True)
    network = network.to(device).channels_last().eval().requires_grad_(False)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Checkpoint(
        network=network,
        network_name=header["network"]["name"],
        diffusion=diffusion,
        hu_map=hu_map,
        condition=header["condition"],
        grid=grid,
        provenance=header["provenance"],
        sha256=sha256,
        calibration=_calibration_of(path, sha256) if calibrated else None,
    )


def _calibration_of(path: Path, sha256: str) -> Calibration | None:
    beside = calibration_path(path)
    if not beside.is_file():
        return None
    calibration = read_calibration(beside)
    if calibration.checkpoint_sha256 != sha256:
        made_for = calibration.checkpoint_sha256[:12]
        raise ValueError(f"calibration: {beside} was made for checkpoint {made_for}, not for {sha256[:12]}; make it anew")
    return calibration


def _check_condition(config: X2NoiseNetConfig, condition: str) -> None:
    expected = condition_channels(condition)
    if config.condition_channels != expected:
        got = config.condition_channels
        raise ValueError(f"network.condition_channels: got {got}, accepted is {expected} for condition {condition!r}")
    if bool(config.view_widths) != (condition == "views"):
        accepted = "widths" if condition == "views" else "none"
        raise ValueError(f"network.view_widths: got {config.view_widths}, accepted is {accepted} for condition {condition!r}")


def _header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"checkpoint: {path} is a safetensors file of another program (format {metadata.get('format')!r})")
    if metadata.get("version") != str(VERSION):
        raise ValueError(f"checkpoint: {path} has version {metadata.get('version')!r}, this program reads version {VERSION}")
    try:
        header = json.loads(metadata.get("header", ""))
    except json.JSONDecodeError:
        raise ValueError(f"checkpoint: the header of {path} is no JSON") from None
    needed = ("network", "diffusion", "hu_map", "condition", "grid", "provenance")
    missing = [key for key in needed if key not in header] if isinstance(header, dict) else list(needed)
    if missing:
        raise ValueError(f"checkpoint: the header of {path} lacks {', '.join(missing)}")
    for key in ("network", "diffusion", "hu_map", "grid", "provenance"):
        if not isinstance(header[key], dict):
            raise ValueError(f"checkpoint: {key!r} in the header of {path} is no JSON object")
    if header["network"].get("name") not in NETWORKS:
        got = header["network"].get("name")
        raise ValueError(f"checkpoint: {path} holds the network {got!r}, accepted are {', '.join(NETWORKS)}")
    if header["condition"] not in CONDITIONS:
        raise ValueError(f"checkpoint: {path} has the condition {header['condition']!r}, accepted are {', '.join(CONDITIONS)}")
    return header


def _check_tensors(path: Path, expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or extra:
        raise ValueError(f"checkpoint: {path} does not fit its network: {len(missing)} tensors missing, {len(extra)} unknown")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            got, accepted = tuple(found[name].shape), tuple(tensor.shape)
            raise ValueError(f"checkpoint: {name} in {path} has shape {got}, accepted is {accepted}")
        if not torch.isfinite(found[name]).all():
            raise ValueError(f"checkpoint: {name} in {path} holds NaN or infinite weights")
