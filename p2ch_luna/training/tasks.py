"""The tasks by name: what differs between training a segmentation and a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from p2ch_luna.datasets.candidates import CropDataset
from p2ch_luna.datasets.collection import Share
from p2ch_luna.datasets.patches import CubePatches, PatchDataset, PatchSource, ScanPatches
from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_candidates
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.nodule import augment_crops, evaluate_nodule, nodule_loss
from p2ch_luna.training.segmentation import augment_patches, evaluate_segmentation, segmentation_loss


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn from a share of the data."""

    shape_irc: Sequence[int]  # voxels of 1 mm
    cube_share: float  # of the samples (segmentation) or of either class (classifier)
    candidates: Path | None  # what a segmentation proposed


@dataclass(frozen=True)
class Task:
    """What differs between the tasks."""

    make_dataset: Callable[[Share, Sampling, int, int], Dataset[Any]]  # (…, samples, seed)
    loss: Callable[..., dict[str, torch.Tensor]]
    augment: Callable[..., Any]
    evaluate: Callable[..., Evaluation]


def _patches(share: Share, how: Sampling, samples: int, seed: int) -> PatchDataset:
    _need_nodules(share)
    sources: list[PatchSource] = [ScanPatches(share.scans, share.nodules)]
    shares = [1.0]
    if share.cubes:
        sources.append(CubePatches(share.cubes, share.nodules))
        shares = [1 - how.cube_share, how.cube_share]
    return PatchDataset(sources, shares, how.shape_irc, samples, seed)


def _crops(share: Share, how: Sampling, samples: int, seed: int) -> CropDataset:
    _need_nodules(share)
    here = {scan.series_uid for scan in share.scans}
    proposed = read_candidates(how.candidates) if how.candidates else []
    candidates = [c for c in proposed if c.series_uid in here]
    if proposed and not candidates:
        raise LunaError(
            f"{how.candidates}: none of {len(proposed)} candidates lies in a scan of this run, such as "
            f"{min(here)}; wanted the output of `luna mine` for these scans"
        )
    cubes = CubePatches(share.cubes, (), largest_shift=3) if share.cubes else None
    return CropDataset(
        share.scans,
        share.nodules,
        cubes,
        candidates,
        how.shape_irc,
        samples,
        seed,
        cube_share=how.cube_share,
    )


def _need_nodules(share: Share) -> None:
    if not (share.nodules or any(len(scan.nodule_centers_irc) for scan in share.scans)):
        raise LunaError("no nodule in these folds: wanted data.lidc or data.annotations with some")


TASKS: Mapping[str, Task] = {
    "segmentation": Task(_patches, segmentation_loss, augment_patches, evaluate_segmentation),
    "nodule": Task(_crops, nodule_loss, augment_crops, evaluate_nodule),
}
