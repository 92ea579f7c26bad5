"""Each X-ray with the DRR of a CT over it: asks for DRRs while sliders move, shows the latest, says how well they agree."""

import math
from dataclasses import dataclass

import numpy as np
import slicer
from slicer.i18n import tr as _

from Diff2CTLib import Colors, HiddenNode, SceneBridge
from Diff2CTLib.ParameterNode import PreviewMode

SLOTS = ("ap", "lateral")


@dataclass
class _View:
    """What belongs to one of the two X-rays. drr: (image, beam, what it was computed for); shown: what the foreground holds."""

    node: object = None
    drr: tuple | None = None
    agreement: float = math.nan
    isAsked: bool = False
    isDirty: bool = False
    shown: tuple | None = None


class AlignmentPreview:
    """onChanged() after each new DRR or message. `message` is a sentence if there is something to say instead of a picture."""

    def __init__(self, renderer, smallXrays, onChanged):
        self._renderer, self._smallXrays, self._onChanged = renderer, smallXrays, onChanged
        self._views = {slot: _View() for slot in SLOTS}
        self._ct = None
        self._cut = None, None  # what CT it was looked for in, and (grid without padding, faces at which that was cut)
        self._mode = PreviewMode.BLEND
        self.message = ""

    def show(self, ct, xrays, mode):
        """Bring both views up to date. ct: volume node or None; xrays: {slot: X-ray node or None}."""
        self._mode, self.message = mode, ""
        for slot in SLOTS:
            view = self._views[slot]
            if xrays.get(slot) is not view.node or ct is not self._ct:
                self._views[slot] = _View(node=xrays.get(slot))
        self._ct = ct
        for slot in SLOTS:
            if ct is None or self._views[slot].node is None:
                self.foreground(slot, create=False, clear=True)
            else:
                self._ask(slot)
                self._compose(slot)

    def agreement(self, slot):
        """Gradient correlation of X-ray and DRR, NaN if there is none."""
        return self._views[slot].agreement

    def hasDrr(self, slot):
        return self._views[slot].drr is not None

    def foreground(self, slot, create=True, clear=False):
        """The hidden volume node that lies over the X-ray of `slot`; None if it does not exist and is not to be created."""
        which = "vtkMRMLScalarVolumeNode", f"Diff2CT {slot} DRR"
        node = HiddenNode.findOrAdd(*which)[0] if create else HiddenNode.find(*which)
        if node is not None and clear:
            slicer.mrmlScene.RemoveNode(node)
            return None
        return node

    def reset(self):
        """Forget the scene, after it was closed."""
        self._views = {slot: _View() for slot in SLOTS}
        self._ct, self._cut = None, (None, None)

    def _ask(self, slot):
        """Ask for a DRR unless the one for this CT, pose and beam is there. While one is on its way, ask again after it."""
        view, ct = self._views[slot], self._ct
        try:
            beam = self._smallXrays.get(view.node).geometry
            pose, grid = SceneBridge.poseLps(ct).tobytes(), SceneBridge.gridFromNode(ct, inWorld=False)
            wanted = (beam, ct.GetImageData().GetMTime(), pose, grid)
        except ValueError as error:
            self._say(str(error))
            return
        if view.drr is not None and view.drr[2] == wanted:
            view.isDirty = False
            return
        if view.isAsked:
            view.isDirty = True
            return
        view.isAsked, view.isDirty = True, False

        def rendered(image, error):
            view.isAsked = False
            if self._views[slot] is not view:  # another X-ray or CT was chosen meanwhile
                return
            if error:
                self._say(error)
                return
            if image is not None:
                view.drr = image, beam, wanted
                self._compose(slot)
                self._onChanged()
            if view.isDirty:
                self._ask(slot)

        self._renderer.render(ct, beam, rendered)

    def _say(self, sentence):
        self.message = sentence
        self._onChanged()

    def _compose(self, slot):
        view = self._views[slot]
        if view.drr is None or view.shown == (view.drr[2], self._mode):
            return
        from diff2ct import overlay

        drr, beam, wanted = view.drr
        xray = self._smallXrays.get(view.node).radiograph
        _beam, _changed, pose, grid = wanted
        part, faces = self._cutFaces(grid)
        uncut = ~overlay.crop_bands(part, np.frombuffer(pose).reshape(4, 4), beam, faces)
        found = overlay.match(drr, xray.line_integral, xray.valid & uncut)
        view.agreement, view.shown = found.agreement, (wanted, self._mode)
        matched = found.gain * drr + found.offset
        reached = drr > 0
        low, high = np.percentile(xray.line_integral[xray.valid], (0.5, 99.5))
        window, level, color = max(float(high - low), 1e-3), float(high + low) / 2, Colors.GREY
        if self._mode is PreviewMode.EDGES:
            shown = overlay.edges(drr, reached & uncut)
            reached = shown > 0
            window, level, color = 2.0, 0.0, Colors.edgeColor()
        elif self._mode is PreviewMode.DIFFERENCE:
            shown = xray.line_integral - matched
            reached = reached & xray.valid
            spread = 3 * float(np.std(shown[reached])) if reached.any() else 1.0
            window, level, color = 2 * max(spread, 1e-6), 0.0, Colors.differenceColor()
        else:
            shown = matched
            if self._mode is PreviewMode.CHECKERBOARD:
                reached = reached & overlay.checkerboard(drr.shape)
        hidden = float(shown.min()) - 2.0
        self._write(slot, np.where(reached, shown, hidden), hidden, beam, window, level, color)

    def _cutFaces(self, grid):
        """(grid without padding, faces) of the CT; looked for once, not at each step of a slider: it takes a moment."""
        from diff2ct import overlay
        from diff2ct.units import TISSUE_HU

        key = self._ct.GetID(), self._ct.GetImageData().GetMTime(), grid
        if self._cut[0] != key:
            hu, part = overlay.without_padding(SceneBridge.voxels(self._ct), grid)
            self._cut = key, (part, overlay.cut_faces(hu, TISSUE_HU))
        return self._cut[1]

    def _write(self, slot, image, hidden, beam, window, level, color):
        node = self.foreground(slot)
        with slicer.util.NodeModify(node):
            slicer.util.updateVolumeFromArray(node, image[np.newaxis].astype(np.float32))
            node.SetIJKToRASMatrix(SceneBridge.toVtkMatrix(SceneBridge.imageToRas(beam)))
            display = node.GetDisplayNode()
            display.SetAndObserveColorNodeID(color)
            display.AutoWindowLevelOff()
            display.SetWindowLevel(window, level)
            display.AutoThresholdOff()
            display.SetThreshold(hidden + 1.0, max(float(image.max()), hidden + 1.0) + 1.0)
            display.SetApplyThreshold(True)


def agreementInWords(correlation):
    if math.isnan(correlation):
        return _("the CT lies outside the X-ray")
    return f"{correlation:.2f}"
