"""`luna prepare`: find the lungs of many scans, bring them to 1 mm and keep that in the cache."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import cache_option, cache_size_option, open_cache, progress, storage_option
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.datasets.catalogue import Problem, ScanSource
    from p2ch_luna.datasets.preparation import Prepared
    from p2ch_luna.findings import Nodule
    from p2ch_luna.io.scan_cache import ScanCache

LONG_UID = 20  # characters; a shorter one stands in other words too
_FAILED = 1


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--subset", "subsets", metavar="N", help="Only these of LUNA16's subsets: 0-4, or 3,7.")
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="CSV of nodules in LUNA16's columns, to check; if left out, what is found at PATHS.",
)
@click.option(
    "--excluded", type=click.Path(path_type=Path), help="The same of findings that count as nothing."
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes, of 1 to 2 GB; one a processor if left out."
)
@storage_option
@cache_option
@cache_size_option
def prepare(
    paths: tuple[Path, ...],
    subsets: str | None,
    annotations: Path | None,
    excluded: Path | None,
    workers: int | None,
    storage: str,
    cache_folder: Path | None,
    cache_size: float,
) -> int:
    """Prepare scans for training, once: LUNA16's folder as it was downloaded, or any other of scans.

    Zips of subsets are read in place. What is done is kept, whatever ends this early, and several of these
    may run at once. Scans that cannot be used are listed at the end, and the exit code is 1.

    \b
    luna prepare LUNA16
    luna prepare LUNA16 --subset 0-4 --workers 8
    luna prepare my-scans --annotations my-scans/nodules.csv

    `luna train` takes them from there; with another --cache, --cache-size or --storage, it wants the same.
    """
    from p2ch_luna.datasets.preparation import default_workers, prepare_all

    job = _plan(paths, subsets, annotations, excluded)
    cache = open_cache(cache_folder, storage, cache_size)
    begin = time.monotonic()
    try:
        with progress() as stages:
            stages.stage("preparing", len(job.sources))
            for outcome in prepare_all(job.sources, cache, workers or default_workers()):
                job.add(outcome)
                stages.advance()
                if not sys.stderr.isatty():
                    click.echo(job.line(outcome), err=True)
    finally:  # also where the cache cannot go on: what is wrong with scans is not to be found out again
        click.echo(_summary(job, cache, time.monotonic() - begin))
        if job.problems:
            click.echo(_table(job.problems, paths))
    _check_kept(job, cache)
    return _FAILED if job.problems else 0


@dataclass
class _Job:
    """What is to be done, and what has become of it."""

    sources: list[ScanSource]
    problems: list[Problem]
    n_listed: int  # scans in LUNA16's list; 0 without it
    nodules: list[Nodule]
    prepared: list[Prepared] = field(default_factory=list)
    n_seen: int = 0

    def add(self, outcome: Prepared | Problem) -> None:
        """One scan more."""
        from p2ch_luna.datasets.catalogue import Problem

        self.n_seen += 1
        if isinstance(outcome, Problem):
            self.problems.append(outcome)
        else:
            self.prepared.append(outcome)

    def line(self, outcome: Prepared | Problem) -> str:
        """For a log."""
        from p2ch_luna.datasets.catalogue import Problem

        said = f"{self.n_seen}/{len(self.sources)}"
        if isinstance(outcome, Problem):
            return f"{said} {outcome.series_uid}: {outcome.reason}"
        took = "was there" if outcome.seconds is None else f"{outcome.seconds:.1f} s"
        return f"{said} {outcome.source.series_uid}: {outcome.n_bytes / 1e6:.1f} MB, {took}"


def _plan(
    paths: Sequence[Path], subsets: str | None, annotations: Path | None, excluded: Path | None
) -> _Job:
    """Index the scans and read the tables, so that what is wrong with these is told before the work."""
    from p2ch_luna.datasets.catalogue import find_lists, index_scans
    from p2ch_luna.datasets.preparation import misplaced
    from p2ch_luna.datasets.splits import parse_folds
    from p2ch_luna.io import read_nodules, read_series_uids

    wanted = None if subsets is None else parse_folds(subsets)
    lists = [find_lists(path) for path in paths if path.is_dir()]
    listed = {uid for found in lists if found.series_uids for uid in read_series_uids(found.series_uids)}
    catalogue = index_scans(paths, wanted, listed or None)
    if not catalogue.sources and not catalogue.problems:
        raise LunaError(f"{', '.join(map(str, paths))}: no scan of the subsets {subsets} of LUNA16 there")
    tables = [annotations] if annotations else [found.annotations for found in lists]
    truth = {path: read_nodules(path) for path in tables if path}
    others = [excluded] if excluded else [found.excluded for found in lists]
    unsure = {path: read_nodules(path) for path in others if path}
    wrong = [p for t, rows in {**truth, **unsure}.items() for p in misplaced(t, rows, catalogue.sources)]
    nodules = [nodule for rows in truth.values() for nodule in rows]
    return _Job(catalogue.sources, [*catalogue.problems, *wrong], len(listed), nodules)


def _summary(job: _Job, cache: ScanCache, seconds: float) -> str:
    new = [p.seconds for p in job.prepared if p.seconds is not None]
    lines = [f"scans     {len(job.prepared)} prepared: {len(new)} now, {len(job.prepared) - len(new)} before"]
    if new:
        lines.append(f"time      {seconds:.1f} s, {sum(new) / len(new):.1f} s a scan in each process")
    if job.prepared:
        total = sum(p.n_bytes for p in job.prepared) / 1e6
        lines.append(
            f"size      {total:,.0f} MB, {total / len(job.prepared):.1f} MB a scan, in {cache.folder}"
        )
    lines += _subset_lines(job)
    uids = {s.series_uid for s in job.sources} | {p.series_uid for p in job.problems}
    if job.nodules:
        own = [n for n in job.nodules if n.series_uid in uids]
        scans, others = len({n.series_uid for n in own}), len(job.nodules) - len(own)
        lines.append(f"nodules   {len(own)} in {scans} scans; {others} of scans that are not here")
    warned = [p for p in job.prepared if p.warning]
    lines += [f"no lungs  {p.source.series_uid}: {p.warning}" for p in warned]
    return "\n".join(lines)


def _check_kept(job: _Job, cache: ScanCache) -> None:
    """Raise LunaError where scans had to make room for others, with the size that all together take."""
    from p2ch_luna.datasets.preparation import dropped

    lost = dropped(job.prepared, cache)
    if lost:
        there = sum(entry.n_bytes for entry in cache.entries())
        wanted = (there + sum(scan.n_bytes for scan in lost)) / 1e9
        raise LunaError(
            f"{cache.folder}: {len(lost)} of the {len(job.prepared)} scans are not kept: they made room for "
            f"others at {cache.size_limit / 1e9:g} GB; wanted --cache-size {math.ceil(wanted)} or more here "
            "and in `luna train`, or fewer scans (--subset)"
        )


def _subset_lines(job: _Job) -> list[str]:
    """How much of LUNA16 there is."""
    from p2ch_luna.datasets.catalogue import SUBSET_SIZES

    count = Counter(p.source.subset for p in job.prepared if p.source.subset is not None)
    if not count:
        return []
    each = ", ".join(f"{k}: {count[k]} of {size}" for k, size in enumerate(SUBSET_SIZES) if count[k])
    missing = [str(k) for k in range(len(SUBSET_SIZES)) if not count[k]]
    said = f"; none of {', '.join(missing)}" if missing else ""
    official = (
        f"{count.total()} of the {job.n_listed} scans in its list"
        if job.n_listed
        else "seriesuids.csv is not there"
    )
    return [f"LUNA16    {official}", f"subsets   {each}{said}"]


def _table(problems: Sequence[Problem], paths: Sequence[Path]) -> str:
    """Series uid, place and what is wrong; a line each."""

    def short(text: str, uid: str) -> str:
        if len(paths) == 1:  # else it tells two places apart
            text = text.replace(f"{paths[0]}/", "")
        return text.replace(uid, "…") if len(uid) > LONG_UID else text

    heads = ("series uid", "where", "what is wrong")
    rows = [
        heads,
        *((p.series_uid, short(p.where, p.series_uid), short(p.reason, p.series_uid)) for p in problems),
    ]
    width = [max(len(row[k]) for row in rows) for k in (0, 1)]
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return "\n".join([f"\n{count}", *(f"{a:{width[0]}}  {b:{width[1]}}  {c}" for a, b, c in rows)])
