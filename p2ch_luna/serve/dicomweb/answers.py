"""What is in the answers of a DICOMweb server: entries of lists in DICOM JSON, and instances byte by byte.

What is odd about an answer is raised as whatever error comes of it, at least a ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.message import Message
from io import BytesIO
from math import prod
from typing import Any

import requests
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

Entry = Mapping[str, Any]  # DICOM JSON by tag
ODD = (  # errors that come of odd JSON
    ArithmeticError,
    AttributeError,
    EOFError,
    InvalidDicomError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UNDEFINED = 0xFFFFFFFF  # length of an element that ends with a delimiter
_CONFLICT = 409


def is_uid(text: str) -> bool:
    """Whether it is a DICOM UID, so fit to be a part of a path too; leading zeros are let pass."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def by_uid(entries: Iterable[Entry], tag: str) -> dict[str, Entry]:
    """The entries by the UID in `tag`; those without one are left out."""
    return {uid: entry for entry in entries if is_uid(uid := first(entry, tag))}


def values(entry: Entry, tag: str) -> list[str]:
    """Those of a tag, as text; none if it is not there."""
    found = entry.get(tag, {}).get("Value") or []
    if not isinstance(found, list):
        raise TypeError("the value is no array")
    return [str(value) for value in found if value is not None]


def first(entry: Entry, tag: str) -> str:
    """The first value of a tag, or ""."""
    return next(iter(values(entry, tag)), "")


def refusals_in(answer: requests.Response | None) -> Dataset | None:
    """What a server that stores nothing says of each instance; None without DICOM JSON that tells."""
    if answer is None or answer.status_code != _CONFLICT:
        return None
    try:
        told = Dataset.from_json(answer.json())
    except ODD:
        return None
    return told if told.get("FailedSOPSequence") else None


def instance_in(answer: requests.Response) -> bytes:
    """The one instance of an answer, as it came. Raises ConnectionError where the answer was cut off."""
    header = Message()
    header["Content-Type"] = answer.headers.get("Content-Type", "")
    boundary = header.get_boundary()
    if header.get_content_maintype() != "multipart" or boundary is None:
        check_whole(answer.content)  # nothing else says where it ends
        return answer.content
    _, *parts, end = (b"\r\n" + answer.content).split(b"\r\n--" + boundary.encode())
    if not end.startswith(b"--"):  # the closing delimiter has not come: the server died meanwhile
        raise requests.ConnectionError("the answer was cut off")
    if len(parts) != 1:
        raise ValueError(f"{len(parts)} instances came; expected one")
    return parts[0].partition(b"\r\n\r\n")[2]


def uid_of(content: bytes) -> str:
    """Of an instance."""
    return str(dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID)


def check_whole(content: bytes) -> None:
    """Raise ValueError where the end of a DICOM file, or of its pixels, is missing."""
    dataset = dcmread(BytesIO(content))
    if not dataset:
        raise ValueError("the file was cut off")
    last = dataset.get_item(list(dataset.keys())[-1])
    pixels = dataset.get_item("PixelData")
    is_there = len(pixels.value or b"") if pixels is not None else 0
    if pixels is not None and _length(pixels) == _UNDEFINED:  # compressed, and its delimiter was found
        return
    if is_there < _pixel_bytes(dataset) or _length(last) not in (_UNDEFINED, len(last.value or b"")):
        raise ValueError("the file was cut off")


def _pixel_bytes(dataset: Dataset) -> int:
    """Of native pixels; 0 for what is no image."""
    sides = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated")
    if "Rows" not in dataset:
        return 0
    return prod(int(dataset.get(side) or 1) for side in sides) // 8


def _length(element: Any) -> int:
    """As the file tells it; a sequence was read to its end."""
    return int(getattr(element, "length", _UNDEFINED))
