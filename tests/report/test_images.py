from pathlib import Path

import numpy as np

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.report.axial import SIDE_MM, axial_picture
from p2ch_luna.report.images import write_montage
from p2ch_luna.report.key_images import write_key_images
from support.findings import FLIPPED, finding, hand_report, pixels


def scan(direction: np.ndarray) -> CtVolume:
    """A bright voxel 10 mm to the left and 6 mm to the back of the place (3, -2, 5)."""
    origin = -direction @ np.array([40.0, 40.0, 40.0]) + [3, -2, 5]
    geometry = ImageGeometry(origin, np.array([1.0, 1.0, 2.0]), direction)
    hu = np.full((41, 81, 81), -800, np.int16)
    hu[tuple(np.rint(geometry.to_irc((13.0, 4.0, 5.0))).astype(int))] = 1000
    return CtVolume("1.2.3", hu, geometry)


def montage_size(folder: Path, findings: int) -> tuple[int, int]:
    """Width and height of the picture of so many findings."""
    ct = scan(np.eye(3))
    report = hand_report(ct, [finding(ct, (3.0, -2.0, 5.0), rank) for rank in range(1, findings + 1)])
    write_key_images(folder, ct, report.findings, np.zeros(ct.hu.shape, np.uint8))
    write_montage(folder / "m.png", report, folder)
    height, width, _ = pixels(folder / "m.png").shape
    return width, height


def test_left_is_to_the_right_and_the_back_is_down_in_any_orientation() -> None:
    for direction in (np.eye(3), FLIPPED):
        ct = scan(direction)
        picture = axial_picture(ct, (3.0, -2.0, 5.0))
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        assert (row - SIDE_MM // 2, column - SIDE_MM // 2) == (6, 10)


def test_a_smaller_picture_of_finer_pixels_shows_the_same_place() -> None:
    picture = axial_picture(scan(np.eye(3)), (3.0, -2.0, 5.0), side_mm=40, pixel_mm=0.5)
    assert picture.shape == (80, 80)
    bright = np.argwhere(picture > 0)
    np.testing.assert_allclose(bright.mean(axis=0) + 0.5, [40 + 2 * 6, 40 + 2 * 10], atol=0.6)


def test_the_montage_has_a_row_for_each_four_findings(tmp_path: Path) -> None:
    (one_wide, one_high), (five_wide, five_high) = (montage_size(tmp_path, n) for n in (1, 5))
    assert (one_wide, five_wide) == (400 + 2 * 12, 4 * 400 + 5 * 12)
    assert five_high - one_high == 400 + 12 + 48


def test_the_montage_shows_the_first_twelve(tmp_path: Path) -> None:
    assert montage_size(tmp_path, 13) == montage_size(tmp_path, 12)


def test_the_montage_shows_the_key_image(tmp_path: Path) -> None:
    montage_size(tmp_path, 1)
    key_image = pixels(tmp_path / "F1-axial.png")
    shown = pixels(tmp_path / "m.png")[56 + 48 :, 12:]
    assert (shown[:400, :400] == key_image).all()


def test_a_name_too_long_for_the_montage_is_cut(tmp_path: Path) -> None:
    ct = scan(np.eye(3))
    sheets = []
    for letters in (200, 300):
        report = hand_report(ct)
        named = report.scan.model_copy(update={"name": letters * "n"})
        write_montage(tmp_path / "m.png", report.model_copy(update={"scan": named}), tmp_path)
        sheets.append(pixels(tmp_path / "m.png"))
    assert (sheets[0] == sheets[1]).all()
    assert (sheets[0][:, -12:] == 255).all()


def test_no_finding_is_a_picture_too(tmp_path: Path) -> None:
    width, height = montage_size(tmp_path, 0)
    assert (width, height) == (400 + 2 * 12, 56 + 48)


def test_a_finding_at_the_border_keeps_its_place_in_the_middle() -> None:
    ct = scan(np.eye(3))
    x, y, z = ct.geometry.to_xyz([0, 0, 0]).tolist()
    picture = axial_picture(ct, (x, y, z))
    assert picture.shape == (SIDE_MM, SIDE_MM)
    assert picture[SIDE_MM // 2, SIDE_MM // 2] == -800
    assert picture[0, 0] == -1000
