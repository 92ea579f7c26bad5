"""Weights with a JSON header that says all that using them needs, in one safetensors file. No pickle.

What the header must hold is the business of whoever owns the format: see `checkpoint` and `translator`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from diff2ct.atomic import completing_file

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.int8)
SCALE = ":scale"
"""What follows the name of an 8-bit weight in the name of its scales."""


@dataclass(frozen=True)
class FileFormat:
    """name: what messages call such a file. marker, version: what it must say of itself. fields: keys that its header must
    have; objects: those of them that are JSON objects."""

    name: str
    marker: str
    version: int
    fields: tuple[str, ...]
    objects: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """header: with at least the format's fields. sha256: of the file."""

    header: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    sha256: str


def write_weights(
    path: str | Path, kind: FileFormat, header: Mapping[str, Any], network: nn.Module, dtype: torch.dtype = torch.float16
) -> None:
    """Write the network's weights as `dtype`, counters as they are; the file appears under its name only when complete.

    dtype: float16, bfloat16, float32, or int8, which takes half the room of float16: kernels and matrices become steps of 1/127
    of the largest weight at their index along the first axis, with the scales beside them; vectors are float16.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: got {dtype}, accepted are {', '.join(map(str, DTYPES))}")
    weights = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    if dtype == torch.int8:
        tensors = _in_8_bits(weights)
    else:
        tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in weights.items()}
    write_tensors(path, kind, header, tensors)


def write_tensors(path: str | Path, kind: FileFormat, header: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write them bit for bit; the file appears under its name only when complete."""
    save_tensors(Path(path), tensors, {"format": kind.marker, "version": str(kind.version), "header": json.dumps(header)})


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file that appears under its name only when complete, for others to read as any new file here: the library
    gives it to its owner alone. OSError naming the file if it cannot be written."""
    with completing_file(path) as temporary:
        temporary.unlink(missing_ok=True)  # of a process that was killed
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written ({error})") from error
        with contextlib.suppress(OSError):  # of disks that keep no modes of their own
            temporary.chmod(mode)


def read_weights(path: str | Path, kind: FileFormat) -> WeightsFile:
    """Raises ValueError that names the file, and the field, if it is missing, truncated, foreign or lacks one."""
    path = Path(path)
    try:
        if not path.is_file():
            raise ValueError(f"{kind.name}: {path} is not a file; accepted is a .safetensors file written by Diff2CT")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:  # of which safetensors says that there is no file
        raise ValueError(f"{kind.name}: {path} cannot be read ({error.strerror or error})") from error
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, kind, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{kind.name}: {path} is corrupt, truncated or no safetensors file ({error})") from None
    return WeightsFile(header, tensors, sha256)


def fill_network(path: str | Path, kind: FileFormat, network: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
    """Give `network`, made on the "meta" device, the weights of a file as float32; ValueError unless they fit it."""
    found = _from_8_bits(found)
    expected = network.state_dict()
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or extra:
        raise ValueError(f"{kind.name}: {path} does not fit its network: {len(missing)} tensors missing, {len(extra)} unknown")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            got, accepted = tuple(found[name].shape), tuple(tensor.shape)
            raise ValueError(f"{kind.name}: {name} in {path} has shape {got}, accepted is {accepted}")
        if found[name].is_floating_point() != tensor.is_floating_point():
            raise ValueError(f"{kind.name}: {name} in {path} is of {found[name].dtype}, accepted is {tensor.dtype}")
        if not torch.isfinite(found[name]).all():
            raise ValueError(f"{kind.name}: {name} in {path} holds NaN or infinite weights")
    weights = {name: t.float() if t.is_floating_point() else t for name, t in found.items()}
    network.load_state_dict(weights, assign=True)


def _in_8_bits(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if weight.is_floating_point() and weight.ndim > 1:
            scale = weight.float().abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True) / 127
            steps = weight.float() / scale.clamp(min=torch.finfo(torch.float32).tiny)
            tensors |= {name: steps.round().to(torch.int8), name + SCALE: scale}
        else:
            tensors[name] = weight.half() if weight.is_floating_point() else weight
    return tensors


def _from_8_bits(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Kernels and matrices with scales that fit them become float32; all else stays as it is."""

    def fits(tensor: torch.Tensor, scale: torch.Tensor | None) -> bool:
        if scale is None or tensor.dtype != torch.int8 or tensor.ndim < 2:
            return False
        return scale.shape == (len(tensor), *[1] * (tensor.ndim - 1))

    scaled = {name for name, tensor in tensors.items() if fits(tensor, tensors.get(name + SCALE))}
    scales = {name + SCALE for name in scaled}
    return {
        name: tensor.float() * tensors[name + SCALE] if name in scaled else tensor
        for name, tensor in tensors.items()
        if name not in scales
    }


def _header(path: Path, kind: FileFormat, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != kind.marker:
        got = metadata.get("format")
        raise ValueError(
            f"{kind.name}: {path} is a safetensors file of another program or purpose (format {got!r}, "
            f"accepted is {kind.marker!r})"
        )
    if metadata.get("version") != str(kind.version):
        got = metadata.get("version")
        raise ValueError(f"{kind.name}: {path} has version {got!r}, this program reads version {kind.version}")
    try:
        header = json.loads(metadata.get("header", ""))
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"{kind.name}: the header of {path} is no JSON") from None
    missing = [key for key in kind.fields if key not in header] if isinstance(header, dict) else list(kind.fields)
    if missing:
        raise ValueError(f"{kind.name}: the header of {path} lacks {', '.join(missing)}")
    for key in kind.objects:
        if not isinstance(header[key], dict):
            raise ValueError(f"{kind.name}: {key!r} in the header of {path} is no JSON object")
    return dict(header)
