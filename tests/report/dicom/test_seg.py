from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from p2ch_luna.report.dicom.seg import write_seg
from p2ch_luna.report.dicom.sources import read_sources

TIMES = ("ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime")


def without_times(path: Path) -> Dataset:
    dataset = pydicom.dcmread(path)
    for keyword in (*TIMES, "ContributingEquipmentSequence"):  # highdicom's own, with the time it was used
        if keyword in dataset:
            del dataset[keyword]
    return dataset


def argwhere(mask: Any) -> set[tuple[int, ...]]:
    return {tuple(voxel) for voxel in np.argwhere(mask).tolist()}


@pytest.mark.parametrize("label", [1, 2])
@pytest.mark.parametrize("name", ["upright", "flipped", "oblique"])
def test_every_voxel_lies_where_it_is_in_the_source(
    name: str, label: int, cases: dict[str, Any], voxels: Callable[..., set[tuple[int, ...]]]
) -> None:
    case = cases[name]
    assert voxels(case.seg, label, case.ct.geometry) == argwhere(case.labels == label)


def test_frames_without_a_voxel_are_left_out(case: Any) -> None:
    assert pydicom.dcmread(case.seg).NumberOfFrames == 5 + 3 + 1


def test_one_finding_alone_is_read_as_well(
    again: Callable[..., Any], first: Any, case: Any, voxels: Callable[..., set[tuple[int, ...]]]
) -> None:
    alone = again(first, labels=np.where(case.labels == 1, np.uint8(1), np.uint8(0)))
    assert voxels(alone.seg, 1, case.ct.geometry) == argwhere(case.labels == 1)


def test_the_order_of_files_is_the_order_of_labels(
    tmp_path: Path, case: Any, voxels: Callable[..., set[tuple[int, ...]]]
) -> None:
    sources = read_sources(case.files[::-1])
    write_seg(tmp_path / "seg.dcm", case.report, case.labels[::-1], sources)
    assert voxels(tmp_path / "seg.dcm", 2, case.ct.geometry) == argwhere(case.labels == 2)


def test_no_finding_gives_no_file(tmp_path: Path, case: Any) -> None:
    sources = read_sources(case.files)
    assert write_seg(tmp_path / "seg.dcm", case.report, np.zeros_like(case.labels), sources) is None
    assert list(tmp_path.iterdir()) == []


def test_a_segment_is_a_nodule_of_a_lung(case: Any) -> None:
    segment = pydicom.dcmread(case.seg).SegmentSequence[1]
    region = segment.AnatomicRegionSequence[0]
    codes = [
        segment.SegmentedPropertyCategoryCodeSequence[0],
        segment.SegmentedPropertyTypeCodeSequence[0],
        region,
        region.AnatomicRegionModifierSequence[0],
    ]
    assert [code.CodingSchemeDesignator for code in codes] == ["SCT"] * 4
    assert [code.CodeValue for code in codes] == ["49755003", "27925004", "39607008", "7771000"]


def test_a_finding_of_no_side_has_no_modifier(again: Callable[..., Any], first: Any) -> None:
    seg = pydicom.dcmread(
        again(first.model_copy(update={"side": None}), labels=np.ones((20, 31, 27), "u1")).seg
    )
    assert "AnatomicRegionModifierSequence" not in seg.SegmentSequence[0].AnatomicRegionSequence[0]


def test_a_segment_has_the_findings_name_and_tracking(case: Any) -> None:
    segment = pydicom.dcmread(case.seg).SegmentSequence[1]
    assert (segment.SegmentNumber, segment.SegmentLabel) == (2, "F2 lung nodule")
    assert (segment.TrackingID, segment.TrackingUID) == ("F2", "2.25.102")
    assert segment.SegmentAlgorithmType == "AUTOMATIC"


def test_it_refers_to_the_slices_of_its_frames(case: Any) -> None:
    series = pydicom.dcmread(case.seg).ReferencedSeriesSequence[0]
    wanted = [pydicom.dcmread(case.files[k]).SOPInstanceUID for k in (4, 5, 6, 7, 8, 9, 19)]
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == wanted
    assert series.SeriesInstanceUID == "1.2.3"


def test_a_frame_names_the_slice_it_lies_on(case: Any) -> None:
    positions = {
        source.SOPInstanceUID: source.ImagePositionPatient for source in map(pydicom.dcmread, case.files)
    }
    for own in pydicom.dcmread(case.seg).PerFrameFunctionalGroupsSequence:
        image = own.DerivationImageSequence[0].SourceImageSequence[0]
        assert own.PlanePositionSequence[0].ImagePositionPatient == positions[image.ReferencedSOPInstanceUID]


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_it_is_the_same_again_but_for_the_time(kind: str, case: Any, again: Callable[..., Any]) -> None:
    repeated = again(*case.report.findings)
    assert without_times(getattr(case, kind)) == without_times(getattr(repeated, kind))


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_other_findings_make_another_object(
    kind: str, case: Any, again: Callable[..., Any], first: Any, second: Any
) -> None:
    other = again(first.model_copy(update={"volume_mm3": 288.76}), second)
    uids = {pydicom.dcmread(getattr(one, kind)).SOPInstanceUID for one in (case, other)}
    assert len(uids) == 2
