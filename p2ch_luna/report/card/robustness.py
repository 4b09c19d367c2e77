"""What a study of variants says of the networks that it was made with, for their cards."""

from __future__ import annotations

from collections.abc import Iterator

from p2ch_luna.models.checkpoint import Figure
from p2ch_luna.report.card.conditions import FEWEST, FP_PER_SCAN, WEAK, Named, conditions_text, judged
from p2ch_luna.report.robustness.schema import FIXED_RATE, RobustnessReport, VariantFigures

MANY = 2.0  # times the false positives of the scans as they are, from the same score on


def conditions(report: RobustnessReport) -> str:
    """On what all of its figures were taken."""
    nodules = f"{report.variants[0].nodules} LIDC nodules"
    return conditions_text(nodules, report.inputs, report.settings, "luna robustness", report.warnings)


def figures_of(report: RobustnessReport) -> list[Figure]:
    """Two of each variant: how much is found, and what a user has who keeps the score."""
    on = conditions(report)
    return [
        Figure(name=name, value=value, interval_95=bounds, on=on)
        for variant in report.variants
        for name, value, bounds in _figures(variant)
    ]


def failures_of(report: RobustnessReport) -> list[str]:
    """The variants that surely lose nodules or fall below WEAK, or show MANY times the false positives."""
    on, (base, *variants) = conditions(report), report.variants
    return [f"{text}; {on}" for variant in variants for text in _failures(variant, base)]


def _figures(variant: VariantFigures) -> Iterator[Named]:
    if variant.at:
        share = judged(variant.at)
        name = f"sensitivity at {FP_PER_SCAN:g} FP/scan, {variant.name} ({variant.nodules})"
        yield name, share.sensitivity, share.sensitivity_95
    yield (
        f"FP/scan from the score of {FIXED_RATE:g} FP/scan as it is, {variant.name}",
        variant.fp_per_scan,
        None,
    )


def _failures(variant: VariantFigures, base: VariantFigures) -> Iterator[str]:
    change = next((change for change in variant.changes if change.fp_per_scan == FP_PER_SCAN), None)
    if change is not None and variant.nodules >= FEWEST:
        share = judged(variant.at)
        before = (share.found + change.lost - change.gained) / variant.nodules  # of those in view
        if change.difference_95[1] < 0 or share.sensitivity < WEAK <= before:
            low, high = change.difference_95
            yield (
                f"{variant.name}: sensitivity at {FP_PER_SCAN:g} FP/scan {share.sensitivity:.2f} of "
                f"{variant.nodules} in view, {change.difference:+.2f} [{low:+.2f}, {high:+.2f}] against the "
                "same nodules as they are"
            )
    # As it is there may be fewer than FIXED_RATE; so many were asked for, and are no failure.
    if variant.fp_per_scan > FIXED_RATE and variant.fp_per_scan >= MANY * base.fp_per_scan:
        yield (
            f"{variant.name}: {variant.fp_per_scan:.2f} false positives a scan from the score that gives "
            f"{base.fp_per_scan:.2f} as it is"
        )
