"""What a folder of prepared cases holds: manifest.csv with checksums, report.csv and report.md about the scans' quality.

All three are made from the cases themselves, so they are right however often the preparation was interrupted. What was not
prepared stays in report.csv until the same source is prepared or looked at again.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diff2ct.atomic import replacing_file
from diff2ct_training.acquisitions import acquisitions_by_case
from diff2ct_training.cases import describe_case, labels_file
from diff2ct_training.checksums import sha256_of, sha256_of_files
from diff2ct_training.prepare_pictures import FOLDER
from diff2ct_training.quality import COLUMNS
from diff2ct_training.scans import Rejected

MANIFEST, REPORT, SUMMARY = "manifest.csv", "report.csv", "report.md"
MANIFEST_COLUMNS = (
    "case", "kind", "split", "patient", "dataset", "source", "source_sha256", "made_by", "size", "screws", "file", "sha256",
    "labels_file", "labels_sha256", "json_sha256", "xrays", "xrays_sha256",
)  # fmt: skip
REPORT_COLUMNS = (
    "source",
    "status",
    "reason",
    "dataset",
    "patient",
    "split",
    "cases",
    "picture",
    "flags",
    *COLUMNS,
    "warnings",
)
PREPARED, SKIPPED = "prepared", "skipped"

Row = dict[str, Any]


def write_reports(folder: Path, rejected: Sequence[Rejected], looked_at: set[str]) -> None:
    """Write the three files. rejected: of this run; looked_at: sources of this run, whose earlier rejections no longer hold."""
    cases = write_manifest(folder)
    rows = _scan_rows(folder, cases)
    now = {one.source for one in rejected} | looked_at | {row["source"] for row in rows}
    earlier = [row for row in _read_csv(folder / REPORT) if row["status"] == SKIPPED and row["source"] not in now]
    rows += earlier + [{"source": one.source, "status": SKIPPED, "reason": one.reason} for one in rejected]
    _write_csv(folder / REPORT, REPORT_COLUMNS, rows)
    with replacing_file(folder / SUMMARY, overwrite=True) as temporary:
        temporary.write_text(summary(cases, rows), encoding="utf-8")


def write_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Write manifest.csv of what is in `folder` now; returns its cases by name, as `describe_case` gives them."""
    cases = {file.stem: describe_case(file) for file in sorted(folder.glob("*.json"))}
    stored = acquisitions_by_case(folder)
    rows = [_manifest_row(folder, name, case, stored.get(name, [])) for name, case in cases.items()]
    _write_csv(folder / MANIFEST, MANIFEST_COLUMNS, rows)
    return cases


def in_several_splits(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each CT that stands in more than one split under different names: the same files, or the same voxels."""
    found: dict[str, dict[str, str]] = {}
    for case in cases.values():
        record = case.get("record", {})
        if case["kind"] == "ct" and not record.get("variant"):
            for digest in {record.get("source_sha256"), record.get("sha256")} - {None}:
                found.setdefault(digest, {})[case["split"]] = case["source"]
    several = (sorted(f"{source} ({split})" for split, source in one.items()) for one in found.values() if len(one) > 1)
    return [f"the same CT in several splits: {sources}" for sources in dict.fromkeys(", ".join(one) for one in several)]


def verify(folder: Path) -> list[str]:
    """What is not as manifest.csv says, one sentence each. ValueError without a manifest. One of an earlier version does not
    tell of JSON files and X-rays."""
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(f"{file}: no such file; `diff2ct prepare` writes it")
    problems = []
    rows, stored = _read_csv(file), acquisitions_by_case(folder)
    for row in rows:
        json_name = f"{row['case']}.json" if row.get("json_sha256") else ""
        files = (row["file"], row["sha256"]), (row["labels_file"], row["labels_sha256"]), (json_name, row.get("json_sha256"))
        for name, digest in files:
            if name and not (folder / name).is_file():
                problems.append(f"{name}: missing")
            elif name and sha256_of(folder / name) != digest:
                problems.append(f"{name}: its SHA-256 is not the manifest's")
        xrays = stored.get(row["case"], [])
        if row.get("xrays") not in (None, str(len(xrays))):
            problems.append(f"{row['case']}: {len(xrays)} stored X-ray pairs, the manifest has {row['xrays']}")
        elif xrays and row.get("xrays") and sha256_of_files(xrays) != row["xrays_sha256"]:
            problems.append(f"{row['case']}: the SHA-256 of its stored X-rays is not the manifest's")
    listed = {row["case"] for row in rows}
    problems += [f"{path.name}: not in the manifest" for path in sorted(folder.glob("*.json")) if path.stem not in listed]
    return problems


def summary(cases: Mapping[str, Mapping[str, Any]], rows: Sequence[Row]) -> str:
    """The report for a reader, Markdown."""
    scans, skipped = [row for row in rows if row["status"] == PREPARED], [row for row in rows if row["status"] == SKIPPED]
    phantoms = sum(case["kind"] == "phantom" for case in cases.values())
    lines = [
        "# Prepared cases",
        "",
        f"{len(cases)} cases: {phantoms} phantoms, {len(cases) - phantoms} from {len(scans)} CTs. {len(skipped)} not prepared.",
        "",
        "| split | patients | cases | with drawn screws |",
        "| --- | --- | --- | --- |",
    ]
    for split in ("train", "val", "test"):
        members = [case for case in cases.values() if case["split"] == split]
        if members:
            patients, screwed = len({case["patient"] for case in members}), sum(bool(case["screws"]) for case in members)
            lines.append(f"| {split} | {patients} | {len(members)} | {screwed} |")
    if leaks := in_several_splits(cases):
        lines += ["", "## Test and training are not apart", "", *(f"- {leak}" for leak in leaks)]
    if scans:
        lines += ["", "## What is unusual", "", "| | CTs |", "| --- | --- |"]
        counts = Counter(flag for row in scans for flag in row["flags"].split("; ") if flag)
        lines += [f"| {flag} | {count} |" for flag, count in counts.most_common()] or ["| nothing | |"]
        lines += ["", "## CTs", "", "| CT | split | spacing [mm] | extent [mm] | unusual | |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        lines += [
            f"| {row['source']} | {row['split']} | {row['spacing_mm']} | {row['extent_mm']} | {row['flags']} | "
            + (f"[planes]({row['picture']}) |" if row["picture"] else "|")
            for row in scans
        ]
    if skipped:
        lines += ["", "## Not prepared", "", "| file | reason |", "| --- | --- |"]
        lines += [f"| {row['source']} | {row['reason']} |" for row in skipped]
    return "\n".join([*lines, "", f"All figures: {REPORT}. Checksums: {MANIFEST}.", ""])


def _manifest_row(folder: Path, name: str, case: Mapping[str, Any], xrays: Sequence[Path]) -> Row:
    file = folder / f"{name}.json"
    record, labels = case.get("record", {}), labels_file(file)
    return {
        "case": name,
        "size": " x ".join(str(n) for n in reversed(case["grid"]["size"])),
        "screws": len(case.get("screws", ())),
        "file": f"{name}.npy",
        "labels_file": labels.name if labels.exists() else "",
        "json_sha256": sha256_of(file),
        "xrays": len(xrays),
        "xrays_sha256": sha256_of_files(xrays) if xrays else "",
        **{key: case[key] for key in ("kind", "split", "patient", "source")},
        **{key: record.get(key, "") for key in ("dataset", "source_sha256", "made_by", "sha256", "labels_sha256")},
    }


def _scan_rows(folder: Path, cases: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """One row per CT, from its first case."""
    made = Counter(case["source"] for case in cases.values())
    rows: dict[str, Row] = {}
    for name, case in cases.items():
        record = case.get("record", {})
        if case["kind"] == "ct" and "quality" in record and case["source"] not in rows:
            quality = record["quality"]
            rows[case["source"]] = {
                **{key: quality.get(key, "") for key in COLUMNS},
                **{key: case[key] for key in ("source", "patient", "split")},
                "dataset": record.get("dataset", ""),
                "status": PREPARED,
                "cases": made[case["source"]],
                "picture": f"{FOLDER}/{name}.png" if (folder / FOLDER / f"{name}.png").exists() else "",
                "flags": "; ".join(quality.get("flags", ())),
                "warnings": "; ".join(quality.get("warnings", ())),
            }
    return list(rows.values())


def _read_csv(file: Path) -> list[Row]:
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write_csv(file: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing_file(file, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
