"""Which scans lie at and below a folder: volume files, zips, studies of DICOM; by names and few headers.

What counts as a scan is the same for `read_ct`, `luna diagnose`, `luna info` and training: see `io.names`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import SimpleITK as sitk  # noqa: N813

from p2ch_luna.errors import LunaError
from p2ch_luna.io.checks import MIN_VOXELS
from p2ch_luna.io.dicom_headers import (
    MODALITY,
    SERIES_UID,
    STUDY_UID,
    Damaged,
    Header,
    holds_ct,
    read_header,
)
from p2ch_luna.io.names import (
    LUNG_MASKS,
    is_hidden,
    is_mask,
    is_ours,
    is_scan,
    is_volume,
    itk_name,
    printable,
    stem_of,
)
from p2ch_luna.io.unpack import unpacked
from p2ch_luna.io.whole import check_stays_beside
from p2ch_luna.io.zipped import zip_members

MOST_CHARACTERS = 100  # of a name
_TAKEN = {"summary.csv", "detections.csv", "seriesuids.csv"}  # lie beside the folders of many diagnoses
_NO_DICOM = (".csv", ".json", ".txt", ".xml", ".html", ".md", ".pdf", ".png", ".jpg", ".raw", ".zraw", ".npy")
_DERIVED = {"SEG", "SR", "PR", "KO", "REG", "RTSTRUCT", "RTDOSE", "RTPLAN"}  # modalities of no scanner

Study = tuple[str, ...]  # what tells studies apart

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundScan:
    """A scan that was found and not opened yet.

    name: unique among those found with it, fit to be a folder's; from paths alone, so another where a second
    scan has come that would have the same.
    path: what `open_scan` takes.    member: of a zip of several volumes, the one that is meant.
    """

    name: str
    path: Path
    member: str | None = None

    @property
    def where(self) -> str:
        """Its place in messages: `subset1.zip: subset1/1.2.3.mhd`."""
        place = printable(self.path)
        return place if self.member is None else f"{place}: {self.member}"


@dataclass
class _Folder:
    """What lies in a folder.

    study: of the DICOM files in the folder itself.    loose: how many files may be of that.
    files: volumes and zips, with the member of the zip.
    """

    path: Path
    study: Study | None = None
    loose: int = 0
    files: list[tuple[Path, str | None]] = field(default_factory=list)
    below: list[_Folder] = field(default_factory=list)

    def studies(self) -> set[Study]:
        """Of all DICOM in it and below it."""
        own = set() if self.study is None else {self.study}
        return own.union(*(folder.studies() for folder in self.below))

    def has_files(self) -> bool:
        """Whether a volume or a zip is in it or below it."""
        return bool(self.files) or any(folder.has_files() for folder in self.below)


def find_scans(path: Path, besides: Path | None = None, *, tell: bool = True) -> list[FoundScan]:
    """The scans at and below a path, by name: volume files, zips, and a folder for each study of DICOM.

    A study is the topmost folder that holds nothing else; a folder with slices of several studies is one
    scan, of which `open_scan` decides. A zip of several volumes is as many scans. Masks, results of this
    package and `besides` are passed over. One DICOM header a folder is read. A path that is no folder is one
    scan, whatever it is; a folder may hold none. tell: log what is passed over that might be missed.
    Raises LunaError for a folder that cannot be read.
    """
    if not path.is_dir():
        is_zip = path.suffix.lower() == ".zip"
        return _named(path.parent, (_members(path) if is_zip else []) or [(path, None)])
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # of files that are no DICOM
    seen = set() if besides is None else {besides.resolve()}
    masks: list[Path] = []
    told: list[str] = []
    places = list(_scans_of(_look(path, seen, masks), told))
    if masks:
        told.append(f"{path}: passed over as masks, by their names, {len(masks)} in all: {masks[0]}")
    if tell:
        for line in told:
            log.warning("%s", line)
    return _named(path, places)


@contextmanager
def on_disk(scan: FoundScan) -> Iterator[Path]:
    """A path for `open_scan`: the scan's own, or for the block a copy of what is meant in a zip.

    Raises LunaError as `unpacked` does, of the volume alone, and for what ITK cannot open by its name.
    """
    itk_name(scan.path)
    if scan.member is None:
        yield scan.path
        return
    with unpacked(scan.path, _parts(scan.path, PurePosixPath(scan.member))) as folder:
        check_stays_beside(folder / scan.member)
        yield folder / scan.member


def _parts(path: Path, volume: PurePosixPath) -> list[str]:
    """A volume, and what lies beside it in the zip under the same name, as the data of a .mhd do."""
    members = {name: PurePosixPath(name) for name in zip_members(path)}
    start = f"{stem_of(volume.name)}."
    return [
        name
        for name, member in members.items()
        if member.parent == volume.parent and member.name.startswith(start)
    ]


def _look(folder: Path, seen: set[Path], masks: list[Path]) -> _Folder:
    """All that is in and below a folder, links followed, each folder once."""
    found = _Folder(folder)
    seen.add(folder.resolve())
    try:
        with os.scandir(folder) as entries:
            listed = sorted((e.name, e.is_dir()) for e in entries if not is_hidden(e.name))
    except OSError as error:
        raise LunaError(f"{folder}: cannot be read: {error.strerror}; expected a folder of scans") from error
    names = [name for name, is_folder in listed if not is_folder and not is_ours(name)]
    others = _take_files(found, names, masks)
    found.loose, found.study = len(others), _study_of(folder, others)
    for name in (name for name, is_folder in listed if is_folder):
        below = folder / name
        if not name.startswith(LUNG_MASKS) and below.resolve() not in seen:
            found.below.append(_look(below, seen, masks))
    return found


def _take_files(found: _Folder, names: Sequence[str], masks: list[Path]) -> list[str]:
    """Note the volumes, zips and masks of a folder; the names that are left may be of DICOM files."""
    others = []
    for name in names:
        path, lower = found.path / name, name.lower()
        if is_volume(name) and is_mask(name):
            masks.append(path)
        elif is_volume(name):
            found.files.append((path, None))
        elif lower.endswith(".zip"):
            found.files += _members(path)
        elif not lower.endswith(_NO_DICOM):
            others.append(name)
    return others


def _members(path: Path) -> list[tuple[Path, str | None]]:
    """A zip as a whole, each volume in it if there are several, or none if it holds but tables and the like.

    Of a damaged one `open_scan` tells.
    """
    try:
        names = [PurePosixPath(name) for name in zip_members(path)]
    except (LunaError, OSError):
        return [(path, None)]
    volumes = sorted(name.as_posix() for name in names if is_scan(name))
    if len(volumes) > 1:
        return [(path, name) for name in volumes]
    may_hold_one = volumes or not names or any(map(_may_be_slice, names))
    return [(path, None)] if may_hold_one else []


def _may_be_slice(name: PurePosixPath) -> bool:
    """Whether a file in a zip may be of DICOM."""
    is_other = is_volume(name.name) or name.name.lower().endswith((*_NO_DICOM, ".zip"))
    return not is_other and not is_ours(name.name) and not any(map(is_hidden, name.parts))


def _study_of(folder: Path, names: Sequence[str]) -> Study | None:
    """Patient and study of the first whole DICOM image in a folder that a scanner made."""
    damaged: Study | None = None
    for name in names:
        try:
            header = read_header(folder / name)
        except LunaError:
            return (str(folder),)  # not to be opened, which `open_scan` tells
        if isinstance(header, Header) and header.text(MODALITY) not in _DERIVED:
            return *header.patient, header.text(STUDY_UID) or header.text(SERIES_UID)
        if isinstance(header, Damaged) and damaged is None:
            damaged = (header.series_uid or str(folder),)
    return damaged


def _scans_of(
    folder: _Folder, told: list[str], is_covered: bool = False
) -> Iterator[tuple[Path, str | None]]:
    """Paths and members; what is passed over goes to `told`. is_covered: DICOM is part of a scan above."""
    yield from folder.files
    n_studies = 0 if is_covered else len(folder.studies())
    if n_studies == 1 and (folder.study or not folder.has_files()):
        is_covered = True
        if not folder.has_files() or holds_ct(folder.path):
            yield folder.path, None
        else:
            told.append(f"{folder.path}: DICOM images beside a volume are passed over: none is of a CT")
    elif n_studies > 1 and folder.study:
        is_covered = folder.loose >= MIN_VOXELS
        if is_covered:
            yield folder.path, None
        else:
            told.append(
                f"{folder.path}: too few files for a scan, beside folders of other studies, are passed over: "
                f"{folder.loose}"
            )
    for below in folder.below:
        yield from _scans_of(below, told, is_covered)


def _named(root: Path, places: Sequence[tuple[Path, str | None]]) -> list[FoundScan]:
    """Give each scan its name: where it lies below `root`, and more where two would have the same."""
    texts = [_plain_name(root, path, member) for path, member in places]
    counts = Counter(text.lower() for text in texts)
    found = []
    for text, (path, member) in zip(texts, places, strict=True):
        name = text
        if counts[text.lower()] > 1 or text.lower() in _TAKEN or len(text) > MOST_CHARACTERS:
            whole = f"{path.relative_to(root).as_posix()}\n{member or ''}"
            digest = hashlib.blake2b(os.fsencode(whole), digest_size=4).hexdigest()
            name = f"{text[: MOST_CHARACTERS - 9]}-{digest}"
        found.append(FoundScan(name, path, member))
    return sorted(found, key=lambda scan: scan.name)


def _plain_name(root: Path, path: Path, member: str | None) -> str:
    """`patient1_ct` of root/patient1/ct.nii.gz."""
    below = PurePosixPath(path.relative_to(root).as_posix())
    parts = [*below.parts, *PurePosixPath(member or "").parts] or [root.resolve().name]
    if path.suffix.lower() == ".zip" and path.is_file():
        parts[len(below.parts) - 1] = below.stem
    if is_volume(parts[-1]) and not path.is_dir():
        parts[-1] = stem_of(parts[-1])
    return re.sub(r"[^A-Za-z0-9.-]+", "_", "_".join(parts)).strip("._") or "scan"
