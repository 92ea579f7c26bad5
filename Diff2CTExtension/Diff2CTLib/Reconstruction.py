"""One reconstruction: two X-rays of the scene -> files -> child process -> a new volume of the scene."""

import logging
import time
from dataclasses import dataclass, field

import qt
import slicer
from slicer.i18n import tr as _

from Diff2CTLib import Dependencies, SceneBridge, TemporaryFolder, Xray, XrayChecks
from Diff2CTLib.Process import JsonProcess

MAP_NAMES = {
    "sd": lambda: _("{name} standard deviation"),
    "error": lambda: _("{name} expected error"),
    "support": lambda: _("{name} settled by the X-rays"),
}
"""Volumes that come with a reconstruction if it has them; the ends of the interval stay out, as they follow from the error."""


def mapReference(name):
    """The role in which a reconstruction's node refers to one of `MAP_NAMES`."""
    return f"Diff2CT.{name}"


_XRAY_ROLES = ("Diff2CT.ap", "Diff2CT.lateral")
_KNOWS_XRAYS = "Diff2CT.knowsXrays"


def rememberXrays(node, xrays):
    """Let a reconstruction's node refer to the X-ray nodes it was made from, as far as they are in the scene."""
    node.SetAttribute(_KNOWS_XRAYS, "1")
    for role, xray in zip(_XRAY_ROLES, xrays, strict=True):
        if xray.GetScene() is not None:
            node.SetNodeReferenceID(role, xray.GetID())


def xraysOf(node):
    """The X-ray nodes it was made from that are still in the scene; None if it does not tell."""
    if node.GetAttribute(_KNOWS_XRAYS) is None:
        return None
    return [xray for xray in map(node.GetNodeReference, _XRAY_ROLES) if xray is not None]


@dataclass
class Progress:
    """Where a running reconstruction is. step, steps are 0 before the first step; remainingS is None until it is known."""

    phase: str
    step: int = 0
    steps: int = 0
    elapsedS: float = 0.0
    remainingS: float | None = None


@dataclass
class Outcome:
    """How a reconstruction ended. status: done, cancelled or failed. message: one sentence for the user.

    mapNodes: volumes beside it, by the names of `diff2ct.maps.MAPS`. reprojection: per view, how well the volume explains the
    X-ray ({"relative_l2", "ncc"}); reprojectionBefore: the same before data consistency, None without it. warnings: sentences
    about what may spoil it: of the files, of what is assumed, and of X-rays that the volume does not explain. seconds: as
    `Timing` needs it.
    """

    status: str
    message: str
    volumeNode: object = None
    mapNodes: dict = field(default_factory=dict)
    reprojection: list = field(default_factory=list)
    reprojectionBefore: list | None = None
    warnings: list = field(default_factory=list)
    provenance: dict = field(default_factory=dict)
    device: str = ""
    checkpoint: str = ""
    steps: int = 0
    samples: int = 1
    isDefaultSteps: bool = False
    samplingS: float = 0.0
    totalS: float = 0.0


class CancelledError(RuntimeError):
    """Somebody has cancelled a reconstruction that a script was waiting for."""


class Reconstruction:
    """Starts at once. onProgress(Progress) and onFinished(Outcome) come on the GUI thread, the latter exactly once."""

    def __init__(self, ap, lateral, options, onProgress=None, onFinished=None, onLog=None, command=None):
        Dependencies.require()
        pair = [SceneBridge.xrayFromNode(node) for node in (ap, lateral)]
        self.outcome = None
        self._xrays = ap, lateral
        self._onProgress, self._onFinished = onProgress, onFinished
        self._name = _withoutSuffix(pair[0].radiograph.source) or ap.GetName()
        self._sources = ", ".join(xray.radiograph.source for xray in pair)
        self._overtyped = [
            f"{word}: {words}"
            for word, xray in zip((_("AP"), _("lateral")), pair, strict=True)
            for words in XrayChecks.overtypedWords(xray.geometry, xray)
        ]
        self._origin = pair[0].path or self._name  # tells the cases of a batch apart
        self._samples, self._isDefaultSteps = options.get("samples", 1), not options.get("steps")
        self._checkpoint = options.get("checkpoint") or ""
        self._answer, self._stopReason = {}, ""
        self._phase, self._steps, self._samplingS = "starting", 0, 0.0
        self._started = time.monotonic()
        self._folder = None
        try:
            self._folder = TemporaryFolder.make()
            request = self._writeRequest(pair, options)
        except OSError as error:
            if self._folder is not None:
                TemporaryFolder.remove(self._folder)
            raise RuntimeError(
                _("The X-rays could not be passed to the reconstruction: {error}").format(error=error)
            ) from error
        self._process = JsonProcess("diff2ct.worker", self._handleEvent, self._ended, onLog, command)
        self._process.start()
        if self.outcome is None:
            self._process.send(request)

    @property
    def isRunning(self):
        return self.outcome is None

    @property
    def isStopping(self):
        """Cancelled, but its process has not ended yet."""
        return self.isRunning and bool(self._stopReason)

    @property
    def processId(self):
        return self._process.processId

    def cancel(self, reason=None):
        """Stop before the next step; nothing is added to the scene. A second call changes nothing."""
        if self.isRunning and not self.isStopping:
            self._stopReason = reason or _("Cancelled.")
            self._process.stop()

    def abandon(self):
        """Stop now and say nothing: whoever waited for it is gone."""
        if self.isRunning:
            self.outcome = Outcome("cancelled", _("Cancelled."))
            self._process.endNow()
            TemporaryFolder.remove(self._folder)

    def wait(self):
        """Until it has ended; the events of Slicer go on except for the user's clicks."""
        while self.isRunning:
            self._process.wait(50)
            slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents)
        return self.outcome

    def _writeRequest(self, pair, options):
        from diff2ct.radiograph import write_radiograph

        paths = {}
        for key, xray in zip(("ap", "lateral"), pair, strict=True):
            paths[key] = self._folder / f"{key}.npy"
            write_radiograph(xray.radiograph, paths[key])
        return {
            "ap": str(paths["ap"]),
            "lateral": str(paths["lateral"]),
            "output": str(self._folder / "reconstruction.nrrd"),
            "maps_folder": str(self._folder),
            "compress": False,
            **{key: value for key, value in options.items() if value is not None},
        }

    def _handleEvent(self, event):
        kind = event.get("event")
        if kind == "phase":
            self._phase = event["name"]
            self._report(Progress(self._phase, elapsedS=self._elapsed()))
        elif kind == "progress":
            step, self._steps, self._samplingS = event["step"], event["steps"], event["seconds"]
            remaining = event["seconds"] / step * (self._steps - step)
            self._report(Progress(self._phase, step, self._steps, self._elapsed(), remaining))
        else:
            self._answer = event

    def _report(self, progress):
        if self._onProgress and not self._stopReason:
            self._onProgress(progress)

    def _elapsed(self):
        return time.monotonic() - self._started

    def _ended(self, cause):
        kind = self._answer.get("event")
        if self._stopReason:
            self._finish(Outcome("cancelled", self._stopReason))
        elif kind == "done":
            maps = [name for name in MAP_NAMES if name in self._answer["maps"]]
            self._readNext({}, {"volume": self._answer["output"], **{name: self._answer["maps"][name] for name in maps}})
        elif kind == "error":
            self._finish(Outcome("failed", _("The reconstruction failed. {cause}").format(cause=self._answer["message"])))
        else:
            cause = cause or _("it ended without a result")
            words = _("The reconstruction failed because its process stopped: {cause}.")
            self._finish(Outcome("failed", words.format(cause=cause)))

    def _readNext(self, found, paths):
        """Read one volume in each turn of the event loop, so that none is held for long; then add all to the scene."""
        from diff2ct.volume_io import read_volume

        if not self.isRunning:  # abandoned meanwhile
            return
        if self._stopReason:
            self._finish(Outcome("cancelled", self._stopReason))
            return
        if not paths:
            self._finish(self._addToScene(found))
            return
        name, *others = paths
        try:
            found[name] = read_volume(paths[name])
        except (ValueError, OSError) as error:
            self._finish(Outcome("failed", _("The result could not be read: {error}").format(error=error)))
            return
        qt.QTimer.singleShot(0, lambda: self._readNext(found, {other: paths[other] for other in others}))

    def _finish(self, outcome):
        TemporaryFolder.remove(self._folder)
        self.outcome = outcome
        self._xrays = ()
        if self._onFinished:
            self._onFinished(outcome)

    def _addToScene(self, found):
        answer = self._answer
        (volume, provenance), *_maps = found.values()
        provenance["Sources"] = self._sources
        if self._overtyped:
            provenance["Overtyped"] = "; ".join(self._overtyped)
        node = SceneBridge.addHuVolume(
            volume.hu, volume.grid, _("{name} CT (synthetic, not for diagnosis)").format(name=self._name), provenance
        )
        rememberXrays(node, self._xrays)
        mapNodes = {}
        for name in [name for name in MAP_NAMES if name in found]:
            values, words = found[name][0], MAP_NAMES[name]().format(name=self._name)
            mapNodes[name] = SceneBridge.addVolume(values.hu, values.grid, words)
            node.SetNodeReferenceID(mapReference(name), mapNodes[name].GetID())
        for sentence in answer["warnings"]:
            logging.warning(f"Diff2CT, {self._origin}: {sentence}")
        return Outcome(
            "done",
            _("{name} is ready, after {seconds:.1f} s.").format(name=node.GetName(), seconds=self._elapsed()),
            volumeNode=node,
            mapNodes=mapNodes,
            reprojection=answer["reprojection"],
            reprojectionBefore=answer["reprojection_before"],
            warnings=answer["warnings"],
            provenance=provenance,
            device=answer["device"],
            checkpoint=self._checkpoint,
            steps=self._steps,
            samples=self._samples,
            isDefaultSteps=self._isDefaultSteps,
            samplingS=self._samplingS,
            totalS=self._elapsed(),
        )


def _withoutSuffix(name):
    """Without the end that tells a file's format; other dots, of UIDs and of names that people gave, stay."""
    suffix = next((suffix for suffix in Xray.SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]
