"""An X-ray of the scene: the core's radiograph and what the panel lets one change about it. No MRML here."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from slicer.i18n import tr as _

SUFFIXES = (".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nrrd", ".nii", ".nii.gz", ".mha", ".npy")
"""Of the files that can hold one; DICOM may do without."""
_TOGETHER = ("primary_angle_deg", "mirrored"), ("secondary_angle_deg",)
"""Angles that the user states together, by choosing a view; a picture of it hangs mirrored or not."""
ANGLES = ("primary_angle_deg", "secondary_angle_deg", "mirrored")
SIZES = ("source_to_detector_mm", "source_to_isocenter_mm", "detector_spacing_mm")
"""What a file tells depends on the frame, and on the kind of beam."""
_FACTS = (*SIZES, *ANGLES, "roll_deg", "principal_point", "isocenter_lps")


@dataclass(frozen=True, eq=False)
class Xray:
    """radiograph: as used now, after edits and flips. readGeometry: as the file gave it; readAssumed: which facts of it the
    file did not tell, those of `radiograph` by default.

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
    readAssumed: tuple | None = None

    def __post_init__(self):
        if self.readAssumed is None:
            object.__setattr__(self, "readAssumed", self.radiograph.assumed)

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
    """The same file with another frame or polarity; the user's geometry and flips stay. A C-arm that turned stands elsewhere in
    another frame: each of its angles is that one's unless the user has stated it."""
    if not xray.path:
        raise ValueError(_("This X-ray did not come from a file, so its frame and polarity cannot be changed."))
    if not _isThere(xray.path):
        raise ValueError(_("{path} is not there any more. Load the X-ray again.").format(path=xray.path))
    frame = xray.frame if frame is None else frame
    polarity = xray.polarity if polarity is None else polarity
    view, stated, updated = xray.geometry.view.value, _anglesOf(xray.geometry), ["polarity", "intensity"]
    angles, readUpdated = stated, updated
    if frame == xray.frame:
        new = readXray(xray.path, view=view, frame=frame, polarity=polarity)
        new = replace(new, readGeometry=xray.readGeometry)
    else:
        new = readXray(xray.path, fallbackView=view, frame=frame, polarity=polarity)
        before, after, readUpdated = _anglesOf(xray.readGeometry), _anglesOf(new.geometry), [*updated, "mirrored"]
        for facts in _TOGETHER[: 1 if xray.geometry.KIND == "fan" else None]:  # a fan is not tilted
            if all(stated[fact] == before[fact] for fact in facts):
                angles = {**angles, **{fact: after[fact] for fact in facts}}
        updated = readUpdated if angles != stated else updated
        new = replace(new, readGeometry=replace(xray.readGeometry, **_anglesOf(new.geometry)))
    if xray.flippedLeftRight:
        new = flipped(new, leftRight=True)
    if xray.flippedUpDown:
        new = flipped(new, leftRight=False)
    assumed, readAssumed = (
        tuple(fact for fact in before if fact not in anew) + tuple(fact for fact in new.radiograph.assumed if fact in anew)
        for before, anew in ((xray.radiograph.assumed, updated), (xray.readAssumed, readUpdated))
    )
    radiograph = replace(new.radiograph, geometry=replace(xray.geometry, **angles), assumed=assumed)
    return replace(new, radiograph=radiograph, readAssumed=readAssumed)


def _isThere(path):
    """Of a file that was read in an earlier session, only the name is known; another one may have it."""
    return Path(path).is_absolute() and Path(path).is_file()


def _anglesOf(beam):
    return {fact: getattr(beam, fact) for fact in ANGLES}


def editedGeometry(beam, assumed, path="", frame=None, **fields):
    """(beam, assumed) with other facts, which are then no longer assumed. view stands for its angle and hanging, kind ("cone",
    "fan") for another kind of beam: path and frame (None of a file with one) are where the X-ray is from. Sizes that are
    assumed go with the view, the kind and the sizes that are stated, as if all had been stated when it was read."""
    from diff2ct.assumptions import beam_of_kind
    from diff2ct.geometry import View, beam_from_dict

    facts = dict(fields)
    kind = facts.pop("kind", beam.KIND)
    if "view" in facts:
        standard = type(beam).from_view(View(facts.pop("view")), **_withoutAngles(beam))
        facts = {"primary_angle_deg": standard.primary_angle_deg, "mirrored": standard.mirrored, **facts}
    known = {*fields, *facts}
    if "primary_angle_deg" in known:
        known.add("view")
    rest = tuple(fact for fact in assumed if fact not in known)
    if kind != beam.KIND or {*SIZES, "primary_angle_deg"} & {*facts}:
        view = replace(beam, primary_angle_deg=facts.get("primary_angle_deg", beam.primary_angle_deg)).view
        found = _sizesInFile(beam, assumed, path, frame, kind, view, {fact: facts[fact] for fact in SIZES if fact in facts})
        if found is not None:
            sizes, guessed = found
            rest = tuple(fact for fact in rest if fact not in SIZES) + guessed
            return beam_from_dict({**beam.to_dict(), "kind": kind, **facts, **sizes}), rest
    if kind != beam.KIND:
        beam = beam_of_kind(beam, assumed, kind)
    edited = replace(beam, **facts, **_following(beam, facts, rest))
    return _asWideInThePatient(beam, edited, rest), rest


def _sizesInFile(beam, assumed, path, frame, kind, view, stated):
    """({size: value}, those that are assumed) that a DICOM file tells of a beam of that kind and view, where sizes are `stated`
    now or were before; None for files that are not there or no DICOM, and for one that tells all, as our own do."""
    from diff2ct.image_file import is_dicom
    from diff2ct.radiograph import read_beam

    try:
        isTold = "parallel" not in (beam.KIND, kind) and _isThere(path) and is_dicom(Path(path))
    except OSError:  # a drive that went away
        isTold = False
    if not isTold:
        return None

    def told(kind, view, stated):
        found, guessed = read_beam(path, view=view, frame=frame, geometry={"kind": kind, **stated})
        return found, tuple(fact for fact in guessed if fact in SIZES)

    if not told(beam.KIND, beam.view, {})[1] and not told(kind, view, {})[1]:
        return None
    before = {}
    for fact in SIZES:
        found, guessed = told(beam.KIND, beam.view, before)
        value = getattr(beam, fact)
        if fact not in assumed and (fact in guessed or value != getattr(found, fact)):
            before[fact] = value
    found, guessed = told(kind, view, {**before, **stated})
    return {fact: getattr(found, fact) for fact in SIZES}, guessed


def _following(beam, facts, assumed):
    """{distance: mm} of a picture that is assumed and so goes with the `facts` that are stated: the body stays as far from the
    detector as it usually is in such a view."""
    from diff2ct.assumptions import assumed_isocenter_to_detector_mm

    distances = ("source_to_detector_mm", "source_to_isocenter_mm")
    if not {*distances} & {*assumed} or not {*distances, "primary_angle_deg"} & {*facts}:
        return {}
    view = replace(beam, primary_angle_deg=facts.get("primary_angle_deg", beam.primary_angle_deg)).view
    toDetector, isocenter = (facts.get(fact, getattr(beam, fact)) for fact in distances)
    behind = assumed_isocenter_to_detector_mm(beam, view)
    if "source_to_isocenter_mm" in assumed:
        return {"source_to_isocenter_mm": toDetector - behind}
    return {} if "source_to_detector_mm" in facts else {"source_to_detector_mm": isocenter + behind}


def _asWideInThePatient(before, edited, assumed):
    """`edited` with pixels in the patient of the same shape as before, where the spacing of a fan's picture is assumed: widths
    are magnified, heights are not."""
    if edited.KIND != "fan" or "detector_spacing_mm" not in assumed:
        return edited
    rowMm, columnMm = edited.detector_spacing_mm
    return replace(edited, detector_spacing_mm=(rowMm * before.magnification / edited.magnification, columnMm))


def readAsView(xray, view):
    """The same file with another view assumed, which neither it nor the user tells; None if it cannot be read, or if the user
    has stated something about this picture."""
    isEdited = _hungAlike(xray) != xray.geometry or {*xray.readAssumed} != {*xray.radiograph.assumed}
    if isEdited or not _isThere(xray.path):
        return None
    try:
        new = readXray(xray.path, None, view, xray.frame if xray.frames > 1 else None, xray.polarity)
    except ValueError:
        return None
    for isFlipped, leftRight in ((xray.flippedLeftRight, True), (xray.flippedUpDown, False)):
        new = flipped(new, leftRight) if isFlipped else new
    return new


def ofAssumedView(beam, assumed, path, frame, view):
    """The beam of an X-ray whose view is assumed, if that is another one. Whether the picture is mirrored stays, if stated."""
    hanging = {} if "mirrored" in assumed else {"mirrored": beam.mirrored}
    return editedGeometry(beam, assumed, path, frame, view=view, **hanging)[0]


def overtyped(beam, xray):
    """{fact: as the file tells it} of the facts that are others in `beam`, the X-ray's geometry with all its pixels. What no
    file told is none of them, nor a default that it left alone, nor are sizes while "kind" is one: they go with it."""
    assumed, told = xray.readAssumed, _hungAlike(xray)
    now, expected, facts, found = beam.to_dict(), told.to_dict(), _FACTS, {}
    if beam.KIND != told.KIND:
        facts = [fact for fact in facts if fact not in SIZES]
        if told.KIND != "cone" or "source_to_detector_mm" not in assumed:
            found["kind"] = told.KIND
    for fact in facts:
        isDefault = fact in ("secondary_angle_deg", "roll_deg") and expected[fact] == 0
        isOfView = fact in ("primary_angle_deg", "mirrored") and "view" in assumed
        if fact in assumed or isDefault or isOfView or fact not in expected:
            continue
        if not np.allclose(now[fact], expected[fact], rtol=1e-9, atol=1e-9):
            found[fact] = getattr(told, fact)
    return found


def _hungAlike(xray):
    """The geometry that the file gave, of its picture turned over as it is now."""
    beam = xray.readGeometry
    (height, width), (row, column) = beam.detector_size, beam.principal_point
    row = height - 1 - row if xray.flippedUpDown else row
    column = width - 1 - column if xray.flippedLeftRight else column
    return replace(beam, principal_point=(row, column))


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
