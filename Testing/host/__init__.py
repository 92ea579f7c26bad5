"""A test-only host for a scripted Slicer module: PySide6 and slicer-core, no window, no Slicer.

    host.start()                              makes `qt`, `ctk`, `slicer.app`... importable
    module = host.load_module("Diff2CT.py")   the module as Slicer would load it
    panel = host.enter(module)                the panel, made and entered; panel.self() is the widget object of the module

It shows that the code obeys PythonQt's rules, that the .ui file fits it, and that nodes, files, layouts and slices are
right, as those are Slicer's own C++. It does not show that the module is found, packaged and looks right in Slicer, nor
anything of DICOM, other platforms or real 3D interaction: one run in the real application per release stays necessary.

`host.errors` lists what an exception, an unknown signal or a failed connection left behind; each test ends with it empty.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

from .error_log import errors

__all__ = ["enter", "errors", "has_opengl", "load_module", "screenshot", "start", "unload_module", "window"]


def start() -> Any:
    """The running application as Python sees it (slicer.app). There is one per process; a second call returns it."""
    import slicer

    if hasattr(slicer, "app"):
        return slicer.app
    from . import error_log, loader
    from .qt_module import OtherModule, QtModule

    _keep_constants()
    error_log.install()
    qt, ctk = QtModule("qt"), OtherModule("ctk")
    qt.QUiLoader = loader.UiLoader
    sys.modules.update(qt=qt, ctk=ctk)
    slicer.modules = SimpleNamespace()  # what is not loaded is not there

    from . import app, ctk_widgets, layout, modules, mrml_widgets, plot_view, views
    from .pythonqt import wrap

    loader.add_to(ctk, ctk_widgets.WIDGETS)
    loader.add_to(slicer, mrml_widgets.WIDGETS)
    application = app.qSlicerApplication()
    slicer.app = wrap(application)
    slicer.mrmlScene = application.mrmlScene()
    shown = (
        layout.qSlicerLayoutManager,
        modules.qSlicerScriptedLoadableModule,
        modules.qSlicerScriptedLoadableModuleWidget,
        plot_view.qMRMLPlotView,
        plot_view.qMRMLPlotWidget,
        views.qMRMLSliceView,
        views.qMRMLSliceWidget,
        views.qMRMLThreeDView,
        views.qMRMLThreeDWidget,
    )
    for cls in shown:
        setattr(slicer, cls.__name__, loader.wrapper_class(cls))
    for name, logic in app.module_logics(slicer.mrmlScene, application.applicationLogic()).items():
        application.moduleManager().add(name, modules.qSlicerLoadableModule(name, logic, application))
    _add_python_modules(slicer)
    return slicer.app


def _keep_constants() -> None:
    """PySide 6.12 drops references to None, True and False that it does not own: fatal in the end before Python 3.12."""
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 32


def _add_python_modules(slicer: ModuleType) -> None:
    """The Python layer of Slicer that slicer-core does not ship."""
    for name, file in (
        ("i18n", "slicer_i18n"),
        ("packaging", "slicer_packaging"),
        ("ScriptedLoadableModule", "slicer_module"),
        ("parameterNodeWrapper", "slicer_parameters"),
    ):
        module = importlib.import_module(f"{__name__}.{file}")
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
    slicer.util.pip_install = slicer.packaging.pip_install  # the one of the wheel would install


def load_module(path: str | Path) -> Any:
    """Load a module's file as Slicer does; returns slicer.modules.<name in lower case>."""
    import slicer

    from .modules import qSlicerScriptedLoadableModule
    from .pythonqt import alive, wrap

    path = Path(path).resolve()
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # where Slicer puts it: after site-packages
    spec = importlib.util.spec_from_file_location(name, path)
    file = importlib.util.module_from_spec(spec)
    sys.modules[name] = file
    spec.loader.exec_module(file)
    manager = alive(slicer.app.moduleManager())
    module = qSlicerScriptedLoadableModule(name, str(path), manager)
    manager.add(name, module)
    setattr(slicer.modules, f"{name}Instance", getattr(file, name)(wrap(module)))
    return wrap(module)


def unload_module(module: Any) -> None:
    """What happens at application exit: the panel is left and cleaned up."""
    import slicer

    from .pythonqt import alive

    name = module.name
    panel = alive(module)._panel
    if panel is not None:
        panel.exit()
    alive(slicer.app.moduleManager()).remove(name)
    if panel is not None:
        panel.deleteLater()


def enter(module: Any) -> Any:
    """The module's panel, shown to its code as selected."""
    from .pythonqt import alive

    panel = module.widgetRepresentation()
    alive(panel).enter()
    return panel


def has_opengl() -> bool:
    """Whether views can be rendered; a test that needs pictures skips without."""
    from .rendering import has_opengl

    return has_opengl()


def window(panel: Any, width: int = 1400, height: int = 900, panel_width: int = 440) -> Any:
    """Panel and views side by side, as in Slicer's main window, for pictures. It stands in for no class of Slicer."""
    from .pictures import window

    return window(panel, width, height, panel_width)


def screenshot(widget: Any, path: str | Path, width: int | None = None, height: int | None = None) -> None:
    """PNG of a widget with everything in it, its views rendered anew."""
    from .pictures import screenshot

    screenshot(widget, path, width, height)
