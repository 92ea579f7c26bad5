"""Of which patient an X-ray is, and when it was taken: enough to compare two, too little to tell who that is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MARK_DIGITS = 4


@dataclass(frozen=True)
class Examination:
    """patient_mark: four hexadecimal digits of a hash of the patient ID, "" if the file does not tell. Short on purpose: of a
        million IDs some fifteen have the same mark, so none is found out from it, and two patients rarely share one.
    study_date: YYYYMMDD, "" if the file does not tell.
    """

    patient_mark: str = ""
    study_date: str = ""


NOT_TOLD = Examination()


def examination_from_dicom(dataset: Dataset) -> Examination:
    """What the header tells; the ID itself does not leave this function."""
    patient_id = str(dataset.get("PatientID") or "").strip()
    mark = hashlib.sha256(patient_id.encode()).hexdigest()[:_MARK_DIGITS] if patient_id else ""
    study_date = str(dataset.get("StudyDate") or "").strip().replace(".", "")  # 2024.05.31 in files before DICOM 3
    return Examination(mark, study_date if _as_date(study_date) else "")


def examination_warnings(first: Examination, second: Examination) -> list[str]:
    """Sentences if two X-rays that shall be of one patient are not, or were not taken on one day; none if nobody tells."""
    found = []
    if first.patient_mark and second.patient_mark and first.patient_mark != second.patient_mark:
        found.append("The X-rays seem to be of different patients: their files have different patient IDs.")
    day, other_day = _as_date(first.study_date), _as_date(second.study_date)
    if day and other_day and day != other_day:
        days = abs((other_day - day).days)
        found.append(f"The X-rays were taken {days} {'day' if days == 1 else 'days'} apart.")
    return found


def _as_date(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None
