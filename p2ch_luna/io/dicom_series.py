"""The series that DICOM images are of: what each is, and whether its slices can be read as one stack."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2ch_luna.errors import LunaError
from p2ch_luna.io.dicom_headers import (
    BODY_PART,
    DESCRIPTION,
    KERNEL,
    POSITION,
    SERIES_NUMBER,
    STUDY_UID,
    THICKNESS,
    Damaged,
    Header,
)
from p2ch_luna.io.dicom_stack import Stack, make_stack

AXIAL = 0.9  # cosine between the slices' normal and the body's axis, from which on they count as axial
_PLANES = ("sagittal", "coronal", "axial")

Patient = tuple[str, str]  # see `Header.patient`


@dataclass(frozen=True)
class SeriesFacts:
    """A DICOM series that was there to choose from; None and "" where a header does not say."""

    series_uid: str
    study_uid: str
    modality: str
    description: str
    images: int
    thickness_mm: float | None
    kernel: str
    remark: str  # why it was chosen, or why not


@dataclass(frozen=True, eq=False)
class FoundSeries:
    """All images of one series uid and one patient; a stack, or what keeps them from being read as one."""

    series_uid: str
    headers: tuple[Header, ...]
    outcome: Stack | LunaError
    fault: str = ""  # what keeps it from being read, without the folder and what was expected

    @property
    def stack(self) -> Stack | None:
        """Its slices, None where it has a fault."""
        return self.outcome if isinstance(self.outcome, Stack) else None

    @property
    def first(self) -> Header:
        """What the images have in common is taken from this one."""
        return self.headers[0]

    @property
    def plane(self) -> str:
        """The plane of the slices, or the nearest to it, oblique."""
        if self.stack is None:
            return ""
        normal = abs(self.stack.geometry.direction[:, 2])
        return _PLANES[int(normal.argmax())] if normal.max() >= AXIAL else "oblique"

    @property
    def slice_mm(self) -> float:
        """How thick a slice is, or how far from the next, whichever is more; infinite without a stack."""
        if self.stack is None:
            return float("inf")
        return max(self.first.number(THICKNESS) or 0.0, float(self.stack.geometry.spacing_xyz[2]))

    @property
    def extent_mm(self) -> float:
        """From the middle of the first slice to that of the last."""
        if self.stack is None:
            return 0.0
        return float(self.stack.geometry.spacing_xyz[2]) * (len(self.stack.headers) - 1)

    def facts(self, remark: str) -> SeriesFacts:
        """What a report tells of it."""
        return SeriesFacts(
            series_uid=self.series_uid,
            study_uid=self.first.text(STUDY_UID),
            modality=self.first.modality,
            description=self.first.text(DESCRIPTION),
            images=len(self.headers),
            thickness_mm=self.first.number(THICKNESS),
            kernel=self.first.text(KERNEL).replace("\\", " "),
            remark=remark,
        )

    def details(self) -> dict[str, Any]:
        """What a person chooses by, beside its facts; plain values, None for what is not told."""
        columns, rows, _ = self.first.size_xyz
        return {
            "number": self.first.number(SERIES_NUMBER),
            "image_type": list(self.first.image_type),
            "body_part": self.first.text(BODY_PART),
            "plane": self.plane or None,
            "rows_columns": [rows, columns],
            "pixel_mm": self.stack and self.stack.geometry.spacing_xyz[:2].tolist(),
            "apart_mm": self.stack and round(float(self.stack.geometry.spacing_xyz[2]), 4),
            "length_mm": self.stack and round(self.extent_mm, 1),
        }


def group_series(folder: Path, headers: Sequence[Header], damaged: Sequence[Damaged]) -> list[FoundSeries]:
    """The series that images are of, in the order in which they were found; pixels of doubles are decoded.

    Patients are told apart first: careless software gives the series of several the same uid.
    """
    groups: dict[tuple[str, Patient], list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series_uid, header.patient].append(header)
    broken = {d.series_uid: d.path for d in reversed(damaged)}
    return [_examine(folder, uid, group, broken.get(uid)) for (uid, _), group in groups.items()]


def _examine(folder: Path, uid: str, headers: Sequence[Header], broken: Path | None) -> FoundSeries:
    try:
        _check_kind(folder, headers)
        if broken is not None:
            raise unreadable(broken)
        return FoundSeries(uid, tuple(headers), make_stack(folder, headers))
    except LunaError as error:
        return FoundSeries(uid, tuple(headers), error, _fault_of(folder, error))


def _fault_of(folder: Path, error: LunaError) -> str:
    text = str(error).removeprefix(f"{folder}: ").replace(f"{folder}{os.sep}", "")
    return text.partition("; expected")[0]


def unreadable(path: Path) -> LunaError:
    """The error of a CT image that is damaged."""
    return LunaError(f"{path}: a CT image that cannot be read; expected it whole")


def _check_kind(folder: Path, headers: Sequence[Header]) -> None:
    modality = headers[0].modality
    if modality != "CT":
        raise LunaError(f"{folder}: images of modality {modality or 'unknown'}; expected CT")
    if all(h.is_localizer for h in headers):
        raise LunaError(f"{folder}: a localizer; expected a CT series of slices")
    if not any(h.text(POSITION) for h in headers):
        raise LunaError(f"{folder}: images without a place in the patient; expected a CT series of slices")
