"""What counts as growth."""

from __future__ import annotations

import math

from p2ch_luna.report.comparison.schema import Growth, Verdict
from p2ch_luna.report.schema import Finding

GROWTH_MM = 1.5  # of the mean diameter: Lung-RADS v2022 calls more than this, within a year, growth
YEAR_DAYS = 366
VOLUME_FACTOR = 1.25  # a volume changed by less is not told from an error of measuring (NELSON, BTS 2015)
SMALL_BELOW_MM, SMALL_FACTOR = 6.0, 2.0  # the same of few voxels: unchanged nodules came out at up to 1.74
AGAINST_MM = 0.5  # by which a diameter goes against the volume; less may be an error of measuring

RULE = (
    f"growing: the mean diameter rose by more than {GROWTH_MM:g} mm within 12 months (Lung-RADS v2022) and "
    f"the volume to {VOLUME_FACTOR:g} times or more ({SMALL_FACTOR:g} where one of both mean diameters is "
    f"below {SMALL_BELOW_MM:g} mm); larger: both rose so over a longer or unknown time, or "
    f"the volume rose so and the diameter did not fall by {AGAINST_MM:g} mm or more; smaller: as larger, the "
    "other way round; stable: neither changed so, and measuring may account for what they did; unclear: they "
    "contradict each other, the diameter changed so and the volume did not, or went the other way"
)
DOUBLING_RULE = (
    "volume doubling time, of nodules that are growing or larger: "
    "days * ln 2 / ln(later volume / earlier volume)"
)


def growth_of(prior: Finding, current: Finding, days: int | None) -> Growth:
    """The changes of a nodule seen in two scans `days` apart, None where that is not known."""
    by_mm = current.mean_diameter_mm - prior.mean_diameter_mm
    ratio = current.volume_mm3 / prior.volume_mm3
    smaller_mm = min(prior.mean_diameter_mm, current.mean_diameter_mm)
    verdict = _verdict(by_mm, ratio, days, SMALL_FACTOR if smaller_mm < SMALL_BELOW_MM else VOLUME_FACTOR)
    return Growth(
        diameter_mm=by_mm,
        diameter_percent=100 * by_mm / prior.mean_diameter_mm,
        volume_mm3=current.volume_mm3 - prior.volume_mm3,
        volume_percent=100 * (ratio - 1),
        doubling_days=doubling_days(ratio, days) if verdict in ("growing", "larger") else None,
        verdict=verdict,
    )


def doubling_days(ratio: float, days: int | None) -> float | None:
    """Days in which a volume doubles that has become `ratio` times as large in `days`.

    None where the days are not known, or the ratio is below `VOLUME_FACTOR` and so may be none.
    """
    return None if days is None or ratio < VOLUME_FACTOR else days * math.log(2) / math.log(ratio)


def _verdict(by_mm: float, ratio: float, days: int | None, factor: float) -> Verdict:
    """By `RULE`. factor: of the volume, from which on it has changed."""
    if ratio >= factor and by_mm > GROWTH_MM:
        return "growing" if days is not None and days <= YEAR_DAYS else "larger"
    if ratio >= factor and by_mm > -AGAINST_MM:
        return "larger"
    if ratio <= 1 / factor and by_mm < AGAINST_MM:
        return "smaller"
    is_same = 1 / factor < ratio < factor and abs(by_mm) <= GROWTH_MM
    return "stable" if is_same else "unclear"
