"""How the networks of a study of malignancy were made: what its figures are of, and what weakens them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from p2ch_luna.report.malignancy.schema import Judge

NOT_OF_IT = ("seed", "compute", "validation")  # tables and keys that change nothing but chance and rounding
OF_THE_FOLD = {  # keys of a table that differ from fold to fold, or say how fast it goes
    "data": ("train_folds", "validation_folds", "validation_hosts"),
    "loop": ("workers", "accumulate"),
}


def recipe_of(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of each table of a run's config but for what may differ where networks are made alike.

    These are folds, chance, the folders that data lie in and the run whose weights it began with.
    """
    return {
        name: hashlib.sha256(json.dumps(_essence(name, table), sort_keys=True).encode()).hexdigest()
        for name, table in config.items()
        if name not in NOT_OF_IT
    }


def _essence(name: str, table: object) -> object:
    if not isinstance(table, Mapping):
        return table
    kept = {key: value for key, value in table.items() if key not in OF_THE_FOLD.get(name, ())}
    if name == "start":
        return {**kept, "init_from": bool(kept.get("init_from"))}
    return {key: _without_folders(value) for key, value in kept.items()} if name == "data" else kept


def _without_folders(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_without_folders(one) for one in value]
    return Path(value).name if isinstance(value, str) else value


def other_tables(recipe: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """The tables in which two recipes differ."""
    return sorted(name for name in {*recipe, *wanted} if recipe.get(name) != wanted.get(name))


def warnings_of(judges: Sequence[Judge]) -> tuple[str, ...]:
    """What makes the figures of these networks better than they are, or of several kinds of networks."""
    picked = [judge for judge in judges if (judge.epochs or 1) > 1]
    taught = [judge for judge in judges if judge.seen_hosts]
    hosts = ", ".join(dict.fromkeys(host for judge in taught for host in judge.seen_hosts))
    others = {name for judge in judges for name in other_tables(judge.recipe, judges[0].recipe)}
    told = {
        f"{len(picked)} of {len(judges)} network(s) kept one of several epochs by the nodules that they "
        "judge: slightly too good": picked,
        f"{len(taught)} of {len(judges)} network(s) trained on scans that the nodules are set into "
        f"({hosts}): these are not new to them": taught,
        f"the networks are not made alike: their configs differ in {', '.join(sorted(others))}": others,
    }
    return tuple(text for text, found in told.items() if found)
