from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from p2ch_luna.errors import LunaError
from p2ch_luna.report.dicom import sources as dicom_sources
from p2ch_luna.report.dicom.sources import read_sources
from support.dicom_files import with_words_for_numbers

OPTIONAL = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyInstanceUID",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Manufacturer",
)
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"


def without_what_may_be_missing(header: Dataset) -> None:
    for keyword in OPTIONAL:
        if keyword in header:
            del header[keyword]


def with_impossible_values(header: Dataset) -> None:
    header.PatientBirthDate = "1950.1.1"
    header.PatientSex = "unknown"
    header.StudyDate = "yesterday"
    header.StudyTime = "noon"
    header.PatientName = "no caret"


def japanese(header: Dataset) -> None:
    header.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    header.PatientName = NAME
    header.ProcedureCodeSequence = [chest_ct()]


def in_unicode(header: Dataset) -> None:
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName = NAME
    header.ProcedureCodeSequence = [chest_ct()]


def chest_ct() -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99TEST", "胸部"
    return code


def named(header: Dataset) -> None:
    header.PatientName = "Roe Jane"  # without a caret, which highdicom would complain of
    header.PatientID = "MRN-4711"
    header.StudyDescription = "Thorax"


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_what_the_source_lacks_is_empty(changed: Callable[..., Any], kind: str) -> None:
    written = pydicom.dcmread(getattr(changed(without_what_may_be_missing), kind))
    required = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber")
    assert {str(written[keyword].value or "") for keyword in (*required, "StudyDate", "StudyID")} == {""}


def test_uids_that_the_source_lacks_are_made_from_its_series(changed: Callable[..., Any]) -> None:
    case = changed(without_what_may_be_missing)
    seg, sr = pydicom.dcmread(case.seg), pydicom.dcmread(case.sr)
    assert seg.StudyInstanceUID == sr.StudyInstanceUID
    assert seg.StudyInstanceUID.startswith("2.25.")
    assert seg.FrameOfReferenceUID.startswith("2.25.")


def test_the_spacing_that_the_source_lacks_is_that_of_its_places(changed: Callable[..., Any]) -> None:
    measures = pydicom.dcmread(changed(without_what_may_be_missing).seg).SharedFunctionalGroupsSequence[0]
    assert measures.PixelMeasuresSequence[0].SpacingBetweenSlices == 1.25


def test_a_thickness_that_is_no_number_is_not_told(changed: Callable[..., Any]) -> None:
    case = changed(lambda header: with_words_for_numbers(header, "SliceThickness"))
    measures = pydicom.dcmread(case.seg).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == measures.SpacingBetweenSlices == 1.25


def test_of_a_single_slice_without_a_thickness_the_step_is_1_mm(case: Any, tmp_path: Path) -> None:
    header = pydicom.dcmread(case.files[0])
    with_words_for_numbers(header, "SliceThickness")
    header.save_as(tmp_path / "one.dcm")
    assert read_sources([tmp_path / "one.dcm"]).images[0].SpacingBetweenSlices == 1.0


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_impossible_values_are_passed_on_as_they_are(changed: Callable[..., Any], kind: str) -> None:
    path = getattr(changed(with_impossible_values), kind)
    with pydicom.config.disable_value_validation():
        written = pydicom.dcmread(path)
        assert (written.PatientBirthDate, written.StudyDate) == ("1950.1.1", "yesterday")


@pytest.mark.parametrize("kind", ["seg", "sr"])
@pytest.mark.parametrize("change", [japanese, in_unicode], ids=["iso-2022", "utf-8"])
def test_japanese_stays_the_same(changed: Callable[..., Any], change: Any, kind: str) -> None:
    written = pydicom.dcmread(getattr(changed(change), kind))
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert str(written.PatientName) == NAME
    assert written.ProcedureCodeSequence[0].CodeMeaning == "胸部"


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_it_belongs_to_the_patient_and_study_of_the_source(changed: Callable[..., Any], kind: str) -> None:
    case = changed(named)
    written, source = pydicom.dcmread(getattr(case, kind)), pydicom.dcmread(case.files[0])
    for keyword in ("PatientName", "PatientID", "StudyDescription", "StudyInstanceUID"):
        assert written[keyword].value == source[keyword].value
    assert written.SeriesInstanceUID != source.SeriesInstanceUID


def test_nothing_is_logged_or_printed_of_the_patient(
    changed: Callable[..., Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        changed(named)
    told = caplog.text + "".join(capfd.readouterr())
    assert not [word for word in ("Roe", "Jane", "4711") if word in told]


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    monkeypatch.setattr(dicom_sources, "find_spec", lambda _: None)
    with pytest.raises(LunaError, match=r'pip install "p2ch-luna\[dicom\]"'):
        read_sources(case.files)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"gone\.dcm: cannot be read"):
        read_sources([tmp_path / "gone.dcm"])
