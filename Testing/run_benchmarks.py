"""Measure Diff2CT against its peers: `python3 Testing/run_benchmarks.py [--only projection ...]`. See Benchmarks/README.md.

The peers are installed into .venv the first time, without their dependencies, so that none of them replaces torch; with
--no-peers they are not, and what needs them is skipped.
"""

import sys
from pathlib import Path

import bootstrap

BENCHMARKS = Path(__file__).resolve().parent / "Benchmarks"

if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--no-peers"]
    peers = None if "--no-peers" in sys.argv else BENCHMARKS / "peers.txt"
    command = [str(BENCHMARKS / "run.py"), *arguments]
    sys.exit(bootstrap.run_in_environment("python", command, extra="test", requirements=peers))
