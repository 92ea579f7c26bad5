"""Six views: three planes of the reconstruction above the same planes of the ground truth, scrolled and windowed together."""

import slicer
import vtk
from slicer.util import VTKObservationMixin

from Diff2CTLib import Colors, Layout, SceneBridge
from Diff2CTLib.ParameterNode import Overlay


class CompareViews(VTKObservationMixin):
    def __init__(self):
        super().__init__()
        self._isFollowing = False
        self._windowed = None

    def show(self, reconstruction, truth, overlayNode, opacity):
        """Fill the views that exist. overlayNode lies over the reconstruction with `opacity` in [0, 1]."""
        for views, node, foreground in (
            (Layout.RECONSTRUCTION_VIEWS, reconstruction, overlayNode),
            (Layout.TRUTH_VIEWS, truth, None),
        ):
            for viewName in views.values():
                logic = Layout.sliceLogic(viewName)
                if logic is None:
                    continue
                composite = logic.GetSliceCompositeNode()
                composite.SetLinkedControl(False)
                composite.SetBackgroundVolumeID(node.GetID() if node else None)
                composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
                composite.SetForegroundOpacity(opacity if foreground else 0.0)
        self._follow([node for node in (reconstruction, truth) if node is not None])

    def setWindow(self, nodes, preset):
        """The same window and level for all volumes, when the preset or a volume is another than before; then hands off."""
        nodes = [node for node in nodes if node is not None and node.GetDisplayNode() is not None]
        wanted = (preset, *(node.GetID() for node in nodes))
        if wanted == self._windowed:
            return
        self._windowed = wanted
        for node in nodes:
            node.GetDisplayNode().AutoWindowLevelOff()
            node.GetDisplayNode().SetWindowLevel(*preset.value)

    def center(self, node):
        """All views to the middle of `node`, in one scale."""
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        center = [(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)]
        extent = max(bounds[2 * axis + 1] - bounds[2 * axis] for axis in range(3))
        for viewName in (*Layout.RECONSTRUCTION_VIEWS.values(), *Layout.TRUTH_VIEWS.values()):
            logic = Layout.sliceLogic(viewName)
            if logic is None:
                continue
            sliceNode = logic.GetSliceNode()
            sliceNode.JumpSliceByCentering(*center)
            width, height = sliceNode.GetDimensions()[:2]
            if min(width, height) > 0:
                perPixel = extent / min(width, height)
                sliceNode.SetFieldOfView(perPixel * width, perPixel * height, sliceNode.GetFieldOfView()[2])

    def release(self):
        """Let the views be."""
        self.removeObservers()

    def _follow(self, nodes):
        self.removeObservers()
        displays = [node.GetDisplayNode() for node in nodes]
        if len(displays) == 2 and None not in displays:
            for display, other in zip(displays, displays[::-1], strict=True):
                self.addObserver(display, vtk.vtkCommand.ModifiedEvent, self._windowFollower(other))
        for plane in Layout.PLANES:
            logics = [Layout.sliceLogic(views[plane]) for views in (Layout.RECONSTRUCTION_VIEWS, Layout.TRUTH_VIEWS)]
            if None not in logics:
                for logic, other in zip(logics, logics[::-1], strict=True):
                    self.addObserver(logic.GetSliceNode(), vtk.vtkCommand.ModifiedEvent, self._follower(other.GetSliceNode()))

    def _follower(self, other):
        def follow(sliceNode, _event):
            if self._isFollowing:
                return
            self._isFollowing = True
            try:
                with slicer.util.NodeModify(other):
                    if not _sameMatrix(sliceNode.GetSliceToRAS(), other.GetSliceToRAS()):
                        other.GetSliceToRAS().DeepCopy(sliceNode.GetSliceToRAS())
                        other.UpdateMatrices()
                    width, height = sliceNode.GetDimensions()[:2]
                    if min(width, height) > 0:
                        perPixel = sliceNode.GetFieldOfView()[0] / width
                        columns, rows = other.GetDimensions()[:2]
                        other.SetFieldOfView(perPixel * columns, perPixel * rows, other.GetFieldOfView()[2])
                        other.SetXYZOrigin(*sliceNode.GetXYZOrigin())
            finally:
                self._isFollowing = False

        return follow

    def _windowFollower(self, other):
        def follow(display, _event):
            window = (display.GetWindow(), display.GetLevel())
            if (other.GetWindow(), other.GetLevel()) != window:
                other.SetWindowLevel(*window)

        return follow


def styleOverlay(node, overlay):
    """Colours of a difference or of a standard deviation [HU]."""
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    if overlay is Overlay.DIFFERENCE:
        display.SetAndObserveColorNodeID(Colors.differenceColor())
        display.SetWindowLevel(1200, 0)
    else:
        display.SetAndObserveColorNodeID(Colors.deviationColor())
        display.SetWindowLevel(400, 200)


def showBone(node, isShown):
    """Volume rendering of the bone of `node`, all others of this module stay as they are."""
    logic = slicer.modules.volumerendering.logic()
    display = logic.GetFirstVolumeRenderingDisplayNode(node)
    if display is None:
        if not isShown:
            return
        display = logic.CreateDefaultVolumeRenderingNodes(node)
        preset = logic.GetPresetByName("CT-Bone")
        if preset is not None:
            display.GetVolumePropertyNode().Copy(preset)
    display.SetVisibility(isShown)


def _sameMatrix(one, other):
    return (SceneBridge.fromVtkMatrix(one) == SceneBridge.fromVtkMatrix(other)).all()
