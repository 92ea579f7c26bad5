"""What is missing is installed, or the reason why not is one sentence in the panel."""

import subprocess
import sys
import types

import pytest
from SlicerModule.tools import add_ct, add_xrays, click, settle


@pytest.fixture
def without_torch(panel, monkeypatch):
    """The panel on a computer where torch is missing and every question is answered with yes."""
    import slicer
    from Diff2CTLib import Dependencies

    monkeypatch.setattr(Dependencies, "missing", lambda: ["torch"])
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: True)
    panel.updateSoon()
    settle(panel)
    return panel


@pytest.fixture
def pytorch_utils(monkeypatch):
    """The extension PyTorch; `installed` is what its function was asked for, `failure` what it raises."""
    utils = types.SimpleNamespace(installed=[], failure=None)

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            utils.installed.append(options)
            if utils.failure is not None:
                raise utils.failure
            return object()

    utils.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", utils)
    return utils


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (subprocess.CalledProcessError(1, ["ltt", "install", "torch"]), "pip ended with exit code 1. The Python"),
        (OSError("[WinError 126] c10.dll"), "[WinError 126] c10.dll"),  # torch was installed, but cannot be imported
    ],
    ids=["pip", "import"],
)
def test_a_failed_installation_is_told_in_the_panel(without_torch, pytorch_utils, failure, why):
    pytorch_utils.failure = failure
    click(without_torch.ui.installButton)
    settle(without_torch)
    assert without_torch.ui.statusLabel.text.startswith(f"torch could not be installed: {why}")
    assert without_torch.ui.installButton.enabled


def test_clicks_while_pip_works_do_not_start_it_again(without_torch, monkeypatch):
    """Slicer handles events for each line that pip writes."""
    import qt
    import slicer
    from Diff2CTLib import Dependencies

    installed, seen = [], []

    def install(arguments):
        installed.append(arguments)
        settle(without_torch)
        seen.append((without_torch.ui.installButton.enabled, without_torch.ui.statusLabel.text))
        if len(installed) == 1:
            click(without_torch.ui.sampleButton)

    monkeypatch.setattr(slicer.util, "pip_install", install)
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_arguments: "/usb/wheels")
    click(without_torch.ui.installFolderButton)
    settle(without_torch)
    assert len(installed) == 1 and not Dependencies.isInstalling()
    assert seen == [(False, "Packages are being installed; the Python console shows the progress.")]
    assert "Packages are being installed already." in without_torch.ui.checksTextEdit.plainText
    assert without_torch.ui.installButton.enabled


def test_what_a_broken_off_installation_left_is_not_taken_for_the_package(module, tmp_path, monkeypatch):
    """pip writes the metadata last; on Windows, files that are in use also stay behind when a package is removed."""
    from Diff2CTLib import Dependencies

    for name in ("whole", "half", "rest", "bare", "empty"):
        (tmp_path / name).mkdir()
    for name in ("whole", "half", "bare", "empty"):
        (tmp_path / name / "__init__.py").touch()
    for name in ("whole", "gone"):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for name in ("bare", "empty"):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
    (tmp_path / "empty-1.0.dist-info" / "METADATA").touch()
    monkeypatch.syspath_prepend(tmp_path)
    names = ("whole", "half", "rest", "gone", "bare", "empty", "none")
    monkeypatch.setattr(Dependencies, "REQUIREMENTS", dict.fromkeys(names, ""))
    assert Dependencies.missing() == [*names[1:]]


@pytest.mark.parametrize(("version", "isEnough"), [("2.2.2+cu121", False), ("2.3.0+cpu", True), ("2.13.0", True)])
def test_a_torch_too_old_for_the_numpy_of_slicer_counts_as_missing(panel, tmp_path, monkeypatch, version, isEnough):
    from Diff2CTLib import Dependencies

    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / f"torch-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\nSummary: tensors\n")
    assert ("torch" not in Dependencies.missing()) == isEnough
    panel.updateSoon()
    settle(panel)
    assert panel.ui.missingFrame.isHidden() == isEnough
    if not isEnough:
        assert panel.ui.missingLabel.text == "torch 2.3 or newer must be installed first: click Install..."


@pytest.mark.parametrize(("system", "version"), [("win32", ">=2.3,<2.13"), ("linux", ">=2.3"), ("darwin", ">=2.3")])
def test_windows_gets_a_torch_that_fits_into_its_paths(module, monkeypatch, pytorch_utils, system, version):
    from Diff2CTLib import Dependencies

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(Dependencies.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(Dependencies, "missing", lambda: [] if pytorch_utils.installed else ["torch"])
    Dependencies.install(confirm=lambda *a, **k: True)
    assert [options["torchVersionRequirement"] for options in pytorch_utils.installed] == [version]


def test_sample_data_offer_to_install_what_is_missing(panel, monkeypatch):
    import slicer
    from Diff2CTLib import Dependencies

    installed, asked, answers = [], [], [False, True]
    monkeypatch.setattr(Dependencies, "missing", lambda: [] if installed else ["safetensors"])
    monkeypatch.setattr(Dependencies, "_pipInstall", installed.extend)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **k: asked.append(text) or answers.pop(0))
    monkeypatch.setattr(panel.logic, "loadSample", lambda: (*add_xrays(), add_ct(name="Phantom CT")))
    click(panel.ui.sampleButton)
    settle(panel)
    assert panel.ui.checksTextEdit.plainText == "Nothing was installed." and installed == []
    click(panel.ui.sampleButton)
    settle(panel)
    assert len(asked) == 2 and "needs safetensors" in asked[0] and installed == ["safetensors>=0.4"]
    assert panel.ui.xraySection.text == "X-rays: fit" and panel.parameterNode.truthNode.GetName() == "Phantom CT"


def test_sample_data_wait_for_whoever_looks_at_another_module_meanwhile(panel, monkeypatch):
    """Slicer goes on handling events while pip works, so the panel may be left before the data are there."""
    nodes = (*add_xrays(), add_ct(name="Phantom CT"))
    monkeypatch.setattr(panel.logic, "loadSample", lambda: panel.exit() or nodes)
    click(panel.ui.sampleButton)
    panel.enter()
    settle(panel)
    assert panel.ui.xraySection.text == "X-rays: fit" and panel.parameterNode.truthNode is nodes[2]


def test_where_no_torch_can_work_nothing_is_offered(without_torch, pytorch_utils, monkeypatch):
    """Slicer on macOS is a program for Intel processors, also on the others."""
    import qt
    import slicer
    from Diff2CTLib import Dependencies

    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: asked.append(a))
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_arguments: "/usb/wheels")
    monkeypatch.setattr(Dependencies, "_pipInstall", asked.append)
    monkeypatch.setattr(Dependencies.sys, "platform", "darwin")
    monkeypatch.setattr(Dependencies.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(Dependencies.np, "__version__", "2.4.6")
    for button in (without_torch.ui.installButton, without_torch.ui.installFolderButton):
        click(button)
        settle(without_torch)
        assert "does not work with its NumPy 2.4.6. Nothing was installed." in without_torch.ui.statusLabel.text
    assert asked == [] and pytorch_utils.installed == []
    monkeypatch.setattr(Dependencies.np, "__version__", "1.26.4")
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: True)
    click(without_torch.ui.installButton)
    assert len(pytorch_utils.installed) == 1
