"""An X-ray of the scene: the core's radiograph and what the panel lets one change about it. No MRML here."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from slicer.i18n import tr as _


@dataclass(frozen=True, eq=False)
class Xray:
    """radiograph: as used now, after edits and flips. readGeometry: as the file gave it.

    path, frame, frames, polarity: what it was read from and how; path is "" for pixels that came from the scene.
    flippedLeftRight, flippedUpDown: how often the user turned it over, modulo 2.
    """

    radiograph: object
    readGeometry: object
    path: str = ""
    frame: int = 0
    frames: int = 1
    polarity: str = "auto"
    flippedLeftRight: bool = False
    flippedUpDown: bool = False

    @property
    def geometry(self):
        return self.radiograph.geometry


def readXray(path, view=None, fallbackView=None, frame=None, polarity="auto"):
    """The X-ray in a file. Of several frames the first is taken unless `frame` says which.

    fallbackView is used, and marked as assumed, if neither the file nor `view` tells it.
    """
    from diff2ct.assumptions import FrameNotStatedError, ViewNotStatedError
    from diff2ct.radiograph import read_radiograph

    frames = 1 if frame is None else countFrames(path)
    options = {"view": view, "frame": frame if frames > 1 else None, "polarity": polarity}
    isViewAssumed = False
    while True:
        try:
            radiograph = read_radiograph(path, **options)
            break
        except FrameNotStatedError as error:
            frames, options["frame"] = error.count, 0
        except ViewNotStatedError:
            if fallbackView is None or isViewAssumed:
                raise
            options["view"], isViewAssumed = fallbackView, True
    if isViewAssumed:
        radiograph = replace(radiograph, assumed=("view", *radiograph.assumed))
    path, frame = str(Path(path).absolute()), options["frame"] or 0
    return Xray(radiograph, radiograph.geometry, path=path, frame=frame, frames=frames, polarity=polarity)


def countFrames(path):
    """How many frames the file has; 1 if that cannot be told, reading it will say why."""
    from diff2ct.assumptions import FrameNotStatedError
    from diff2ct.radiograph import read_radiograph

    try:
        read_radiograph(path, view="AP")
    except FrameNotStatedError as error:
        return error.count
    except ValueError:
        pass
    return 1


def readAgain(xray, frame=None, polarity=None):
    """The same file with another frame or polarity; the user's geometry and flips stay."""
    if not xray.path:
        raise ValueError(_("This X-ray did not come from a file, so its frame and polarity cannot be changed."))
    if not Path(xray.path).is_file():
        raise ValueError(_("{path} is not there any more. Load the X-ray again.").format(path=xray.path))
    frame = xray.frame if frame is None else frame
    polarity = xray.polarity if polarity is None else polarity
    new = readXray(xray.path, view=xray.geometry.view.value, frame=frame, polarity=polarity)
    new = replace(new, readGeometry=xray.readGeometry)
    if xray.flippedLeftRight:
        new = flipped(new, leftRight=True)
    if xray.flippedUpDown:
        new = flipped(new, leftRight=False)
    shades = ("polarity", "intensity")
    assumed = [fact for fact in xray.radiograph.assumed if fact not in shades]
    assumed += [fact for fact in new.radiograph.assumed if fact in shades]
    radiograph = replace(new.radiograph, geometry=xray.geometry, assumed=tuple(assumed))
    return replace(new, radiograph=radiograph)


def editedGeometry(beam, assumed, **fields):
    """(beam, assumed) with other facts, which are then no longer assumed. view stands for its angle and hanging, kind ("cone",
    "fan") for another kind of beam, see `beam_of_kind`."""
    from diff2ct.assumptions import beam_of_kind
    from diff2ct.geometry import View

    facts = dict(fields)
    if facts.get("kind", beam.KIND) != beam.KIND:
        beam = beam_of_kind(beam, assumed, facts["kind"])
    facts.pop("kind", None)
    if "view" in facts:
        standard = type(beam).from_view(View(facts.pop("view")), **_withoutAngles(beam))
        facts = {"primary_angle_deg": standard.primary_angle_deg, "mirrored": standard.mirrored, **facts}
    known = {*fields, *facts}
    if "primary_angle_deg" in known:
        known.add("view")
    return replace(beam, **facts), tuple(fact for fact in assumed if fact not in known)


def _withoutAngles(beam):
    return {key: value for key, value in beam.to_dict().items() if key not in ("kind", "primary_angle_deg", "mirrored")}


def flipped(xray, leftRight):
    """The image turned over, with the point where the central ray meets it."""
    radiograph, beam = xray.radiograph, xray.geometry
    axis = 1 if leftRight else 0
    point = list(beam.principal_point)
    point[axis] = beam.detector_size[axis] - 1 - point[axis]
    radiograph = replace(
        radiograph,
        line_integral=np.flip(radiograph.line_integral, axis),
        valid=np.flip(radiograph.valid, axis),
        geometry=replace(beam, principal_point=tuple(point)),
    )
    if leftRight:
        return replace(xray, radiograph=radiograph, flippedLeftRight=not xray.flippedLeftRight)
    return replace(xray, radiograph=radiograph, flippedUpDown=not xray.flippedUpDown)
