"""The folder of an evaluation: JSON, CSV, figures and a page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from p2ch_luna.report.evaluation.figures import as_png, froc_figure, sizes_figure
from p2ch_luna.report.evaluation.pages import page
from p2ch_luna.report.evaluation.pictures import Pictures
from p2ch_luna.report.evaluation.schema import Evaluation
from p2ch_luna.report.evaluation.scores import Result

FROC_COLUMNS = ("fp_per_scan", "sensitivity", "threshold")


def write_evaluation(
    folder: Path, evaluation: Evaluation, results: Sequence[Result], pictures: Pictures
) -> None:
    """Write evaluation.json, froc.csv, froc.png, sizes.png and index.html into a folder that is there."""
    figures = {"froc": as_png(froc_figure(results)), "sizes": as_png(sizes_figure(evaluation.all_scores))}
    for name, png in figures.items():
        (folder / f"{name}.png").write_bytes(png)
    _write_curves(folder / "froc.csv", results)
    text = page(
        evaluation,
        {"FROC curves": figures["froc"], "sensitivity by kind of nodule": figures["sizes"]},
        pictures,
    )
    (folder / "index.html").write_text(text, encoding="utf-8")
    (folder / "evaluation.json").write_text(evaluation.to_json(), encoding="utf-8")


def _write_curves(path: Path, results: Sequence[Result]) -> None:
    """A row a point of the curve; with several submissions a last column names each one's."""
    names = len(results) > 1
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*FROC_COLUMNS, "submission") if names else FROC_COLUMNS)
        for result in results:
            curve = result.curve
            points = zip(
                curve.fp_per_scan.tolist(), curve.sensitivity.tolist(), curve.threshold.tolist(), strict=True
            )
            writer.writerows((*point, result.name) if names else point for point in points)
