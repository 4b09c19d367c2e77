"""Sensitivity and false positives of each variant, drawn without pyplot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from p2ch_luna.report.benchmark.schema import RATES
from p2ch_luna.report.robustness.schema import FIXED_RATE, RobustnessReport, VariantFigures

COLOURS = ("tab:blue", "tab:orange")  # by RATES
APART = 0.24  # between the rates of one variant, where variants are 1 apart


def robustness_figure(report: RobustnessReport) -> Figure:
    """Left the sensitivity with Wilson's 95 % intervals, right the false positives at the score kept."""
    variants = report.variants
    figure = Figure(
        figsize=(9.5, 1.6 + 0.36 * len(variants)), dpi=110, layout="constrained", facecolor="white"
    )
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    for k, (rate, colour) in enumerate(zip(RATES, COLOURS, strict=True)):
        _draw_shares(left, variants, k, f"at {rate:g} FP per scan", colour)
    left.set_yticks(
        range(len(variants)), [f"{one.name}  (n = {one.nodules})" for one in variants], fontsize=8
    )
    left.set_ylim(len(variants) - 0.4, -0.6)
    left.set_xlim(-0.02, 1.02)
    left.set_xlabel("sensitivity, 95 % intervals; line: as it is")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    right.barh(range(len(variants)), [one.fp_per_scan for one in variants], 0.6, color="tab:gray")
    right.axvline(FIXED_RATE, color="black", lw=0.8, alpha=0.5)
    right.set_title(f"at the score that gives {FIXED_RATE:g} as it is", fontsize=8)
    right.set_xlabel("FP per scan")
    for ax in (left, right):
        ax.grid(axis="x", alpha=0.3)
    hosts = len(report.inputs.hosts)
    figure.suptitle(f"{report.scans} implanted scan(s) of {hosts} host(s), each in all variants", fontsize=10)
    return figure


def _draw_shares(ax: Axes, variants: Sequence[VariantFigures], k: int, label: str, colour: str) -> None:
    """Of rate `k` of RATES; a variant without a nodule has no point."""
    rows = [row for row, one in enumerate(variants) if one.at]
    shares = [variants[row].at[k] for row in rows]
    at = np.array([share.sensitivity for share in shares])
    ends = np.array([share.sensitivity_95 for share in shares]).reshape(-1, 2).T
    reach = np.abs(ends - at)  # rounding may put an end of an interval at 0 or 1 beyond its estimate
    place = np.array(rows) + (k - (len(RATES) - 1) / 2) * APART
    ax.errorbar(at, place, xerr=reach, fmt="o", ms=4, color=colour, capsize=2, label=label)
    if variants[0].at:
        ax.axvline(variants[0].at[k].sensitivity, color=colour, lw=0.8, alpha=0.5)
