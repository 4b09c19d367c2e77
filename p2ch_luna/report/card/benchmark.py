"""What a benchmark says of the networks that it was made with, as figures and failures of their cards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p2ch_luna.models.checkpoint import Figure
from p2ch_luna.report.benchmark.schema import NOT_KNOWN, RATES, SCALES, BenchmarkReport, Group, share_of
from p2ch_luna.report.card.conditions import (
    FEWEST,
    FP_PER_SCAN,
    WEAK,
    Named,
    conditions_text,
    host_name,
    judged,
)
from p2ch_luna.report.evaluation.scores import size_name

SMALL = size_name(3.0, 6.0)
LARGE = "from 6 mm"  # all groups of diameters above SMALL together
HOW_TOLD = {  # a group of each scale
    "diameter": "diameter {}",
    "texture": "{}",
    "contrast": "contrast {}",
    "pleura": "{} to the lung's edge",
    "host": "in {}",
}


def conditions(report: BenchmarkReport) -> str:
    """On what all of its figures were taken."""
    nodules = f"{report.figures.nodules} LIDC nodules ({report.figures.distinct_nodules} distinct ones)"
    return conditions_text(nodules, report.inputs, report.settings, "luna benchmark", report.warnings)


def figures_of(report: BenchmarkReport) -> list[Figure]:
    """The score as a whole, by group, and what the stages do."""
    on = conditions(report)
    return [
        Figure(name=name, value=value, interval_95=bounds, on=on)
        for name, value, bounds in (*_whole(report), *_sizes(report), *_by_group(report), *_stages(report))
    ]


def failures_of(report: BenchmarkReport) -> list[str]:
    """The groups that are found less often than `WEAK`, or surely less often than all nodules."""
    everything = report.figures.groups["diameter"]  # every nodule has one
    n_all = sum(group.nodules for group in everything)
    share_all = sum(judged(group.at).found for group in everything) / n_all
    told = []
    for scale, group in _judged(report):
        share = judged(group.at)
        if share.sensitivity < WEAK or share.sensitivity_95[1] < share_all:
            low, high = share.sensitivity_95
            told.append(
                f"{_group_name(report, scale, group)}: {share.found} of {group.nodules} nodules found at "
                f"{FP_PER_SCAN:g} FP/scan, {share.sensitivity:.2f} [{low:.2f}, {high:.2f}]; of all "
                f"{share_all:.2f}; {conditions(report)}"
            )
    return told


def _whole(report: BenchmarkReport) -> Iterator[Named]:
    figures = report.figures
    yield "CPM", figures.cpm, figures.cpm_95
    for point in figures.froc:
        if point.fp_per_scan in RATES:
            yield f"sensitivity at {point.fp_per_scan:g} FP/scan", point.sensitivity, point.sensitivity_95


def _sizes(report: BenchmarkReport) -> Iterator[Named]:
    """Small nodules and all larger ones together, at each rate."""
    groups = report.figures.groups["diameter"]
    names = SCALES["diameter"].names
    larger = set(names[names.index(SMALL) + 1 :])
    sizes = {SMALL: {SMALL}, LARGE: larger}
    for name, members in sizes.items():
        inside = [group for group in groups if group.name in members]
        for k, rate in enumerate(RATES if inside else ()):
            share = share_of(rate, sum(g.at[k].found for g in inside), sum(g.nodules for g in inside))
            yield f"sensitivity at {rate:g} FP/scan, {name}", share.sensitivity, share.sensitivity_95


def _by_group(report: BenchmarkReport) -> Iterator[Named]:
    for scale, group in _groups(report):
        share = judged(group.at)
        if (scale, group.name) != ("diameter", SMALL):  # it is among the sizes
            name = f"sensitivity at {FP_PER_SCAN:g} FP/scan, {_group_name(report, scale, group)}"
            yield f"{name} ({group.nodules})", share.sensitivity, share.sensitivity_95


def _stages(report: BenchmarkReport) -> Iterator[Named]:
    stages = report.figures.stages
    yield "candidates a scan", stages.candidates_per_scan, None
    for group in stages.proposed:
        yield f"nodules that a candidate hits, {group.name} ({group.nodules})", group.share, group.share_95
    for name, auc in stages.auc.items():
        if auc.auc is not None:
            counts = f"{stages.on_nodules} candidates on nodules, {stages.on_nothing} others"
            yield f"AUC of the probability, {name} ({counts})", auc.auc, auc.auc_95


def _groups(report: BenchmarkReport) -> Iterator[tuple[str, Group]]:
    for scale in HOW_TOLD:
        yield from ((scale, g) for g in report.figures.groups.get(scale, ()) if g.name != NOT_KNOWN)


def _judged(report: BenchmarkReport) -> Sequence[tuple[str, Group]]:
    return [(scale, group) for scale, group in _groups(report) if group.nodules >= FEWEST]


def _group_name(report: BenchmarkReport, scale: str, group: Group) -> str:
    name = group.name
    if scale == "host":
        name = next((host_name(h) for h in report.inputs.hosts if h.series_uid == name), name)
    return HOW_TOLD[scale].format(name)
