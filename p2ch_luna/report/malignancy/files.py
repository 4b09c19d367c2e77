"""The files of `luna malignancy`: figures as JSON, a row a nodule, and a picture of three diagrams."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import expit

from p2ch_luna.datasets.lidc_labels import malignancy_of
from p2ch_luna.files import replacing
from p2ch_luna.metrics.binary import roc_curve
from p2ch_luna.report.malignancy.figures import Judged, Scores
from p2ch_luna.report.malignancy.schema import MalignancyReport, Reliability

RESULT, TABLE, PICTURE = "malignancy.json", "malignancy.csv", "malignancy.png"
COLUMNS = (
    "nodule", "patient_id", "run", "diameter_mm", "said_mm", "rating", "readers", "probability", "calibrated",
    "both",
)  # fmt: skip
COLOURS = {"benign": "tab:blue", "indeterminate": "0.6", "malignant": "tab:red"}
BAND_EDGES_MM = (6, 10, 20)


def write_files(folder: Path, report: MalignancyReport, judged: Judged, scores: Scores) -> None:
    """malignancy.csv and malignancy.png, then malignancy.json, which says that they are whole."""
    _write_table(folder / TABLE, report, judged, scores)
    with replacing(folder / PICTURE) as temporary:
        malignancy_figure(report, judged, scores).savefig(temporary, format="png")
    with replacing(folder / RESULT) as temporary:
        temporary.write_text(report.to_json(), encoding="utf-8")


def _write_table(path: Path, report: MalignancyReport, judged: Judged, scores: Scores) -> None:
    """A row a nodule; `probability` as the network says it, the last two as fitted on the other runs."""
    others = [_cells(logit) for logit in (scores.calibrated, scores.both)]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for k, name in enumerate(judged.name):
            writer.writerow(
                (
                    name,
                    judged.patient[k],
                    report.judges[int(judged.run[k])].run,
                    f"{judged.diameter_mm[k]:.2f}",
                    "" if np.isnan(judged.said_mm[k]) else f"{judged.said_mm[k]:.2f}",
                    f"{judged.rating[k]:g}",
                    malignancy_of(float(judged.rating[k])),
                    f"{expit(scores.network[k]):.4f}",
                    *(cells[k] if cells else "" for cells in others),
                )
            )


def _cells(logit: NDArray[np.float64] | None) -> list[str]:
    return [] if logit is None else [f"{said:.4f}" for said in expit(logit)]


def malignancy_figure(report: MalignancyReport, judged: Judged, scores: Scores) -> Figure:
    """ROC curves, how far probabilities can be taken at their word, and every nodule by its diameter."""
    figure = Figure(figsize=(13.5, 4.6), dpi=110, layout="constrained", facecolor="white")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.25])
    _draw_roc(left, report, judged, scores)
    _draw_reliability(middle, "as said", report.as_said, "tab:gray")
    if report.with_temperature is not None:
        _draw_reliability(middle, "with temperature", report.with_temperature, "tab:green")
    middle.plot([0, 1], [0, 1], color="0.6", ls=":")
    _label(middle, "probability", "share of malignant nodules")
    middle.legend(loc="upper left", fontsize=8)
    _draw_nodules(right, judged, scores)
    counts = f"{report.all.malignant} malignant, {report.all.benign} benign nodules"
    figure.suptitle(f"{counts} of {report.patients} patients. {report.suspicion}", fontsize=9)
    return figure


def _draw_roc(ax: Axes, report: MalignancyReport, judged: Judged, scores: Scores) -> None:
    known, found = judged.is_known, report.all
    curves = [
        ("network", scores.network, found.network),
        ("network and diameter", scores.both, found.both),
        ("diameter alone", judged.diameter_mm, found.diameter),
    ]
    for name, score, area in curves:
        if score is not None and area is not None and area.auc is not None:
            rate, sensitivity = roc_curve(judged.is_malignant[known], score[known])
            ax.plot(rate, sensitivity, label=f"{name}: AUC {area.auc:.3f}")
    ax.plot([0, 1], [0, 1], color="0.6", ls=":")
    _label(ax, "false positive rate", "sensitivity")
    ax.legend(loc="lower right", fontsize=8)


def _draw_reliability(ax: Axes, name: str, found: Reliability, colour: str) -> None:
    label = f"{name}: ECE {found.calibration_error:.3f}, Brier {found.brier:.3f}"
    ax.plot(
        [one.probability for one in found.bins],
        [one.frequency for one in found.bins],
        marker="o",
        ms=4,
        color=colour,
        label=label,
    )


def _draw_nodules(ax: Axes, judged: Judged, scores: Scores) -> None:
    """The diameter by its logarithm; the bands of the table between the lines."""
    said = expit(scores.network if scores.calibrated is None else scores.calibrated)
    called = np.array([malignancy_of(float(rating)) for rating in judged.rating])
    for name in ("indeterminate", "benign", "malignant"):
        chosen = called == name
        ax.scatter(
            judged.diameter_mm[chosen], said[chosen], 9, COLOURS[name], alpha=0.7, lw=0,
            label=f"{name} ({int(chosen.sum())})",
        )  # fmt: skip
    for edge in BAND_EDGES_MM:
        ax.axvline(edge, color="0.8", lw=0.8, zorder=0)
    ax.set_xscale("log")
    ticks = (3, 6, 10, 20, 30)
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("diameter in mm")
    ax.set_ylabel("probability")
    ax.legend(loc="upper left", fontsize=8)


def _label(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3)
