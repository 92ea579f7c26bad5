"""What the user marks in the X-ray views: numbered landmarks, a pair for each structure, and a line over a known length.

All are hidden markups nodes that are not saved. They belong to pixels: when the geometry puts an X-ray elsewhere, they go
along, and when its picture becomes another one, they are removed.
"""

import numpy as np
import slicer
from slicer.util import VTKObservationMixin

from Diff2CTLib import Colors, HiddenNode, Layout, SceneBridge

SLOTS = ("ap", "lateral")
_COLORS = {"ap": Colors.AP_COLOR, "lateral": Colors.LATERAL_COLOR}
_START_ROWS = (0.5, 0.25, 0.75, 0.375, 0.625)
"""Where new landmarks appear, shares of the height; from there they are dragged."""
_LINE_SHARE = 0.2
"""Length of a new line, of the width."""


class Marks(VTKObservationMixin):
    """onMoved(): the user has moved a mark, or somebody has deleted one."""

    def __init__(self, onMoved):
        VTKObservationMixin.__init__(self)
        self._onMoved = onMoved
        self._shown = dict.fromkeys(SLOTS)  # slot -> (node ID, time of its picture, beam) that the marks were last drawn for
        self._pixels = {}  # name of a markups node -> (N, 2) its points as (row, column)

    def landmarks(self):
        """{slot: (N, 2)}, (row, column) of the landmarks in each X-ray."""
        return {slot: self._pixels.get(_nameOf(slot, "landmarks"), np.zeros((0, 2))) for slot in SLOTS}

    def line(self, slot):
        """(2, 2): (row, column) of the ends of the line in an X-ray, None without one."""
        return self._pixels.get(_nameOf(slot, "length"))

    def addLandmark(self, xrays):
        """One more in both X-rays, {slot: node}, at the same height as far as the geometry knows."""
        beams = {slot: SceneBridge.geometryOf(node) for slot, node in xrays.items()}
        landmarks = self.landmarks()
        rows, columns = beams["ap"].detector_size
        row = _START_ROWS[len(landmarks["ap"]) % len(_START_ROWS)] * (rows - 1)
        inAp = np.array([row, (columns - 1) / 2])
        landmarks["ap"] = np.vstack([landmarks["ap"], inAp])
        landmarks["lateral"] = np.vstack([landmarks["lateral"], _atHeightOf(beams["ap"], inAp, beams["lateral"])])
        for slot in SLOTS:
            self._draw(slot, "landmarks", landmarks[slot], beams[slot])

    def removeLandmarks(self):
        for slot in SLOTS:
            self._remove(_nameOf(slot, "landmarks"))

    def showLine(self, slot, xray):
        """A line across the middle of an X-ray, to be dragged over something of known length."""
        beam = SceneBridge.geometryOf(xray)
        (row, column), half = (np.array(beam.detector_size) - 1) / 2, _LINE_SHARE * beam.detector_size[1] / 2
        self._draw(slot, "length", np.array([[row, column - half], [row, column + half]]), beam)

    def removeLine(self, slot):
        self._remove(_nameOf(slot, "length"))

    def update(self, xrays):
        """Bring pixels and points in line; xrays: {slot: node or None}."""
        for slot in SLOTS:
            node, before = xrays[slot], self._shown[slot]
            now = None if node is None else (node.GetID(), node.GetImageData().GetMTime(), SceneBridge.geometryOf(node))
            self._shown[slot] = now
            if now is None or before is None or now[:2] != before[:2]:
                self.removeLine(slot)
                self.removeLandmarks()  # of both, as one alone says nothing
                continue
            for kind in ("landmarks", "length"):
                name = _nameOf(slot, kind)
                markups = HiddenNode.find(_CLASSES[kind], name)
                if markups is None:
                    self._pixels.pop(name, None)
                    continue
                self._pixels[name] = _pixelsOf(markups, before[2])
                if now[2] != before[2]:
                    self._draw(slot, kind, self._pixels[name], now[2])
            if self.line(slot) is not None and len(self.line(slot)) != 2:
                self.removeLine(slot)
        if len({len(points) for points in self.landmarks().values()}) > 1:  # of a pair, one was deleted
            self.removeLandmarks()

    def reset(self):
        """Forget the scene, after it was closed."""
        self.removeObservers()
        self._shown, self._pixels = dict.fromkeys(SLOTS), {}

    def _draw(self, slot, kind, pixels, beam):
        name = _nameOf(slot, kind)
        markups, isNew = HiddenNode.findOrAdd(_CLASSES[kind], name)
        if isNew:
            _dress(markups.GetDisplayNode(), slot)
            for event in _eventsOf(markups):
                self.addObserver(markups, event, self._onPoint)
        _showInView(markups.GetDisplayNode(), slot)
        self._pixels[name] = pixels
        toRas = SceneBridge.imageToRas(beam)
        with slicer.util.NodeModify(markups):
            markups.SetFixedNumberOfControlPoints(False)
            for index, (row, column) in enumerate(pixels):
                position = (toRas @ (column, row, 0.0, 1.0))[:3]
                if index < markups.GetNumberOfControlPoints():
                    markups.SetNthControlPointPosition(index, *position)
                else:
                    label = str(index + 1) if kind == "landmarks" else ""
                    markups.AddControlPoint(position, label)
            markups.SetFixedNumberOfControlPoints(True)  # neither the Delete key nor the place tool changes pairs

    def _remove(self, name):
        self._pixels.pop(name, None)
        for className in _CLASSES.values():
            markups = HiddenNode.find(className, name)
            if markups is not None:
                for event in _eventsOf(markups):
                    if self.hasObserver(markups, event, self._onPoint):  # not if a panel of before has drawn it
                        self.removeObserver(markups, event, self._onPoint)
                slicer.mrmlScene.RemoveNode(markups)

    def _onPoint(self, _caller, _event):
        self._onMoved()


_CLASSES = {"landmarks": "vtkMRMLMarkupsFiducialNode", "length": "vtkMRMLMarkupsLineNode"}


def _eventsOf(markups):
    return markups.PointModifiedEvent, markups.PointRemovedEvent


def _nameOf(slot, kind):
    return f"Diff2CT {slot} {kind}"


def _dress(display, slot):
    display.SetSelectedColor(*_COLORS[slot])
    display.SetColor(*_COLORS[slot])
    display.SetPropertiesLabelVisibility(False)  # of a line, its length on the detector
    display.SetSnapMode(display.SnapModeUnconstrained)


def _showInView(display, slot):
    """In the view of its X-ray alone."""
    logic = Layout.sliceLogic(Layout.XRAY_VIEWS[slot])
    if logic is not None and not display.IsViewNodeIDPresent(logic.GetSliceNode().GetID()):
        display.AddViewNodeID(logic.GetSliceNode().GetID())


def _pixelsOf(markups, beam):
    """(N, 2): (row, column) of the points of a markups node on an X-ray."""
    points = slicer.util.arrayFromMarkupsControlPoints(markups).reshape(-1, 3)
    homogeneous = np.hstack([points, np.ones((len(points), 1))])
    return (homogeneous @ np.linalg.inv(SceneBridge.imageToRas(beam)).T)[:, [1, 0]]


def _atHeightOf(ap, inAp, lateral):
    """(row, column) in the lateral X-ray at the height of a point of the AP one, half way from left to right."""
    _columnAxis, rowAxis = ap.detector_axes
    height = ap.isocenter_lps[2] + (inAp[0] - ap.principal_point[0]) * ap.patient_spacing_mm[0] * rowAxis[2]
    row, _column = lateral.project_points([*lateral.isocenter_lps[:2], height])
    rows, columns = lateral.detector_size
    return np.array([np.clip(row, 0, rows - 1), (columns - 1) / 2])
