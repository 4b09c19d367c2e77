"""Losses as totals: logits in, float32 sums out, also under autocast.

A total divided by its count is a mean. Totals and counts of the pieces of a batch add up to those of the
batch, so a batch can be computed in pieces, or by several processes, and has the same loss and gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

QUESTIONS = 4  # "is the mean rating above k", for k from 1: what the ordinal loss asks …
MALIGNANT_ABOVE = 3  # … of which the malignancy logit answers this one …
CUT_POINT_DISTANCE = 1.5  # … and the next answer lies so far from it


def focal_total(logit: Tensor, target: Tensor, weight: Tensor, gamma: float = 2.0) -> Tensor:
    """Summed focal loss of voxels, each with its weight (Lin et al. 2017, arXiv:1708.02002); count: voxels.

    logit, target, weight: the same shape. The easy voxels, almost all of a CT, fade by
    (1 - probability of the truth) ** gamma. There is no alpha: `weight` is the place to balance.
    """
    cross_entropy = _cross_entropy(logit, target)
    return (weight * (1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy).sum()


def hard_bce_total(logit: Tensor, target: Tensor, weight: Tensor, hard_share: float) -> Tensor:
    """Cross-entropy of each sample's nodule voxels and of its hardest background voxels; count: samples.

    logit, target (0 or 1), weight: (B, ...). Of a sample: the mean over nodule voxels, by `weight`, plus
    the mean over the `hard_share` of the background voxels that have the highest loss, at least one (online
    hard example mining, Shrivastava et al. 2016, arXiv:1604.03540). Background voxels count alike, those of
    weight 0 not at all. A sample without a nodule has the second part alone.
    """
    cross_entropy = _cross_entropy(logit, target).flatten(1)
    target, weight = target.flatten(1), weight.flatten(1)
    nodule_weight = weight * target
    weight_sum = nodule_weight.sum(1)
    nodules = (nodule_weight * cross_entropy).sum(1) / torch.where(weight_sum > 0, weight_sum, 1.0)
    is_background = (target == 0) & (weight > 0)
    return (nodules + _mean_of_highest(cross_entropy, is_background, hard_share)).sum()


def tversky_total(logit: Tensor, mask: Tensor, weight: Tensor, false_negatives: float) -> Tensor:
    """Summed 1 - soft Tversky index of the samples with a nodule (arXiv:1706.05721); `nodule_count`.

    logit, mask, weight: (B, 1, D, H, W). The index is TP / (TP + a FP + b FN) with a + b = 1 and
    b / a = `false_negatives`: how many false voxels a missed one outweighs; 1 is soft Dice. As a + b = 1,
    its denominator is a (TP + FP) + b (TP + FN). Voxels count alike, those of weight 0 not at all: weights
    by a nodule's size would make that number another for every size. A sample without a nodule has no index:
    any value there would only say how faint the faintest false voxel is.
    """
    probability, known = logit.float().sigmoid(), (weight > 0).float()
    twice_a, twice_b = (2 * share for share in _shares(false_negatives))
    overlap = (known * probability * mask).flatten(1).sum(1)
    size = (known * (twice_a * probability + twice_b * mask)).flatten(1).sum(1)
    index = (2 * overlap + 1) / (size + 1)
    return ((1 - index) * _has_nodule(mask, weight)).sum()


def balanced_bce_totals(logit: Tensor, target: Tensor, false_negatives: float) -> Tensor:
    """(2,): summed cross-entropy of the non-nodules and of the nodules, times their parts; `class_counts`.

    logit, target (0 or 1): (B,). The parts add up to 1, that of the nodules is `false_negatives` times the
    other; each class is a mean of its own, so how many of each a batch holds does not matter.
    """
    others, nodules = _shares(false_negatives)
    cross_entropy = _cross_entropy(logit, target)
    return torch.stack(
        [others * ((1 - target) * cross_entropy).sum(), nodules * (target * cross_entropy).sum()]
    )


def masked_bce_total(logit: Tensor, target: Tensor) -> Tensor:
    """Summed cross-entropy of the samples whose target, in [0, 1], is not NaN; `known_count`."""
    return torch.where(target.isnan(), 0.0, _cross_entropy(logit, target.nan_to_num(0.0))).sum()


def ordinal_total(logit: Tensor, mean_rating: Tensor) -> Tensor:
    """Summed loss of a proportional odds model (McCullagh 1980) of ratings 1 to 5 or NaN; `known_count`.

    logit, mean_rating: (B,). The model answers four questions, "is the rating above k", with logits that
    lie `CUT_POINT_DISTANCE` apart; `logit` itself is the answer for 3. A mean between k and k + 1 is a
    partly true "above k". Of a sample: the mean over the questions. The cut points are fixed, so that a
    probability means the same in every model.
    """
    above = torch.arange(1, QUESTIONS + 1, device=logit.device)
    answers = logit.float()[:, None] - CUT_POINT_DISTANCE * (above - MALIGNANT_ABOVE)
    truth = (mean_rating.float().nan_to_num(0.0)[:, None] - above).clamp(0, 1)
    return torch.where(mean_rating.isnan(), 0.0, _cross_entropy(answers, truth).mean(1)).sum()


def diameter_total(log_mm: Tensor, diameter_mm: Tensor, beta: float = 0.25) -> Tensor:
    """Summed smooth L1 distance from the logarithm of the diameter, where that is known; `diameter_count`.

    log_mm, diameter_mm (NaN: not known): (B,). Up to `beta`, about a quarter too large or too small, the
    loss is quadratic, then linear: readers' diameters differ.
    """
    known = diameter_mm > 0
    truth = torch.where(known, diameter_mm, 1.0).float().log()
    distance = F.smooth_l1_loss(log_mm.float(), truth, reduction="none", beta=beta)
    return torch.where(known, distance, 0.0).sum()


def voxel_count(target: Tensor) -> Tensor:
    """() how many voxels a batch holds."""
    return _number(target.numel(), target)


def sample_count(target: Tensor) -> Tensor:
    """() how many samples (B, ...) holds."""
    return _number(len(target), target)


def nodule_count(mask: Tensor, weight: Tensor) -> Tensor:
    """() samples of (B, ...) with a nodule voxel whose weight is not 0."""
    return _has_nodule(mask, weight).sum()


def class_counts(target: Tensor) -> Tensor:
    """(2,) zeros and ones of a (B,) target."""
    return torch.stack([(1 - target).sum(), target.sum()]).float()


def known_count(target: Tensor) -> Tensor:
    """() samples of (B,) whose target is not NaN."""
    return (~target.isnan()).sum().float()


def diameter_count(diameter_mm: Tensor) -> Tensor:
    """() samples of (B,) whose diameter is known: a number above 0."""
    return (diameter_mm > 0).sum().float()


def _cross_entropy(logit: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit.float(), target.float(), reduction="none")


def _mean_of_highest(values: Tensor, counted: Tensor, share: float) -> Tensor:
    """(B,) mean over the highest `share` of the values of each row that count, (B, N) both; 0 if none does.

    How many these are differs from row to row. Nothing waits for the device to know it.
    """
    available = counted.sum(1)
    number = (available * share).round().clamp(min=1).minimum(available)
    most = min(int(values.shape[1] * share) + 1, values.shape[1])  # of any row: known without looking
    highest = torch.where(counted, values, -1.0).topk(most, dim=1).values  # no loss is below 0
    taken = torch.arange(most, device=values.device) < number[:, None]
    return torch.where(taken, highest, 0.0).sum(1) / number.clamp(min=1)


def _shares(false_negatives: float) -> tuple[float, float]:
    """Two numbers that add up to 1, the second `false_negatives` times the first."""
    return 1 / (1 + false_negatives), false_negatives / (1 + false_negatives)


def _has_nodule(mask: Tensor, weight: Tensor) -> Tensor:
    """(B,) 1.0 or 0.0."""
    return ((weight * mask).flatten(1).sum(1) > 0).float()


def _number(value: int, like: Tensor) -> Tensor:
    return torch.full((), float(value), device=like.device)
