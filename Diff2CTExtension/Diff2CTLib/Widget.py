"""The panel: its sections over one parameter node, brought up to date together and never more often than the eye can see."""

import logging
import sys

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from Diff2CTLib import SyntheticNotice
from Diff2CTLib.AlignmentPreview import AlignmentPreview
from Diff2CTLib.AlignmentSection import AlignmentSection
from Diff2CTLib.CompareSection import CompareSection
from Diff2CTLib.MeasureSection import MeasureSection
from Diff2CTLib.ReconstructionSection import ReconstructionSection
from Diff2CTLib.SmallXrays import SmallXrays
from Diff2CTLib.WheelGuard import WheelGuard
from Diff2CTLib.XraySection import XraySection

_UPDATE_MS = 15
_SECTIONS = ("xraySection", "measureSection", "alignmentSection", "reconstructionSection", "compareSection")


class Widget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    logicClass = None  # set by Diff2CT.py

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameterNode = None
        self._guiTag = None
        self._observed = []
        self._due = set()  # names of the sections that the next update is for
        self._failures = {}  # name of a section -> what it last could not show

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Diff2CT.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self._wheelGuard = WheelGuard(uiWidget)
        self._wheelGuard.guard(uiWidget)
        self.logic = self.logicClass()
        self._updateTimer = qt.QTimer()
        self._updateTimer.setSingleShot(True)
        self._updateTimer.setInterval(_UPDATE_MS)
        self._updateTimer.connect("timeout()", self._updateDue)
        self.smallXrays = SmallXrays()
        self.preview = AlignmentPreview(self.logic.drr, self.smallXrays, self._onDrr)
        self.xraySection = XraySection(self)
        self.measureSection = MeasureSection(self)
        self.alignmentSection = AlignmentSection(self)
        self.reconstructionSection = ReconstructionSection(self)
        self.compareSection = CompareSection(self)
        SyntheticNotice.notice.register()  # after a reload, or if the module came after the start of Slicer
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneEndImport)
        self._connectParameterNode()

    def cleanup(self):
        """The panel goes away: at reload, and when Slicer ends."""
        self._disconnectParameterNode()
        self.removeObservers()
        self._updateTimer.stop()
        self.measureSection.release()
        self.compareSection.views.release()
        SyntheticNotice.notice.unregister()
        self.logic.dispose()

    def enter(self):
        self._connectParameterNode()
        self.reconstructionSection.enter()
        self.compareSection.enter()

    def exit(self):
        self._disconnectParameterNode()

    def onReload(self):
        """Import the package anew too, so that edits of it are seen without a restart."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "Diff2CTLib"]:  # it holds its modules, too
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def updateSoon(self, section=None):
        """Bring the panel up to date once whatever is happening is over; many calls make one update. section: the name of the
        only one that changed, if that is known."""
        self._due.update(_SECTIONS if section is None else (section,))
        if not self._updateTimer.active:
            self._updateTimer.start()

    def _updateDue(self):
        due, self._due = self._due, set()
        self.update(due)

    def update(self, due=_SECTIONS):
        """Bring sections in line with the scene, by default all; one that fails does not keep the others from it."""
        if self.parameterNode is None or slicer.mrmlScene.IsImporting():
            return  # once the scene is there, the panel is connected to it anew
        self._observeNodes()
        for name in filter(due.__contains__, _SECTIONS):
            try:
                getattr(self, name).update(self.parameterNode)
                self._failures.pop(name, None)
            except Exception as error:
                self._tellFailure(name, error)

    def _tellFailure(self, name, error):
        """In the headline of the section, and with all details in the log, there only once."""
        headline = getattr(self.ui, name)
        title = headline.text.partition(":")[0]
        headline.text = _("{title}: internal error, see the log of Slicer ({error})").format(title=title, error=error)
        if self._failures.get(name) != repr(error):
            self._failures[name] = repr(error)
            logging.exception(f"Diff2CT: {headline.text}")

    def showXrays(self):
        """After loading: the view layout in which the X-rays are checked, unless another module is shown by now."""
        if self.parameterNode is None:
            return
        self.ui.alignmentSection.collapsed = False
        self.alignmentSection.onShow()

    def showResult(self):
        """After a reconstruction: the view layout in which it is looked at, unless another module is shown by now."""
        if self.parameterNode is None:
            return
        self.ui.compareSection.collapsed = False
        self.compareSection.onResult()
        self.updateSoon()

    def _onDrr(self):
        self.alignmentSection.onDrr()

    def _connectParameterNode(self):
        if self.parameterNode is None:
            self.parameterNode = self.logic.getParameterNode()
            self._guiTag = self.parameterNode.connectGui(self.ui)
            self.addObserver(self.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onModified)
        self.updateSoon()

    def _disconnectParameterNode(self):
        if self.parameterNode is not None:
            self.removeObserver(self.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onModified)
            self.parameterNode.disconnectGui(self._guiTag)
            self.parameterNode = None
        self._observe([])

    def _onModified(self, _caller, _event):
        self.updateSoon()

    def _observeNodes(self):
        """X-rays and volumes may be changed by any other module, also by undo and by the Transforms module."""
        parameterNode = self.parameterNode
        nodes = (
            parameterNode.apNode,
            parameterNode.lateralNode,
            parameterNode.previewNode,
            parameterNode.poseNode,
            parameterNode.reconstructionNode,
            parameterNode.truthNode,
        )
        self._observe([node for node in dict.fromkeys(nodes) if node is not None])

    def _observe(self, nodes):
        if nodes == self._observed:
            return
        events = (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLTransformableNode.TransformModifiedEvent)
        for node in self._observed:
            for event in events:
                self.removeObserver(node, event, self._onModified)
        for node in nodes:
            for event in events:
                self.addObserver(node, event, self._onModified)
        self._observed = nodes

    def _onSceneStartClose(self, _caller, _event):
        self._disconnectParameterNode()

    def _onSceneEndClose(self, _caller, _event):
        self.smallXrays.reset()
        self.preview.reset()
        self.xraySection.reset()
        self.measureSection.reset()
        self.alignmentSection.reset()
        self.reconstructionSection.reset()
        self.compareSection.reset()
        if self.parent.isEntered:
            self._connectParameterNode()

    def _onSceneEndImport(self, _caller, _event):
        if self.parent.isEntered:
            self._disconnectParameterNode()
            self._connectParameterNode()
