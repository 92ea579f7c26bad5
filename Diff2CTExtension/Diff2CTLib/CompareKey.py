"""What a comparison was computed from, as a short text that is saved with it: another text, and it has to be computed anew."""

import hashlib
import json
import zlib

import numpy as np
import slicer
import vtk

from Diff2CTLib import SceneBridge

_sums = {}  # node ID -> (time of the voxels, their checksum)


def of(reconstruction, truth, xrays):
    """The key of a reconstruction, the CT that it is compared with (or None) and X-ray nodes: voxels, places, geometry."""
    facts = [_volume(reconstruction)]
    if truth is not None:
        facts.append([truth.GetID(), *_volume(truth)])
    facts += [[node.GetAttribute(SceneBridge.XRAY_ATTRIBUTE), _checksum(node)] for node in xrays]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _volume(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    parent = node.GetParentTransformNode()
    if parent is None or parent.IsTransformToWorldLinear():
        place = (SceneBridge.worldFromNode(node) @ SceneBridge.fromVtkMatrix(matrix)).round(4).tolist()
    else:
        place = f"{parent.GetID()} {parent.GetMTime()}"  # such a volume cannot be compared, until that changes
    return [_checksum(node), place]


def _checksum(node):
    image = node.GetImageData()
    if image is None:
        return 0
    changed = image.GetMTime()
    if _sums.get(node.GetID(), (None,))[0] != changed:
        _sums[node.GetID()] = changed, zlib.crc32(np.ascontiguousarray(slicer.util.arrayFromVolume(node)))
    return _sums[node.GetID()][1]
