"""Whether a run's data are there, and hold what its samples are drawn from, told before a scan is loaded."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path

from p2ch_luna.datasets.collection import Known, Sources, scans_in
from p2ch_luna.datasets.cubes import cubes_within
from p2ch_luna.datasets.fold_check import count_in
from p2ch_luna.errors import LunaError

WITH_NODULES = {"nodules", "found_nodules", "implants", "cubes"}  # sources whose samples hold nodules

log = logging.getLogger(__name__)


def check_paths(sources: Sources) -> None:
    """Raise LunaError for the first path that is not there, with its key in the config."""
    for field in fields(sources):
        named = getattr(sources, field.name)
        for path in [named] if isinstance(named, Path) else named or ():
            if not _is_there(path):
                by = "; `luna mine` writes it" if field.name == "candidates" else ""
                raise LunaError(f"data.{field.name}: {path}: no such file or folder{by}")


def _is_there(path: Path) -> bool:
    """On the disk; of a path that leads into a zip, as of LUNA16's lists, the zip."""
    return path.exists() or any(p.suffix.lower() == ".zip" and p.is_file() for p in path.parents)


def count_samples(known: Known, sources: Sources, folds: Collection[int], *, trains: bool) -> dict[str, int]:
    """How many items each source of samples has at most, by its name in the config's table `sampling`.

    Scans that cannot be read and places outside the lungs are counted too: no scan is opened.
    """
    scans = scans_in(known, folds, trains=trains)
    own = {scan.series_uid for scan in scans}
    uids = own | {host.series_uid for host in (known.hosts if trains else known.validation_hosts)}
    places = known.candidates.of_series(uids)
    to_implant = count_in(known, folds).crops or _annotated(known, own)
    cubes = sources.cubes and cubes_within(sources.cubes, sources.cube_patients, known.folds, folds)
    return {
        "nodules": _annotated(known, uids),
        "found_nodules": len(places.of_class(True)),
        "candidates": len(places.of_class(False)),
        "lung": len(uids),
        "implants": to_implant if uids else 0,
        "cubes": len(cubes or ()),
        "vessels": len(cubes or ()),
    }


def _annotated(known: Known, uids: Collection[str]) -> int:
    return sum(len(known.nodules.get(uid, ())) for uid in uids)


def drawn_from(sampling: Mapping[str, float], n_items: Mapping[str, int], *, trains: bool) -> list[str]:
    """The sources that have a share and items, by name.

    A source with a share but without an item is an error where it `trains`; validation does without it
    and says so. Neither does without nodules.
    """
    side = "train" if trains else "validation"
    wanted = sorted(name for name, share in sampling.items() if share > 0)
    there = [name for name in wanted if n_items[name]]
    for name in sorted(set(wanted) - set(there)):
        told = f"sampling.{name} = {sampling[name]:g}, but the data have no such sample in these folds"
        if trains or not there:
            raise LunaError(f"{side}: {told}; wanted data that have, or a share of 0")
        log.warning("validation: %s; it does without", told)
    if not WITH_NODULES & set(there):
        raise LunaError(
            f"{side}: no sample holds a nodule: sampling has shares of {', '.join(there)} alone here; "
            f"wanted one of {', '.join(sorted(WITH_NODULES & sampling.keys()))} as well, and nodules in "
            f"data.{side}_folds"
        )
    return there
