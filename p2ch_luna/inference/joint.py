"""Both stages' opinions joined to the probability of a nodule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.findings import Candidate, Detection
from p2ch_luna.inference.classify import Opinions
from p2ch_luna.models.checkpoint import Calibration

LOGIT_LIMIT = 16.0  # where a probability in float32 becomes 1: beyond, a logit says nothing more


def stage_logits(
    segmentation_probability: ArrayLike, classifier_probability: ArrayLike
) -> NDArray[np.float64]:
    """(N,) probabilities of each stage -> (N, 2) logits within `LOGIT_LIMIT`."""
    stages = np.stack([segmentation_probability, classifier_probability], axis=-1).astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(stages) - np.log1p(-stages)
    return logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)


def joint_probability(
    segmentation_probability: float, classifier_probability: float, calibration: Calibration | None = None
) -> float:
    """What the calibration makes of both stages' logits; the sigmoid of their mean if there is none."""
    logits = stage_logits(segmentation_probability, classifier_probability)
    if calibration is None:
        joint = logits.mean()
    else:
        joint = logits @ [calibration.segmentation, calibration.classifier] + calibration.intercept
    return float(1 / (1 + np.exp(-joint)))


def score(
    candidates: Sequence[Candidate], opinions: Opinions, calibration: Calibration | None = None
) -> list[Detection]:
    """Join both stages' opinions, the most probable first; opinions are in the candidates' order."""
    return _ordered(joined(candidates, opinions, calibration))


def joined(
    candidates: Sequence[Candidate], opinions: Opinions, calibration: Calibration | None = None
) -> list[Detection]:
    """As `score`, but in the candidates' order."""
    suspicions: Sequence[float | None] = [None] * len(candidates)
    if opinions.malignancy_probability is not None:
        suspicions = opinions.malignancy_probability.tolist()
    return [
        Detection(
            series_uid=candidate.series_uid,
            center_xyz=candidate.center_xyz,
            probability=joint_probability(candidate.probability, float(nodule), calibration),
            diameter_mm=candidate.diameter_mm,
            volume_mm3=candidate.volume_mm3,
            segmentation_probability=candidate.probability,
            classifier_probability=float(nodule),
            malignancy_probability=suspicion,
        )
        for candidate, nodule, suspicion in zip(
            candidates, opinions.nodule_probability, suspicions, strict=True
        )
    ]


def rescored(detections: Sequence[Detection], calibration: Calibration | None) -> list[Detection]:
    """The same detections by another calibration, the most probable first."""
    return _ordered(
        [
            replace(
                found,
                probability=joint_probability(
                    found.segmentation_probability, found.classifier_probability, calibration
                ),
            )
            for found in detections
        ]
    )


def _ordered(detections: list[Detection]) -> list[Detection]:
    return sorted(detections, key=lambda detection: -detection.probability)
