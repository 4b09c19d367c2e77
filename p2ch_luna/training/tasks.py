"""The tasks by name: what differs between training a segmentation and a classifier."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from p2ch_luna.datasets.candidates import (
    CropDataset,
    CropSource,
    CubeCrops,
    ImplantCrops,
    LungCrops,
    NoduleCrops,
    PlaceCrops,
)
from p2ch_luna.datasets.collection import Share
from p2ch_luna.datasets.patches import (
    CANDIDATE_SHIFT,
    NODULE_SHIFT,
    CubePatches,
    LungPatches,
    PatchDataset,
    PatchSource,
    PlacePatches,
)
from p2ch_luna.datasets.places import candidate_places, nodule_places
from p2ch_luna.datasets.sampling import BalancedSampler
from p2ch_luna.errors import LunaError
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.nodule import augment_crops, evaluate_nodule, nodule_loss, show_crops
from p2ch_luna.training.segmentation import (
    augment_patches,
    evaluate_segmentation,
    segmentation_loss,
    show_patches,
)

MOST_IMPLANTS = 3  # in a patch
LARGEST_CUBE_SHIFT = 3  # voxels, of a cube that the classifier sees

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What differs between the tasks."""

    sources: Callable[[Share], Mapping[str, Any]]  # by the names of the config's table `sampling`
    dataset: Callable[[Sequence[Any], Sequence[int]], Dataset[Any]]  # of sources and a shape
    loss: Callable[..., dict[str, torch.Tensor]]
    augment: Callable[..., Any]
    show: Callable[..., NDArray[np.uint8]]  # (batch, the same augmented) -> picture (H, W, 3)
    evaluate: Callable[..., Evaluation]


def _patch_sources(share: Share) -> Mapping[str, PatchSource]:
    scans = [*share.scans, *share.hosts]
    false = candidate_places(scans, share.candidates, is_nodule=False)
    return {
        "nodules": PlacePatches(nodule_places(scans), NODULE_SHIFT),
        "candidates": PlacePatches(false, CANDIDATE_SHIFT),
        "lung": LungPatches(scans),
        "implants": LungPatches(scans, share.nodules, MOST_IMPLANTS),
        "cubes": CubePatches(share.cubes, share.nodules),
    }


def _crop_sources(share: Share) -> Mapping[str, CropSource]:
    scans = [*share.scans, *share.hosts]
    cubes = CubePatches(share.cubes, (), LARGEST_CUBE_SHIFT)
    true, false = (candidate_places(scans, share.candidates, is_nodule) for is_nodule in (True, False))
    return {
        "nodules": NoduleCrops([(scan, nodule) for scan in scans for nodule in scan.nodules]),
        "found_nodules": PlaceCrops(true, True),
        "implants": ImplantCrops(scans, share.nodules),
        "cubes": CubeCrops(cubes, True),
        "candidates": PlaceCrops(false, False, share.nodules),
        "vessels": CubeCrops(cubes, False),
        "lung": LungCrops(scans, share.nodules),
    }


def make_samples(
    task: Task,
    share: Share,
    sampling: Mapping[str, float],
    shape_irc: Sequence[int],
    n_samples: int,
    seed: int,
    *,
    trains: bool,
) -> tuple[Dataset[Any], BalancedSampler]:
    """A data set and what picks `n_samples` an epoch from it, each source by its share.

    A source with a share but without an item is an error where it `trains`; validation does without it
    and says so.
    """
    sources = task.sources(share)
    wanted = sorted(name for name, part in sampling.items() if part > 0)
    there = [name for name in wanted if len(sources[name])]
    for name in sorted(set(wanted) - set(there)):
        told = f"sampling.{name} = {sampling[name]:g}, but the data have no such sample in these folds"
        if trains or not there:
            raise LunaError(f"{told}; wanted data that have, or a share of 0")
        log.warning("validation: %s; it does without", told)
    sampler = BalancedSampler(
        [len(sources[name]) for name in there], [sampling[name] for name in there], n_samples, seed
    )
    return task.dataset([sources[name] for name in there], shape_irc), sampler


TASKS: Mapping[str, Task] = {
    "segmentation": Task(
        _patch_sources,
        PatchDataset,
        segmentation_loss,
        augment_patches,
        show_patches,
        evaluate_segmentation,
    ),
    "nodule": Task(_crop_sources, CropDataset, nodule_loss, augment_crops, show_crops, evaluate_nodule),
}
