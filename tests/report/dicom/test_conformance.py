"""What programs that share no line with ours say of SEG, SR and the series that we write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from p2ch_luna.cli.phantom import phantom
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct

Case = Any
Tool = Callable[..., str]
pytestmark = pytest.mark.slow

DIRECTIONS = ["upright", "flipped", "oblique"]


def errors(tool: Tool, path: Path) -> list[str]:
    said = tool("dciodvfy", path).splitlines()
    assert any(line in ("Segmentation", "Comprehensive3DSR", "CTImage") for line in said)  # it knows the kind
    return [line for line in said if "Error" in line]


def without_what_may_be_missing(header: Dataset) -> None:
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SliceThickness"):
        if keyword in header:
            del header[keyword]


def japanese(header: Dataset) -> None:
    header.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    header.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.fixture(scope="module")
def lidc(lidc_series: Path, lidc_ct: CtVolume, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """SEG and SR about LIDC-IDRI-0001, with a box about its nodule and another."""
    places: dict[float, Path] = {}
    for path in lidc_series.rglob("*.dcm"):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        places[float(reader.GetMetaData("0020|0032").split("\\")[2])] = path
    labels = np.zeros(lidc_ct.hu.shape, np.uint8)
    labels[88:94, 360:372, 310:325] = 1
    labels[20:22, 100:103, 200:210] = 2
    files = tuple(path for _, path in sorted(places.items()))
    return type(case).written(tmp_path_factory.mktemp("lidc"), lidc_ct, files, labels, case.report)


@pytest.mark.parametrize("kind", ["seg", "sr"])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_dciodvfy_finds_no_error(name: str, kind: str, cases: dict[str, Case], tool: Tool) -> None:
    assert errors(tool, getattr(cases[name], kind)) == []


@pytest.mark.parametrize("kind", ["seg", "sr"])
@pytest.mark.parametrize("change", [without_what_may_be_missing, japanese])
def test_dciodvfy_finds_no_error_whatever_the_source_says(
    changed: Callable[..., Case], change: Any, kind: str, tool: Tool
) -> None:
    assert errors(tool, getattr(changed(change), kind)) == []


def test_dciodvfy_finds_no_error_in_one_finding(again: Callable[..., Case], first: Any, tool: Tool) -> None:
    one = again(first, labels=np.ones((20, 31, 27), np.uint8))
    assert errors(tool, one.seg) + errors(tool, one.sr) == []


def test_dciodvfy_finds_no_error_without_findings(again: Callable[..., Case], case: Case, tool: Tool) -> None:
    assert errors(tool, again(labels=np.zeros_like(case.labels)).sr) == []


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_dciodvfy_finds_no_error_about_a_real_series(lidc: Case, kind: str, tool: Tool) -> None:
    assert errors(tool, getattr(lidc, kind)) == []


@pytest.mark.parametrize("name", DIRECTIONS)
def test_dciodvfy_finds_no_error_in_a_series_that_we_write(
    name: str, cases: dict[str, Case], tool: Tool
) -> None:
    assert errors(tool, cases[name].files[3]) == []


def test_dciodvfy_finds_no_error_in_a_phantom(tmp_path: Path, tool: Tool) -> None:
    options = ["--format", "dicom", "--nodules", "1", "--spacing", "2", "2", "5", "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(phantom, options).exit_code == 0
    slices = sorted((tmp_path / "out").rglob("*.dcm"))
    assert [error for path in (slices[0], slices[-1]) for error in errors(tool, path)] == []


def masks_by_dcmqi(tool: Tool, seg: Path, folder: Path) -> dict[int, tuple[NDArray[Any], ImageGeometry]]:
    """(d, h, w) of each segment and its geometry, as DCMTK and ITK read it; cut to where frames are."""
    said = tool("segimage2itkimage", "--inputDICOM", seg, "--outputDirectory", folder, "--outputType", "nrrd")
    found = {}
    for path in folder.glob("*.nrrd"):
        image = sitk.ReadImage(str(path))
        geometry = ImageGeometry(
            np.array(image.GetOrigin()),
            np.array(image.GetSpacing()),
            np.array(image.GetDirection()).reshape(3, 3),
        )
        voxels = sitk.GetArrayFromImage(image)
        for label in np.unique(voxels[voxels > 0]).tolist():
            found[label] = (voxels == label, geometry)
    assert found, said
    return found


def placed(mask: NDArray[Any], own: ImageGeometry, geometry: ImageGeometry) -> set[tuple[int, ...]]:
    """Voxels of `geometry` that the mask's voxels are."""
    irc = geometry.to_irc(own.to_xyz(np.argwhere(mask)))
    assert abs(irc - np.rint(irc)).max() < 0.01
    return {tuple(voxel) for voxel in np.rint(irc).astype(int).tolist()}


@pytest.mark.parametrize("name", [*DIRECTIONS, "lidc"])
def test_dcmqi_reads_every_voxel_where_it_is(
    name: str, cases: dict[str, Case], tool: Tool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    case = request.getfixturevalue("lidc") if name == "lidc" else cases[name]
    masks = masks_by_dcmqi(tool, case.seg, tmp_path)
    assert sorted(masks) == [1, 2]
    for label, (mask, own) in masks.items():
        wanted = {tuple(voxel) for voxel in np.argwhere(case.labels == label).tolist()}
        assert placed(mask, own, case.ct.geometry) == wanted


def test_dcmqi_reads_the_measurements(case: Case, tool: Tool, tmp_path: Path) -> None:
    tool("tid1500reader", "--inputDICOM", case.sr, "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text(encoding="utf-8"))["Measurements"]
    values = {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in groups[0]["measurementItems"]}
    assert [group["TrackingUniqueIdentifier"] for group in groups] == ["2.25.101", "2.25.102"]
    assert [group["ReferencedSegment"] for group in groups] == [1, 2]
    assert (values["Long axis"], values["Volume"]) == (9.5, 288.75)


def test_the_series_of_a_case_is_read_back_as_it_was(case: Case) -> None:
    """So that the geometry above is the one that users see."""
    ct = read_ct(case.files[0].parent)
    np.testing.assert_allclose(ct.geometry.to_xyz([3, 4, 5]), case.ct.geometry.to_xyz([3, 4, 5]), atol=1e-6)
