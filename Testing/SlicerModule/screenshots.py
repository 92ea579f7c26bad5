"""Pictures of the module for README and tutorial, drawn by the test host: `python screenshots.py [CASE]`.

CASE: a folder with ap.dcm, lateral.dcm and truth.nrrd, as `diff2ct drr` and the demo write them, and if one shall not be
computed, reconstruction.nrrd; without it the module's own sample data is used. Only real panels and views are shown; what they
look like in Slicer itself differs in the style of the widgets.
"""

import argparse
import sys
import time
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTING))

from PIL import Image  # noqa: E402

import host  # noqa: E402

EXTENSION = TESTING.parent / "Diff2CTExtension"
WIDTH = 1200
WRONG_POSE = {"poseLeftRightSlider": 18.0, "poseFeetHeadSlider": -25.0, "poseTiltYSlider": 6.0}


class Photographer:
    def __init__(self, folder):
        self.folder = folder
        self.application = host.start()
        self.module = host.load_module(EXTENSION / "Diff2CT.py")
        self.representation = host.enter(self.module)
        self.panel = self.representation.self()
        self.window = host.window(self.representation, width=1500, height=900, panel_width=470)

    def wait_until(self, condition, seconds=60):
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                raise TimeoutError(f"waited {seconds} s")
            self.application.processEvents()
            time.sleep(0.01)
        while self.panel._updateTimer.active:
            self.application.processEvents()
        return time.monotonic() - start

    def shoot(self, name):
        self.wait_until(lambda: True)
        for _turn in range(20):  # sections that grew are laid out anew in steps
            self.application.processEvents()
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        self.save(self.window, name)

    def shoot_view(self, name):
        """The 3D view alone."""
        import slicer
        from Diff2CTLib import Layout

        self.save(slicer.app.layoutManager().viewWidget(Layout.viewNode(Layout.SCENE_VIEW)), name)

    def save(self, widget, name):
        """A PNG small enough for the repository."""
        path = self.folder / f"{name}.png"
        host.screenshot(widget, path)
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        picture.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)

    def open_sections(self, *names):
        for name in ("xraySection", "alignmentSection", "reconstructionSection", "compareSection"):
            getattr(self.panel.ui, name).collapsed = name not in names


def load(photographer, case):
    """X-rays and CT in the panel."""
    import slicer

    panel = photographer.panel
    if case is None:
        panel.ui.sampleButton.click()
    else:
        panel.xraySection.load([str(case / "ap.dcm"), str(case / "lateral.dcm")])
        truth = slicer.util.loadVolume(str(case / "truth.nrrd"))
        truth.SetName("CT")
        panel.parameterNode.previewNode = panel.parameterNode.truthNode = truth


def agreements(panel):
    return [panel.preview.agreement(slot) for slot in ("ap", "lateral")]


def reconstruct(photographer, case):
    from Diff2CTLib import SceneBridge

    from diff2ct.volume_io import read_volume

    panel = photographer.panel
    if case is not None and (case / "reconstruction.nrrd").is_file():
        volume, provenance = read_volume(case / "reconstruction.nrrd")
        node = SceneBridge.addHuVolume(volume.hu, volume.grid, "CT (synthetic, not for diagnosis)", provenance)
        panel.parameterNode.reconstructionNode = node
        panel.showResult()
        return
    panel.ui.reconstructButton.click()
    photographer.wait_until(lambda: "Step" in panel.ui.statusLabel.text or panel.logic.run is None)
    photographer.shoot("panel-running")
    photographer.wait_until(lambda: panel.logic.run is None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", type=Path, nargs="?")
    parser.add_argument("--output", type=Path, default=TESTING.parent / "Screenshots")
    arguments = parser.parse_args()
    case = arguments.case and arguments.case.resolve()  # Slicer reads no relative paths
    arguments.output.mkdir(parents=True, exist_ok=True)
    photographer = Photographer(arguments.output)
    try:
        take_pictures(photographer, case)
    finally:
        host.unload_module(photographer.module)


def take_pictures(photographer, case):
    panel = photographer.panel
    photographer.open_sections("xraySection", "reconstructionSection")
    photographer.wait_until(lambda: "Looking" not in panel.ui.deviceLabel.text)
    photographer.shoot("panel-before")

    load(photographer, case)
    photographer.open_sections("xraySection", "alignmentSection")
    panel.ui.geometrySection.collapsed = False
    photographer.wait_until(lambda: True)
    photographer.shoot_view("scene-3d")  # the host makes a camera with the first picture of a view
    panel.updateSoon()
    photographer.wait_until(lambda: panel.preview.hasDrr("ap") and panel.preview.hasDrr("lateral"))
    photographer.shoot("panel-after")
    panel.ui.geometrySection.collapsed = True
    panel.ui.poseSection.collapsed = False
    panel.ui.previewModeComboBox.currentIndex = 2
    right = agreements(panel)
    for name, value in WRONG_POSE.items():
        getattr(panel.ui, name).value = value
    photographer.wait_until(lambda: all(wrong < good - 0.003 for wrong, good in zip(agreements(panel), right, strict=True)))
    photographer.shoot("alignment-wrong")
    panel.ui.registerButton.click()
    photographer.wait_until(lambda: panel.ui.undoRegisterButton.enabled)
    photographer.wait_until(lambda: all(abs(now - good) < 0.01 for now, good in zip(agreements(panel), right, strict=True)))
    photographer.shoot("alignment-right")
    photographer.shoot_view("scene-3d")

    photographer.open_sections("reconstructionSection")
    reconstruct(photographer, case)
    photographer.wait_until(lambda: panel.compareSection._comparison is not None)
    photographer.open_sections("compareSection")
    photographer.shoot("compare")
    panel.ui.overlayComboBox.currentIndex = 1
    photographer.wait_until(lambda: panel.ui.overlayLabel.text.startswith("Blue"))
    photographer.shoot("compare-difference")
    panel.ui.overlayComboBox.currentIndex = 0
    panel.ui.boneCheckBox.click()
    photographer.shoot("bone")


if __name__ == "__main__":
    main()
