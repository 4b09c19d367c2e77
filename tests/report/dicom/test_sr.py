from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

Items = Callable[..., list[Dataset]]


@pytest.fixture
def groups(case: Any, items: Items) -> list[Dataset]:
    return items(pydicom.dcmread(case.sr), "Measurement Group")


def test_it_is_a_measurement_report_for_3d(case: Any) -> None:
    sr = pydicom.dcmread(case.sr)
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_there_is_a_group_a_finding(groups: list[Dataset], items: Items) -> None:
    assert [items(group, "Tracking Identifier")[0].TextValue for group in groups] == ["F1", "F2"]


def test_findings_are_tracked_as_their_segments(case: Any, groups: list[Dataset], items: Items) -> None:
    in_seg = [segment.TrackingUID for segment in pydicom.dcmread(case.seg).SegmentSequence]
    assert [items(group, "Tracking Unique Identifier")[0].UID for group in groups] == in_seg


@pytest.mark.parametrize(
    ("meaning", "code", "value", "unit"),
    [
        ("Long axis", "103339001", 9.5, "mm"),
        ("Short axis", "103340004", 7.25, "mm"),
        ("Diameter", "81827009", 8.375, "mm"),
        ("Volume", "118565006", 288.75, "mm3"),
        ("Attenuation Coefficient", "112031", -12.5, "[hnsf'U]"),
        ("Certainty of Finding", "111012", 97, "%"),
        ("Mean diameter of the solid part", "solid", 5.125, "mm"),
        ("Distance to the pleura", "pleura", 3.25, "mm"),
        ("Malignancy as radiologists suspect it, not pathology", "malignancy", 40, "%"),
        ("The same suspicion by the diameter alone", "malignancy-diam", 30, "%"),
    ],
)
def test_a_measurement_has_its_code_value_and_unit(
    groups: list[Dataset], items: Items, meaning: str, code: str, value: float, unit: str
) -> None:
    [item] = items(groups[0], meaning)
    measured = item.MeasuredValueSequence[0]
    assert item.ConceptNameCodeSequence[0].CodeValue == code
    assert measured.NumericValue == value
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == unit


@pytest.mark.parametrize("meaning", ["Diameter", "Attenuation Coefficient"])
def test_a_mean_is_said_to_be_one(groups: list[Dataset], items: Items, meaning: str) -> None:
    [item] = items(groups[0], meaning)
    assert items(item, "Derivation")[0].ConceptCodeSequence[0].CodeValue == "373098007"


def test_a_suspicion_that_was_not_judged_is_left_out(groups: list[Dataset], items: Items) -> None:
    assert items(groups[1], "Malignancy as radiologists suspect it, not pathology") == []


@pytest.mark.parametrize(("number", "side"), [(0, "24028007"), (1, "7771000")])
def test_the_site_is_a_lung_of_a_side(groups: list[Dataset], items: Items, number: int, side: str) -> None:
    [site] = items(groups[number], "Finding Site")
    assert site.ConceptCodeSequence[0].CodeValue == "39607008"
    assert items(site, "Laterality")[0].ConceptCodeSequence[0].CodeValue == side


@pytest.mark.parametrize(
    ("texture", "code"),
    [("solid", "RID50151"), ("part-solid", "RID50152"), ("ground-glass", "RID50153")],
)
def test_the_texture_has_a_code(
    again: Callable[..., Any], first: Any, items: Items, texture: str, code: str
) -> None:
    sr = pydicom.dcmread(
        again(first.model_copy(update={"texture": texture}), labels=np.ones((20, 31, 27), "u1")).sr
    )
    assert items(sr, "Texture")[0].ConceptCodeSequence[0].CodeValue == code


def test_the_size_category_is_called_a_hint(groups: list[Dataset], items: Items) -> None:
    assert items(groups[0], "Lung-RADS v2022 size category, a research hint")[0].TextValue == "4A"


def test_the_centre_is_a_point_of_the_source_in_mm(case: Any, groups: list[Dataset], items: Items) -> None:
    [center] = items(groups[0], "Center")
    assert (center.ValueType, center.GraphicType) == ("SCOORD3D", "POINT")
    assert list(center.GraphicData) == [10.5, -20.25, 30.0]
    assert center.ReferencedFrameOfReferenceUID == pydicom.dcmread(case.files[0]).FrameOfReferenceUID


@pytest.mark.parametrize(
    ("axis", "ends"),
    [
        ("Long axis", [6.5, -20.25, 30.0, 16.0, -20.25, 30.0]),
        ("Short axis", [10.5, -23.25, 30.0, 10.5, -16.0, 30.0]),
    ],
)
def test_an_axis_has_its_ends(groups: list[Dataset], items: Items, axis: str, ends: list[float]) -> None:
    [path] = items(items(groups[0], axis)[0], "Path")
    assert (path.ValueType, path.GraphicType, list(path.GraphicData)) == ("SCOORD3D", "POLYLINE", ends)


def test_a_finding_refers_to_its_segment(case: Any, groups: list[Dataset], items: Items) -> None:
    [image] = items(groups[1], "Referenced Segment")
    reference = image.ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == pydicom.dcmread(case.seg).SOPInstanceUID
    assert reference.ReferencedSegmentNumber == 2


def test_every_slice_is_in_the_library_and_the_evidence(case: Any, items: Items) -> None:
    sr = pydicom.dcmread(case.sr)
    wanted = [pydicom.dcmread(path).SOPInstanceUID for path in case.files]
    library = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items(sr, "Source")]
    series = sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    evidence = [item.ReferencedSOPInstanceUID for one in series for item in one.ReferencedSOPSequence]
    assert library == wanted
    assert evidence == [*wanted, pydicom.dcmread(case.seg).SOPInstanceUID]


def test_it_says_what_it_is_not(case: Any, items: Items) -> None:
    [comment] = items(pydicom.dcmread(case.sr), "Comment")
    assert comment.TextValue == (
        "Research use only; not a medical device. Malignancy is radiologist suspicion, not pathology."
    )


def test_without_findings_it_says_so(again: Callable[..., Any], case: Any, items: Items) -> None:
    empty = again(labels=np.zeros_like(case.labels))
    sr = pydicom.dcmread(empty.sr)
    assert not empty.seg.exists()
    assert items(items(sr, "Qualitative Evaluations")[0], "Finding")[0].TextValue == (
        "No finding: no place with a nodule probability of at least 0.8 was found."
    )


def test_findings_without_a_voxel_are_reported_without_a_segment(
    again: Callable[..., Any], case: Any, first: Any, items: Items
) -> None:
    sr = pydicom.dcmread(again(first, labels=np.zeros_like(case.labels)).sr)
    assert items(sr, "Referenced Segment") == []
    assert items(sr, "Volume")[0].MeasuredValueSequence[0].NumericValue == 288.75
