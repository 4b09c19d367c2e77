"""What a user is told of a config that is wrong: one thing, in one line, with what was wanted."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from p2ch_luna.config.runs import RUNS, RunConfig
from p2ch_luna.config.tables import Table

MOST_SHOWN = 60  # characters of a value
OF_TASK = ("sampling", "model", "loss")  # tables that tasks differ in …
MANY = 3  # … by more keys than one would misspell
_KINDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def first_problem(error: ValidationError, run: type[RunConfig], tables: Mapping[str, Any]) -> str:
    """The first thing wrong with `tables`, which should make a `run`; an unknown key comes before all else.

    A misspelt key is also a missing one, and its own name tells more. Before that comes another task.
    """
    problems = sorted(error.errors(include_url=False), key=lambda p: p["type"] != "extra_forbidden")
    if told := _of_another_task(run, tables):
        return told
    first = problems[0]
    key, table, field = _find(run, first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown(key, table, run)
    if first["type"] == "value_error" and field is None:
        return str(first["ctx"]["error"])  # of several keys: it names them itself
    wanted = _wanted(field) if field else f"a table with {', '.join(table.model_fields)}"
    if first["type"] == "missing" and ".".join(map(str, first["loc"])) == key:  # not in a list
        return f"{key} is missing; wanted {wanted}"
    value = _value(tables, key)
    return f"{key} = {shown(value)}: wanted {wanted}{_without_point(field, value)}"


def _of_another_task(run: type[RunConfig], tables: Mapping[str, Any]) -> str | None:
    """Where many keys of the tables that tasks differ in do not fit this one, but all fit another, that."""
    misfits = {task: _misfits(kind, tables) for task, kind in RUNS.items()}
    others = [task for task, names in misfits.items() if not names]
    own = next(misfits[task] for task, kind in RUNS.items() if kind is run)
    if len(own) < MANY or not others:
        return None
    named = ", ".join(dict.fromkeys(f"[{name}]" for name in own))
    owners = " or ".join(map(repr, others))
    return f"task = {shown(tables['task'])}, but {named} are those of {owners}; wanted tables of the task"


def _misfits(run: type[RunConfig], tables: Mapping[str, Any]) -> list[str]:
    """For each key that such a run has not, and each that it lacks, the name of its table."""
    found = []
    for name in OF_TASK:
        table, own = tables.get(name), _table(run.model_fields[name])
        if own is not None and isinstance(table, Mapping):
            found += [name] * len(table.keys() ^ own.model_fields.keys())
    return found


def _without_point(field: FieldInfo | None, value: object) -> str:
    """How a whole number that was written as 1e1 or 10.0 should be."""
    if field is None or field.annotation is not int or not isinstance(value, float) or not value.is_integer():
        return ""
    try:
        TypeAdapter(Annotated[int, field]).validate_python(int(value))
    except ValidationError:
        return ""
    return f", as {int(value)}"


def shown(value: object) -> str:
    """A value as a user may have written it, not too long."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def _find(run: type[Table], location: Sequence[int | str]) -> tuple[str, type[Table], FieldInfo | None]:
    """The dotted key that a location is in, its table, and its field: None for a table or an unknown key.

    Positions in a list are left off.
    """
    table, keys = run, []
    for part in location:
        keys.append(str(part))
        field = table.model_fields.get(str(part))
        below = _table(field)
        if below is None:
            return ".".join(keys), table, field
        table = below
    return ".".join(keys), table, None


def _table(field: FieldInfo | None) -> type[Table] | None:
    kind = None if field is None else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Table) else None


def _value(tables: Mapping[str, Any], key: str) -> object:
    value: Any = tables
    for part in key.split("."):
        value = value[part]
    return value


def _unknown(key: str, table: type[Table], run: type[Table]) -> str:
    """Near are the same name in another table and names like it in this one."""
    name = key.rpartition(".")[2]
    near = [other for other in _keys(run) if other.rpartition(".")[2] == name]
    near += difflib.get_close_matches(name, table.model_fields, n=3)
    if near:
        return f"unknown key {key}; near {'is' if len(near) == 1 else 'are'} {', '.join(near)}"
    return f"unknown key {key}; known: {', '.join(table.model_fields)}"


def _keys(table: type[Table], prefix: str = "") -> Iterator[str]:
    for name, field in table.model_fields.items():
        below = _table(field)
        if below is None:
            yield prefix + name
        else:
            yield from _keys(below, f"{prefix}{name}.")


def _wanted(field: FieldInfo) -> str:
    """What a key takes, in words."""
    if field.description:
        return field.description
    if get_origin(field.annotation) is Literal:
        return " or ".join(map(repr, get_args(field.annotation)))
    return f"{_KINDS[field.annotation]} {_bounds(field)}".strip()  # type: ignore[index]


def _bounds(field: FieldInfo) -> str:
    """Pydantic keeps `Field(ge=0, lt=1)` as two objects, each with one of these attributes."""
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    found = {name: getattr(m, name) for name in words for m in field.metadata if hasattr(m, name)}
    if found.keys() == {"ge", "le"}:
        return f"from {found['ge']} to {found['le']}"
    return " and ".join(f"{words[name]} {bound}" for name, bound in found.items())
