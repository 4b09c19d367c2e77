"""Read and write a CT as a folder of DICOM slices."""

from __future__ import annotations

import os
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing_folder
from p2ch_luna.geometry import CtVolume
from p2ch_luna.io.checks import check_shape, make_ct, make_geometry

SOP_CLASS_UID, SOP_UID, STUDY_UID, SERIES_UID = "0008|0016", "0008|0018", "0020|000d", "0020|000e"
MODALITY, POSITION, ORIENTATION, PIXEL_SPACING = "0008|0060", "0020|0032", "0020|0037", "0028|0030"
RESCALE_INTERCEPT, RESCALE_SLOPE = "0028|1052", "0028|1053"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

SAME_PLACE_MM = 0.01
SPACING_TOLERANCE = 0.02  # of the spacing, for positions rounded in the file,
SPACING_TOLERANCE_MM = 0.05  # or this, if it is more
SIDEWAYS_TOLERANCE_MM = 0.5  # over the whole series
MOST_NAMED = 5  # missing places, series: named in an error


@dataclass(frozen=True, eq=False)
class _Slice:
    """What the header of one image file says."""

    path: Path
    modality: str
    series_uid: str
    size_xyz: tuple[int, int, int]
    position_xyz: NDArray[np.float64]  # (3,) LPS mm
    orientation: NDArray[np.float64]  # (6,) unit steps of col, then of row
    spacing_xy: NDArray[np.float64]  # (2,) mm
    has_integer_hu: bool


def read_series(folder: Path) -> CtVolume:
    """Read the one CT series in a folder and below it; other files and other modalities are passed over.

    Slices are ordered by their position along col x row. Raises LunaError where there is no CT or more than
    one, a slice is missing, doubled or unlike the others, or the values are not those of a chest CT.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what matters is told as an error, in one line
    slices = _one_ct_series(folder, list(_slices_below(folder)))
    _check_alike(slices)
    columns, rows, _ = slices[0].size_xyz
    check_shape(folder, (len(slices), rows, columns))
    col_step, row_step = slices[0].orientation.reshape(2, 3)
    normal = np.cross(col_step, row_step)
    slices.sort(key=lambda s: float(s.position_xyz @ normal))
    spacing_z = _check_stack(folder, slices, normal)
    geometry = make_geometry(
        folder,
        slices[0].position_xyz,
        [*slices[0].spacing_xy, spacing_z],
        np.stack([col_step, row_step, normal], axis=1),
    )
    return make_ct(folder, slices[0].series_uid, _read_voxels(folder, slices), geometry)


def _slices_below(folder: Path) -> Iterator[_Slice]:
    """Every DICOM image with a place in the patient; a CT image that cannot be read is an error."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            reader = sitk.ImageFileReader()
            reader.SetImageIO("GDCMImageIO")
            reader.SetFileName(str(path))
            try:
                reader.ReadImageInformation()
            except RuntimeError as error:
                if _says_ct_image(path):
                    raise LunaError(f"{path}: a CT image that cannot be read; expected it whole") from error
                continue
            yield _parse_header(path, reader)


def _says_ct_image(path: Path) -> bool:
    """Whether a file that does not decode claims to be a CT slice, in the part that never varies."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror}; expected a DICOM file") from error
    return head[128:132] == b"DICM" and CT_IMAGE.encode() + b"\0" in head


def _parse_header(path: Path, reader: sitk.ImageFileReader) -> _Slice:
    def text(tag: str, default: str = "") -> str:
        return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else default

    def numbers(tag: str, count: int, default: str = "") -> NDArray[np.float64]:
        try:
            values = np.array([float(x) for x in (text(tag) or default).split("\\")])
        except ValueError:
            values = np.empty(0)
        if len(values) != count and text(MODALITY) == "CT":
            raise LunaError(f"{path}: DICOM tag ({tag}) is {text(tag)!r}; expected {count} numbers")
        return values

    size = reader.GetSize()
    rescale = [*numbers(RESCALE_SLOPE, 1, "1"), *numbers(RESCALE_INTERCEPT, 1, "0")]
    return _Slice(
        path=path,
        modality=text(MODALITY),
        series_uid=text(SERIES_UID),
        size_xyz=(size[0], size[1], size[2] if len(size) > 2 else 1),
        position_xyz=numbers(POSITION, 3),
        orientation=numbers(ORIENTATION, 6),
        spacing_xy=numbers(PIXEL_SPACING, 2)[::-1],  # DICOM states that of rows first
        has_integer_hu=all(float(x).is_integer() for x in rescale),
    )


def _one_ct_series(folder: Path, slices: Sequence[_Slice]) -> list[_Slice]:
    if not slices:
        raise LunaError(f"{folder}: no DICOM images in this folder; expected one CT series")
    ct = [s for s in slices if s.modality == "CT"]
    if not ct:
        found = ", ".join(sorted({s.modality or "unknown" for s in slices}))
        raise LunaError(f"{folder}: images of modality {found}; expected CT")
    counts = Counter(s.series_uid for s in ct)
    if len(counts) > 1:
        named = ", ".join(f"{uid} ({n} slices)" for uid, n in counts.most_common(MOST_NAMED))
        raise LunaError(f"{folder}: {len(counts)} CT series: {named}; expected one")
    return ct


def _check_alike(slices: Sequence[_Slice]) -> None:
    """Raise LunaError unless all slices are single images on the same grid."""
    first = slices[0]
    for s in slices:
        if s.size_xyz[2] != 1:
            raise LunaError(f"{s.path}: {s.size_xyz[2]} frames in one file; expected one slice a file")
        for what, found, wanted in (
            ("size", s.size_xyz, first.size_xyz),
            ("orientation", s.orientation, first.orientation),
            ("pixel spacing", s.spacing_xy, first.spacing_xy),
        ):
            if not np.allclose(found, wanted, atol=1e-3, rtol=0):
                numbers = ", ".join(f"{x:g}" for x in found), ", ".join(f"{x:g}" for x in wanted)
                raise LunaError(
                    f"{s.path}: {what} {numbers[0]}; expected {numbers[1]} as in {first.path.name}"
                )


def _check_stack(folder: Path, slices: Sequence[_Slice], normal: NDArray[np.float64]) -> float:
    """The mm between slices; raises LunaError unless they lie evenly, one above the other."""
    position_xyz = np.stack([s.position_xyz for s in slices])
    along = position_xyz @ normal
    shift_xyz = position_xyz - position_xyz[0] - np.outer(along - along[0], normal)
    sideways = np.linalg.norm(shift_xyz, axis=1).max()
    if sideways > SIDEWAYS_TOLERANCE_MM:
        raise LunaError(
            f"{folder}: slices shift sideways by {sideways:.1f} mm (tilted gantry); expected a straight stack"
        )
    steps = np.diff(along)
    if steps.min() < SAME_PLACE_MM:
        k = int(steps.argmin())
        raise LunaError(
            f"{folder}: {slices[k].path.name} and {slices[k + 1].path.name} lie at the same place "
            f"{_place(position_xyz[k])}; expected one slice a place"
        )
    _check_steps(folder, steps, position_xyz)
    return float((along[-1] - along[0]) / len(steps))


def _check_steps(folder: Path, steps: NDArray[np.float64], position_xyz: NDArray[np.float64]) -> None:
    """Tell slices that are missing, which leave steps of twice the spacing or more, from uneven ones."""
    spacing = float(np.median(steps))
    tolerance = max(SPACING_TOLERANCE * spacing, SPACING_TOLERANCE_MM)
    counts = np.rint(steps / spacing).astype(int)
    if (abs(steps - counts * spacing) > tolerance * np.maximum(counts, 1)).any():
        raise LunaError(
            f"{folder}: slices {steps.min():.2f} to {steps.max():.2f} mm apart; expected one spacing"
        )
    missing = [
        position_xyz[k] + (position_xyz[k + 1] - position_xyz[k]) * j / counts[k]
        for k in np.flatnonzero(counts > 1)
        for j in range(1, counts[k])
    ]
    if missing:
        named = ", ".join(map(_place, missing[:MOST_NAMED])) + (", ..." if len(missing) > MOST_NAMED else "")
        raise LunaError(
            f"{folder}: slices missing: {len(missing)}, at {named}; expected one every {spacing:.3g} mm"
        )


def _place(xyz: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{x:.2f}" for x in xyz) + ")"


def _read_voxels(folder: Path, slices: Sequence[_Slice]) -> NDArray[Any]:
    """(D, H, W) HU in the order given, whole numbers if every slice's rescale keeps them whole."""
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(s.path) for s in slices])
    is_whole = all(s.has_integer_hu for s in slices)
    reader.SetOutputPixelType(sitk.sitkInt32 if is_whole else sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise LunaError(f"{folder}: the slices cannot be decoded; expected CT images of one kind") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise LunaError(f"{folder}: {image.GetNumberOfComponentsPerPixel()} values a pixel; expected one")
    return sitk.GetArrayFromImage(image)


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
    with replacing_folder(folder) as temporary:
        for index in range(len(hu)):
            image = sitk.GetImageFromArray(hu[index])
            image.SetSpacing(ct.geometry.spacing_xyz[:2].tolist())
            for tag, value in _tags(ct, index).items():
                image.SetMetaData(tag, value)
            writer.SetFileName(str(temporary / f"{index + 1:04d}.dcm"))
            try:
                writer.Execute(image)
            except RuntimeError as error:
                raise LunaError(f"{folder}: slice {index + 1} cannot be written") from error


def _tags(ct: CtVolume, index: int) -> dict[str, str]:
    """What a CT image must say, and no more."""
    spacing = _decimals([ct.geometry.spacing_xyz[2]])
    return {
        "0008|0008": r"DERIVED\SECONDARY\AXIAL",
        SOP_CLASS_UID: CT_IMAGE,
        SOP_UID: _derived_uid(ct.series_uid, f"slice {index + 1}"),
        "0008|0020": "",  # study date and time: left out, the writer would put in the present
        "0008|0030": "",
        MODALITY: "CT",
        "0018|0050": spacing,  # slice thickness
        "0018|0060": "",  # KVP
        "0018|0088": spacing,  # spacing between slices
        STUDY_UID: _derived_uid(ct.series_uid, "study"),
        SERIES_UID: ct.series_uid if _is_uid(ct.series_uid) else _derived_uid(ct.series_uid, "series"),
        "0020|0011": "1",  # series number
        "0020|0012": "",  # acquisition number
        "0020|0013": str(index + 1),  # instance number
        POSITION: _decimals(ct.geometry.to_xyz([index, 0, 0])),
        ORIENTATION: _decimals(ct.geometry.direction[:, :2].T.ravel()),
        "0020|0052": _derived_uid(ct.series_uid, "frame of reference"),
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


def _derived_uid(series_uid: str, purpose: str) -> str:
    """A valid UID that is the same for the same series and purpose."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{series_uid} {purpose}').int}"
