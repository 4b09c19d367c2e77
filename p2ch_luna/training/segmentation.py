"""The segmentation task: its loss and its validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from p2ch_luna.datasets.augment import Augmentation, apply, draw
from p2ch_luna.datasets.patches import REFERENCE_MM3, PatchBatch, PatchSample, as_batch
from p2ch_luna.datasets.scans import UNSURE
from p2ch_luna.metrics.overlap import dice
from p2ch_luna.models.precision import autocast
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.loop import to_device
from p2ch_luna.training.losses import dice_loss, focal_loss
from p2ch_luna.training.pictures import before_after, montage, picture

FAINT, SEEN = 0.1, 0.5  # probability from which a voxel is part of a candidate, of the mask
FP_PER_PATCH = 0.2  # about 4 a scan: a pair of lungs is some 20 patches of 64 mm
N_PICTURES, N_SHOWN = 18, 8
NEIGHBOURS = np.ones((3, 3, 3))


def segmentation_loss(
    model: nn.Module, batch: PatchBatch, loss_weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Focal and Dice, each times its weight."""
    with autocast(batch.hu.device):
        logit = model(batch.hu)
    return loss_of_logit(logit, batch, loss_weights)


def loss_of_logit(logit: Tensor, batch: PatchBatch, loss_weights: Mapping[str, float]) -> dict[str, Tensor]:
    """The parts of the loss, from what the model said of the batch."""
    return {
        "focal": loss_weights["focal"] * focal_loss(logit, batch.mask, batch.weight),
        "dice": loss_weights["dice"] * dice_loss(logit, batch.mask, batch.weight),
    }


def augment_patches(batch: PatchSample, how: Augmentation, generator: torch.Generator) -> PatchBatch:
    """A new draw for each sample; the labels follow."""
    hu, labels = apply(batch.hu, batch.labels, draw(len(batch.hu), how, generator))
    return as_batch(hu, batch.labels if labels is None else labels)


def show_patches(batch: PatchSample, changed: PatchBatch) -> NDArray[np.uint8]:
    """The first samples of a batch above what augmentation has made of them, (H, W, 3)."""
    unsure = torch.where(changed.weight == 0, UNSURE, 0)
    labels = torch.where(changed.mask > 0, 1, unsure).to(torch.uint8)
    shown = [t[:N_SHOWN, 0].cpu().numpy() for t in (batch.hu, batch.labels, changed.hu, labels)]
    return before_after(shown[0], shown[1], shown[2], shown[3])


@torch.inference_mode()
def evaluate_segmentation(
    model: nn.Module,
    batches: Iterable[PatchSample],
    device: torch.device,
    loss_weights: Mapping[str, float],
) -> Evaluation:
    """Sensitivity per nodule at `FP_PER_PATCH`, by size; Dice of found nodules; the loss."""
    model.eval()
    losses: list[float] = []
    hits: list[tuple[float, int]] = []  # highest probability in a nodule, its voxels
    false_positives: list[float] = []
    dices: list[float] = []
    voxels: list[tuple[NDArray[np.bool_], NDArray[np.float32]]] = []
    pictures: list[NDArray[np.uint8]] = []
    n_patches = 0
    for batch in batches:
        moved = as_batch(*to_device(batch, device))
        with autocast(device):
            logit = model(moved.hu)
        losses.append(float(sum(loss_of_logit(logit, moved, loss_weights).values())))
        probability = logit.float().sigmoid()
        for hu, mask, weight, p in zip(*(t.cpu().numpy()[:, 0] for t in (*moved, probability)), strict=True):
            truth = mask > 0
            found, false = match_components(p, truth, weight == 0)
            hits += found
            false_positives += false
            if truth.any() and found:
                dices.append(dice(p > SEEN, truth))
            voxels.append((truth[::4, ::4, ::4].ravel(), p[::4, ::4, ::4].ravel()))
            if len(pictures) < N_PICTURES and (truth.any() or false):
                pictures.append(picture(hu, truth, p > SEEN))
            n_patches += 1
    threshold = _threshold_at(false_positives, FP_PER_PATCH * n_patches)
    return Evaluation(
        metrics={
            "loss": float(np.mean(losses)),
            "sensitivity": _share([p > threshold for p, _ in hits]),
            "sensitivity_under_6mm": _share([p > threshold for p, n in hits if n < REFERENCE_MM3]),
            "sensitivity_proposed": _share([p > FAINT for p, _ in hits]),
            "false_positives_per_patch": len(false_positives) / n_patches,
            "dice": float(np.mean(dices)) if dices else 0.0,
        },
        best_by="sensitivity",
        curves={"voxels": tuple(np.concatenate(side) for side in zip(*voxels, strict=True))},  # type: ignore[dict-item]
        pictures={"patches (true green, said red)": montage(pictures)} if pictures else {},
    )


def match_components(
    probability: NDArray[np.float32], truth: NDArray[np.bool_], unsure: NDArray[np.bool_]
) -> tuple[list[tuple[float, int]], list[float]]:
    """(highest probability, voxels) of each true nodule; highest probability of each false candidate.

    All (D, H, W). A candidate is a connected region above `FAINT`; one that touches a nodule or an
    unsure place is not false.
    """
    nodules, n_nodules = ndimage.label(truth, NEIGHBOURS)
    numbers = range(1, n_nodules + 1)
    highest = ndimage.maximum(probability, nodules, numbers) if n_nodules else np.empty(0)
    sizes = np.bincount(nodules.ravel(), minlength=n_nodules + 1)[1:]
    regions, n_regions = ndimage.label(probability > FAINT, NEIGHBOURS)
    touched = set(np.unique(regions[truth | unsure]))
    false = [k for k in range(1, n_regions + 1) if k not in touched]
    peaks = ndimage.maximum(probability, regions, false) if false else np.empty(0)
    return [(float(p), int(n)) for p, n in zip(highest, sizes, strict=True)], [float(p) for p in peaks]


def _threshold_at(scores: list[float], allowed: float) -> float:
    """The lowest threshold that at most `allowed` scores lie above."""
    ranked = sorted(scores, reverse=True)
    return ranked[int(allowed)] if len(ranked) > int(allowed) else FAINT


def _share(hits: list[bool]) -> float:
    return float(np.mean(hits)) if hits else 0.0
