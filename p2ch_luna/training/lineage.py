"""Who a network has learnt from: in its own training, and before in that whose weights it took over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from p2ch_luna.datasets.splits import MOST_NAMED
from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc_tables import load_lidc_tables
from p2ch_luna.training.run_dir import read_json

Split = Mapping[str, Sequence[str]]  # as in a run's split.json or a model's card, see `Sides.split`

PATIENTS, SCANS, HOSTS = "pretrained on", "pretrained scans", "pretrained hosts"
BEFORE = {PATIENTS: "train", SCANS: "train scans", HOSTS: "train hosts"}  # what it was called when it trained
UNTOUCHED = "untouched folds"


def read_split(path: Path) -> Split:
    """Read a run's split.json."""
    return checked(path, read_json(path, dict))


def checked(source: Path, split: object) -> Split:
    """The split, if it names patients: without them everything would count as never seen."""
    if not isinstance(split, dict) or not isinstance(split.get("train"), list):
        raise LunaError(f"{source}: does not say who it trained on; wanted the patients under 'train'")
    return split


def inherited(parent: Split) -> dict[str, list[str]]:
    """What a parent's split says of those who begin with its weights: who taught it or its own parents."""
    found = {later: sorted({*parent.get(own, ()), *parent.get(later, ())}) for later, own in BEFORE.items()}
    return {**found, UNTOUCHED: list(parent.get(UNTOUCHED, ()))}


def kept(split: Split) -> dict[str, list[str]]:
    """What `joined` put into a run's own split; nothing for one that began with fresh weights."""
    keys = (*BEFORE, UNTOUCHED) if PATIENTS in split else ()
    return {key: list(split[key]) for key in keys if key in split}


def joined(split: Split, earlier: Split) -> dict[str, list[str]]:
    """A run's own split with what it inherited; a fold is untouched if neither touched it."""
    found = {**split, **earlier}
    if earlier:
        found[UNTOUCHED] = [fold for fold in split.get(UNTOUCHED, ()) if fold in earlier.get(UNTOUCHED, ())]
    return {key: list(members) for key, members in found.items()}


def learnt_from(split: Split, patient_of: Callable[[str], str]) -> set[str]:
    """The patients of all training sides until now; also those whose scans were mere backgrounds there."""
    taught, backgrounds = _taught(split, patient_of)
    return taught | backgrounds


def seen_by(earlier: Split, split: Split) -> str:
    """How many patients validate in `split` though a network has learnt from them, by name; "" for none."""
    tables = load_lidc_tables()
    seen = seen_before(earlier, split, lambda uid: tables.patient_of(uid) or uid)
    named = ", ".join(seen[:MOST_NAMED]) + (", …" if len(seen) > MOST_NAMED else "")
    return f"{len(seen)} patients who validate here: {named}" if seen else ""


def seen_before(earlier: Split, split: Split, patient_of: Callable[[str], str]) -> list[str]:
    """The patients who validate in `split` though a network of the split `earlier` has learnt from them.

    As on the two sides of one split a scan may be the background of both: see `collection.check_sides`.
    """
    taught, backgrounds = _taught(earlier, patient_of)
    judged = {*split.get("validation", ()), *map(patient_of, split.get("validation scans", ()))}
    hosts = set(map(patient_of, split.get("validation hosts", ())))
    return sorted((taught | backgrounds) & judged | taught & hosts)


def _taught(split: Split, patient_of: Callable[[str], str]) -> tuple[set[str], set[str]]:
    """Patients by their nodules, and by a background alone."""

    def all_of(*keys: str) -> Iterable[str]:
        return (member for key in keys for member in split.get(key, ()))

    taught = {*all_of("train", PATIENTS), *map(patient_of, all_of("train scans", SCANS))}
    return taught, set(map(patient_of, all_of("train hosts", HOSTS)))
