"""The sample case as nodes, for the panel and for the module Sample Data."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from Diff2CTLib import SceneBridge, TemporaryFolder, Xray

SAMPLE_NAME = "Diff2CT phantom: two X-rays and a CT"


def addSampleCase(service):
    """(AP node, lateral node, CT node)."""
    folder = TemporaryFolder.make()
    try:
        return nodesFromFiles(service.askAndWait("sample", folder=str(folder)))
    finally:
        TemporaryFolder.remove(folder)


def nodesFromFiles(answer):
    """The nodes of an answer of the service."""
    from diff2ct.volume import VolumeGrid

    nodes = []
    for key, word in (("ap", _("AP")), ("lateral", _("lateral"))):
        xray = replace(Xray.readXray(answer[key]), path="")  # the files are gone soon
        nodes.append(SceneBridge.addXray(xray, _("Phantom {word} X-ray").format(word=word)))
    truth = dict(answer["truth"])
    hu = np.load(truth.pop("path"), allow_pickle=False)
    ct = SceneBridge.addHuVolume(hu, VolumeGrid(**truth), _("Phantom CT"), {"Source": "diff2ct.phantom"})
    return (*nodes, ct)


def register():
    """Offer the case in the module Sample Data, unless that is switched off."""
    try:
        import SampleData
    except ImportError:
        return

    def make(_source):
        from Diff2CTLib import Dependencies
        from Diff2CTLib.Service import Service

        service = Service()
        try:
            Dependencies.install()
            return list(addSampleCase(service))
        except (RuntimeError, ValueError, OSError) as error:  # of a tile in Sample Data, only the Python console would tell
            slicer.util.errorDisplay(str(error), windowTitle=_("Diff2CT"))
            raise
        finally:
            service.stop()

    icon = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "Diff2CT.png"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Diff2CT",
        sampleName=SAMPLE_NAME,
        uris="",
        fileNames="",
        nodeNames="Phantom CT",
        thumbnailFileName=str(icon),
        customDownloader=make,
    )
