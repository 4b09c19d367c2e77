from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from p2ch_luna.findings import Detection
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference.detector import Diagnosis
from p2ch_luna.inference.propose import ProposalSettings
from p2ch_luna.report.axial import SIDE_MM, axial_picture
from p2ch_luna.report.images import write_montage
from p2ch_luna.report.schema import Report, build_report

UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0])


def scan(direction: np.ndarray) -> CtVolume:
    """A bright voxel 10 mm to the left and 6 mm to the back of the place (3, -2, 5)."""
    origin = -direction @ np.array([40.0, 40.0, 40.0]) + [3, -2, 5]
    geometry = ImageGeometry(origin, np.array([1.0, 1.0, 2.0]), direction)
    hu = np.full((41, 81, 81), -800, np.int16)
    hu[tuple(np.rint(geometry.to_irc((13.0, 4.0, 5.0))).astype(int))] = 1000
    return CtVolume("1.2.3", hu, geometry)


def report_of(ct: CtVolume, *centers: tuple[float, float, float]) -> Report:
    found = [Detection("1.2.3", xyz, 0.9, 6.0, 113.0, 0.9, 0.9, 0.5) for xyz in centers]
    return build_report(Diagnosis("1.2.3", found, [], {}, ProposalSettings(), {}), ct, Path("scan.mha"))


def test_left_is_to_the_right_and_the_back_is_down_in_any_orientation() -> None:
    for direction in (np.eye(3), UPSIDE_DOWN):
        ct = scan(direction)
        picture = axial_picture(ct, (3.0, -2.0, 5.0))
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        assert (row - SIDE_MM // 2, column - SIDE_MM // 2) == (6, 10)


def test_a_smaller_picture_of_finer_pixels_shows_the_same_place() -> None:
    picture = axial_picture(scan(np.eye(3)), (3.0, -2.0, 5.0), side_mm=40, pixel_mm=0.5)
    assert picture.shape == (80, 80)
    bright = np.argwhere(picture > 0)
    np.testing.assert_allclose(bright.mean(axis=0) + 0.5, [40 + 2 * 6, 40 + 2 * 10], atol=0.6)


def test_the_montage_is_a_picture_with_a_row_for_each_four_findings(tmp_path: Path) -> None:
    ct = scan(np.eye(3))
    sizes = []
    for count in (1, 5):
        write_montage(tmp_path / "m.png", ct, report_of(ct, *[(3.0 + k, -2.0, 5.0) for k in range(count)]))
        sizes.append(sitk.ReadImage(str(tmp_path / "m.png")).GetSize())
    assert sizes[1][0] > 1.8 * sizes[0][0]
    assert sizes[1][1] > 1.5 * sizes[0][1]


def test_no_finding_is_a_picture_too(tmp_path: Path) -> None:
    ct = scan(np.eye(3))
    write_montage(tmp_path / "m.png", ct, report_of(ct))
    assert (tmp_path / "m.png").stat().st_size > 1000


def test_a_finding_at_the_border_keeps_its_place_in_the_middle() -> None:
    ct = scan(np.eye(3))
    x, y, z = ct.geometry.to_xyz([0, 0, 0]).tolist()
    picture = axial_picture(ct, (x, y, z))
    assert picture.shape == (SIDE_MM, SIDE_MM)
    assert picture[SIDE_MM // 2, SIDE_MM // 2] == -800
    assert picture[0, 0] == -1000
