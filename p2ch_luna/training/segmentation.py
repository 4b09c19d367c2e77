"""The segmentation task: its losses, and what a validation says of it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2ch_luna.datasets.augment import Draw, apply
from p2ch_luna.datasets.patches import PatchBatch, PatchSample, as_batch
from p2ch_luna.datasets.scans import UNSURE
from p2ch_luna.metrics.calibration import calibration
from p2ch_luna.training.evaluation import Curve, Evaluation, loss_metrics
from p2ch_luna.training.losses import (
    focal_total,
    hard_bce_total,
    nodule_count,
    sample_count,
    tversky_total,
    voxel_count,
)
from p2ch_luna.training.patch_findings import FAINT, SEEN, PatchFindings, diameter_mm, find_in_patch, joined
from p2ch_luna.training.pictures import before_after, captioned, montage, picture

FP_PER_PATCH = 0.2  # about 4 a scan: a pair of lungs is some 20 patches of 64 mm
SIZES_MM = {"under_6mm": (0.0, 6.0), "6_to_10mm": (6.0, 10.0), "over_10mm": (10.0, math.inf)}
EVERY = 4  # voxel along each axis is in the curve: of a patch of 64 mm 4096, in thousands of patches …
MOST_VOXELS = 2**22  # … and at most this many of all of them
N_PICTURES, N_SHOWN = 18, 8
TRUE, SAID, UNKNOWN = 1, 2, 4  # bits of a picture's marks


@dataclass(frozen=True)
class SegmentationLosses:
    """How much each part of the loss weighs, 0: it is left out; a config's table."""

    focal: float = 20.0
    bce: float = 0.0
    dice: float = 1.0
    hard_share: float = 0.01  # of a sample's background voxels, the hardest, that `bce` counts
    false_negatives: float = 1.0  # how many false voxels a missed one outweighs in `dice`


class Shown(NamedTuple):
    """The axial slice of a nodule or of a false candidate, for a picture."""

    probability: float
    voxels: int  # of the nodule; 0: there is none
    hu: NDArray[np.int16]  # (H, W)
    marks: NDArray[np.uint8]  # (H, W) sums of TRUE, SAID and UNKNOWN


@dataclass(frozen=True, eq=False)
class PatchObservation:
    """What one batch of the validation shows: NumPy only, and small, as all are kept to the end."""

    totals: dict[str, NDArray[np.float64]]  # of the loss's parts
    counts: dict[str, NDArray[np.float64]]
    findings: list[PatchFindings]  # one a patch
    voxels: Curve  # some of those whose truth is known
    nodules: list[Shown]  # those with the lowest probability
    false_candidates: list[Shown]  # those with the highest


def augment_patches(batch: PatchSample, drawn: Draw) -> PatchBatch:
    """Each sample as it was drawn; the labels follow."""
    hu, labels = apply(batch.hu, batch.labels, drawn)
    return as_batch(hu, batch.labels if labels is None else labels)


def plain_patches(batch: PatchSample) -> PatchBatch:
    """The samples as they are."""
    return as_batch(batch.hu, batch.labels)


def show_patches(batch: PatchSample, changed: PatchBatch) -> NDArray[np.uint8]:
    """The first samples of a batch above what augmentation has made of them, (H, W, 3)."""
    unsure = torch.where(changed.weight == 0, UNSURE, 0)
    labels = torch.where(changed.mask > 0, 1, unsure).to(torch.uint8)
    shown = [t[:N_SHOWN, 0].cpu().numpy() for t in (batch.hu, batch.labels, changed.hu, labels)]
    return before_after(shown[0], shown[1], shown[2], shown[3])


def counts(batch: PatchBatch, how: SegmentationLosses) -> dict[str, Tensor]:
    """What the `totals` of a batch are divided by, () each."""
    of_part = {}
    if how.focal > 0:
        of_part["focal"] = voxel_count(batch.mask)
    if how.bce > 0:
        of_part["bce"] = sample_count(batch.mask)
    if how.dice > 0:
        of_part["dice"] = nodule_count(batch.mask, batch.weight)
    return of_part


def totals(logit: Tensor, batch: PatchBatch, how: SegmentationLosses) -> dict[str, Tensor]:
    """The parts of the loss, summed and times their weights, () each; logit: (B, 1, D, H, W)."""
    truth = batch.mask, batch.weight
    of_part = {}
    if how.focal > 0:
        of_part["focal"] = how.focal * focal_total(logit, *truth)
    if how.bce > 0:
        of_part["bce"] = how.bce * hard_bce_total(logit, *truth, how.hard_share)
    if how.dice > 0:
        of_part["dice"] = how.dice * tversky_total(logit, *truth, how.false_negatives)
    return of_part


def observe(logit: Tensor, batch: PatchBatch, how: SegmentationLosses) -> PatchObservation:
    """What a batch of the validation shows; logit: (B, 1, D, H, W)."""
    logit = logit.detach()
    maps = _Maps(
        *(t[:, 0].cpu().numpy() for t in (logit.float().sigmoid(), batch.mask > 0, batch.weight == 0))
    )
    findings = [find_in_patch(*patch) for patch in zip(*maps, strict=True)]
    some = (slice(None), *[slice(None, None, EVERY)] * 3)
    known = ~maps.unsure[some]
    most = 1 + len(findings) // 4  # of the false candidates, so that all the batches' fit into memory
    lowest = heapq.nsmallest(2 * most, _nodule_places(findings))
    highest = heapq.nlargest(most, _false_places(findings))
    return PatchObservation(
        totals=_as_numbers(totals(logit, batch, how)),
        counts=_as_numbers(counts(batch, how)),
        findings=findings,
        voxels=(maps.truth[some][known], maps.probability[some][known]),
        nodules=[_cut(place, batch.hu, maps) for place in lowest],
        false_candidates=[_cut(place, batch.hu, maps) for place in highest],
    )


class _Maps(NamedTuple):
    """(B, D, H, W) each."""

    probability: NDArray[np.float32]
    truth: NDArray[np.bool_]
    unsure: NDArray[np.bool_]


class _Place(NamedTuple):
    """A finding in a batch; the less probable comes first."""

    probability: float
    voxels: int  # of the nodule; 0: there is none
    patch: int
    slice: int


def _nodule_places(findings: Iterable[PatchFindings]) -> Iterable[_Place]:
    for patch, found in enumerate(findings):
        columns = found.nodule_probability, found.nodule_voxels, found.nodule_slice
        for probability, voxels, index in zip(*(column.tolist() for column in columns), strict=True):
            yield _Place(probability, voxels, patch, index)


def _false_places(findings: Iterable[PatchFindings]) -> Iterable[_Place]:
    for patch, found in enumerate(findings):
        columns = found.candidate_probability, found.candidate_slice
        for probability, index in zip(
            *(column[~found.candidate_is_true].tolist() for column in columns), strict=True
        ):
            yield _Place(probability, 0, patch, index)


def _cut(place: _Place, hu: Tensor, maps: _Maps) -> Shown:
    """Said is what is as sure as a mask, or where the finding has no such voxel, as a candidate."""
    probability, truth, unsure = (array[place.patch, place.slice] for array in maps)
    said = probability > (SEEN if place.probability > SEEN else FAINT)
    marks = (truth * TRUE + said * SAID + unsure * UNKNOWN).astype(np.uint8)
    gray = hu[place.patch, 0, place.slice].cpu().numpy().astype(np.int16)
    return Shown(place.probability, place.voxels, gray, marks)


def _as_numbers(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    return {name: tensor.detach().double().cpu().numpy() for name, tensor in tensors.items()}


def summarise(
    observations: Sequence[PatchObservation], _how: SegmentationLosses, _baseline: None = None
) -> Evaluation:
    """Figures of a whole validation.

    `sensitivity` (of the nodules), `precision` (of the candidates) and `f1` are at the lowest threshold that
    leaves `FP_PER_PATCH`. A nodule's diameter is that of a sphere with its voxels. `dice` is a mean over
    nodules, 0 for one missed. `calibration_error` is of the voxels above `FAINT`: nearly all of the others
    are air, and right.
    """
    findings = [patch for observation in observations for patch in observation.findings]
    found = joined(findings)
    allowed = FP_PER_PATCH * len(findings)
    threshold = _threshold_at(found.candidate_probability[~found.candidate_is_true], allowed)
    truth, probability = _some_voxels([observation.voxels for observation in observations])
    possible = probability > FAINT
    return Evaluation(
        metrics={
            **loss_metrics(observations),
            **_figures(found, len(findings), threshold),
            "calibration_error": calibration(truth[possible], probability[possible]).error,
        },
        curves={"voxels": (truth, probability)},
        pictures=_pictures(observations, threshold),
    )


def _figures(found: PatchFindings, n_patches: int, threshold: float) -> dict[str, float]:
    hit = found.nodule_probability > threshold
    called = found.candidate_probability > threshold
    mm = diameter_mm(found.nodule_voxels)
    of_size = {name: (mm >= low) & (mm < high) for name, (low, high) in SIZES_MM.items()}
    sensitivity, precision = _mean(hit), _mean(found.candidate_is_true[called])
    f1 = 2 * precision * sensitivity / (precision + sensitivity) if sensitivity else 0.0
    return {
        "sensitivity": sensitivity,
        "precision": precision,
        "f1": f1,
        **{f"sensitivity_{name}": _mean(hit[here]) for name, here in of_size.items()},
        "sensitivity_proposed": _mean(found.nodule_probability > FAINT),
        "false_positives_per_patch": int((~found.candidate_is_true).sum()) / n_patches,
        "dice": _mean(found.nodule_dice),
        **{f"dice_{name}": _mean(found.nodule_dice[here]) for name, here in of_size.items()},
    }


def _threshold_at(false: NDArray[np.float32], allowed: float) -> float:
    """The lowest threshold, not below `FAINT`, that at most `allowed` false candidates lie above."""
    ranked = np.sort(false)[::-1]
    return float(ranked[int(allowed)]) if len(ranked) > int(allowed) else FAINT


def _mean(values: NDArray[np.bool_] | NDArray[np.float64]) -> float:
    """NaN of none."""
    return float(values.mean()) if len(values) else math.nan


def _some_voxels(curves: Sequence[Curve]) -> Curve:
    """Of more than `MOST_VOXELS` every second, or third, …; however they came in batches."""
    step = max(1, math.ceil(sum(len(truth) for truth, _ in curves) / MOST_VOXELS))
    truth, probability = zip(*curves, strict=True)
    return np.concatenate(truth)[::step].copy(), np.concatenate(probability)[::step].copy()


def _pictures(observations: Sequence[PatchObservation], threshold: float) -> dict[str, NDArray[np.uint8]]:
    """Hits, the least probable first; misses, the largest first; false positives, the most probable first."""
    nodules = [shown for observation in observations for shown in observation.nodules]
    false = [shown for observation in observations for shown in observation.false_candidates]
    sheets = {
        "hits": sorted((n for n in nodules if n.probability > threshold), key=lambda n: n.probability),
        "misses": sorted((n for n in nodules if n.probability <= threshold), key=lambda n: -n.voxels),
        "worst false positives": sorted(false, key=lambda f: -f.probability),
    }
    return {
        name: montage([_picture(s) for s in sheet[:N_PICTURES]]) for name, sheet in sheets.items() if sheet
    }


def _picture(shown: Shown) -> NDArray[np.uint8]:
    true, said, unsure = ((shown.marks & bit > 0)[None] for bit in (TRUE, SAID, UNKNOWN))
    size = f"{diameter_mm(np.array(shown.voxels)):.0f} mm, " if shown.voxels else ""
    drawn = picture(shown.hu[None].astype(np.float32), true, said, unsure=unsure)
    return captioned(drawn, f"{size}p = {shown.probability:.2f}")
