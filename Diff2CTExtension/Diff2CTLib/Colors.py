"""Colour tables that Slicer does not have: one of each per scene, made when first asked for. Those that saved volumes refer to
are saved with them.

A slice view draws a colour or, where its alpha is 0, nothing; what lies between is drawn as if it were 1.
"""

import slicer

GREY = "vtkMRMLColorTableNodeGrey"
AP_COLOR = (0.97, 0.73, 0.22)
LATERAL_COLOR = (0.20, 0.75, 0.68)

DIFFERENCE_HU = 600.0
DEVIATION_HU = 400.0
ERROR_HU = 800.0
UNSEEN_HU = 40.0
UNSEEN_SHARE = 0.25
"""Ends of the scales, and what is too little to be coloured."""
_SIZE = 256


def differenceColor():
    """Blue below, red above, for +-`DIFFERENCE_HU`."""

    def color(x):  # x in [-1, 1]
        strength = abs(x)
        warm, cold = (0.80, 0.15, 0.15), (0.13, 0.35, 0.80)
        target = warm if x > 0 else cold
        return (*((1 - strength) * 1.0 + strength * c for c in target), float(strength * DIFFERENCE_HU > UNSEEN_HU))

    return _table("Diff2CT difference", [color(2 * i / (_SIZE - 1) - 1) for i in range(_SIZE)])


def deviationColor():
    """Yellow to red with growing standard deviation, up to `DEVIATION_HU`."""
    shares = [i / (_SIZE - 1) for i in range(_SIZE)]
    return _table(
        "Diff2CT standard deviation",
        [(1.0, 0.95 - 0.75 * share, 0.15, float(share * DEVIATION_HU > UNSEEN_HU)) for share in shares],
    )


def supportColor():
    """Green where the X-rays settle what is there, on a scale from 0 to 1."""
    shares = [i / (_SIZE - 1) for i in range(_SIZE)]
    colors = [(0.80 - 0.75 * share, 0.95 - 0.35 * share, 0.70 - 0.50 * share, float(share > UNSEEN_SHARE)) for share in shares]
    return _table("Diff2CT support", colors)


def edgeColor():
    """One bright colour."""
    return _table("Diff2CT edges", [(1.0, 0.85, 0.1, 1.0)] * _SIZE, isOfVolumes=False)


def _table(name, colors, isOfVolumes=True):
    tag = name.replace(" ", "")
    node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if node is None:
        node = slicer.vtkMRMLColorTableNode()
        node.SetSingletonTag(tag)
        node.SetName(name)
        node.SetTypeToUser()
        node.SetNumberOfColors(len(colors))
        for index, (red, green, blue, alpha) in enumerate(colors):
            node.SetColor(index, str(index), red, green, blue, alpha)
        node.SetHideFromEditors(not isOfVolumes)
        node.SetSaveWithScene(isOfVolumes)
        node = slicer.mrmlScene.AddNode(node)
    return node.GetID()
