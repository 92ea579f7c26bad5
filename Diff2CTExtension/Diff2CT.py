"""Diff2CT: two X-rays in, one CT volume out. What the module does is in Diff2CTLib; it imports no torch into Slicer."""

import logging
import unittest

import slicer
from Diff2CTLib.Logic import Logic
from Diff2CTLib.Widget import Widget
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest


class Diff2CT(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = "Diff2CT"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Tomographic Reconstruction")]
        self.parent.contributors = ["Diff2CT contributors"]
        self.parent.helpText = _(
            "Reconstruct a CT volume from an AP and a lateral X-ray of the spine. Research use only - not for diagnosis. "
            'See the <a href="https://github.com/Diff2CT/SlicerDiff2CT/blob/main/Diff2CTExtension/README.md">tutorial</a>.'
        )
        self.parent.acknowledgementText = _('Method: <a href="https://arxiv.org/abs/2408.09731">arXiv 2408.09731</a>')
        slicer.app.connect("startupCompleted()", register)


def register():
    from Diff2CTLib import Layout, SampleCase, SyntheticNotice

    SampleCase.register()
    Layout.register()
    SyntheticNotice.notice.register()


class Diff2CTLogic(Logic):
    """The console API: loadXrays, reconstruct, previewDrr, compare, reconstructFolders, exportVolume; see `Logic`."""


class Diff2CTWidget(Widget):
    logicClass = Diff2CTLogic


class Diff2CTTest(ScriptedLoadableModuleTest):
    """A short self test for Reload and Test and for ctest; Testing/SlicerModule has the others."""

    def setUp(self):
        slicer.mrmlScene.Clear(False)

    def runTest(self):
        for name in [name for name in dir(self) if name.startswith("test_")]:
            self.setUp()
            try:
                getattr(self, name)()
            except unittest.SkipTest as reason:
                logging.info(f"{name} is skipped: {reason}")
            finally:
                self.doCleanups()

    def test_missingFileIsNamed(self):
        logic = Diff2CTLogic()
        self.addCleanup(logic.dispose)
        with self.assertRaisesRegex(ValueError, "missing.dcm"):
            logic.loadXray("missing.dcm")

    def test_xrayStandsOnItsDetector(self):
        import numpy as np
        from Diff2CTLib import SceneBridge
        from Diff2CTLib.Xray import Xray

        from diff2ct.geometry import ConeBeam, View
        from diff2ct.radiograph import Radiograph

        beam = ConeBeam.from_view(
            View.AP,
            source_to_detector_mm=1000,
            source_to_isocenter_mm=700,
            detector_spacing_mm=(2, 2),
            detector_size=(31, 21),
        )
        image = np.arange(31 * 21, dtype=np.float32).reshape(31, 21)
        node = SceneBridge.addXray(Xray(Radiograph(image, beam), beam), "AP")
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        # The detector of an AP view stands behind the patient, 300 mm from the isocentre.
        self.assertAlmostEqual((bounds[2] + bounds[3]) / 2, -300.0, delta=1.0)
        self.assertTrue(np.array_equal(SceneBridge.xrayFromNode(node).radiograph.line_integral, image))

    def test_sampleCaseIsReconstructed(self):
        """From the button Sample data to the figures, through the panel and both child processes."""
        from Diff2CTLib import Dependencies

        if Dependencies.missing():
            self.skipTest(f"{' and '.join(Dependencies.missing())} must be installed first")
        panel = slicer.util.getModuleWidget("Diff2CT")
        panel.enter()
        panel.ui.sampleButton.click()
        parameterNode = panel.parameterNode
        parameterNode.steps = parameterNode.samples = 1
        panel.update()
        self.assertTrue(panel.ui.reconstructButton.enabled, panel.ui.statusLabel.text)
        panel.ui.reconstructButton.click()
        self.assertIsNotNone(panel.logic.run, panel.ui.statusLabel.text)
        outcome = panel.logic.run.wait()
        self.assertEqual(outcome.status, "done", outcome.message)
        self.assertEqual(parameterNode.reconstructionNode.GetID(), outcome.volumeNode.GetID())
        scores = panel.logic.compare(outcome.volumeNode, parameterNode.truthNode).scores
        self.assertGreater(scores["bone_dice"], 0.3)  # it is 0.43; upside down 0.22, back to front 0.06
