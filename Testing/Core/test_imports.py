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
WITHOUT_TORCH = ["geometry", "units", "volume", "volume_io", "phantom", *(path.stem for path in CORE.glob("radiograph*.py"))]


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


def test_slicer_module_has_its_classes_and_a_light_start() -> None:
    tree = ast.parse((EXTENSION / "Diff2CT.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {"Diff2CT", "Diff2CTWidget", "Diff2CTLogic", "Diff2CTTest"} <= classes
    file_scope = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert set(imported_packages(file_scope)) <= {*SLICER_PACKAGES, *sys.stdlib_module_names}
    assert not set(imported_packages(tree)) & (CORE_DEPENDENCIES | {"diff2ct"})
