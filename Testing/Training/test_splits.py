from pathlib import Path

import pytest

from diff2ct_training.splits import SplitRule, position

PATIENTS = [f"patient {n}" for n in range(3000)]


def test_the_papers_ratio_is_kept() -> None:
    rule = SplitRule.parse("212/56")
    share = sum(rule.split_of(patient) == "test" for patient in PATIENTS) / len(PATIENTS)
    assert share == pytest.approx(56 / 268, abs=0.03)  # four standard deviations of 3000 draws


def test_a_patients_place_is_fixed() -> None:
    assert position("LIDC-IDRI-0001") == pytest.approx(0xF84FE09DDA11 / 2**48)  # sha256sum of "diff2ct split\0LIDC-IDRI-0001"


def test_a_validation_share_takes_from_training_only() -> None:
    two, three = SplitRule.parse("212/56"), SplitRule.parse("170/42/56")
    for patient in PATIENTS:
        assert (two.split_of(patient) == "test") == (three.split_of(patient) == "test")
    assert {three.split_of(patient) for patient in PATIENTS} == {"train", "val", "test"}


def test_a_file_decides_and_must_know_everyone(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("patient,split\na,test\nb,train\na,test\n")
    rule = SplitRule.parse(str(tmp_path / "mine.csv"))
    assert (rule.split_of("a"), rule.split_of("b")) == ("test", "train")
    with pytest.raises(ValueError, match="does not name patient c"):
        rule.split_of("c")


def test_official() -> None:
    rule = SplitRule.parse("official")
    assert rule.split_of("a", official="val") == "val"
    with pytest.raises(ValueError, match="patient a"):
        rule.split_of("a")


@pytest.mark.parametrize("text", ["212", "1/2/3/4", "-1/2", "0/0", "train", "nan/1", "missing.csv"])
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--split"):
        SplitRule.parse(text)


@pytest.mark.parametrize("rows", ["name,split\na,test", "patient,split\na,exam", "patient,split\na,test\na,train", ""])
def test_bad_split_files_are_refused(tmp_path: Path, rows: str) -> None:
    (tmp_path / "mine.csv").write_text(rows)
    with pytest.raises(ValueError, match=r"mine\.csv"):
        SplitRule.parse(str(tmp_path / "mine.csv"))
