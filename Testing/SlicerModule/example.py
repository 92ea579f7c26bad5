"""Two X-ray files in, one CT file out, from a script; prints how long each part took.

Slicer --no-splash --no-main-window --exit-after-startup --python-script example.py AP.dcm LATERAL.dcm ct.nrrd
python Testing/SlicerModule/example.py AP.dcm LATERAL.dcm ct.nrrd [TRUTH.nrrd]      (on the test host, without Slicer)
"""

import sys
import time
from pathlib import Path


def start_host():
    """Where there is no Slicer, the test host stands in for it."""
    testing = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(testing))
    import host

    host.start()
    host.load_module(testing.parent / "Diff2CTExtension" / "Diff2CT.py")


def main(ap_path, lateral_path, output, truth_path=None):
    import slicer
    from Diff2CT import Diff2CTLogic

    def tell(what):
        sys.stdout.write(f"{time.monotonic() - start:7.2f} s  {what}\n")
        sys.stdout.flush()

    start = time.monotonic()
    logic = Diff2CTLogic()
    ap, lateral = logic.loadXrays([ap_path, lateral_path])
    tell(f"read {ap.GetName()} and {lateral.GetName()}")
    result = logic.reconstruct(ap, lateral, onProgress=lambda p: tell(f"{p.phase} {p.step}/{p.steps}" if p.steps else p.phase))
    tell(result.message)
    logic.exportVolume(result.volumeNode, output)
    tell(f"wrote {output}")
    if truth_path:
        comparison = logic.compare(result.volumeNode, slicer.util.loadVolume(str(truth_path)), [ap, lateral])
        for row in comparison.rows():
            tell("  ".join(row))
    logic.dispose()


if __name__ == "__main__":
    if "slicer" not in sys.modules or not hasattr(sys.modules["slicer"], "app"):
        start_host()
    main(*sys.argv[1:])
