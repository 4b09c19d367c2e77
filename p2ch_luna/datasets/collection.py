"""Everything a training may draw from, split by patient."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2ch_luna.datasets.catalogue import LunaLists, ScanSource, find_lists, index_scans
from p2ch_luna.datasets.cubes import cubes_within
from p2ch_luna.datasets.implant import Implantable, make_implantable
from p2ch_luna.datasets.scans import LabelledScan, load_scan
from p2ch_luna.datasets.splits import N_FOLDS, Folds, check_no_leak, fold_of
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, crop_start
from p2ch_luna.io import read_nodules, read_series_uids
from p2ch_luna.io.candidate_table import CandidateTable, join_tables, read_candidate_table
from p2ch_luna.io.lidc import LidcNodule, NoduleCrop, load_crop, load_cube, read_lidc_nodules
from p2ch_luna.io.lidc_tables import LidcTables, load_lidc_tables
from p2ch_luna.io.scan_cache import ScanCache

CUT_MARGIN = 6  # voxels kept round a nodule that is cut out of its scan to be implanted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Where the data lie; an absent source is empty or None."""

    luna16: Path | None  # LUNA16's folder: subsets and lists
    scans: Sequence[Path]  # other annotated scans: each is on the side of its patient
    annotations: Path | None  # of `scans`
    excluded: Path | None  # of `scans` and `hosts`
    candidates: Sequence[Path]  # places that are nodules and places that are none
    hosts: Sequence[Path]  # scans whose nodules are not known: backgrounds in training
    validation_hosts: Sequence[Path]  # the same in validation
    lidc: Path | None  # folder of nodules.csv and voi/
    cubes: Path | None  # folder of cubes
    cube_patients: Path | None  # table of the patients that a cube may be of


@dataclass(frozen=True)
class Known:
    """The scans that there are, and all that the tables say."""

    scans: list[ScanSource]  # annotated
    hosts: list[ScanSource]
    validation_hosts: list[ScanSource]
    nodules: Mapping[str, Sequence[Nodule]]  # by series uid
    unsure: Mapping[str, Sequence[Nodule]]
    candidates: CandidateTable
    lidc: LidcTables
    crops: list[LidcNodule]
    folds: Folds

    def patient_of(self, series_uid: str) -> str:
        """The patient, from LIDC's tables; the uid itself where nobody knows."""
        return self.lidc.patient_of(series_uid) or series_uid

    def fold_of(self, scan: ScanSource) -> int:
        """LUNA16's subset, or that which the patient's id decides."""
        return fold_of(self.patient_of(scan.series_uid)) if scan.subset is None else scan.subset


@dataclass(frozen=True, eq=False)
class Share:
    """What one side of a split may use."""

    scans: list[LabelledScan]  # annotated
    hosts: list[LabelledScan]  # backgrounds
    nodules: list[Implantable]
    cubes: list[NoduleCrop]
    candidates: CandidateTable
    patients: frozenset[str]  # of the scans, nodules and cubes, and of hosts with nodules of their own


def read_known(sources: Sources) -> Known:
    """Index the annotated scans and read all tables; no scan is opened.

    A scan that cannot be used is told in the log. Raises LunaError where a list is missing, or no
    annotated nodule is of any scan.
    """
    lists = find_lists(sources.luna16) if sources.luna16 else None
    scans = _annotated_scans(sources, lists)
    hosts, validation_hosts = _hosts(sources.hosts), _hosts(sources.validation_hosts)
    nodules = _nodules_of(sources, lists, [*scans, *hosts, *validation_hosts])
    unsure = _read_all(lists.excluded if lists else None, sources.excluded)
    lidc = load_lidc_tables()
    patients = ((lidc.patient_of(s.series_uid) or s.series_uid, s.subset) for s in scans)
    return Known(
        scans,
        hosts,
        validation_hosts,
        _by_series(nodules),
        _by_series(unsure),
        join_tables(read_candidate_table(path) for path in _candidate_tables(sources, lists)),
        lidc,
        read_lidc_nodules(sources.lidc) if sources.lidc else [],
        Folds.by_subset(patients),
    )


def _annotated_scans(sources: Sources, lists: LunaLists | None) -> list[ScanSource]:
    """LUNA16's and the others; a scan that is at two places is used from neither."""
    paths = [*([sources.luna16] if sources.luna16 else []), *sources.scans]
    if not paths:
        return []
    listed = read_series_uids(lists.series_uids) if lists and lists.series_uids else None
    catalogue = index_scans(paths, listed=listed)
    for problem in catalogue.problems:
        log.warning("%s: %s; not used", problem.where, problem.reason)
    return catalogue.sources


def _hosts(paths: Sequence[Path]) -> list[ScanSource]:
    """Backgrounds, each named by a person: one that cannot be used is an error."""
    if not paths:
        return []
    catalogue = index_scans(paths)
    for problem in catalogue.problems:
        raise LunaError(f"{problem.where}: {problem.reason}")
    return catalogue.sources


def _nodules_of(sources: Sources, lists: LunaLists | None, scans: Sequence[ScanSource]) -> list[Nodule]:
    """The annotated nodules; those of LUNA16's subsets that are not there are passed over."""
    if sources.luna16 and (lists is None or lists.annotations is None):
        raise LunaError(f"{sources.luna16}: no annotations.csv there; wanted LUNA16's list of nodules")
    if lists and lists.excluded is None:
        log.warning(
            "%s: no annotations_excluded.csv there: doubtful findings count as background", sources.luna16
        )
    nodules = _read_all(lists.annotations if lists else None, sources.annotations)
    check_annotations(lists.annotations if lists else sources.annotations, nodules, scans)
    return nodules


def _read_all(*tables: Path | None) -> list[Nodule]:
    return [nodule for path in tables if path is not None for nodule in read_nodules(path)]


def _candidate_tables(sources: Sources, lists: LunaLists | None) -> list[Path]:
    """LUNA16's own (the second version, if both are there), then those named."""
    own = (lists.candidates_v2 or lists.candidates) if lists else None
    return [*([own] if own else []), *sources.candidates]


def check_annotations(
    source: Path | str | None, nodules: Sequence[Nodule], scans: Sequence[ScanSource]
) -> None:
    """Raise LunaError where no nodule is of any scan: other ids would turn all of them into background."""
    uids = [scan.series_uid for scan in scans]
    if nodules and not {nodule.series_uid for nodule in nodules} & set(uids):
        here = uids[0] if uids else "none"
        raise LunaError(
            f"{source}: its nodules are of no scan here, the first of {nodules[0].series_uid}; "
            f"wanted those of the scans, the first of which is {here}"
        )


def load_share(
    known: Known,
    sources: Sources,
    folds: Collection[int],
    cache: ScanCache,
    on_item: Callable[[str], None] = lambda _: None,
    *,
    trains: bool,
) -> Share:
    """Load what patients of these folds own, and the hosts; `on_item` hears of each item loaded.

    A patient with scans in several of LUNA16's subsets (LIDC-IDRI-0332) `trains` only if all of them are
    in these folds. A scan that cannot be used is told in the log and left out.
    """
    scans = _usable(known, scans_in(known, folds, trains=trains), cache, on_item)
    hosts = []
    for host in known.hosts if trains else known.validation_hosts:
        hosts.append(_load(known, host, cache))
        on_item(host.path.name)
    if not scans and not hosts:
        raise LunaError(
            f"no scan in folds {sorted(folds)}: wanted data.luna16, data.scans or data.hosts of these"
        )
    crops = [crop for crop in known.crops if known.folds.are_within(crop.patient_id, folds)]
    nodules = []
    for crop in crops:
        nodules.append(make_implantable(load_crop(crop)))
        on_item(crop.name)
    cubes = cubes_within(sources.cubes, sources.cube_patients, known.folds, folds) if sources.cubes else []
    return Share(
        scans,
        hosts,
        nodules or cut_out(scans),
        [load_cube(path) for path, _ in cubes],
        known.candidates.of_series({scan.series_uid for scan in [*scans, *hosts]}),
        _patients(known, scans, hosts) | {c.patient_id for c in crops} | {p for _, ps in cubes for p in ps},
    )


def scans_in(known: Known, folds: Collection[int], *, trains: bool) -> list[ScanSource]:
    """The annotated scans of these folds, less those of patients who are in another too, if it `trains`."""
    others = set(range(N_FOLDS)) - set(folds) if trains else set()
    own = [scan for scan in known.scans if known.fold_of(scan) in folds]
    return [s for s in own if not known.folds.subsets.get(known.patient_of(s.series_uid), set()) & others]


def _patients(known: Known, scans: Sequence[LabelledScan], hosts: Sequence[LabelledScan]) -> frozenset[str]:
    """Of the scans, and of the hosts that bring nodules of their own."""
    return frozenset(
        known.patient_of(scan.series_uid) for scan in [*scans, *(host for host in hosts if host.nodules)]
    )


def check_sides(known: Known, train: Share, validation: Share) -> None:
    """Raise LunaError where a patient is on both sides of a split.

    A host without annotated nodules may be the background of both, where nodules of other patients are set
    in: then these are unseen, and it is not.
    """
    backgrounds = [{known.patient_of(host.series_uid) for host in side.hosts} for side in (train, validation)]
    check_no_leak(train.patients | backgrounds[0], validation.patients)
    check_no_leak(train.patients, validation.patients | backgrounds[1])


def _usable(
    known: Known, sources: Iterable[ScanSource], cache: ScanCache, on_item: Callable[[str], None]
) -> list[LabelledScan]:
    """The scans that can be read: among hundreds one that cannot is no reason to stop."""
    scans = []
    for source in sources:
        try:
            scans.append(_load(known, source, cache))
        except LunaError as error:
            log.warning("%s; not used", error)
        on_item(source.path.name)
    return scans


def _load(known: Known, source: ScanSource, cache: ScanCache) -> LabelledScan:
    uid = source.series_uid
    return load_scan(source, cache, known.nodules.get(uid, ()), known.unsure.get(uid, ()), known.lidc)


def cut_out(scans: Sequence[LabelledScan]) -> list[Implantable]:
    """The scans' own nodules, to be set into other places; a ball where no reader's outline is known."""
    found = []
    for scan in scans:
        for number, nodule in enumerate(scan.nodules, start=1):
            side = 2 * (int(np.ceil(nodule.reach_irc.max())) + CUT_MARGIN) + 1
            shape, name = (side, side, side), f"{scan.series_uid}-{number}"
            mask = scan.paint((nodule,), nodule.center_irc, shape) > 0
            if not mask.any():
                continue  # an outline smaller than a voxel
            hu, start = scan.crop_hu(nodule.center_irc, shape), crop_start(nodule.center_irc, shape)
            ct = CtVolume(name, hu, scan.geometry.moved_to(start))
            found.append(make_implantable(NoduleCrop(name, ct, mask, nodule.diameter_mm, nodule.malignancy)))
    return found


def _by_series(nodules: Iterable[Nodule]) -> Mapping[str, Sequence[Nodule]]:
    found = defaultdict(list)
    for nodule in nodules:
        found[nodule.series_uid].append(nodule)
    return found
