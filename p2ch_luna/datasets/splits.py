"""Who trains and who tests: folds of patients."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc import LidcNodule

N_FOLDS = 10


def fold_of(patient_id: str) -> int:
    """The fold, 0 to 9, of a patient; it depends on nothing but the id, so it never changes."""
    digest = hashlib.sha256(patient_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") % N_FOLDS


def in_folds(nodules: Iterable[LidcNodule], folds: Collection[int]) -> list[LidcNodule]:
    """The nodules of the patients of these folds."""
    return [nodule for nodule in nodules if fold_of(nodule.patient_id) in folds]


def parse_folds(text: str) -> list[int]:
    """The folds that "7-9" or "0,3,5" stand for."""
    folds: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            folds |= set(range(int(first), int(last if dash else first) + 1))
        except ValueError as error:
            raise LunaError(f"folds {text!r}: {part!r} is no number; wanted e.g. 7-9 or 0,3") from error
    if not folds or not folds <= set(range(N_FOLDS)):
        raise LunaError(f"folds {text!r}: wanted numbers from 0 to {N_FOLDS - 1}")
    return sorted(folds)
