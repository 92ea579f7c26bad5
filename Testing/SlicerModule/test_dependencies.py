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
    "failure",
    [
        subprocess.CalledProcessError(1, ["ltt", "install", "torch"]),  # no network, a proxy, a full disk
        OSError("[WinError 126] c10.dll"),  # torch was installed, but cannot be imported
    ],
    ids=["pip", "import"],
)
def test_a_failed_installation_is_told_in_the_panel(without_torch, pytorch_utils, failure):
    pytorch_utils.failure = failure
    click(without_torch.ui.installButton)
    settle(without_torch)
    assert without_torch.ui.statusLabel.text == f"torch could not be installed: {failure}"


@pytest.mark.parametrize(("system", "version"), [("win32", ">=2.2,<2.13"), ("linux", ">=2.2"), ("darwin", ">=2.2")])
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
