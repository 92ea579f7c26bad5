"""The client of `diff2ct.service`: small computations with torch, asked of a child process that stays alive for a while."""

import qt
import slicer
from slicer.i18n import tr as _

from Diff2CTLib.Process import JsonProcess

IDLE_MS = 5 * 60 * 1000  # then its memory is given back


class Service:
    """Requests are answered in order. Everything happens on the GUI thread; nothing blocks except `askAndWait`."""

    def __init__(self, command=None, onLog=None):
        self._command, self._onLog = command, onLog
        self._process = None
        self._callbacks = {}
        self._nextId = 0
        self._idleTimer = qt.QTimer()
        self._idleTimer.setSingleShot(True)
        self._idleTimer.setInterval(IDLE_MS)
        self._idleTimer.connect("timeout()", self.stop)

    def isRunning(self):
        return self._process is not None and self._process.isRunning()

    @property
    def generation(self):
        """Another object for each child: what one child holds, the next does not."""
        return self._process

    def ask(self, task, callback, onProgress=None, **values):
        """callback(answer) with the answer's dict; it has "error", a sentence, if that went wrong. onProgress(share): of a long
        task before that, from 0 to 1."""
        self._nextId += 1
        self._callbacks[self._nextId] = callback, onProgress
        self._idleTimer.stop()
        if not self.isRunning():
            self._process = JsonProcess("diff2ct.service", self._answered, self._ended, self._onLog, self._command)
            self._process.start()
        if self._process is not None:  # else it could not even be started, which the callback has been told
            self._process.send({"id": self._nextId, "task": task, **values})

    def askAndWait(self, task, **values):
        """The answer; raises RuntimeError with the sentence if that went wrong."""
        answers = []
        self.ask(task, answers.append, **values)
        while not answers:
            self.wait()
        if "error" in answers[0]:
            raise RuntimeError(answers[0]["error"])
        return answers[0]

    def wait(self):
        """Let it work for a moment; Slicer repaints, but takes no clicks."""
        if self._process is not None:
            self._process.wait(50)
        slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents)

    def stop(self):
        """Give its memory back; the next request starts another child."""
        self._idleTimer.stop()
        if self._process is not None:
            process, self._process = self._process, None
            process.endNow()
        self._fail(_("The computation was stopped."), isStopped=True)

    def _answered(self, answer):
        number = answer.pop("id", None)
        if "progress" in answer:
            _callback, onProgress = self._callbacks.get(number, (None, None))
            if onProgress:
                onProgress(answer["progress"])
            return
        callback, _onProgress = self._callbacks.pop(number, (None, None))
        if not self._callbacks:
            self._idleTimer.start()
        if callback:
            callback(answer)

    def _ended(self, cause):
        self._process = None
        self._fail(_("The process that computes for Diff2CT has ended: {cause}").format(cause=cause or _("no reason given")))

    def _fail(self, sentence, isStopped=False):
        """isStopped: nothing went wrong, who asks again may get an answer."""
        callbacks, self._callbacks = self._callbacks, {}
        for callback, _onProgress in callbacks.values():
            callback({"error": sentence, "isStopped": isStopped})
