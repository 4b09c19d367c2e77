"""The task of malignancy, and what the diameter alone says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from p2ch_luna.datasets.candidates import OutlinedSample, is_malignant, rating_of
from p2ch_luna.datasets.collection import Share
from p2ch_luna.datasets.implant import Implantable
from p2ch_luna.datasets.scans import OwnNodule
from p2ch_luna.errors import LunaError
from p2ch_luna.metrics.calibration import brier, calibration
from p2ch_luna.models.classifier import Verdict
from p2ch_luna.training.evaluation import Evaluation, loss_metrics
from p2ch_luna.training.nodule import (
    CropLosses,
    CropObservation,
    as_arrays,
    beside_diameter,
    choose,
    diameter_error_mm,
    join,
    known_malignancy,
    montages,
    observe_figures,
)
from p2ch_luna.training.outlines import MalignancyLosses, counts, crops_of, totals

LOWEST_MALIGNANT, HIGHEST_BENIGN = "malignant, lowest probability", "benign, highest probability"
RIDGE = 1e-3  # keeps the slope finite where a diameter parts the classes; of no weight beside a few nodules
MOST_STEPS, MOST_HALVINGS, SMALL_STEP = 100, 30, 1e-10  # of Newton's method


@dataclass(frozen=True)
class DiameterBaseline:
    """The probability of malignancy from the diameter alone: sigmoid(intercept + slope log(mm))."""

    intercept: float
    slope: float

    def probability(self, diameter_mm: ArrayLike) -> NDArray[np.float32]:
        """Of diameters of any shape, above 0."""
        logit = self.intercept + self.slope * np.log(np.asarray(diameter_mm, float))
        return np.asarray(expit(logit), np.float32)


def baseline(share: Share) -> DiameterBaseline:
    """Fitted to the benign and malignant nodules of one side of a split.

    These are the scans' own and those that are set in, unless they were cut out of the same scans. Raises
    LunaError where there are none of one kind.
    """
    scans = [*share.scans, *share.hosts]
    uids = {scan.series_uid for scan in scans}
    nodules: list[OwnNodule | Implantable] = [nodule for scan in scans for nodule in scan.nodules]
    nodules += [nodule for nodule in share.nodules if nodule.name.rpartition("-")[0] not in uids]
    rating = torch.tensor([rating_of(nodule) for nodule in nodules], dtype=torch.float32)
    return fit_baseline([nodule.diameter_mm for nodule in nodules], is_malignant(rating).numpy())


def fit_baseline(diameter_mm: ArrayLike, malignant: ArrayLike) -> DiameterBaseline:
    """Logistic regression on the logarithm of the diameter, (N,) each; `malignant` NaN: left out."""
    label, log_mm = np.asarray(malignant, float), np.log(np.asarray(diameter_mm, float))
    known = ~np.isnan(label)
    label, log_mm = label[known], log_mm[known]
    n_malignant = int(label.sum())
    if not 0 < n_malignant < len(label):
        raise LunaError(
            f"malignancy: {n_malignant} malignant and {len(label) - n_malignant} benign nodules to train on; "
            "wanted some of both, by the readers' ratings"
        )
    middle, spread = float(log_mm.mean()), float(log_mm.std()) or 1.0
    inputs = np.column_stack([np.ones(len(label)), (log_mm - middle) / spread])
    offset, slope = _logistic(inputs, label).tolist()
    return DiameterBaseline(offset - slope * middle / spread, slope / spread)


def _logistic(inputs: NDArray[np.float64], label: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) weights that make (N, K) inputs likeliest, by Newton's steps, halved where they are too long."""
    penalty = np.full(inputs.shape[1], RIDGE)

    def cost(weights: NDArray[np.float64]) -> float:
        logit = inputs @ weights
        return float(np.sum(np.logaddexp(0, logit) - label * logit) + penalty @ weights**2 / 2)

    weights = np.zeros(inputs.shape[1])
    for _ in range(MOST_STEPS):
        probability = expit(inputs @ weights)
        slope = inputs.T @ (probability - label) + penalty * weights
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + np.diag(penalty)
        step, before = np.linalg.solve(curvature, slope), cost(weights)
        scale = next((s for s in 0.5 ** np.arange(MOST_HALVINGS) if cost(weights - s * step) <= before), 0.0)
        weights = weights - scale * step
        if np.abs(scale * step).max() < SMALL_STEP:
            break
    return weights


def observe(verdict: Verdict, batch: OutlinedSample, how: MalignancyLosses) -> CropObservation:
    """Keep of a batch what `summarise` needs: figures, and the nodules that are judged worst."""
    crops = crops_of(batch)
    seen = observe_figures(verdict, crops, how)
    said = seen.malignancy_probability
    shown = {
        LOWEST_MALIGNANT: choose(crops, seen.is_malignant == 1, said),
        HIGHEST_BENIGN: choose(crops, seen.is_malignant == 0, said, highest_first=True),
    }
    return replace(
        seen,
        totals=as_arrays(totals(verdict, batch, how)),
        counts=as_arrays(counts(batch, how)),
        shown=shown,
    )


def summarise(
    observations: Sequence[CropObservation], how: CropLosses, alone: DiameterBaseline
) -> Evaluation:
    """How well malignancy is told, how well the diameter alone tells it, and what the network gains on that.

    A network of "soft" labels answers with a rating's share of the scale: its order counts, and it is not
    held against the classes as a probability.
    """
    seen = join(observations)
    rated, is_bad = known_malignancy(seen)
    said, said_alone = seen.malignancy_probability[rated], alone.probability(seen.diameter_mm[rated])
    as_probability = {
        "malignancy_brier": brier(is_bad, said),
        "calibration_error": calibration(is_bad, said).error,
    }
    return Evaluation(
        metrics={
            **loss_metrics([seen]),
            **beside_diameter(is_bad, said, said_alone),
            **({} if how.malignancy_labels == "soft" else as_probability),
            "malignancy_brier_of_diameter": brier(is_bad, said_alone),
            **({"diameter_error_mm": diameter_error_mm(seen)} if how.diameter > 0 else {}),
        },
        curves={"malignancy": (is_bad, said), "malignancy of diameter alone": (is_bad, said_alone)},
        pictures=montages(seen),
    )
