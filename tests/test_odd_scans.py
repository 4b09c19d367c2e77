"""Scans that are odd, through the command with the bundled networks: it ends well and finds what is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray

from p2ch_luna.cli import main
from p2ch_luna.datasets.phantom import Phantom, make_phantom
from p2ch_luna.findings import Point
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, read_mask, write_ct, write_series
from p2ch_luna.report.schema import Finding, Report
from support.turned_ct import turned

pytestmark = pytest.mark.slow

DIAMETERS_MM = [14, 10, 18]
WHOLE = (110, 230, 280)  # slices, rows and columns of the phantom at 1.4 x 1.4 x 2.5 mm
NEAR_MM = 4.0


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def chest_at(spacing_xyz: Sequence[float], shape_irc: Sequence[int]) -> Phantom:
    """Always the same chest and nodules, as a scanner with these settings sees them."""
    rng = np.random.default_rng(3)
    return make_phantom(rng, shape_irc=shape_irc, spacing_xyz=spacing_xyz, diameters_mm=DIAMETERS_MM)


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return chest_at((1.4, 1.4, 2.5), WHOLE)


def diagnosed(scan: Path, output: Path) -> Report:
    """The report that the command writes, which ends with 0."""
    with pytest.raises(SystemExit) as end:
        main(["diagnose", str(scan), "-o", str(output), "--no-html"])
    assert end.value.code == 0
    return Report.model_validate_json((output / "report.json").read_text(encoding="utf-8"))


def report_of(ct: CtVolume, folder: Path) -> Report:
    write_ct(folder / "scan.mha", ct)
    return diagnosed(folder / "scan.mha", folder / "out")


@pytest.fixture(scope="module")
def usual(chest: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of the chest as it is."""
    return report_of(chest.ct, tmp_path_factory.mktemp("usual"))


def at(report: Report, place_xyz: Point) -> Finding:
    """The finding there."""
    found = [f for f in report.findings if math.dist(f.center_lps_mm, place_xyz) <= NEAR_MM]
    assert len(found) == 1, [f.center_lps_mm for f in report.findings]
    return found[0]


def test_all_nodules_of_the_usual_chest_are_found(usual: Report, chest: Phantom) -> None:
    assert len(usual.findings) == 3
    assert len({at(usual, nodule.center_xyz).id for nodule in chest.nodules}) == 3


def head() -> CtVolume:
    """A brain in a shell of bone and skin, with nasal cavities, in air."""
    geometry = ImageGeometry.axial((1.5, 1.5, 2.5), (-120.0, -130.0, 0.0))
    shape = (72, 174, 160)
    x, y, z = np.moveaxis(geometry.to_xyz(np.moveaxis(np.indices(shape), 0, -1)), -1, 0)

    def inside(wide_mm: float, long_mm: float, high_mm: float) -> NDArray[np.bool_]:
        return np.asarray((x / wide_mm) ** 2 + (y / long_mm) ** 2 + ((z - 60) / high_mm) ** 2 < 1)

    hu = np.full(shape, -1000.0)
    hu[inside(80, 100, 110)] = 40  # skin and muscle
    hu[inside(74, 94, 104)] = 1100  # bone
    hu[inside(66, 86, 96)] = 35  # brain
    for side in (-1, 1):
        hu[((x - 15 * side) / 12) ** 2 + ((y + 60) / 20) ** 2 + ((z - 20) / 25) ** 2 < 1] = -950
    hu += np.random.default_rng(0).normal(0, 10, shape)
    return CtVolume("1.2.3", hu.astype(np.int16), geometry)


def test_a_head_has_an_empty_report(tmp_path: Path) -> None:
    report = report_of(head(), tmp_path)
    assert report.findings == report.rejected == ()
    assert any(warning.startswith("no lungs found") for warning in report.warnings)


def with_pacemaker(hu: NDArray[np.int16], box: tuple[slice, slice, slice]) -> NDArray[np.int16]:
    """A block of 3000 HU; in its slices rays of up to 500 HU more and less, half as strong 100 voxels off."""
    marred = hu.astype(np.float64)
    rows, columns = np.indices(hu.shape[1:])
    row, column = ((axis.start + axis.stop) / 2 for axis in box[1:])
    strength = 500 / (1 + np.hypot(rows - row, columns - column) / 100)
    marred[box[0]] += strength * np.cos(40 * np.arctan2(rows - row, columns - column))
    marred[box] = 3000
    return marred.clip(-1024, 3071).astype(np.int16)


def with_contrast(hu: NDArray[np.int16], box: tuple[slice, slice, slice]) -> NDArray[np.int16]:
    """The soft tissue of a box 300 HU brighter, as the heart and its vessels are with contrast medium."""
    bright = hu.copy()
    bright[box][(hu[box] > 0) & (hu[box] < 150)] += 300
    return bright


def test_a_tumour_is_found_beside_metal_and_contrast_medium(shared_data: Path, tmp_path: Path) -> None:
    """A real chest; the pacemaker lies before the left lung, in the slices of the tumour in the right one."""
    ct = read_ct(shared_data / "ct" / "lung1.mha")
    mask, geometry = read_mask(shared_data / "ct" / "lung1_nodule.nii.gz")
    hu = with_contrast(ct.hu, (slice(0, 48), slice(280, 400), slice(220, 340)))
    hu = with_pacemaker(hu, (slice(30, 38), slice(262, 276), slice(350, 420)))
    x, y, z = geometry.to_xyz(np.argwhere(mask).mean(0)).tolist()
    found = at(report_of(replace(ct, hu=hu), tmp_path), (x, y, z))
    assert found.side == "right"
    assert found.nodule_probability > 0.3


@pytest.mark.parametrize("padding", [-2000, -3024])
def test_padding_round_a_circle_changes_nothing(
    padding: int, chest: Phantom, usual: Report, tmp_path: Path
) -> None:
    rows, columns = np.indices(chest.ct.hu.shape[1:])
    hu = chest.ct.hu.copy()
    hu[:, np.hypot(rows - 114.5, columns - 139.5) > 135] = padding
    report = report_of(replace(chest.ct, hu=hu), tmp_path)
    assert len(report.findings) == len(usual.findings)
    for finding in usual.findings:
        found = at(report, finding.center_lps_mm)
        assert math.dist(found.center_lps_mm, finding.center_lps_mm) < 0.5
        assert found.nodule_probability == pytest.approx(finding.nodule_probability, abs=0.02)


@pytest.mark.parametrize(
    ("spacing_xyz", "shape_irc"),
    [
        pytest.param((1.4, 1.4, 10.0), (28, 230, 280), id="10 mm"),
        pytest.param((2.8, 2.8, 0.3), (1000, 115, 140), id="1000 slices of 0.3 mm"),
    ],
)
def test_slices_of_any_number_and_thickness_show_the_large_nodule(
    spacing_xyz: tuple[float, ...], shape_irc: tuple[int, ...], tmp_path: Path
) -> None:
    phantom = chest_at(spacing_xyz, shape_irc)
    report = report_of(phantom.ct, tmp_path)
    assert at(report, phantom.nodules[2].center_xyz).nodule_probability > 0.5


def test_a_slab_of_1024_rows_and_columns_shows_the_nodules(chest: Phantom, tmp_path: Path) -> None:
    """Its lungs are cut off at both ends: thirds are not told."""
    slab = np.pad(chest.ct.hu[30:60, :, 12:268], ((0, 0), (13, 13), (0, 0)), constant_values=-1024)
    hu = slab.repeat(4, 1).repeat(4, 2)
    geometry = chest.ct.geometry.moved_to((30, -13 - 3 / 8, 12 - 3 / 8))
    fine = ImageGeometry(geometry.origin_xyz, geometry.spacing_xyz / [4, 4, 1], geometry.direction)
    report = report_of(CtVolume("1.2.3", hu, fine), tmp_path)
    assert report.scan.shape_irc == (30, 1024, 1024)
    found = [at(report, nodule.center_xyz) for nodule in chest.nodules]
    assert [f.third for f in found] == [None, None, None]


@pytest.mark.parametrize(
    ("position", "axes", "signs"),
    [
        ("FFS", (0, 1, 2), (-1, 1, -1)),  # feet first: columns to the right, slices downwards
        ("FFP", (0, 1, 2), (-1, -1, 1)),  # and face down: rows to the front
        ("HFDR", (0, 2, 1), (1, 1, -1)),  # on the right side: rows to the right, columns to the back
    ],
)
def test_however_the_patient_lay_the_findings_are_where_they_are(
    position: str,
    axes: tuple[int, ...],
    signs: tuple[int, ...],
    chest: Phantom,
    usual: Report,
    tmp_path: Path,
) -> None:
    write_series(tmp_path / "dicom", turned(chest.ct, axes, signs))
    for path in (tmp_path / "dicom").iterdir():
        header = pydicom.dcmread(path)
        header.PatientPosition = position
        header.save_as(path)
    report = diagnosed(tmp_path / "dicom", tmp_path / "out")
    assert len(report.findings) == len(usual.findings)
    for finding in usual.findings:
        found = at(report, finding.center_lps_mm)
        assert math.dist(found.center_lps_mm, finding.center_lps_mm) < 0.5
        assert (found.side, found.third) == (finding.side, finding.third)
        assert found.volume_mm3 == pytest.approx(finding.volume_mm3, rel=0.02)
