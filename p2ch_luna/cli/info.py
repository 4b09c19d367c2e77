"""`luna info`: what a file or folder is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import echo_json, json_option
from p2ch_luna.cli._scan_facts import facts_in, facts_of_volume, grid_facts, table_lines
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.datasets.catalogue import Catalogue
    from p2ch_luna.models.checkpoint import ModelCard

Facts = dict[str, Any]  # of plain values, in the order in which they are told

_KINDS = (
    "a scan (.mhd, .mha, .nii, .nii.gz, .nrrd, or a folder or zip of DICOM), LUNA16's folder or one of "
    "scans, a cache or a .scan file of one, a model (.safetensors) or the folder of a run"
)
_WIDTH = 80  # characters of a setting
_CACHE, _DATABASE = "scans", "cache.db"  # the folder that a cache makes, and what is always in it


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def info(path: Path, as_json: bool) -> None:
    """Say what PATH is: a scan, a folder of scans, a cache, a model or a training run.

    \b
    luna info LUNA16                     scans in each subset, lists, what cannot be used
    luna info scan.mhd                   size, spacing, orientation, HU
    luna info DICOM                      series in a folder or zip, which is read and why
    luna info runs/nodule-20260101       config, model, figures
    """
    facts = _describe(path)
    if as_json:
        echo_json(facts)
    else:
        click.echo(_as_text(facts))


def _describe(path: Path) -> Facts:
    if not path.exists():
        raise LunaError(f"{path}: no such file or folder; expected {_KINDS}")
    for fits, describe in _READERS:
        if fits(path):
            return describe(path)
    raise LunaError(f"{path}: neither its name nor what is in it says what it is; expected {_KINDS}")


def _model(path: Path) -> Facts:
    from p2ch_luna.models.checkpoint import load_card

    card = load_card(path)
    card.check(path, path.read_bytes())
    return {
        "kind": "model",
        "path": str(path),
        "network": card.builder,
        "arguments": card.arguments,
        "use": card.intended_use,
        "data": card.data,
        "split": {role: len(members) for role, members in card.split.items()},
        **_figures(card),
        "software": card.software,
        "sha256": card.weights_sha256,
    }


def _run(path: Path) -> Facts:
    from p2ch_luna.config import load_config
    from p2ch_luna.models.checkpoint import load_card
    from p2ch_luna.training.run_dir import CONFIG, LAST, MODEL, load_about, load_history

    config, about, history = load_config(path / CONFIG), load_about(path), load_history(path)
    card = load_card(path / MODEL) if (path / MODEL).is_file() else None
    return {
        "kind": "training run",
        "path": str(path),
        "task": config.task,
        "files": [name for name in (LAST, MODEL) if (path / name).is_file()],
        "state": about["status"],
        "epochs": f"{len(history)} of {config.loop.epochs}",
        **_figures(card),
        "software": about["software"],
        "command": " ".join(about["command"]),
        "config": config.model_dump(mode="json"),
    }


def _figures(card: ModelCard | None) -> Facts:
    """Which epoch the model is of, and its figures then."""
    metrics = {} if card is None else dict(card.metrics)
    epoch = metrics.pop("epoch", None)
    return {"best_epoch": None if epoch is None else int(epoch), "metrics": metrics}


def _cache(path: Path) -> Facts:
    """What `luna cache info` says, without a row for each scan."""
    from p2ch_luna.cli.cache import describe
    from p2ch_luna.io.scan_cache import ScanCache

    found = describe(ScanCache(path.parent if (path / _DATABASE).is_file() else path))
    return {
        "kind": "cache of prepared scans",
        "path": found["folder"],
        "scans": len(found["scans"]),
        "storage": dict(Counter(scan["storage"] for scan in found["scans"])),
        "mb": round(found["n_bytes"] / 1e6, 1),
        "limit_mb": round(found["size_limit"] / 1e6),
    }


def _stored_scan(path: Path) -> Facts:
    from p2ch_luna.io.scan_cache import DamagedEntry, open_scan

    try:
        stored = open_scan(path)
    except DamagedEntry as error:
        raise LunaError(f"{path}: damaged: {error}; expected a scan of the cache") from error
    native = stored.native
    return {
        "kind": "prepared scan",
        "path": str(path),
        "series_uid": stored.series_uid,
        **grid_facts(tuple(stored.hu.shape), stored.geometry),
        "spacing_xyz_mm_before": None if native is None else native.spacing_xyz.tolist(),
        "lungs": stored.warning or "found",
        "mb": round(path.stat().st_size / 1e6, 1),
    }


def _folder(path: Path) -> Facts:
    """A folder or a zip of scans; else of one scan, most often as DICOM."""
    from p2ch_luna.datasets.catalogue import Catalogue, find_lists, index_scans
    from p2ch_luna.io import read_series_uids
    from p2ch_luna.io.find_scans import find_scans

    lists = find_lists(path) if path.is_dir() else None
    uids = read_series_uids(lists.series_uids) if lists and lists.series_uids else None
    try:
        catalogue = index_scans([path], listed=uids)
    except LunaError:  # no volume file, for training: DICOM and zips are told of below
        catalogue = Catalogue([], [])
    facts = _catalogue(path, catalogue)
    if not facts["subsets"]:
        found = find_scans(path)
        n_files = sum(not scan.path.is_dir() for scan in found)
        if n_files == 0 or (len(found) == 1 and not catalogue.sources):
            return _one_scan(path, len(found))
        facts["scans"] = len(found)
    return {
        **facts,
        "listed": len(uids or ()),
        "lists": {name: str(file) if file else None for name, file in vars(lists).items()} if lists else {},
        "problems": [f"{p.where}: {p.reason}" for p in catalogue.problems],
    }


def _one_scan(path: Path, n_found: int) -> Facts:
    """What would be read, by headers; of several studies, how many `luna diagnose` takes one by one."""
    try:
        facts = facts_in(path)
    except LunaError as error:
        if path.is_file():
            raise
        raise LunaError(
            f"{path}: no scan, run or cache in it ({_found(path, error)}); expected one of these"
        ) from error
    return {**facts, "scans": n_found} if n_found > 1 else facts


def _found(folder: Path, error: LunaError) -> str:
    """What reading a folder as DICOM said, without its name and what was expected."""
    return str(error).removeprefix(f"{folder}: ").partition("; expected")[0]


def _catalogue(path: Path, catalogue: Catalogue) -> Facts:
    from p2ch_luna.datasets.catalogue import SUBSET_SIZES

    scans = Counter(source.subset for source in catalogue.sources)
    zipped = Counter(source.subset for source in catalogue.sources if source.member)
    subsets = {
        str(k): {"scans": scans[k], "zipped": zipped[k], "official": size}
        for k, size in enumerate(SUBSET_SIZES)
        if scans[k]
    }
    kind = "scans of LUNA16" if subsets else "folder of scans"
    return {"kind": kind, "path": str(path), "scans": scans.total(), "subsets": subsets}


def _is_scan(path: Path) -> bool:
    from p2ch_luna.io.volumes import READABLE

    return path.is_file() and path.name.lower().endswith(READABLE)


_READERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Facts]], ...] = (
    (lambda path: path.suffix == ".safetensors", _model),
    (lambda path: path.suffix == ".scan" and path.is_file(), _stored_scan),
    (lambda path: (path / "config.toml").is_file(), _run),
    (lambda path: path.name == _CACHE and (path / _DATABASE).is_file(), _cache),
    (lambda path: (path / _CACHE / _DATABASE).is_file(), _cache),
    (_is_scan, facts_of_volume),
    (lambda path: path.is_dir() or path.suffix.lower() == ".zip", _folder),
)


def _as_text(facts: Mapping[str, Any]) -> str:
    """A line a fact; members of a table, and texts in a list, get a line each."""
    width = max(map(len, facts))
    lines = []
    for name, value in facts.items():
        parts = _LINES[name](value) if name in _LINES else _parts(value, " to " if name == "hu" else " x ")
        lines.append(f"{name.replace('_', ' '):{width}}  {parts[0]}")
        lines += [f"{'':{width}}  {part}" for part in parts[1:]]
    return "\n".join(lines)


def _settings(tables: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A line a key of a config, as `--set` takes it, or one an entry of a long list; empty ones left out."""
    lines = []
    for name, value in tables.items():
        line = f"{prefix}{name} = {'' if isinstance(value, Mapping) else _setting(value)}"
        if isinstance(value, Mapping):
            lines += _settings(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(line) > _WIDTH:
            lines += [f"{prefix}{name} = [", *(f"  {_setting(entry)}," for entry in value), "]"]
        elif value not in ("", []):
            lines.append(line)
    return lines


_LINES: Mapping[str, Callable[[Any], list[str]]] = {"config": _settings, "series": table_lines}


def _setting(value: object) -> str:
    """As in TOML, to a number's six digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(_setting, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _parts(value: object, between: str = " x ") -> list[str]:
    """The lines of a fact; a list of numbers is a size, but in a table it may be anything."""
    if isinstance(value, Mapping) and value:
        return [f"{name}: {_part(part)}" for name, part in value.items()]
    if isinstance(value, list) and value and isinstance(value[0], str):
        return value
    if isinstance(value, list) and value:
        return [between.join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)]
    if value is None or value == [] or value == {}:
        return ["none"]
    return [f"{value:g}" if isinstance(value, float) else str(value)]


def _part(value: object) -> str:
    return _setting(value) if isinstance(value, list) and value else ", ".join(_parts(value))
