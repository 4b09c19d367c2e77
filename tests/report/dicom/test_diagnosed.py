"""What `luna diagnose` writes about a series of DICOM: its objects agree with its other files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io import write_series
from p2ch_luna.report.diagnose import diagnose
from p2ch_luna.report.schema import Report

pytestmark = pytest.mark.slow

TILT = Rotation.from_euler("xyz", [8, -6, 10], degrees=True).as_matrix()


@dataclass(frozen=True, eq=False)
class Written:
    """A folder of results, its report, and the labels of its findings as they are in nodules.nii.gz."""

    folder: Path
    report: Report
    labels: NDArray[np.uint8]
    geometry: ImageGeometry


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Of an oblique chest with three nodules, by the bundled networks."""
    folder = tmp_path_factory.mktemp("diagnosed")
    phantom = make_phantom(
        np.random.default_rng(3),
        shape_irc=(110, 230, 280),
        spacing_xyz=(1.4, 1.4, 2.5),
        direction=TILT,
        diameters_mm=[14, 10, 18],
    )
    write_series(folder / "series", phantom.ct)
    report = diagnose(folder / "series", folder / "out")
    assert len(report.findings) >= 3
    image = sitk.ReadImage(str(folder / "out" / "nodules.nii.gz"))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    geometry = ImageGeometry(np.array(image.GetOrigin()), np.array(image.GetSpacing()), direction)
    return Written(folder / "out", report, sitk.GetArrayFromImage(image), geometry)


def test_the_seg_is_nodules_nii_gz_voxel_for_voxel(
    written: Written, voxels: Callable[[Path, int, ImageGeometry], set[tuple[int, ...]]]
) -> None:
    for finding in written.report.findings:
        wanted = {tuple(voxel) for voxel in np.argwhere(written.labels == finding.label).tolist()}
        assert voxels(written.folder / "nodules.seg.dcm", finding.label, written.geometry) == wanted


def test_each_finding_has_a_segment_and_no_other_is_there(written: Written) -> None:
    segments = pydicom.dcmread(written.folder / "nodules.seg.dcm").SegmentSequence
    assert [segment.SegmentNumber for segment in segments] == [f.label for f in written.report.findings]
    assert [s.TrackingUID for s in segments] == [f.tracking_uid for f in written.report.findings]


def test_volumes_are_those_of_the_voxels(written: Written) -> None:
    voxel_mm3 = 1.4 * 1.4 * 2.5
    for finding in written.report.findings:
        n_voxels = np.count_nonzero(written.labels == finding.label)
        assert finding.volume_mm3 == pytest.approx(n_voxels * voxel_mm3, rel=1e-5)


def test_the_sr_has_the_volumes_of_the_report(
    written: Written, items: Callable[[Dataset, str], list[Dataset]]
) -> None:
    sr = pydicom.dcmread(written.folder / "nodules.sr.dcm")
    said = [float(item.MeasuredValueSequence[0].NumericValue) for item in items(sr, "Volume")]
    assert said == pytest.approx([f.volume_mm3 for f in written.report.findings], rel=1e-4)


@pytest.mark.parametrize("name", ["nodules.seg.dcm", "nodules.sr.dcm"])
def test_dciodvfy_finds_no_error(name: str, written: Written, tool: Callable[..., str]) -> None:
    said = tool("dciodvfy", written.folder / name).splitlines()
    assert any(line in ("Segmentation", "Comprehensive3DSR") for line in said)  # it knows the kind
    assert [line for line in said if "Error" in line] == []


def test_dcmqi_reads_the_volumes(written: Written, tool: Callable[..., str], tmp_path: Path) -> None:
    tool(
        "tid1500reader",
        "--inputDICOM",
        written.folder / "nodules.sr.dcm",
        "--outputMetadata",
        tmp_path / "sr",
    )
    groups = json.loads((tmp_path / "sr").read_text(encoding="utf-8"))["Measurements"]
    said = [
        float(item["value"])
        for group in groups
        for item in group["measurementItems"]
        if item["quantity"]["CodeMeaning"] == "Volume"
    ]
    assert said == pytest.approx([f.volume_mm3 for f in written.report.findings], rel=1e-4)
