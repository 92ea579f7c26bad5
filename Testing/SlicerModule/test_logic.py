"""The module's logic without its panel, as unittest: pytest runs it on the host, ctest in a real Slicer.

What needs torch is skipped where it is not installed, which is so on Slicer's build machines.
"""

import importlib.util
import tempfile
import unittest
from pathlib import Path

import numpy as np

try:
    import slicer
except ImportError as error:
    raise unittest.SkipTest("needs Slicer or slicer-core") from error

HAS_TORCH = importlib.util.find_spec("torch") is not None


class LogicTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import Diff2CT

        cls.logic = Diff2CT.Diff2CTLogic()

    @classmethod
    def tearDownClass(cls):
        cls.logic.dispose()

    def setUp(self):
        slicer.mrmlScene.Clear(False)
        self.folder = Path(tempfile.mkdtemp(prefix="Diff2CT"))

    def writeXray(self, name, view, **fields):
        """A bright bar on a dark field, as file."""
        from diff2ct.geometry import ConeBeam, View
        from diff2ct.radiograph import Radiograph, write_radiograph

        beam = ConeBeam.from_view(
            View(view),
            source_to_detector_mm=1000.0,
            source_to_isocenter_mm=750.0,
            detector_spacing_mm=(2.0, 3.0),
            detector_size=(80, 60),
            **fields,
        )
        image = np.zeros((80, 60))
        image[20:60, 25:35] = np.linspace(1, 2, 40)[:, np.newaxis]
        write_radiograph(Radiograph(image, beam, scale_known=True), self.folder / name)
        return self.folder / name

    def loadPair(self):
        return self.logic.loadXrays([self.writeXray("lateral.dcm", "LL"), self.writeXray("ap.dcm", "AP")])

    def test_xraysFindTheirPlacesAndKeepTheirGeometry(self):
        from Diff2CTLib import SceneBridge

        ap, lateral = self.loadPair()
        self.assertEqual((ap.GetName(), lateral.GetName()), ("ap.dcm", "lateral.dcm"))
        beam = SceneBridge.geometryOf(lateral)
        self.assertEqual((beam.view.value, beam.source_to_isocenter_mm, beam.detector_spacing_mm), ("LL", 750.0, (2.0, 3.0)))
        self.assertEqual(slicer.util.arrayFromVolume(ap).shape, (1, 80, 60))

    def test_theDetectorOfALeftLateralStandsOnThePatientsLeft(self):
        _ap, lateral = self.loadPair()
        bounds = [0.0] * 6
        lateral.GetRASBounds(bounds)
        self.assertLess(bounds[1], -200)  # R axis: the patient's left is negative

    def test_twoFrontalXraysAreRefused(self):
        with self.assertRaisesRegex(ValueError, "same kind, PA"):
            self.logic.loadXrays([self.writeXray("a.dcm", "AP"), self.writeXray("b.dcm", "PA")])

    def test_aMissingFileIsNamed(self):
        with self.assertRaisesRegex(ValueError, "nowhere.dcm"):
            self.logic.loadXray("nowhere.dcm")

    def test_editsAreStoredInTheNode(self):
        from Diff2CTLib import SceneBridge

        ap, _lateral = self.loadPair()
        self.logic.editXray(ap, view="PA", source_to_detector_mm=1200.0)
        beam = SceneBridge.geometryOf(ap)
        self.assertEqual((beam.view.value, beam.source_to_detector_mm, beam.mirrored), ("PA", 1200.0, False))
        with self.assertRaises(ValueError):
            self.logic.editXray(ap, source_to_detector_mm=10.0)
        self.assertEqual(SceneBridge.geometryOf(ap).source_to_detector_mm, 1200.0)

    def test_volumesKeepObliqueGeometryExactly(self):
        from Diff2CTLib import SceneBridge

        from diff2ct.volume import VolumeGrid

        c, s = np.cos(0.3), np.sin(0.3)
        direction = ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))
        grid = VolumeGrid((4, 5, 6), (0.7, 1.1, 2.3), (-12.3, 45.6, 1234.5), direction)
        hu = np.random.default_rng(0).normal(size=grid.size).astype(np.float32)
        node = SceneBridge.addHuVolume(hu, grid, "oblique")
        found = SceneBridge.gridFromNode(node)
        np.testing.assert_allclose(found.ijk_to_lps, grid.ijk_to_lps, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(SceneBridge.voxels(node), hu)

    def test_aTransformMovesTheGridInWorld(self):
        from Diff2CTLib import Pose, SceneBridge

        from diff2ct.volume import VolumeGrid

        node = SceneBridge.addHuVolume(np.zeros((4, 4, 4), np.float32), VolumeGrid.centered(4, 2.0), "moved")
        pose = Pose.addNode()
        Pose.write(pose, [10.0, 20.0, 30.0, 0.0, 0.0, 0.0], np.zeros(3))
        node.SetAndObserveTransformNodeID(pose.GetID())
        np.testing.assert_allclose(SceneBridge.gridFromNode(node).center_lps, (-10.0, -20.0, 30.0))
        np.testing.assert_allclose(SceneBridge.gridFromNode(node, inWorld=False).center_lps, (0.0, 0.0, 0.0))

    def test_anExportReplacesNothingUnasked(self):
        from Diff2CTLib import SceneBridge

        from diff2ct.volume import VolumeGrid
        from diff2ct.volume_io import read_volume

        hu = np.linspace(-1000, 1000, 64, dtype=np.float32).reshape(4, 4, 4)
        node = SceneBridge.addHuVolume(hu, VolumeGrid.centered(4, 2.0), "ct", {"Seed": "5"})
        path = self.folder / "ct.nrrd"
        self.logic.exportVolume(node, path)
        with self.assertRaisesRegex(ValueError, "exists already"):
            self.logic.exportVolume(node, path)
        volume, attributes = read_volume(path)
        np.testing.assert_array_equal(volume.hu, hu)
        self.assertEqual((attributes["Seed"], attributes["Notice"]), ("5", SceneBridge.NOTICE))

    @unittest.skipIf(HAS_TORCH, "torch is installed")
    def test_withoutTorchARunSaysWhatToDo(self):
        with self.assertRaisesRegex(RuntimeError, "torch"):
            self.logic.reconstruct(*self.loadPair())

    @unittest.skipUnless(HAS_TORCH, "torch is not installed")
    def test_anXrayThatIsNoneIsNamed(self):
        ap, _lateral = self.loadPair()
        other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Other")
        with self.assertRaisesRegex(ValueError, "Other is not an X-ray"):
            self.logic.reconstruct(ap, other)
