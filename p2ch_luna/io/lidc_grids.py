"""Where the pixels of LIDC's series lie, from headers alone: of LUNA16's scans, or of crops of them."""

from __future__ import annotations

import csv
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.checks import make_geometry
from p2ch_luna.io.metaimage import meta_geometry, parse_header

SUFFIX = ".mhd"
LONGEST_HEADER = 1 << 16  # bytes
CROP_COLUMNS = ("name", "seriesuid", "first_pixel_x", "first_pixel_y")


def read_scan_grids(folder: Path, series_uids: Collection[str]) -> dict[str, ImageGeometry]:
    """The grids of those of the series whose headers are in a folder of LUNA16's layout.

    Headers are `<series uid>.mhd` in the folder, in its folders or in its zips; no voxels are read.
    Raises LunaError for a header that is damaged, a zip that cannot be read, a folder that is not there.
    """
    if not folder.is_dir():
        raise LunaError(f"{folder}: not a folder; expected LUNA16's, with subset0 to subset9 in it")
    wanted = set(series_uids)
    grids: dict[str, ImageGeometry] = {}
    for path in sorted([*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*/*{SUFFIX}")]):
        if path.name.removesuffix(SUFFIX) in wanted:
            grids[path.name.removesuffix(SUFFIX)] = _grid(path, _head(path))
    for path in sorted(folder.glob("*.zip")):
        for uid, head in _zipped_heads(path, wanted - set(grids)):
            grids[uid] = _grid(path / f"{uid}{SUFFIX}", head)
    return grids


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_HEADER)
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror or error}; expected a header") from error


def _zipped_heads(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as zipped:
            for name in zipped.namelist():
                uid = Path(name).name.removesuffix(SUFFIX)
                if name.endswith(SUFFIX) and uid in wanted:
                    with zipped.open(name) as file:
                        yield uid, file.read(LONGEST_HEADER)
    except (OSError, zipfile.BadZipFile) as error:
        raise LunaError(f"{path}: cannot be read: {error}; expected a zip of scans") from error


def _grid(source: Path, head: bytes) -> ImageGeometry:
    return meta_geometry(parse_header(source, head))[1]


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
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise LunaError(f"{path}: cannot be read: {reason}; expected a nodule crop") from error
    return make_geometry(path, reader.GetOrigin(), reader.GetSpacing(), reader.GetDirection())
