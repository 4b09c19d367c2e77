"""Crops with the outline of the nodule in their middle: how they are changed, and what is lost on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from p2ch_luna.datasets.augment import Draw, apply
from p2ch_luna.datasets.candidates import CropSample, OutlinedSample
from p2ch_luna.datasets.scans import UNSURE
from p2ch_luna.errors import LunaError
from p2ch_luna.models.classifier import Verdict
from p2ch_luna.training import nodule
from p2ch_luna.training.losses import hard_bce_total, nodule_count, tversky_total
from p2ch_luna.training.pictures import before_after

HARD_SHARE = 0.01  # of a crop's background, the hardest to tell from the nodule, that counts
PART = "outline"  # of the network, of the loss


@dataclass(frozen=True)
class MalignancyLosses(nodule.CropLosses):
    """Also of the outline of the nodule in the middle."""

    outline: float = 0.0


def idle_parts(loss: Mapping[str, Any]) -> list[str]:
    """The parts of a network whose weight in the loss is 0: nothing trains them."""
    return [*nodule.idle_heads(loss), *([] if loss[PART] else [PART])]


def counts(batch: OutlinedSample, how: MalignancyLosses) -> dict[str, Tensor]:
    """How many samples each part is a mean over, see `nodule.counts`."""
    found = nodule.counts(crops_of(batch), how)
    if how.outline > 0:
        mask, is_known = _mask_and_weight(batch.labels)
        found[PART] = nodule_count(is_known, is_known)  # of a nodule without an outline nothing is known
        found[f"{PART}_dice"] = nodule_count(mask, is_known)
    return found


def totals(verdict: Verdict, batch: OutlinedSample, how: MalignancyLosses) -> dict[str, Tensor]:
    """Sums over the samples of which the truth is known, each times its part's weight.

    Of the outline: the cross-entropy of the nodule's voxels and of the hardest others, and the soft Dice.
    """
    found = nodule.totals(verdict, crops_of(batch), how)
    if how.outline > 0:
        logit, truth = _outline_logit(verdict, how), _mask_and_weight(batch.labels)
        found[PART] = how.outline * hard_bce_total(logit, *truth, HARD_SHARE)
        found[f"{PART}_dice"] = how.outline * tversky_total(logit, *truth, false_negatives=1.0)
    return found


def _outline_logit(verdict: Verdict, how: MalignancyLosses) -> Tensor:
    if verdict.outline_logit is None:
        raise LunaError(
            f"loss.outline = {how.outline:g}, but the network outlines nothing; "
            "wanted model.outline = true, or a weight of 0"
        )
    return verdict.outline_logit


def _mask_and_weight(labels: Tensor) -> tuple[Tensor, Tensor]:
    is_known = labels != UNSURE
    return ((labels > 0) & is_known).float(), is_known.float()


def crops_of(batch: OutlinedSample) -> CropSample:
    """The same crops without their outlines."""
    return CropSample(batch.hu, batch.is_nodule, batch.rating, batch.diameter_mm)


def augment_crops(batch: OutlinedSample, drawn: Draw) -> OutlinedSample:
    """The batch as it was drawn, outlines too; a nodule that is scaled has another diameter."""
    hu, labels = apply(batch.hu, batch.labels, drawn)
    changed = batch._replace(hu=hu, diameter_mm=nodule.scaled(batch.diameter_mm, drawn))
    return changed if labels is None else changed._replace(labels=labels)


def plain_crops(batch: OutlinedSample) -> OutlinedSample:
    """The batch as it is, for validation."""
    return batch._replace(hu=batch.hu.float())


def show_crops(batch: OutlinedSample, changed: OutlinedSample) -> NDArray[np.uint8]:
    """The first crops of a batch above what augmentation has made of them, outlined, (H, W, 3)."""
    shown = (batch.hu, batch.labels, changed.hu, changed.labels)
    hu, labels, changed_hu, changed_labels = (t[: nodule.N_SHOWN, 0].cpu().numpy() for t in shown)
    return before_after(hu.astype(np.float32), labels, changed_hu, changed_labels)
