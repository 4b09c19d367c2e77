"""Figures of an evaluation: FROC curves with what scans drawn anew leave open, and sensitivity by kind."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN
from p2ch_luna.report.evaluation.schema import Group, Interval, Score
from p2ch_luna.report.evaluation.scores import FP_PER_SCAN_FOR_GROUPS, Result

TICKS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")  # CPM_FP_PER_SCAN as LUNA16 writes them
MOST_CHARS = 40  # of a name in a legend
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito


def as_png(figure: Figure) -> bytes:
    """The file of a figure."""
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def froc_figure(results: Sequence[Result]) -> Figure:
    """A curve a submission at 1/8 to 8 false positives per scan, its 95 % band, the points of the CPM."""
    figure = Figure(figsize=(7, 5.2), dpi=120, layout="constrained", facecolor="white")
    ax = figure.subplots()
    for number, result in enumerate(results):
        _draw_curve(ax, result, COLORS[number % len(COLORS)], with_numbers=len(results) == 1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(CPM_FP_PER_SCAN, TICKS)
    ax.set_xlim(CPM_FP_PER_SCAN[0] / 1.1, CPM_FP_PER_SCAN[-1] * (1.35 if len(results) == 1 else 1.1))
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("false positives per scan")
    ax.set_ylabel("sensitivity")
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right", fontsize=9)
    outcome = results[0].outcome
    ax.set_title(
        f"FROC by LUNA16's rules: {len(outcome.nodule_score)} nodules, {outcome.n_scans} scans; 95 % bands",
        fontsize=10,
    )
    return figure


def _draw_curve(ax: Axes, result: Result, color: str, *, with_numbers: bool) -> None:
    fp_per_scan = np.union1d(np.geomspace(CPM_FP_PER_SCAN[0], CPM_FP_PER_SCAN[-1], 1000), CPM_FP_PER_SCAN)
    bounds, points = result.band.at(fp_per_scan), result.curve.at(CPM_FP_PER_SCAN)
    ax.fill_between(fp_per_scan, bounds.low, bounds.high, color=color, alpha=0.18, lw=0)
    cpm = result.band.cpm
    interval = f" [{float(cpm.low):.3f}, {float(cpm.high):.3f}]" if np.isfinite(cpm.low) else ""
    label = f"{_short(result.name)}: CPM {result.curve.cpm:.3f}{interval}"
    ax.plot(fp_per_scan, result.curve.at(fp_per_scan), color=color, label=label)
    ax.plot(CPM_FP_PER_SCAN, points, "o", color=color, ms=5)
    for place in zip(CPM_FP_PER_SCAN, points, strict=True) if with_numbers else ():
        up_or_down = 7 if place[1] < 0.1 else -13  # below the curve, which climbs; above it near the bottom
        ax.annotate(f"{place[1]:.3f}", place, (4, up_or_down), textcoords="offset points", fontsize=8)


def sizes_figure(scores: Sequence[Score]) -> Figure:
    """Sensitivity by diameter and, where readers rated, by texture and malignancy; 95 % intervals."""
    kinds: list[tuple[str, Sequence[Sequence[Group]]]] = [
        ("diameter", [score.sizes for score in scores]),
        ("texture", [score.textures for score in scores]),
        ("malignancy", [score.malignancies for score in scores]),
    ]
    panels = [(name, groups) for name, groups in kinds if groups[0]]
    widths = [len(groups[0]) + 0.6 for _, groups in panels]
    figure = Figure(figsize=(1.0 + 0.95 * sum(widths), 4.4), dpi=120, layout="constrained", facecolor="white")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
    for ax, (name, groups) in zip(axes, panels, strict=True):
        _draw_groups(ax, name, groups, [score.name for score in scores])
    axes[0].set_ylabel(f"sensitivity at {FP_PER_SCAN_FOR_GROUPS:g} FP/scan, 95 % intervals")
    axes[0].set_ylim(-0.03, 1.03)
    if len(scores) > 1:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    return figure


def _draw_groups(ax: Axes, title: str, of_scores: Sequence[Sequence[Group]], names: Sequence[str]) -> None:
    """A point a group and submission, side by side."""
    n_scores = len(of_scores)
    for number, groups in enumerate(of_scores):
        shift = (number - (n_scores - 1) / 2) * min(0.2, 0.7 / n_scores)
        for place, group in enumerate(groups):
            ax.errorbar(
                place + shift,
                group.sensitivity,
                yerr=_reach(group.sensitivity, group.sensitivity_95),
                fmt="o",
                capsize=3,
                color=COLORS[number % len(COLORS)],
                label=_short(names[number]) if place == 0 else None,
            )
            if n_scores == 1:
                spot = (place, group.sensitivity)
                ax.annotate(f"{group.sensitivity:.2f}", spot, (6, -4), textcoords="offset points", fontsize=8)
    ax.set_xticks(range(len(of_scores[0])), [f"{g.name}\nn = {g.nodules}" for g in of_scores[0]], fontsize=8)
    ax.set_xlim(-0.6, len(of_scores[0]) - 0.4)
    ax.set_title(title, fontsize=10)
    ax.grid(axis="y", alpha=0.3)


def _reach(value: float, interval: Interval) -> list[list[float]] | None:
    """How far an interval goes down and up."""
    return None if interval is None else [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]


def _short(name: str) -> str:
    """The end of a long name, where paths differ; a dollar sign begins no formula."""
    shown = name if len(name) <= MOST_CHARS else f"…{name[1 - MOST_CHARS :]}"
    return shown.replace("$", r"\$")
