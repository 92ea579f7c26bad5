"""A Python module of the core in a process of its own: JSON lines go in, JSON lines come out, its end is always reported once.

Slicer's process stays free of torch, and survives a crash or an out-of-memory of the child. The child is told to stop by the
end of its standard input, which also happens if Slicer itself goes away; `PythonSlicer` is a launcher, so killing it might not
reach the child, and of a child that crashes it says "... exit abnormally ..." on standard error and ends with code 1
(ctkAppLauncher.cpp).
"""

import json
import shutil
import sys
from collections import deque
from pathlib import Path

import qt
from slicer.i18n import tr as _

MODULE_FOLDER = Path(__file__).resolve().parents[1]  # where `-m` finds the diff2ct beside this file
KEPT_LINES = 40
_LAUNCHER_SAW_CRASH = "exit abnormally"
GRACE_MS = 5000


def pythonCommand():
    """The Python that has Slicer's packages."""
    return shutil.which("PythonSlicer") or sys.executable


class JsonProcess:
    """One run of `python -u -m MODULE`.

    onEvent(dict) for each line of its standard output that is a JSON object; onLog(line) for all other lines.
    onEnd(cause): once, when it has ended, "" after a clean exit, else a sentence. All on the GUI thread.
    """

    def __init__(self, module, onEvent, onEnd, onLog=None, command=None):
        self._module, self._onEvent, self._onEnd, self._onLog = module, onEvent, onEnd, onLog
        self._command = command or [pythonCommand(), "-u", "-m", module]
        self._errors = deque(maxlen=KEPT_LINES)
        self._wasKilled = self._hasEnded = False
        self._process = qt.QProcess()
        self._process.setWorkingDirectory(str(MODULE_FOLDER))
        self._killTimer = qt.QTimer()
        self._killTimer.setSingleShot(True)
        self._connections = (
            (self._process, "readyReadStandardOutput()", self._readOutput),
            (self._process, "readyReadStandardError()", self._readErrors),
            (self._process, "finished(int,QProcess::ExitStatus)", self._finished),
            (self._process, "errorOccurred(QProcess::ProcessError)", self._failed),
            (self._killTimer, "timeout()", self.kill),
        )
        for sender, signal, method in self._connections:
            sender.connect(signal, method)

    def start(self):
        self._process.start(self._command[0], self._command[1:])

    def send(self, request):
        """One request; while the child starts it is kept for it."""
        self._process.write(json.dumps(request).encode("ascii") + b"\n")

    def isRunning(self):
        return self._process.state() != qt.QProcess.NotRunning

    @property
    def processId(self):
        return int(self._process.processId())

    def stop(self):
        """Ask the child to end; it is killed if it does not within `GRACE_MS`."""
        if self.isRunning():
            self._process.closeWriteChannel()
            self._killTimer.start(GRACE_MS)

    def kill(self):
        if self.isRunning():
            self._wasKilled = True
            self._process.kill()

    def wait(self, milliseconds):
        """Let the child work for a while, delivering its events; for callers that block."""
        if self.isRunning():
            self._process.waitForReadyRead(milliseconds)
        if self.isRunning() and not self._process.bytesAvailable():
            self._process.waitForFinished(1)

    def endNow(self):
        """Stop without another word: nothing will be reported any more."""
        self._hasEnded = True
        self._process.closeWriteChannel()
        self._process.kill()
        self._process.waitForFinished(1000)

    def _readOutput(self):
        while self._process.canReadLine():
            self._handleLine(self._process.readLine().data().decode("ascii", "replace").strip())

    def _handleLine(self, line):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if self._hasEnded:
            return
        if isinstance(event, dict):
            self._onEvent(event)
        elif line:
            self._log(line)

    def _readErrors(self):
        text = self._process.readAllStandardError().data().decode("utf-8", "replace")
        for line in text.splitlines():
            if line.strip():
                self._errors.append(line.rstrip())
                self._log(line.rstrip())

    def _log(self, line):
        if self._onLog and not self._hasEnded:
            self._onLog(line)

    def _finished(self, exitCode, exitStatus):
        self._readOutput()
        self._readErrors()
        self._end(self._cause(exitCode, exitStatus))

    def _failed(self, error):
        if error == qt.QProcess.FailedToStart:
            self._end(_("{program} could not be started: {reason}").format(
                program=self._command[0], reason=self._process.errorString()))  # fmt: skip

    def _end(self, cause):
        self._killTimer.stop()
        if not self._hasEnded:
            self._hasEnded = True
            self._onEnd(cause)
        qt.QTimer.singleShot(0, self._letGo)

    def _letGo(self):
        """Qt keeps the methods that it calls, and they keep this object with all that its callbacks hold. Done only after the
        signal of the end: nobody else may be left who holds the process that sends it."""
        for sender, signal, method in self._connections:
            sender.disconnect(signal, method)
        self._connections = ()
        self._onEvent = self._onEnd = self._onLog = None

    def _cause(self, exitCode, exitStatus):
        if self._wasKilled:
            return _("it did not stop in time and was ended")
        hasCrashed = exitStatus == qt.QProcess.CrashExit
        if exitCode and self._errors and _LAUNCHER_SAW_CRASH in self._errors[-1]:
            hasCrashed = True
            self._errors.pop()
        last = f": {self._errors[-1]}" if self._errors else ""
        if hasCrashed:
            return _("it was ended by the system, which often means that memory ran out{last}").format(last=last)
        return _("exit code {code}{last}").format(code=exitCode, last=last) if exitCode else ""
