from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.lidc_grids import read_crop_grids
from p2ch_luna.io.volumes import write_mask


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """One crop of 1 mm voxels at LPS (5, 6, 7), whose first pixel is column 30 and row 40 of the series."""
    grid = ImageGeometry.axial((1.0, 1.0, 2.0), (5.0, 6.0, 7.0))
    write_mask(tmp_path / "voi" / "a.nii.gz", np.zeros((3, 4, 5), bool), grid)
    (tmp_path / "nodules.csv").write_text("name,seriesuid,first_pixel_x,first_pixel_y\na,1.2.3,30,40\n")
    return tmp_path


def test_a_crop_tells_where_its_series_begins(crops: Path) -> None:
    (grid,) = read_crop_grids(crops)["1.2.3"]
    assert grid.origin_xyz.tolist() == [-25, -34, 7]


def test_every_crop_tells_its_own(crops: Path) -> None:
    with (crops / "nodules.csv").open("a") as file:
        file.write("a,1.2.3,31,40\n")
    assert [grid.origin_xyz[0] for grid in read_crop_grids(crops)["1.2.3"]] == [-25, -26]


def test_a_crop_that_is_not_there_is_named(crops: Path) -> None:
    (crops / "voi" / "a.nii.gz").unlink()
    with pytest.raises(LunaError, match=r"a.nii.gz: no such file; expected a nodule crop"):
        read_crop_grids(crops)


def test_a_crop_that_is_no_image_is_named(crops: Path) -> None:
    (crops / "voi" / "a.nii.gz").write_text("no image")
    with pytest.raises(LunaError, match=r"a.nii.gz: cannot be read: .*; expected a nodule crop"):
        read_crop_grids(crops)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,seriesuid\n", "nodules.csv: no column 'first_pixel_x'; found"),
        (
            "name,seriesuid,first_pixel_x,first_pixel_y\na,1.2.3,3.5,4\n",
            "nodules.csv, line 2: .*'3.5'; expected",
        ),
    ],
)
def test_a_table_that_is_none_is_told(crops: Path, text: str, told: str) -> None:
    (crops / "nodules.csv").write_text(text)
    with pytest.raises(LunaError, match=told):
        read_crop_grids(crops)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"nodules.csv: No such file or directory; expected a table"):
        read_crop_grids(tmp_path)
