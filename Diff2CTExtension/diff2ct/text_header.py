"""The text lines with which a NRRD or a MetaImage file begins."""

from __future__ import annotations

import re
from pathlib import Path

_LONGEST = 1 << 20


def text_header(path: Path, separators: str, last: str) -> tuple[dict[str, str], int]:
    """(name, in small letters, -> value; bytes that they take) up to the name `last`, or the empty line."""
    with path.open("rb") as file:
        lines = file.read(_LONGEST).split(b"\n")
    fields, length = {}, 0
    for line in lines:
        length += len(line) + 1
        name, *value = re.split(f"[{separators}]", line.decode("latin-1"), maxsplit=1)
        name = name.strip().lower()
        fields[name] = "".join(value).strip()
        if name == last:
            break
    return fields, length
