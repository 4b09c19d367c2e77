"""`luna cache`: the store of prepared scans."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import cache_option, echo_json, json_option
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.io.scan_cache import ScanCache


@click.group()
def cache() -> None:
    """Show, check or empty the store of prepared scans.

    \b
    luna cache info                     where it is, how many scans, how large
    luna cache verify --cache /data     read every byte, remove what is damaged
    """


@cache.command()
@cache_option
@json_option
def info(cache_folder: Path | None, as_json: bool) -> None:
    """Show where the store is and what it holds."""
    found = describe(_open(cache_folder))
    if as_json:
        echo_json(found)
    else:
        click.echo(_as_text(found))


@cache.command()
@cache_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(cache_folder: Path | None, yes: bool) -> None:
    """Remove all prepared scans.

    They can be made again from the originals, which are not touched.
    """
    store = _open(cache_folder)
    count = len(store.entries())
    if not yes and not click.confirm(f"Remove {count} prepared scan(s) from {store.folder}?", err=True):
        click.echo("nothing removed", err=True)
        return
    click.echo(f"{store.clear()} scan(s) removed from {store.folder}")


@cache.command()
@cache_option
def verify(cache_folder: Path | None) -> None:
    """Read every scan, remove what is damaged.

    Each is compared with its checksums. Exits with 1 if one was damaged. What killed runs left behind is
    removed too.
    """
    store = _open(cache_folder)
    damaged = store.verify()
    if damaged:
        raise LunaError(
            f"{store.folder}: {len(damaged)} damaged scan(s) removed, {len(store.entries())} are good; "
            "run your command again and they are prepared anew"
        )
    click.echo(f"{store.folder}: {len(store.entries())} scan(s), all good")


def _open(cache_folder: Path | None) -> ScanCache:
    """The store that is there: none is made to be looked at. Its own folder will do too."""
    from p2ch_luna.io.scan_cache import ScanCache

    if cache_folder is not None and cache_folder.name == "scans" and (cache_folder / "cache.db").is_file():
        cache_folder = cache_folder.parent
    if cache_folder is not None and not (cache_folder / "scans").is_dir():
        raise LunaError(f"{cache_folder}: no cache there; expected the folder given to --cache before")
    return ScanCache(cache_folder)


def describe(store: ScanCache) -> dict[str, Any]:
    """All figures, as plain values; `luna info` tells of them too."""
    scans = store.entries()
    return {
        "folder": str(store.folder),
        "scans": [
            {
                "key": scan.key,
                "series_uid": scan.series_uid,
                "storage": scan.storage,
                "n_bytes": scan.n_bytes,
                "stored_at": scan.stored_at.isoformat(timespec="seconds"),
            }
            for scan in scans
        ],
        "n_bytes": sum(scan.n_bytes for scan in scans),
        "size_limit": store.size_limit,
        "free_bytes": shutil.disk_usage(store.folder).free,
    }


def _as_text(found: dict[str, Any]) -> str:
    """The same for a person: a line for all scans, one for each storage and one for the room."""
    from p2ch_luna.io.scan_cache import in_mb

    lines = [f"{found['folder']}: {len(found['scans'])} scan(s), {in_mb(found['n_bytes'])}"]
    for storage in sorted({scan["storage"] for scan in found["scans"]}):
        sizes = [scan["n_bytes"] for scan in found["scans"] if scan["storage"] == storage]
        lines.append(
            f"  {storage:<7} {len(sizes):5} scan(s), {in_mb(sum(sizes))}, the largest {in_mb(max(sizes))}"
        )
    limit, free = in_mb(found["size_limit"]), in_mb(found["free_bytes"])
    return "\n".join([*lines, f"it may grow to {limit} (--cache-size); {free} free on its disk"])
