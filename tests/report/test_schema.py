"""What a report holds, and that it comes back from its file as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from p2ch_luna import __version__
from p2ch_luna.geometry import CtVolume
from p2ch_luna.io.opened import SeriesFacts
from p2ch_luna.report.schema import SCHEMA_VERSION, Rejected, Report
from support.diagnosed import detection, report_of


def test_a_report_says_its_version_and_that_it_is_no_device(ct: CtVolume) -> None:
    content = json.loads(report_of(ct).to_json())
    assert content["schema_version"] == SCHEMA_VERSION == "3.0"
    assert content["software"] == f"p2ch-luna {__version__}"
    assert "not a medical device" in content["statement"]


def test_it_comes_back_from_its_json(ct: CtVolume) -> None:
    report = report_of(ct, detection(ct, 0.9), detection(ct, 0.1))
    assert Report.model_validate_json(report.to_json()) == report


def test_what_was_not_judged_comes_back_from_json(ct: CtVolume) -> None:
    outside = Rejected(
        center_lps_mm=(1.0, 2.0, 3.0),
        diameter_mm=4.0,
        nodule_probability=None,
        segmentation_probability=0.7,
        reason="outside the lungs",
    )
    report = report_of(ct).model_copy(update={"rejected": (outside,)})
    assert Report.model_validate_json(report.to_json()) == report


def test_one_of_dicom_comes_back_from_its_json(ct: CtVolume) -> None:
    series = SeriesFacts("1.2.3", "1.2", "CT", "Thorax", 12, None, "B30f", "chosen: the only CT series")
    report = report_of(ct, series=(series,), format="dicom")
    assert Report.model_validate_json(report.to_json()) == report


def test_an_unknown_key_is_refused(ct: CtVolume) -> None:
    content = json.loads(report_of(ct).to_json()) | {"verdict": "benign"}
    with pytest.raises(ValidationError, match="verdict"):
        Report.model_validate(content)


def test_malignancy_is_said_to_be_suspicion(ct: CtVolume) -> None:
    assert report_of(ct).malignancy_is == "radiologist suspicion, not pathology"


def test_a_number_that_is_none_is_refused(ct: CtVolume) -> None:
    with pytest.raises(ValidationError, match="finite"):
        report_of(ct, replace(detection(ct, 0.9), probability=float("inf")))


def test_every_part_of_the_published_schema_is_described() -> None:
    schema = Report.model_json_schema()
    assert [name for name, part in schema["$defs"].items() if not part.get("description")] == []
