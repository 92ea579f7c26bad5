"""The section X-rays: choose, load, see what the geometry is and what is not right with it."""

import logging

import qt
import slicer
from slicer.i18n import tr as _

from Diff2CTLib import Dependencies, SceneBridge, Xray, XrayChecks

SLOTS = ("ap", "lateral")
POLARITIES = ("auto", "bright_dense", "dark_dense")
FRONTAL, LATERAL = ("AP", "PA"), ("LL", "RL")
VIEWS = {"ap": FRONTAL + LATERAL, "lateral": LATERAL + FRONTAL}
NUMBERS = {
    "SourceToDetector": ("source_to_detector_mm", None),
    "SourceToIsocenter": ("source_to_isocenter_mm", None),
    "PixelHeight": ("detector_spacing_mm", 0),
    "PixelWidth": ("detector_spacing_mm", 1),
    "CentralRayRow": ("principal_point", 0),
    "CentralRayColumn": ("principal_point", 1),
    "PrimaryAngle": ("primary_angle_deg", None),
    "SecondaryAngle": ("secondary_angle_deg", None),
    "Roll": ("roll_deg", None),
}
BEAMS = ("cone", "fan")
"""Kinds of beam that can be chosen; parallel rays come from the console only."""

_SHORT_HEIGHT, _LONG_HEIGHT = 40, 120  # pixels of the remarks


class XraySection:
    """panel: the `Widget`, which has ui, logic, parameterNode, smallXrays, showXrays() and updateSoon()."""

    def __init__(self, panel):
        self._panel, self.ui, self.logic = panel, panel.ui, panel.logic
        self._isUpdating = False
        self._toolTips = {}  # (slot, name of a widget) -> what its fact means
        self.reset()
        self.ui.loadButton.connect("clicked(bool)", self.onLoad)
        self.ui.sampleButton.connect("clicked(bool)", self.onSample)
        self.ui.swapButton.connect("clicked(bool)", self.onSwap)
        for slot in SLOTS:
            self._connect(slot)

    def reset(self):
        """Forget the scene, after it was closed."""
        self._errors = {}  # slot, or "" for what was to be loaded -> why there is no X-ray
        self._shown = dict.fromkeys(SLOTS)  # slot -> node
        self._cts = None, None  # ground truth and CT of the preview, as they were chosen at the last load
        self._replaced = set()  # slots whose X-rays have been replaced by a load since those were chosen

    def onLoad(self):
        xrays = _("X-rays ({filter})").format(filter=" ".join(f"*{suffix}" for suffix in Xray.SUFFIXES))
        paths = qt.QFileDialog.getOpenFileNames(
            self._panel.parent,
            _("Load one or two X-rays"),
            "",
            _("All files (*)") + ";;" + xrays,  # on a CD, DICOM has no suffix
        )
        if paths:
            self.load(sorted(paths))  # some dialogs begin with the file that was clicked last

    def load(self, paths):
        """Load X-ray files into the places that their views belong to."""
        self._errors.pop("", None)
        occupied = [slot for slot in SLOTS if self._node(slot) is not None]
        try:
            nodes = self.logic.loadXrays(paths, occupied if len(paths) < 2 else ())
        except (ValueError, RuntimeError) as error:
            self._say("", str(error))
            return
        loaded = {slot: node for slot, node in zip(SLOTS, nodes, strict=True) if node is not None}
        self._leaveCase(loaded.keys() & occupied)
        for slot, node in loaded.items():
            setattr(self._panel.parameterNode, f"{slot}Node", node)
        self._panel.showXrays()

    def _leaveCase(self, replaced):
        """Once both X-rays are replaced, at once or one after the other, CT and reconstruction are deselected: else the next
        patient would be compared with the CT of the last.
        """
        parameterNode = self._panel.parameterNode
        cts = parameterNode.truthNode, parameterNode.previewNode
        if cts != self._cts:
            self._cts, self._replaced = cts, set()
        self._replaced |= replaced
        if self._replaced != {*SLOTS}:
            return
        self._replaced = set()
        if any(node is not None for node in (*cts, parameterNode.reconstructionNode)):
            words = _("Other X-rays: CT and reconstruction of the previous ones are deselected, they stay in the scene.")
            slicer.util.showStatusMessage(words, 10000)
        parameterNode.truthNode = parameterNode.previewNode = parameterNode.reconstructionNode = None

    def onSample(self):
        self._errors.pop("", None)
        self.ui.sampleButton.enabled = False
        try:
            with slicer.util.WaitCursor():
                Dependencies.install()  # asks; does nothing if all is there
                ap, lateral, ct = self.logic.loadSample()
        except (ValueError, RuntimeError, OSError) as error:
            self._say("", str(error))
            return
        finally:
            self.ui.sampleButton.enabled = True
        parameterNode = self.logic.getParameterNode()  # the panel may have been left while packages were installed
        parameterNode.apNode, parameterNode.lateralNode = ap, lateral
        parameterNode.reconstructionNode = None  # of another patient, not to be compared with this CT
        parameterNode.previewNode = parameterNode.truthNode = ct
        self._panel.showXrays()

    def onSwap(self):
        parameterNode = self._panel.parameterNode
        parameterNode.apNode, parameterNode.lateralNode = parameterNode.lateralNode, parameterNode.apNode

    def update(self, parameterNode):
        """Bring every widget in line with the X-ray nodes; a node that is no X-ray is taken out, so the other sections are
        left with those that are.
        """
        xrays, found = {}, []
        try:
            self.logic.placeXrays(parameterNode.apNode, parameterNode.lateralNode)
        except ValueError as error:
            found.append(str(error))
        self._isUpdating = True
        try:
            for slot in SLOTS:
                xrays[slot] = self._xray(parameterNode, slot)
                self._fill(slot, xrays[slot])
        finally:
            self._isUpdating = False
        self.ui.swapButton.enabled = any(xray is not None for xray in xrays.values())
        self._showChecks(xrays, found)

    def _xray(self, parameterNode, slot):
        """A small copy of the X-ray chosen for `slot`, None if there is none. A volume that another module loaded becomes an
        X-ray of ours, in a node of its own.
        """
        field = f"{slot}Node"
        node, xray = getattr(parameterNode, field), None
        if node is not None and node is not self._shown[slot]:
            for old in (slot, ""):
                self._errors.pop(old, None)
        try:
            if node is not None and not SceneBridge.isXray(node):
                node = self.logic.adoptXray(node, slot)
                setattr(parameterNode, field, node)
            if node is not None:
                xray = self._panel.smallXrays.get(node)
        except (ValueError, OSError) as error:
            self._errors[slot], node = str(error), None
            setattr(parameterNode, field, None)
        self._shown[slot] = node
        return xray

    def _showChecks(self, xrays, found):
        """found: sentences that are known already."""
        words = {"ap": _("AP"), "lateral": _("Lateral")}
        present = [slot for slot in SLOTS if xrays[slot] is not None]
        beams = {slot: SceneBridge.geometryOf(self._node(slot)) for slot in present}
        for slot in present:
            found += XrayChecks.checkOne(xrays[slot], words[slot], beams[slot])
        if len(present) == 2:
            found += XrayChecks.checkPair(*(xrays[slot].radiograph for slot in SLOTS), tuple(beams.values()))
        found += XrayChecks.assumedWords({words[slot]: xrays[slot] for slot in present})
        lines = [self._errors[slot] for slot in ("", *SLOTS) if slot in self._errors] + found
        lines = [XrayChecks.inWords(line) for line in lines]
        remarks = len(lines)
        if not lines:
            fit = _("No contradiction found between the two X-rays.")
            lines = [fit if len(present) == 2 else _("Load an AP and a lateral X-ray, or try it out with Sample data.")]
        self.ui.checksTextEdit.plainText = "\n".join(f"- {line}" if len(lines) > 1 else line for line in lines)
        self.ui.checksTextEdit.setFixedHeight(_LONG_HEIGHT if remarks else _SHORT_HEIGHT)
        assumed = sum(len(xrays[slot].radiograph.assumed) for slot in present)
        state = {
            0: _("none yet"),
            1: _("{view} only").format(view=words[present[0]] if present else ""),
            2: _("{count} remarks").format(count=remarks) if remarks > 1 else _("1 remark") if remarks else _("fit"),
        }[len(present)]
        self.ui.xraySection.text = _("X-rays: {state}").format(state=state)
        self.ui.assumedLabel.visible = assumed > 0
        known = _("all values known") if not assumed else _("{count} values assumed").format(count=assumed)
        self.ui.geometrySection.text = _("Geometry: {state}").format(state=known if present else _("no X-ray"))

    def _say(self, slot, sentence):
        self._errors[slot] = sentence
        logging.warning(f"Diff2CT: {sentence}")
        self._panel.updateSoon()

    # --- the columns of the geometry table ---

    def _widget(self, slot, name):
        return getattr(self.ui, f"{slot}{name}")

    def _connect(self, slot):
        view, beam, polarity = (self._widget(slot, name) for name in ("View", "Beam", "Polarity"))
        view.addItems(list(VIEWS[slot]))
        beam.addItems([_("Cone"), _("Fan (EOS)")])
        polarity.addItems([_("From the file"), _("Bone bright"), _("Bone dark")])
        for name, (field, index) in NUMBERS.items():
            self._widget(slot, name).connect("valueChanged(double)", self._onNumber(slot, field, index))
            self._widget(slot, name).connect("editingFinished()", self._onFinished(slot, name, field, index))
        view.connect("currentIndexChanged(int)", lambda index: self._edit(slot, view=VIEWS[slot][index]))
        view.connect("activated(int)", lambda index: self._onView(slot, VIEWS[slot][index]))
        beam.connect("currentIndexChanged(int)", lambda index: self._edit(slot, kind=BEAMS[index]))
        polarity.connect("currentIndexChanged(int)", lambda index: self._reread(slot, polarity=POLARITIES[index]))
        self._widget(slot, "Frame").connect("valueChanged(int)", lambda value: self._reread(slot, frame=value - 1))
        for name, leftRight in (("FlipLeftRight", True), ("FlipUpDown", False)):
            self._widget(slot, name).connect("clicked(bool)", self._onFlip(slot, leftRight))
        self._widget(slot, "AsInFile").connect("clicked(bool)", lambda _checked: self._change(self.logic.restoreXray, slot))
        for name in (*NUMBERS, "View", "Beam"):
            self._toolTips[slot, name] = self._widget(slot, name).toolTip

    def _onNumber(self, slot, field, index):
        def onNumber(value):
            if self._isUpdating:
                return
            if index is not None:
                values = list(getattr(SceneBridge.geometryOf(self._node(slot)), field))
                values[index] = value
                value = tuple(values)
            self._edit(slot, **{field: value})

        return onNumber

    def _onFinished(self, slot, name, field, index):
        """Enter confirms what is assumed; neither leaving a field, nor a menu, nor a value that was refused does."""
        widget = self._widget(slot, name)

        def onFinished():
            if not widget.focus or qt.QApplication.activePopupWidget() is not None:
                return
            stored = getattr(SceneBridge.geometryOf(self._node(slot)), field)
            if abs(widget.value - (stored if index is None else stored[index])) < 10**-widget.decimals:
                self._confirm(slot, field, stored)

        return onFinished

    def _onView(self, slot, word):
        """The view that is shown, chosen once more, is confirmed."""
        if SceneBridge.geometryOf(self._node(slot)).view.value == word:
            self._confirm(slot, "view", word)

    def _confirm(self, slot, field, stored):
        if field in SceneBridge.assumedOf(self._node(slot)):
            self._edit(slot, **{field: stored})

    def _onFlip(self, slot, leftRight):
        return lambda _checked: self._change(lambda node: self.logic.flipXray(node, leftRight), slot)

    def _edit(self, slot, **fields):
        if not self._isUpdating:
            self._change(lambda node: self.logic.editXray(node, **fields), slot)

    def _reread(self, slot, **options):
        if not self._isUpdating:
            self._change(lambda node: self.logic.rereadXray(node, **options), slot)

    def _change(self, change, slot):
        self._errors.pop(slot, None)
        try:
            change(self._node(slot))
        except ValueError as error:
            self._say(slot, str(error))
        self._panel.updateSoon()

    def _node(self, slot):
        """Also after exit(): a field gives its number away when it is hidden, which is later."""
        parameterNode = self._panel.parameterNode or self.logic.getParameterNode()
        return getattr(parameterNode, f"{slot}Node")

    def _fill(self, slot, xray):
        names = (*NUMBERS, "View", "Beam", "Polarity", "Frame", "FlipLeftRight", "FlipUpDown", "AsInFile")
        for name in names:
            self._widget(slot, name).enabled = xray is not None
        if xray is None:
            return
        beam, assumed = SceneBridge.geometryOf(self._node(slot)), xray.radiograph.assumed
        told = Xray.overtyped(beam, xray)
        self._widget(slot, "AsInFile").enabled = bool(told)
        for name, (field, index) in NUMBERS.items():
            widget = self._widget(slot, name)
            value = getattr(beam, field, None)
            widget.enabled = value is not None and not (beam.KIND == "fan" and field in ("secondary_angle_deg", "roll_deg"))
            read = told.get(field, value)
            if value is not None and index is not None:
                value, read = value[index], read[index]
            unit = XrayChecks.unitOf(field)
            if not _isTypedInto(widget, widget.textFromValue(widget.value)):
                if value is not None:
                    widget.value = value
                widget.suffix = f" {unit} *" if field in assumed else f" {unit}"
            self._tellFile(slot, name, f"{read:.{widget.decimals}f} {unit}" if read != value else None)
        view = self._widget(slot, "View")
        view.currentIndex = VIEWS[slot].index(beam.view.value)
        for index, word in enumerate(VIEWS[slot]):
            isAssumed = index == view.currentIndex and "view" in assumed
            view.setItemText(index, f"{word} *" if isAssumed else word)
        readView = xray.readGeometry.view
        self._tellFile(slot, "View", readView.value if "primary_angle_deg" in told and readView != beam.view else None)
        self._tellFile(slot, "Beam", told.get("kind"))
        kind = self._widget(slot, "Beam")
        kind.enabled = beam.KIND in BEAMS
        kind.currentIndex = BEAMS.index(beam.KIND) if kind.enabled else -1
        polarity = self._widget(slot, "Polarity")
        polarity.currentIndex = POLARITIES.index(xray.polarity)
        automatic = _("Automatic") if polarity.currentIndex else _("From the file")  # where it may not be
        polarity.setItemText(0, _("Automatic *") if "polarity" in assumed else automatic)
        polarity.enabled = bool(xray.path) and not xray.radiograph.scale_known
        frame = self._widget(slot, "Frame")
        frame.enabled = xray.frames > 1
        if not _isTypedInto(frame, str(frame.value)):
            frame.maximum = xray.frames
            frame.suffix = _(" of {frames}").format(frames=xray.frames)
            frame.value = xray.frame + 1
        self._widget(slot, "FlipLeftRight").checked = xray.flippedLeftRight
        self._widget(slot, "FlipUpDown").checked = xray.flippedUpDown

    def _tellFile(self, slot, name, said):
        """Add to the tooltip of a field what the file says there, unless that is None."""
        toolTip = self._toolTips[slot, name]
        if said is not None:
            toolTip = _("{toolTip}\nFile: {said}").format(toolTip=toolTip, said=said)
        self._widget(slot, name).toolTip = toolTip


def _isTypedInto(field, taken):
    """Whether somebody is typing a number that the field has not taken yet; `taken` is its value as text. Setting the value or
    the suffix would take that text away.
    """
    return field.focus and field.cleanText != taken
