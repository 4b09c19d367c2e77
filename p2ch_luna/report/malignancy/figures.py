"""The figures of `luna malignancy`, from what networks hold of nodules of known diameter and rating."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from p2ch_luna.datasets.lidc_labels import BENIGN, MALIGNANT
from p2ch_luna.metrics.binary import roc_auc
from p2ch_luna.metrics.calibration import brier, calibration, fit_temperature
from p2ch_luna.metrics.fusion import fit_fusion
from p2ch_luna.metrics.intervals import Estimate, auc_with_interval, bootstrap_by_patient, compare_auc
from p2ch_luna.report.malignancy.recipe import warnings_of
from p2ch_luna.report.malignancy.schema import (
    Auc,
    Bin,
    Figures,
    Gain,
    Indeterminate,
    Judge,
    MalignancyReport,
    Reliability,
)

BANDS_MM = ((3.0, 6.0), (6.0, 10.0), (10.0, 20.0), (20.0, math.inf))  # from, below
CALLED = 0.5  # probability from which a nodule is called malignant
N_BINS = 5  # of probability: in each are still enough nodules for a share


@dataclass(frozen=True, eq=False)
class Judged:
    """N nodules, each judged once, by the run that `run` numbers."""

    name: Sequence[str]
    patient: Sequence[str]
    run: NDArray[np.int64]
    diameter_mm: NDArray[np.float64]
    rating: NDArray[np.float64]  # mean of the readers', 1 to 5
    logits: NDArray[np.float64]  # (N, places)
    said_mm: NDArray[np.float64]  # NaN without a head for it

    @property
    def logit(self) -> NDArray[np.float64]:
        """(N,) the mean over the places."""
        return np.asarray(self.logits.mean(axis=1))

    @property
    def is_malignant(self) -> NDArray[np.bool_]:
        """(N,)."""
        return self.rating >= MALIGNANT

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """(N,) benign or malignant."""
        return (self.rating <= BENIGN) | self.is_malignant


@dataclass(frozen=True, eq=False)
class Scores:
    """What judges the nodules, (N,) each."""

    network: NDArray[np.float64]  # logit
    calibrated: NDArray[np.float64] | None  # the same with a temperature of the other runs
    both: NDArray[np.float64] | None  # logit of the network and the diameter
    temperatures: Sequence[float | None]  # of each run


def scores_of(judged: Judged, n_runs: int) -> Scores:
    """Fit for each run on the nodules of the others; nothing of one run alone, or without both classes."""
    inputs = np.column_stack([judged.logit, np.log(judged.diameter_mm)])
    calibrated, both = np.empty(len(inputs)), np.empty(len(inputs))
    temperatures: list[float | None] = []
    for run in range(n_runs):
        own, others = judged.run == run, judged.is_known & (judged.run != run)
        truth = judged.is_malignant[others]
        if not truth.any() or truth.all():
            return Scores(judged.logit, None, None, [None] * n_runs)
        temperatures.append(fit_temperature(truth, judged.logit[others]))
        calibrated[own] = judged.logit[own] / temperatures[-1]
        both[own] = fit_fusion(truth, inputs[others]).logit(inputs[own])
    return Scores(judged.logit, calibrated, both, temperatures)


def figures_of(name: str, judged: Judged, scores: Scores, chosen: NDArray[np.bool_], seed: int) -> Figures:
    """Of the chosen (N,) nodules, as far as they are benign or malignant."""
    some = chosen & judged.is_known
    truth, diameter = judged.is_malignant[some], judged.diameter_mm[some]
    patients = np.asarray(judged.patient)[some]

    def gain(score: NDArray[np.float64]) -> Gain:
        return _gain(truth, score[some], diameter, patients, seed)

    return Figures(
        name=name,
        benign=int((~truth).sum()),
        malignant=int(truth.sum()),
        network=_auc(auc_with_interval(truth, scores.network[some])),
        diameter=_auc(auc_with_interval(truth, diameter)),
        both=None if scores.both is None else _auc(auc_with_interval(truth, scores.both[some])),
        network_gain=gain(scores.network),
        both_gain=None if scores.both is None else gain(scores.both),
    )


def bands_of(judged: Judged, scores: Scores, seed: int) -> tuple[Figures, ...]:
    """Inside each range of diameters, where the diameter itself tells least."""
    mm = judged.diameter_mm
    return tuple(
        figures_of(f">= {low:g} mm" if high == math.inf else f"{low:g}-{high:g} mm", judged, scores,
                   (mm >= low) & (mm < high), seed)
        for low, high in BANDS_MM
    )  # fmt: skip


def reliability(truth: NDArray[np.bool_], logit: NDArray[np.float64]) -> Reliability:
    """Of (N,) nodules, benign or malignant."""
    said = expit(logit)
    found = calibration(truth, said, N_BINS)
    columns = zip(
        found.mean_probability.tolist(), found.frequency.tolist(), found.count.tolist(), strict=True
    )
    return Reliability(
        calibration_error=found.error,
        brier=brier(truth, said),
        bins=tuple(Bin(probability=p, frequency=f, nodules=n) for p, f, n in columns),
    )


def indeterminate_of(judged: Judged, logit: NDArray[np.float64]) -> Indeterminate:
    """What is said of the nodules that are neither."""
    said = expit(logit[~judged.is_known])
    return Indeterminate(
        nodules=len(said),
        mean_probability=_number(said.mean()) if len(said) else None,
        called_malignant=_number((said >= CALLED).mean()) if len(said) else None,
    )


def one_place_auc(judged: Judged) -> float | None:
    """The mean over the places of the AUC that each alone gives."""
    known = judged.is_known
    alone = [roc_auc(judged.is_malignant[known], logit) for logit in judged.logits[known].T]
    return _number(np.mean(alone))


def diameter_error_mm(judged: Judged) -> float | None:
    """Median distance of the said diameters from those of the table."""
    error = np.abs(judged.said_mm - judged.diameter_mm)
    return None if np.isnan(error).any() else float(np.median(error))


def _gain(
    truth: NDArray[np.bool_],
    score: NDArray[np.float64],
    other: NDArray[np.float64],
    patients: NDArray[np.str_],
    seed: int,
) -> Gain:
    paired = compare_auc(truth, score, other)
    drawn = bootstrap_by_patient(
        lambda t, a, b: roc_auc(t, a) - roc_auc(t, b),
        patients, truth, score, other, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Gain(
        difference=_number(paired.difference),
        difference_95=_bounds(paired.low, paired.high),
        p=_number(paired.p),
        by_patient_95=_bounds(drawn.low, drawn.high),
    )


def _auc(estimate: Estimate) -> Auc:
    return Auc(auc=_number(estimate.value), auc_95=_bounds(estimate.low, estimate.high))


def _bounds(low: float, high: float) -> tuple[float, float] | None:
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def _number(value: float | np.floating) -> float | None:
    return None if np.isnan(value) else float(value)


def report_of(
    judged: Judged, judges: Sequence[Mapping[str, object]], *, places: int, seed: int
) -> tuple[MalignancyReport, Scores]:
    """All figures; `judges` say of each run what `Judge` wants but for its temperature and its nodules."""
    scores = scores_of(judged, len(judges))
    known, everyone = judged.is_known, np.ones(len(judged.name), bool)
    truth = judged.is_malignant[known]
    final = scores.network if scores.calibrated is None else scores.calibrated
    by_run = [(str(judge["run"]), judged.run == number) for number, judge in enumerate(judges)]
    told = tuple(
        Judge.model_validate({**judge, "nodules": int(of_run.sum()), "temperature": temperature})
        for judge, (_, of_run), temperature in zip(judges, by_run, scores.temperatures, strict=True)
    )
    report = MalignancyReport(
        places=places,
        seed=seed,
        judges=told,
        patients=len(set(np.asarray(judged.patient)[known].tolist())),
        all=figures_of("all", judged, scores, everyone, seed),
        one_place_auc=one_place_auc(judged),
        by_diameter=bands_of(judged, scores, seed),
        by_run=tuple(figures_of(run, judged, scores, of_run, seed) for run, of_run in by_run),
        as_said=reliability(truth, scores.network[known]),
        with_temperature=(
            None if scores.calibrated is None else reliability(truth, scores.calibrated[known])
        ),
        indeterminate=indeterminate_of(judged, final),
        diameter_error_mm=diameter_error_mm(judged),
        warnings=warnings_of(told),
    )
    return report, scores
