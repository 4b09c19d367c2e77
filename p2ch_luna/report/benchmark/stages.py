"""What the stages of the search do one by one: how much is proposed, and who tells nodules from the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.findings import Nodule
from p2ch_luna.frozen import Frozen
from p2ch_luna.metrics.intervals import auc_with_interval
from p2ch_luna.metrics.matching import effective_diameter_mm, hits
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.evaluation.schema import Interval
from p2ch_luna.report.evaluation.scores import wilson

FROM_MM = 4.0  # smaller nodules need no follow-up


class Proposed(Frozen):
    """How many of a group of nodules are hit by a candidate, whatever its score."""

    name: str  # "all" or "from 4 mm"
    nodules: int
    proposed: int
    share: float
    share_95: tuple[float, float]  # Wilson's, which takes nodules as independent


class Auc(Frozen):
    """How well a probability tells the candidates that hit a nodule from those that hit nothing."""

    auc: float | None  # None: there are none of one kind
    auc_95: Interval  # DeLong's, which takes candidates as independent


class Stages(Frozen):
    """Candidates are all that the segmentation proposes, before the classifier has judged them."""

    candidates_per_scan: float  # mean
    on_nodules: int  # candidates that hit an implanted nodule
    on_nothing: int  # … that hit nothing; those on excluded findings are in neither
    proposed: tuple[Proposed, ...]  # groups without a nodule are left out
    auc: dict[str, Auc]  # of the probability of: segmentation, classifier, joint


def stages_of(parts: Sequence[Part]) -> Stages:
    """The figures of at least one scan, over all its candidates."""
    is_proposed = np.concatenate([is_hit(part, _nodules(part)).any(axis=1) for part in parts])
    on_nodule = np.concatenate([is_hit(part, _nodules(part)).any(axis=0) for part in parts])
    on_excluded = np.concatenate([is_hit(part, part.excluded).any(axis=0) for part in parts])
    counts = on_nodule | ~on_excluded
    marks = [mark for part in parts for mark in part.detections]
    probabilities = {
        "segmentation": [mark.segmentation_probability for mark in marks],
        "classifier": [mark.classifier_probability for mark in marks],
        "joint": [mark.probability for mark in marks],
    }
    return Stages(
        candidates_per_scan=len(marks) / len(parts),
        on_nodules=int(on_nodule.sum()),
        on_nothing=int((counts & ~on_nodule).sum()),
        proposed=_proposed(parts, is_proposed),
        auc={name: _auc(on_nodule[counts], np.array(of)[counts]) for name, of in probabilities.items()},
    )


def _nodules(part: Part) -> list[Nodule]:
    return [one.nodule for one in part.implanted]


def is_hit(part: Part, nodules: Sequence[Nodule]) -> NDArray[np.bool_]:
    """(N, M): whether mark m of this scan hits nodule n."""
    return hits(
        np.array([nodule.center_xyz for nodule in nodules], float).reshape(-1, 3),
        np.array([effective_diameter_mm(nodule) for nodule in nodules], float),
        np.array([mark.center_xyz for mark in part.detections], float).reshape(-1, 3),
    )


def _proposed(parts: Sequence[Part], is_proposed: NDArray[np.bool_]) -> tuple[Proposed, ...]:
    diameter_mm = np.array([effective_diameter_mm(n) for part in parts for n in _nodules(part)], float)
    groups = {f"from {FROM_MM:g} mm": is_proposed[diameter_mm >= FROM_MM], "all": is_proposed}
    return tuple(
        Proposed(
            name=name,
            nodules=len(of_group),
            proposed=int(of_group.sum()),
            share=float(of_group.mean()),
            share_95=wilson(float(of_group.mean()), len(of_group)),
        )
        for name, of_group in groups.items()
        if len(of_group)
    )


def _auc(is_nodule: NDArray[np.bool_], probability: NDArray[np.float64]) -> Auc:
    found = auc_with_interval(is_nodule, probability)
    return Auc(
        auc=found.value if math.isfinite(found.value) else None,
        auc_95=(found.low, found.high) if math.isfinite(found.low) and math.isfinite(found.high) else None,
    )
