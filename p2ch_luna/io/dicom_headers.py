"""What the header of a DICOM file says, read without decoding its pixels."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.io.names import files_below, itk_name

IMAGE_TYPE, SOP_CLASS_UID, SOP_UID = "0008|0008", "0008|0016", "0008|0018"
STUDY_UID, SERIES_UID = "0020|000d", "0020|000e"
MODALITY, DESCRIPTION, BODY_PART = "0008|0060", "0008|103e", "0018|0015"
PATIENT_NAME, PATIENT_ID = "0010|0010", "0010|0020"  # compared, never told
THICKNESS, KERNEL = "0018|0050", "0018|1210"
SERIES_NUMBER, ACQUISITION_NUMBER, INSTANCE_NUMBER = "0020|0011", "0020|0012", "0020|0013"
ACQUISITION_TIME, TRIGGER_TIME, TEMPORAL_POSITION = "0008|0032", "0018|1060", "0020|0100"
POSITION, ORIENTATION, PIXEL_SPACING = "0020|0032", "0020|0037", "0028|0030"
RESCALE_INTERCEPT, RESCALE_SLOPE, RESCALE_TYPE = "0028|1052", "0028|1053", "0028|1054"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

_TAGS = (
    *(IMAGE_TYPE, SOP_UID, STUDY_UID, SERIES_UID, MODALITY, DESCRIPTION, BODY_PART),
    *(PATIENT_NAME, PATIENT_ID, THICKNESS, KERNEL, SERIES_NUMBER, ACQUISITION_NUMBER, INSTANCE_NUMBER),
    *(ACQUISITION_TIME, TRIGGER_TIME, TEMPORAL_POSITION, POSITION, ORIENTATION, PIXEL_SPACING),
    *(RESCALE_INTERCEPT, RESCALE_SLOPE, RESCALE_TYPE),
)
_PREAMBLE, _MAGIC = 128, b"DICM"
_FIRST_GROUPS = (2, 8)  # what a file without the preamble begins with
_HEAD_BYTES = 4096  # a series' uid lies within, as the tags are sorted


@dataclass(frozen=True, eq=False)
class Header:
    """What the header of one image file says.

    tags: those that matter here, by `group|element`, without padding; one that is not there is missing.
    size_xyz: columns, rows, frames.
    """

    path: Path
    tags: Mapping[str, str]
    size_xyz: tuple[int, int, int]
    values_a_pixel: int

    def text(self, tag: str) -> str:
        """The value of a tag, empty if there is none."""
        return self.tags.get(tag, "")

    def numbers(self, tag: str, count: int, default: str = "") -> NDArray[np.float64]:
        """(count,) numbers of a tag. Raises LunaError where it holds something else, and no default helps."""
        try:
            values = np.array([float(x) for x in (self.text(tag) or default).split("\\")])
        except ValueError:
            values = np.empty(0)
        if len(values) != count or not np.isfinite(values).all():
            raise LunaError(f"{self.path}: DICOM tag ({tag}) is {self.text(tag)!r}; expected {count} numbers")
        return values

    def number(self, tag: str) -> float | None:
        """The one number of a tag, None where it does not hold one."""
        try:
            value = float(self.text(tag))
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    @property
    def modality(self) -> str:
        """Such as CT; empty if it is not told."""
        return self.text(MODALITY)

    @property
    def series_uid(self) -> str:
        """Of the series that the image is of."""
        return self.text(SERIES_UID)

    @cached_property
    def position_xyz(self) -> NDArray[np.float64]:
        """(3,) LPS mm, the centre of the first pixel."""
        return self.numbers(POSITION, 3)

    @cached_property
    def orientation(self) -> NDArray[np.float64]:
        """(6,) the unit step of the columns, then that of the rows."""
        return self.numbers(ORIENTATION, 6)

    @cached_property
    def normal(self) -> NDArray[np.float64]:
        """(3,) the unit step across the slice: col x row."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @cached_property
    def spacing_xy(self) -> NDArray[np.float64]:
        """(2,) mm between columns and between rows; DICOM states the latter first."""
        return self.numbers(PIXEL_SPACING, 2)[::-1]

    @property
    def image_type(self) -> tuple[str, ...]:
        """Such as ORIGINAL, PRIMARY, AXIAL."""
        return tuple(self.text(IMAGE_TYPE).upper().split("\\"))

    @property
    def is_localizer(self) -> bool:
        """Whether it is a scout, on which slices are planned."""
        return "LOCALIZER" in self.image_type

    @property
    def patient(self) -> tuple[str, str]:
        """What tells patients apart; never to be shown."""
        name = self.text(PATIENT_NAME).replace("^", " ")
        return self.text(PATIENT_ID), " ".join(name.casefold().split())


@dataclass(frozen=True)
class Damaged:
    """A file that says it is a CT image and cannot be read; series_uid: "" where that is lost too."""

    path: Path
    series_uid: str


def read_headers(folder: Path) -> tuple[list[Header], list[Damaged]]:
    """The headers of all DICOM images at and below a folder, by name, and CT images that are damaged.

    Everything else is passed over: other files, DICOMDIR, DICOM objects that are no images.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what matters is told as an error, in one line
    headers: list[Header] = []
    damaged: list[Damaged] = []
    for path in files_below(folder):
        found = read_header(path)
        if isinstance(found, Header):
            headers.append(found)
        elif found:
            damaged.append(found)
    return headers, damaged


def read_header(path: Path) -> Header | Damaged | None:
    """The header of one DICOM image; None: it is none. Raises LunaError where it cannot be opened."""
    head = _head_of(path)
    if not _may_be_dicom(head):
        return None
    reader = open_image(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return Damaged(path, _series_uid_in(head)) if _says_ct_image(head) else None
    size = (*reader.GetSize(), 1)
    tags = {tag: _clean(reader.GetMetaData(tag)) for tag in _TAGS if reader.HasMetaDataKey(tag)}
    return Header(path, tags, (size[0], size[1], size[2]), reader.GetNumberOfComponents())


def _says_ct_image(head: bytes) -> bool:
    """Whether a file's meta header calls it a CT image; others may refer to one."""
    tag = b"\x02\x00\x02\x00UI"  # Media Storage SOP Class UID, always explicit little endian
    place = head.find(tag, _PREAMBLE + 4)
    if head[_PREAMBLE : _PREAMBLE + 4] != _MAGIC or place < 0:
        return False
    start = place + len(tag) + 2
    length = int.from_bytes(head[start - 2 : start], "little")
    return head[start : start + length].rstrip(b"\0 ") == CT_IMAGE.encode()


def holds_ct(folder: Path) -> bool:
    """Whether a CT image lies at or below a folder."""
    found = (read_header(path) for path in files_below(folder))
    return any(isinstance(header, Header) and header.modality == "CT" for header in found)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as one of DICOM, with the preamble or without."""
    return _may_be_dicom(_head_of(path))


def open_image(path: Path) -> sitk.ImageFileReader:
    """A reader of one DICOM image; nothing is read yet. Raises LunaError where its name is not UTF-8."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_name(path))
    return reader


def read_pixels(path: Path) -> NDArray[Any]:
    """(H, W) rescaled pixels of one image, a view of ITK's. Raises LunaError where they do not decode."""
    try:
        image = open_image(path).Execute()
    except RuntimeError as error:
        raise LunaError(f"{path}: its pixels cannot be decoded; expected a whole CT image") from error
    pixels = sitk.GetArrayFromImage(image)
    return pixels.reshape(pixels.shape[-2:])


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror}; expected a DICOM file") from error


def _may_be_dicom(head: bytes) -> bool:
    """Whether GDCM need look at it: with the preamble, or beginning with a tag of a first group."""
    if head[_PREAMBLE : _PREAMBLE + 4] == _MAGIC:
        return True
    return len(head) > _PREAMBLE and any(
        struct.unpack_from(f"{order}H", head) == (group,) for order in "<>" for group in _FIRST_GROUPS
    )


def _series_uid_in(head: bytes) -> str:
    """The series uid in the bytes of a header that does not parse, little endian as nearly all are."""
    at = head.find(b"\x20\x00\x0e\x00")
    if at < 0 or len(head) < at + 8:
        return ""
    (length,) = struct.unpack_from("<H", head, at + (6 if head[at + 4 : at + 6] == b"UI" else 4))
    return head[at + 8 : at + 8 + length].decode("ascii", "replace").strip("\0 ")


def _clean(text: str) -> str:
    """Without padding; bytes that are not UTF-8 are taken for Latin-1, the commonest other."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.strip("\0 \t\r\n")
