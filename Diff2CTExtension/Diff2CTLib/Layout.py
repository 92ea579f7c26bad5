"""The view layouts of the module and the names of their views."""

import math

import numpy as np
import slicer
from slicer.i18n import tr as _

ALIGNMENT_LAYOUT = 24081
COMPARE_LAYOUT = 24082
REVIEW_LAYOUT = 24083

SCENE_VIEW = "Diff2CTScene"
XRAY_VIEWS = {"ap": "Diff2CTAP", "lateral": "Diff2CTLateral"}
XRAY_GROUPS = {"ap": 2408, "lateral": 2410}
"""One each: Shift + mouse in one view moves the slices of all others in its group, and so off their X-ray."""
PLANES = ("Axial", "Coronal", "Sagittal")
RECONSTRUCTION_VIEWS = {plane: f"Diff2CTReconstruction{plane}" for plane in PLANES}
TRUTH_VIEWS = {plane: f"Diff2CTTruth{plane}" for plane in PLANES}

_COLORS = {"Axial": "#F34A33", "Coronal": "#6EB04B", "Sagittal": "#EDD54C"}  # Slicer's red, green, yellow
_SIDES_MARKED = "Diff2CT.sidesMarked"
_COMPARE_GROUP = 2409  # keeps linking apart from Red, Green and Yellow


def show(layoutId):
    """Switch to one of the layouts; False without a main window."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return False
    register()
    node = manager.layoutLogic().GetLayoutNode()
    if manager.layout == layoutId and not node.GetCurrentLayoutDescription():  # of a scene that was opened before `register`
        node.SetViewArrangement(layoutId)
    manager.setLayout(layoutId)
    for viewName in (*XRAY_VIEWS.values(), *RECONSTRUCTION_VIEWS.values(), *TRUTH_VIEWS.values()):
        logic = sliceLogic(viewName)
        if logic is not None:
            _markSides(logic.GetSliceNode())
    return True


def _markSides(sliceNode):
    """Axes with the letters R, A and S into a corner; once, so that they can be switched off."""
    if sliceNode.GetAttribute(_SIDES_MARKED) is None:
        sliceNode.SetAttribute(_SIDES_MARKED, "1")
        sliceNode.SetOrientationMarkerType(sliceNode.OrientationMarkerTypeAxes)


def isShown(layoutId):
    manager = slicer.app.layoutManager()
    return manager is not None and manager.layout == layoutId


def register():
    """Add the layouts to the scene's layout node, if there is a main window: early, as a scene that was saved in one of them
    opens without views while its number is unknown."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    node = manager.layoutLogic().GetLayoutNode()
    for layoutId, description in (
        (ALIGNMENT_LAYOUT, alignmentXml()),
        (COMPARE_LAYOUT, compareXml()),
        (REVIEW_LAYOUT, reviewXml()),
    ):
        if not node.IsLayoutDescription(layoutId):
            node.AddLayoutDescription(layoutId, description)


def sliceLogic(viewName):
    """The slice logic of a view, None while its layout has not been shown."""
    manager = slicer.app.layoutManager()
    widget = manager.sliceWidget(viewName) if manager is not None else None
    return widget.sliceLogic() if widget is not None else None


def viewNode(viewName):
    """The node of a 3D view, None while its layout has not been shown."""
    return slicer.mrmlScene.GetSingletonNode(viewName, "vtkMRMLViewNode")


def camera(viewName):
    """The camera node of a 3D view, None without one."""
    cameras = [node for node in slicer.util.getNodesByClass("vtkMRMLCameraNode") if node.GetLayoutName() == viewName]
    return cameras[0] if cameras else None


def look(viewName, points, direction):
    """Turn a 3D view so that `points` (N, 3) fill it, seen from `direction` (unit vector), all in RAS. False if the view has no
    camera yet."""
    node = camera(viewName)
    if node is None:
        return False
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = float(np.linalg.norm(points - center, axis=1).max())
    distance = 0.85 * radius / math.sin(math.radians(node.GetViewAngle() / 2))  # few scenes fill their sphere
    node.SetFocalPoint(*center)
    node.SetPosition(*(center + distance * np.asarray(direction)))
    node.SetViewUp(0, 0, 1)
    node.ResetClippingRange()
    return True


def alignmentXml():
    """The scene in 3D and the profiles on the left, the two X-rays on the right."""
    left = _split("vertical", [_threeD(SCENE_VIEW, _("3D")), _plot()], (3, 2))
    right = _split(
        "vertical",
        [
            _slice(XRAY_VIEWS["ap"], "Coronal", _("AP"), "#F7BA38", XRAY_GROUPS["ap"]),
            _slice(XRAY_VIEWS["lateral"], "Sagittal", _("Lateral"), "#33BFAD", XRAY_GROUPS["lateral"]),
        ],
    )
    return _split("horizontal", [left, right])


def compareXml():
    """Three planes of the reconstruction above the same of the ground truth."""
    above, below = _reconstructionPlanes(), _planes(TRUTH_VIEWS, _("CT, {plane}"))
    return _split("vertical", [_split("horizontal", above), _split("horizontal", below)])


def reviewXml():
    """Three planes of the reconstruction and the 3D view, for cases without a ground truth."""
    axial, coronal, sagittal = _reconstructionPlanes()
    return _split("vertical", [_split("horizontal", [axial, _threeD("1", "1")]), _split("horizontal", [coronal, sagittal])])


def _reconstructionPlanes():
    return _planes(RECONSTRUCTION_VIEWS, _("Synthetic, {plane}"))


def _planes(views, label):
    """A view of each plane, whose name goes into the label."""
    names = {"Axial": _("axial"), "Coronal": _("coronal"), "Sagittal": _("sagittal")}
    return [_slice(views[plane], plane, label.format(plane=names[plane]), _COLORS[plane], _COMPARE_GROUP) for plane in PLANES]


def _split(direction, contents, sizes=None):
    sizes = sizes or (1,) * len(contents)
    items = "".join(
        f'<item splitSize="{round(1000 * size / sum(sizes))}">{content}</item>'
        for content, size in zip(contents, sizes, strict=True)
    )
    return f'<layout type="{direction}" split="true">{items}</layout>'


def _slice(name, orientation, label, color, group):
    return (
        f'<view class="vtkMRMLSliceNode" singletontag="{name}">'
        f'<property name="orientation" action="default">{orientation}</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{color}</property>'
        f'<property name="viewgroup" action="default">{group}</property></view>'
    )


def _threeD(name, label):
    return (
        f'<view class="vtkMRMLViewNode" singletontag="{name}">'
        f'<property name="viewlabel" action="default">{label}</property></view>'
    )


def _plot():
    return (
        '<view class="vtkMRMLPlotViewNode" singletontag="Diff2CTProfiles">'
        f'<property name="viewlabel" action="default">{_("Profiles")}</property></view>'
    )
