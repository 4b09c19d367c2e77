"""Figures for TensorBoard: ROC, calibration and FROC, drawn without pyplot."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from p2ch_luna.metrics.binary import roc_auc, roc_curve
from p2ch_luna.metrics.calibration import calibration
from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, Froc
from p2ch_luna.training.evaluation import Curve

N_BINS = 10  # of probability
TICKS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")  # CPM_FP_PER_SCAN as LUNA16 writes them


def drawn(figure: Figure) -> NDArray[np.uint8]:
    """The figure's pixels, (H, W, 3)."""
    png = BytesIO()
    figure.savefig(png, format="png")
    return np.array(Image.open(png).convert("RGB"))


def roc_figure(curves: Mapping[str, Curve]) -> Figure:
    """Sensitivity against false positive rate, with AUC; of a curve without both classes, what it lacks."""
    figure = _figure(height=5)
    ax = figure.subplots()
    for name, (truth, probability) in curves.items():
        lacking = _lacks_class(truth)
        if lacking:
            _name_only(ax, f"{name}: {lacking}")
            continue
        ax.plot(*roc_curve(truth, probability), label=f"{name}: AUC {roc_auc(truth, probability):.3f}")
    ax.plot([0, 1], [0, 1], color="0.6", ls=":", label="chance")
    _unit_square(ax, "false positive rate", "sensitivity")
    ax.legend(loc="lower right", fontsize=8)
    return figure


def calibration_figure(curves: Mapping[str, Curve]) -> Figure:
    """Share of positives against probability, with ECE; below, how many samples have which probability."""
    figure = _figure(height=6.5)
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for name, (truth, probability) in curves.items():
        if not len(truth):
            _name_only(diagram, f"{name}: no samples")
            continue
        found = calibration(truth, probability, N_BINS)
        label = f"{name}: ECE {found.error:.3f}"
        (line,) = diagram.plot(found.mean_probability, found.frequency, marker="o", ms=4, label=label)
        histogram.hist(probability, np.linspace(0, 1, N_BINS + 1), histtype="step", color=line.get_color())
    diagram.plot([0, 1], [0, 1], color="0.6", ls=":", label="calibrated")
    _unit_square(diagram, "", "share of positives")
    diagram.legend(loc="upper left", fontsize=8)
    histogram.set_yscale("log")
    histogram.set_ylim(bottom=0.8)  # a bin of one sample is still seen
    histogram.set_xlabel("probability")
    histogram.set_ylabel("samples")
    histogram.grid(alpha=0.3)
    return figure


def froc_figure(froc: Froc, *, n_scans: int, n_nodules: int, title: str) -> Figure:
    """Sensitivity at 1/8 to 8 false positives per scan; marked are the seven points whose mean is the CPM."""
    figure = _figure(height=4.5)
    ax = figure.subplots()
    fp_per_scan = np.geomspace(CPM_FP_PER_SCAN[0], CPM_FP_PER_SCAN[-1], 1000)
    (line,) = ax.plot(fp_per_scan, froc.at(fp_per_scan))
    points = froc.at(CPM_FP_PER_SCAN)
    ax.plot(CPM_FP_PER_SCAN, points, "o", color=line.get_color())
    for place in zip(CPM_FP_PER_SCAN, points, strict=True):
        _write_beside(ax, f"{place[1]:.2f}", place)
    ax.set_xscale("log", base=2)
    ax.set_xticks(CPM_FP_PER_SCAN, TICKS)
    ax.set_xlim(CPM_FP_PER_SCAN[0] / 1.2, CPM_FP_PER_SCAN[-1] * 1.5)  # room for the last number
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("false positives per scan")
    ax.set_ylabel("sensitivity")
    ax.grid(alpha=0.3)
    ax.set_title(f"{title}\nCPM {froc.cpm:.3f}; nodules: {n_nodules}, scans: {n_scans}", fontsize=10)
    return figure


def _figure(height: float) -> Figure:
    return Figure(figsize=(5.5, height), dpi=100, layout="constrained", facecolor="white")


def _lacks_class(truth: NDArray[np.bool_]) -> str:
    """Which class is missing, in words; "" if both are there."""
    if not len(truth):
        return "no samples"
    if truth.all():
        return f"no negatives among {len(truth)}"
    return "" if truth.any() else f"no positives among {len(truth)}"


def _name_only(ax: Axes, label: str) -> None:
    """A line of the legend without a curve."""
    ax.plot([], [], color="none", label=label)


def _write_beside(ax: Axes, text: str, place: tuple[float, float]) -> None:
    """Text to the right below a point, as a FROC curve climbs away from there; above it near the bottom."""
    points = 6 if place[1] < 0.1 else -12
    ax.annotate(text, place, (4, points), textcoords="offset points", fontsize=8)


def _unit_square(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3)
