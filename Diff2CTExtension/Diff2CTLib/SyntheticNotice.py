"""The words "synthetic, not for diagnosis" in every slice view that shows what was made from X-rays: of any module's layout,
and whether the panel, a script or a scene that was opened has brought it."""

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from Diff2CTLib import SceneBridge

PLACE = vtk.vtkCornerAnnotation.UpperEdge
"""Slicer's own annotations of slice views are in the four corners."""


class SyntheticNotice(VTKObservationMixin):
    """Keeps no views: they come and go, and when Slicer ends they go before the modules do."""

    def register(self):
        """From now on, if there is a main window; a second call changes nothing."""
        scene, manager = slicer.mrmlScene, slicer.app.layoutManager()
        if manager is None or self.hasObserver(scene, scene.EndBatchProcessEvent, self.update):
            return
        self.addObserver(scene, scene.EndBatchProcessEvent, self.update)  # a scene was opened or closed
        manager.connect("layoutChanged(int)", self._onLayoutChanged)  # which may have made views
        self.update()

    def unregister(self):
        self.removeObservers()
        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.disconnect("layoutChanged(int)", self._onLayoutChanged)

    def _onLayoutChanged(self, _layout):
        self.update()

    def update(self, _caller=None, _event=None):
        manager = slicer.app.layoutManager()
        for viewName in manager.sliceViewNames() if manager is not None else ():
            widget = manager.sliceWidget(viewName)
            composite = widget.sliceLogic().GetSliceCompositeNode() if widget is not None else None
            if composite is None:  # while a scene is closed
                continue
            if not self.hasObserver(composite, vtk.vtkCommand.ModifiedEvent, self.update):
                self.addObserver(composite, vtk.vtkCommand.ModifiedEvent, self.update)
            _setText(widget.sliceView(), _("Synthetic - not for diagnosis") if _showsSynthetic(composite) else "")


notice = SyntheticNotice()


def _showsSynthetic(composite):
    """Whether a layer that can be seen was made from X-rays."""
    layers = range(composite.Layer_Last + composite.GetNumberOfAdditionalLayers())
    nodes = [composite.GetNthLayerVolume(layer) for layer in layers if composite.GetNthLayerOpacity(layer) > 0]
    return any(node is not None and SceneBridge.isFromXrays(node) for node in nodes)


def _setText(view, text):
    if (view.cornerAnnotation().GetText(PLACE) or "") != text:
        view.cornerAnnotation().SetText(PLACE, text)
        view.scheduleRender()
