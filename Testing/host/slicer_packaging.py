"""slicer.packaging: the questions are answered from what is installed, nothing is ever installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

requested: list[list[str]] = []  # what pip_ensure and pip_install were asked for, for tests to look at


def load_requirements(path: str | Path) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in Path(path).read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


def pip_check(requirements: str | list[str]) -> bool:
    """Whether all of them are installed in the versions asked for; reads metadata only."""
    return not [text for text in _listed(requirements) if not _is_installed(text)]


def pip_ensure(requirements: str | list[str], **options: Any) -> None:
    """In testing mode Slicer installs nothing either; what is missing shows when it is imported."""
    requested.append(_listed(requirements))


def pip_install(requirements: str | list[str], **options: Any) -> None:
    requested.append(_listed(requirements))
    raise RuntimeError(f"the test host installs nothing, asked for {requirements}")


def _listed(requirements: str | list[str]) -> list[str]:
    return requirements.split() if isinstance(requirements, str) else [str(item) for item in requirements]


def _is_installed(text: str) -> bool:
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
