"""Read and write a CT or a mask as one file: MetaImage, NIfTI or NRRD."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.checks import make_ct, make_geometry, right_handed
from p2ch_luna.io.dicom import read_series
from p2ch_luna.io.dicom_headers import holds_ct, is_dicom
from p2ch_luna.io.find_scans import FoundScan, find_scans
from p2ch_luna.io.names import READABLE, itk_name, stem_of
from p2ch_luna.io.unpack import unpacked
from p2ch_luna.io.whole import check_bytes, check_has_data, check_is_whole, check_stays_beside, most_bytes

__all__ = [
    "READABLE",
    "WRITABLE",
    "read_ct",
    "read_grid",
    "read_mask",
    "read_volume",
    "scan_at",
    "series_stem",
    "suffix_of",
    "write_ct",
    "write_mask",
]

WRITABLE = (".mhd", ".mha", ".nii.gz", ".nii", ".nrrd")
MOST_NAMED = 5  # files, in an error
_META_TYPES = {"int16": "MET_SHORT", "float32": "MET_FLOAT", "uint8": "MET_UCHAR"}


def read_ct(path: Path | str, series_uid: str | None = None) -> CtVolume:
    """Read a .mhd, .mha, NIfTI or NRRD file, a folder of DICOM, or a zip of one of these.

    The series uid is the file's name without its suffix, as in LUNA16, or that of the DICOM series.
    series_uid: of the DICOM series to read; the best CT series if None (see `dicom_choice`).
    HU are int16 where the file holds integers that fit, else float32; padding below -1024 HU becomes -1024.
    Slices run along col x row (see `checks.right_handed`), so a scan is the same array in every format.
    Raises LunaError where the path is not there or is no whole, plausible CT of three dimensions.
    """
    with scan_at(Path(path)) as place:
        return read_series(place, series_uid) if place.is_dir() else read_volume(place)[0]


@contextmanager
def scan_at(path: Path) -> Iterator[Path]:
    """The volume file or the folder of DICOM that a path leads to; what a zip holds is there in the block.

    A folder is that of DICOM if it holds CT slices, else the one volume file or zip counts that `find_scans`
    finds in it. Raises LunaError where the path is not there, the zip is not safe, or there are several.
    """
    if not path.exists():
        raise LunaError(f"{path}: not there; expected a CT file or a folder of DICOM")
    if path.is_dir():
        place = _scan_in(path)
        if place.is_dir():
            yield place
        else:
            with scan_at(place) as inner:
                yield inner
    elif path.suffix.lower() == ".zip":
        with unpacked(path) as folder:
            place = _scan_in(folder)
            if place.is_file():
                check_stays_beside(place)
                check_has_data(place)
            yield place
    else:
        yield path


def _scan_in(folder: Path) -> Path:
    """The folder itself, for DICOM, or what `find_scans` finds in it besides."""
    files = [scan for scan in find_scans(folder, tell=False) if not scan.path.is_dir()]
    if not files or holds_ct(folder):
        return folder
    if len(files) > 1:
        named = ", ".join(_place_in(folder, scan) for scan in files[:MOST_NAMED])
        raise LunaError(f"{folder}: {len(files)} scans: {named}; expected one: give its own path")
    return files[0].path


def _place_in(folder: Path, scan: FoundScan) -> str:
    return str(scan.path.relative_to(folder)) if scan.member is None else scan.where


def read_volume(path: Path) -> tuple[CtVolume, bool]:
    """Read a volume file as `read_ct` does; and whether its slices were reversed for that."""
    with _told_as_luna_error(path):
        limit = most_bytes(path)
    voxels, geometry = _read_image(path, limit)
    return make_ct(path, series_stem(path), voxels, geometry), bool(np.linalg.det(geometry.direction) < 0)


def read_grid(path: Path) -> tuple[tuple[int, ...], ImageGeometry]:
    """Shape (D, H, W) and geometry as the header of a volume file states them; no voxel is read."""
    if not path.is_file():
        raise LunaError(f"{path}: not there; expected a CT file")
    with _told_as_luna_error(path):
        reader = _open_reader(path)
        geometry = make_geometry(path, reader.GetOrigin(), reader.GetSpacing(), reader.GetDirection())
        return tuple(reader.GetSize()[::-1]), geometry


def write_ct(path: Path | str, ct: CtVolume) -> None:
    """Write a CT whole or not at all; a .mhd gets its .raw beside it. Missing parent folders are made.

    Raises LunaError where the suffix is not one of `WRITABLE` or the file cannot be written.
    """
    _write_image(Path(path), ct.hu, ct.geometry)


def read_mask(path: Path) -> tuple[NDArray[np.bool_], ImageGeometry]:
    """Read a label map of any size: (D, H, W), true where a label is set, ordered as `read_ct` orders."""
    if not path.is_file():
        raise LunaError(f"{path}: not there; expected a mask file")
    voxels, geometry = right_handed(*_read_image(path))
    return voxels != 0, geometry


def write_mask(path: Path, mask: NDArray[np.bool_] | NDArray[np.uint8], geometry: ImageGeometry) -> None:
    """Write a (D, H, W) mask as 0 and 1, or labels 0, 1, 2, …, as `write_ct` writes a CT."""
    _write_image(path, mask.astype(np.uint8), geometry)


def suffix_of(path: Path, known: tuple[str, ...] = READABLE) -> str:
    """The one of these suffixes with which a file's name ends. Raises LunaError where none does."""
    for suffix in known:
        if path.name.lower().endswith(suffix):
            return suffix
    is_slice = path.suffix.lower() in (".dcm", ".ima") or (path.is_file() and is_dicom(path))
    hint = "; for DICOM give the folder" if is_slice else ""
    found = f"unknown suffix {path.suffix!r}" if path.suffix else "no suffix"
    raise LunaError(f"{path}: {found}; expected one of {', '.join(known)}{hint}")


def series_stem(path: Path) -> str:
    """The name of a scan's file without its suffix; only that goes, for a series uid is full of dots."""
    suffix_of(path)
    return stem_of(path.name)


def _read_image(path: Path, limit: float = math.inf) -> tuple[NDArray[Any], ImageGeometry]:
    """(D, H, W) voxels in the order of the file; limit: bytes, above which they are refused unread."""
    suffix = suffix_of(path)
    with _told_as_luna_error(path):
        check_is_whole(path, suffix, limit)
        reader = _open_reader(path)
        check_bytes(path, math.prod(reader.GetSize()) * _bytes_of(reader.GetPixelID()), limit)
        image = reader.Execute()
    geometry = make_geometry(path, image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    return sitk.GetArrayFromImage(image), geometry


def _open_reader(path: Path) -> sitk.ImageFileReader:
    """Its header read, and known to be that of a 3-D volume."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what matters is told as an error, in one line
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    reader.ReadImageInformation()
    _check_is_volume(path, reader)
    return reader


def _bytes_of(pixel_id: int) -> int:
    """Of a voxel of one value."""
    return int(sitk.Image([1, 1], pixel_id).GetSizeOfPixelComponent())


@contextmanager
def _told_as_luna_error(path: Path) -> Iterator[None]:
    """Turn what the system or ITK raise into a LunaError that names the file."""
    try:
        yield
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RuntimeError as error:
        raise LunaError(f"{path}: cannot be read as {suffix_of(path)}: {_reason(error)}") from error


def _check_is_volume(path: Path, reader: sitk.ImageFileReader) -> None:
    if reader.GetDimension() != 3:
        sides = " x ".join(map(str, reader.GetSize()))
        raise LunaError(f"{path}: a {reader.GetDimension()}-D image of {sides}; expected a 3-D volume")
    if reader.GetNumberOfComponents() != 1:
        count = reader.GetNumberOfComponents()
        raise LunaError(f"{path}: {count} values a voxel, as in a colour image; expected one HU")


def _reason(error: RuntimeError) -> str:
    """The last line of an ITK error, which says most, without its object's address."""
    return re.sub(r".*ERROR: |\w+\(0x[0-9a-f]+\): ", "", str(error).strip().splitlines()[-1])


def _write_image(path: Path, voxels: NDArray[Any], geometry: ImageGeometry) -> None:
    if suffix_of(path, WRITABLE) == ".mhd":
        _write_meta_pair(path, voxels, geometry)
        return
    image = sitk.GetImageFromArray(voxels)
    image.SetOrigin(geometry.origin_xyz.tolist())
    image.SetSpacing(geometry.spacing_xyz.tolist())
    image.SetDirection(geometry.direction.ravel().tolist())
    with replacing(path) as temporary:
        try:
            sitk.WriteImage(image, itk_name(temporary))
        except RuntimeError as error:
            raise LunaError(f"{path}: cannot be written: {_reason(error)}") from error


def _write_meta_pair(path: Path, voxels: NDArray[Any], geometry: ImageGeometry) -> None:
    """Header and data under their final names, the header last: no header is ever beside other data."""
    raw = path.with_name(f"{path.name[:-4]}.raw")
    little_endian = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))
    with replacing(path) as header, replacing(raw) as data:
        header.write_text(_meta_header(raw.name, little_endian, geometry), encoding="utf-8")
        little_endian.tofile(data)
        path.unlink(missing_ok=True)


def _meta_header(raw_name: str, voxels: NDArray[Any], geometry: ImageGeometry) -> str:
    def numbers(values: NDArray[Any]) -> str:
        return " ".join(map(repr, values.ravel().tolist()))

    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": numbers(geometry.direction.T),  # MetaImage lists the columns
        "Offset": numbers(geometry.origin_xyz),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": numbers(geometry.spacing_xyz),
        "DimSize": " ".join(map(str, voxels.shape[::-1])),
        "ElementType": _META_TYPES[voxels.dtype.name],
        "ElementDataFile": raw_name,
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items())
