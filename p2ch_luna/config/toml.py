"""Configs as TOML: read with changes from the command line, checked, written, compared."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from p2ch_luna.config.complaints import first_problem, shown
from p2ch_luna.config.runs import RUNS, RunConfig
from p2ch_luna.errors import LunaError


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML config; `overrides` are "optim.lr=3e-4" as after `--set`."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; wanted a config, as in configs/") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LunaError(f"{path}: not TOML: {error}") from error
    for override in overrides:
        _set(tables, override)
    return check_config(tables, str(path))


def check_config(tables: Mapping[str, Any], source: str) -> RunConfig:
    """The run of the task's own class; the first thing wrong is the LunaError, `source` its beginning."""
    task = tables.get("task")
    known = " or ".join(map(repr, RUNS))
    if task is None:
        raise LunaError(f"{source}: task is missing; wanted {known}")
    if not isinstance(task, str) or task not in RUNS:
        raise LunaError(f"{source}: task = {shown(task)}: wanted {known}")
    try:
        return RUNS[task].model_validate(tables)
    except ValidationError as error:
        raise LunaError(f"{source}: {first_problem(error, RUNS[task], tables)}") from error


def as_toml(config: RunConfig) -> str:
    """The whole config as TOML; `load_config` reads the same from it."""
    return tomli_w.dumps(config.model_dump(mode="json"))


def difference(config: RunConfig, other: RunConfig) -> str | None:
    """The first key whose values differ, as "optim.lr is 0.001, not 0.002"; None if none does."""
    pairs = zip(_values(config.model_dump(mode="json")), _values(other.model_dump(mode="json")), strict=False)
    for (key, value), (_, wanted) in pairs:  # of two tasks the keys differ too, but `task` comes first
        if value != wanted:
            return f"{key} is {shown(value)}, not {shown(wanted)}"
    return None


def _values(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, dict):
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _set(tables: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise LunaError(f"--set {override}: no '='; wanted table.key=value")
    try:
        parsed = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a word is a string, without quotes
    *parents, last = key.strip().split(".")
    table = tables
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise LunaError(f"--set {override}: {parent} is not a table")
    table[last] = parsed
