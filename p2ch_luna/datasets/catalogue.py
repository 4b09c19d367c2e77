"""Which scans there are: LUNA16 as it is downloaded, zipped or not, or any other folder of scans."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath

from p2ch_luna.datasets.sources import ScanSource
from p2ch_luna.errors import LunaError
from p2ch_luna.io.names import LUNG_MASKS, READABLE, is_hidden, is_scan
from p2ch_luna.io.volumes import series_stem
from p2ch_luna.io.zipped import zip_members

__all__ = [
    "SUBSET_SIZES",
    "Catalogue",
    "LunaLists",
    "Problem",
    "ScanSource",
    "find_lists",
    "index_scans",
    "problem_of",
]

SUBSET_SIZES = (89, 89, 89, 89, 89, 89, 89, 89, 88, 88)  # scans of LUNA16's subsets 0 to 9
MOST_PLACES = 3  # of one scan, in a problem
_SUBSET = re.compile(r"subset(\d)(\.zip)?", re.IGNORECASE)
_LIST_FOLDERS = (  # where the lists lie in LUNA16's folder; a zip is searched by the names of files
    "",
    "evaluationScript/annotations",
    "evaluationScript/evaluationScript/annotations",
    "evaluationScript",
    "candidates_V2",
    "candidates_V2.zip",
    "evaluationScript.zip",
)


@dataclass(frozen=True)
class Problem:
    """Why a scan, or a whole zip, is not used.

    series_uid: empty for a zip.    subset: LUNA16's fold that it belongs to, if any.
    """

    series_uid: str
    where: str
    reason: str
    subset: int | None = None


@dataclass(frozen=True)
class Catalogue:
    """The scans that can be used as far as names and headers tell, by subset and uid; and the others."""

    sources: list[ScanSource]
    problems: list[Problem]


@dataclass(frozen=True)
class LunaLists:
    """LUNA16's tables. One that lies in a zip has a path into that zip (see `io.zipped`)."""

    annotations: Path | None
    excluded: Path | None
    series_uids: Path | None
    candidates: Path | None
    candidates_v2: Path | None


_LIST_NAMES = {
    "annotations": "annotations.csv",
    "excluded": "annotations_excluded.csv",
    "series_uids": "seriesuids.csv",
    "candidates": "candidates.csv",
    "candidates_v2": "candidates_V2.csv",
}


def problem_of(source: ScanSource, error: LunaError) -> Problem:
    """What an error about a scan says, without the name that the row has already."""
    where = str(source.where)
    return Problem(source.series_uid, where, str(error).removeprefix(f"{where}: "), source.subset)


def find_lists(folder: Path) -> LunaLists:
    """LUNA16's lists wherever its download put them. Raises LunaError for a zip that is cut short."""
    return LunaLists(**{f.name: _find_list(folder, _LIST_NAMES[f.name]) for f in fields(LunaLists)})


def _find_list(folder: Path, name: str) -> Path | None:
    for place in (folder / below for below in _LIST_FOLDERS):
        if (place / name).is_file():
            return place / name
        if place.suffix == ".zip" and place.is_file():
            found = sorted(m for m in zip_members(place) if PurePosixPath(m).name == name)
            if found:
                return place / found[0]
    return None


def index_scans(
    paths: Sequence[Path],
    subsets: Collection[int] | None = None,
    listed: Collection[str] | None = None,
) -> Catalogue:
    """Find the scans at and below these paths: scan files, folders of them, LUNA16's folder, its zips.

    Masks and results of this package are none, by their names (see `io.names`).
    subsets: only these of LUNA16's.    listed: LUNA16's scans must be of these. Nothing but names and
    some headers is read. Where a subset is there both unpacked and zipped, each of its scans counts once,
    the unpacked one if that has its data. A uid at two places else is a problem, and used from neither.
    Raises LunaError for a path that is not there or holds no scan.
    """
    found: dict[str, list[ScanSource]] = defaultdict(list)
    sources: list[ScanSource] = []
    problems: list[Problem] = []
    passed_over: list[Path] = []
    for path in paths:
        at_path, unreadable, beside = _scans_at(path)
        passed_over += beside
        if not at_path and not unreadable:
            raise LunaError(f"{path}: no scan there; wanted a file or a folder of {', '.join(READABLE)}")
        problems += [p for p in unreadable if subsets is None or p.subset in subsets]
        for source in at_path:
            found[source.series_uid].append(source)
    for places in found.values():
        if subsets is None or any(s.subset in subsets for s in places):
            chosen = _choose(places, listed)
            if isinstance(chosen, Problem):
                problems.append(chosen)
            else:
                sources.append(chosen)
    if subsets is None:
        problems += _told_of(passed_over, found.values())
    return Catalogue(sorted(sources, key=_order), sorted(problems, key=_order))


def _told_of(passed_over: Sequence[Path], found: Iterable[Sequence[ScanSource]]) -> list[Problem]:
    """One problem for all files that lie beside LUNA16's subsets and have no path of their own."""
    used = {source.path.resolve() for places in found for source in places}
    left = [path for path in passed_over if path.resolve() not in used]
    told = f"lies in no subset of LUNA16 ({len(left)} such files); expected its folder by itself"
    return [Problem("", str(left[0]), told)] if left else []


def _order(item: ScanSource | Problem) -> tuple[int, str]:
    return (99 if item.subset is None else item.subset, item.series_uid)


def _choose(places: Sequence[ScanSource], listed: Collection[str] | None) -> ScanSource | Problem:
    """The one place of a uid that is used, or why none is."""
    places = _rivals(list({(s.path.resolve(), s.member): s for s in places}.values()))
    first = places[0]
    if len(places) > 1:
        where = " and ".join(str(s.where) for s in places[:MOST_PLACES])
        if len(places) > MOST_PLACES:
            where += f" … and {len(places) - MOST_PLACES} more"
        reason = f"the same series uid at {len(places)} places; expected one: none is used"
        return Problem(first.series_uid, where, reason, first.subset)
    if missing := first.missing_data():
        reason = f"its data file {missing!r} is not there; expected it beside the header"
    elif listed is not None and first.subset is not None and first.series_uid not in listed:
        reason = "its series uid is not in LUNA16's list, seriesuids.csv; expected one of those"
    else:
        return first
    return Problem(first.series_uid, str(first.where), reason, first.subset)


def _rivals(places: list[ScanSource]) -> list[ScanSource]:
    """Of a subset that is there both unpacked and zipped, what is unpacked, if that is more than a header."""
    unpacked = [s for s in places if s.member is None]
    zipped = [s for s in places if s.member is not None]
    if not (unpacked and zipped) or len({s.subset for s in places}) > 1 or places[0].subset is None:
        return places
    return [s for s in unpacked if s.missing_data() is None] or zipped


def _scans_at(path: Path) -> tuple[list[ScanSource], list[Problem], list[Path]]:
    """The scans of one path of the user's, zips that cannot be read, files beside LUNA16's subsets."""
    if not path.exists():
        raise LunaError(f"{path}: no such file or folder; wanted a scan or a folder of scans")
    name, parent = path.absolute().name, path.absolute().parent.name
    if path.is_file():
        files = [(path, _subset_of(name, _subset_of(parent)))]
    else:
        files = list(_walk(path, _subset_of(name), set()))
    sources: list[ScanSource] = []
    problems: list[Problem] = []
    beside: list[Path] = []
    if any(subset is not None for _, subset in files):  # LUNA16's folder: what lies beside is no scan of it
        beside = [file for file, subset in files if subset is None]
        files = [(file, subset) for file, subset in files if subset is not None]
    for file, subset in files:
        if not _is_zip(file):
            sources.append(ScanSource(series_stem(file), file, None, subset))
            continue
        try:
            sources += _scans_in_zip(file, subset)
        except LunaError as error:
            problems.append(Problem("", str(file), str(error).removeprefix(f"{file}: "), subset))
    return sources, problems, beside


def _walk(folder: Path, subset: int | None, seen: set[Path]) -> Iterator[tuple[Path, int | None]]:
    """Scan files and subsets' zips at and below a folder, links followed, each with its subset."""
    real = folder.resolve()
    if real in seen or folder.name.startswith(LUNG_MASKS):
        return
    seen.add(real)
    try:
        entries = sorted(p for p in folder.iterdir() if not is_hidden(p.name))
    except OSError as error:
        raise LunaError(f"{folder}: cannot be read: {error.strerror}; expected a folder of scans") from error
    for path in entries:
        own = _subset_of(path.name, subset)
        if path.is_dir():
            yield from _walk(path, own, seen)
        elif is_scan(PurePosixPath(path.name)):
            yield path, subset
        elif _is_zip(path) and _subset_of(path.name) is not None:  # others hold lists, or anything
            yield path, own


def _scans_in_zip(path: Path, subset: int | None) -> list[ScanSource]:
    names = [PurePosixPath(name) for name in zip_members(path)]
    headers = [name for name in names if name.suffix == ".mhd" and is_scan(name)]
    if not headers:
        raise LunaError(f"{path}: no .mhd in it; expected scans as in LUNA16's subset0.zip")
    return [ScanSource(n.stem, path, n.as_posix(), subset) for n in headers]


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _subset_of(name: str, default: int | None = None) -> int | None:
    """The number in the name of one of LUNA16's subsets."""
    match = _SUBSET.fullmatch(name)
    return int(match[1]) if match else default
