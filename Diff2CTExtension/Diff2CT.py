"""Diff2CT: two X-rays in, one CT volume out. The reconstruction runs in a child process, torch is never imported here."""

import importlib.util
import json
import logging
import shutil
from pathlib import Path

import ctk
import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class Diff2CT(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = "Diff2CT"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Tomographic Reconstruction")]
        self.parent.contributors = ["Diff2CT contributors"]
        self.parent.helpText = _(
            "Reconstruct a CT volume from an AP and a lateral X-ray of the spine. Research use only - not for diagnosis. "
            'See the <a href="https://github.com/Diff2CT/SlicerDiff2CT">documentation</a>.'
        )
        self.parent.acknowledgementText = _('Method: <a href="https://arxiv.org/abs/2408.09731">arXiv 2408.09731</a>')


class Diff2CTWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        super().setup()
        self.logic = Diff2CTLogic()
        self.logic.onProgress = self.showProgress
        self.logic.onStopped = self.showStopped

        section = ctk.ctkCollapsibleButton()
        section.text = _("Reconstruction")
        self.layout.addWidget(section)
        form = qt.QFormLayout(section)

        self.apPathEdit, self.apViewComboBox = self._addPicker(form, _("Frontal X-ray:"), ["AP", "PA"])
        self.lateralPathEdit, self.lateralViewComboBox = self._addPicker(form, _("Lateral X-ray:"), ["LL", "RL"])
        self.stepsSpinBox = qt.QSpinBox()
        self.stepsSpinBox.setRange(0, 1000)
        self.stepsSpinBox.specialValueText = _("default")  # shown for 0
        self.stepsSpinBox.toolTip = _("Number of denoising steps. More steps take longer.")
        form.addRow(_("Steps:"), self.stepsSpinBox)
        self.reconstructButton = qt.QPushButton(_("Reconstruct"))
        self.reconstructButton.connect("clicked(bool)", self.onReconstructButton)
        form.addRow(self.reconstructButton)
        self.progressBar = qt.QProgressBar()
        self.progressBar.visible = False
        form.addRow(self.progressBar)
        self.statusLabel = qt.QLabel(_("Research use only - not for diagnosis"))
        self.statusLabel.wordWrap = True
        form.addRow(self.statusLabel)
        self.layout.addStretch(1)

    def cleanup(self):
        self.logic.onProgress = self.logic.onStopped = None  # the panel goes away before the process does
        self.logic.cancel()

    def onReconstructButton(self):
        if self.logic.isRunning():
            self.logic.cancel()
            self.reconstructButton.enabled = False
            self.statusLabel.text = _("Cancelling...")
            return
        with slicer.util.tryWithErrorDisplay(_("Could not start the reconstruction.")):
            self.logic.start(
                self.apPathEdit.currentPath,
                self.lateralPathEdit.currentPath,
                apView=self.apViewComboBox.currentText if self.apViewComboBox.currentIndex else None,
                lateralView=self.lateralViewComboBox.currentText if self.lateralViewComboBox.currentIndex else None,
                steps=self.stepsSpinBox.value or None,
            )
            self.reconstructButton.text = _("Cancel")
            self.statusLabel.text = _("Starting...")
            self.progressBar.setRange(0, 0)  # moves without a value until the first step is reported
            self.progressBar.visible = True

    def showProgress(self, step, steps):
        self.progressBar.setRange(0, steps)
        self.progressBar.value = step
        self.statusLabel.text = _("Step {step} of {steps}").format(step=step, steps=steps)

    def showStopped(self, message):
        self.reconstructButton.text = _("Reconstruct")
        self.reconstructButton.enabled = True
        self.progressBar.visible = False
        self.statusLabel.text = message

    def _addPicker(self, form, label, views):
        pathEdit, viewComboBox = ctk.ctkPathLineEdit(), qt.QComboBox()
        pathEdit.filters = ctk.ctkPathLineEdit.Files
        viewComboBox.addItems([_("View as stated in the file"), *views])
        form.addRow(label, pathEdit)
        form.addRow("", viewComboBox)
        return pathEdit, viewComboBox


class Diff2CTLogic(ScriptedLoadableModuleLogic):
    """Runs `python -m diff2ct.worker`: the request is one JSON line, the answers are JSON lines, the end of its input cancels.

    onProgress(step, steps) and onStopped(message) are called on the GUI thread; volumeNode then holds the result or None.
    """

    def __init__(self):
        super().__init__()
        self.onProgress = self.onStopped = None
        self.volumeNode = None
        self._process = None
        self._request, self._answer = {}, {}

    def start(self, apPath, lateralPath, apView=None, lateralView=None, steps=None, seed=0):
        """Views (AP, PA; LL, RL) are needed for files that do not state them. steps None: the default of diff2ct."""
        if self.isRunning():
            raise RuntimeError(_("A reconstruction is running already."))
        for name, path in ((_("Frontal X-ray"), apPath), (_("Lateral X-ray"), lateralPath)):
            if not path or not Path(path).is_file():
                raise ValueError(_("{name}: no file {path!r}").format(name=name, path=path))
        self._requirePackages()
        self._request = {
            "ap": str(Path(apPath).absolute()),
            "lateral": str(Path(lateralPath).absolute()),
            "output": str(Path(slicer.util.tempDirectory("Diff2CT")) / "reconstruction.nrrd"),
            "geometry": {key: {"view": view} for key, view in (("ap", apView), ("lateral", lateralView)) if view},
            "steps": steps,
            "seed": seed,
        }
        self._answer, self.volumeNode = {}, None
        self._process = qt.QProcess()
        self._process.setWorkingDirectory(str(Path(__file__).resolve().parent))  # where -m finds the diff2ct beside this file
        self._process.connect("readyReadStandardOutput()", self._readAnswers)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._stopped)
        self._process.start(shutil.which("PythonSlicer"), ["-u", "-m", "diff2ct.worker"])
        if not self._process.waitForStarted():
            raise RuntimeError(_("PythonSlicer could not be started: {error}").format(error=self._process.errorString()))
        self._process.write(json.dumps(self._request).encode("ascii") + b"\n")

    def isRunning(self):
        return self._process is not None and self._process.state() != qt.QProcess.NotRunning

    def cancel(self):
        """The process ends before its next step, then onStopped is called."""
        if self.isRunning():
            self._process.closeWriteChannel()

    def _requirePackages(self):
        if importlib.util.find_spec("torch") is None:
            raise RuntimeError(_("PyTorch is missing. Install the extension PyTorch, restart Slicer and install torch there."))
        from slicer.packaging import pip_ensure

        pip_ensure(["safetensors>=0.4"], requester="Diff2CT")

    def _readAnswers(self):
        while self._process.canReadLine():
            self._handleAnswer(self._process.readLine().data().decode("ascii", "replace").strip())

    def _handleAnswer(self, line):
        if not line.startswith('{"event"'):
            logging.info(f"Diff2CT worker: {line}")
            return
        answer = json.loads(line)
        if answer["event"] == "progress":
            if self.onProgress:
                self.onProgress(answer["step"], answer["steps"])
        else:  # "done", "cancelled" or "error"
            self._answer = answer

    def _stopped(self, exitCode, exitStatus):
        messages = self._process.readAllStandardError().data().decode("utf-8", "replace").strip()
        if messages:
            logging.info(f"Diff2CT worker: {messages}")
        if self._answer.get("event") == "done":
            message = self._loadVolume(self._answer["output"])
        elif self._answer.get("event") == "cancelled":
            message = _("Cancelled")
        else:
            cause = self._answer.get("message") or messages.rpartition("\n")[2] or f"exit code {exitCode}"
            message = _("Reconstruction failed: {cause}").format(cause=cause)
        if self.onStopped:
            self.onStopped(message)

    def _loadVolume(self, path):
        name = f"{Path(self._request['ap']).stem} CT (synthetic, not for diagnosis)"
        try:
            self.volumeNode = slicer.util.loadVolume(path, {"name": name})
        except RuntimeError as error:
            return str(error)
        self.volumeNode.SetAttribute("Diff2CT.synthetic", "1")
        return "\n".join([_("Loaded {name}").format(name=name), *self._answer["warnings"]])


class Diff2CTTest(ScriptedLoadableModuleTest):
    def test_missingFileIsNamed(self):
        with self.assertRaisesRegex(ValueError, "missing.dcm"):
            Diff2CTLogic().start(__file__, "missing.dcm")

    def test_answers(self):
        logic = Diff2CTLogic()
        seen = []
        logic.onProgress = lambda step, steps: seen.append((step, steps))
        logic._handleAnswer('{"event": "progress", "step": 2, "steps": 5}')
        logic._handleAnswer('{"event": "error", "message": "no X-ray"}')
        self.assertEqual(seen, [(2, 5)])
        self.assertEqual(logic._answer["message"], "no X-ray")
