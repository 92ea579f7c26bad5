"""Where to export a volume to, and as what: a file dialog whose filter counts where the name has no suffix."""

from pathlib import Path

import qt
from slicer.i18n import tr as _

_SUFFIXES = (".nrrd", ".nii.gz", ".mha", "")


def ask(parent):
    """(path, whether it may be replaced); ("", False) if the dialog was cancelled. A path that ends in "/" is for DICOM."""
    filters = [_("NRRD (*.nrrd)"), _("NIfTI (*.nii.gz)"), _("MetaImage (*.mha)"), _("New DICOM folder (*)")]
    dialog = qt.QFileDialog(parent, _("Export the synthetic CT"))
    dialog.setAcceptMode(qt.QFileDialog.AcceptSave)
    dialog.setNameFilters(filters)
    dialog.selectFile("synthetic_ct")
    isAccepted = dialog.exec_()
    chosen, suffix = dialog.selectedFiles(), _SUFFIXES[filters.index(dialog.selectedNameFilter())]
    dialog.deleteLater()
    if not isAccepted or not chosen:
        return "", False
    path = target(chosen[0], suffix)
    return path, path == chosen[0] and Path(path).is_file()  # of an existing file with this name, the dialog has asked


def target(name, suffix):
    """The path for what was typed, with a filter of `suffix`, "" for a DICOM folder. A dot in a name makes no suffix."""
    if not suffix:
        return name if name.endswith("/") else name + "/"
    from diff2ct.volume_io import VOLUME_SUFFIXES

    return name if name.lower().endswith(VOLUME_SUFFIXES) else name + suffix
