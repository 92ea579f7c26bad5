"""How quick the panel is, on the test host with the real children: `python measure.py AP.dcm LATERAL.dcm CT.nrrd [CHECKPOINT]`.

Prints the import time of the module, the time from a moved slider to the new DRR, the longest hold of the event loop during a
reconstruction, and the time from Cancel to the end. Times are wall clock unless they are called processor time: on a computer
that does other work, read the latter.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
EXTENSION = TESTING.parent / "Diff2CTExtension"
sys.path[:0] = [str(TESTING), str(EXTENSION)]

IMPORT = f"""
import sys, time
sys.path[:0] = {[str(TESTING), str(EXTENSION)]!r}
import host
host.start()
import numpy, slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper, slicer.util, slicer.i18n, vtk.util.numpy_support
start = time.process_time()
import Diff2CT
print(f"{{1000 * (time.process_time() - start):.1f}} {{'torch' in sys.modules}}")
"""


def tell(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure_import():
    results = [subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True) for _run in range(3)]
    times = [result.stdout.splitlines()[-1].split() for result in results]
    milliseconds = statistics.median(float(ms) for ms, _torch in times)
    tell(f"import of Diff2CT.py: {milliseconds:.0f} ms processor time, torch imported: {times[0][1]}")


def drrs(panel):
    return [panel.preview._views[slot].drr for slot in ("ap", "lateral")]


def measure_preview(panel):
    import slicer

    wait_until(lambda: None not in drrs(panel))
    walls, processors = [], []
    for step in range(1, 11):
        wall, processor = time.perf_counter(), time.process_time()
        shown = drrs(panel)
        panel.ui.poseFeetHeadSlider.value = 3.0 * step
        while any(new is old for new, old in zip(drrs(panel), shown, strict=True)):
            slicer.app.processEvents()
            time.sleep(0.001)  # as an event loop does; without it the panel takes a core from the service
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    panel.ui.resetPoseButton.click()
    tell(
        f"slider to both DRRs: median {1000 * statistics.median(walls):.0f} ms, longest {1000 * max(walls):.0f} ms; "
        f"panel's processor time {1000 * statistics.median(processors):.0f} ms"
    )


def measure_run(panel, cancel):
    import qt

    end = time.monotonic() + 1.0
    wait_until(lambda: time.monotonic() > end)  # what was asked for before belongs to no run
    walls, processors = [], []
    last = [time.perf_counter(), time.process_time()]

    def tick():
        now = [time.perf_counter(), time.process_time()]
        walls.append(now[0] - last[0])
        processors.append(now[1] - last[1])
        last[:] = now

    timer = qt.QTimer()
    timer.connect("timeout()", tick)
    timer.start(5)
    start = time.perf_counter()
    panel.ui.reconstructButton.click()
    wait_until(lambda: "Step" in panel.ui.statusLabel.text or panel.logic.run is None)
    if cancel:
        start = time.perf_counter()
        panel.ui.reconstructButton.click()
    wait_until(lambda: panel.logic.run is None)
    seconds = time.perf_counter() - start
    timer.stop()
    what = "Cancel to the end" if cancel else "reconstruction"
    tell(f"{what}: {seconds:.2f} s. {panel.ui.statusLabel.text}")
    tell(f"  event loop held: {1000 * max(walls):.0f} ms at most; {1000 * max(processors):.0f} ms processor time")


def wait_until(condition):
    import slicer

    while not condition():
        slicer.app.processEvents()
        time.sleep(0.005)


def main(ap, lateral, ct, checkpoint=""):
    measure_import()
    import slicer

    import host

    host.start()
    module = host.load_module(EXTENSION / "Diff2CT.py")
    panel = host.enter(module).self()
    panel.xraySection.load([ap, lateral])
    panel.parameterNode.checkpoint = checkpoint
    panel.parameterNode.previewNode = slicer.util.loadVolume(ct)
    measure_preview(panel)
    measure_run(panel, cancel=False)
    panel.ui.stepsSpinBox.value = 100
    measure_run(panel, cancel=True)
    host.unload_module(module)


if __name__ == "__main__":
    main(*sys.argv[1:])
