"""The classifier's task: what its loss counts and adds up, and its validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2ch_luna.datasets.augment import Draw, apply
from p2ch_luna.datasets.candidates import CropSample, is_malignant
from p2ch_luna.errors import LunaError
from p2ch_luna.metrics.binary import at_threshold, average_precision, roc_auc
from p2ch_luna.metrics.calibration import calibration
from p2ch_luna.metrics.intervals import sensitivity_at_specificity
from p2ch_luna.models.classifier import Verdict
from p2ch_luna.training.evaluation import Evaluation, loss_metrics
from p2ch_luna.training.losses import (
    balanced_bce_totals,
    class_counts,
    diameter_count,
    diameter_total,
    known_count,
    masked_bce_total,
    ordinal_total,
)
from p2ch_luna.training.pictures import before_after, captioned, montage, picture

MalignancyLabels = Literal["binary", "soft", "ordinal"]

LOWEST_RATING, RATING_RANGE = 1.0, 4.0  # readers rate from 1 to 5
SEEN = 0.5  # nodule probability from which a crop is called a nodule
N_PICTURES, N_SHOWN = 12, 8  # of a kind after a validation; of a batch
HITS, MISSES, FALSE_POSITIVES = "hits", "misses", "worst false positives"  # kinds of pictures


@dataclass(frozen=True)
class CropLosses:
    """Weights of the parts of a crop's loss, and what they are of; a part of weight 0 is left out."""

    nodule: float = 1.0
    malignancy: float = 0.3
    diameter: float = 0.0
    false_negatives: float = 1.0  # weight of a nodule against another crop in `nodule`; 1: balanced
    malignancy_labels: MalignancyLabels = "binary"


def idle_heads(loss: Mapping[str, Any]) -> list[str]:
    """The heads whose weight in the loss is 0: nothing trains them."""
    return [f"heads.{name}" for name in ("nodule", "malignancy", "diameter") if not loss[name]]


def counts(batch: CropSample, how: CropLosses) -> dict[str, Tensor]:
    """How many samples each part is a mean over: `nodule` (2,) as its totals, the others ()."""
    found = {}
    if how.nodule > 0:
        found["nodule"] = class_counts(batch.is_nodule)
    if how.malignancy > 0:
        found["malignancy"] = known_count(malignancy_target(batch.rating, how.malignancy_labels))
    if how.diameter > 0:
        found["diameter"] = diameter_count(batch.diameter_mm)
    return found


def totals(verdict: Verdict, batch: CropSample, how: CropLosses) -> dict[str, Tensor]:
    """Sums over the samples of which the truth is known, each times its part's weight."""
    found = {}
    if how.nodule > 0:
        both = balanced_bce_totals(verdict.nodule_logit, batch.is_nodule, how.false_negatives)
        found["nodule"] = how.nodule * both
    if how.malignancy > 0:
        target = malignancy_target(batch.rating, how.malignancy_labels)
        total = ordinal_total if how.malignancy_labels == "ordinal" else masked_bce_total
        found["malignancy"] = how.malignancy * total(verdict.malignancy_logit, target)
    if how.diameter > 0:
        found["diameter"] = how.diameter * diameter_total(_log_diameter(verdict, how), batch.diameter_mm)
    return found


def malignancy_target(rating: Tensor, labels: MalignancyLabels) -> Tensor:
    """What the malignancy head learns of mean ratings, of any shape; NaN: nothing.

    binary: 0 benign, 1 malignant, NaN between.    soft: 0 at a mean of 1 to 1 at 5.    ordinal: the rating.
    """
    if labels == "binary":
        return is_malignant(rating)
    return (rating - LOWEST_RATING) / RATING_RANGE if labels == "soft" else rating


def _log_diameter(verdict: Verdict, how: CropLosses) -> Tensor:
    if verdict.log_diameter is None:
        raise LunaError(
            f"loss.diameter = {how.diameter:g}, but the network has no diameter head; "
            "wanted model.diameter_head = true, or a weight of 0"
        )
    return verdict.log_diameter


def augment_crops(batch: CropSample, drawn: Draw) -> CropSample:
    """The batch as it was drawn; a nodule that is scaled has another diameter."""
    hu, _ = apply(batch.hu, None, drawn)
    return batch._replace(hu=hu, diameter_mm=scaled(batch.diameter_mm, drawn))


def scaled(diameter_mm: Tensor, drawn: Draw) -> Tensor:
    """(B,) diameters after the augmentation."""
    shrunk = torch.linalg.det(drawn.linear.double()).abs() ** (1 / 3)  # `linear` leads from after to before
    after: Tensor = diameter_mm / shrunk.to(diameter_mm, non_blocking=True)
    return after


def plain_crops(batch: CropSample) -> CropSample:
    """The batch as it is, for validation."""
    return batch._replace(hu=batch.hu.float())


def show_crops(batch: CropSample, changed: CropSample) -> NDArray[np.uint8]:
    """The first crops of a batch above what augmentation has made of them, (H, W, 3)."""
    first, then = (t[:N_SHOWN].float().cpu().numpy()[:, 0] for t in (batch.hu, changed.hu))
    return before_after(first, None, then, None)


@dataclass(frozen=True, eq=False)
class Shown:
    """A crop for a picture."""

    rank: float  # among its kind, the lowest first
    hu: NDArray[np.int16]  # (1, H, W), its middle slice
    caption: str


@dataclass(frozen=True, eq=False)
class CropObservation:
    """What validation batches of N crops together have shown; arrays are (N,) float32."""

    totals: dict[str, NDArray[np.float64]]  # of the parts of the loss
    counts: dict[str, NDArray[np.float64]]
    is_nodule: NDArray[np.float32]  # 0 or 1
    is_malignant: NDArray[np.float32]  # 0, 1 or NaN
    diameter_mm: NDArray[np.float32]  # NaN where unknown
    nodule_probability: NDArray[np.float32]
    malignancy_probability: NDArray[np.float32]
    said_mm: NDArray[np.float32]  # NaN without a head for the diameter
    shown: dict[str, list[Shown]]  # `N_PICTURES` at most of each kind


def observe(verdict: Verdict, batch: CropSample, how: CropLosses) -> CropObservation:
    """Keep of a batch what `summarise` needs: figures, and few crops."""
    seen = observe_figures(verdict, batch, how)
    is_nodule, said = seen.is_nodule > 0, seen.nodule_probability
    shown = {
        HITS: choose(batch, is_nodule & (said >= SEEN), said),
        MISSES: choose(batch, is_nodule & (said < SEEN), said),
        FALSE_POSITIVES: choose(batch, ~is_nodule, said, highest_first=True),
    }
    return replace(seen, shown=shown)


def observe_figures(verdict: Verdict, batch: CropSample, how: CropLosses) -> CropObservation:
    """All but the pictures."""
    log_mm = verdict.log_diameter

    def numpy(figure: Tensor) -> NDArray[np.float32]:
        return figure.float().cpu().numpy()

    return CropObservation(
        totals=as_arrays(totals(verdict, batch, how)),
        counts=as_arrays(counts(batch, how)),
        is_nodule=numpy(batch.is_nodule),
        is_malignant=numpy(is_malignant(batch.rating)),
        diameter_mm=numpy(batch.diameter_mm),
        nodule_probability=numpy(verdict.nodule_logit.float().sigmoid()),
        malignancy_probability=numpy(verdict.malignancy_logit.float().sigmoid()),
        said_mm=numpy(
            torch.full_like(batch.diameter_mm, torch.nan) if log_mm is None else log_mm.float().exp()
        ),
        shown={},
    )


def as_arrays(figures: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    """Totals or counts as an observation has them."""
    return {name: figure.float().cpu().numpy().astype(float) for name, figure in figures.items()}


def choose(
    batch: CropSample,
    chosen: NDArray[np.bool_],
    probability: NDArray[np.float32],
    *,
    highest_first: bool = False,
) -> list[Shown]:
    """Of the chosen (B,) crops the `N_PICTURES` of the lowest, or highest, probability."""
    rank, middle = -probability if highest_first else probability, batch.hu.shape[2] // 2
    order = np.argsort(rank, kind="stable")
    return [
        Shown(
            float(rank[i]),
            batch.hu[i, 0, middle : middle + 1].round().to(torch.int16).cpu().numpy(),
            _caption(float(probability[i]), float(batch.diameter_mm[i])),
        )
        for i in order[chosen[order]][:N_PICTURES].tolist()
    ]


def _caption(probability: float, diameter_mm: float) -> str:
    return f"{probability:.2f}" if math.isnan(diameter_mm) else f"{probability:.2f}, {diameter_mm:.0f} mm"


def join(observations: Sequence[CropObservation]) -> CropObservation:
    """All as one, in their order; of the pictures as many as of one."""

    def summed(of_each: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
        return {name: np.asarray(sum(one[name] for one in of_each)) for name in of_each[0]}

    def ranked(kind: str) -> list[Shown]:
        shown = [crop for one in observations for crop in one.shown[kind]]
        return sorted(shown, key=lambda crop: crop.rank)[:N_PICTURES]

    return CropObservation(
        totals=summed([one.totals for one in observations]),
        counts=summed([one.counts for one in observations]),
        is_nodule=np.concatenate([one.is_nodule for one in observations]),
        is_malignant=np.concatenate([one.is_malignant for one in observations]),
        diameter_mm=np.concatenate([one.diameter_mm for one in observations]),
        nodule_probability=np.concatenate([one.nodule_probability for one in observations]),
        malignancy_probability=np.concatenate([one.malignancy_probability for one in observations]),
        said_mm=np.concatenate([one.said_mm for one in observations]),
        shown={kind: ranked(kind) for kind in observations[0].shown},
    )


def summarise(observations: Sequence[CropObservation], how: CropLosses, _baseline: None = None) -> Evaluation:
    """AUC and operating points of nodule against the rest; malignancy, if learnt, beside diameter alone."""
    seen = join(observations)
    truth, said = seen.is_nodule > 0, seen.nodule_probability
    rated, is_bad = known_malignancy(seen)
    found = at_threshold(truth, said, SEEN)
    suspicion = {"malignancy": (is_bad, seen.malignancy_probability[rated])} if how.malignancy > 0 else {}
    return Evaluation(
        metrics={
            **loss_metrics([seen]),
            "nodule_auc": roc_auc(truth, said),
            "average_precision": average_precision(truth, said),
            "sensitivity": found.sensitivity,
            "precision": found.precision,
            "f1": found.f1,
            "sensitivity_at_5_percent_fp": sensitivity_at_specificity(truth, said, 0.95),
            "calibration_error": calibration(truth, said).error,
            **(beside_diameter(*suspicion["malignancy"], seen.diameter_mm[rated]) if suspicion else {}),
            **({"diameter_error_mm": diameter_error_mm(seen)} if how.diameter > 0 else {}),
        },
        curves={"nodule": (truth, said), **suspicion},
        pictures=montages(seen),
    )


def known_malignancy(seen: CropObservation) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N,) which are nodules benign or malignant, of known diameter; (R,) which of these are malignant."""
    rated = ~np.isnan(seen.is_malignant) & (seen.diameter_mm > 0)
    return rated, seen.is_malignant[rated] > 0


def beside_diameter(
    is_bad: NDArray[np.bool_], said: NDArray[np.float32], by_diameter: NDArray[np.float32]
) -> dict[str, float]:
    """AUC of the said malignancy and of the diameter, of the same (R,) nodules, and what the first gains.

    Neither interval nor p: a validation draws the same few nodules over and over, and a test that takes the
    draws as independent is several times too sure. Of distinct nodules `compare_auc` tells both.
    """
    of_said, of_diameter = roc_auc(is_bad, said), roc_auc(is_bad, by_diameter)
    return {
        "malignancy_auc": of_said,
        "malignancy_auc_of_diameter": of_diameter,
        "malignancy_auc_gain": of_said - of_diameter,
    }


def diameter_error_mm(seen: CropObservation) -> float:
    """Median distance of the said diameters from the known ones; NaN where there are none."""
    error = np.abs(seen.said_mm - seen.diameter_mm)
    known = error[~np.isnan(error)]
    return float(np.median(known)) if len(known) else math.nan


def montages(seen: CropObservation) -> dict[str, NDArray[np.uint8]]:
    """A picture a kind of crops, of kinds that there are."""
    return {
        kind: montage([captioned(picture(one.hu.astype(np.float32)), one.caption) for one in shown])
        for kind, shown in seen.shown.items()
        if shown
    }
