"""Who trains and who tests: folds of patients.

LUNA16 has folds of its own, its ten subsets. A scan of LUNA16 is in the fold of its subset, whatever
other subsets are there; anybody else is in a fold that the patient's id decides.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc import LidcNodule

N_FOLDS = 10
MOST_NAMED = 5  # patients, in an error


def fold_of(patient_id: str) -> int:
    """The fold, 0 to 9, of a patient; it depends on nothing but the id, so it never changes."""
    digest = hashlib.sha256(patient_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") % N_FOLDS


@dataclass(frozen=True)
class Folds:
    """The folds of patients: LUNA16's subsets where its scans are there, else by id.

    subsets: for each patient with scans of LUNA16 the folds of these; empty where no LUNA16 is used.
    """

    subsets: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def by_subset(cls, scans: Iterable[tuple[str, int | None]]) -> Folds:
        """From the patient and LUNA16 subset (None: not of LUNA16) of each scan."""
        found: dict[str, set[int]] = defaultdict(set)
        for patient, subset in scans:
            if subset is not None:
                found[patient].add(subset)
        return cls({patient: frozenset(folds) for patient, folds in found.items()})

    def of(self, patient_id: str) -> frozenset[int]:
        """The folds of a patient.

        Beside LUNA16 a patient whose subset is not there has none: by id it might be in another fold
        than its scan will be once that is there.
        """
        if self.subsets:
            return self.subsets.get(patient_id, frozenset())
        return frozenset({fold_of(patient_id)})

    def are_within(self, patient_id: str, folds: Collection[int]) -> bool:
        """Whether the patient has a fold and no other than these."""
        own = self.of(patient_id)
        return bool(own) and own <= set(folds)


def in_folds(nodules: Iterable[LidcNodule], folds: Collection[int]) -> list[LidcNodule]:
    """The nodules of the patients of these folds, by id."""
    return [nodule for nodule in nodules if fold_of(nodule.patient_id) in folds]


def check_no_leak(train: Collection[str], validation: Collection[str]) -> None:
    """Raise LunaError where a patient is on both sides of a split."""
    if shared := sorted(set(train) & set(validation)):
        named = ", ".join(shared[:MOST_NAMED]) + (", …" if len(shared) > MOST_NAMED else "")
        raise LunaError(f"{len(shared)} patients train and validate: {named}; wanted each on one side")


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
