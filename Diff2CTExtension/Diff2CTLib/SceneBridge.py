"""The only place where MRML meets the core, and where RAS meets LPS.

An X-ray is a scalar volume of one slice that lies on its detector, or, of a scanning fan, in the plane through the isocentre,
where alone it has the proportions of the patient; the exact beam and everything else that an image does not hold stand in the
node's attribute `XRAY_ATTRIBUTE`. Pixels that do not see the patient hold a value below all others. Folders are not kept with
the scene, as their names may be those of patients.
"""

import json
import math
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from Diff2CTLib import TemporaryFolder
from Diff2CTLib.Xray import Xray, editedGeometry, ofAssumedView, readAsView

XRAY_ATTRIBUTE = "Diff2CT.xray"
SYNTHETIC_ATTRIBUTE = "Diff2CT.synthetic"
PROVENANCE_ATTRIBUTE = "Diff2CT.provenance"
NOTICE = "Research use only - not for diagnosis"
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

_folders = {}  # (name of a file, checksum of the X-ray's pixels) -> where it was read from in this session
_PARALLEL_DETECTOR_MM = 300.0  # where the detector of parallel rays, which have none, is drawn


def toVtkMatrix(matrix):
    """(4, 4) numpy -> vtkMatrix4x4."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=np.float64).ravel().tolist())
    return result


def fromVtkMatrix(matrix):
    """vtkMatrix4x4 -> (4, 4) numpy."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def rasFromLps(points):
    """Points (..., 3) from LPS to RAS; it is its own inverse."""
    return np.asarray(points, dtype=np.float64) * (-1.0, -1.0, 1.0)


def rasMatrix(lpsMatrix):
    """A transform of points in LPS -> the same in RAS, and back."""
    return RAS_FROM_LPS @ np.asarray(lpsMatrix) @ RAS_FROM_LPS


# --- X-rays ---


def detectorToRas(beam):
    """(4, 4): (column, row, 0, 1) of the detector -> RAS [mm], right-handed."""
    if beam.KIND == "parallel":
        behindMm = _PARALLEL_DETECTOR_MM
    else:
        behindMm = beam.source_to_detector_mm - beam.source_to_isocenter_mm
    return _planeToRas(beam, behindMm, beam.detector_spacing_mm)


def imageToRas(beam):
    """(4, 4): (column, row, 0, 1) of the picture as it lies in the scene -> RAS [mm], see above."""
    if beam.KIND == "fan":
        return _planeToRas(beam, 0.0, beam.patient_spacing_mm)
    return detectorToRas(beam)


def _planeToRas(beam, behindMm, spacingMm):
    """Pixels of this spacing on the plane so far behind the isocentre, which the axis meets in the principal point."""
    columnAxis, rowAxis = beam.detector_axes
    row0, column0 = beam.principal_point
    rowMm, columnMm = spacingMm
    middle = np.array(beam.isocenter_lps) + behindMm * beam.toward_detector
    matrix = np.eye(4)
    matrix[:3, 0] = columnAxis * columnMm
    matrix[:3, 1] = rowAxis * rowMm
    matrix[:3, 2] = np.cross(columnAxis, rowAxis)
    matrix[:3, 3] = middle - row0 * rowMm * rowAxis - column0 * columnMm * columnAxis
    return RAS_FROM_LPS @ matrix


def sourceRas(beam):
    """(3,) where the rays through the isocentre come from; for parallel rays a point on the axis."""
    if beam.KIND != "parallel":
        return rasFromLps(beam.source_lps)
    return rasFromLps(np.array(beam.isocenter_lps) - 2 * _PARALLEL_DETECTOR_MM * beam.toward_detector)


def sourcesRas(beam, rowsAndColumns):
    """(N, 3) where the rays to pixels (row, column) come from: one point, or one for each row of a scanning fan."""
    return rasFromLps(beam.sources_lps(np.asarray(rowsAndColumns, dtype=np.float64)))


def addXray(xray, name, scene=None):
    """A new volume node that shows the X-ray where `imageToRas` puts it."""
    scene = scene or slicer.mrmlScene
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    _setPixels(node, xray.radiograph)
    _setFacts(node, xray)
    return node


def updateXray(node, xray):
    """Write another picture of the same X-ray into its node."""
    with slicer.util.NodeModify(node):
        _setPixels(node, xray.radiograph)
        _setFacts(node, xray)


def isXray(node):
    return node is not None and bool(node.GetAttribute(XRAY_ATTRIBUTE))


def xrayFromNode(node):
    """The X-ray in a node that `addXray` made; exactly the one that went in."""
    from diff2ct.geometry import beam_from_dict

    facts = _facts(node)
    if node.GetImageData() is None:
        raise ValueError(_("{name} has lost its image; load it again.").format(name=node.GetName()))
    pixels = slicer.util.arrayFromVolume(node)
    hasSize = list(pixels.shape) == [1, *facts["geometry"]["detector_size"]]
    if not hasSize or facts.get("checksum") not in (None, _checksum(node)):  # scenes of earlier versions have none
        raise ValueError(_("The pixels of {name} were changed by another module; load it again.").format(name=node.GetName()))
    image = pixels[0].astype(np.float32)
    return _xray(facts, image, image != np.float32(facts["invalid_value"]), beam_from_dict(facts["geometry"]))


def writeXray(node, path):
    """The X-ray of a node as a file that `diff2ct.radiograph.read_radiograph` reads exactly; returns its view."""
    from diff2ct.radiograph import write_radiograph

    radiograph = xrayFromNode(node).radiograph
    write_radiograph(radiograph, path)
    return radiograph.geometry.view.value


def coarseXray(node, pixels, valid):
    """The X-ray of a node with coarser pixels of the same picture instead of its own, which are not looked at: quick."""
    from diff2ct.geometry import beam_from_dict
    from diff2ct.radiograph import resized_beam

    facts = _facts(node)
    return _xray(facts, pixels, valid, resized_beam(beam_from_dict(facts["geometry"]), pixels.shape))


def geometryOf(node):
    """The beam of an X-ray node, without touching its pixels."""
    from diff2ct.geometry import beam_from_dict

    return beam_from_dict(_facts(node)["geometry"])


def centerRas(nodes):
    """(3,) point about which CTs turn: the isocentre of X-ray nodes, the origin if there are none."""
    centers = [rasFromLps(geometryOf(node).isocenter_lps) for node in nodes]
    return np.mean(centers, axis=0) if centers else np.zeros(3)


def assumedOf(node):
    """What nobody measured about an X-ray node, as `diff2ct.radiograph.Radiograph.assumed`."""
    return _facts(node)["assumed"]


def editGeometry(node, stillAssumed=(), **fields):
    """Other facts of an X-ray node's geometry, see `Xray.editedGeometry`; stillAssumed: those of them that nobody states."""
    facts = _facts(node)
    beam, assumed = editedGeometry(geometryOf(node), facts["assumed"], *_pathAndFrame(facts), **fields)
    facts.update(geometry=beam.to_dict(), assumed=(*assumed, *stillAssumed))
    with slicer.util.NodeModify(node):
        _place(node, facts, beam)


def setMeasured(node, stillAssumed=(), **fields):
    """Facts of an X-ray node's geometry that were measured in its picture: exactly these change, and they are known then, but
    for those that are still assumed."""
    facts = _facts(node)
    beam, known = replace(geometryOf(node), **fields), set(fields) - set(stillAssumed)
    facts.update(geometry=beam.to_dict(), assumed=tuple(fact for fact in facts["assumed"] if fact not in known))
    with slicer.util.NodeModify(node):
        _place(node, facts, beam)


def assumeView(node, view):
    """Another view (AP, PA, LL, RL) of an X-ray node whose view is assumed, which it stays."""
    new = readAsView(xrayFromNode(node), view)
    if new is not None:
        updateXray(node, new)
        return
    facts = _facts(node)
    beam = ofAssumedView(geometryOf(node), facts["assumed"], *_pathAndFrame(facts), view)
    facts.update(geometry=beam.to_dict())
    with slicer.util.NodeModify(node):
        _place(node, facts, beam)


def putInPlace(node):
    """An X-ray that another module has moved goes back to where it was taken: its geometry says where, not the scene."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    wanted = imageToRas(geometryOf(node))
    if not np.allclose(fromVtkMatrix(matrix), wanted, rtol=0, atol=1e-6):
        node.SetIJKToRASMatrix(toVtkMatrix(wanted))
    if node.GetParentTransformNode() is not None:
        node.SetAndObserveTransformNodeID(None)


def _pathAndFrame(facts):
    """As `editedGeometry` takes them."""
    reading = facts["reading"]
    return _pathOf(facts), reading["frame"] if reading["frames"] > 1 else None


def _pathOf(facts):
    """Of the file it was read from; its name alone in a later session, and whole in scenes of earlier versions."""
    path = facts["reading"]["path"]
    return str(Path(_folders.get((path, facts.get("checksum")), "")) / path) if path else ""


def _facts(node):
    if not isXray(node):
        name = node.GetName() if node is not None else _("no node")
        raise ValueError(_("{name} is not an X-ray read by Diff2CT; load it with Load files...").format(name=name))
    return json.loads(node.GetAttribute(XRAY_ATTRIBUTE))


def _xray(facts, image, valid, beam):
    from diff2ct.examination import Examination
    from diff2ct.geometry import beam_from_dict
    from diff2ct.radiograph import Radiograph

    radiograph = Radiograph(
        image,
        beam,
        valid=valid,
        scale_known=facts["scale_known"],
        assumed=tuple(facts["assumed"]),
        source=facts["source"],
        warnings=tuple(facts["warnings"]),
        examination=Examination(**facts.get("examination", {})),  # scenes of earlier versions have none
    )
    readAssumed = facts.get("read_assumed", ("view", *facts["read_geometry"]))  # scenes of earlier versions do not tell
    reading = {**facts["reading"], "path": _pathOf(facts)}
    return Xray(radiograph, beam_from_dict(facts["read_geometry"]), readAssumed=tuple(readAssumed), **reading)


def xrayFromPixels(node, view):
    """The X-ray in a volume whose file is not known: nothing but its grey values is taken from it, not its spacing."""
    from diff2ct.radiograph import read_radiograph

    requireImage(node)
    pixels = slicer.util.arrayFromVolume(node)[0]
    if pixels.ndim == 3:
        pixels = pixels[..., :3].mean(axis=-1)
    folder = TemporaryFolder.make()
    try:
        path = folder / "pixels.npy"
        np.save(path, pixels)
        radiograph = read_radiograph(path, view=view)
    except ValueError as error:
        raise ValueError(str(error).replace("pixels.npy", node.GetName())) from error
    finally:
        TemporaryFolder.remove(folder)
    radiograph = calledAs(replace(radiograph, assumed=("view", *radiograph.assumed)), "pixels.npy", node.GetName())
    return Xray(radiograph, radiograph.geometry)


def calledAs(radiograph, fileName, name):
    """The same with the name of a node instead of that of its file, also at the beginning of warnings."""
    warnings = (
        words.replace(fileName, name, 1) if words.startswith(f"{fileName}:") else words for words in radiograph.warnings
    )
    return replace(radiograph, source=name, warnings=tuple(warnings))


def requireImage(node):
    """ValueError unless the volume is one image."""
    slices = node.GetImageData().GetDimensions()[2] if node.GetImageData() is not None else 0
    if slices != 1:
        raise ValueError(
            _("{name} has {count} slices, accepted is one image. For a file with several frames, use Load files...").format(
                name=node.GetName(), count=slices
            )
        )


def _setPixels(node, radiograph):
    image, valid = radiograph.line_integral, radiograph.valid
    pixels = np.where(valid, image, np.float32(_invalidValue(radiograph)))
    slicer.util.updateVolumeFromArray(node, pixels[np.newaxis].astype(np.float32))
    low, high = np.percentile(image[valid], (0.5, 99.5))
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.AutoWindowLevelOff()
    display.SetWindowLevel(max(float(high - low), 1e-3), float(high + low) / 2)
    display.SetInterpolate(True)


def _setFacts(node, xray):
    radiograph, path, checksum = xray.radiograph, Path(xray.path), _checksum(node)
    _folders[path.name, checksum] = path.parent
    facts = {
        "geometry": radiograph.geometry.to_dict(),
        "read_geometry": xray.readGeometry.to_dict(),
        "read_assumed": xray.readAssumed,
        "invalid_value": _invalidValue(radiograph),
        "checksum": checksum,
        "scale_known": radiograph.scale_known,
        "assumed": radiograph.assumed,
        "source": radiograph.source,
        "warnings": radiograph.warnings,
        "examination": asdict(radiograph.examination),
        "reading": {
            "path": path.name,
            "frame": xray.frame,
            "frames": xray.frames,
            "polarity": xray.polarity,
            "flippedLeftRight": xray.flippedLeftRight,
            "flippedUpDown": xray.flippedUpDown,
        },
    }
    _place(node, facts, radiograph.geometry)


def _place(node, facts, beam):
    node.SetAttribute(XRAY_ATTRIBUTE, json.dumps(facts))
    node.SetIJKToRASMatrix(toVtkMatrix(imageToRas(beam)))


def _checksum(node):
    """Of the pixels: another one, and another module has changed them."""
    return zlib.crc32(np.ascontiguousarray(slicer.util.arrayFromVolume(node)))


def _invalidValue(radiograph):
    return math.floor(float(radiograph.line_integral.min())) - 1.0


def filesOfNode(node):
    """The files a volume was loaded from, DICOM database first; empty if there are none."""
    files = []
    database = getattr(slicer, "dicomDatabase", None)
    uids = node.GetAttribute("DICOM.instanceUIDs")
    if uids and database is not None:
        files = [database.fileForInstance(uid) for uid in uids.split()]
    storage = node.GetStorageNode()
    if not files and storage is not None and storage.GetFileName():
        files = [storage.GetFileName()]
    return [path for path in files if path]


def isChangedSinceRead(node):
    """Whether the pixels of a volume are no longer those of the file it was loaded from."""
    storage = node.GetStorageNode()
    stored = storage.GetStoredTime().GetMTime() if storage is not None else 0  # 0 too if only offered to be saved
    return 0 < stored < node.GetImageData().GetMTime()


# --- volumes ---


def gridFromNode(node, inWorld=True):
    """The core's grid of a volume, in LPS; with its rigid parent transforms if `inWorld`."""
    from diff2ct.volume import VolumeGrid

    ijkToRas = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(ijkToRas)
    matrix = fromVtkMatrix(ijkToRas)
    if inWorld:
        matrix = worldFromNode(node) @ matrix
    matrix = RAS_FROM_LPS @ matrix
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    size = node.GetImageData().GetDimensions() if node.GetImageData() else (0, 0, 0)
    try:
        direction = tuple(map(tuple, (matrix[:3, :3] / spacing).tolist()))
        return VolumeGrid(size[::-1], tuple(spacing), tuple(matrix[:3, 3]), direction)
    except ValueError as error:
        raise ValueError(_("{name}: {error}").format(name=node.GetName(), error=error)) from error


def worldFromNode(node):
    """(4, 4) in RAS: the node's own space -> world."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        words = _("{name} is under a transform that is not linear; harden it first, in the module Transforms.")
        raise ValueError(words.format(name=node.GetName()))
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return fromVtkMatrix(matrix)


def poseLps(node):
    """(4, 4) in LPS: how the node's parent transforms move the patient."""
    return rasMatrix(worldFromNode(node))


def middleRas(node):
    """(3,) the middle of a volume in its own space, without its parent transforms."""
    ijkToRas = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(ijkToRas)
    return (fromVtkMatrix(ijkToRas) @ [*((n - 1) / 2 for n in node.GetImageData().GetDimensions()), 1.0])[:3]


def voxels(node):
    """(D, H, W) numpy view of the node's voxels; ValueError if there are none, or several values per voxel."""
    if node.GetImageData() is None or node.GetImageData().GetNumberOfScalarComponents() != 1:
        raise ValueError(_("{name} holds no volume with one value per voxel.").format(name=node.GetName()))
    array = slicer.util.arrayFromVolume(node)
    if min(array.shape) < 2:
        raise ValueError(_("{name} is an image, not a volume; choose a CT.").format(name=node.GetName()))
    return array


def addVolume(array, grid, name, scene=None, **attributes):
    """A new scalar volume of `array` (D, H, W) on the core's `grid`, marked as synthetic. attributes: of the node, before it is
    in the scene: lists of nodes look at them when it comes."""
    scene = scene or slicer.mrmlScene
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(scene.GenerateUniqueName(name))
    for key, value in {SYNTHETIC_ATTRIBUTE: "1", "Diff2CT.notice": NOTICE, **attributes}.items():
        node.SetAttribute(key, value)
    node.SetDescription(_("Synthetic. {notice}").format(notice=NOTICE))
    node = scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array))
    node.SetIJKToRASMatrix(toVtkMatrix(RAS_FROM_LPS @ grid.ijk_to_lps))
    return node


def addHuVolume(array, grid, name, provenance=None):
    """`addVolume` in HU, with where it came from (key and value both text)."""
    node = addVolume(array, grid, name, **{PROVENANCE_ATTRIBUTE: json.dumps(provenance or {})})
    quantity, units = slicer.vtkCodedEntry(), slicer.vtkCodedEntry()
    quantity.SetValueSchemeMeaning("112031", "DCM", "Attenuation Coefficient")
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueQuantity(quantity)
    node.SetVoxelValueUnits(units)
    return node


def provenanceOf(node):
    """The provenance that `addHuVolume` stored; empty for other nodes."""
    return json.loads(node.GetAttribute(PROVENANCE_ATTRIBUTE) or "{}")


def isMade(node):
    """Whether Diff2CT has made this CT."""
    return node.GetAttribute(PROVENANCE_ATTRIBUTE) is not None


def isFromXrays(node):
    """Whether Diff2CT has made this volume from X-rays: a reconstruction or what belongs to it, not the sample CT."""
    isSynthetic = node.GetAttribute(SYNTHETIC_ATTRIBUTE) is not None
    return isSynthetic and provenanceOf(node).get("Source") != "diff2ct.phantom"


def ctFromNode(node):
    """The core's volume of a node, in world coordinates."""
    from diff2ct.volume import CtVolume

    return CtVolume(voxels(node), gridFromNode(node))
