"""The Python packages that the child process needs beside Slicer's: looked up without importing, installed on consent.

torch comes through the extension PyTorch, which picks the build for this computer. Where there is no internet, both packages
can be installed from a folder of wheel files.
"""

import importlib.util

import slicer
from slicer.i18n import tr as _

REQUIREMENTS = {"torch": "torch>=2.2", "safetensors": "safetensors>=0.4"}


def missing():
    """Names of the packages that are not installed."""
    return [name for name in REQUIREMENTS if importlib.util.find_spec(name) is None]


def require():
    """RuntimeError that says what to do, unless everything is there."""
    importlib.invalidate_caches()
    names = missing()
    if names:
        raise RuntimeError(
            _(
                "The Python packages {names} are missing. Install them in the section Reconstruction of the module Diff2CT; "
                "without internet, from a folder of wheel files."
            ).format(names=", ".join(names))
        )


def install(confirm=None):
    """Ask, then install what is missing. RuntimeError with the reason if that was declined or failed."""
    names = missing()
    if not names:
        return
    confirm = confirm or slicer.util.confirmOkCancelDisplay
    question = _(
        "Diff2CT needs {names}, which is not part of Slicer. It is downloaded now, with the build of torch that fits this "
        "computer (up to 3 GB). Install?"
    ).format(names=_(" and ").join(names))
    if not confirm(question, windowTitle=_("Install Python packages")):
        raise RuntimeError(_("Nothing was installed."))
    if "torch" in names:
        _installTorch()
    if "safetensors" in names:
        _pipInstall([REQUIREMENTS["safetensors"]])
    require()


def installFromFolder(folder):
    """Install what is missing from wheel files in `folder`, without internet."""
    names = missing()
    if names:
        _pipInstall(["--no-index", "--find-links", str(folder), *(REQUIREMENTS[name] for name in names)])
    require()


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
    torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
        askConfirmation=False, torchVersionRequirement=REQUIREMENTS["torch"].removeprefix("torch")
    )
    if torch is None:
        raise RuntimeError(_("The extension PyTorch could not install torch; its log says why."))


def _pipInstall(arguments):
    try:
        slicer.util.pip_install(arguments)
    except Exception as error:
        raise RuntimeError(_("pip could not install {what}: {error}").format(what=" ".join(arguments), error=error)) from error
