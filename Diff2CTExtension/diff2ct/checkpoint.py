"""One file that is a trained model: safetensors weights, and a JSON header that says all that using them needs. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from diff2ct.condition import CONDITIONS, condition_channels
from diff2ct.diffusion import Diffusion, Sampling
from diff2ct.networks import NETWORKS, OnePassConfig, ReconstructionNetwork, X2NoiseNetConfig
from diff2ct.networks.memory_format import channels_last
from diff2ct.uncertainty import Calibration
from diff2ct.units import HuMap
from diff2ct.volume import VolumeGrid
from diff2ct.weights_file import FileFormat, fill_network, read_weights, write_tensors, write_weights

CHECKPOINT = FileFormat(
    name="checkpoint",
    marker="diff2ct-checkpoint",
    version=1,
    fields=("network", "diffusion", "hu_map", "condition", "grid", "provenance"),
    objects=("network", "hu_map", "grid", "provenance"),
)
CALIBRATION = "calibration"
"""Key of the header that only calibrated checkpoints have."""
EMBEDDED = Path(__file__).parent / "checkpoints" / "default.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network with the process, units, condition and grid it was trained for.

    diffusion: None for a network that reconstructs in one pass. sampling: how a denoiser is sampled unless told otherwise.
    grid: the model grid around the isocentre at the origin. provenance: what made it (recipe, data, steps, date), plain JSON.
    sha256: of the file it came from, "" before it is saved.
    calibration: what is known of its errors; None before it is calibrated (`store_calibration`).
    """

    network: ReconstructionNetwork
    network_name: str
    diffusion: Diffusion | None
    hu_map: HuMap
    condition: str
    grid: VolumeGrid
    sampling: Sampling = field(default_factory=Sampling)
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        _check_use(self.network.config, self.condition, self.diffusion, self.grid)

    @property
    def in_one_pass(self) -> bool:
        """Whether the network reconstructs in one deterministic pass, without noise, steps and samples."""
        return self.diffusion is None


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float16) -> None:
    """Write weights as `dtype`, torch.int8 for half the room of float16 (see `write_weights`); the file appears under its name
    only when complete."""
    header = {
        "network": {"name": checkpoint.network_name, **asdict(checkpoint.network.config)},
        "diffusion": None if checkpoint.diffusion is None else asdict(checkpoint.diffusion),
        "hu_map": asdict(checkpoint.hu_map),
        "condition": checkpoint.condition,
        "grid": asdict(checkpoint.grid),
        "sampling": asdict(checkpoint.sampling),
        "provenance": checkpoint.provenance,
        **({} if checkpoint.calibration is None else {CALIBRATION: asdict(checkpoint.calibration)}),
    }
    write_weights(path, CHECKPOINT, header, checkpoint.network, dtype)


def store_calibration(calibration: Calibration, sha256: str, path: str | Path, output: str | Path | None = None) -> None:
    """Write the checkpoint file `path` with this calibration to `output`, or in its own place; weights stay bit for bit.

    sha256: of the file that was calibrated. Raises ValueError if `path` has become another one, or is none of ours.
    """
    file = read_weights(path, CHECKPOINT)
    if file.sha256 != sha256:
        raise ValueError(f"checkpoint: {path} was written anew while it was being calibrated")
    write_tensors(output or path, CHECKPOINT, {**file.header, CALIBRATION: asdict(calibration)}, file.tensors)


def load_checkpoint(path: str | Path | None = None, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read and validate a checkpoint; None is the embedded one. Weights become float32 on `device`, ready to sample.

    Raises ValueError that names the file and the field if it is missing, truncated, foreign or does not fit its own header.
    """
    path = EMBEDDED if path is None else Path(path)
    file = read_weights(path, CHECKPOINT)
    header = file.header
    _check_names(path, header)
    network_class, config_class = NETWORKS[header["network"]["name"]]
    try:
        config = config_class(**{k: v for k, v in header["network"].items() if k != "name"})
        hu_map, grid = HuMap(**header["hu_map"]), VolumeGrid(**header["grid"])
        diffusion = None if header["diffusion"] is None else Diffusion(**header["diffusion"])
        sampling = Sampling(**header.get("sampling", {}))  # the first files lack it
        calibration = _calibration_in(header)
        _check_use(config, header["condition"], diffusion, grid)
    except (TypeError, ValueError) as error:
        raise ValueError(f"checkpoint: the header of {path} does not validate: {error}") from None
    with torch.device("meta"):
        network = network_class(config)
    fill_network(path, CHECKPOINT, network, file.tensors)
    network = channels_last(network.to(device)).eval().requires_grad_(False)
    return Checkpoint(
        network=network,
        network_name=header["network"]["name"],
        diffusion=diffusion,
        hu_map=hu_map,
        condition=header["condition"],
        grid=grid,
        sampling=sampling,
        provenance=header["provenance"],
        sha256=file.sha256,
        calibration=calibration,
    )


def _calibration_in(header: Mapping[str, Any]) -> Calibration | None:
    try:
        return Calibration(**header[CALIBRATION]) if CALIBRATION in header else None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{CALIBRATION}: {error}") from None


def _check_use(config: X2NoiseNetConfig | OnePassConfig, condition: str, diffusion: Diffusion | None, grid: VolumeGrid) -> None:
    """ValueError unless the network can be used in this way."""
    if not isinstance(config, X2NoiseNetConfig):
        if condition != "planes":
            raise ValueError(f"condition: got {condition!r}, accepted is 'planes' for a network that reconstructs in one pass")
        if diffusion is not None:
            raise ValueError(f"diffusion: got {diffusion}, accepted is none for a network that reconstructs in one pass")
        size = getattr(config, "size", grid.size[0])
        if grid.size != (size, size, size):
            raise ValueError(f"grid.size: got {grid.size}, accepted is a cube of {size}^3 voxels for this network")
        return
    if diffusion is None:
        raise ValueError("diffusion: got none, accepted is the process that the denoiser was trained for")
    expected = condition_channels(condition)
    if config.condition_channels != expected:
        got = config.condition_channels
        raise ValueError(f"network.condition_channels: got {got}, accepted is {expected} for condition {condition!r}")
    if bool(config.view_widths) != (condition == "views"):
        accepted = "widths" if condition == "views" else "none"
        raise ValueError(f"network.view_widths: got {config.view_widths}, accepted is {accepted} for condition {condition!r}")


def _check_names(path: Path, header: Mapping[str, Any]) -> None:
    if header["network"].get("name") not in NETWORKS:
        got = header["network"].get("name")
        raise ValueError(f"checkpoint: {path} holds the network {got!r}, accepted are {', '.join(NETWORKS)}")
    if header["condition"] not in CONDITIONS:
        raise ValueError(f"checkpoint: {path} has the condition {header['condition']!r}, accepted are {', '.join(CONDITIONS)}")
