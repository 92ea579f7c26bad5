"""The section Compare: six views, figures, overlays, bone in 3D, export."""

from pathlib import Path

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from Diff2CTLib import CompareKey, CompareViews, Dependencies, ExportDialog, Layout, SceneBridge, XrayChecks
from Diff2CTLib.ParameterNode import Overlay
from Diff2CTLib.Reconstruction import mapReference, xraysOf

_MAPS = {Overlay.UNCERTAINTY: "sd", Overlay.ERROR: "error", Overlay.SUPPORT: "support"}
_STILL_MS = 400
_LOOK_FROM = (0.48, 0.84, 0.25)  # the patient's front and right, a little from above


class CompareSection:
    """panel: the `Widget`."""

    def __init__(self, panel):
        self._panel, self.ui, self.logic = panel, panel.ui, panel.logic
        self.views = CompareViews.CompareViews()
        self._stillTimer = qt.QTimer()  # figures take the service a while: not for each step of a CT that is being moved
        self._stillTimer.setSingleShot(True)
        self._stillTimer.setInterval(_STILL_MS)
        self._stillTimer.connect("timeout()", panel.updateSoon)
        self.reset()
        self.ui.compareLayoutButton.connect("clicked(bool)", self.onShow)
        self.ui.boneCheckBox.connect("clicked(bool)", self.onBone)
        self.ui.copyButton.connect("clicked(bool)", self.onCopy)
        self.ui.saveTableButton.connect("clicked(bool)", self.onSaveTable)
        self.ui.exportButton.connect("clicked(bool)", self.onExport)
        self.ui.reconstructionSelector.addAttribute("vtkMRMLScalarVolumeNode", SceneBridge.PROVENANCE_ATTRIBUTE)
        table = self.ui.metricsTable
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Region"), _("MAE [HU]"), _("Bias [HU]"), _("Score")])
        self._meanings = _meaningsOfColumns()
        for column, meaning in enumerate(self._meanings):
            table.horizontalHeaderItem(column).setToolTip(meaning)
        table.verticalHeader().hide()
        table.horizontalHeader().setStretchLastSection(True)

    def reset(self):
        """Forget the scene, after it was closed: the next one has nodes with the same IDs."""
        self._key = None  # of `CompareKey`, of what is chosen
        self._asked = None  # an object while figures are being computed
        self._failed = None, ""  # a key, and why it has no figures
        self._comparison = None
        self._isComparisonLeft = False  # for the views with the bone in 3D
        self._stillTimer.stop()
        self.ui.truthSelector.sortFilterProxyModel().hiddenNodeIDs = []
        self._bone = CompareViews.Bone()

    def enter(self):
        """The panel is shown: what failed for want of memory or disk may be tried again."""
        self._failed = None, ""

    def onShow(self):
        parameterNode = self._panel.parameterNode
        Layout.show(Layout.COMPARE_LAYOUT if parameterNode.truthNode is not None else Layout.REVIEW_LAYOUT)
        self._fillViews(parameterNode)
        node = parameterNode.reconstructionNode or parameterNode.truthNode
        if node is not None:
            self.views.center(node)
        self._panel.updateSoon()

    def onResult(self):
        """A run has ended: show its volume, and without a CT to compare with, how far it can be trusted."""
        parameterNode = self._panel.parameterNode
        node = parameterNode.reconstructionNode
        if node is not None and parameterNode.truthNode is None and parameterNode.overlay is Overlay.NONE:
            known = [overlay for overlay in (Overlay.SUPPORT, Overlay.UNCERTAINTY) if _mapNode(node, overlay) is not None]
            parameterNode.overlay = (known or [Overlay.NONE])[0]
        self.onShow()

    def onBone(self, isShown):
        """The six views have no 3D view among them, so show those that have, as long as there is bone to be seen."""
        node = self._panel.parameterNode.reconstructionNode
        if not isShown and self._isComparisonLeft and Layout.isShown(Layout.REVIEW_LAYOUT):
            self.onShow()
        self._isComparisonLeft = isShown and Layout.isShown(Layout.COMPARE_LAYOUT)
        if isShown and node is not None:
            Layout.show(Layout.REVIEW_LAYOUT)
            self._fillViews(self._panel.parameterNode)
            self.views.center(node)
            bounds = [0.0] * 6
            node.GetRASBounds(bounds)
            Layout.look("1", np.array([bounds[::2], bounds[1::2]]), _LOOK_FROM)

    def onCopy(self):
        qt.QApplication.clipboard().setText(self._comparison.asText())

    def onSaveTable(self):
        path = qt.QFileDialog.getSaveFileName(self._panel.parent, _("Save the figures"), "comparison.csv", _("Table (*.csv)"))
        if path:
            self._write(lambda: Path(path).write_text(self._comparison.asText(","), encoding="utf-8"), path)

    def onExport(self):
        node = self._panel.parameterNode.reconstructionNode
        path, isReplaced = ExportDialog.ask(self._panel.parent)
        if path:
            self._write(lambda: self.logic.exportVolume(node, path, overwrite=isReplaced), path)

    def _write(self, write, path):
        try:
            with slicer.util.WaitCursor():
                write()
        except (ValueError, OSError) as error:
            slicer.util.errorDisplay(str(error), windowTitle=_("Diff2CT"))
        else:
            slicer.util.showStatusMessage(_("Saved {path}").format(path=path), 3000)

    def update(self, parameterNode):
        self._leaveOutWhatIsNoTruth(parameterNode)
        reconstruction, truth = parameterNode.reconstructionNode, parameterNode.truthNode
        self._askForFigures(parameterNode)
        self.views.setWindow([reconstruction, truth], parameterNode.huPreset)
        self._bone.show(reconstruction if parameterNode.boneIn3D else None)
        self._fillViews(parameterNode)
        self._fillTable(parameterNode)
        has = reconstruction is not None
        for name in ("compareLayoutButton", "exportButton", "boneCheckBox", "overlayComboBox", "overlaySlider"):
            getattr(self.ui, name).enabled = has
        for name in ("copyButton", "saveTableButton"):
            getattr(self.ui, name).enabled = self._comparison is not None
        self.ui.overlaySlider.enabled = has and parameterNode.overlay is not Overlay.NONE
        self.ui.overlayLabel.text = self._overlayWords(parameterNode)
        self.ui.overlayLabel.visible = bool(self.ui.overlayLabel.text)
        state = _("no reconstruction yet")
        if has:
            state = _("with {name}").format(name=truth.GetName()) if truth is not None else _("no real CT chosen")
        if has and self._comparison is not None and self._comparison.doubts():
            state = _("does not explain its X-rays")
        self.ui.compareSection.text = _("Compare: {state}").format(state=state)

    def _leaveOutWhatIsNoTruth(self, parameterNode):
        """What Diff2CT itself has made is neither offered nor taken as ground truth."""
        if parameterNode.truthNode is not None and not _canBeTruth(parameterNode.truthNode):
            parameterNode.truthNode = None  # first: the list takes the next one for a chosen one that it has to hide
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        self.ui.truthSelector.sortFilterProxyModel().hiddenNodeIDs = [node.GetID() for node in nodes if not _canBeTruth(node)]

    def _fillViews(self, parameterNode):
        node = self._overlayNode(parameterNode)
        if node is not None:
            CompareViews.styleOverlay(node, parameterNode.overlay)
        self.views.show(parameterNode.reconstructionNode, parameterNode.truthNode, node, parameterNode.overlayOpacity / 100)

    def _overlayNode(self, parameterNode):
        reconstruction, overlay = parameterNode.reconstructionNode, parameterNode.overlay
        if reconstruction is None or overlay is Overlay.NONE:
            return None
        if overlay in _MAPS:
            return _mapNode(reconstruction, overlay)
        return self._comparison.differenceNode if self._comparison is not None else None

    def _overlayWords(self, parameterNode):
        """Why the chosen overlay cannot be shown, or what its colours mean."""
        overlay = parameterNode.overlay
        if parameterNode.reconstructionNode is None or overlay is Overlay.NONE:
            return ""
        if self._overlayNode(parameterNode) is not None:
            limits = _calibrationLimits(parameterNode.reconstructionNode) if overlay in (Overlay.ERROR, Overlay.SUPPORT) else ""
            words = {
                Overlay.DIFFERENCE: _("Blue: below the CT, red: above it, by 40 to 600 HU."),
                Overlay.UNCERTAINTY: _("Yellow to red: the samples (volumes) differ by 40 to 400 HU, as standard deviation."),
                Overlay.ERROR: _("Yellow to red: expected errors of 80 to 800 HU (root mean square)."),
                Overlay.SUPPORT: _(
                    "Green: determined by your two X-rays. Elsewhere: filled in from typical anatomy - do not rely on it."
                ),
            }[overlay]
            return _("{words} This may not hold here: {limits}.").format(words=words, limits=limits) if limits else words
        if overlay is Overlay.DIFFERENCE:
            if parameterNode.truthNode is None:
                return _("Choose a real CT first.")
            if Dependencies.missing():
                return _("The difference needs PyTorch, see the section Reconstruction.")
            return _("Computing the difference...") if self._isComputing() else _("The difference could not be computed.")
        if overlay is Overlay.UNCERTAINTY:
            return _("A standard deviation needs two samples or more: see Advanced in the section Reconstruction.")
        return _("The model (checkpoint) of this reconstruction is not calibrated, so it does not tell.")

    def _askForFigures(self, parameterNode):
        """Compute what is not known yet of what is chosen, as it is now, in the background."""
        reconstruction, truth = parameterNode.reconstructionNode, parameterNode.truthNode
        self._comparison = stored = self.logic.storedComparison(reconstruction)
        if reconstruction is None:
            self._key = None
            return
        xrays = xraysOf(reconstruction)
        if xrays is None:
            xrays = [parameterNode.apNode, parameterNode.lateralNode]
        xrays = [node for node in xrays if SceneBridge.isXray(node)]
        key = CompareKey.of(reconstruction, truth, xrays)
        if key != self._key:
            self._key = key
            self._stillTimer.start()
        if Dependencies.missing():
            return
        isDifferenceShown = truth is not None and parameterNode.overlay is Overlay.DIFFERENCE
        isKnown = stored is not None and stored.key == key
        if isKnown and not (isDifferenceShown and stored.differenceNode is None):  # somebody may have deleted it
            return
        if not isKnown:
            self._comparison = None
        if self._asked is None and not self._stillTimer.active and self._failed[0] != key:
            asked = self._asked = object()
            self.logic.compare(
                reconstruction,
                truth,
                xrays,
                wait=False,
                onDone=lambda *answer: self._onFigures(asked, key, *answer),
                withDifference=isDifferenceShown,
            )

    def _onFigures(self, asked, key, comparison, error):
        if asked is not self._asked:  # the scene was closed meanwhile
            return
        self._asked = None
        if comparison is None:
            self._failed = key, error
        self._panel.updateSoon()

    def _isComputing(self):
        return not Dependencies.missing() and self._failed[0] != self._key

    def _message(self):
        """What there is to say about the figures of the chosen reconstruction."""
        if self._comparison is None:
            return _("Computing the figures...") if self._isComputing() else self._failed[1]
        said = [_("Warning: {sentence}").format(sentence=sentence) for sentence in self._comparison.doubts()]
        if self._comparison.key not in ("", self._key):
            said.append(_("Computed before the volumes or the X-rays were changed; new figures need PyTorch."))
        if self._failed[0] == self._key:
            said.append(self._failed[1])  # of the difference
        return "\n".join(said)

    def _fillTable(self, parameterNode):
        table = self.ui.metricsTable
        rows = self._comparison.rows() if self._comparison is not None else []
        table.setRowCount(len(rows))
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(self._meanings[column])
                item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                if column in (1, 2):
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(row, column, item)
        for column in range(3):  # the last one takes what is left
            table.resizeColumnToContents(column)
        table.setFixedHeight(table.horizontalHeader().height + 2 + sum(table.rowHeight(row) for row in range(len(rows))))
        table.visible = bool(rows)
        self.ui.figuresLabel.text = self._message() if parameterNode.reconstructionNode is not None else ""
        self.ui.figuresLabel.visible = bool(self.ui.figuresLabel.text)


def _canBeTruth(node):
    """Of all that Diff2CT has made, the CT of the sample data only."""
    return not SceneBridge.isXray(node) and not SceneBridge.isFromXrays(node)


def _meaningsOfColumns():
    """What the figures of the table mean, for those who do not know their names."""
    return (
        _("Where the figures of this row were measured: in a part of the volume, taken from the real CT, or in an X-ray."),
        _("Mean absolute error: by how many HU a voxel differs from the real CT on average; 0 is identical."),
        _("Mean difference: above 0 the reconstruction is too dense, below 0 not dense enough."),
        _(
            "PSNR: how small the differences are, higher is better.\n"
            "SSIM: likeness of the structures, 1 is identical.\n"
            "Dice: overlap of the bone or metal of both, 1 is identical.\n"
            "X-ray: how far the X-rays computed from the volume differ from yours (re-projection error), 0 % is identical;\n"
            "how alike they look (correlation, corr.), 1 is identical, 0.5 or more is usual."
        ),
    )


def _mapNode(reconstruction, overlay):
    """The volume that came with a reconstruction; None if there is none."""
    return reconstruction.GetNodeReference(mapReference(_MAPS[overlay]))


def _calibrationLimits(node):
    """Why the calibration may not hold for a reconstruction, "" if nothing speaks against it."""
    limits = SceneBridge.provenanceOf(node).get("CalibrationLimits", "")
    return "" if limits in ("none known", "not calibrated") else XrayChecks.inWords(limits)
