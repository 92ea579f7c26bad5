"""Names of files that every library can be told."""

from __future__ import annotations

from pathlib import Path


def check_name(path: Path) -> None:
    """ValueError where a name is no text, as one of a disk that was written in another encoding: ITK ends the whole process at
    it, and no file can say that it was made of it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise ValueError(f"{shown}: the name is not in UTF-8; rename the file or folder") from None
