"""The classifier's task: its loss and its validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2ch_luna.datasets.augment import Augmentation, apply, draw
from p2ch_luna.datasets.candidates import CropSample
from p2ch_luna.metrics.binary import roc_auc
from p2ch_luna.models.classifier import Verdict
from p2ch_luna.models.precision import autocast
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.loop import to_device
from p2ch_luna.training.losses import masked_bce
from p2ch_luna.training.pictures import before_after, montage, picture

N_PICTURES, N_SHOWN = 12, 8


def nodule_loss(model: nn.Module, batch: CropSample, loss_weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Cross-entropy of both heads, each times its weight; malignancy only where it is known."""
    with autocast(batch.hu.device):
        verdict: Verdict = model(batch.hu)
    return loss_of_verdict(verdict, batch, loss_weights)


def loss_of_verdict(
    verdict: Verdict, batch: CropSample, loss_weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """The parts of the loss, from what the model said of the batch."""
    return {
        "nodule": loss_weights["nodule"] * masked_bce(verdict.nodule_logit, batch.is_nodule),
        "malignancy": loss_weights["malignancy"] * masked_bce(verdict.malignancy_logit, batch.malignancy),
    }


def augment_crops(batch: CropSample, how: Augmentation, generator: torch.Generator) -> CropSample:
    """A new draw for each sample."""
    hu, _ = apply(batch.hu, None, draw(len(batch.hu), how, generator))
    return batch._replace(hu=hu)


def show_crops(batch: CropSample, changed: CropSample) -> NDArray[np.uint8]:
    """The first crops of a batch above what augmentation has made of them, (H, W, 3)."""
    first, then = (t[:N_SHOWN].float().cpu().numpy()[:, 0] for t in (batch.hu, changed.hu))
    return before_after(first, None, then, None)


@torch.inference_mode()
def evaluate_nodule(
    model: nn.Module,
    batches: Iterable[CropSample],
    device: torch.device,
    loss_weights: Mapping[str, float],
) -> Evaluation:
    """AUC of nodule against the rest; AUC of malignancy, and that of diameter alone beside it."""
    model.eval()
    losses: list[float] = []
    columns: list[NDArray[np.float32]] = []  # (B, 5): truths and scores, see below
    crops: list[NDArray[np.float32]] = []
    for batch in batches:
        moved = to_device(batch, device)
        with autocast(device):
            verdict = model(moved.hu.float())
        losses.append(float(sum(loss_of_verdict(verdict, moved, loss_weights).values())))
        scores = [logit.float().sigmoid().cpu() for logit in verdict]
        columns.append(
            torch.stack([batch.is_nodule, batch.malignancy, batch.diameter_mm, *scores], dim=1).numpy()
        )
        middle = batch.hu.shape[2] // 2
        crops += list(batch.hu.numpy()[:, 0, middle - 1 : middle + 2])  # what `picture` shows of them
    is_nodule, malignancy, diameter_mm, nodule_probability, malignancy_probability = np.concatenate(columns).T
    truth, rated = is_nodule > 0, ~np.isnan(malignancy)
    return Evaluation(
        metrics={
            "loss": float(np.mean(losses)),
            "nodule_auc": roc_auc(truth, nodule_probability),
            "sensitivity_at_5_percent_fp": _sensitivity_at(truth, nodule_probability, 0.05),
            "malignancy_auc": roc_auc(malignancy[rated] > 0, malignancy_probability[rated]),
            "malignancy_auc_of_diameter": roc_auc(malignancy[rated] > 0, diameter_mm[rated]),
        },
        best_by="nodule_auc",
        curves={
            "nodule": (truth, nodule_probability),
            "malignancy": (malignancy[rated] > 0, malignancy_probability[rated]),
        },
        pictures=_worst(crops, truth, nodule_probability),
    )


def _sensitivity_at(truth: NDArray[np.bool_], score: NDArray[np.float32], fp_share: float) -> float:
    threshold = np.quantile(score[~truth], 1 - fp_share)
    return float((score[truth] > threshold).mean())


def _worst(
    crops: list[NDArray[np.float32]], truth: NDArray[np.bool_], score: NDArray[np.float32]
) -> dict[str, NDArray[np.uint8]]:
    """The nodules with the lowest and the others with the highest scores."""
    order = np.argsort(score)
    missed = [i for i in order if truth[i]][:N_PICTURES]
    false = [i for i in order[::-1] if not truth[i]][:N_PICTURES]
    return {
        name: montage([picture(crops[i]) for i in indices])
        for name, indices in (("lowest nodules", missed), ("highest non-nodules", false))
        if indices
    }
