"""Who may import whom: the core stands alone, half of it works without torch, the Slicer module starts without either."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXTENSION = Path(__file__).resolve().parents[2] / "Diff2CTExtension"
CORE = EXTENSION / "diff2ct"
CORE_FILES = sorted(CORE.rglob("*.py"))
CORE_DEPENDENCIES = {"torch", "numpy", "SimpleITK", "pydicom", "safetensors"}
SLICER_PACKAGES = {"slicer", "qt", "ctk", "vtk"}
WITHOUT_TORCH = [
    "geometry",
    "overlay",
    "units",
    "volume",
    "volume_io",
    "phantom",
    *(path.stem for path in CORE.glob("radiograph*.py")),
]


def imported_packages(tree: ast.AST) -> Iterator[str]:
    """Top-level package of every absolute import below `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_core_imports_only_its_dependencies(path: Path) -> None:
    allowed = {"diff2ct", *CORE_DEPENDENCIES, *sys.stdlib_module_names}
    assert set(imported_packages(ast.parse(path.read_text()))) <= allowed


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_numpy_half_imports_without_torch(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = sys.modules['safetensors'] = None; import diff2ct.{module}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import diff2ct; assert set(sys.modules) - before == {'diff2ct'}"
    subprocess.run([sys.executable, "-c", code], check=True)


def file_scope_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return set(imported_packages(ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])))


def test_slicer_module_has_its_classes_and_a_light_start() -> None:
    tree = ast.parse((EXTENSION / "Diff2CT.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {"Diff2CT", "Diff2CTWidget", "Diff2CTLogic", "Diff2CTTest"} <= classes
    assert len((EXTENSION / "Diff2CT.py").read_text().splitlines()) < 120
    assert file_scope_of(EXTENSION / "Diff2CT.py") <= {*SLICER_PACKAGES, "Diff2CTLib", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", sorted((EXTENSION / "Diff2CTLib").glob("*.py")), ids=lambda path: path.stem)
def test_slicer_library_starts_light_and_never_imports_torch(path: Path) -> None:
    assert file_scope_of(path) <= {*SLICER_PACKAGES, "numpy", "Diff2CTLib", *sys.stdlib_module_names}
    assert not set(imported_packages(ast.parse(path.read_text()))) & {"torch", "safetensors", "diff2ct_training"}


def core_modules(tree: ast.AST) -> Iterator[str]:
    """Modules of the core that are imported below `tree`, as diff2ct.NAME."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "diff2ct":
            yield from (f"diff2ct.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("diff2ct."):
            yield str(node.module)


def test_slicer_library_takes_only_the_half_of_the_core_that_needs_no_torch() -> None:
    trees = [ast.parse(path.read_text()) for path in (EXTENSION / "Diff2CTLib").glob("*.py")]
    modules = sorted({module for tree in trees for module in core_modules(tree)})
    assert len(modules) > 5
    code = "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None; import " + ", ".join(modules)
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_the_bridge_turns_lps_into_ras() -> None:
    """RAS and MRML matrices are SceneBridge's business: nobody else may hold the sign flip."""
    for path in (EXTENSION / "Diff2CTLib").glob("*.py"):
        if path.stem != "SceneBridge":
            assert "-1.0, -1.0, 1.0" not in path.read_text() and "(-1, -1, 1)" not in path.read_text(), path.name
