"""The X-rays in the 3D view where they belong: image on its detector, source, the pyramid of rays, the cube to reconstruct.

All are hidden model nodes that are not saved; they are made again from the X-rays. They are drawn in the 3D view of the
alignment layout only: in others, the sources and pyramids would stand before the patient.
"""

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from Diff2CTLib import Colors, HiddenNode, Layout, SceneBridge

TEXTURE_PIXELS = 512
CUBE_MM = 256.0
_SOURCE_RADIUS_MM = 12.0
_LOOK_FROM = np.array([0.50, 0.70, 0.51])  # unit vector in RAS


class AlignmentScene:
    def __init__(self):
        self._textures = {}  # slot -> (key, vtkImageData producer), which the display node does not keep alive by itself
        self._shown = None

    def update(self, xrays, isShown):
        """Show or hide everything; xrays: {slot: node or None}."""
        beams = {slot: SceneBridge.geometryOf(node) for slot, node in xrays.items() if SceneBridge.isXray(node)}
        wanted = isShown, Layout.viewNode(Layout.SCENE_VIEW), beams, [_pictureOf(xrays[slot]) for slot in beams]
        if wanted == self._shown:
            return
        self._shown = wanted
        for slot, color in (("ap", Colors.AP_COLOR), ("lateral", Colors.LATERAL_COLOR)):
            beam = beams.get(slot)
            names = (f"Diff2CT {slot} image", f"Diff2CT {slot} rays")
            if not isShown or beam is None:
                for name in names:
                    _hide(name)
                continue
            self._showImage(names[0], slot, xrays[slot], beam)
            _showModel(names[1], rays(beam), color, opacity=0.9, isWire=True)
        if isShown and beams:
            center = np.mean([beam.isocenter_lps for beam in beams.values()], axis=0)
            _showModel("Diff2CT cube", cube(center), (1.0, 1.0, 1.0), opacity=1.0, isWire=True)
        else:
            _hide("Diff2CT cube")

    def look(self, xrays):
        """Turn the 3D view so that sources, detectors and cube are seen, from the front and right of the patient. False if the
        view is not ready for it."""
        view = Layout.viewNode(Layout.SCENE_VIEW)
        beams = [SceneBridge.geometryOf(node) for node in xrays.values() if SceneBridge.isXray(node)]
        if view is None or not beams:
            return False
        view.SetBoxVisible(False)  # Slicer's own box would be taken for the cube
        view.SetAxisLabelsVisible(False)
        view.SetOrientationMarkerType(view.OrientationMarkerTypeAxes)
        points = np.concatenate([[SceneBridge.sourceRas(beam), *_corners(beam)] for beam in beams])
        return Layout.look(Layout.SCENE_VIEW, points, _LOOK_FROM)

    def reset(self):
        """Forget the textures, after the scene was closed."""
        self._textures, self._shown = {}, None

    def _showImage(self, name, slot, node, beam):
        key = _pictureOf(node)
        model = _showModel(name, detector(beam), (1.0, 1.0, 1.0), opacity=1.0)
        if self._textures.get(slot, (None,))[0] != key:
            texture = _texture(node)
            self._textures[slot] = key, texture
            model.GetDisplayNode().SetTextureImageDataConnection(texture.GetOutputPort())


def _pictureOf(node):
    """What changes when the X-ray looks different."""
    return node.GetID(), node.GetImageData().GetMTime(), node.GetDisplayNode().GetMTime()


def detector(beam):
    """The detector as a textured rectangle; texture (0, 0) is the lower left corner of the image as stored."""
    toRas = SceneBridge.detectorToRas(beam)
    height, width = beam.detector_size
    lowerLeft, lowerRight, upperLeft = (
        (toRas @ (column, row, 0.0, 1.0))[:3]
        for column, row in ((-0.5, height - 0.5), (width - 0.5, height - 0.5), (-0.5, -0.5))
    )
    plane = vtk.vtkPlaneSource()
    plane.SetOrigin(lowerLeft)
    plane.SetPoint1(lowerRight)
    plane.SetPoint2(upperLeft)
    plane.Update()
    return plane.GetOutput()


def rays(beam):
    """Lines from the source to the corners of the detector, its outline, and a ball for the source; of a fan, its way too."""
    corners, source = _corners(beam), SceneBridge.sourceRas(beam)
    lines = [(corner, corners[(n + 1) % 4]) for n, corner in enumerate(corners)]
    if beam.KIND != "parallel":
        sources = SceneBridge.sourcesRas(beam, _cornerPixels(beam))
        lines += list(zip(sources, corners, strict=True))
    if beam.KIND == "fan":
        lines.append((sources[0], sources[2]))
    append = vtk.vtkAppendPolyData()
    append.AddInputData(_segments(lines))
    ball = vtk.vtkSphereSource()
    ball.SetCenter(source)
    ball.SetRadius(_SOURCE_RADIUS_MM)
    ball.Update()
    append.AddInputData(ball.GetOutput())
    append.Update()
    return append.GetOutput()


def cube(centerLps):
    """The edges of the cube that is reconstructed."""
    half = CUBE_MM / 2
    box = vtk.vtkCubeSource()
    x, y, z = SceneBridge.rasFromLps(centerLps)
    box.SetBounds(x - half, x + half, y - half, y + half, z - half, z + half)
    outline = vtk.vtkOutlineFilter()
    outline.SetInputConnection(box.GetOutputPort())
    outline.Update()
    return outline.GetOutput()


def _corners(beam):
    """The corners of the detector in RAS, in the order of its outline."""
    toRas = SceneBridge.detectorToRas(beam)
    return [(toRas @ (column, row, 0.0, 1.0))[:3] for row, column in _cornerPixels(beam)]


def _cornerPixels(beam):
    """Their (row, column)."""
    height, width = beam.detector_size
    return ((-0.5, -0.5), (-0.5, width - 0.5), (height - 0.5, width - 0.5), (height - 0.5, -0.5))


def _segments(lines):
    points, cells = vtk.vtkPoints(), vtk.vtkCellArray()
    for start, end in lines:
        ids = [points.InsertNextPoint(*map(float, point)) for point in (start, end)]
        cells.InsertNextCell(2)
        for pointId in ids:
            cells.InsertCellPoint(pointId)
    segments = vtk.vtkPolyData()
    segments.SetPoints(points)
    segments.SetLines(cells)
    return segments


def _texture(node):
    """A producer of RGB pixels as the X-ray is shown, at most `TEXTURE_PIXELS` along a side, first row at the bottom."""
    pixels = slicer.util.arrayFromVolume(node)[0]
    step = max(1, -(-max(pixels.shape) // TEXTURE_PIXELS))
    display = node.GetDisplayNode()
    low = display.GetLevel() - display.GetWindow() / 2
    grey = np.clip((pixels[::step, ::step] - low) / max(display.GetWindow(), 1e-9) * 255, 0, 255).astype(np.uint8)
    rgb = np.ascontiguousarray(np.repeat(grey[::-1, :, np.newaxis], 3, axis=2))
    image = vtk.vtkImageData()
    image.SetDimensions(rgb.shape[1], rgb.shape[0], 1)
    scalars = numpy_support.numpy_to_vtk(rgb.reshape(-1, 3), deep=True)
    image.GetPointData().SetScalars(scalars)
    producer = vtk.vtkTrivialProducer()
    producer.SetOutput(image)
    return producer


def _showModel(name, polyData, color, opacity, isWire=False):
    node, isNew = HiddenNode.findOrAdd("vtkMRMLModelNode", name)
    if isNew:
        node.SetSelectable(False)
        display = node.GetDisplayNode()
        display.SetColor(*color)
        display.SetOpacity(opacity)
        display.SetBackfaceCulling(False)
        display.SetAmbient(1.0)
        display.SetDiffuse(0.0)
        display.SetSpecular(0.0)
        display.SetLineWidth(2)
        display.SetInterpolateTexture(True)
        if isWire:
            display.SetVisibility2D(False)
    node.SetAndObservePolyData(polyData)
    view = Layout.viewNode(Layout.SCENE_VIEW)
    if view is not None and not node.GetDisplayNode().IsViewNodeIDPresent(view.GetID()):
        node.GetDisplayNode().AddViewNodeID(view.GetID())
    node.GetDisplayNode().SetVisibility(True)
    return node


def _hide(name):
    node = HiddenNode.find("vtkMRMLModelNode", name)
    if node is not None and node.GetDisplayNode():
        node.GetDisplayNode().SetVisibility(False)
