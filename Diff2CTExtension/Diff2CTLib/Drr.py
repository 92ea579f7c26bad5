"""DRRs of a volume of the scene, computed by the service. The volume is handed over once and kept there."""

import base64

import numpy as np

from Diff2CTLib import SceneBridge
from Diff2CTLib.VolumeFile import VolumeFile


class DrrRenderer:
    """render(...) is for the panel and never blocks, renderAndWait(...) is for scripts."""

    def __init__(self, service):
        self._service = service
        self._held = None  # (key, child) of the volume that the service keeps
        self._handingOver = None  # key of the one on its way
        self._waiting = []

    def render(self, node, beam, callback):
        """callback(image, error): (H, W) line integrals of `node`, moved by its transforms, and ""; or None and a sentence."""
        try:
            pose = SceneBridge.poseLps(node).tolist()
            key = self._key(node)
        except ValueError as error:
            callback(None, str(error))
            return
        request = {"name": key, "beam": beam.to_dict(), "pose": pose}
        if self._isHeld(key):
            self._project(request, callback)
            return
        self._waiting.append((request, callback))
        if self._handingOver != key:
            self._handOver(node, key)

    def renderAndWait(self, node, beam):
        """(H, W) line integrals."""
        key = self._key(node)
        if not self._isHeld(key):
            file = VolumeFile(node, inWorld=False)
            try:
                self._service.askAndWait("hold", name=key, volume=file.write())
            finally:
                file.remove()
            self._held = key, self._service.generation
        pose = SceneBridge.poseLps(node).tolist()
        return _image(self._service.askAndWait("project", name=key, beam=beam.to_dict(), pose=pose))

    def _key(self, node):
        SceneBridge.voxels(node)
        grid = SceneBridge.gridFromNode(node, inWorld=False)
        return f"{node.GetID()} {node.GetImageData().GetMTime()} {hash(grid)}"

    def _isHeld(self, key):
        return self._service.isRunning() and self._held == (key, self._service.generation)

    def _handOver(self, node, key):
        self._handingOver = key
        try:
            file = VolumeFile(node, inWorld=False)
        except OSError as error:
            self._handedOver(key, {"error": str(error)})
            return

        def written(error):
            if error or self._handingOver != key:  # else another volume was chosen meanwhile
                held({"error": error})
            else:
                self._service.ask("hold", held, name=key, volume=file.description)

        def held(answer):
            file.remove()
            self._handedOver(key, answer)

        file.writeInPieces(written)

    def _handedOver(self, key, answer):
        """The service holds the volume `key`, or answers with an error: go on with the requests that waited for it."""
        if self._handingOver != key:
            return
        self._handingOver = None
        self._held = None if "error" in answer else (key, self._service.generation)
        waiting, self._waiting = self._waiting, []
        for request, callback in waiting:
            if "error" in answer:
                callback(None, answer["error"])
            elif request["name"] == key:
                self._project(request, callback)
            else:
                callback(None, "")

    def _project(self, request, callback):
        def answered(answer):
            if "error" in answer:
                callback(None, answer["error"])
            else:
                callback(_image(answer), "")

        self._service.ask("project", answered, **request)


def _image(answer):
    return np.frombuffer(base64.b64decode(answer["pixels"]), "<f4").reshape(answer["shape"])
