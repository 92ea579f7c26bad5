"""The section Reconstruction: model, device, run, progress, cancel."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from Diff2CTLib import Dependencies, SceneBridge, Timing, XrayChecks
from Diff2CTLib.FileChoice import FileChoice
from Diff2CTLib.ParameterNode import Device
from Diff2CTLib.Reconstruction import xraysOf
from Diff2CTLib.Xray import SIZES

_PHASES = {
    "starting": lambda: _("Starting PyTorch"),
    "reading": lambda: _("Reading the X-rays and the model"),
    "sampling": lambda: _("Reconstructing"),
    "writing": lambda: _("Writing the volume"),
}


class ReconstructionSection:
    """panel: the `Widget`."""

    def __init__(self, panel):
        self._panel, self.ui, self.logic = panel, panel.ui, panel.logic
        self._devices = None  # answer of the service, {} while it is asked
        self._translators = []  # paths of all that were used, so that a run with and one without are a click apart
        self._facts = {}  # (task, path) -> answer of the service, None while it is asked
        self._checkpointChoice = FileChoice(self.ui.checkpointComboBox, _("Built in"), self.onCheckpoint)
        self._translatorChoice = FileChoice(self.ui.translatorComboBox, _("None"), self.onTranslator)
        self.ui.reconstructButton.connect("clicked(bool)", self.onReconstruct)
        self.ui.checkpointFileButton.connect("clicked(bool)", self.onCheckpointFile)
        self.ui.checkpointFolderButton.connect("clicked(bool)", self.onCheckpointFolder)
        self.ui.translatorFileButton.connect("clicked(bool)", self.onTranslatorFile)
        self.ui.installButton.connect("clicked(bool)", self.onInstall)
        self.ui.installFolderButton.connect("clicked(bool)", self.onInstallFolder)
        self.ui.progressBar.visible = False
        self.reset()

    def reset(self):
        """Forget the case: other X-rays were chosen, or the scene was closed."""
        self._xrays = {None}
        self._message = ""
        self.ui.logTextEdit.clear()

    def enter(self):
        """The panel is shown: what may have changed since is asked anew."""
        self._facts = {}  # of files
        self._forgetDeviceError()

    def _askForDevices(self):
        """Ask once which devices there are; it takes a moment, as PyTorch has to start."""
        if self._devices is None:
            self._devices = {}
            self.logic.service.ask("hello", self._onDevices)

    def _forgetDeviceError(self):
        """PyTorch may start now: ask again."""
        if self._deviceError():
            self._devices = None

    def onReconstruct(self):
        if self.logic.run is not None:
            self.logic.cancel()
            self.ui.statusLabel.text = _("Cancelling...")
            self.update(self._panel.parameterNode)
            return
        parameterNode = self._panel.parameterNode
        self.ui.logTextEdit.clear()
        self._message = ""
        self._samples = parameterNode.samples
        try:
            self.logic.reconstruct(
                parameterNode.apNode,
                parameterNode.lateralNode,
                steps=parameterNode.steps or None,
                samples=parameterNode.samples,
                seed=parameterNode.seed,
                consistency=parameterNode.consistency.option(),
                checkpoint=parameterNode.checkpoint,
                translator=parameterNode.translator,
                device=parameterNode.device.value,
                onProgress=self.onProgress,
                onFinished=self.onFinished,
                onLog=self.ui.logTextEdit.appendPlainText,
                wait=False,
            )
        except (ValueError, RuntimeError) as error:
            self._tell(str(error))
            return
        if self.logic.run is None:
            return  # it has ended already, and onFinished has said why
        self.ui.progressBar.setRange(0, 0)  # moves without a value until the first step is reported
        self.ui.progressBar.visible = True
        self.ui.statusLabel.text = _PHASES["starting"]()
        self.update(parameterNode)

    def onProgress(self, progress):
        phase = _PHASES[progress.phase]()
        if not progress.steps or progress.phase != "sampling":
            self.ui.statusLabel.text = _("{phase}, {elapsed}").format(phase=phase, elapsed=Timing.inWords(progress.elapsedS))
        else:
            self.ui.progressBar.setRange(0, progress.steps)
            self.ui.progressBar.value = progress.step
            self.ui.statusLabel.text = _("{step}, {elapsed} elapsed, {remaining} remaining").format(
                step=_stepWords(progress, self._samples),
                elapsed=Timing.inWords(progress.elapsedS),
                remaining=Timing.inWords(progress.remainingS),
            )

    def onFinished(self, outcome):
        self.ui.progressBar.visible = False
        self._message = outcome.message
        self.ui.logTextEdit.appendPlainText(outcome.message)
        if outcome.status == "done":
            self._message = "\n".join([outcome.message, *_doubts(outcome)])
            Timing.remember(outcome)
            self._forgetDeviceError()
            self._tellDetails(outcome)
            if self._isOfThisCase(outcome.volumeNode):
                self.logic.getParameterNode().reconstructionNode = outcome.volumeNode
                qt.QTimer.singleShot(0, self._panel.showResult)  # making the views takes its own turn of the event loop
            else:
                self._message += "\n" + _("It belongs to the X-rays that were chosen before; the section Compare lists it.")
            if self._panel.parameterNode is None:
                slicer.util.showStatusMessage(_("Diff2CT: {message}").format(message=outcome.message))
        elif outcome.status == "failed":
            self._tell(outcome.message)
        self._panel.updateSoon()

    def _isOfThisCase(self, node):
        """Whether an X-ray that it was made from is chosen: else it would be compared with the CT of another patient."""
        parameterNode, xrays = self.logic.getParameterNode(), xraysOf(node)
        return not xrays or any(xray in (parameterNode.apNode, parameterNode.lateralNode) for xray in xrays)

    def _tellDetails(self, outcome):
        """Into the log: warnings, the style of the X-rays, how well the volume explains each, what data consistency changed,
        and figures of the patient."""
        for sentence in outcome.warnings:
            self.ui.logTextEdit.appendPlainText(XrayChecks.inWords(sentence))
        if "Style" in outcome.provenance:
            self.ui.logTextEdit.appendPlainText(_("X-rays: {style}").format(style=outcome.provenance["Style"]))
        before = outcome.reprojectionBefore or [None] * len(outcome.reprojection)
        for name, after, old in zip((_("AP"), _("lateral")), outcome.reprojection, before, strict=True):
            words = _("X-ray {name}: the one computed from the volume differs from yours by {error:.1f} %")
            line = words.format(name=name, error=100 * after["relative_l2"])
            if old is not None:
                line += _(", before the fit to the X-rays by {error:.1f} %").format(error=100 * old["relative_l2"])
            self.ui.logTextEdit.appendPlainText(line + _(" (re-projection error, 0 % is identical)"))
        if "Figures" in outcome.provenance:
            limits = _("CalibrationLimits: {limits}").format(limits=outcome.provenance.get("CalibrationLimits", _("not told")))
            lines = [*outcome.provenance["Figures"].split("; "), XrayChecks.inWords(limits)]
            self.ui.logTextEdit.appendPlainText("\n".join(lines))

    def onCheckpoint(self, path):
        self._panel.parameterNode.checkpoint = path

    def onCheckpointFile(self):
        path = qt.QFileDialog.getOpenFileName(
            self._panel.parent, _("Choose a model (checkpoint)"), "", _("Models (*.safetensors)")
        )
        if path:
            self._panel.parameterNode.checkpoint = path

    def onCheckpointFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(self._panel.parent, _("Folder with your models (checkpoints)"))
        if folder:
            self._panel.parameterNode.checkpointFolder = folder

    def onTranslator(self, path):
        self._panel.parameterNode.translator = path

    def onTranslatorFile(self):
        path = qt.QFileDialog.getOpenFileName(
            self._panel.parent, _("Choose a style translator"), "", _("Style translators (*.safetensors)")
        )
        if path:
            self._panel.parameterNode.translator = path

    def onInstall(self):
        self._install(Dependencies.install)

    def onInstallFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(self._panel.parent, _("Folder with wheel files of torch and safetensors"))
        if folder:
            self._install(lambda: Dependencies.installFromFolder(folder))

    def update(self, parameterNode):
        xrays = {parameterNode.apNode, parameterNode.lateralNode}
        if xrays != self._xrays:
            if self.logic.run is None:
                self.reset()
            self._xrays = xrays
        missing = Dependencies.missing()
        if not missing:
            self._askForDevices()
        self._fillCheckpoints(parameterNode)
        self._fillTranslators(parameterNode)
        facts = {} if missing else self._checkpointFacts(parameterNode.checkpoint)
        style = {} if missing else self._translatorFacts(parameterNode.translator)
        self.ui.checkpointFactsLabel.text = _checkpointWords(facts)
        self.ui.checkpointFactsLabel.visible = bool(self.ui.checkpointFactsLabel.text)
        self.ui.translatorFactsLabel.text = _translatorWords(style)
        self.ui.translatorFactsLabel.visible = bool(self.ui.translatorFactsLabel.text)
        isRunning = self.logic.run is not None
        trouble = _troubleWithFiles(facts, style)
        reason = "" if isRunning else self._whyNot(parameterNode, missing, trouble)
        button = self.ui.reconstructButton
        button.text = _("Cancel") if isRunning else _("Reconstruct")
        button.enabled = not reason and not (isRunning and self.logic.run.isStopping)
        button.toolTip = reason or _("Make a CT volume from the two X-rays. Nothing in the scene is replaced.")
        self.ui.missingFrame.visible = bool(missing)
        for name in ("installButton", "installFolderButton"):
            getattr(self.ui, name).enabled = not Dependencies.isInstalling()
        words = _("{names} must be installed first: click Install...")
        self.ui.missingLabel.text = words.format(names=Dependencies.inWords(missing))
        self.ui.deviceLabel.text = self._deviceWords(parameterNode, missing)
        if not isRunning:
            told = trouble or self._message or reason or self._deviceErrorWords()
            self.ui.statusLabel.text = told or _("Ready: click Reconstruct.")
        state = _("PyTorch is missing") if missing else _("not ready") if reason else _("ready")
        state = _("PyTorch does not start") if self._deviceError() and not missing else state
        state = _("choose another style translator") if "error" in style else state
        state = _("choose another model") if "error" in facts else state
        state = _("running") if isRunning else state
        self.ui.reconstructionSection.text = _("Reconstruction: {state}").format(state=state)
        files = ("checkpointComboBox", "checkpointFileButton", "checkpointFolderButton")
        for name in (*files, "translatorComboBox", "translatorFileButton", "deviceComboBox"):
            getattr(self.ui, name).enabled = not isRunning
        isDrawn = not facts.get("in_one_pass", False)
        for name in ("stepsSpinBox", "samplesSpinBox", "seedSpinBox"):
            getattr(self.ui, name).enabled = isDrawn and not isRunning
        self.ui.consistencyComboBox.enabled = facts.get("calibrated", True) and not isRunning

    def _whyNot(self, parameterNode, missing, trouble):
        """Why a reconstruction cannot be started and what to do about it, "" if it can."""
        if Dependencies.isInstalling():
            return _("Packages are being installed; the Python console shows the progress.")
        if missing:
            return _("PyTorch must be installed first: click Install...")
        nodes = (parameterNode.apNode, parameterNode.lateralNode)
        if not all(SceneBridge.isXray(node) for node in nodes):
            return _("Load an AP and a lateral X-ray first, in the section X-rays.")
        views = [SceneBridge.geometryOf(node).view for node in nodes]
        if sum(view.is_lateral for view in views) != 1:
            return _("One X-ray must be frontal (AP or PA) and the other lateral (LL or RL): set View under Geometry.")
        if trouble:
            return trouble
        device = parameterNode.device
        if self._deviceNames() and device is not Device.AUTO and device.value not in self._deviceNames():
            return _("{device} is not available on this computer: set Device to Automatic.").format(device=device.label())
        return ""

    def _fillCheckpoints(self, parameterNode):
        folder, chosen = parameterNode.checkpointFolder, parameterNode.checkpoint
        paths = sorted(str(path) for path in Path(folder).glob("*.safetensors")) if folder else []
        self._checkpointChoice.show(paths, chosen, _("The model (checkpoint) that comes with Diff2CT"))

    def _fillTranslators(self, parameterNode):
        chosen = parameterNode.translator
        if chosen and chosen not in self._translators:
            self._translators.append(chosen)
        self._translatorChoice.show(self._translators, chosen, self.ui.translatorLabel.toolTip)

    def _checkpointFacts(self, path):
        return self._factsOf("inspect", path, checkpoint=path or None)

    def _translatorFacts(self, path):
        return self._factsOf("inspect_translator", path, translator=path) if path else {}

    def _factsOf(self, task, path, **values):
        """What the service says of a file, {} until it has answered."""
        if (task, path) not in self._facts:
            self._facts[task, path] = None
            self.logic.service.ask(task, lambda answer: self._onFacts(task, path, answer), **values)
        return self._facts[task, path] or {}

    def _onFacts(self, task, path, answer):
        ofFiles = ("checkpoint:", "translator:")  # any other error is one of the service
        hasFailed = "error" in answer and not answer["error"].startswith(ofFiles)
        self._facts[task, path] = {} if hasFailed else answer
        self._panel.updateSoon()

    def _onDevices(self, answer):
        self._devices = None if answer.get("isStopped") else answer
        self._panel.updateSoon()

    def _deviceError(self):
        return (self._devices or {}).get("error", "")

    def _deviceErrorWords(self):
        return _("PyTorch does not start: {why}").format(why=self._deviceError()) if self._deviceError() else ""

    def _deviceNames(self):
        """What can be chosen, nothing as long as it is not known."""
        return [device["name"] for device in (self._devices or {}).get("devices", ())]

    def _deviceWords(self, parameterNode, missing):
        """What will be used and how long it will take, as far as that is known."""
        if missing:
            return ""
        if self._deviceError():
            return self._deviceError()
        if not self._devices:
            return _("Looking for devices...")
        name = self._devices["auto"] if parameterNode.device is Device.AUTO else parameterNode.device.value
        if name not in self._deviceNames():
            return _("Not available on this computer; PyTorch finds {names}.").format(names=", ".join(self._deviceNames()))
        described = {device["name"]: device["description"] for device in self._devices["devices"]}[name]
        if name == "cpu":
            cores = self._devices["threads"]
            described = _("the CPU (1 core)") if cores == 1 else _("the CPU ({cores} cores)").format(cores=cores)
        expected = Timing.expectedS(name, parameterNode.checkpoint, parameterNode.steps, parameterNode.samples)
        duration = (
            _("About {seconds}, as measured here.").format(seconds=Timing.inWords(expected))
            if expected is not None
            else _("A time estimate appears after the first run.")
        )
        return _("Runs on {device}. {duration}").format(device=described, duration=duration)

    def _tell(self, sentence):
        """The one message about a failure: in the panel, and in a window so that it is not missed."""
        self._message = XrayChecks.inWords(sentence)
        self._panel.updateSoon()
        slicer.util.errorDisplay(self._message, windowTitle=_("Diff2CT"))

    def _install(self, install):
        self._message = ""
        self._panel.updateSoon()  # is done while pip works
        try:
            with slicer.util.WaitCursor():
                install()
        except RuntimeError as error:
            self._message = str(error)
        else:
            self._message = _("Everything that is needed is installed.")
        self._panel.updateSoon()


def _stepWords(progress, samples):
    words = _("Step {step} of {steps}")
    if 1 < samples <= progress.steps:  # a network that needs one pass draws no samples
        words = _("Step {step} of {steps} ({samples} volumes, {each} steps each)")
    each = progress.steps // samples
    return words.format(step=progress.step, steps=progress.steps, samples=samples, each=each)


def _doubts(outcome):
    """Those warnings of a run that could not be told before it, as all others are by the section X-rays; and that distances
    were assumed, which spoils sizes if they are others.
    """
    from diff2ct.told import unexplained

    doubts = [_("Warning: {sentence}").format(sentence=sentence) for sentence in unexplained(outcome.reprojection)]
    if {*SIZES} & {*outcome.provenance.get("Assumed", "").split(", ")}:
        doubts.append(_("Made with assumed distances: sizes and positions may be wrong. Enter the real ones under Geometry."))
    return doubts


def _troubleWithFiles(facts, style):
    """What is wrong with the model or the style translator and what to do about it, "" if nothing is."""
    if "error" in facts:
        return _("{error}. Choose another model under Advanced.").format(error=facts["error"])
    if "error" in style:
        return _("{error}. Choose another style translator under Advanced, or None.").format(error=style["error"])
    return ""


def _checkpointWords(facts):
    """What a checkpoint is, "" if that is not known."""
    if not facts or "error" in facts:
        return ""
    if facts["in_one_pass"]:
        return _("Reconstructs in one pass: steps, samples and seed do not matter.")
    calibrated = _("calibrated") if facts["calibrated"] else _("not calibrated")
    return _("Diffusion model, {steps} steps by default, {calibrated}.").format(steps=facts["steps"], calibrated=calibrated)


def _translatorWords(facts):
    """What a style translator does, "" if that is not known."""
    if not facts or "error" in facts:
        return ""
    words = _("Puts the X-rays into the style of computed ones first, at {size} pixels; edges may move.")
    return words.format(size=facts["size"])
