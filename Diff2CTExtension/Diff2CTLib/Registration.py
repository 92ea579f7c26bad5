"""2D/3D registration in the background: a CT of the scene is moved to where X-rays show it."""

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from Diff2CTLib import Pose, SceneBridge, TemporaryFolder
from Diff2CTLib.VolumeFile import VolumeFile


class Undo:
    """Takes back that a CT was moved, while neither it nor one of its X-rays has changed since. It keeps none of them."""

    def __init__(self, ct, xrays, before):
        """After the CT was moved by the pose that it is under. before: the matrix that this had."""
        self._ids, self._poseId = [node.GetID() for node in (ct, *xrays)], ct.GetTransformNodeID()
        self._before, self._after = before, _stateOf(ct, xrays)

    def isOf(self, ct):
        return ct.GetID() == self._ids[0]

    @property
    def isPossible(self):
        ct, *xrays = map(slicer.mrmlScene.GetNodeByID, self._ids)
        if ct is None or None in xrays or ct.GetTransformNodeID() != self._poseId:
            return False
        return _isSame(self._after, _stateOf(ct, xrays))

    def do(self):
        slicer.mrmlScene.GetNodeByID(self._poseId).SetMatrixTransformToParent(self._before)


@dataclass
class Registration:
    """How a CT was moved. shiftMm: of its middle. before, after: agreement of edges of each X-ray, NaN where nothing could be
    compared, and rival (see `diff2ct.registration`). undo: None if the CT stays."""

    shiftMm: float
    turnDeg: float
    before: list
    after: list
    rival: float
    seconds: float
    undo: Undo | None = None


def registerAsync(service, ct, xrays, isWanted, onDone, onProgress=None):
    """onDone(Registration or None, error sentence). The CT gets a pose of its own, or moves with the one it has.

    isWanted() is asked before the service is: until then, nobody can be stopped. onProgress(share) from 0 to 1, meanwhile."""
    folder, file = None, None

    def finish(registration, error=""):
        if file is not None:
            file.remove()
        if folder is not None:
            TemporaryFolder.remove(folder)
        onDone(registration, error)

    try:
        _checkMovable(ct)
        folder, files = TemporaryFolder.make(), []
        for index, node in enumerate(xrays):
            files.append(str(folder / f"{index}.npy"))
            SceneBridge.writeXray(node, files[-1])
        file = VolumeFile(ct, inWorld=False)
        before = _stateOf(ct, xrays)
        if before is None:
            raise ValueError(_("CT and X-rays must be in the scene."))
    except (ValueError, OSError) as error:
        finish(None, str(error))
        return

    def written(error):
        if error:
            finish(None, error)
        elif not isWanted():
            finish(None, _("The computation was stopped."))
        else:
            values = {"volume": file.description, "radiographs": files, "pose": before[0].tolist()}
            service.ask("register", answered, onProgress, **values)

    def answered(answer):
        if "error" in answer:
            finish(None, answer["error"])
        elif not _isSame(before, _stateOf(ct, xrays)):
            finish(None, _("The CT or an X-ray was moved or removed meanwhile, so the CT stays where it is."))
        else:
            finish(_moved(ct, xrays, before[0], answer))

    file.writeInPieces(written)


def _checkMovable(ct):
    own = ct.GetParentTransformNode()
    if own is not None and not Pose.isPlain(own):
        words = _("{name} is not a rigid transform, so only the module Transforms can change it.")
        raise ValueError(words.format(name=own.GetName()))


def _stateOf(ct, xrays):
    """(pose of the CT, beams); None if one of them is no longer in the scene."""
    if any(slicer.mrmlScene.GetNodeByID(node.GetID() or "") is not node for node in (ct, *xrays)):
        return None
    try:
        return SceneBridge.poseLps(ct), [SceneBridge.geometryOf(node) for node in xrays]
    except ValueError:  # under a transform that bends
        return None


def _isSame(one, other):
    return other is not None and np.allclose(one[0], other[0], rtol=0, atol=1e-6) and one[1] == other[1]


def _moved(ct, xrays, start, answer):
    """Move the CT as the answer says."""
    pose = np.array(answer["pose"])
    middle = np.append(SceneBridge.rasFromLps(SceneBridge.middleRas(ct)), 1.0)
    turn = (np.trace(pose[:3, :3] @ start[:3, :3].T) - 1) / 2
    undo = None
    if not np.allclose(pose, start, rtol=0, atol=1e-9):
        center = SceneBridge.centerRas(xrays)
        node, before = Pose.ofCt(ct), vtk.vtkMatrix4x4()
        node.GetMatrixTransformToParent(before)
        Pose.write(node, Pose.values(SceneBridge.rasMatrix(pose), center), center)
        undo = Undo(ct, xrays, before)
    return Registration(
        shiftMm=float(np.linalg.norm(((pose - start) @ middle)[:3])),
        turnDeg=float(np.degrees(np.arccos(np.clip(turn, -1, 1)))),
        before=[np.nan if value is None else value for value in answer["before"]],
        after=[np.nan if value is None else value for value in answer["after"]],
        rival=answer["rival"],
        seconds=answer["seconds"],
        undo=undo,
    )
