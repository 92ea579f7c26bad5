"""What is not right with two X-rays, in sentences for the person who took them."""

import numpy as np
from slicer.i18n import tr as _

_COLLIMATED_SHARE = 0.03


def assumedWords(xray):
    """The names, in words, of what nobody measured about this X-ray."""
    words = {
        "view": _("view"),
        "source_to_detector_mm": _("source-detector distance"),
        "source_to_isocenter_mm": _("source-patient distance"),
        "detector_spacing_mm": _("pixel spacing"),
        "principal_point": _("where the central ray meets the image"),
        "isocenter_lps": _("where the patient's coordinates begin"),
        "mirrored": _("which side of the patient is left in the image"),
        "polarity": _("whether bone is bright"),
        "intensity": _("how grey values follow the X-ray intensity"),
        "primary_angle_deg": _("primary angle"),
        "secondary_angle_deg": _("secondary angle"),
        "kind": _("shape of the beam"),  # in scenes of earlier versions
    }
    return [words.get(fact, fact) for fact in xray.radiograph.assumed]


def checkOne(xray, slot):
    """Sentences about one X-ray; slot is the word for its place, AP or lateral."""
    radiograph = xray.radiograph
    found = [sentence for sentence in radiograph.warnings if "assumed" not in sentence]
    hidden = 1.0 - float(np.mean(radiograph.valid))
    if hidden > _COLLIMATED_SHARE:
        found.append(
            _("{slot}: collimated, {percent:.0f} % of the image does not see the patient.").format(
                slot=slot, percent=100 * hidden
            )
        )
    if xray.flippedLeftRight and "mirrored" not in radiograph.assumed:
        found.append(
            _("{slot}: flipped left-right against what the file states; left and right of the patient are exchanged.").format(
                slot=slot
            )
        )
    elif xray.geometry.mirrored != xray.readGeometry.mirrored and xray.geometry.view == xray.readGeometry.view:
        found.append(_("{slot}: the side marker is opposite to what the file states.").format(slot=slot))
    if xray.frames > 1:
        found.append(
            _("{slot}: frame {frame} of {frames} is used; choose another one under Geometry.").format(
                slot=slot, frame=xray.frame + 1, frames=xray.frames
            )
        )
    assumed = assumedWords(xray)
    if assumed:
        found.append(_("{slot}: assumed, not measured: {facts}.").format(slot=slot, facts=", ".join(assumed)))
    return found


def checkPair(ap, lateral, beams):
    """Sentences about how the two fit, empty if all is well. Both are small copies for speed; beams are those of the pictures
    themselves.
    """
    from diff2ct.radiograph import check_pair

    remedy = _("If the {name} picture was cropped, enter {row:.1f} under Geometry as its Central ray, row.")
    try:
        return check_pair(ap, lateral, beams=beams, if_cropped=remedy)
    except ValueError as error:
        return [str(error)]
