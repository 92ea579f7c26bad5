"""What the tests of the panel share: clicking, waiting, X-rays and CTs made in a moment."""

import sys
import time
from pathlib import Path

import numpy as np

CHILDREN = Path(__file__).with_name("children.py")


def child(*arguments):
    """The command of a stand-in of `children.py`."""
    return [sys.executable, "-u", str(CHILDREN), *arguments]


def click(button):
    from PySide6.QtCore import QPoint, Qt
    from PySide6.QtTest import QTest
    from PySide6.QtWidgets import QCheckBox

    assert button.enabled, f"{button.name} is disabled"
    if button._qt.rect().isEmpty():  # in a closed section of a panel that another test has shown
        button._qt.resize(button._qt.sizeHint())
    middle = QPoint(button._qt.width() // 2, button._qt.height() // 2)
    if isinstance(button._qt, QCheckBox):
        middle.setX(4)  # a wide one takes clicks on its box and words only
    QTest.mouseClick(button._qt, Qt.MouseButton.LeftButton, pos=middle)


def wait_until(condition, seconds=300):
    """Run the event loop until `condition()`; the limit is for slow machines."""
    import slicer

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        slicer.app.processEvents()
        time.sleep(0.01)
    slicer.app.processEvents()


def leftovers():
    """Folders of files for child processes that have not been removed yet."""
    import slicer

    return list(Path(slicer.app.temporaryPath).glob("Diff2CT-*"))


def settle(panel):
    """Until the panel has taken notice of every change."""
    wait_until(lambda: not panel._updateTimer.active)


def add_xrays(**geometry):
    """Two X-ray nodes of a ball 60 mm in front of the isocentre, rendered without torch."""
    from Diff2CTLib import SceneBridge
    from Diff2CTLib.Xray import Xray

    from diff2ct.geometry import ConeBeam, View
    from diff2ct.radiograph import Radiograph

    nodes = []
    for view, word in ((View.AP, "AP"), (View.LL, "lateral")):
        values = {
            "source_to_detector_mm": 1000.0,
            "source_to_isocenter_mm": 800.0,
            "detector_spacing_mm": (4.0, 4.5),
            "detector_size": (100, 90),
            **geometry,
        }
        beam = ConeBeam.from_view(view, **values)
        rows, columns = np.indices(beam.detector_size)
        row, column = beam.project_points([[20.0, -60.0, 30.0]])[0]
        image = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 200) + np.exp(-(((rows - 70) / 30) ** 2)) * 2
        radiograph = Radiograph(image, beam, scale_known=True, source=f"{word}.dcm")
        nodes.append(SceneBridge.addXray(Xray(radiograph, beam), word))
    return nodes


def add_ct(value=0.0, name="CT", size=(12, 14, 16), spacing=20.0, center_ras=(0.0, 0.0, 0.0)):
    """A scalar volume node with air around a block, centred on `center_ras`."""
    import slicer

    hu = np.full(size, -1000, np.int16)
    hu[3:-3, 3:-3, 3:-3] = value
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.CreateDefaultDisplayNodes()
    slicer.util.updateVolumeFromArray(node, hu)
    node.SetSpacing(spacing, spacing, spacing)
    node.SetOrigin(*(c - (n - 1) / 2 * spacing for c, n in zip(center_ras, size[::-1], strict=True)))
    return node


def add_reconstruction(name="Synthetic", center_ras=(0.0, 0.0, 0.0)):
    """A volume that Diff2CT has made, on another grid than that of `add_ct`."""
    from Diff2CTLib import SceneBridge

    from diff2ct.volume import VolumeGrid

    grid = VolumeGrid.centered(16, 16.0, tuple(SceneBridge.rasFromLps(center_ras)))
    hu = np.linspace(-1000, 1000, 16**3, dtype=np.float32).reshape(16, 16, 16)
    return SceneBridge.addHuVolume(hu, grid, name, {"Seed": "3"})


def add_node_for(field):
    """A node of the class that a field of the parameter node takes."""
    import slicer

    if field in ("apNode", "lateralNode"):
        return add_xrays()[0]
    if field == "reconstructionNode":
        return add_reconstruction()
    if field == "poseNode":
        return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    return add_ct()
