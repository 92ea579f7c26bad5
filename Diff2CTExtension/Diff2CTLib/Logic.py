"""What the module can do, without a panel: the console API, and what the panel calls.

ap, lateral = logic.loadXrays(["AP.dcm", "LATERAL.dcm"])
result = logic.reconstruct(ap, lateral)
print(logic.compare(result.volumeNode, ctNode).scores)
"""

import logging
import re
from dataclasses import replace
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

from Diff2CTLib import Dependencies, SceneBridge, Xray
from Diff2CTLib.Comparison import Comparison, compareAsync
from Diff2CTLib.Drr import DrrRenderer
from Diff2CTLib.ParameterNode import DEFAULT_SAMPLES, Diff2CTParameterNode
from Diff2CTLib.Reconstruction import CancelledError, Reconstruction
from Diff2CTLib.Registration import registerAsync
from Diff2CTLib.Service import Service

FALLBACK_VIEWS = {"ap": "AP", "lateral": "LL"}
_VIEWS_IN_NAMES = {"pa": "PA", "ap": "AP", "rl": "RL", "ll": "LL", "lat": "LL", "lateral": "LL"}


def _viewInName(path):
    """The view that a word in a file's name speaks of, None if none does, or some of each place."""
    words = re.split(r"[^a-z]+", Path(path).stem.lower())
    views = [view for word, view in _VIEWS_IN_NAMES.items() if word in words]
    return views[0] if len({*map(_slotOf, views)}) == 1 else None


def _slotOf(view):
    return "lateral" if view in ("LL", "RL") else "ap"


def _isXrayFile(path):
    """By its suffix; files of a CD have none, or the end of a number, but are DICOM."""
    from diff2ct.image_file import is_dicom

    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    return path.name.lower().endswith(Xray.SUFFIXES) or is_dicom(path)


def _changedWords(node):
    return _(
        "{name} was changed after it was loaded. The X-ray is that of its file, without the changes; to use them, save the "
        "volume and load that file here."
    ).format(name=node.GetName())


class Logic(ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Needs no widget and no main window. Errors are ValueError (bad input) or RuntimeError (could not be done), in words."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        VTKObservationMixin.__init__(self)
        self.workerCommand = None  # the tests put another program here
        self.service = Service(onLog=lambda line: logging.info(f"Diff2CT service: {line}"))
        self.registering = Service(onLog=lambda line: logging.info(f"Diff2CT registration: {line}"))  # DRRs do not wait
        self.drr = DrrRenderer(self.service)
        self._run = None
        self._registration = None  # a token of the one that is going on
        self._undos = {}  # of registrations, the last one at the end, each with the IDs of the nodes that it needs
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneClose)
        slicer.app.connect("aboutToQuit()", self.close)

    def getParameterNode(self):
        return Diff2CTParameterNode(super().getParameterNode())

    def close(self):
        """End the child processes. Called when the panel goes away and when Slicer does; the logic can be used again after."""
        if self._run is not None:
            self._run.abandon()
        self.service.stop()
        self.cancelRegistration()

    def dispose(self):
        """`close`, for good."""
        self.close()
        self.removeObservers()
        slicer.app.disconnect("aboutToQuit()", self.close)

    # --- X-rays ---

    def loadXray(self, path, view=None, fallbackView=None, frame=None, polarity="auto"):
        """A new node with the X-ray in a DICOM, PNG, JPEG, TIFF, NRRD, NIfTI, MetaImage or NumPy file.

        view: AP, PA, LL or RL, needed where the file does not state it. frame: of a file with several, from 0.
        polarity: "auto", "bright_dense" or "dark_dense".
        """
        xray = Xray.readXray(path, view, fallbackView, frame, polarity)
        return SceneBridge.addXray(xray, Path(path).name)

    def loadXrays(self, paths, occupied=()):
        """[AP node, lateral node] of one or two files in any order, None for a place without a file.

        Where a file does not tell its view, that of a word in its name is assumed (ap, pa, lat, lateral, ll or rl between other
        signs), else that of the free place, in the order of `paths`. occupied: places ("ap", "lateral") that are not free.
        """
        from diff2ct.assumptions import ViewNotStatedError

        nodes = {}
        stated, unstated = [], []
        for path in paths:
            try:
                stated.append((path, Xray.readXray(path)))
            except ViewNotStatedError:
                unstated.append(path)
        for path, xray in stated:
            slot = _slotOf(xray.geometry.view.value)
            if slot in nodes:
                words = _("Both files are of the same kind, {view}. Load a frontal and a lateral X-ray.")
                raise ValueError(words.format(view=xray.geometry.view.value))
            nodes[slot] = (path, xray)
        unnamed = []
        for path in unstated:
            view = _viewInName(path)
            if view is None or _slotOf(view) in nodes:
                unnamed.append(path)
            else:
                nodes[_slotOf(view)] = (path, Xray.readXray(path, fallbackView=view))
        free = [slot for slot in ("ap", "lateral") if slot not in nodes and slot not in occupied]
        for path in unnamed:
            if not free:
                words = _(
                    "{path} does not state its view, and both places are taken. Set the list AP or Lateral to "
                    '"Choose or load", then load it again.'
                )
                raise ValueError(words.format(path=path))
            slot = free.pop(0)
            nodes[slot] = (path, Xray.readXray(path, fallbackView=FALLBACK_VIEWS[slot]))
        return [
            SceneBridge.addXray(nodes[slot][1], Path(nodes[slot][0]).name) if slot in nodes else None
            for slot in ("ap", "lateral")
        ]

    def adoptXray(self, node, slot):
        """The X-ray in a volume that another module loaded: read again from its file, else from its pixels."""
        if SceneBridge.isXray(node):
            return node
        SceneBridge.requireImage(node)
        return SceneBridge.addXray(self._xrayOf(node, FALLBACK_VIEWS[slot]), _("{name} (X-ray)").format(name=node.GetName()))

    def _xrayOf(self, node, fallbackView):
        for path in SceneBridge.filesOfNode(node)[:1]:
            try:
                xray = Xray.readXray(path, fallbackView=fallbackView)
            except ValueError as error:
                logging.info(f"Diff2CT reads {node.GetName()} from its pixels: {error}")
            else:
                radiograph = SceneBridge.calledAs(xray.radiograph, Path(path).name, node.GetName())
                if SceneBridge.isChangedSinceRead(node):
                    radiograph = replace(radiograph, warnings=(*radiograph.warnings, _changedWords(node)))
                return replace(xray, radiograph=radiograph)
        return SceneBridge.xrayFromPixels(node, fallbackView)

    def placeXrays(self, ap, lateral):
        """Each X-ray node to where its geometry says. An assumed view follows the place that the user gave the node, which says
        more than the name or the order of two files."""
        for slot, node in (("ap", ap), ("lateral", lateral)):
            if not SceneBridge.isXray(node):
                continue
            SceneBridge.putInPlace(node)
            if ap is lateral or "view" not in SceneBridge.assumedOf(node):
                continue
            if SceneBridge.geometryOf(node).view.is_lateral != (slot == "lateral"):
                SceneBridge.assumeView(node, FALLBACK_VIEWS[slot])

    def editXray(self, node, **fields):
        """Change facts of the geometry (view, kind, source_to_detector_mm, ... see `diff2ct.geometry`) of an X-ray node."""
        SceneBridge.editGeometry(node, **fields)

    def matchLandmarks(self, ap, lateral, inAp, inLateral):
        """Bring structures that two X-ray nodes show to the same height in both, and if there are several, to the same size.

        inAp, inLateral: (row, column) of each, in the same order. The X-ray of which less is known is changed, as the result
        says; see `diff2ct.landmarks.match_landmarks`.
        """
        from diff2ct.landmarks import match_landmarks

        nodes = ap, lateral
        beams, assumed = map(SceneBridge.geometryOf, nodes), tuple(map(SceneBridge.assumedOf, nodes))
        match = match_landmarks(*beams, inAp, inLateral, assumed=assumed)
        SceneBridge.setMeasured(nodes[match.moved], match.guessed, **match.fields)
        return match

    def setKnownLength(self, node, ends, lengthMm):
        """Pixel size of an X-ray node in which two points, (row, column), lie `lengthMm` apart in the middle of the patient."""
        from diff2ct.landmarks import spacing_of_length

        spacing = spacing_of_length(SceneBridge.geometryOf(node), ends, lengthMm)
        SceneBridge.setMeasured(node, detector_spacing_mm=spacing)

    def restoreXray(self, node):
        """Take back what was typed over facts that the file of an X-ray node tells; what it does not tell stays."""
        xray = SceneBridge.xrayFromNode(node)
        told = Xray.overtyped(xray.geometry, xray)
        if "kind" in told:
            SceneBridge.editGeometry(node, kind=told["kind"])
            told = Xray.overtyped(SceneBridge.geometryOf(node), xray)
        hanging = {}
        if "primary_angle_deg" in told and "mirrored" in xray.readAssumed and "mirrored" not in xray.radiograph.assumed:
            hanging = {"mirrored": xray.readGeometry.mirrored}  # it went with the view that was stated
        if told:
            SceneBridge.editGeometry(node, stillAssumed=tuple(hanging), **told, **hanging)

    def flipXray(self, node, leftRight):
        SceneBridge.updateXray(node, Xray.flipped(SceneBridge.xrayFromNode(node), leftRight))

    def rereadXray(self, node, frame=None, polarity=None):
        SceneBridge.updateXray(node, Xray.readAgain(SceneBridge.xrayFromNode(node), frame, polarity))

    # --- reconstruction ---

    @property
    def run(self):
        """The reconstruction that is going on, or None. One that is over is not kept, nor are its volumes."""
        if self._run is not None and not self._run.isRunning:
            self._run = None
        return self._run

    def reconstruct(
        self,
        ap,
        lateral,
        *,
        steps=None,
        samples=DEFAULT_SAMPLES,
        seed=0,
        consistency=None,
        checkpoint=None,
        translator=None,
        device="auto",
        onProgress=None,
        onFinished=None,
        onLog=None,
        wait=True,
    ):
        """A new CT volume from two X-ray nodes. Returns the `Outcome`, whose volumeNode is the CT; RuntimeError if it failed,
        its kind `CancelledError` if it was cancelled, as by `cancel` in onProgress.

        steps: denoising steps, None for the default. samples: the mean of so many volumes, and their standard deviation.
        The outcome's mapNodes has the deviation, and of a calibrated checkpoint the expected error and what the X-rays settle.
        Its warnings, also logged, say what may have spoiled it, such as X-rays that the volume does not explain.
        consistency: True or False, whether the volume is moved toward the X-rays; None is where that was measured to help; a
        dict with fields of diff2ct.consistency.Consistency, such as {"when": "steps", "tv": 0.1}, also says how.
        checkpoint: path of a .safetensors file, None for the embedded one. device: auto, cuda, mps or cpu.
        translator: path of a .safetensors file of `diff2ct train --recipe cyclegan`, real to DRR, that the X-rays go through
        first; None for X-rays as they are.
        wait: False returns the running `Reconstruction` at once; onFinished(outcome) then tells how it ended.
        onProgress(Progress) is called for each step in both cases.
        """
        if self.run is not None:
            raise RuntimeError(_("A reconstruction is running already."))
        self.placeXrays(ap, lateral)
        options = {
            "steps": steps,
            "samples": samples,
            "seed": seed,
            "consistency": consistency,
            "checkpoint": str(checkpoint) if checkpoint else None,
            "translator": str(translator) if translator else None,
            "device": device,
        }
        run = self._run = Reconstruction(ap, lateral, options, onProgress, onFinished, onLog, self.workerCommand)
        if not wait:
            return run
        outcome = run.wait()
        if outcome.status == "cancelled":
            raise CancelledError(outcome.message)
        if outcome.status != "done":
            raise RuntimeError(outcome.message)
        return outcome

    def cancel(self):
        """The reconstruction ends before its next step, and with it the batch that it belongs to."""
        if self.run is not None:
            self.run.cancel()

    def reconstructFolders(self, folder, outputFolder, onCase=None, **options):
        """One CT for each sub-folder of `folder` that holds two X-ray files, written to
        outputFolder/<name>.nrrd. Pictures without a view are AP and lateral as `loadXrays` says, in the order of their names.

        Returns {name of the sub-folder: path of the CT, or the error that kept it from being made}. A case that is cancelled is
        the last one: its error is a `CancelledError`, and those after it are missing. Volumes that exist are not made again, so
        a second call goes on from there. onCase(name, path or error) is called after each. Warnings are logged with the path of
        the frontal X-ray. The scene is left as it was. options: of `reconstruct`.
        """
        outputFolder = Path(outputFolder)
        outputFolder.mkdir(parents=True, exist_ok=True)
        results = {}
        for case in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
            target = outputFolder / f"{case.name}.nrrd"
            nodes = []
            try:
                if not target.exists():
                    files = sorted(path for path in case.iterdir() if _isXrayFile(path))
                    if len(files) != 2:
                        raise ValueError(_("found {count} X-ray files, two are needed").format(count=len(files)))
                    nodes += self.loadXrays(files)
                    if None in nodes:
                        raise ValueError(_("an AP and a lateral X-ray are needed"))
                    outcome = self.reconstruct(*nodes, **options)
                    nodes += [outcome.volumeNode, *outcome.mapNodes.values()]
                    self.exportVolume(outcome.volumeNode, target)
                results[case.name] = target
            except (ValueError, RuntimeError, OSError) as error:
                results[case.name] = error
            finally:
                for node in nodes:
                    if node is not None:
                        slicer.mrmlScene.RemoveNode(node)
            if onCase:
                onCase(case.name, results[case.name])
            if isinstance(results[case.name], CancelledError):
                break
        return results

    # --- what a CT looks like on an X-ray, and how good it is ---

    def previewDrr(self, ct, xray, maxPixels=256):
        """(H, W) numpy: line integrals of a CT node, with its transforms, on the detector of an X-ray node (made coarser)."""
        Dependencies.require()
        return self.drr.renderAndWait(ct, self.previewBeam(xray, maxPixels))

    def previewBeam(self, xray, maxPixels):
        from diff2ct.radiograph import resized_beam

        beam = SceneBridge.geometryOf(xray)
        factor = min(1.0, maxPixels / max(beam.detector_size))
        return resized_beam(beam, tuple(max(2, round(n * factor)) for n in beam.detector_size))

    def registerCt(self, ct, xrays, wait=True, onDone=None, onProgress=None):
        """Move a CT node to where X-ray nodes of the same patient show it (2D/3D registration); returns the `Registration`.

        xrays: AP and lateral, or one of them, which hardly tells how far the CT is from its source. The CT gets a pose of its
        own, under the transform that it is under. It may lie anywhere, but must be turned right to some 15 degrees.
        wait: False returns None at once, and onDone(Registration or None, error) is called later.
        onProgress(share of the work that is done, up to 1) is called meanwhile in both cases.
        """
        Dependencies.require()
        if self.isRegistering:
            raise RuntimeError(_("A CT is being registered already."))
        token, answers, xrays = object(), [], list(xrays)

        def done(registration, error):
            if self._registration is token:
                self._registration = None
            if registration is not None and registration.undo is not None:
                self._keepUndo(registration.undo, ct, xrays)
            answers.append((registration, error))
            if onDone:
                onDone(registration, error)

        self._registration = token
        try:
            registerAsync(self.registering, ct, xrays, lambda: self._registration is token, done, onProgress)
        except Exception:  # else no other one could be started
            self._registration = None
            raise
        if not wait:
            return None
        while not answers:
            self.registering.wait()
        registration, error = answers[0]
        if registration is None:
            raise RuntimeError(error)
        return registration

    @property
    def isRegistering(self):
        return self._registration is not None

    def cancelRegistration(self):
        """The CT stays where it is."""
        self._registration = None
        self.registering.stop()

    def canUndoRegistration(self, ct):
        """Whether a CT node lies where the last registration of it has moved it, its X-rays where they were."""
        undo = self._lastUndo(ct)
        return undo is not None and undo.isPossible

    def undoRegistration(self, ct):
        """Bring a CT node back to where it was before its last registration, also by hand; a second call, before that of the
        one before."""
        if ct is None:
            raise ValueError(_("Choose the CT whose alignment is to be taken back."))
        undo = self._lastUndo(ct)
        if undo is None:
            raise RuntimeError(_("There is no alignment of {name} that could be taken back.").format(name=ct.GetName()))
        if not undo.isPossible:
            words = _("The alignment of {name} cannot be taken back: the CT or an X-ray was changed or removed since.")
            raise RuntimeError(words.format(name=ct.GetName()))
        del self._undos[undo]
        undo.do()

    def _keepUndo(self, undo, ct, xrays):
        """As the last one, without those that need a node which is no longer in the scene."""
        isThere = slicer.mrmlScene.GetNodeByID
        self._undos = {kept: ids for kept, ids in self._undos.items() if all(map(isThere, ids))}
        self._undos[undo] = [ct.GetTransformNodeID(), *(node.GetID() for node in (ct, *xrays))]

    def _lastUndo(self, ct):
        return next((undo for undo in reversed(self._undos) if ct is not None and undo.isOf(ct)), None)

    def compare(self, reconstruction, truth=None, xrays=(), wait=True, onDone=None, withDifference=True):
        """`Comparison` of a CT node with the true CT (on any grid, in the same place) and with the X-rays it was made from.

        withDifference: whether there is to be a volume of the difference, one for each true CT.
        wait: False returns None at once, and onDone(Comparison or None, error) is called later.
        """
        Dependencies.require()
        answers = []

        def done(comparison, error):
            answers.append((comparison, error))
            if onDone:
                onDone(comparison, error)

        compareAsync(self.service, reconstruction, truth, xrays, done, withDifference)
        if not wait:
            return None
        while not answers:
            self.service.wait()
        comparison, error = answers[0]
        if comparison is None:
            raise RuntimeError(error)
        return comparison

    def storedComparison(self, reconstruction):
        """The comparison that was last made for a CT node, also after the scene was saved and opened; or None."""
        return Comparison.fromNode(reconstruction) if reconstruction is not None else None

    # --- files ---

    def exportVolume(self, node, path, overwrite=False):
        """Write a CT node as .nrrd, .nii.gz, .mha, or into a folder as a DICOM series; it says that it is synthetic."""
        from diff2ct.volume_io import write_volume

        if not SceneBridge.isMade(node):
            words = _("{name} was not made by Diff2CT, so it is not marked as synthetic. Save it as other volumes of Slicer.")
            raise ValueError(words.format(name=node.GetName()))
        attributes = {"Notice": SceneBridge.NOTICE, **SceneBridge.provenanceOf(node)}
        write_volume(SceneBridge.ctFromNode(node), path, attributes=attributes, overwrite=overwrite)

    def loadSample(self):
        """(AP node, lateral node, CT node) of a phantom with pedicle screws; made on this computer, nothing is downloaded."""
        from Diff2CTLib.SampleCase import addSampleCase

        Dependencies.require()
        return addSampleCase(self.service)

    def _onSceneClose(self, _caller, _event):
        if self.run is not None:
            self.run.cancel(_("Cancelled, as the scene was closed."))
        self.cancelRegistration()
        self._undos = {}
