"""Slicer installs only the files that CMake lists, pip only those that pyproject.toml matches: both must cover the disk."""

import re
import struct
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "Diff2CTExtension"
IGNORED = {"__pycache__", ".DS_Store"}


def files_on_disk() -> tuple[list[str], list[str]]:
    """Python files and other files that belong to the module, relative to its folder."""
    folders = [EXTENSION / name for name in ("diff2ct", "Diff2CTLib", "Resources")]
    paths = [EXTENSION / "Diff2CT.py", *(path for folder in folders for path in folder.rglob("*") if path.is_file())]
    names = sorted(str(path.relative_to(EXTENSION)) for path in paths if not IGNORED & set(path.parts))
    return [name for name in names if name.endswith(".py")], [name for name in names if not name.endswith(".py")]


def listed_in_cmake(variable: str) -> list[str]:
    text = (EXTENSION / "CMakeLists.txt").read_text()
    match = re.search(rf"^set\({variable}\n(.*?)^\s*\)", text, re.MULTILINE | re.DOTALL)
    assert match, f"no set({variable} ...) in Diff2CTExtension/CMakeLists.txt"
    return match.group(1).split()


def paste(variable: str, names: list[str]) -> str:
    return f"Diff2CTExtension/CMakeLists.txt must hold\nset({variable}\n  " + "\n  ".join(names) + "\n  )"


def test_cmake_lists_every_script() -> None:
    scripts, _ = files_on_disk()
    assert sorted(listed_in_cmake("MODULE_PYTHON_SCRIPTS")) == scripts, paste("MODULE_PYTHON_SCRIPTS", scripts)


def test_cmake_finds_the_files_when_an_application_bundles_the_extension() -> None:
    """Then CMAKE_SOURCE_DIR is the folder of the application."""
    files = [ROOT / "CMakeLists.txt", EXTENSION / "CMakeLists.txt", ROOT / "Testing" / "CMakeLists.txt"]
    assert [path for path in files if "{CMAKE_SOURCE_DIR}" in path.read_text()] == []
    scripts = re.findall(r"SCRIPT (\S+)\)", files[-1].read_text())
    places = {"${Diff2CT_SOURCE_DIR}": str(ROOT), "${CMAKE_CURRENT_SOURCE_DIR}": str(ROOT / "Testing")}
    for script in scripts:
        variable = script.partition("/")[0]
        assert Path(script.replace(variable, places[variable])).is_file()
    assert len(scripts) == 2


def test_cmake_lists_every_resource() -> None:
    _, resources = files_on_disk()
    assert sorted(listed_in_cmake("MODULE_PYTHON_RESOURCES")) == resources, paste("MODULE_PYTHON_RESOURCES", resources)


def test_pip_installs_every_data_file_of_the_core() -> None:
    package = tomllib.loads((ROOT / "Diff2CTTraining" / "pyproject.toml").read_text())
    patterns = package["tool"]["setuptools"]["package-data"]["diff2ct"]
    core = EXTENSION / "diff2ct"
    matched = {str(path.relative_to(EXTENSION)) for pattern in patterns for path in core.glob(pattern)}
    assert matched == {name for name in files_on_disk()[1] if name.startswith("diff2ct/")}


def test_every_core_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in (EXTENSION / "diff2ct").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_catalog_fields_are_in_the_root_file() -> None:
    """What the Slicer Extensions Index reads there without running CMake."""
    text = (ROOT / "CMakeLists.txt").read_text()
    fields = dict(re.findall(r'^set\((EXTENSION_\w+) "([^"]*)"\)', text, re.MULTILINE))
    assert re.search(r"^project\(Diff2CT\)$", text, re.MULTILINE)
    assert fields["EXTENSION_DEPENDS"] == "PyTorch"
    raw = "https://raw.githubusercontent.com/Diff2CT/SlicerDiff2CT/main/"
    pictures = [fields["EXTENSION_ICONURL"], *fields["EXTENSION_SCREENSHOTURLS"].split()]
    assert [url for url in pictures if not (url.startswith(raw) and (ROOT / url.removeprefix(raw)).is_file())] == []


def test_icon_is_a_128_pixel_png_and_the_module_has_the_same() -> None:
    icon = (ROOT / "Diff2CT.png").read_bytes()
    assert icon[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", icon[16:24]) == (128, 128)
    assert icon == (EXTENSION / "Resources" / "Icons" / "Diff2CT.png").read_bytes()
