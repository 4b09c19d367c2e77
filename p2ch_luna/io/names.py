"""What the name of a file says: a volume, a mask, a result of this package; and all files below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from p2ch_luna.errors import LunaError

READABLE = (".mhd", ".mha", ".nii.gz", ".nii", ".nrrd", ".nhdr")
LABELS_NAME = "nodules.nii.gz"  # that a diagnosis, a phantom or an implant puts beside a scan
LUNGS_NAME = "lungs.nii.gz"  # the CT inside the lungs, for comparison with a later one
SEGMENTATION_NAME, STRUCTURED_REPORT_NAME = "nodules.seg.dcm", "nodules.sr.dcm"
LUNG_MASKS = "seg-lungs"  # begins the name of LUNA16's folder of lung masks, which are named as the scans
_OURS = frozenset({LABELS_NAME, LUNGS_NAME, SEGMENTATION_NAME, STRUCTURED_REPORT_NAME})
_HIDDEN = (".", "__MACOSX")  # begin names that a system made
_MASK = re.compile(r"(.*[-_. ])?(masks?|seg|segmentations?|labels?|nodules?)", re.IGNORECASE)


def is_hidden(name: str) -> bool:
    """Whether a system made a file or folder of this name, or somebody hid it."""
    return name.startswith(_HIDDEN)


def is_ours(name: str) -> bool:
    """Whether this package writes images under this name; they are no scans, wherever they lie."""
    return name in _OURS


def is_volume(name: str) -> bool:
    """Whether a name ends as that of a volume file, be it a scan or not."""
    return name.lower().endswith(READABLE)


def is_mask(name: str) -> bool:
    """Whether a volume file is called a mask: `ct_mask.nii.gz`, `lung1-nodule.nrrd`, `seg.nii`."""
    return _MASK.fullmatch(stem_of(name)) is not None


def is_scan(path: PurePath) -> bool:
    """Whether a volume file that was come across counts as a scan; path: relative to where one looked.

    One that is named by its own path is a scan whatever it is called.
    """
    if any(is_hidden(part) or part.startswith(LUNG_MASKS) for part in path.parts):
        return False
    return is_volume(path.name) and not is_ours(path.name) and not is_mask(path.name)


def stem_of(name: str) -> str:
    """The name of a volume file without its suffix; only that goes, for a series uid is full of dots."""
    return name[: -len(next(suffix for suffix in READABLE if name.lower().endswith(suffix)))]


def files_below(folder: Path) -> Iterator[Path]:
    """All files at and below a folder in the order of their names, links followed, each folder once.

    Links to nowhere, devices and images that this package wrote are left out.
    """
    seen = {folder.resolve()}
    for parent, folders, names in os.walk(folder, followlinks=True):
        below = {Path(parent, name).resolve(): name for name in sorted(folders, reverse=True)}
        folders[:] = sorted(name for real, name in below.items() if real not in seen)
        seen.update(below)
        paths = (Path(parent, name) for name in sorted(names) if not is_ours(name))
        yield from (path for path in paths if path.is_file())


def itk_name(path: Path) -> str:
    """A path as ITK takes it. Raises LunaError where it is not UTF-8, of which ITK would end the process."""
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise LunaError(f"{printable(path)}: its name is not UTF-8; expected another: rename it") from error
    return name


def printable(path: PurePath) -> str:
    """A path for people and tables: bytes that are not UTF-8 as `\\xf6`."""
    return os.fsencode(path).decode(errors="backslashreplace")
