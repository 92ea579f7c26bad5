"""The pose of a CT as an ordinary linear transform node: a shift [mm], then a turn [deg] about a fixed point, in RAS.

The node of a pose lies under the transform that the CT was found under, say a registration, which stays as it is.
"""

import math

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from Diff2CTLib import SceneBridge

NAMES = ("LeftRight", "BackFront", "FeetHead", "TiltX", "TiltY", "TiltZ")
"""Order of the six values: shift along R, A, S of the CT [mm], turns about R, A, S [deg]."""

_POSE_ATTRIBUTE = "Diff2CT.pose"


def addNode(start=None):
    """A pose that moves nothing yet, under the transform node `start`, if there is one."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", _("Pose of the CT"))
    node.SetAttribute(_POSE_ATTRIBUTE, "1")
    node.SetAndObserveTransformNodeID(start.GetID() if start is not None else None)
    return node


def ofCt(ct):
    """The pose that a CT is under, made if there is none yet, under what the CT was found under."""
    node = ct.GetParentTransformNode()
    if not isOwn(node):
        node = addNode(start=node)
        ct.SetAndObserveTransformNodeID(node.GetID())
    return node


def isOwn(node):
    """Whether `addNode` has made it: other transforms are never written to."""
    return node is not None and node.GetAttribute(_POSE_ATTRIBUTE) is not None


def write(node, sixValues, center):
    """Into the node, so that with its parent transforms it does: shift; then turn about `center` (RAS), about R first, then A,
    then S."""
    fromStart = np.linalg.inv(SceneBridge.worldFromNode(node)) @ matrix(sixValues, center)
    node.SetMatrixTransformToParent(SceneBridge.toVtkMatrix(fromStart))


def read(node, center):
    """The six values of what the node does with its parent transforms."""
    return values(matrixOf(node), center)


def matrixOf(node):
    """(4, 4) of what the node does with its parent transforms."""
    found = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToWorld(found)
    return SceneBridge.fromVtkMatrix(found)


def isMoved(node):
    """Whether the CT is elsewhere than where it was found."""
    found = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToParent(found)
    return not np.allclose(SceneBridge.fromVtkMatrix(found), np.eye(4), rtol=0, atol=1e-6)


def reset(node):
    """Back to where the CT was found."""
    node.SetMatrixTransformToParent(vtk.vtkMatrix4x4())


def isPlain(node):
    """Whether six values say all that the node does with its parent transforms: no bending, scaling, shearing, mirroring."""
    if not node.IsA("vtkMRMLLinearTransformNode") or not node.IsTransformToWorldLinear():
        return False
    found = matrixOf(node)
    return np.allclose(matrix(values(found, np.zeros(3)), np.zeros(3))[:3, :3], found[:3, :3], rtol=0, atol=1e-5)


def matrix(sixValues, center):
    """(4, 4) of six values."""
    a, b, c = (math.radians(angle) for angle in sixValues[3:])
    aboutX = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    aboutY = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    aboutZ = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    result = np.eye(4)
    result[:3, :3] = aboutZ @ aboutY @ aboutX
    result[:3, 3] = np.asarray(center) + result[:3, :3] @ (np.asarray(sixValues[:3]) - center)
    return result


def values(matrix4, center):
    """The six values whose `matrix` is the rotation and shift of `matrix4`."""
    turn = matrix4[:3, :3]
    b = math.asin(max(-1.0, min(1.0, -turn[2, 0])))
    a, c = math.atan2(turn[2, 1], turn[2, 2]), math.atan2(turn[1, 0], turn[0, 0])
    shift = np.asarray(center) + turn.T @ (matrix4[:3, 3] - center)
    return [*shift.tolist(), *(math.degrees(angle) for angle in (a, b, c))]
