"""How long work takes: in words, and a reconstruction on this computer, measured at each run, kept in the settings of the
application."""

from pathlib import Path

import slicer
from slicer.i18n import tr as _

_GROUP = "Diff2CT/timing"


def remember(outcome):
    """Keep the figures of a finished run."""
    if outcome.steps:
        key = _key(outcome.device, outcome.checkpoint)
        settings = slicer.app.userSettings()
        settings.setValue(f"{key}/perStep", outcome.samplingS / outcome.steps)
        if outcome.isDefaultSteps:
            settings.setValue(f"{key}/defaultSteps", outcome.steps // outcome.samples)
        settings.setValue(f"{key}/around", max(0.0, outcome.totalS - outcome.samplingS))


def expectedS(device, checkpoint, steps, samples=1):
    """Seconds from the click to the volume, None before the first run. steps: of each sample, 0 for the default."""
    settings = slicer.app.userSettings()
    key = _key(device, checkpoint)
    try:
        steps = steps or int(settings.value(f"{key}/defaultSteps"))
        return float(settings.value(f"{key}/around")) + samples * steps * float(settings.value(f"{key}/perStep"))
    except (TypeError, ValueError):
        return None


def inWords(seconds):
    seconds = max(0.0, seconds)
    if seconds < 60:
        return _("{seconds:.0f} s").format(seconds=seconds)
    return _("{minutes} min {seconds:02.0f} s").format(minutes=int(seconds // 60), seconds=seconds % 60)


def _key(device, checkpoint):
    return f"{_GROUP}/{device}/{Path(checkpoint).stem if checkpoint else 'embedded'}"
