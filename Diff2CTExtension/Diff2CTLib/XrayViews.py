"""The two views that show an X-ray the way it hangs, with the DRR over it."""

import numpy as np

from Diff2CTLib import Layout, SceneBridge


def show(slot, xray, foreground, opacity):
    """Show X-ray and foreground node in the view of `slot`; opacity in [0, 1]. Nothing happens while there is no such view."""
    logic = Layout.sliceLogic(Layout.XRAY_VIEWS[slot])
    if logic is None:
        return
    logic.GetSliceNode().SetViewGroup(Layout.XRAY_GROUPS[slot])  # Slicer writes "true" into scenes, and reads that as 1
    composite = logic.GetSliceCompositeNode()
    composite.SetLinkedControl(False)
    composite.SetBackgroundVolumeID(xray.GetID() if xray else None)
    composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
    composite.SetForegroundOpacity(opacity if foreground else 0.0)
    if xray is not None and SceneBridge.isXray(xray):
        place(logic.GetSliceNode(), SceneBridge.geometryOf(xray))


def place(sliceNode, beam):
    """Put the slice onto the picture, rows down as stored; zoom so that all of the image is seen if it had to be moved."""
    toRas = SceneBridge.imageToRas(beam)
    right, down = toRas[:3, 0] / np.linalg.norm(toRas[:3, 0]), toRas[:3, 1] / np.linalg.norm(toRas[:3, 1])
    height, width = beam.detector_size
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = right, -down, np.cross(right, -down)
    matrix[:3, 3] = (toRas @ ((width - 1) / 2, (height - 1) / 2, 0.0, 1.0))[:3]
    if np.allclose(SceneBridge.fromVtkMatrix(sliceNode.GetSliceToRAS()), matrix, atol=1e-9):
        return
    sliceNode.GetSliceToRAS().DeepCopy(SceneBridge.toVtkMatrix(matrix))
    sliceNode.UpdateMatrices()
    columnMm, rowMm = np.linalg.norm(toRas[:3, :2], axis=0)
    views = sliceNode.GetDimensions()
    if min(views[:2]) > 0:
        perPixel = max(width * columnMm / views[0], height * rowMm / views[1])
        sliceNode.SetFieldOfView(perPixel * views[0], perPixel * views[1], 1.0)
