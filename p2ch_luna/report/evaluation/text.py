"""An evaluation for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2ch_luna.report.evaluation.schema import Compared, Evaluation, Group, Interval, Score
from p2ch_luna.report.evaluation.scores import FP_PER_SCAN_FOR_GROUPS
from p2ch_luna.report.rates import rate_text


def as_text(evaluation: Evaluation) -> str:
    """The figures of one submission, or a table of several with their differences from the first."""
    return "\n".join(_of_several(evaluation) if evaluation.others else _of_one(evaluation))


def _of_one(score: Score) -> list[str]:
    lines = [
        f"CPM {score.cpm:.3f}  {_interval(score.cpm_95)}",
        "",
        f"{score.found} of {score.nodules} nodules found, {score.missed} missed, "
        f"{score.false_positives} false positives in {score.scans} scan(s)",
        "",
        "FP/scan  sensitivity  95% interval",
    ]
    for point in score.froc:
        rate = rate_text(point.fp_per_scan)
        lines.append(f"{rate:>7}  {point.sensitivity:11.3f}  {_interval(point.sensitivity_95)}")
    for name, groups in (
        ("diameter", score.sizes),
        ("texture", score.textures),
        ("malignancy", score.malignancies),
    ):
        lines += _groups(name, groups)
    return [*lines, *_confusion(score)]


def _groups(name: str, groups: Sequence[Group]) -> list[str]:
    if not groups:
        return []
    header = f"{name:<14} nodules  sensitivity at {FP_PER_SCAN_FOR_GROUPS:g} FP/scan"
    return ["", header, *(f"{g.name:<14} {g.nodules:7}  {g.sensitivity:.3f}" for g in groups)]


def _confusion(score: Score) -> list[str]:
    """The book's table."""
    at = "none counts" if score.threshold is None else f"score >= {score.threshold:.4g}"
    lines = ["", f"at 1 FP/scan: {at}", f"{'':<24}  missed  filtered out    found"]
    for fate in score.confusion:
        missed = "" if fate.missed is None else fate.missed
        lines.append(f"{fate.kind:<24}  {missed:>6}  {fate.filtered_out:>12}  {fate.found:>7}")
    return lines


def _of_several(evaluation: Evaluation) -> list[str]:
    scores = evaluation.all_scores
    width = max(len(f"minus {evaluation.name}"), *(len(score.name) for score in scores))
    rates = "".join(f"{rate_text(point.fp_per_scan):>8}" for point in evaluation.froc)
    lines = [
        f"{evaluation.nodules} nodules in {evaluation.scans} scan(s); sensitivity at FP/scan",
        "",
        f"{'':<{width}}    CPM  {'95% interval':<17}{rates}   found  missed",
    ]
    lines += [_row(score, width) for score in scores]
    header = f"minus {evaluation.name}"
    lines += ["", f"{header:<{width}}    CPM  {'95% interval':<17} {'p':>6}{rates}"]
    return [*lines, *(_difference_row(other, width) for other in evaluation.others)]


def _row(score: Score, width: int) -> str:
    points = "".join(f"{point.sensitivity:8.3f}" for point in score.froc)
    interval = _interval(score.cpm_95)
    counts = f"{score.found:>8}{score.missed:>8}"
    return f"{score.name:<{width}}  {score.cpm:5.3f}  {interval:<17}{points}{counts}"


def _difference_row(other: Compared, width: int) -> str:
    by = other.difference
    points = "".join(f"{point.sensitivity:+8.3f}" for point in by.froc)
    p = "-" if by.p is None else f"{by.p:.3f}"
    return f"{other.name:<{width}} {by.cpm:+.3f}  {_interval(by.cpm_95, signed=True):<17} {p:>6}{points}"


def _interval(bounds: Interval, *, signed: bool = False) -> str:
    if bounds is None:
        return "[too few scans]"
    return "[" + ", ".join(_bounds(bounds, "+.3f" if signed else ".3f")) + "]"


def _bounds(bounds: Iterable[float], form: str) -> list[str]:
    return [format(bound, form) for bound in bounds]
