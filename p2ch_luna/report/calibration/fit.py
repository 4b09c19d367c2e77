"""From implanted scans to a calibration: one probability of both stages, and the operating points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.frozen import Frozen
from p2ch_luna.inference.joint import rescored, stage_logits
from p2ch_luna.metrics.calibration import calibration as reliability
from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, Froc, froc
from p2ch_luna.metrics.fusion import Fusion, fit_fusion
from p2ch_luna.metrics.operating import operating_point
from p2ch_luna.models.checkpoint import Calibration, ModelCard, OperatingPoint
from p2ch_luna.report import RESEARCH_ONLY
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.benchmark.schema import outcome_of, too_few_hosts
from p2ch_luna.report.benchmark.stages import is_hit
from p2ch_luna.report.card.conditions import is_of_search

SCHEMA_VERSION = "1.0"  # the first number changes where an old reader would fail
STAGES = ("segmentation", "classifier")  # in the order of their logits
NODULES_PER_SCAN = 1.3  # of LUNA16: 1186 in 888 scans


class CalibrationReport(Frozen):
    """All that `luna calibrate` tells. Errors are expected calibration errors, see `metrics.calibration`."""

    schema_version: str = SCHEMA_VERSION
    software: str = f"p2ch-luna {__version__}"
    statement: str = RESEARCH_ONLY
    calibration: Calibration
    scans: int
    nodules: int  # that were set in
    on_nodules: int  # candidates that hit one of them
    on_nothing: int  # … that hit nothing; those on excluded findings are in neither
    nodules_per_scan: float  # as many as a scan is taken to have: what a nodule counts
    error_before: float  # of the mean of both stages' logits
    error_after: float  # of the calibration, on the candidates that it was fitted on
    error_left_out: float | None  # each host, or scan of a single host, by the fit of the others
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """The text of `calibration.json`."""
        return self.model_dump_json(indent=2) + "\n"


@dataclass(frozen=True, eq=False)
class Candidates:
    """All N candidates of implanted scans; those on excluded findings are left out.

    is_nodule: (N,) hits one that was set in.    logits: (N, 2) of both stages, clipped.
    weight: (N,) how often each counts, so that a scan has as many nodules as ordinary ones have.
    group: (N,) name of the host, or of the scan if there is one host.
    """

    is_nodule: NDArray[np.bool_]
    logits: NDArray[np.float64]
    weight: NDArray[np.float64]
    group: NDArray[np.str_]

    @classmethod
    def of(cls, parts: Sequence[Part], nodules_per_scan: float) -> Candidates:
        """Raises LunaError where there are not both kinds: nothing could be told apart."""
        one_host = len({part.host for part in parts}) == 1
        chosen = [_chosen(part) for part in parts]
        is_nodule = np.concatenate([on_nodule for on_nodule, _ in chosen])
        if is_nodule.all() or not is_nodule.any():
            raise LunaError(
                f"{len(parts)} scan(s) have {len(is_nodule)} candidates, {is_nodule.sum()} of them on "
                "nodules; wanted some of both kinds: more HOSTs, --copies or --count"
            )
        counts = nodules_per_scan * len(parts) / sum(len(part.implanted) for part in parts)
        group = [part.series_uid if one_host else part.host for part in parts]
        return cls(
            is_nodule,
            np.concatenate([logits for _, logits in chosen]),
            np.where(is_nodule, counts, 1.0),
            np.repeat(group, [len(logits) for _, logits in chosen]),
        )

    def error_of(self, probability: NDArray[np.float64]) -> float:
        """How far (N,) probabilities are from what is seen."""
        return reliability(self.is_nodule, probability, weight=self.weight).error

    def fitted(self, which: NDArray[np.bool_] | None = None) -> Fusion:
        """The fusion of all, or of some of them; ValueError where these are of one kind."""
        some = np.ones(len(self.weight), bool) if which is None else which
        return fit_fusion(self.is_nodule[some], self.logits[some], self.weight[some])


def _chosen(part: Part) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each candidate of a scan that counts hits a nodule, and its logits."""
    on_nodule: NDArray[np.bool_] = np.any(is_hit(part, [one.nodule for one in part.implanted]), axis=0)
    counts = on_nodule | ~np.any(is_hit(part, part.excluded), axis=0)
    logits = stage_logits(
        np.array([mark.segmentation_probability for mark in part.detections], float),
        np.array([mark.classifier_probability for mark in part.detections], float),
    )
    return on_nodule[counts], logits[counts]


def calibrate(
    parts: Sequence[Part],
    nodules_per_scan: float = NODULES_PER_SCAN,
    *,
    on: str,
    segmentation_sha256: str = "",
    warnings: Sequence[str] = (),
) -> CalibrationReport:
    """Fit the calibration of implanted scans, with its operating points on them and how reliable it is.

    on: what these scans are.    segmentation_sha256: of the weights that proposed.    warnings: of these
    scans, told first. Raises LunaError as `Candidates.of`, and where neither stage tells nodules from the
    rest.
    """
    candidates = Candidates.of(parts, nodules_per_scan)
    fusion = _fusion(candidates, len(parts))
    n_hosts = len({part.host for part in parts})
    fitted = Calibration(
        segmentation=fusion.weights[0],
        classifier=fusion.weights[1],
        intercept=fusion.intercept,
        operating_points=(),
        on=on,
        hosts=n_hosts,
        segmentation_sha256=segmentation_sha256,
    )
    curve = _curve(parts, fitted)
    return CalibrationReport(
        calibration=fitted.model_copy(update={"operating_points": operating_points(curve)}),
        scans=len(parts),
        nodules=sum(len(part.implanted) for part in parts),
        on_nodules=int(candidates.is_nodule.sum()),
        on_nothing=int((~candidates.is_nodule).sum()),
        nodules_per_scan=nodules_per_scan,
        error_before=candidates.error_of(expit(candidates.logits.mean(axis=1))),
        error_after=candidates.error_of(expit(fusion.logit(candidates.logits))),
        error_left_out=_error_left_out(candidates),
        warnings=(*warnings, *_dropped(fusion), *_coarse(curve, n_hosts)),
    )


def _fusion(candidates: Candidates, n_scans: int) -> Fusion:
    """Raises LunaError if both weights are 0."""
    fusion = candidates.fitted()
    if len(fusion.dropped) == len(STAGES):
        raise LunaError(
            f"{n_scans} scan(s): both stages find nodules less probable than other candidates; wanted "
            "networks that know nodules, or more HOSTs, --copies or --count"
        )
    return fusion


def _curve(parts: Sequence[Part], calibration: Calibration) -> Froc:
    """By LUNA16's rules, with the calibrated probabilities."""
    return froc(
        outcome_of(
            [
                part.model_copy(update={"detections": tuple(rescored(part.detections, calibration))})
                for part in parts
            ]
        )
    )


def operating_points(curve: Froc) -> tuple[OperatingPoint, ...]:
    """From which probability on findings count for each of the rates of the CPM."""
    found = [(rate, *operating_point(curve, rate)) for rate in CPM_FP_PER_SCAN]
    return tuple(
        OperatingPoint(fp_per_scan=rate, probability=probability, sensitivity=sensitivity)
        for rate, probability, sensitivity in found
    )


def _error_left_out(candidates: Candidates) -> float | None:
    """Of probabilities that no candidate's own group had a say in; None where some could not be fitted."""
    probability = np.empty(len(candidates.weight))
    for name in np.unique(candidates.group):
        own = candidates.group == name
        others = candidates.is_nodule[~own]
        if others.all() or not others.any():
            return None
        probability[own] = expit(candidates.fitted(~own).logit(candidates.logits[own]))
    return candidates.error_of(probability)


def _dropped(fusion: Fusion) -> list[str]:
    return [
        f"the {STAGES[k]}'s logit would count against nodules here: its weight is set to 0"
        for k in fusion.dropped
    ]


def _coarse(curve: Froc, n_hosts: int) -> list[str]:
    """What these hosts are too few, or their candidates too few, to tell.

    Copies of a host have its false positives in common: one that is sure is there in each of them.
    """
    told = []
    if 1 / n_hosts > CPM_FP_PER_SCAN[0]:
        few = f"operating points below 1/{n_hosts} false positives a scan hang on the first of one host"
        told.append(too_few_hosts(n_hosts, few, round(1 / CPM_FP_PER_SCAN[0])))
    most = float(curve.fp_per_scan[-1])
    if most < CPM_FP_PER_SCAN[-1]:
        told.append(
            f"all candidates together bring {most:.2f} false positives a scan: points above are alike"
        )
    return told


def recalibrated(card: ModelCard, calibration: Calibration) -> tuple[ModelCard, list[str]]:
    """The card with it, and what is told of what had to go.

    Figures of the joint score, and failures that they showed, do not hold for another calibration.
    """
    update: dict[str, object] = {"calibration": calibration}
    if card.calibration and card.calibration.sha256 == calibration.sha256:
        return card.model_copy(update=update), []
    figures = tuple(figure for figure in card.figures if not is_of_search(figure.on))
    failures = tuple(text for text in card.known_failures if not is_of_search(text))
    n_figures, n_failures = len(card.figures) - len(figures), len(card.known_failures) - len(failures)
    told = (
        f"the card's {n_figures} figures and {n_failures} known failures of another calibration are dropped; "
        "luna benchmark, luna robustness and luna card --add bring new ones"
    )
    update |= {"figures": figures, "known_failures": failures}
    return card.model_copy(update=update), [told] if n_figures or n_failures else []
