"""Everything a training may draw from, split by patient."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2ch_luna.datasets.implant import Implantable, make_implantable
from p2ch_luna.datasets.scans import LabelledScan, find_scans, load_labelled
from p2ch_luna.datasets.splits import fold_of, in_folds
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io import read_nodules
from p2ch_luna.io.lidc import LidcNodule, NoduleCrop, load_crop, load_cube, read_lidc_nodules
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.io.volumes import series_stem

CUBE_COLUMNS = ("cube", "first_patient", "last_patient")


@dataclass(frozen=True, eq=False)
class Share:
    """What one side of a split may use."""

    scans: list[LabelledScan]
    nodules: list[Implantable]
    cubes: list[NoduleCrop]
    patients: list[str]  # of the nodules and cubes, and the series uids of the scans


@dataclass(frozen=True)
class Sources:
    """Where the data lie; an absent source is empty or None."""

    lidc: Path | None  # folder of nodules.csv and voi/
    cubes: Path | None  # folder of cubes
    cube_patients: Path | None  # table of the patients that a cube may be of
    hosts: Sequence[Path]  # scans whose nodules are not known: backgrounds of this side of a split
    scans: Sequence[Path]  # annotated scans: each is on the side of its patient
    annotations: Path | None
    excluded: Path | None


def load_share(
    sources: Sources,
    folds: Collection[int],
    cache: ScanCache | None = None,
    on_item: Callable[[str], None] = lambda _: None,
) -> Share:
    """Load what patients of these folds own, and all of the hosts; `on_item` hears of each item loaded."""
    hosts, scans = find_scans(sources.hosts), find_scans(sources.scans)
    truth = read_nodules(sources.annotations) if sources.annotations else []
    check_annotations(sources.annotations, truth, [*hosts, *scans])
    table = read_lidc_nodules(sources.lidc) if sources.lidc else []
    own = in_folds(table, folds)
    nodules = []
    for row in own:
        nodules.append(make_implantable(load_crop(row)))
        on_item(row.name)
    cubes = cubes_of_folds(sources.cubes, sources.cube_patients, folds) if sources.cubes else []
    labelled = load_labelled(
        [*hosts, *(path for path in scans if scan_fold(path, table) in folds)],
        _by_series(truth),
        _by_series(read_nodules(sources.excluded) if sources.excluded else []),
        cache,
        lambda path: on_item(path.name),
    )
    if not labelled:
        raise LunaError(f"no scan in folds {sorted(folds)}: wanted data.hosts or data.scans of these folds")
    patients = {row.patient_id for row in own} | {p for _, ps in cubes for p in ps}
    patients |= {s.series_uid for s in labelled}
    return Share(labelled, nodules, [load_cube(path) for path, _ in cubes], sorted(patients))


def check_annotations(source: Path | str | None, nodules: Sequence[Nodule], scans: Sequence[Path]) -> None:
    """Raise LunaError where no nodule is of any scan: other ids would turn all of them into background."""
    uids = [series_stem(path) for path in scans]
    if nodules and not {nodule.series_uid for nodule in nodules} & set(uids):
        here = uids[0] if uids else "none"
        raise LunaError(
            f"{source}: its nodules are of no scan here, the first of {nodules[0].series_uid}; "
            f"wanted those of the scans, the first of which is {here}"
        )


def scan_fold(path: Path, table: Sequence[LidcNodule]) -> int:
    """The fold of an annotated scan: its patient's if the table knows it, else that of its series uid."""
    uid = series_stem(path)
    patient = next((row.patient_id for row in table if row.series_uid == uid), uid)
    return fold_of(patient)


def cubes_of_folds(
    folder: Path, table_path: Path | None, folds: Collection[int]
) -> list[tuple[Path, list[str]]]:
    """The cubes that can only be of patients of these folds, each with the patients it may be of.

    The table gives, for each cube, the first and last patient of LIDC-IDRI whom it may show; a cube of
    which only one of them belongs to other folds is left out.
    """
    if table_path is None:
        raise LunaError(f"{folder}: whose cubes? wanted data.cube_patients beside data.cubes")
    return [
        (folder / f"{cube}.nii.gz", patients)
        for cube, patients in _read_cube_patients(table_path)
        if all(fold_of(patient) in folds for patient in patients)
    ]


def _read_cube_patients(path: Path) -> list[tuple[str, list[str]]]:
    """The cubes and whom each may show; a cube that may show nobody is an error."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in CUBE_COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise LunaError(f"{path}: no column {missing[0]!r}; found {reader.fieldnames}")
            return [(row["cube"], _patients(row["first_patient"], row["last_patient"])) for row in reader]
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; wanted a table of the cubes' patients") from error
    except ValueError as error:
        raise LunaError(f"{path}, line {reader.line_num}: {error}") from error


def _patients(first: str | None, last: str | None) -> list[str]:
    """All from first to last, as LIDC-IDRI numbers them."""
    numbers = [(text or "").removeprefix("LIDC-IDRI-") for text in (first, last)]
    if not all(n.isdecimal() for n in numbers) or int(numbers[0]) > int(numbers[1]):
        raise ValueError(f"patients {first} to {last}; wanted e.g. LIDC-IDRI-0001 to LIDC-IDRI-0004")
    return [f"LIDC-IDRI-{n:04d}" for n in range(int(numbers[0]), int(numbers[1]) + 1)]


def _by_series(nodules: Iterable[Nodule]) -> Mapping[str, Sequence[Nodule]]:
    found = defaultdict(list)
    for nodule in nodules:
        found[nodule.series_uid].append(nodule)
    return found
