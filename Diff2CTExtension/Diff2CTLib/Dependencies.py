"""The Python packages that the child process needs beside Slicer's: looked up without importing, installed on consent.

Slicer takes clicks while pip works, so one installation at a time is let through: two would write the same files.

torch comes through the extension PyTorch, which picks the build for this computer. Where there is no internet, both packages
can be installed from a folder of wheel files.
"""

import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import slicer
from slicer.i18n import tr as _

REQUIREMENTS = {"torch": ">=2.3", "safetensors": ">=0.4"}
"""The NumPy 2 of Slicer needs torch 2.3."""

_installation = threading.Lock()


def missing():
    """Names of the packages that are not installed, or too old."""
    return [name for name in REQUIREMENTS if not _isInstalled(name)]


def _isInstalled(name):
    """A folder without metadata, which come last into it, is what an installation or removal that broke off has left."""
    try:
        metadata = importlib.metadata.distribution(name).read_text("METADATA") or ""
    except importlib.metadata.PackageNotFoundError:
        return False
    version = re.search(r"^Version: *(\S+)", metadata, re.MULTILINE)  # quicker than parsing all of it, in each update
    if version is None or importlib.util.find_spec(name) is None:
        return False
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(REQUIREMENTS[name]).contains(version[1], prereleases=True)


def inWords(names):
    return _(" and ").join(
        _("{name} {version} or newer").format(name=name, version=REQUIREMENTS[name].removeprefix(">=")) for name in names
    )


def isInstalling():
    return _installation.locked()


def require():
    """RuntimeError that says what to do, unless everything is there."""
    importlib.invalidate_caches()
    names = missing()
    if names:
        raise RuntimeError(
            _(
                "The Python packages {names} are missing or too old. Install them in the section Reconstruction of the module "
                "Diff2CT; without internet, from a folder of wheel files."
            ).format(names=", ".join(names))
        )


def install(confirm=None):
    """Ask, then install what is missing. RuntimeError with the reason if that was declined or failed."""
    names = missing()
    if not names:
        return
    _refuseWhereItCannotRun(names)
    with _alone():
        _askAndInstall(names, confirm or slicer.util.confirmOkCancelDisplay)


def _askAndInstall(names, confirm):
    question = _(
        "Diff2CT needs {names}, which is not part of Slicer. It is downloaded now, with the build of torch that fits this "
        "computer (up to 3 GB). Install?"
    ).format(names=inWords(names))
    if not confirm(question, windowTitle=_("Install Python packages")):
        raise RuntimeError(_("Nothing was installed."))
    if "torch" in names:
        _installTorch()
    if "safetensors" in names:
        _pipInstall(["safetensors" + _versions("safetensors")])
    require()


def installFromFolder(folder):
    """Install what is missing from wheel files in `folder`, without internet."""
    names = missing()
    if names:
        _refuseWhereItCannotRun(names)
        with _alone():
            _pipInstall(["--no-index", "--find-links", str(folder), *(name + _versions(name) for name in names)])
    require()


@contextmanager
def _alone():
    if not _installation.acquire(blocking=False):
        raise RuntimeError(_("Packages are being installed already."))
    try:
        yield
    finally:
        _installation.release()


def _versions(name):
    """As pip takes it. The folders of torch 2.13 are too deep for Windows: github.com/Slicer/light-the-torch/issues/176"""
    return REQUIREMENTS[name] + (",<2.13" if name == "torch" and sys.platform == "win32" else "")


def _refuseWhereItCannotRun(names):
    """For Intel macOS, which Slicer is also on Apple silicon, torch ends at 2.2, and NumPy 2 needs 2.3."""
    isIntelMac = sys.platform == "darwin" and platform.machine() == "x86_64"
    if "torch" in names and isIntelMac and int(np.__version__.partition(".")[0]) >= 2:
        raise RuntimeError(
            _(
                "Diff2CT cannot reconstruct in this Slicer: the last torch for Slicer on macOS does not work with its NumPy "
                "{version}. Nothing was installed. Use Linux or Windows, or Diff2CT without Slicer."
            ).format(version=np.__version__)
        )


def _installTorch():
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        raise RuntimeError(
            _(
                "The extension PyTorch is missing. Install it in the Extensions Manager, restart Slicer and come back. Without "
                "internet, install torch from a folder of wheel files instead."
            )
        ) from None
    try:
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=_versions("torch"))
    except Exception as error:  # of pip, or of torch itself, which that function imports into Slicer in the end
        raise RuntimeError(_("torch could not be installed: {why}").format(why=_why(error))) from error
    if torch is None:
        raise RuntimeError(_("The extension PyTorch could not install torch; its log says why."))


def _pipInstall(arguments):
    try:
        slicer.util.pip_install(arguments)
    except Exception as error:
        words = _("pip could not install {what}: {why}").format(what=" ".join(arguments), why=_why(error))
        raise RuntimeError(words) from error


def _why(error):
    """Of a program that failed, Python knows no more than its exit code; what it said stands in the Python console."""
    if isinstance(error, subprocess.CalledProcessError):
        return _(
            "pip ended with exit code {code}. The Python console (menu View) shows why; often it is the internet connection "
            "or a full disk."
        ).format(code=error.returncode)
    return str(error)
