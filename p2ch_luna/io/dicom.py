"""Read and write a CT as a folder of DICOM slices."""

from __future__ import annotations

import locale
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing_folder
from p2ch_luna.geometry import CtVolume
from p2ch_luna.io.checks import make_ct
from p2ch_luna.io.dicom_choice import Choice, choose
from p2ch_luna.io.dicom_headers import (
    CT_IMAGE,
    INSTANCE_NUMBER,
    MODALITY,
    ORIENTATION,
    POSITION,
    RESCALE_INTERCEPT,
    RESCALE_SLOPE,
    RESCALE_TYPE,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_UID,
    STUDY_UID,
    Header,
    read_headers,
    read_pixels,
)
from p2ch_luna.io.dicom_series import SeriesFacts, group_series
from p2ch_luna.io.names import itk_name

__all__ = [
    "CT_IMAGE",
    "MODALITY",
    "SERIES_UID",
    "STUDY_UID",
    "DicomScan",
    "choose_series",
    "derived_uid",
    "read_dicom",
    "read_series",
    "write_series",
]

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class DicomScan:
    """A CT from DICOM, the file and the instance number of each of its slices, and the series there were."""

    ct: CtVolume
    files: tuple[Path, ...]
    slice_numbers: tuple[int, ...]
    series: tuple[SeriesFacts, ...]  # the one that was read, then the others
    warnings: tuple[str, ...]


def read_series(folder: Path, series_uid: str | None = None) -> CtVolume:
    """Read the best CT series in a folder and below it (see `dicom_choice`), or the one of that uid.

    Slices are ordered by their position along col x row; other files are passed over.
    Raises LunaError where there is no CT, CT of several patients and no uid to choose by, a uid that several
    share, or where the slices of the series do not make one even stack or its values are not those of a
    chest CT.
    """
    return read_dicom(folder, series_uid).ct


def read_dicom(folder: Path, series_uid: str | None = None) -> DicomScan:
    """As `read_series`, with all that a report says of the source."""
    choice = choose_series(folder, series_uid)
    slices = choice.stack.headers
    voxels = _read_voxels(slices, choice.stack.shape)
    uid = slices[0].series_uid
    return DicomScan(
        ct=make_ct(folder, uid, voxels, choice.stack.geometry),
        files=tuple(h.path for h in slices),
        slice_numbers=_slice_numbers(slices),
        series=choice.facts(),
        warnings=(*choice.warnings, *_rescale_warnings(slices)),
    )


def choose_series(folder: Path, series_uid: str | None = None) -> Choice:
    """The series that `read_series` reads and the others, by their headers, with the same errors."""
    headers, damaged = read_headers(folder)
    return choose(folder, group_series(folder, headers, damaged), damaged, series_uid)


def _slice_numbers(slices: Sequence[Header]) -> tuple[int, ...]:
    """The instance numbers, by which viewers count; 1, 2, ... where these are not all there, or not whole."""
    numbers = [h.number(INSTANCE_NUMBER) for h in slices]
    whole = [int(n) for n in numbers if n is not None and n.is_integer()]
    return tuple(whole if len(set(whole)) == len(slices) else range(1, len(slices) + 1))


def _rescale_warnings(slices: Sequence[Header]) -> list[str]:
    without = sum(not h.text(RESCALE_SLOPE) or not h.text(RESCALE_INTERCEPT) for h in slices)
    units = {h.text(RESCALE_TYPE) for h in slices} - {"", "HU"}
    told = (
        [f"slices that state no rescale to HU, their values taken as they are: {without}"] if without else []
    )
    return told + [f"values are said to be {unit}: they were taken as HU" for unit in sorted(units)]


def _read_voxels(slices: Sequence[Header], shape: tuple[int, int, int]) -> NDArray[Any]:
    """(D, H, W) HU: int16 if all fit, int32 if they are whole numbers, else float32."""
    rescale = [
        float(h.numbers(tag, 1, default)[0])
        for h in slices
        for tag, default in ((RESCALE_SLOPE, "1"), (RESCALE_INTERCEPT, "0"))
    ]
    is_whole = all(x.is_integer() for x in rescale)
    voxels: NDArray[Any] = np.empty(shape, np.int16 if is_whole else np.float32)
    for k, header in enumerate(slices):
        pixels = read_pixels(header.path)
        if voxels.dtype == np.int16 and (pixels.min() < _INT16.min or pixels.max() > _INT16.max):
            voxels = voxels.astype(np.int32)
        voxels[k] = pixels
    return voxels


def write_series(folder: Path, ct: CtVolume) -> None:
    """Write a CT as `0001.dcm`, `0002.dcm`, ... whole or not at all; the same CT gives the same bytes.

    HU are rounded to whole numbers. The series uid is kept if it is a valid DICOM UID, else one is made
    from it; the other uids are made from it too. Raises LunaError where the folder is not empty or cannot
    be written.
    """
    hu = np.rint(ct.hu).astype(np.int16)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    with replacing_folder(folder) as temporary, _locale_kept():
        for index in range(len(hu)):
            image = sitk.GetImageFromArray(hu[index])
            image.SetSpacing(ct.geometry.spacing_xyz[:2].tolist())
            for tag, value in _tags(ct, index).items():
                image.SetMetaData(tag, value)
            writer.SetFileName(itk_name(temporary / f"{index + 1:04d}.dcm"))
            try:
                writer.Execute(image)
            except RuntimeError as error:
                raise LunaError(f"{folder}: slice {index + 1} cannot be written") from error


@contextmanager
def _locale_kept() -> Iterator[None]:
    """GDCM writes in the locale C and leaves it so: whoever then opens a text would read it as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def _tags(ct: CtVolume, index: int) -> dict[str, str]:
    """What a CT image must say, and no more."""
    spacing = _decimals([ct.geometry.spacing_xyz[2]])
    return {
        "0008|0008": r"DERIVED\SECONDARY\AXIAL",
        SOP_CLASS_UID: CT_IMAGE,
        SOP_UID: derived_uid(ct.series_uid, f"slice {index + 1}"),
        "0008|0020": "",  # study date and time: left out, the writer would put in the present
        "0008|0030": "",
        MODALITY: "CT",
        "0008|0070": "",  # manufacturer
        "0018|0015": "CHEST",  # body part examined: has no laterality
        "0018|0050": spacing,  # slice thickness
        "0018|0060": "",  # KVP
        "0018|0088": spacing,  # spacing between slices
        "0018|5100": "",  # patient position
        STUDY_UID: derived_uid(ct.series_uid, "study"),
        SERIES_UID: ct.series_uid if _is_uid(ct.series_uid) else derived_uid(ct.series_uid, "series"),
        "0020|0011": "1",  # series number
        "0020|0012": "",  # acquisition number
        "0020|0013": str(index + 1),  # instance number
        POSITION: _decimals(ct.geometry.to_xyz([index, 0, 0])),
        ORIENTATION: _decimals(ct.geometry.direction[:, :2].T.ravel()),
        "0020|0052": derived_uid(ct.series_uid, "frame of reference"),
        "0020|1040": "",  # position reference indicator
        RESCALE_INTERCEPT: "0",
        RESCALE_SLOPE: "1",
        "0028|1054": "HU",
    }


def _decimals(values: Sequence[float] | NDArray[np.float64]) -> str:
    """DICOM decimal strings: at most 16 characters each."""
    return "\\".join(f"{x:.10g}" for x in values)


def _is_uid(text: str) -> bool:
    return len(text) <= 64 and re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", text) is not None


def derived_uid(series_uid: str, purpose: str) -> str:
    """A valid UID that is the same for the same series and purpose."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{series_uid} {purpose}').int}"
