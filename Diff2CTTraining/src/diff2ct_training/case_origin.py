"""What a prepared case was made of, and whether one that is there is the one that is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diff2ct.metaimage import files_of
from diff2ct_training.acquisitions import acquisition_files
from diff2ct_training.cases import describe_case, remove_case
from diff2ct_training.checksums import sha256_of, sha256_of_files
from diff2ct_training.labels import LabelFile


@dataclass(frozen=True)
class Source:
    """The files of a scan, and the label maps that decide something of its case."""

    files: tuple[Path, ...]
    labels: tuple[LabelFile, ...] = ()

    @property
    def stamp(self) -> str:
        """Changes with path, size and time of any file and with what the labels mean: files of the same stamp are not read."""
        meaning = [f"{label.path.name}\0{label.scheme}\0{label.structure}" for label in self.labels]
        of_labels = [file for label in self.labels for file in files_of(label.path)]
        facts = [(file, file.stat()) for file in (*self.files, *of_labels)]
        lines = [f"{file.resolve()}\0{there.st_size}\0{there.st_mtime_ns}" for file, there in facts]
        return hashlib.sha256("\n".join(sorted(lines + meaning)).encode()).hexdigest()[:16]

    @cached_property
    def sha256(self) -> str:
        return sha256_of_files(self.files)

    @cached_property
    def header_sha256(self) -> str:
        """What earlier versions took for the SHA-256 of a MetaImage whose voxels were not in NAME.raw."""
        return sha256_of(self.files[0])

    @cached_property
    def labels_sha256(self) -> str:
        """Of all label maps and what they mean; empty without any."""
        return self._sha256_of_labels(lambda map_file: sha256_of_files(files_of(map_file)))

    @cached_property
    def label_headers_sha256(self) -> str:
        """What earlier versions took for it: the header alone of a MetaImage."""
        return self._sha256_of_labels(sha256_of)

    def _sha256_of_labels(self, digest: Callable[[Path], str]) -> str:
        lines = sorted(f"{digest(label.path)}  {label.scheme or label.structure}\n" for label in self.labels)
        return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ""

    def record(self) -> dict[str, str]:
        """For a case's record."""
        return {"source_sha256": self.sha256, "source_stamp": self.stamp, "label_maps_sha256": self.labels_sha256}


@dataclass(frozen=True, kw_only=True)
class WantedCase:
    """A case that is asked for. made_by: all that decides it but for the scan, as text. source: None for a phantom."""

    name: str
    made_by: str
    split: str
    patient: str
    source: Source | None = None


def is_made(folder: Path, wanted: WantedCase, *, overwrite: bool) -> bool:
    """True if the case is there and is the one that is asked for; ValueError with the difference if it is another one and may
    not be replaced. That one is removed with its X-rays: nobody trains on it if the wanted one then cannot be made."""
    file = folder / f"{wanted.name}.json"
    if not file.exists():
        return False
    changed = _difference(describe_case(file), wanted)
    if not changed:
        return True
    if not overwrite:
        raise ValueError(
            f"{file} was prepared in another way than asked for: {changed}; choose another folder, or --overwrite makes it "
            "again"
        )
    for acquisition in acquisition_files(folder, wanted.name):
        acquisition.unlink()
    remove_case(file)
    return False


def _difference(there: Mapping[str, Any], wanted: WantedCase) -> str:
    """Empty if there is none. Where a case of an earlier version does not say something, that is not compared."""
    record = there.get("record", {})
    facts = {
        "": (record.get("made_by", "unknown"), wanted.made_by),
        " split": (there["split"], wanted.split),
        " as patient": (there["patient"], wanted.patient),
    }
    changed = [f"{was}{what}, not {now}" for what, (was, now) in facts.items() if was != now]
    if record.get("quality", {}).get("oblique_deg") and "unscanned_share" not in record:
        changed.append("by an earlier version, with air where an oblique scan has no voxels")
    source = wanted.source
    if changed or source is None or record.get("source_stamp") == source.stamp:
        return "; ".join(changed)
    known = record.get("source_sha256", source.sha256)
    if known != source.sha256 and known != source.header_sha256:  # the other files are not read twice
        return f"from another scan of that name, {there['source']}"
    if "label_maps_sha256" in record:
        known = record["label_maps_sha256"]
        relabelled = known != source.labels_sha256 and known != source.label_headers_sha256
    else:
        relabelled = not record.get("variant") and bool(source.labels) != ("labels_sha256" in record)
    return "with other label maps, or other meanings of their numbers" if relabelled else ""
