"""Six views: three planes of the reconstruction above the same planes of the ground truth, scrolled and windowed together."""

import math

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from Diff2CTLib import Colors, Layout, SceneBridge
from Diff2CTLib.ParameterNode import Overlay

_PRESET_ATTRIBUTE = "Diff2CT.preset"


class CompareViews(VTKObservationMixin):
    def __init__(self):
        super().__init__()
        self._isFollowing = False
        self._extent = 0.0  # mm that every view shows along its shorter side
        self._fitted = {}  # slice node ID -> ((width, height), mm per pixel); empty once somebody has zoomed
        self._fitTimer = qt.QTimer()
        self._fitTimer.setSingleShot(True)
        self._fitTimer.connect("timeout()", self._keepFit)

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
        """While the views show them, the same window and level for all volumes: of the preset if it or a volume is new to them,
        which the scene remembers, else of the last volume."""
        displays = [node.GetDisplayNode() for node in nodes if node is not None and node.GetDisplayNode() is not None]
        if not displays or not _areShown():
            return
        isNew = any(display.GetAttribute(_PRESET_ATTRIBUTE) != preset.name for display in displays)
        window = preset.value if isNew else _windowOf(displays[-1])
        for display in displays:
            display.AutoWindowLevelOff()
        for display in displays:
            display.SetAttribute(_PRESET_ATTRIBUTE, preset.name)
            if _windowOf(display) != window:
                display.SetWindowLevel(*window)

    def center(self, node):
        """All views to the middle of `node`, all of it in sight, in one scale; so it stays when a view gets another size."""
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        center = [(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)]
        self._extent = max(bounds[2 * axis + 1] - bounds[2 * axis] for axis in range(3))
        viewNames = (*Layout.RECONSTRUCTION_VIEWS.values(), *Layout.TRUTH_VIEWS.values())
        sliceNodes = [logic.GetSliceNode() for logic in map(Layout.sliceLogic, viewNames) if logic is not None]
        for sliceNode in sliceNodes:
            sliceNode.JumpSliceByCentering(*center)
        self._fit(sliceNodes)

    def release(self):
        """Let the views be."""
        self.removeObservers()
        self._fitTimer.stop()

    def _follow(self, nodes):
        self.removeObservers()
        displays = [node.GetDisplayNode() for node in nodes]
        if len(displays) == 2 and None not in displays:
            for display, other in zip(displays, displays[::-1], strict=True):
                self.addObserver(display, vtk.vtkCommand.ModifiedEvent, self._windowFollower(other))
        for plane in Layout.PLANES:
            logics = [Layout.sliceLogic(views[plane]) for views in (Layout.RECONSTRUCTION_VIEWS, Layout.TRUTH_VIEWS)]
            nodes = [logic.GetSliceNode() if logic is not None else None for logic in logics]
            for node, partner in zip(nodes, nodes[::-1], strict=True):
                if node is not None:
                    self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._sliceFollower(partner))

    def _sliceFollower(self, partner):
        def follow(sliceNode, _event):
            if self._isFollowing:
                return
            self._isFollowing = True
            try:
                if not self._fitTimer.active:
                    self._fitTimer.start()
                if partner is not None:
                    _show(partner, sliceNode)
            finally:
                self._isFollowing = False

        return follow

    def _fit(self, sliceNodes):
        """`_extent` mm along the shorter side of each view."""
        self._isFollowing = True  # each view has a size of its own
        try:
            for node in sliceNodes:
                width, height = node.GetDimensions()[:2]
                if min(width, height) > 0:
                    perPixel = self._extent / min(width, height)
                    node.SetFieldOfView(perPixel * width, perPixel * height, node.GetFieldOfView()[2])
                    self._fitted[node.GetID()] = (width, height), perPixel
        finally:
            self._isFollowing = False

    def _keepFit(self):
        """Views get their size some time after their layout is shown; whoever zooms ends the fit."""
        nodes = [node for node in map(slicer.mrmlScene.GetNodeByID, self._fitted) if node is not None]
        if any(node.GetDimensions()[:2] != self._fitted[node.GetID()][0] for node in nodes):
            self._fit(nodes)
        elif any(not math.isclose(_perPixel(node), self._fitted[node.GetID()][1], rel_tol=1e-6) for node in nodes):
            self._fitted = {}

    def _windowFollower(self, other):
        def follow(display, _event):
            if self._isFollowing or not _areShown() or _windowOf(other) == _windowOf(display):
                return
            self._isFollowing = True  # one that sets its window automatically sets its own again
            try:
                other.SetWindowLevel(*_windowOf(display))
            finally:
                self._isFollowing = False

        return follow


def styleOverlay(node, overlay):
    """Colours and scale of an overlay [HU], or 0 to 1 for what the X-rays settle."""
    color, low, high = {
        Overlay.DIFFERENCE: (Colors.differenceColor, -Colors.DIFFERENCE_HU, Colors.DIFFERENCE_HU),
        Overlay.UNCERTAINTY: (Colors.deviationColor, 0.0, Colors.DEVIATION_HU),
        Overlay.ERROR: (Colors.deviationColor, 0.0, Colors.ERROR_HU),
        Overlay.SUPPORT: (Colors.supportColor, 0.0, 1.0),
    }[overlay]
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetAndObserveColorNodeID(color())
    display.SetWindowLevel(high - low, (high + low) / 2)


class Bone:
    """The rendered bone of at most one volume. What somebody has switched on or off in Volume Rendering stays so."""

    def __init__(self):
        self.node = None  # whose bone is shown

    def show(self, node):
        """The bone of `node` and of no other that was shown by this; None is no bone."""
        if node is self.node:
            return
        logic = slicer.modules.volumerendering.logic()
        if self.node is not None and self.node.GetScene() is not None:
            before = logic.GetFirstVolumeRenderingDisplayNode(self.node)
            if before is not None:
                before.SetVisibility(False)
        self.node = node
        if node is None:
            return
        display = logic.GetFirstVolumeRenderingDisplayNode(node)
        if display is None:
            display = logic.CreateDefaultVolumeRenderingNodes(node)
            preset = logic.GetPresetByName("CT-Bone")
            if preset is not None:
                display.GetVolumePropertyNode().Copy(preset)
        display.SetVisibility(True)


def _show(other, sliceNode):
    """Let the view `other` show the same place as `sliceNode` in the same scale."""
    with slicer.util.NodeModify(other):
        if not _sameMatrix(sliceNode.GetSliceToRAS(), other.GetSliceToRAS()):
            other.GetSliceToRAS().DeepCopy(sliceNode.GetSliceToRAS())
            other.UpdateMatrices()
        if min(sliceNode.GetDimensions()[:2]) > 0:
            perPixel = _perPixel(sliceNode)
            columns, rows = other.GetDimensions()[:2]
            other.SetFieldOfView(perPixel * columns, perPixel * rows, other.GetFieldOfView()[2])
            other.SetXYZOrigin(*sliceNode.GetXYZOrigin())


def _areShown():
    return Layout.isShown(Layout.COMPARE_LAYOUT) or Layout.isShown(Layout.REVIEW_LAYOUT)


def _windowOf(display):
    return display.GetWindow(), display.GetLevel()


def _perPixel(sliceNode):
    return sliceNode.GetFieldOfView()[0] / sliceNode.GetDimensions()[0]


def _sameMatrix(one, other):
    return (SceneBridge.fromVtkMatrix(one) == SceneBridge.fromVtkMatrix(other)).all()
