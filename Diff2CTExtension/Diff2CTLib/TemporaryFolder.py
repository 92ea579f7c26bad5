"""Folders for files that pass between Slicer and its child processes, in Slicer's own temporary folder."""

import shutil
import tempfile
from pathlib import Path

import slicer


def make():
    """A new, empty folder. slicer.util.tempDirectory would give the same one twice within a millisecond."""
    return Path(tempfile.mkdtemp(prefix="Diff2CT-", dir=slicer.app.temporaryPath))


def remove(folder):
    """With everything in it; what cannot be removed is left."""
    shutil.rmtree(folder, ignore_errors=True)
