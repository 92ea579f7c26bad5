"""SHA-256 of what was read and of what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256_of(file: Path) -> str:
    """Hex digits of a file's SHA-256, as `sha256sum` prints them."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_files(files: Iterable[Path]) -> str:
    """Of one file its own; of several that of the list "SHA-256, two spaces, name" of all, sorted by name."""
    files = sorted(files, key=lambda file: (file.name, file))
    if len(files) == 1:
        return sha256_of(files[0])
    listing = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()
