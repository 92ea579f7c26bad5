"""The reference data set is the same patients on every machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diff2ct_training import prepare_command
from diff2ct_training.acquisitions import AcquisitionConfig
from diff2ct_training.phantom_seeds import phantom_case_name
from diff2ct_training.recipes import default
from diff2ct_training.reference import (
    NAME,
    check_reference,
    differences,
    read_reference,
    reference_seeds,
    write_reference,
)


def test_the_papers_numbers() -> None:
    table = read_reference()
    splits = [row["split"] for row in table.values()]
    assert (splits.count("train"), splits.count("test")) == (212, 56)
    assert list(table) == [phantom_case_name(seed) for seed in reference_seeds(NAME)]
    with pytest.raises(ValueError, match=f"accepted is {NAME}"):
        reference_seeds("lumbar")


@pytest.mark.parametrize("seed", [0, 10_003])
def test_this_machine_draws_the_same_patients(seed: int, tmp_path: Path) -> None:
    table = read_reference()
    write_reference(tmp_path / "table.csv", [seed])
    (row,) = read_reference(tmp_path / "table.csv").values()
    assert differences(row, table[phantom_case_name(seed)]) == []
    others = [name for name, other in table.items() if not differences({**row, "case": name, "split": other["split"]}, other)]
    assert others == [phantom_case_name(seed)], "the tolerances tell patients apart"


def test_a_folder_is_checked(tmp_path: Path) -> None:
    for name, row in read_reference().items():
        size = [int(n) for n in reversed(row["size"].split(" x "))]
        description = {"grid": {"size": size}, "screws": [{}] * int(row["screws"]), "split": row["split"]}
        (tmp_path / f"{name}.json").write_text(json.dumps(description))
    assert "all 268 cases" in check_reference(NAME, tmp_path)
    (tmp_path / "phantom_000003.json").write_text(json.dumps({**description, "split": "train"}))
    with pytest.raises(ValueError, match=r"phantom_000003 is not the reference patient: .*split is train, not test"):
        check_reference(NAME, tmp_path)


def test_the_reference_is_x_rayed_by_cones_as_it_was_when_it_was_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else recipes come to draw: the results that are committed are of such X-rays."""
    assert default().acquisition.fan_share > 0
    drawn: list[AcquisitionConfig] = []
    monkeypatch.setattr(prepare_command, "reference_seeds", lambda name: (10000,))
    monkeypatch.setattr(prepare_command, "check_reference", lambda name, folder: "")
    monkeypatch.setattr(prepare_command, "prepare_xrays", lambda folder, count, config, *others, **more: drawn.append(config))
    for reference, num_phantoms in ((NAME, 0), (None, 1)):
        request = prepare_command.PrepareRequest(
            output=tmp_path / str(reference), reference=reference, num_phantoms=num_phantoms, num_xrays=1
        )
        prepare_command.run_preparation(request, on_progress=lambda *_, **__: None)
    assert drawn == [replace(default().acquisition, fan_share=0.0), default().acquisition]
    assert drawn[0] == AcquisitionConfig()
