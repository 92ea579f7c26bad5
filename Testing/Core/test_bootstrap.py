"""The set-up behind the two README commands: when it installs, when it does not, and when it starts afresh."""

import sys
from pathlib import Path

import pytest

import bootstrap


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What pip was asked for, in a pretended clone where making an environment only writes its marks."""
    (tmp_path / "Diff2CTTraining").mkdir()
    (tmp_path / "Diff2CTTraining" / "pyproject.toml").write_text("first")
    (tmp_path / "constraints.txt").write_text("")
    venv = tmp_path / ".venv"
    paths = {"ROOT": tmp_path, "VENV": venv, "PYTHON": venv / "bin" / "python", "PACKAGE": tmp_path / "Diff2CTTraining"}
    paths |= {"CONSTRAINTS": tmp_path / "constraints.txt", "STAMP": venv / "stamp.json", "UNFINISHED": venv / "unfinished"}
    for name, path in paths.items():
        monkeypatch.setattr(bootstrap, name, path)

    def make_environment(command: list[object], **_: object) -> None:
        assert command[:3] == [sys.executable, "-m", "venv"]
        (venv / "bin").mkdir()
        (venv / "bin" / "python").touch()
        (venv / "made").touch()

    requirements: list[str] = []
    monkeypatch.setattr(bootstrap.subprocess, "run", make_environment)
    monkeypatch.setattr(bootstrap, "_pip_install", lambda *arguments: requirements.append(Path(arguments[-1]).name))
    return requirements


def test_second_call_installs_nothing(installed: list[str]) -> None:
    bootstrap._install("")
    bootstrap._install("")
    assert installed == ["Diff2CTTraining"]


def test_extras_are_added_and_kept(installed: list[str]) -> None:
    bootstrap._install("")
    bootstrap._install("test")
    bootstrap._install("")
    assert installed == ["Diff2CTTraining", "Diff2CTTraining[test]"]


def test_changed_dependencies_are_installed_with_all_extras(installed: list[str]) -> None:
    bootstrap._install("test")
    (bootstrap.PACKAGE / "pyproject.toml").write_text("second")
    bootstrap._install("")
    assert installed == ["Diff2CTTraining[test]", "Diff2CTTraining[test]"]


def test_further_requirements_are_installed_when_their_list_changes(installed: list[str], tmp_path: Path) -> None:
    bootstrap._install("test")
    peers = tmp_path / "peers.txt"
    for packages in ("one==1", "one==1", "one==2"):
        peers.write_text(packages)
        bootstrap._install_requirements(peers)
    assert installed == ["Diff2CTTraining[test]", "peers.txt", "peers.txt"]


def test_interrupted_installation_starts_afresh(installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: str) -> None:
        (bootstrap.VENV / "half a package").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bootstrap, "_pip_install", interrupt)
        bootstrap._install("test")
    bootstrap._install("")
    assert installed == ["Diff2CTTraining"]
    assert not (bootstrap.VENV / "half a package").exists()


def test_moved_clone_starts_afresh(installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap._install("")
    (bootstrap.VENV / "script with an absolute path").touch()
    monkeypatch.setattr(bootstrap, "ROOT", bootstrap.ROOT / "elsewhere")
    bootstrap._install("")
    assert len(installed) == 2
    assert not (bootstrap.VENV / "script with an absolute path").exists()


def test_own_environment_is_used_not_deleted(installed: list[str]) -> None:
    (bootstrap.VENV / "bin").mkdir(parents=True)
    bootstrap.PYTHON.touch()
    bootstrap._install("")
    assert installed == ["Diff2CTTraining"]
    assert not (bootstrap.VENV / "made").exists()


def test_missing_ensurepip_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match=rf"apt-get install python3\.{sys.version_info.minor}-venv"):
        bootstrap._require_ensurepip()


def test_system_libraries_that_are_there_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "SYSTEM_LIBRARIES", {"libc.so.6": "libc6"})
    monkeypatch.setattr(bootstrap, "_apt_install", lambda packages: pytest.fail(f"asked for {packages}"))
    bootstrap._install_system_libraries()


def test_missing_system_libraries_are_installed_or_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "SYSTEM_LIBRARIES", {"libc.so.6": "libc6", "libnothing.so.9": "libnothing9"})
    monkeypatch.setattr(bootstrap, "_apt_install", lambda packages: not asked.append(packages))
    bootstrap._install_system_libraries()
    assert asked == [["libnothing9", *bootstrap.DRAWING_PACKAGES]]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(bootstrap, "_apt_install", lambda packages: False)
    bootstrap._install_system_libraries()
    assert "sudo apt-get install libnothing9" in capsys.readouterr().out


def test_child_environment_has_no_foreign_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("KEPT", "yes")
    environment = bootstrap._clean_environment()
    assert "PYTHONPATH" not in environment and environment["KEPT"] == "yes"
