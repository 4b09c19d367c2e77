"""Where the pixels of LIDC's series lie, from the headers of crops of them."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.checks import make_geometry
from p2ch_luna.io.names import itk_name

CROP_COLUMNS = ("name", "seriesuid", "first_pixel_x", "first_pixel_y")


def read_crop_grids(folder: Path) -> dict[str, list[ImageGeometry]]:
    """For each series the grids that its crops claim for it: their slices' places count, not their numbers.

    The folder holds `nodules.csv`, with the column and row of each crop's first pixel in the original
    series, and `voi/<name>.nii.gz`. Raises LunaError where one is missing or damaged.
    """
    path = folder / "nodules.csv"
    grids: dict[str, list[ImageGeometry]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in CROP_COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise LunaError(f"{path}: no column {missing[0]!r}; found {reader.fieldnames}")
            for row in reader:
                first_irc = [0, -int(row["first_pixel_y"]), -int(row["first_pixel_x"])]
                crop = _crop_geometry(folder / "voi" / f"{row['name']}.nii.gz")
                grids[row["seriesuid"]].append(crop.moved_to(first_irc))
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; expected a table of LIDC nodules") from error
    except ValueError as error:
        raise LunaError(f"{path}, line {reader.line_num}: {error}; expected whole pixels") from error
    return dict(grids)


def _crop_geometry(path: Path) -> ImageGeometry:
    if not path.is_file():
        raise LunaError(f"{path}: no such file; expected a nodule crop")
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise LunaError(f"{path}: cannot be read: {reason}; expected a nodule crop") from error
    return make_geometry(path, reader.GetOrigin(), reader.GetSpacing(), reader.GetDirection())
