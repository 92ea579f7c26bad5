"""Run the tests: `python3 Testing/run_tests.py`. Arguments go to pytest, e.g. `Testing/Core -k projector -x`, or `-n 0` for one
after the other."""

import os
import sys
from pathlib import Path

import bootstrap

TESTING = Path(__file__).resolve().parent
MAX_SIDE_BY_SIDE = 4
"""Processes of about 1 GB each."""

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not any(Path(argument.split("::")[0]).resolve().is_relative_to(TESTING) for argument in arguments):
        arguments.append(str(TESTING))
    side_by_side = min(MAX_SIDE_BY_SIDE, len(os.sched_getaffinity(0)))
    command = ["-c", str(TESTING / "pytest.ini"), "-n", str(side_by_side), "--dist", "loadfile", *arguments]
    sys.exit(bootstrap.run_in_environment("pytest", command, extra="test", needs_windows=True))
