"""The tests themselves: how they run side by side."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.mark.parametrize(("options", "by_user", "threads"), [("-n2", None, 3), ("-n0", None, 4), ("-n2", 7, 7)])
def test_processes_side_by_side_share_the_processors(options: str, by_user: int | None, threads: int, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(f"import os\nos.cpu_count = lambda: 6\n{CONFTEST.read_text(encoding='utf-8')}")
    test = f"import os\ndef test_it(): assert os.environ['OMP_NUM_THREADS'] == '{threads}'\n"
    (tmp_path / "test_it.py").write_text(test)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "PYTEST_"))}
    environment |= {} if by_user is None else {"OMP_NUM_THREADS": str(by_user)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", options, str(tmp_path)]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
