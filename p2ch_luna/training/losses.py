"""Losses. Logits in, float32 scalars out, also under autocast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(logit: Tensor, target: Tensor, weight: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean focal loss of voxels, each with its weight (Lin et al. 2017, arXiv:1708.02002).

    logit, target, weight: the same shape. The easy voxels, almost all of a CT, fade by
    (1 - probability of the truth) ** gamma. There is no alpha: `weight` is the place to balance.
    """
    logit = logit.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
    return (weight * (1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy).mean()


def dice_loss(logit: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """1 - soft Dice, weighted by voxel, averaged over the samples that hold a nodule; 0 if none does.

    logit, mask, weight: (B, 1, D, H, W). A sample without a nodule has no Dice: any value there would
    only say how faint the faintest false voxel is.
    """
    probability = logit.float().sigmoid()
    axes = (1, 2, 3, 4)
    overlap = (weight * probability * mask).sum(axes)
    size = (weight * (probability + mask)).sum(axes)
    has_nodule = ((weight * mask).sum(axes) > 0).float()
    dice = (2 * overlap + 1) / (size + 1)
    return ((1 - dice) * has_nodule).sum() / has_nodule.sum().clamp(min=1)


def masked_bce(logit: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy over the samples whose target is not NaN; 0 if there is none."""
    known = ~target.isnan()
    loss = F.binary_cross_entropy_with_logits(logit.float(), target.nan_to_num(0.0), reduction="none")
    return torch.where(known, loss, 0.0).sum() / known.sum().clamp(min=1)
