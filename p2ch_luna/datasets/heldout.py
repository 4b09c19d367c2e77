"""Cross-validation: in each fold's turn its scans are held out and the other folds train."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from p2ch_luna.datasets.collection import Known, scans_in
from p2ch_luna.datasets.fold_check import count_in
from p2ch_luna.datasets.sources import ScanSource
from p2ch_luna.datasets.splits import check_no_leak
from p2ch_luna.errors import LunaError


def train_folds(folds: Sequence[int], fold: int) -> list[int]:
    """The folds that train while `fold` is held out."""
    return [other for other in folds if other != fold]


def held_out(known: Known, fold: int) -> list[ScanSource]:
    """The annotated scans of a fold, also those without a nodule: each scan is of exactly one."""
    return scans_in(known, [fold], trains=False)


def trainers(known: Known, folds: Sequence[int], fold: int) -> list[ScanSource]:
    """The annotated scans that train while `fold` is held out: none of a patient with a scan in it."""
    return scans_in(known, train_folds(folds, fold), trains=True)


def patients_of(known: Known, scans: Collection[ScanSource]) -> set[str]:
    """Whose scans these are."""
    return {known.patient_of(scan.series_uid) for scan in scans}


def check_folds_apart(known: Known, folds: Sequence[int]) -> None:
    """Raise LunaError where these folds are no cross-validation; no scan is opened.

    Each fold needs a scan to be judged by, and nobody who is held out may train in that turn. A patient
    whose scans are in two folds, as LIDC-IDRI-0332's in LUNA16's subsets 2 and 6, trains in neither's turn.
    """
    if len(set(folds)) < 2:
        raise LunaError(f"--folds: {', '.join(map(str, folds))} alone; wanted two folds or more")
    there = sorted({known.fold_of(scan) for scan in known.scans})
    for fold in folds:
        if not count_in(known, [fold]).scans:
            named = ", ".join(map(str, there)) or "none"
            raise LunaError(
                f"--folds: fold {fold} has no annotated scan; folds with scans: {named}; "
                "wanted data.luna16, or data.scans and data.annotations, with scans of each fold"
            )
        train = _taught(known, train_folds(folds, fold), trainers(known, folds, fold))
        try:
            check_no_leak(train, patients_of(known, held_out(known, fold)))
        except LunaError as error:
            raise LunaError(f"--folds: while fold {fold} is held out {error}") from error


def in_several(known: Known, folds: Sequence[int]) -> list[str]:
    """The patients with held-out scans in more than one of these folds."""
    owners = [patients_of(known, held_out(known, fold)) for fold in folds]
    return sorted({p for k, own in enumerate(owners) for other in owners[:k] for p in own & other})


def _taught(known: Known, folds: Collection[int], scans: Collection[ScanSource]) -> set[str]:
    """Of the scans that train, LIDC's nodules and the backgrounds."""
    crops = {crop.patient_id for crop in known.crops if known.folds.are_within(crop.patient_id, folds)}
    return patients_of(known, scans) | patients_of(known, known.hosts) | crops
