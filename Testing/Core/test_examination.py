"""Whether two X-rays are of one patient and one day, from what their headers tell, without keeping who it is."""

import pytest
from pydicom.dataset import Dataset

from diff2ct.examination import NOT_TOLD, Examination, examination_from_dicom, examination_warnings


def examination(**elements: str) -> Examination:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return examination_from_dicom(dataset)


def test_the_mark_does_not_tell_the_id() -> None:
    marks = [examination(PatientID=f"{number:05}", PatientName="Doe^Jane").patient_mark for number in range(20_000)]
    assert all(len(mark) == 4 and int(mark, 16) >= 0 for mark in marks)
    several = len(marks) - len(set(marks))
    assert 2000 < several < 4000  # 20000 IDs have 17200 of the 65536 marks on average: most guesses fit several patients
    assert "00001" not in repr(examination(PatientID="00001")) and "Doe" not in repr(examination(PatientName="Doe^Jane"))


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
def test_one_patient_on_one_day_is_nothing_to_talk_about() -> None:
    first = examination(PatientID="1234567", StudyDate="20240531")
    assert examination_warnings(first, examination(PatientID="1234567 ", StudyDate="2024.05.31")) == []


def test_another_patient_and_another_day_are_said() -> None:
    first = examination(PatientID="1234567", StudyDate="20240228")
    (said,) = examination_warnings(first, examination(PatientID="7654321", StudyDate="20240228"))
    assert "different patients" in said and "1234567" not in said
    for day, words in (("20240229", "1 day apart"), ("20240301", "2 days apart"), ("20230228", "365 days apart")):
        (said,) = examination_warnings(first, examination(PatientID="1234567", StudyDate=day))
        assert said.endswith(f"taken {words}.")
    assert len(examination_warnings(first, examination(PatientID="7654321", StudyDate="20240229"))) == 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
@pytest.mark.parametrize("elements", [{}, {"PatientID": "", "StudyDate": ""}, {"PatientID": " ", "StudyDate": "0"}])
def test_what_a_header_does_not_tell_is_not_made_up(elements: dict[str, str]) -> None:
    silent = examination(**elements)
    assert silent == NOT_TOLD
    told = examination(PatientID="1234567", StudyDate="20240531")
    assert examination_warnings(told, silent) == examination_warnings(silent, told) == []
