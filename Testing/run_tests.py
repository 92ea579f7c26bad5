"""Run the tests: `python3 Testing/run_tests.py`. Arguments go to pytest, e.g. `Testing/Core -k projector -x`."""

import sys
from pathlib import Path

import bootstrap

TESTING = Path(__file__).resolve().parent

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not any(Path(argument.split("::")[0]).resolve().is_relative_to(TESTING) for argument in arguments):
        arguments.append(str(TESTING))
    command = ["-c", str(TESTING / "pytest.ini"), *arguments]
    sys.exit(bootstrap.run_in_environment("pytest", command, extra="test", needs_windows=True))
