"""The study of variants from its inputs to its report: every scan changed, diagnosed, kept and scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from p2ch_luna.datasets.benchmark import BenchmarkScan, Host, implanted_uid, seed_of
from p2ch_luna.datasets.variants import AS_IT_IS, FORMAT, SLICES_MM, VARIANTS, is_in_view, slices_of
from p2ch_luna.files import replacing
from p2ch_luna.inference.detector import Progress
from p2ch_luna.io.volumes import read_ct
from p2ch_luna.lungs import PreparedCt, prepare
from p2ch_luna.report.benchmark.parts import Part, read_part
from p2ch_luna.report.benchmark.run import PARTS, Bench, Tell, Told, completed, diagnosed, inputs_of
from p2ch_luna.report.robustness.figure import robustness_figure
from p2ch_luna.report.robustness.schema import RobustnessReport, compare_variants

REPORT, PLOT, VARIANT_PARTS = "robustness.json", "robustness.png", "variants"

Piece = tuple[str, Host, int]  # variant, host, copy


def run_robustness(
    bench: Bench, names: Sequence[str], output: Path, progress: Progress, tell: Tell
) -> RobustnessReport:
    """Make what is not there yet of these variants and of the scans as they are, and write the report.

    tell: hears a line of every variant of a scan that is done. Scans as they are, are the parts of a
    benchmark: one in the same folder is used.
    """
    leaks = bench.leaks()
    chosen = [name for name in VARIANTS if name in {AS_IT_IS, *names}]
    parts = _all_parts(bench, chosen, output, progress, tell)
    progress.stage("scoring")
    score, figures = compare_variants({name: [p for n, p in parts if n == name] for name in chosen})
    told = (f"{name}: {part.host}: {warning}" for name, part in parts for warning in part.warnings)
    report = RobustnessReport(
        inputs=inputs_of(bench),
        settings=bench.settings,
        scans=len(bench.hosts) * bench.settings.copies,
        score=score,
        variants=figures,
        warnings=(*leaks, *_slices(bench, chosen), *dict.fromkeys(told)),
    )
    with replacing(output / PLOT) as temporary:
        robustness_figure(report).savefig(temporary, format="png")
    with replacing(output / REPORT) as temporary:
        temporary.write_text(report.to_json(), encoding="utf-8")
    return report


def _slices(bench: Bench, names: Sequence[str]) -> Iterator[str]:
    """That thin slices are no measurement, of each host whose own are thicker."""
    for host in bench.hosts:
        thinner = [mm for mm in SLICES_MM if mm < host.slice_mm and slices_of(mm) in names]
        if thinner:
            listed = ", ".join(f"{mm:g}" for mm in thinner)
            yield f"{host.series_uid}: slices of {host.slice_mm:g} mm; those of {listed} mm are interpolated"


def _all_parts(
    bench: Bench, names: Sequence[str], output: Path, progress: Progress, tell: Tell
) -> list[tuple[str, Part]]:
    """Each variant of every copy of every host, with its name."""
    copies = range(1, bench.settings.copies + 1)
    wanted = [(name, host, copy) for host in bench.hosts for copy in copies for name in names]
    parts = completed(
        {piece: _there(bench, piece, output) for piece in wanted},
        lambda missing: _made(bench, missing),
        lambda piece: _folder(output, piece[0]),
        Told("changing and diagnosing", f"variants of scans are done, in {output}", lambda p: f", {p[0]}"),
        progress,
        tell,
    )
    return [(name, part) for (name, _, _), part in parts.items()]


def _there(bench: Bench, piece: Piece, output: Path) -> Part | None:
    """What an earlier run has kept."""
    name, host, copy = piece
    uid = implanted_uid(host.series_uid, copy)
    return read_part(_folder(output, name), uid, _key(bench, piece))


def _folder(output: Path, name: str) -> Path:
    return output / PARTS if name == AS_IT_IS else output / VARIANT_PARTS / name.replace(" ", "-")


def _key(bench: Bench, piece: Piece) -> str:
    """Of everything that decides what comes of it; as it is, that of the benchmark."""
    name, host, copy = piece
    key = bench.key(host, copy)
    if name == AS_IT_IS:
        return key
    return hashlib.sha256(json.dumps([key, name, FORMAT]).encode()).hexdigest()


def _made(bench: Bench, pieces: Sequence[Piece]) -> Iterator[Part]:
    """The parts in this order; a host is read once, a scan implanted once, if they follow each other."""
    for host, of_host in groupby(pieces, lambda piece: piece[1]):
        ct = read_ct(host.path)
        prepared = prepare(ct)
        for copy, of_copy in groupby(of_host, lambda piece: piece[2]):
            scan = bench.scan(ct, prepared, copy)
            for piece in of_copy:
                changed = _changed(scan, prepared, piece[0], bench.settings.seed, copy)
                yield diagnosed(bench, host, _key(bench, piece), changed)


def _changed(scan: BenchmarkScan, prepared: PreparedCt, name: str, seed: int, copy: int) -> BenchmarkScan:
    """A variant of a scan; nodules that are out of its view leave the truth, but are not false either.

    prepared: of the host without its nodules. The labels, which nothing reads, stay those of the scan.
    """
    rng = np.random.default_rng(seed_of(seed, f"{scan.ct.series_uid}, {name}", copy))
    ct = VARIANTS[name](scan.ct, prepared, rng)
    inside = [one for one in scan.implanted if is_in_view(ct, one.nodule)]
    outside = [one.nodule for one in scan.implanted if not is_in_view(ct, one.nodule)]
    return replace(scan, ct=ct, implanted=inside, excluded=[*scan.excluded, *outside])
