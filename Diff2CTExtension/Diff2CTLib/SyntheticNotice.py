"""The words "synthetic, not for diagnosis" in every slice view that shows what was made from X-rays, of any module's layout."""

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from Diff2CTLib import SceneBridge

PLACE = vtk.vtkCornerAnnotation.UpperEdge
"""Slicer's own annotations of slice views are in the four corners."""


class SyntheticNotice(VTKObservationMixin):
    def __init__(self):
        super().__init__()
        self._views = {}  # ID of a composite node -> the view that it fills

    def update(self):
        """Take on the views that have been made since."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        for viewName in manager.sliceViewNames():
            widget = manager.sliceWidget(viewName)
            composite = widget.sliceLogic().GetSliceCompositeNode()
            self._views[composite.GetID()] = widget.sliceView()
            if not self.hasObserver(composite, vtk.vtkCommand.ModifiedEvent, self._write):
                self.addObserver(composite, vtk.vtkCommand.ModifiedEvent, self._write)
            self._write(composite)

    def release(self):
        """Let the views be."""
        self.removeObservers()
        for view in self._views.values():
            _setText(view, "")
        self._views = {}

    def _write(self, composite, _event=None):
        layers = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
        nodes = [slicer.mrmlScene.GetNodeByID(layer) for layer in layers if layer]
        isSynthetic = any(node is not None and SceneBridge.isFromXrays(node) for node in nodes)
        _setText(self._views[composite.GetID()], _("Synthetic - not for diagnosis") if isSynthetic else "")


def _setText(view, text):
    if view.cornerAnnotation().GetText(PLACE) != text:
        view.cornerAnnotation().SetText(PLACE, text)
        view.scheduleRender()
