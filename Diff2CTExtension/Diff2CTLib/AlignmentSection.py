"""The section Alignment preview: do the two X-rays, and a CT if there is one, lie where the geometry says?"""

import math
import time

from slicer.i18n import tr as _

from Diff2CTLib import AlignmentPreview, Dependencies, Layout, Pose, Profiles, SceneBridge, Timing, XrayChecks, XrayViews
from Diff2CTLib.AlignmentScene import AlignmentScene
from Diff2CTLib.ParameterNode import PreviewMode

SLOTS = AlignmentPreview.SLOTS
_LEAST_SHARE = 0.05  # of an alignment, done while it was watched, that tells how long the rest takes


class AlignmentSection:
    """panel: the `Widget`."""

    def __init__(self, panel):
        self._panel, self.ui, self.logic = panel, panel.ui, panel.logic
        self.scene = AlignmentScene()
        self._isUpdating = False
        self._profileKey = None
        self._profileSentence = ""
        self._last = None, None, None  # CT, the transform that it is under, and the chosen one, at the last update
        self._registered = "", None  # what became of the last alignment, and where CT and X-rays were then
        self._asked = None  # a token of the last alignment whose end is to be told
        self._progress = None  # of the one that is going on: share done at the first word of it, share now, seconds between
        self._isTurned = True  # whether the 3D view looks at the whole scene since its layout was last asked for
        self.ui.alignmentLayoutButton.connect("clicked(bool)", self.onShow)
        self.ui.resetPoseButton.connect("clicked(bool)", self.onResetPose)
        self.ui.centerPoseButton.connect("clicked(bool)", self.onCenterPose)
        self.ui.registerButton.connect("clicked(bool)", self.onRegister)
        self.ui.undoRegisterButton.connect("clicked(bool)", self.onUndoRegister)
        self._sliders = [getattr(self.ui, f"pose{name}Slider") for name in Pose.NAMES]
        self._reaches = [slider.maximum for slider in self._sliders]
        for index, slider in enumerate(self._sliders):
            slider.connect("valueChanged(double)", self._onPose(index))

    def onShow(self):
        Layout.show(Layout.ALIGNMENT_LAYOUT)
        self._isTurned = False
        self._profileKey = None  # the plot view is there only now
        self._panel.updateSoon()

    def onResetPose(self):
        Pose.reset(self._panel.parameterNode.poseNode)

    def onCenterPose(self):
        """The middle of the CT to the isocentre; its turn stays."""
        parameterNode = self._panel.parameterNode
        shift = self._center(parameterNode) - SceneBridge.middleRas(parameterNode.previewNode)
        self._move(dict(enumerate(shift.tolist())))

    def onRegister(self):
        """Move the CT to where the X-rays show it; a second click stops that."""
        if self.logic.isRegistering:
            self.logic.cancelRegistration()
            self._panel.updateSoon()
            return
        parameterNode = self._panel.parameterNode
        ct, nodes = parameterNode.previewNode, (parameterNode.apNode, parameterNode.lateralNode)
        self._registered, self._progress = ("", None), None
        self._asked = asked = object()
        begun = None

        def onProgress(share):
            nonlocal begun
            now = time.monotonic()
            begun = begun or (share, now)  # the preparation, which has no word of its own, is part of the first share
            first, started = begun
            self._progress = first, share, now - started
            self._showProgress()

        def done(registration, error):
            if self._asked is not asked:  # the scene was closed, or this one was stopped and another one started
                return
            self._progress = None
            if registration is None:
                self._registered = XrayChecks.inWords(error), None
            else:
                self._registered = _registrationInWords(registration), _placeOf(ct, nodes)
            self._panel.updateSoon()

        self.logic.registerCt(ct, list(filter(SceneBridge.isXray, nodes)), wait=False, onDone=done, onProgress=onProgress)
        self._panel.updateSoon()

    def onUndoRegister(self):
        """The CT back to where it was before it was aligned."""
        parameterNode = self._panel.parameterNode
        ct, nodes = parameterNode.previewNode, (parameterNode.apNode, parameterNode.lateralNode)
        try:
            self.logic.undoRegistration(ct)
        except (ValueError, RuntimeError) as error:  # what the button does not show yet has changed
            self._registered = str(error), None
        else:
            self._registered = _("The CT is back where it was before it was aligned."), _placeOf(ct, nodes)
        self._panel.updateSoon()

    def reset(self):
        """Forget the scene, after it was closed."""
        self._registered, self._asked, self._progress = ("", None), None, None
        self.scene.reset()
        self._profileKey, self._profileSentence = None, ""
        self._last = None, None, None

    def update(self, parameterNode):
        nodes = {"ap": parameterNode.apNode, "lateral": parameterNode.lateralNode}
        nodes = {slot: node if SceneBridge.isXray(node) else None for slot, node in nodes.items()}
        ct = parameterNode.previewNode
        self._placeCt(parameterNode)
        self._fillPose(parameterNode)
        self.scene.update(nodes, parameterNode.shownIn3D)
        self._isTurned = self._isTurned or self.scene.look(nodes)
        canProject = ct is not None and not Dependencies.missing()
        self._panel.preview.show(ct if canProject else None, nodes, parameterNode.previewMode)
        self.updatePictures(parameterNode)
        if all(nodes.values()):
            self._checkSharedAxis(nodes)
        self._fillRegistration(parameterNode, nodes, canProject)
        self._say(ct, nodes, canProject)

    def updatePictures(self, parameterNode):
        """Put X-rays and DRRs into their views."""
        isBlend = parameterNode.previewMode is PreviewMode.BLEND
        self.ui.blendSlider.enabled = isBlend
        for slot, node in (("ap", parameterNode.apNode), ("lateral", parameterNode.lateralNode)):
            foreground = self._panel.preview.foreground(slot, create=False)
            XrayViews.show(slot, node, foreground, parameterNode.blend / 100 if isBlend else 1.0)

    def onDrr(self):
        """A new DRR has arrived."""
        parameterNode = self._panel.parameterNode
        if parameterNode is not None:
            self.updatePictures(parameterNode)
            nodes = {"ap": parameterNode.apNode, "lateral": parameterNode.lateralNode}
            self._say(parameterNode.previewNode, nodes, True)

    def _onPose(self, index):
        def onPose(value):
            parameterNode = self._panel.parameterNode
            if not self._isUpdating and parameterNode is not None and parameterNode.previewNode is not None:
                self._move({index: value})

        return onPose

    def _move(self, changed):
        """Write some of the six values, {index: value}, and leave the others exactly as they are. A transform of another module
        stays: the CT gets a pose of its own under it."""
        parameterNode = self._panel.parameterNode
        self._placeCt(parameterNode)
        if not self._isMovable(parameterNode):
            return
        Pose.ofCt(parameterNode.previewNode)
        self._placeCt(parameterNode)
        center = self._center(parameterNode)
        values = Pose.read(parameterNode.poseNode, center)
        for index, value in changed.items():
            values[index] = value
        Pose.write(parameterNode.poseNode, values, center)
        self._panel.updateSoon()

    def _placeCt(self, parameterNode):
        """The CT under the chosen transform, or the transform that the CT has chosen: what changed last counts."""
        ct, pose = parameterNode.previewNode, parameterNode.poseNode
        lastCt, lastOwn, lastPose = self._last
        if ct is None:
            self._last = None, None, lastPose  # a pose that is chosen before its CT is a change then
            return
        own = ct.GetParentTransformNode()
        before = lastOwn if ct is lastCt else None
        if own is before and pose is not lastPose:
            ct.SetAndObserveTransformNodeID(pose.GetID() if pose is not None else None)
        elif own is not before or ct is not lastCt:  # another CT, or another module has moved it
            isLinear = own is not None and own.IsA("vtkMRMLLinearTransformNode")
            pose = parameterNode.poseNode = own if isLinear else None
        self._last = ct, ct.GetParentTransformNode(), pose

    def _isMovable(self, parameterNode):
        """Whether the sliders can say where the CT is."""
        ct = parameterNode.previewNode
        own = ct.GetParentTransformNode() if ct is not None else None
        return ct is not None and ct.GetImageData() is not None and (own is None or Pose.isPlain(own))

    def _fillPose(self, parameterNode):
        ct, node, isMovable = parameterNode.previewNode, parameterNode.poseNode, self._isMovable(parameterNode)
        isPosed = isMovable and node is not None
        values = Pose.read(node, self._center(parameterNode)) if isPosed else [0.0] * 6
        self._isUpdating = True
        try:
            for slider, value, reach in zip(self._sliders, values, self._reaches, strict=True):
                slider.enabled = isMovable
                if not slider.minimum - 0.1 < value < slider.maximum + 0.1:  # a CT from afar: the range goes along
                    slider.minimum, slider.maximum = value - reach, value + reach
                if abs(slider.value - value) > 1e-3:
                    slider.value = value
        finally:
            self._isUpdating = False
        self.ui.centerPoseButton.enabled = isMovable
        self.ui.resetPoseButton.enabled = isPosed and Pose.isOwn(node) and Pose.isMoved(node)
        own = ct.GetParentTransformNode() if ct is not None else None
        words = _("{name} is not a rigid transform, so only the module Transforms can change it.")
        self.ui.poseLabel.text = words.format(name=own.GetName()) if own is not None and not isMovable else ""
        self.ui.poseLabel.visible = bool(self.ui.poseLabel.text)

    def _fillRegistration(self, parameterNode, nodes, canProject):
        isRunning = self.logic.isRegistering
        self.ui.registerButton.text = _("Stop aligning") if isRunning else _("Align CT with X-rays")
        self.ui.registerButton.enabled = isRunning or (canProject and any(nodes.values()) and self._isMovable(parameterNode))
        ct = parameterNode.previewNode
        self.ui.undoRegisterButton.enabled = not isRunning and ct is not None and self.logic.canUndoRegistration(ct)
        sentence, place = self._registered
        if sentence:
            now = _placeOf(parameterNode.previewNode, (parameterNode.apNode, parameterNode.lateralNode))
            isOld = place is not None and place != now  # why there is no alignment has no place before it is shown
            sentence, _place = self._registered = ("", None) if isOld else (sentence, now)
        self.ui.registerLabel.text = sentence
        self.ui.registerProgressBar.visible = isRunning
        if isRunning:
            self._showProgress()
        self.ui.registerLabel.visible = bool(self.ui.registerLabel.text)

    def _showProgress(self):
        """In bar and words: how far an alignment is."""
        words = _("Aligning the CT with the X-rays...")
        if self._progress is None:  # it begins, or a script has started it
            self.ui.registerProgressBar.setRange(0, 0)  # moves without a value
        else:
            first, share, elapsed = self._progress
            self.ui.registerProgressBar.setRange(0, 100)
            self.ui.registerProgressBar.value = round(100 * share)
            if share - first > _LEAST_SHARE:
                remaining = elapsed * (1 - share) / (share - first)
                words = _("Aligning the CT with the X-rays, {elapsed} elapsed, {remaining} remaining").format(
                    elapsed=Timing.inWords(elapsed), remaining=Timing.inWords(remaining)
                )
        self.ui.registerLabel.text = words

    def _center(self, parameterNode):
        """(3,) RAS point about which the CT turns."""
        return SceneBridge.centerRas(filter(SceneBridge.isXray, (parameterNode.apNode, parameterNode.lateralNode)))

    def _checkSharedAxis(self, nodes):
        pair = [self._panel.smallXrays.get(nodes[slot]).radiograph for slot in SLOTS]
        key = tuple((node.GetImageData().GetMTime(), SceneBridge.geometryOf(node)) for node in nodes.values())
        if key != self._profileKey:
            self._profileKey = key
            self._profileSentence = Profiles.sentence(*pair)
            Profiles.plot(*pair)

    def _say(self, ct, nodes, canProject):
        self.ui.sharedAxisLabel.text = self._profileSentence if all(nodes.values()) else ""
        self.ui.sharedAxisLabel.visible = all(node is not None for node in nodes.values())
        preview = self._panel.preview
        words = {"ap": _("AP"), "lateral": _("lateral")}
        if not any(nodes.values()):
            state, text = _("waiting for X-rays"), _("Load X-rays first.")
        elif ct is None:
            state = _("heights compared") if all(nodes.values()) else _("waiting for the second X-ray")
            text = _("Choose a CT, if there is one, to compare it with the X-rays.")
        elif not canProject:
            state, text = _("PyTorch is missing"), _("The comparison needs PyTorch: install it in the section Reconstruction.")
        elif preview.message:
            state, text = _("no comparison"), preview.message
        else:
            agreements = [
                f"{words[slot]} {AlignmentPreview.agreementInWords(preview.agreement(slot))}"
                for slot in SLOTS
                if nodes[slot] is not None and preview.hasDrr(slot)
            ]
            state = _("agreement {values}").format(values=", ".join(agreements)) if agreements else _("comparing the CT")
            text = _("Agreement of edges (1 is perfect): {values}").format(values=", ".join(agreements) or "...")
            if any(preview.hasDrr(slot) and math.isnan(preview.agreement(slot)) for slot in SLOTS):
                text += ". " + _("Align CT with X-rays brings it there.")
        self.ui.agreementLabel.text = text
        self.ui.alignmentSection.text = _("Alignment preview: {state}").format(state=state)


def _placeOf(ct, nodes):
    """Where a CT and the X-rays are."""
    own = ct.GetParentTransformNode() if ct is not None else None
    isLinear = own is not None and own.IsTransformToWorldLinear()
    beams = [SceneBridge.geometryOf(node) for node in nodes if SceneBridge.isXray(node)]
    return ct, nodes, beams, Pose.matrixOf(own).tolist() if isLinear else own


def _registrationInWords(registration):
    from diff2ct.overlay import DOUBTFUL_RIVAL, LEAST_AGREEMENT

    if registration.shiftMm < 0.05 and registration.turnDeg < 0.05:
        said = _("The CT stays: no better place was found.")
    else:
        said = _("The CT was moved by {mm:.1f} mm and turned by {degrees:.1f} degrees in {seconds:.0f} s.").format(
            mm=registration.shiftMm, degrees=registration.turnDeg, seconds=registration.seconds
        )
    if registration.rival > DOUBTFUL_RIVAL:
        said += " " + _(
            "Another place fits nearly as well, such as a vertebra higher or lower: look at the edges before you rely on it."
        )
    elif not min(registration.after) >= LEAST_AGREEMENT:
        said += " " + _("X-ray and CT still differ: look at the edges before you rely on it.")
    elif len(registration.after) == 1:
        said += " " + _("One X-ray hardly tells how far the CT is from its source.")
    return said
