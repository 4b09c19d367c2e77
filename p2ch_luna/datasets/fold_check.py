"""Whether the folds that a run names are there, told before any scan is loaded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from p2ch_luna.datasets.collection import Known
from p2ch_luna.errors import LunaError


@dataclass(frozen=True)
class FoldCounts:
    """How much there is in some folds."""

    scans: int  # annotated
    crops: int  # LIDC's nodules, of patients of these folds alone


def count_in(known: Known, folds: Collection[int]) -> FoldCounts:
    """Count what these folds have; no scan is opened."""
    return FoldCounts(
        sum(known.fold_of(scan) in folds for scan in known.scans),
        sum(known.folds.are_within(crop.patient_id, folds) for crop in known.crops),
    )


def check_folds(known: Known, folds: Collection[int], key: str) -> None:
    """Raise LunaError where one of `folds`, which the config's `key` names, has neither scan nor LIDC nodule.

    With hosts alone there is nothing to be of a fold, and nothing is said.
    """
    there = {known.fold_of(scan) for scan in known.scans}
    there |= {fold for crop in known.crops for fold in known.folds.of(crop.patient_id)}
    missing = sorted(set(folds) - there)
    if missing and there:
        what = "scan" if known.scans else "LIDC nodule"
        known_folds = ", ".join(map(str, sorted(there)))
        raise LunaError(f"{key}: fold {missing[0]} has no {what}; folds with {what}s: {known_folds}")
