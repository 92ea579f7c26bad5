"""What Linux's control groups leave to this process: a container or a batch system allots memory and processors by them."""

from __future__ import annotations

from pathlib import Path

_MEMBERSHIP, _ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def control_groups(controller: str, membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> list[Path]:
    """Folders of this process's control group and of those that it is in, the outermost first: a container's limit is at its
    root, that of a batch system or of a service further inside. Those of cgroup v1's `controller`, then of v2."""
    try:
        lines = membership.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    of_v1, of_v2 = [], _from_root_on(root, "/")
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controller in controllers.split(","):
            of_v1 = _from_root_on(root / controller, path)
        elif controllers == "":
            of_v2 = _from_root_on(root, path)
    return of_v1 + of_v2


def _from_root_on(root: Path, path: str) -> list[Path]:
    folders = [root]
    for name in path.strip("/").split("/"):
        if name in ("", ".."):  # a group outside of what this container sees
            break
        folders.append(folders[-1] / name)
    return folders


def memory_left(folder: Path) -> int | None:
    """What a control group's limit leaves (cgroup v2), cached files counted as free; None without a limit."""
    try:
        limit, used = (folder / "memory.max").read_text().strip(), int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used + int(stat.get("inactive_file", 0))


def processors_allotted(folder: Path) -> float | None:
    """How many processors a control group may keep busy, such as 1.5; None without a limit."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # cgroup v2, v1
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        return None if quota in ("max", "-1") else int(quota) / int(period)
    return None
