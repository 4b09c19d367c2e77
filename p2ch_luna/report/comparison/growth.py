"""What counts as growth."""

from __future__ import annotations

import math

from p2ch_luna.report.comparison.schema import Growth, Verdict
from p2ch_luna.report.schema import Finding

GROWTH_MM = 1.5  # of the mean diameter: Lung-RADS v2022 calls more than this, within a year, growth
YEAR_DAYS = 366
VOLUME_FACTOR = 1.25  # a volume changed by less is not told from an error of measuring (NELSON, BTS 2015)

RULE = (
    f"growing: the mean diameter rose by more than {GROWTH_MM:g} mm within 12 months (Lung-RADS v2022); "
    "larger: it rose so over a longer or unknown time, or the volume rose to "
    f"{VOLUME_FACTOR:g} times or more; smaller: the same the other way round; "
    "stable: anything less, which measuring may account for"
)
DOUBLING_RULE = "volume doubling time: days * ln 2 / ln(later volume / earlier volume)"


def growth_of(prior: Finding, current: Finding, days: int | None) -> Growth:
    """The changes of a nodule seen in two scans `days` apart, None where that is not known."""
    by_mm = current.mean_diameter_mm - prior.mean_diameter_mm
    ratio = current.volume_mm3 / prior.volume_mm3
    return Growth(
        diameter_mm=by_mm,
        diameter_percent=100 * by_mm / prior.mean_diameter_mm,
        volume_mm3=current.volume_mm3 - prior.volume_mm3,
        volume_percent=100 * (ratio - 1),
        doubling_days=doubling_days(ratio, days),
        verdict=_verdict(by_mm, ratio, days),
    )


def doubling_days(ratio: float, days: int | None) -> float | None:
    """Days in which a volume doubles that has become `ratio` times as large in `days`; None if it has not."""
    return None if days is None or ratio <= 1 else days * math.log(2) / math.log(ratio)


def _verdict(by_mm: float, ratio: float, days: int | None) -> Verdict:
    if by_mm > GROWTH_MM:
        return "growing" if days is not None and days <= YEAR_DAYS else "larger"
    if by_mm < -GROWTH_MM:
        return "smaller"
    if ratio >= VOLUME_FACTOR:
        return "larger"
    return "smaller" if ratio <= 1 / VOLUME_FACTOR else "stable"
