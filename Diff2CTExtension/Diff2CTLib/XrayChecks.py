"""What is not right with two X-rays, in sentences for the person who took them."""

import re

import numpy as np
from slicer.i18n import tr as _

from Diff2CTLib.Xray import overtyped

_COLLIMATED_SHARE = 0.03


def _words():
    """Facts of an X-ray by their names in the code."""
    return {
        "view": _("view"),
        "source_to_detector_mm": _("source to detector"),
        "source_to_isocenter_mm": _("source to mid-body"),
        "detector_spacing_mm": _("pixel height and width"),
        "principal_point": _("where the central ray meets the image"),
        "isocenter_lps": _("where the body lies in the coordinates of a CT"),
        "mirrored": _("whether the image is mirrored"),
        "polarity": _("whether bone is bright"),
        "intensity": _("how grey values follow the X-ray intensity"),
        "primary_angle_deg": _("primary angle"),
        "secondary_angle_deg": _("secondary angle"),
        "roll_deg": _("roll"),
        "kind": _("shape of the beam"),
    }


def inWords(sentence):
    """The same with the words of facts instead of their names in the code; names of files stay."""
    words = {fact: told for fact, told in _words().items() if "_" in fact}
    return re.sub(rf"(?<![\w./\\-])({'|'.join(words)})(?![\w/\\-]|\.\w)", lambda found: words[found[0]], sentence)


def assumedWords(xrays):
    """Sentences about what nobody measured, one for both X-rays if it is the same. xrays: {word for its place: X-ray}."""
    words = _words()
    facts = {slot: ", ".join(words.get(fact, fact) for fact in xray.radiograph.assumed) for slot, xray in xrays.items()}
    if len(facts) == 2 and len({*facts.values()}) == 1:
        facts = {_("Both X-rays"): next(iter(facts.values()))}
    sentence = _("{slot}: not in the file, so typical values are assumed: {facts}. Correct under Geometry what you know.")
    return [sentence.format(slot=slot, facts=found) for slot, found in facts.items() if found]


def overtypedWords(beam, xray):
    """Of each fact that is another in `beam` than in its file: what it is, and what the file says; patient's sides first."""
    words, found = _words(), _sideWords(xray)
    for fact, told in overtyped(beam, xray).items():
        now = beam.KIND if fact == "kind" else getattr(beam, fact)
        if fact == "primary_angle_deg" and beam.view != xray.readGeometry.view:
            fact, now, told = "view", beam.view.value, xray.readGeometry.view.value
        if fact != "mirrored":  # which `_sideWords` tell
            now, told = inUnits(fact, now), inUnits(fact, told)
            found.append(_("{fact} {now}, the file says {told}").format(fact=words[fact], now=now, told=told))
    return found


def _sideWords(xray):
    if xray.flippedLeftRight and "mirrored" not in xray.radiograph.assumed:
        return [_("flipped left-right against what the file states; left and right of the patient are exchanged")]
    if xray.geometry.mirrored != xray.readGeometry.mirrored and xray.geometry.view == xray.readGeometry.view:
        return [_("the side marker is opposite to what the file states")]
    return []


def inUnits(fact, value):
    """A fact of the geometry with its unit."""
    if isinstance(value, str):
        return value
    unit = unitOf(fact)
    between = ", " if fact in ("principal_point", "isocenter_lps") else " x "
    return between.join(f"{number:.6g}" for number in np.atleast_1d(value)) + f" {unit}"


def unitOf(fact):
    return _("px") if fact == "principal_point" else _("deg") if fact.endswith("deg") else _("mm")


def checkOne(xray, slot, beam):
    """Sentences about one X-ray, a small copy for speed; slot is the word for its place, AP or lateral; beam is that of the
    picture itself."""
    radiograph = xray.radiograph
    found = [sentence for sentence in radiograph.warnings if "assumed" not in sentence]
    hidden = 1.0 - float(np.mean(radiograph.valid))
    if hidden > _COLLIMATED_SHARE:
        found.append(
            _("{slot}: collimated, {percent:.0f} % of the image does not show the patient.").format(
                slot=slot, percent=100 * hidden
            )
        )
    found += [f"{slot}: {words}." for words in overtypedWords(beam, xray)]
    if xray.frames > 1:
        found.append(
            _("{slot}: frame {frame} of {frames} is used; choose another one under Geometry.").format(
                slot=slot, frame=xray.frame + 1, frames=xray.frames
            )
        )
    return found


def checkPair(ap, lateral, beams):
    """Sentences about how the two fit, empty if all is well. Both are small copies for speed; beams are those of the pictures
    themselves.
    """
    from diff2ct.radiograph_pair import check_pair

    remedy = _(
        "If the {name} picture was cropped, enter {row:.1f} under Geometry as its Central ray, row, or add a landmark "
        "under Measure in the X-rays."
    )
    try:
        return check_pair(ap, lateral, beams=beams, if_cropped=remedy)
    except ValueError as error:
        return [str(error)]
