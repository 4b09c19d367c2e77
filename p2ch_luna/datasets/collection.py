"""Everything a training may draw from, split by patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from p2ch_luna.datasets.implant import Implantable, make_implantable
from p2ch_luna.datasets.scans import LabelledScan, find_scans, load_labelled
from p2ch_luna.datasets.splits import fold_of, in_folds
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io import read_nodules
from p2ch_luna.io.lidc import LidcNodule, NoduleCrop, load_crop, load_cube, read_lidc_nodules
from p2ch_luna.io.scan_cache import ScanCache


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
    table = read_lidc_nodules(sources.lidc) if sources.lidc else []
    own = in_folds(table, folds)
    nodules = []
    for row in own:
        nodules.append(make_implantable(load_crop(row)))
        on_item(row.name)
    cubes = cubes_of_folds(sources.cubes, sources.cube_patients, folds) if sources.cubes else []
    annotated = [p for p in find_scans(sources.scans) if scan_fold(p, table) in folds]
    scans = load_labelled(
        [*find_scans(sources.hosts), *annotated],
        _by_series(sources.annotations),
        _by_series(sources.excluded),
        cache,
        lambda path: on_item(path.name),
    )
    if not scans:
        raise LunaError(f"no scan in folds {sorted(folds)}: wanted data.hosts or data.scans of these folds")
    patients = {row.patient_id for row in own} | {p for _, ps in cubes for p in ps}
    patients |= {s.series_uid for s in scans}
    return Share(scans, nodules, [load_cube(path) for path, _ in cubes], sorted(patients))


def scan_fold(path: Path, table: Sequence[LidcNodule]) -> int:
    """The fold of an annotated scan: its patient's if the table knows it, else that of its series uid."""
    uid = path.name.split(".nii")[0].removesuffix(".mhd").removesuffix(".mha").removesuffix(".nrrd")
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
    try:
        table = pd.read_csv(table_path, dtype=str)
    except OSError as error:
        raise LunaError(f"{table_path}: {error.strerror}; wanted a table of the cubes' patients") from error
    found = []
    for row in table.itertuples(index=False):
        first, last = (int(str(p).rpartition("-")[2]) for p in (row.first_patient, row.last_patient))
        patients = [f"LIDC-IDRI-{n:04d}" for n in range(first, last + 1)]
        if all(fold_of(p) in folds for p in patients):
            found.append((folder / f"{row.cube}.nii.gz", patients))
    return found


def _by_series(csv: Path | None) -> Mapping[str, Sequence[Nodule]]:
    found = defaultdict(list)
    for nodule in read_nodules(csv) if csv else []:
        found[nodule.series_uid].append(nodule)
    return found
