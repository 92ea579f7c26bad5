"""The section Alignment preview: do the two X-rays, and a CT if there is one, lie where the geometry says?"""

import numpy as np
from slicer.i18n import tr as _

from Diff2CTLib import AlignmentPreview, Dependencies, Layout, Pose, Profiles, SceneBridge, XrayViews
from Diff2CTLib.AlignmentScene import AlignmentScene
from Diff2CTLib.ParameterNode import PreviewMode

SLOTS = AlignmentPreview.SLOTS


class AlignmentSection:
    """panel: the `Widget`."""

    def __init__(self, panel):
        self._panel, self.ui, self.logic = panel, panel.ui, panel.logic
        self.scene = AlignmentScene()
        self._isUpdating = False
        self._profileKey = None
        self._profileSentence = ""
        self._lastCt = None
        self._isTurned = True  # whether the 3D view looks at the whole scene since its layout was last asked for
        self.ui.alignmentLayoutButton.connect("clicked(bool)", self.onShow)
        self.ui.resetPoseButton.connect("clicked(bool)", self.onResetPose)
        self._sliders = [getattr(self.ui, f"pose{name}Slider") for name in Pose.NAMES]
        for slider in self._sliders:
            slider.connect("valueChanged(double)", self.onPose)

    def onShow(self):
        Layout.show(Layout.ALIGNMENT_LAYOUT)
        self._isTurned = False
        self._profileKey = None  # the plot view is there only now
        self._panel.updateSoon()

    def onPose(self, _value):
        """A slider moved: write the pose, making the transform node if there is none yet."""
        parameterNode = self._panel.parameterNode
        if self._isUpdating or parameterNode is None or parameterNode.previewNode is None:
            return
        node = parameterNode.poseNode or Pose.addNode()
        Pose.write(node, [slider.value for slider in self._sliders], self._center(parameterNode))
        if parameterNode.poseNode is not node:
            parameterNode.poseNode = node
        self._panel.updateSoon()

    def onResetPose(self):
        node = self._panel.parameterNode.poseNode
        if node is not None:
            Pose.write(node, [0.0] * 6, self._center(self._panel.parameterNode))

    def reset(self):
        """Forget the scene, after it was closed."""
        self.scene.reset()
        self._profileKey, self._profileSentence, self._lastCt = None, "", None

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

    def _placeCt(self, parameterNode):
        """A CT that is chosen brings its own pose; after that, the chosen transform node moves it."""
        ct = parameterNode.previewNode
        if ct is None:
            self._lastCt = None
            return
        own = ct.GetParentTransformNode()
        if ct is not self._lastCt:
            isFirst, self._lastCt = self._lastCt is None, ct
            if own is not None and own.IsA("vtkMRMLLinearTransformNode"):
                parameterNode.poseNode = own
            elif not isFirst:  # the first one, of a scene just opened, keeps the pose that was saved with it
                parameterNode.poseNode = None
        elif parameterNode.poseNode is not own:
            pose = parameterNode.poseNode
            ct.SetAndObserveTransformNodeID(pose.GetID() if pose is not None else None)

    def _fillPose(self, parameterNode):
        values = [0.0] * 6
        if parameterNode.poseNode is not None:
            values = Pose.read(parameterNode.poseNode, self._center(parameterNode))
        self._isUpdating = True
        try:
            for slider, value in zip(self._sliders, values, strict=True):
                slider.enabled = parameterNode.previewNode is not None
                if abs(slider.value - value) > 1e-3:
                    slider.value = value
        finally:
            self._isUpdating = False
        self.ui.resetPoseButton.enabled = any(abs(value) > 1e-6 for value in values)

    def _center(self, parameterNode):
        """(3,) RAS point about which the CT turns: the isocentre."""
        centers = [
            SceneBridge.rasFromLps(SceneBridge.geometryOf(node).isocenter_lps)
            for node in (parameterNode.apNode, parameterNode.lateralNode)
            if SceneBridge.isXray(node)
        ]
        return np.mean(centers, axis=0) if centers else np.zeros(3)

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
            state = _("shared axis checked") if all(nodes.values()) else _("waiting for the second X-ray")
            text = _("Choose a CT to lay its DRR over the X-rays.")
        elif not canProject:
            state, text = _("PyTorch is missing"), _("DRRs need PyTorch, see the section Reconstruction.")
        elif preview.message:
            state, text = _("no DRR"), preview.message
        else:
            agreements = [
                f"{words[slot]} {AlignmentPreview.agreementInWords(preview.agreement(slot))}"
                for slot in SLOTS
                if nodes[slot] is not None and preview.hasDrr(slot)
            ]
            state = _("agreement {values}").format(values=", ".join(agreements)) if agreements else _("computing the DRR")
            text = _("Agreement of edges (1 is perfect): {values}").format(values=", ".join(agreements) or "...")
        self.ui.agreementLabel.text = text
        self.ui.alignmentSection.text = _("Alignment preview: {state}").format(state=state)
