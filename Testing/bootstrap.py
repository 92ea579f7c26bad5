"""Make .venv in this clone and install the project into it. Standard library only, Linux, Python 3.11 or newer.

A second call with nothing changed returns at once. An interrupted one is noticed and starts afresh.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit("Diff2CT needs Python 3.11 or newer, this is " + sys.version.split()[0])
if not sys.platform.startswith("linux"):
    sys.exit(
        'This script is for Linux. Elsewhere: pip install -e "./Diff2CTTraining[test]" in a virtual environment, '
        "then run diff2ct or pytest"
    )

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PACKAGE = ROOT / "Diff2CTTraining"
CONSTRAINTS = ROOT / "Testing" / "constraints.txt"
STAMP = VENV / "diff2ct-installed.json"
UNFINISHED = VENV / "diff2ct-unfinished"
LOG = VENV / "pip.log"


SYSTEM_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libEGL_mesa.so.0": "libegl-mesa0",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libfontconfig.so.1": "libfontconfig1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libglib-2.0.so.0": "libglib2.0-0",
}
"""What Qt and VTK load, and the packages of Debian and Ubuntu that hold it. Only the tests of the Slicer module need it."""
DRAWING_PACKAGES = ("libgl1-mesa-dri", "fonts-dejavu-core")


def run_in_environment(
    program: str,
    arguments: list[str],
    extra: str = "",
    *,
    needs_windows: bool = False,
    requirements: Path | None = None,
) -> int:
    """Exit code of `program` from .venv, once the project and its optional dependencies `extra` are installed there.

    needs_windows: install the system libraries that Qt and VTK load too, or say how; what needs them may be skipped.
    requirements: a file of further packages, installed as they stand, without what they depend on.
    """
    try:
        with _one_at_a_time():
            _install(extra)
            if requirements is not None:
                _install_requirements(requirements)
            if needs_windows:
                _install_system_libraries()
        return subprocess.run([VENV / "bin" / program, *arguments], env=_clean_environment()).returncode
    except KeyboardInterrupt:
        return 130


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two commands started together must not write .venv together; the second waits here for the first."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _install(extra: str) -> None:
    """Bring .venv up to date. The stamp says what is in it; extras of earlier calls stay."""
    inputs = (PACKAGE / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes()
    wanted = {"root": str(ROOT), "hash": hashlib.sha256(inputs).hexdigest()}
    stamp = json.loads(STAMP.read_text()) if STAMP.exists() else {**wanted, "hash": "", "extras": []}
    usable = PYTHON.exists() and not UNFINISHED.exists() and stamp["root"] == wanted["root"]  # scripts hold absolute paths
    if usable and stamp["hash"] == wanted["hash"] and extra in stamp["extras"]:
        return
    if not usable:
        if VENV.exists():
            print(f"{VENV} is unfinished or was moved, starting afresh", flush=True)
            shutil.rmtree(VENV)
        stamp["extras"] = []
        _require_ensurepip()
        print(f"Making the Python environment {VENV}", flush=True)
        VENV.mkdir()
    UNFINISHED.touch()
    if not usable:
        subprocess.run([sys.executable, "-m", "venv", VENV], env=_clean_environment(), check=True)
    print(f"Installing Diff2CT and its dependencies, some minutes the first time (log: {LOG})", flush=True)
    start = time.monotonic()
    extras = sorted({extra, *stamp["extras"]})
    named = ",".join(filter(None, extras))
    _pip_install("--editable", f"{PACKAGE}[{named}]" if named else str(PACKAGE))
    STAMP.write_text(json.dumps({**wanted, "extras": extras}))
    UNFINISHED.unlink()
    print(f"Installed in {time.monotonic() - start:.0f} s", flush=True)


def _install_requirements(file: Path) -> None:
    """The packages of `file`, unless this very list was installed last; a copy of it beside the stamp tells."""
    done = VENV / file.name
    if done.exists() and done.read_bytes() == file.read_bytes():
        return
    print(f"Installing the packages of {file.name} (log: {LOG})", flush=True)
    _pip_install("--no-deps", "--requirement", str(file))
    shutil.copy(file, done)


def _pip_install(*arguments: str) -> None:
    """pip's output goes to the log; a terminal also sees the current line, a failure shows the end."""
    command = [PYTHON, "-m", "pip", "install", "--progress-bar", "off", "--constraint", CONSTRAINTS, *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    lines: list[str] = []
    with LOG.open("w") as log, subprocess.Popen(command, env=_clean_environment(), text=True, errors="replace", **pipes) as pip:
        for line in pip.stdout:
            log.write(line)
            lines.append(line)
            if sys.stdout.isatty():
                print(f"\r\033[K  {line.strip()[:76]}", end="", flush=True)
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)
    if pip.returncode != 0:
        sys.exit(f"{''.join(lines[-15:])}pip failed with exit code {pip.returncode}; the whole log is in {LOG}")


def _require_ensurepip() -> None:
    """Debian and Ubuntu split `python3 -m venv` off into a package of its own."""
    if importlib.util.find_spec("ensurepip") is not None:
        return
    package = f"python3.{sys.version_info.minor}-venv"
    if not _apt_install([package]):
        sys.exit(f"This Python cannot make environments. Please run: sudo apt-get install {package}")


def _install_system_libraries() -> None:
    missing = [package for library, package in SYSTEM_LIBRARIES.items() if not _loads(library)]
    if missing and not _apt_install([*missing, *DRAWING_PACKAGES]):
        packages = " ".join([*missing, *DRAWING_PACKAGES])
        print(f"The tests of the Slicer module are skipped. To run them: sudo apt-get install {packages}", flush=True)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _apt_install(packages: list[str]) -> bool:
    """Install packages of Debian or Ubuntu; False if this is neither, or not root, or it failed."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    print(f"Installing the system packages {' '.join(packages)}", flush=True)
    environment = {**_clean_environment(), "DEBIAN_FRONTEND": "noninteractive"}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    commands = (["update", "-qq"], ["install", "-y", "-qq", *packages])
    return all(subprocess.run(["apt-get", *command], env=environment, **quiet).returncode == 0 for command in commands)


def _clean_environment() -> dict[str, str]:
    """This environment without what would mix other Python packages into .venv."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
