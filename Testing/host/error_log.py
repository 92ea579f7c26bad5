"""What went wrong behind Qt's back. PythonQt prints such an exception and goes on; here a test finds it in `errors`."""

from __future__ import annotations

import sys
import traceback

errors: list[str] = []


def record(message: str) -> None:
    errors.append(message)
    sys.stderr.write(message.rstrip() + "\n")


def record_exception() -> None:
    """Call it in an except clause."""
    record(traceback.format_exc())


def install() -> None:
    """VTK observers and slots of the stand-ins report through sys.excepthook."""
    sys.excepthook = lambda *exception: record("".join(traceback.format_exception(*exception)))
