"""`luna evaluate`: LUNA16's score of a list of detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import echo_json, json_option
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule

if TYPE_CHECKING:
    from p2ch_luna.metrics.matching import Outcome, Scored

SIZES_MM = (0.0, 3.0, 6.0, 10.0, 20.0, float("inf"))  # a nodule of 6 mm is in 6-10
FP_PER_SCAN_FOR_SIZES = 4.0


@click.command()
@click.argument("detections", type=click.Path(path_type=Path))
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    required=True,
    help="CSV of the nodules, as LUNA16's annotations.csv.",
)
@click.option(
    "--excluded",
    type=click.Path(path_type=Path),
    help="CSV of findings that count neither as nodules nor as false positives, as annotations_excluded.csv.",
)
@click.option(
    "--scans",
    type=click.Path(path_type=Path),
    help="CSV of the ids of all scans that were diagnosed, as seriesuids.csv.",
)
@click.option(
    "--min-diameter",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="MM",
    help="Treat smaller nodules as excluded findings.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the scans drawn for the 95% intervals.",
)
@json_option
def evaluate(
    detections: Path,
    *,
    truth: Path,
    excluded: Path | None,
    scans: Path | None,
    min_diameter: float,
    seed: int,
    as_json: bool,
) -> None:
    """Score a CSV of DETECTIONS by the rules of LUNA16.

    DETECTIONS has the columns seriesuid, coordX, coordY, coordZ (LPS mm) and probability, as written by
    `luna diagnose`. The score, CPM, is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives
    per scan; intervals come from drawing the scans anew 1000 times.

    \b
    luna evaluate out/detections.csv --truth data/scans/lidc-idri-0001/annotations.csv
    """
    from p2ch_luna.io.tables import read_detections, read_nodules, read_series_uids
    from p2ch_luna.metrics.matching import effective_diameter_mm, score_detections

    marks = read_detections(detections)
    nodules = read_nodules(truth)
    irrelevant = read_nodules(excluded) if excluded else []
    listed = read_series_uids(scans) if scans else _scans_that_are_named(nodules, marks)
    large = [nodule for nodule in nodules if effective_diameter_mm(nodule) >= min_diameter]
    small = [nodule for nodule in nodules if effective_diameter_mm(nodule) < min_diameter]
    outcome = score_detections(large, [*irrelevant, *small], listed, marks)
    left_out = len(large) - len(outcome.nodule_score)
    if left_out:
        click.echo(f"{left_out} nodule(s) of {truth} are on scans that are not listed: left out", err=True)
    score = _score(outcome, seed)
    if as_json:
        echo_json(score)
    else:
        click.echo(_as_table(score))


def _scans_that_are_named(nodules: Sequence[Nodule], marks: Sequence[Scored]) -> list[str]:
    """Every scan of the truth or the detections; a diagnosed scan with neither is missed, so say it."""
    of_truth, of_marks = {n.series_uid for n in nodules}, {mark.series_uid for mark in marks}
    if of_truth and of_marks and not of_truth & of_marks:
        raise LunaError(
            f"no seriesuid in common: the truth has {min(of_truth)}, the detections {min(of_marks)}; "
            "wanted the same scans in both, or --scans with a list of them"
        )
    named = sorted(of_truth | of_marks)
    click.echo(
        f"--scans is not given: counting the {len(named)} scan(s) named in the truth or the detections; "
        "scans without either are not counted",
        err=True,
    )
    return named


def _score(outcome: Outcome, seed: int) -> dict[str, Any]:
    """All figures, as plain numbers."""
    import numpy as np

    from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, bootstrap, froc

    curve = froc(outcome)
    interval = bootstrap(outcome, np.random.default_rng(seed))
    bounds = interval.at(CPM_FP_PER_SCAN)
    rows = zip(CPM_FP_PER_SCAN, curve.at(CPM_FP_PER_SCAN), bounds.low, bounds.high, strict=True)
    found = int(np.isfinite(outcome.nodule_score).sum())
    return {
        "cpm": curve.cpm,
        "cpm_95": [float(interval.cpm.low), float(interval.cpm.high)],
        "froc": [
            {"fp_per_scan": fp, "sensitivity": float(at), "sensitivity_95": [float(low), float(high)]}
            for fp, at, low, high in rows
        ],
        "scans": outcome.n_scans,
        "nodules": len(outcome.nodule_score),
        "found": found,
        "missed": len(outcome.nodule_score) - found,
        "false_positives": len(outcome.false_score),
        "sizes": _by_size(outcome),
    }


def _by_size(outcome: Outcome) -> list[dict[str, Any]]:
    """Sensitivity of each band of diameters that has a nodule, among all false positives."""
    from itertools import pairwise

    from p2ch_luna.metrics.froc import froc

    bands = []
    for low, high in pairwise(SIZES_MM):
        inside = (outcome.nodule_diameter_mm >= low) & (outcome.nodule_diameter_mm < high)
        if inside.any():
            sensitivity = float(froc(outcome.of_nodules(inside)).at(FP_PER_SCAN_FOR_SIZES))
            bands.append(
                {
                    "from_mm": low,
                    "below_mm": None if high == float("inf") else high,
                    "nodules": int(inside.sum()),
                    "fp_per_scan": FP_PER_SCAN_FOR_SIZES,
                    "sensitivity": sensitivity,
                }
            )
    return bands


def _as_table(score: dict[str, Any]) -> str:
    """The figures for a person."""
    rates = {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}
    lines = [
        f"CPM {score['cpm']:.3f}  {_interval(score['cpm_95'])}",
        "",
        f"{score['found']} of {score['nodules']} nodules found, {score['missed']} missed, "
        f"{score['false_positives']} false positives in {score['scans']} scan(s)",
        "",
        "FP/scan  sensitivity  95% interval",
    ]
    for point in score["froc"]:
        rate = rates.get(point["fp_per_scan"], f"{point['fp_per_scan']:g}")
        lines.append(f"{rate:>7}  {point['sensitivity']:11.3f}  {_interval(point['sensitivity_95'])}")
    lines += ["", f"diameter   nodules  sensitivity at {FP_PER_SCAN_FOR_SIZES:g} FP/scan"]
    for band in score["sizes"]:
        upper = "" if band["below_mm"] is None else f"{band['below_mm']:g}"
        size = f"{band['from_mm']:g}-{upper} mm" if upper else f"from {band['from_mm']:g} mm"
        lines.append(f"{size:<10} {band['nodules']:7}  {band['sensitivity']:.3f}")
    return "\n".join(lines)


def _interval(bounds: Sequence[float]) -> str:
    return f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"
