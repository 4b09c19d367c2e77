"""Sensitivity against what makes nodules hard to find, drawn without pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from p2ch_luna.files import replacing
from p2ch_luna.report.benchmark.schema import RATES, BenchmarkReport, Group, Share

TITLES = {
    "diameter": "diameter",
    "contrast": "contrast: the nodule's mean HU above its surroundings'",
    "texture": "texture, as LIDC's readers rated it",
    "pleura": "distance from the nodule's centre to the edge of the lung",
}
COLOURS = ("tab:blue", "tab:orange")  # by RATES
APART = 0.26  # between the rates of one group, where groups are 1 apart


def plot_name(scale: str) -> str:
    """The file of a scale's plot."""
    return f"sensitivity_by_{scale}.png"


def write_plots(folder: Path, report: BenchmarkReport) -> None:
    """A plot for each scale."""
    for scale in TITLES:
        with replacing(folder / plot_name(scale)) as temporary:
            sensitivity_figure(report, scale).savefig(temporary, format="png")


def sensitivity_figure(report: BenchmarkReport, scale: str) -> Figure:
    """The sensitivity of each group at each of `RATES`: Wilson's 95 % interval, and found of how many."""
    groups = report.figures.groups[scale]
    figure = Figure(
        figsize=(max(5.5, 1.5 * len(groups)), 4.2), dpi=110, layout="constrained", facecolor="white"
    )
    ax = figure.subplots()
    for k, (rate, colour) in enumerate(zip(RATES, COLOURS, strict=True)):
        place = np.arange(len(groups)) + (k - (len(RATES) - 1) / 2) * APART
        _draw(
            ax, place.tolist(), [group.at[k] for group in groups], [g.nodules for g in groups], rate, colour
        )
    _label(ax, groups, scale)
    scans = f"{report.figures.scans} scan" + ("s" if report.figures.scans > 1 else "")
    nodules = f"{report.figures.nodules} nodules ({report.figures.distinct_nodules} distinct)"
    figure.suptitle(f"{nodules} implanted in {scans}", fontsize=10)
    return figure


def _draw(
    ax: Axes, places: Sequence[float], shares: Sequence[Share], of: Sequence[int], rate: float, colour: str
) -> None:
    at = np.array([share.sensitivity for share in shares])
    ends = np.array([share.sensitivity_95 for share in shares]).reshape(-1, 2).T
    reach = np.abs(ends - at)  # rounding may put an end of an interval at 0 or 1 beyond its estimate
    ax.errorbar(places, at, reach, fmt="o", color=colour, capsize=3, label=f"at {rate:g} FP per scan")
    for place, share, nodules, low in zip(places, shares, of, ends[0], strict=True):
        text = f"{share.found}/{nodules}"
        offset = (0, -3)
        ax.annotate(
            text, (place, low), offset, textcoords="offset points", ha="center", va="top", fontsize=7.5,
            color=colour,
        )  # fmt: skip


def _label(ax: Axes, groups: Sequence[Group], scale: str) -> None:
    ax.set_xticks(range(len(groups)), [group.name for group in groups])
    ax.set_xlim(-0.6, len(groups) - 0.4)
    ax.set_ylim(-0.12, 1.03)  # room for counts below an interval that reaches 0
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_xlabel(TITLES[scale])
    ax.set_ylabel("sensitivity")
    ax.grid(axis="y", alpha=0.3)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
