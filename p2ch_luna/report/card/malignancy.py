"""What a study of malignancy says of a network, or of others made like it, for its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import Figure, ModelCard
from p2ch_luna.report.card.conditions import FEWEST, WEAK, Named
from p2ch_luna.report.malignancy.recipe import other_tables, recipe_of
from p2ch_luna.report.malignancy.schema import Auc, Figures, MalignancyReport


def judged_by(report: MalignancyReport) -> Mapping[str, str]:
    """SHA-256 of the one network that judged; empty for several: in a cross-validation each is another."""
    return {judge.run: judge.weights_sha256 for judge in report.judges} if len(report.judges) == 1 else {}


def check_recipe(card: ModelCard, path: Path, report: MalignancyReport) -> None:
    """Raise LunaError where a network of the study was not made as the card's, but for its folds."""
    wanted = recipe_of(card.config)
    for judge in report.judges:
        if others := other_tables(judge.recipe, wanted):
            raise LunaError(
                f"{path}: {judge.run} has another config than the card's network in {', '.join(others)}; "
                "wanted networks that are made like it"
            )


def conditions(report: MalignancyReport) -> str:
    """Which nodules, in which scans, whether the card's own weights judged them, and what to mind."""
    n, hosts = len(report.judges), dict.fromkeys(host for judge in report.judges for host in judge.hosts)
    who = (
        "judged by these weights"
        if n == 1
        else f"judged once, by the one of {n} networks made like this that did not learn from its patient; "
        "not by these weights"
    )
    independent = "; the interval of an AUC takes nodules as independent, that of a difference draws patients"
    if report.all.network_gain.by_patient_95 is None:
        independent = "; intervals take nodules as independent"
    told = "".join(f"; {warning}" for warning in report.warnings)
    return (
        f"{report.all.malignant} malignant and {report.all.benign} benign LIDC nodules, as radiologists "
        f"rated them, of {report.patients} patients, each set into {report.places} place(s) of "
        f"{', '.join(hosts)}, seed {report.seed}, {who}, by luna malignancy"
        f"{independent}{told}"
    )


def figures_of(report: MalignancyReport) -> list[Figure]:
    """AUCs of all and by diameter, beside the diameter alone, and how far the probability can be believed."""
    on = conditions(report)
    named = (*_aucs(report.all, ""), *_by_diameter(report), *_believed(report))
    return [Figure(name=name, value=value, interval_95=bounds, on=on) for name, value, bounds in named]


def failures_of(report: MalignancyReport) -> list[str]:
    """The diameters where the network has an AUC below WEAK, or is surely worse than the diameter alone.

    Within a band an AUC is lower than that of all, much of which is the diameter's: that alone is no failure.
    """
    whole = report.all.network.auc
    return [
        f"{text}; of all {whole:.2f}; {conditions(report)}"
        for band in report.by_diameter
        if whole is not None and min(band.benign, band.malignant) >= FEWEST
        for text in _failures(band)
    ]


def _failures(band: Figures) -> Iterator[str]:
    area, gain = band.network, band.network_gain.interval_95
    if area.auc is None or area.auc_95 is None or band.diameter.auc is None:
        return
    low, high = area.auc_95
    if area.auc < WEAK or (gain is not None and gain[1] < 0):
        yield (
            f"diameter {band.name}: AUC {area.auc:.2f} [{low:.2f}, {high:.2f}] of {band.malignant} malignant "
            f"and {band.benign} benign nodules, the diameter alone {band.diameter.auc:.2f}"
        )


def _by_diameter(report: MalignancyReport) -> Iterator[Named]:
    for band in report.by_diameter:
        yield from _aucs(band, f", {band.name} ({band.malignant} malignant, {band.benign} benign)")


def _aucs(figures: Figures, suffix: str) -> Iterator[Named]:
    areas: tuple[tuple[str, Auc | None], ...] = (
        ("AUC", figures.network),
        ("AUC of the diameter alone", figures.diameter),
        ("AUC of both", figures.both),
    )
    for name, area in areas:
        if area is not None and area.auc is not None:
            yield f"{name}{suffix}", area.auc, area.auc_95
    gain = figures.network_gain
    if gain.difference is not None:
        yield f"AUC above that of the diameter{suffix}", gain.difference, gain.interval_95


def _believed(report: MalignancyReport) -> Iterator[Named]:
    yield "calibration error", report.as_said.calibration_error, None
    yield "Brier score", report.as_said.brier, None
    if report.with_temperature is not None:
        error = report.with_temperature.calibration_error
        yield "calibration error with a temperature of the other networks", error, None
    between = report.indeterminate
    if between.called_malignant is not None:
        yield f"share of indeterminate called malignant ({between.nodules})", between.called_malignant, None
    if report.diameter_error_mm is not None:
        yield "error of the diameter, median in mm", report.diameter_error_mm, None
