"""Run the tests: `python3 Testing/run_tests.py`. Arguments go to pytest, e.g. `Testing/Core -k projector -x`.

With --slicer first, the tests of the Slicer module run too: 1 GB more is installed, Slicer's own libraries and Qt.
"""

import sys
from pathlib import Path

import bootstrap

TESTING = Path(__file__).resolve().parent

if __name__ == "__main__":
    arguments = sys.argv[1:]
    with_slicer = arguments[:1] == ["--slicer"]
    arguments = arguments[with_slicer:]
    if not any(Path(argument.split("::")[0]).resolve().is_relative_to(TESTING) for argument in arguments):
        arguments.append(str(TESTING))
    command = ["-c", str(TESTING / "pytest.ini"), *arguments]
    extra = "test,slicer" if with_slicer else "test"
    sys.exit(bootstrap.run_in_environment("pytest", command, extra=extra, needs_windows=with_slicer))
