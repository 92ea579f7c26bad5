"""Limits that a container or a batch system sets."""

from pathlib import Path

import pytest

from diff2ct.control_group import control_groups, memory_left, processors_allotted


def write(folder: Path, **texts: str) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_memory_that_a_limit_leaves(tmp_path: Path) -> None:
    assert memory_left(tmp_path) is None
    write(tmp_path, memory__max="max\n", memory__current="700\n", memory__stat="anon 500\ninactive_file 150\n")
    assert memory_left(tmp_path) is None
    write(tmp_path, memory__max="1000\n")
    assert memory_left(tmp_path) == 450


@pytest.mark.parametrize(
    ("texts", "allotted"),
    [
        ({}, None),
        ({"cpu__max": "max 100000\n"}, None),
        ({"cpu__max": "150000 100000\n"}, 1.5),
        ({"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}, None),
        ({"cpu__cfs_quota_us": "25000\n", "cpu__cfs_period_us": "50000\n"}, 0.5),
    ],
)
def test_processors_by_quota(texts: dict[str, str], allotted: float | None, tmp_path: Path) -> None:
    write(tmp_path, **texts)
    assert processors_allotted(tmp_path) == allotted


@pytest.mark.parametrize(
    ("membership", "inside"),
    [
        ("0::/\n", []),
        ("0::/slurm/job_7/step_0\n", ["slurm", "job_7", "step_0"]),
        ("0::/a:b\n", ["a:b"]),
        ("0::/../other\n", []),
        ("3:pids:/x\n", []),
        ("no list of groups\n\n", []),
    ],
)
def test_control_groups_from_the_root_on(membership: str, inside: list[str], tmp_path: Path) -> None:
    """A container's limit is at the root, a batch system's further inside."""
    file = tmp_path / "cgroup"
    assert control_groups("cpu", file, tmp_path) == [tmp_path]
    file.write_text(membership)
    assert control_groups("cpu", file, tmp_path) == [tmp_path.joinpath(*inside[:n]) for n in range(len(inside) + 1)]


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    """Each controller has its own hierarchy there."""
    file = tmp_path / "cgroup"
    file.write_text("5:memory:/other\n4:cpu,cpuacct:/docker/7\n0::/\n")
    of_cpu = tmp_path / "cpu"
    assert control_groups("cpu", file, tmp_path) == [of_cpu, of_cpu / "docker", of_cpu / "docker" / "7", tmp_path]
