"""What other slices, noise, kernels and views do to the score: a versioned schema, and its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from p2ch_luna import __version__
from p2ch_luna.datasets.variants import AS_IT_IS
from p2ch_luna.findings import Nodule
from p2ch_luna.frozen import Frozen
from p2ch_luna.metrics.froc import froc
from p2ch_luna.metrics.intervals import paired_difference
from p2ch_luna.metrics.matching import Outcome
from p2ch_luna.report import RESEARCH_ONLY
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.benchmark.schema import (
    RATES,
    Inputs,
    Settings,
    Share,
    nodule_scores,
    outcome_of,
    share_of,
)
from p2ch_luna.report.evaluation.scores import threshold_at

SCHEMA_VERSION = "1.0"  # the first number changes where an old reader would fail
FIXED_RATE = 1.0  # of RATES: the score that gives so many false positives a scan as it is, is kept


class Change(Frozen):
    """Sensitivity less that of the same nodules as they are; both at thresholds of their own."""

    fp_per_scan: float
    gained: int  # nodules found in the variant alone
    lost: int  # … as it is alone
    difference: float
    difference_95: tuple[float, float]  # Bonett and Price's, which takes nodules as independent


class VariantFigures(Frozen):
    """One variant of all scans. Without a nodule in view there are no shares, no CPM and no changes."""

    name: str
    nodules: int  # whose centre is in view
    cpm: float | None
    at: tuple[Share, ...]  # in the order of RATES
    changes: tuple[Change, ...]  # likewise; none for the scans as they are
    fp_per_scan: float  # from the score on that gives FIXED_RATE as it is: what a user has who keeps it
    sensitivity: float | None  # from that score on


class RobustnessReport(Frozen):
    """All that `luna robustness` tells."""

    schema_version: str = SCHEMA_VERSION
    software: str = f"p2ch-luna {__version__}"
    statement: str = RESEARCH_ONLY
    inputs: Inputs
    settings: Settings
    scans: int
    score: float | None  # the lowest with at most FIXED_RATE on the scans as they are; None: there is none
    variants: tuple[VariantFigures, ...]  # the first: as it is
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """The text of `robustness.json`."""
        return self.model_dump_json(indent=2) + "\n"


Found = dict[Nodule, bool]


def compare_variants(parts: Mapping[str, Sequence[Part]]) -> tuple[float | None, tuple[VariantFigures, ...]]:
    """The score kept, and the figures of each variant, from its parts by its name.

    The scans as they are must be among them. Raises LunaError if they have no nodule.
    """
    outcome = outcome_of(parts[AS_IT_IS])
    score = threshold_at(froc(outcome), FIXED_RATE)
    base = _found(parts[AS_IT_IS], outcome)
    figures = tuple(_variant(name, of_variant, score, base) for name, of_variant in parts.items())
    return (score if math.isfinite(score) else None), figures


def _variant(
    name: str, parts: Sequence[Part], fixed_score: float, base: Mapping[float, Found]
) -> VariantFigures:
    outcome = outcome_of(parts)
    scores = nodule_scores(outcome)
    figures = VariantFigures(
        name=name,
        nodules=len(scores),
        cpm=None,
        at=(),
        changes=(),
        fp_per_scan=float((outcome.false_score >= fixed_score).sum()) / outcome.n_scans,
        sensitivity=None,
    )
    if not len(scores):
        return figures
    found = _found(parts, outcome)
    shares = (share_of(rate, sum(of_rate.values()), len(of_rate)) for rate, of_rate in found.items())
    changes = (_change(rate, of_rate, base[rate]) for rate, of_rate in found.items())
    return figures.model_copy(
        update={
            "cpm": froc(outcome).cpm,
            "at": tuple(shares),
            "changes": () if name == AS_IT_IS else tuple(changes),
            "sensitivity": float((scores >= fixed_score).mean()),
        }
    )


def _found(parts: Sequence[Part], outcome: Outcome) -> dict[float, Found]:
    """At each of RATES, by the lowest threshold with at most so many false positives in these parts."""
    curve, scores = froc(outcome), nodule_scores(outcome)
    nodules = [one.nodule for part in parts for one in part.implanted]
    return {
        rate: dict(zip(nodules, (scores >= threshold_at(curve, rate)).tolist(), strict=True))
        for rate in RATES
    }


def _change(rate: float, found: Found, base: Found) -> Change:
    """base: of these nodules, and perhaps of more."""
    gained = sum(is_found and not base[nodule] for nodule, is_found in found.items())
    lost = sum(base[nodule] and not is_found for nodule, is_found in found.items())
    estimate = paired_difference(gained, lost, len(found))
    return Change(
        fp_per_scan=rate,
        gained=gained,
        lost=lost,
        difference=estimate.value,
        difference_95=(estimate.low, estimate.high),
    )
