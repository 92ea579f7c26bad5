"""The section Measure in the X-rays: landmarks bring both to the same height and size, a known length gives the pixel size."""

import math

import numpy as np
from slicer.i18n import tr as _

from Diff2CTLib import Layout, SceneBridge, XrayChecks
from Diff2CTLib.Marks import SLOTS, Marks

_LEAST_PIXELS = 5.0  # of a line that tells a length


class MeasureSection:
    """panel: the `Widget`."""

    def __init__(self, panel):
        self._panel, self.ui, self.logic = panel, panel.ui, panel.logic
        self.marks = Marks(lambda: panel.updateSoon("measureSection"))  # no more, as it is called for each step of a drag
        self._said = ""  # what became of the last click, until a landmark or the geometry changes
        self._saidOf = None  # what these were
        self.ui.addLandmarkButton.connect("clicked(bool)", self.onAdd)
        self.ui.matchButton.connect("clicked(bool)", self.onMatch)
        self.ui.removeLandmarksButton.connect("clicked(bool)", self.onRemove)
        for slot in SLOTS:
            self._widget(slot, "LineButton").connect("toggled(bool)", self._onLine(slot))
            self._widget(slot, "SetLengthButton").connect("clicked(bool)", self._onLength(slot))

    def reset(self):
        """Forget the scene, after it was closed."""
        self.marks.reset()
        self._said, self._saidOf = "", None

    def release(self):
        """The panel goes away."""
        self.marks.removeObservers()

    def onAdd(self):
        self._showViews()
        self.marks.update(self._nodes())  # a point may have been dragged just now
        self.marks.addLandmark(self._nodes())
        self._panel.updateSoon()

    def onMatch(self):
        nodes = self._nodes()
        self.marks.update(nodes)
        landmarks = self.marks.landmarks()
        try:
            match = self.logic.matchLandmarks(*(nodes[slot] for slot in SLOTS), *(landmarks[slot] for slot in SLOTS))
        except ValueError as error:
            self._say(XrayChecks.inWords(str(error)))
            return
        self._say(_matchInWords(match))

    def onRemove(self):
        self.marks.removeLandmarks()
        self._panel.updateSoon()

    def update(self, parameterNode):
        self.ui.measureSection.text = _("Measure in the X-rays")  # also after an error
        nodes = {slot: getattr(parameterNode, f"{slot}Node") for slot in SLOTS}
        nodes = {slot: node if SceneBridge.isXray(node) else None for slot, node in nodes.items()}
        self.marks.update(nodes)
        landmarks, hasBoth = self.marks.landmarks(), all(nodes.values())
        isUsable = hasBoth and len(landmarks["ap"]) > 0 and all(_isInside(nodes[slot], landmarks[slot]) for slot in SLOTS)
        if self._said and not _same(self._saidOf, self._state(nodes)):
            self._said = ""
        self.ui.addLandmarkButton.enabled = hasBoth
        self.ui.matchButton.enabled = isUsable
        self.ui.removeLandmarksButton.enabled = len(landmarks["ap"]) > 0
        self.ui.landmarksLabel.text = self._said or self._landmarksInWords(nodes, landmarks)
        for slot in SLOTS:
            self._fillLine(slot, nodes[slot])

    def _fillLine(self, slot, node):
        ends = self.marks.line(slot)
        button, length = self._widget(slot, "LineButton"), self._widget(slot, "Length")
        button.enabled = node is not None
        button.checked = length.enabled = ends is not None
        isInside = ends is not None and _isInside(node, ends)
        self._widget(slot, "SetLengthButton").enabled = isInside and _tellsLength(node, ends)
        now = (
            _("now {mm:.1f} mm").format(mm=_lengthMm(SceneBridge.geometryOf(node), ends)) if isInside else _("not in the X-ray")
        )
        self._widget(slot, "LengthLabel").text = now if ends is not None else ""

    def _landmarksInWords(self, nodes, landmarks):
        if not all(nodes.values()):
            return _("Load both X-rays first.")
        count = len(landmarks["ap"])
        if count == 0:
            return _("Add a landmark and drag its two points onto the same structure, such as the edge of one vertebra.")
        if not all(_isInside(nodes[slot], landmarks[slot]) for slot in SLOTS):
            return _("A landmark lies outside of its X-ray.")
        from diff2ct.landmarks import height_gap_mm

        try:
            gap = height_gap_mm(*(SceneBridge.geometryOf(nodes[slot]) for slot in SLOTS), *(landmarks[slot] for slot in SLOTS))
        except ValueError as error:
            return XrayChecks.inWords(str(error))
        counted = _("1 landmark") if count == 1 else _("{count} landmarks").format(count=count)
        return _("{landmarks}: the heights in both X-rays differ by {mm:.1f} mm.").format(landmarks=counted, mm=gap)

    def _onLine(self, slot):
        def onLine(isWanted):
            if isWanted == (self.marks.line(slot) is not None):
                return  # set by `update`
            if isWanted:
                self._showViews()
                self.marks.update(self._nodes())
                self.marks.showLine(slot, self._nodes()[slot])
            else:
                self.marks.removeLine(slot)
            self._panel.updateSoon()

        return onLine

    def _onLength(self, slot):
        def onLength(_checked):
            self._panel.updateSoon()
            self.marks.update(self._nodes())
            ends = self.marks.line(slot)
            if ends is None or not _tellsLength(self._nodes()[slot], ends):
                return  # it was dragged or deleted just now
            self.logic.setKnownLength(self._nodes()[slot], ends, self._widget(slot, "Length").value)
            self.marks.removeLine(slot)

        return onLength

    def _say(self, sentence):
        self._said, self._saidOf = sentence, self._state(self._nodes())
        self._panel.updateSoon()

    def _state(self, nodes):
        return self.marks.landmarks(), [SceneBridge.geometryOf(node) for node in nodes.values() if node is not None]

    def _showViews(self):
        if not Layout.isShown(Layout.ALIGNMENT_LAYOUT):
            self._panel.alignmentSection.onShow()

    def _nodes(self):
        parameterNode = self._panel.parameterNode
        return {"ap": parameterNode.apNode, "lateral": parameterNode.lateralNode}

    def _widget(self, slot, name):
        return getattr(self.ui, f"{slot}{name}")


def _matchInWords(match):
    way = _("toward the head") if match.shift_mm >= 0 else _("toward the feet")
    said = _("The {view} X-ray was moved {mm:.1f} mm {way}").format(
        view=_("lateral") if match.moved else _("AP"), mm=abs(match.shift_mm), way=way
    )
    if abs(match.size - 1) >= 0.0005:  # else it would be 1 times
        said += _(", and its pixels were made {size:.3g} times as large").format(size=match.size)
    return _("{said}. The heights in both X-rays now differ by {mm:.1f} mm.").format(said=said, mm=match.after_mm)


def _isInside(node, pixels):
    """Whether the pixel positions (N, 2) lie in the picture of an X-ray."""
    size = np.array(SceneBridge.geometryOf(node).detector_size)
    return bool(((pixels >= -0.5) & (pixels <= size - 0.5)).all())


def _tellsLength(node, ends):
    return _isInside(node, ends) and math.dist(*ends) >= _LEAST_PIXELS


def _lengthMm(beam, ends):
    return float(np.hypot(*((ends[1] - ends[0]) * beam.patient_spacing_mm)))


def _same(one, other):
    """Whether landmarks are where they were, and the geometry what it was."""
    (landmarks, beams), (landmarksNow, beamsNow) = one, other
    pairs = [(landmarks[slot], landmarksNow[slot]) for slot in SLOTS]
    return beams == beamsNow and all(a.shape == b.shape and np.allclose(a, b, atol=0.01) for a, b in pairs)
