"""How good a reconstruction is: figures against the true CT, agreement with the X-rays, and the difference as a volume."""

import json
from dataclasses import dataclass, field

import numpy as np
import slicer
from slicer.i18n import tr as _

from Diff2CTLib import CompareKey, SceneBridge, TemporaryFolder
from Diff2CTLib.VolumeFile import VolumeFile

_ATTRIBUTE = "Diff2CT.comparison"
_DIFFERENCE = "Diff2CT.difference"
_DIFFERENCE_KEY = "Diff2CT.differenceKey"
_TRUTH = "Diff2CT.truth"
_DASH = "-"


@dataclass
class Comparison:
    """scores: as `diff2ct.metrics.evaluate_volume`, None for a figure over an empty region; empty without a true CT.

    reprojection: per X-ray {"view", "relative_l2", "ncc"}. truthName: of the CT that was compared with.
    key: of `CompareKey`, what it was computed from.
    """

    scores: dict = field(default_factory=dict)
    reprojection: list = field(default_factory=list)
    truthName: str = ""
    key: str = ""
    differenceNode: object = None

    def rows(self):
        """[(region, MAE, bias, further figure)], text for a table of four columns."""
        rows = []
        regions = (("whole", _("Whole volume")), ("body", _("Body")), ("bone", _("Bone")), ("metal", _("Metal")))
        further = {
            "whole": (_("PSNR {} dB"), "psnr_x2ct", 1),
            "body": (_("SSIM {}"), "ssim_3d_body", 3),
            "bone": (_("Dice {}"), "bone_dice", 3),
            "metal": (_("Dice {}"), "metal_dice", 3),
        }
        for key, name in regions if self.scores else ():
            words, score, digits = further[key]
            rows.append(
                (
                    name,
                    _number(self.scores[f"mae_hu_{key}"], 0),
                    _number(self.scores[f"bias_hu_{key}"], 0, sign=True),
                    words.format(_number(self.scores[score], digits)),
                )
            )
        for view in self.reprojection:
            rows.append(
                (
                    _("X-ray {view}").format(view=view["view"]),
                    _DASH,
                    _DASH,
                    _("error {error} %, corr. {ncc}").format(
                        error=_number(None if view["relative_l2"] is None else 100 * view["relative_l2"], 1),
                        ncc=_number(view["ncc"], 3),
                    ),
                )
            )
        return rows

    def doubts(self):
        """Sentences about X-rays that the reconstruction does not explain."""
        from diff2ct.geometry import View
        from diff2ct.told import unexplained

        names = ["lateral" if View(view["view"]).is_lateral else "frontal" for view in self.reprojection]
        return unexplained(self.reprojection, names)

    def asText(self, separator="\t"):
        """Every figure, one per line, for a clipboard or a .csv file."""
        lines = [["figure", "value"]]
        lines += [[name, _plain(value)] for name, value in self.scores.items()]
        for view in self.reprojection:
            lines += [[f"reprojection_{name}_{view['view']}", _plain(view[name])] for name in ("relative_l2", "ncc")]
        return "\n".join(separator.join(line) for line in lines) + "\n"

    @classmethod
    def fromNode(cls, node):
        """What `storeOn` left; None if nothing."""
        text = node.GetAttribute(_ATTRIBUTE)
        if not text:
            return None
        facts = json.loads(text)
        known = {name: facts[name] for name in ("scores", "reprojection", "truthName", "key") if name in facts}
        differences = [other for other in _differencesOf(node) if other.GetAttribute(_DIFFERENCE_KEY) == facts.get("key")]
        return cls(**known, differenceNode=differences[0] if differences else None)

    def storeOn(self, node):
        facts = {
            "scores": self.scores,
            "reprojection": self.reprojection,
            "truthName": self.truthName,
            "key": self.key,
        }
        node.SetAttribute(_ATTRIBUTE, json.dumps(facts))


def compareAsync(service, reconstruction, truth, xrays, onDone, withDifference=True):
    """onDone(Comparison or None, error sentence). The difference becomes a new node, or replaces that of the same pair."""
    key = CompareKey.of(reconstruction, truth, xrays)
    folder, files, request = None, [], {"radiographs": []}

    def finish(comparison, error=""):
        for file in files:
            file.remove()
        if folder is not None:
            TemporaryFolder.remove(folder)
        onDone(comparison, error)

    try:
        folder = TemporaryFolder.make()
        if withDifference and truth is not None:
            request["difference"] = str(folder / "difference.npy")
        views = []
        for index, node in enumerate(xrays):
            views.append(SceneBridge.writeXray(node, folder / f"{index}.npy"))
            request["radiographs"].append(str(folder / f"{index}.npy"))
        for name, node in (("prediction", reconstruction), ("truth", truth)):
            if node is not None:
                files.append(VolumeFile(node, inWorld=True))
                request[name] = files[-1].description
        grid = SceneBridge.gridFromNode(reconstruction)
    except (ValueError, OSError) as error:
        finish(None, str(error))
        return

    def answered(answer):
        if "error" in answer:
            finish(None, answer["error"])
            return
        if slicer.mrmlScene.GetNodeByID(reconstructionId) is not reconstruction:
            finish(None, _("The reconstruction was removed while it was compared."))
            return
        try:
            comparison = _comparison(answer, reconstruction, truth, views, key)
            if "difference" in request:
                difference = np.load(request["difference"], allow_pickle=False)
                comparison.differenceNode = _showDifference(difference, reconstruction, truth, grid, key)
        except (ValueError, OSError) as error:
            finish(None, str(error))
        else:
            finish(comparison)

    def writeNext(index, error=""):
        if error:
            finish(None, error)
        elif index < len(files):
            files[index].writeInPieces(lambda error: writeNext(index + 1, error))
        else:
            service.ask("compare", answered, **request)

    reconstructionId = reconstruction.GetID()
    writeNext(0)


def _comparison(answer, reconstruction, truth, views, key):
    reprojection = [{"view": view, **figures} for view, figures in zip(views, answer["reprojection"], strict=True)]
    comparison = Comparison(answer["scores"] or {}, reprojection, key=key)
    if truth is not None:
        comparison.truthName = truth.GetName()
    comparison.storeOn(reconstruction)
    return comparison


def _showDifference(difference, reconstruction, truth, grid, key):
    """The node of this pair with the difference as it is now."""
    ofPair = [node for node in _differencesOf(reconstruction) if _truthOf(node, reconstruction) is truth]
    if ofPair:
        node = ofPair[0]
        slicer.util.updateVolumeFromArray(node, difference)
    else:
        name = _("{name} - difference from {truth}").format(name=reconstruction.GetName(), truth=truth.GetName())
        node = SceneBridge.addVolume(difference, grid, name)
        reconstruction.AddNodeReferenceID(_DIFFERENCE, node.GetID())
    node.SetNodeReferenceID(_TRUTH, truth.GetID())
    node.SetAttribute(_DIFFERENCE_KEY, key)
    return node


def _truthOf(difference, reconstruction):
    """The CT that it was made from; in scenes of earlier versions, the reconstruction refers to it."""
    return difference.GetNodeReference(_TRUTH) or reconstruction.GetNodeReference(_TRUTH)


def _differencesOf(reconstruction):
    """From each CT that it was compared with, as far as somebody wanted to see it."""
    count = reconstruction.GetNumberOfNodeReferences(_DIFFERENCE)
    nodes = [reconstruction.GetNthNodeReference(_DIFFERENCE, index) for index in range(count)]
    return [node for node in nodes if node is not None]


def _number(value, digits, sign=False):
    if value is None or value != value:
        return _DASH
    return f"{value:{'+' if sign else ''}.{digits}f}"


def _plain(value):
    return "" if value is None or value != value else f"{value:.6g}"
