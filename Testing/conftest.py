"""Settings that must be made before numpy, torch or matplotlib are imported."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
_USEFUL_THREADS = 4  # on small tensors more only wait
_SET_BY_USER = "OMP_NUM_THREADS" in os.environ


def _share_processors(processes: int) -> None:
    if not _SET_BY_USER:
        os.environ["OMP_NUM_THREADS"] = str(max(1, min(_USEFUL_THREADS, (os.cpu_count() or 1) // processes)))


_share_processors(1)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist: the processes that it starts after this have this environment
def pytest_xdist_setupnodes(specs: list[object]) -> None:
    _share_processors(len(specs))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is no CUDA device; torch is only imported if there is such a test."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which no file grows beyond so many bytes."""
    resource = pytest.importorskip("resource")  # not on Windows

    @contextmanager
    def limited(num_bytes: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
