"""Coarse copies of X-rays, made once for each picture: quick enough to be asked for while a slider moves."""

from Diff2CTLib import SceneBridge

MAX_PIXELS = 160  # along the longer side; enough for the eye, for the DRR and for the profiles


class SmallXrays:
    def __init__(self):
        self._copies = {}  # node ID -> (time of the picture, pixels, valid)

    def get(self, node):
        """The X-ray of a node at `MAX_PIXELS`, with everything else as it is now."""
        changed = node.GetImageData().GetMTime() if node.GetImageData() else 0
        copy = self._copies.get(node.GetID())
        if copy is None or copy[0] != changed:
            small = SceneBridge.xrayFromNode(node).radiograph.resized(max_pixels=MAX_PIXELS)
            copy = self._copies[node.GetID()] = changed, small.line_integral, small.valid
        return SceneBridge.coarseXray(node, *copy[1:])

    def reset(self):
        """Forget the scene, after it was closed."""
        self._copies.clear()
