"""Which CT series lie below a folder, by one header a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from p2ch_luna.io.dicom_headers import Header, read_header


def find_series(folder: Path) -> dict[str, Path]:
    """Series uid -> folder, of every folder at and below this one whose first DICOM image is of a CT.

    What else lies there is told by `read_series`.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # of files that are no DICOM
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        uid = _first_ct([Path(parent, name) for name in sorted(names)])
        if uid:
            found.setdefault(uid, Path(parent))
    return found


def _first_ct(files: Sequence[Path]) -> str | None:
    """The series uid of the first DICOM image, if it is of a CT."""
    for path in files:
        header = read_header(path)
        if isinstance(header, Header):
            return header.series_uid if header.modality == "CT" else None
    return None
