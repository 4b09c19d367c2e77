from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.geometry import CtVolume
from p2ch_luna.report.key_images import key_image_name, write_key_images
from p2ch_luna.report.schema import Finding, Plane
from support.findings import FLIPPED, chest, finding, paint_ball, pixels

CENTER = (3.0, 65.0, -30.0)
PIXELS_PER_MM = 8  # of a picture 50 mm and 400 pixels wide
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


def turned_chest(direction: NDArray[np.float64]) -> CtVolume:
    """The same chest, its voxels along other axes, about `CENTER`."""
    ct = chest(spacing_xyz=(1.0, 1.0, 1.0), shape=(61, 81, 101))
    middle = direction @ (np.array([101, 81, 61]) // 2)
    geometry = ct.geometry.__class__(np.array(CENTER) - middle, ct.geometry.spacing_xyz, direction)
    return CtVolume(ct.series_uid, ct.hu, geometry)


def pictures(
    folder: Path, ct: CtVolume, found: Finding, labels: NDArray[np.uint8] | None = None
) -> dict[Plane, NDArray[np.uint8]]:
    """(400, 400, 3) of each plane."""
    write_key_images(folder, ct, [found], np.zeros(ct.hu.shape, np.uint8) if labels is None else labels)
    return {plane: pixels(folder / key_image_name(found.id, plane)) for plane in PLANES}


def outline(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N, 2) rows and columns of the pixels in the outline's colour."""
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    return np.argwhere(red - blue > 120)


def bar_pixels(picture: NDArray[np.uint8]) -> int:
    """The longest run of white in the row of the scale bar."""
    white = "".join("#" if value > 250 else " " for value in picture[-11, :, 0])
    return max(map(len, white.split()))


def test_each_finding_has_a_square_picture_in_each_plane(tmp_path: Path) -> None:
    ct = chest()
    findings = [finding(ct, CENTER, rank) for rank in (1, 2)]
    write_key_images(tmp_path, ct, findings, np.zeros(ct.hu.shape, np.uint8))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(f"F{rank}-{plane}.png" for rank in (1, 2) for plane in PLANES)
    assert {pixels(path).shape for path in tmp_path.iterdir()} == {(400, 400, 3)}


def test_no_finding_has_no_picture(tmp_path: Path) -> None:
    ct = chest()
    write_key_images(tmp_path, ct, [], np.zeros(ct.hu.shape, np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("direction", [np.eye(3), FLIPPED, np.eye(3)[:, [2, 0, 1]]])
@pytest.mark.parametrize(
    ("plane", "beside_mm", "down", "right"),
    [
        ("axial", (10, 6, 0), 6, 10),  # the patient's left to the right, the back down
        ("coronal", (10, 0, 7), -7, 10),  # the head up
        ("sagittal", (0, 6, 7), -7, 6),  # the back to the right
    ],
)
def test_a_picture_is_seen_as_a_radiologist_sees_it_however_the_scan_lies(
    tmp_path: Path,
    direction: NDArray[np.float64],
    plane: Plane,
    beside_mm: tuple[int, int, int],
    down: int,
    right: int,
) -> None:
    ct = turned_chest(direction)
    bright = tuple(np.rint(ct.geometry.to_irc(np.add(CENTER, beside_mm))).astype(int))
    ct.hu[bright] = 1500
    gray = pictures(tmp_path, ct, finding(ct, CENTER))[plane][..., 0]
    place = gray[60:340, 60:340]  # without the texts at the edges
    row, column = np.argwhere(place == place.max()).mean(axis=0) + 60
    assert (row, column) == pytest.approx((200 + 8 * down, 200 + 8 * right), abs=PIXELS_PER_MM / 2)


def test_the_outline_is_as_wide_and_as_high_as_the_mask_in_every_plane(tmp_path: Path) -> None:
    ct = chest(spacing_xyz=(0.8, 0.8, 1.6))
    labels = np.zeros(ct.hu.shape, np.uint8)
    center = ct.geometry.to_xyz([20, 45, 55])
    paint_ball(ct, labels, center, 16.0, label=1)
    across, along = 21 * 0.8, 11 * 1.6  # voxels whose centres lie within 8 mm
    wanted = {"axial": (across, across), "coronal": (along, across), "sagittal": (along, across)}
    for plane, picture in pictures(tmp_path, ct, finding(ct, center), labels).items():
        extent = np.ptp(outline(picture), axis=0) / PIXELS_PER_MM
        np.testing.assert_allclose(extent, wanted[plane], atol=0.4)
        np.testing.assert_allclose(outline(picture).mean(axis=0), 200, atol=8)


def test_another_findings_mask_is_not_outlined(tmp_path: Path) -> None:
    ct = chest()
    labels = np.zeros(ct.hu.shape, np.uint8)
    paint_ball(ct, labels, CENTER, 8.0, label=2)
    assert len(outline(pictures(tmp_path, ct, finding(ct, CENTER), labels)["axial"])) == 0


def test_the_bar_is_10_mm_long_white_with_a_dark_edge(tmp_path: Path) -> None:
    ct = chest()
    ct.hu[:] = 200  # white all over in the lung window
    picture = pictures(tmp_path, ct, finding(ct, CENTER))["axial"]
    assert bar_pixels(picture[:, 305:]) == 10 * PIXELS_PER_MM
    assert picture[-15:-13, 330:380].max() < 5


def test_a_large_finding_is_shown_with_30_mm_around_it(tmp_path: Path) -> None:
    ct = chest()
    picture = pictures(tmp_path, ct, finding(ct, CENTER, longest_mm=50.0))["axial"]
    assert bar_pixels(picture[:, 330:]) == 400 // 8  # 10 of 80 mm


def test_the_slice_number_is_written_on_the_sources_plane_alone(tmp_path: Path) -> None:
    ct = chest()
    first = pictures(tmp_path, ct, finding(ct, CENTER, slice_number=17))
    other = pictures(tmp_path, ct, finding(ct, CENTER, slice_number=88))
    assert [plane for plane in PLANES if (first[plane] != other[plane]).any()] == ["axial"]


def test_a_finding_at_the_corner_keeps_its_place_and_air_is_around(tmp_path: Path) -> None:
    ct = chest()
    ct.hu[:] = 40
    shown = pictures(tmp_path, ct, finding(ct, ct.geometry.to_xyz([0, 0, 0])))["axial"][..., 0]
    air, tissue = shown[60:180, 60:180], shown[220:340, 220:340]
    assert air.mean() < 70 < 230 < tissue.mean()
