"""From a truth and submissions to the figures of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.datasets.lidc_labels import malignancy_of
from p2ch_luna.findings import Nodule, Point
from p2ch_luna.metrics.compare import Paired, compare
from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, Bootstrap, Bounds, Froc, bootstrap, froc
from p2ch_luna.metrics.matching import Outcome, Scored, effective_diameter_mm, score_detections
from p2ch_luna.report.evaluation.schema import (
    Difference,
    FalsePositive,
    Fate,
    FrocPoint,
    Group,
    Interval,
    NoduleNotFound,
    PointDifference,
    Score,
    SizeGroup,
)

SIZES_MM = (0.0, 3.0, 6.0, 10.0, 20.0, math.inf)  # a nodule of 6 mm is in 6-10
FP_PER_SCAN_FOR_GROUPS = 4.0
OPERATING_FP_PER_SCAN = 1.0
MOST_FALSE_POSITIVES = 50
RESAMPLES = 1000
GROUND_GLASS, SOLID = 2.0, 4.0  # mean texture up to and from which a nodule is so; between: part-solid
TEXTURES = ("ground glass", "part-solid", "solid")
MALIGNANCIES = ("benign", "indeterminate", "malignant")
UNRATED = "indeterminate or unrated"
_Z_95 = 1.959963984540054  # of the normal distribution


@dataclass(frozen=True, eq=False)
class Truth:
    """What there is to find in which scans, and what counts neither as nodule nor as false positive."""

    nodules: Sequence[Nodule]
    excluded: Sequence[Nodule]
    scans: Sequence[str]

    def from_diameter(self, min_diameter_mm: float) -> Truth:
        """Smaller nodules become excluded findings."""
        large = [n for n in self.nodules if effective_diameter_mm(n) >= min_diameter_mm]
        small = [n for n in self.nodules if effective_diameter_mm(n) < min_diameter_mm]
        return Truth(large, [*self.excluded, *small], self.scans)


@dataclass(frozen=True, eq=False)
class Result:
    """A submission and its curve."""

    name: str
    marks: Sequence[Scored]
    outcome: Outcome
    curve: Froc
    band: Bootstrap


def judge(name: str, truth: Truth, marks: Sequence[Scored], seed: int) -> Result:
    """Score marks by LUNA16's rules; errors as of `score_detections` and `froc`."""
    outcome = score_detections(truth.nodules, truth.excluded, truth.scans, marks)
    band = bootstrap(outcome, np.random.default_rng(seed), RESAMPLES)
    return Result(name, marks, outcome, froc(outcome), band)


def score_of(result: Result, truth: Truth) -> Score:
    """All figures of a submission; `truth` is the one that it was judged by."""
    outcome, curve = result.outcome, result.curve
    nodules = [truth.nodules[k] for k in outcome.nodule_index.tolist()]
    threshold = threshold_at(curve, OPERATING_FP_PER_SCAN)
    n_found = int(np.isfinite(outcome.nodule_score).sum())
    is_missed = np.isneginf(outcome.nodule_score)
    in_groups = outcome.nodule_score >= threshold_at(curve, FP_PER_SCAN_FOR_GROUPS)
    return Score(
        name=result.name,
        cpm=curve.cpm,
        cpm_95=_interval(result.band.cpm),
        froc=froc_points(curve.at(CPM_FP_PER_SCAN), result.band.at(CPM_FP_PER_SCAN)),
        scans=outcome.n_scans,
        nodules=len(nodules),
        found=n_found,
        missed=len(nodules) - n_found,
        false_positives=len(outcome.false_score),
        threshold=threshold if math.isfinite(threshold) else None,
        sizes=_by_size(outcome, in_groups),
        textures=_by_kind(in_groups, [texture_of(n.texture) for n in nodules], TEXTURES),
        malignancies=_by_kind(in_groups, [malignancy_of(n.malignancy) for n in nodules], MALIGNANCIES),
        confusion=_confusion(outcome, nodules, threshold),
        missed_nodules=_not_found(outcome, nodules, is_missed),
        filtered_nodules=_not_found(outcome, nodules, ~is_missed & (outcome.nodule_score < threshold)),
        strongest_false_positives=_strongest(result),
    )


def differences_of(results: Sequence[Result], seed: int) -> list[Difference]:
    """Each further submission minus the first; none where there is but one."""
    if len(results) < 2:
        return []
    found = compare([r.outcome for r in results], np.random.default_rng(seed), RESAMPLES)
    return [_difference(one.cpm, one.sensitivity) for one in found]


def _difference(cpm: Paired, sensitivity: Paired) -> Difference:
    points = zip(
        CPM_FP_PER_SCAN,
        sensitivity.value.tolist(),
        sensitivity.bounds.low.tolist(),
        sensitivity.bounds.high.tolist(),
        sensitivity.p.tolist(),
        strict=True,
    )
    return Difference(
        cpm=float(cpm.value),
        cpm_95=_interval(cpm.bounds),
        p=_or_none(float(cpm.p)),
        froc=tuple(
            PointDifference(
                fp_per_scan=fp, sensitivity=value, sensitivity_95=_finite(low, high), p=_or_none(p)
            )
            for fp, value, low, high, p in points
        ),
    )


def texture_of(mean_rating: float | None) -> str | None:
    """One of `TEXTURES`; None where nobody rated."""
    if mean_rating is None:
        return None
    if mean_rating <= GROUND_GLASS:
        return TEXTURES[0]
    return TEXTURES[2] if mean_rating >= SOLID else TEXTURES[1]


def threshold_at(curve: Froc, fp_per_scan: float) -> float:
    """The lowest score that counts while no more than so many false positives a scan do; inf: none does."""
    return float(curve.threshold[np.searchsorted(curve.fp_per_scan, fp_per_scan, side="right") - 1])


def froc_points(sensitivity: NDArray[np.float64], bounds: Bounds) -> tuple[FrocPoint, ...]:
    """The seven points of the CPM; (7,) each."""
    rows = zip(CPM_FP_PER_SCAN, sensitivity.tolist(), bounds.low.tolist(), bounds.high.tolist(), strict=True)
    return tuple(
        FrocPoint(fp_per_scan=fp, sensitivity=at, sensitivity_95=_finite(low, high))
        for fp, at, low, high in rows
    )


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n > 0 independent things (Wilson 1927)."""
    middle = share + _Z_95**2 / (2 * n)
    reach = _Z_95 * math.sqrt(share * (1 - share) / n + _Z_95**2 / (4 * n**2))
    scale = 1 + _Z_95**2 / n
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def _by_size(outcome: Outcome, is_found: NDArray[np.bool_]) -> tuple[SizeGroup, ...]:
    """Each band of diameters that has a nodule; is_found: (N,)."""
    bands = []
    for low, high in pairwise(SIZES_MM):
        inside = (outcome.nodule_diameter_mm >= low) & (outcome.nodule_diameter_mm < high)
        if inside.any():
            group = _group(size_name(low, high), is_found[inside])
            below = None if math.isinf(high) else high
            bands.append(SizeGroup(**group.model_dump(), from_mm=low, below_mm=below))
    return tuple(bands)


def size_name(low: float, high: float) -> str:
    """Of a band of diameters."""
    if low == 0:
        return f"below {high:g} mm"
    return f"from {low:g} mm" if math.isinf(high) else f"{low:g}-{high:g} mm"


def _by_kind(
    is_found: NDArray[np.bool_], kinds: Sequence[str | None], names: Sequence[str]
) -> tuple[Group, ...]:
    """Each of the `names` that a nodule bears; is_found, kinds: (N,), kind None: not rated."""
    groups = ((name, np.array([kind == name for kind in kinds], bool)) for name in names)
    return tuple(_group(name, is_found[inside]) for name, inside in groups if inside.any())


def _group(name: str, is_found: NDArray[np.bool_]) -> Group:
    """is_found: of its nodules, at least one."""
    sensitivity, count = float(is_found.mean()), len(is_found)
    return Group(
        name=name,
        nodules=count,
        fp_per_scan=FP_PER_SCAN_FOR_GROUPS,
        sensitivity=sensitivity,
        sensitivity_95=wilson(sensitivity, count),
    )


def _confusion(outcome: Outcome, nodules: Sequence[Nodule], threshold: float) -> tuple[Fate, ...]:
    """The book's table: malignant, benign and other nodules, and marks on none."""
    labels = np.array([_label(nodule) for nodule in nodules])
    is_found = outcome.nodule_score >= threshold
    is_missed = np.isneginf(outcome.nodule_score)
    rows = [
        Fate(
            kind=kind,
            missed=int((is_missed & (labels == kind)).sum()),
            filtered_out=int((~is_missed & ~is_found & (labels == kind)).sum()),
            found=int((~is_missed & is_found & (labels == kind)).sum()),
        )
        for kind in ("malignant", "benign", UNRATED)
    ]
    n_false = int((outcome.false_score >= threshold).sum())
    n_filtered = len(outcome.false_score) - n_false
    return (*rows, Fate(kind="non-nodule", missed=None, filtered_out=n_filtered, found=n_false))


def _label(nodule: Nodule) -> str:
    kind = malignancy_of(nodule.malignancy)
    return UNRATED if kind in (None, "indeterminate") else str(kind)


def _not_found(
    outcome: Outcome, nodules: Sequence[Nodule], chosen: NDArray[np.bool_]
) -> tuple[NoduleNotFound, ...]:
    """The chosen (N,) nodules, the largest first."""
    order = np.argsort(-outcome.nodule_diameter_mm, kind="stable")
    return tuple(
        NoduleNotFound(
            series_uid=nodules[k].series_uid,
            center_lps_mm=nodules[k].center_xyz,
            diameter_mm=float(outcome.nodule_diameter_mm[k]),
            malignancy=nodules[k].malignancy,
            texture=nodules[k].texture,
            probability=_or_none(float(outcome.nodule_score[k])),
        )
        for k in order[chosen[order]].tolist()
    )


def _strongest(result: Result) -> tuple[FalsePositive, ...]:
    order = np.argsort(-result.outcome.false_score, kind="stable")[:MOST_FALSE_POSITIVES]
    marks = [result.marks[k] for k in result.outcome.false_mark[order].tolist()]
    return tuple(
        FalsePositive(
            rank=rank,
            series_uid=mark.series_uid,
            center_lps_mm=_point(mark.center_xyz),
            probability=mark.probability,
        )
        for rank, mark in enumerate(marks, start=1)
    )


def _point(xyz: Point) -> Point:
    x, y, z = (float(value) for value in xyz)
    return x, y, z


def _interval(bounds: Bounds) -> Interval:
    return _finite(float(bounds.low), float(bounds.high))


def _finite(low: float, high: float) -> Interval:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _or_none(score: float) -> float | None:
    return score if math.isfinite(score) else None
