"""A GPU that is none: tensors that lie in main memory and say that they lie on cuda:0, with CUDA's rules on what may meet.

Within `pretended_gpu` the code under test takes every branch that it takes on CUDA, with real values, and a call that gives
torch tensors of both devices raises what torch would: found without a GPU. It looks at calls, not at what runs inside of
torch, and knows no streams and no arithmetic of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from diff2ct.networks.haar import _signs
from diff2ct.precision import fastest_dtype
from diff2ct.projector import _cached_plan

GPU = torch.device("cuda", 0)
_OLD_GPU = (7, 5)  # computes in float32: the CPU below has no bfloat16 of CUDA's
_MAY_COPY = ("copy_", "__setitem__")
_TORCH_MODULE_TO = torch.nn.Module.to
_NEVER_MIX = ("cat", "stack", "concatenate")  # elsewhere a number of the CPU, shape (), may meet the GPU


class OnGpu(torch.Tensor):
    """A tensor of the pretended GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True


class _Generator(torch.Generator):
    def __new__(cls, device: torch.device | str = "cpu") -> _Generator:
        made = super().__new__(cls)
        made.of_gpu = torch.device(device).type == "cuda"
        return made

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__()

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU if self.of_gpu else torch.device("cpu")


class _TwoDevices(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        to_gpu = any(isinstance(tensor, OnGpu) for tensor in given)
        if name in ("to", "cpu", "cuda"):
            return _moved(func, name, args, kwargs)
        if kwargs.get("device") is not None:
            to_gpu, kwargs["device"] = torch.device(kwargs["device"]).type == "cuda", "cpu"
        else:
            _check(name, args, given)
        generator = kwargs.get("generator")
        if generator is not None and generator.of_gpu != to_gpu:
            raise RuntimeError(f"{name}: a generator of {generator.device} for a tensor of the other device")
        if name == "numpy" and to_gpu:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "pin_memory":
            if to_gpu:
                raise RuntimeError("cannot pin a tensor of the GPU")
            return args[0]
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        if not to_gpu:
            return result
        known = {id(tensor) for tensor in given}
        return tree_map(lambda leaf: leaf if id(leaf) in known else _on_gpu(leaf), result)


def _on_gpu(value: Any) -> Any:
    return value.as_subclass(OnGpu) if isinstance(value, torch.Tensor) else value


def _moved(func: Any, name: str, args: Any, kwargs: Any) -> torch.Tensor:
    """What "to", "cpu" and "cuda" give: a copy where the device changes."""
    source, to_gpu = args[0], isinstance(args[0], OnGpu)
    if name != "to":
        to_gpu = name == "cuda"
    for value in (*args[1:], *kwargs.values()):
        if isinstance(value, torch.Tensor | torch.device | str):
            to_gpu = (value.device if isinstance(value, torch.Tensor) else torch.device(value)).type == "cuda"
    here = [torch.device("cpu") if isinstance(value, torch.device | str) else value for value in args[1:]]
    kwargs = {key: torch.device("cpu") if key == "device" else value for key, value in kwargs.items()}
    with torch._C.DisableTorchFunctionSubclass():
        result = func(source, *here, **kwargs) if name == "to" else source
        if to_gpu != isinstance(source, OnGpu):
            result = result.clone().as_subclass(OnGpu if to_gpu else torch.Tensor)
        elif to_gpu:
            result = result.as_subclass(OnGpu)
    return source if result is source else result


def _check(name: str, args: Any, given: list[torch.Tensor]) -> None:
    """RuntimeError where torch raises one for tensors of several devices."""
    if name in ("__getitem__", "__setitem__"):  # an index may be of the CPU, or of the tensor's own device
        indices = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)]
        given = [args[0], *(index for index in indices if isinstance(index, OnGpu))]
        if name == "__setitem__" and indices and isinstance(args[2], torch.Tensor):
            given.append(args[2])
    elif name in _MAY_COPY:
        return
    on_cpu = [t for t in given if not isinstance(t, OnGpu) and (t.ndim > 0 or name in _NEVER_MIX)]
    if on_cpu and len(on_cpu) < sum(t.ndim > 0 or isinstance(t, OnGpu) or name in _NEVER_MIX for t in given):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")


def put_on_gpu(network: torch.nn.Module) -> torch.nn.Module:
    """`network` with its weights and buffers on the pretended GPU: torch's own `Module.to` would lose that they are."""
    return _put(network, lambda tensor: tensor.detach().as_subclass(OnGpu))


def _put(network: torch.nn.Module, move: Callable[[torch.Tensor], torch.Tensor]) -> torch.nn.Module:
    for module in network.modules():
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    kept[name] = move(tensor).requires_grad_(tensor.requires_grad)
    return network


def _module_to(network: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
    if not args or not isinstance(args[0], torch.device | str):
        return _TORCH_MODULE_TO(network, *args, **kwargs)
    return put_on_gpu(network) if torch.device(args[0]).type == "cuda" else _put(network, lambda tensor: tensor.detach().cpu())


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All torch calls within see a GPU of 80 GB."""
    for name, value in {
        "get_device_capability": _OLD_GPU, "current_device": 0, "synchronize": None, "mem_get_info": (60 * 10**9, 80 * 10**9),
        "memory_reserved": 0, "memory_allocated": 0,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(torch, "Generator", _Generator)
    monkeypatch.setattr(torch.nn.Module, "to", _module_to)
    try:
        with _TwoDevices():
            _forget()
            yield
    finally:
        _forget()


def _forget() -> None:
    """What is kept by device: it would be of the other GPU, the real or the pretended one."""
    for kept in (_signs, fastest_dtype, _cached_plan):
        kept.cache_clear()
