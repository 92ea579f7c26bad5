"""Two commands do not write into one folder at a time, and a killed one leaves it free."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diff2ct_training.evaluate_command import EvaluationRequest, run_evaluation
from diff2ct_training.one_writer import one_writer
from diff2ct_training.prepare_command import PrepareRequest, run_preparation
from diff2ct_training.train_command import TrainingRequest, run_training

HOLD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from diff2ct_training.one_writer import one_writer
with one_writer(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that writes into `tmp_path`/out."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out"), *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline().strip() == b"in"
        yield process
        process.kill()


def test_a_killed_process_leaves_the_folder_free(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another process of diff2ct is writing here"), one_writer(tmp_path / "out"):
        pass
    with one_writer(tmp_path / "other"):
        pass
    holder.kill()
    holder.wait()
    for _ in range(2):
        with one_writer(tmp_path / "out"):
            pass


def test_a_lock_of_another_user_locks_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with one_writer(tmp_path / "group"):
        assert (tmp_path / "group").is_dir()


def test_commands_that_go_on_with_a_folder_refuse_it_meanwhile(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    def progress(*_: object, **__: object) -> None: ...

    output = tmp_path / "out"
    with pytest.raises(ValueError, match="another process of diff2ct is writing here"):
        run_preparation(PrepareRequest(output=output, num_phantoms=1), progress)
    with pytest.raises(ValueError, match="another process of diff2ct is writing here"):
        run_evaluation(EvaluationRequest(output=output, num_phantoms=1, methods=("flat-body",)), progress)
    with pytest.raises(ValueError, match="another process of diff2ct is writing here"):
        run_training(TrainingRequest(recipe="debug", cases=tmp_path, output=output, accelerator="cpu"))
    assert [path.name for path in output.iterdir()] == [".lock"]
