"""The tasks by name: what differs between training a segmentation and a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from p2ch_luna.datasets.augment import Draw
from p2ch_luna.datasets.candidates import (
    CropDataset,
    CropSource,
    CubeCrops,
    ImplantCrops,
    LungCrops,
    NoduleCrops,
    OutlinedDataset,
    PlaceCrops,
)
from p2ch_luna.datasets.collection import Share
from p2ch_luna.datasets.data_check import drawn_from
from p2ch_luna.datasets.implant import AS_IT_IS, Variety
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
from p2ch_luna.training import malignancy, nodule, outlines, segmentation
from p2ch_luna.training.evaluation import Evaluation

MOST_IMPLANTS = 3  # in a patch
LARGEST_CUBE_SHIFT = 3  # voxels, of a cube that the classifier sees


@dataclass(frozen=True)
class Task:
    """What differs between the tasks. `how` is the config's table `loss`, as `losses` holds it."""

    sources: Callable[[Share, Variety], Mapping[str, Any]]  # by the names of the config's table `sampling`
    dataset: Callable[[Sequence[Any], Sequence[int]], Dataset[Any]]  # of sources and a shape
    losses: Callable[..., Any]
    augment: Callable[[Any, Draw], Any]  # a raw batch
    plain: Callable[[Any], Any]  # the same batch as it is
    show: Callable[[Any, Any], NDArray[np.uint8]]  # (raw batch, the same augmented) -> picture (H, W, 3)
    counts: Callable[[Any, Any], Mapping[str, Tensor]]  # (batch, how), see `loop.Objective`
    totals: Callable[[Any, Any, Any], Mapping[str, Tensor]]  # (output, batch, how)
    observe: Callable[[Any, Any, Any], Any]  # (output, batch, how) -> what `summarise` wants of it
    summarise: Callable[[Sequence[Any], Any, Any], Evaluation]  # (observations, how, baseline)
    baseline: Callable[[Share], Any] = lambda _: None  # what the network is compared with, trained
    idle: Callable[[Mapping[str, Any]], Sequence[str]] = lambda _: ()  # parts that such losses do not train


def _patch_sources(share: Share, variety: Variety) -> Mapping[str, PatchSource]:
    scans = [*share.scans, *share.hosts]
    false = candidate_places(scans, share.candidates, is_nodule=False)
    return {
        "nodules": PlacePatches(nodule_places(scans), NODULE_SHIFT),
        "candidates": PlacePatches(false, CANDIDATE_SHIFT),
        "lung": LungPatches(scans),
        "implants": LungPatches(scans, share.nodules, MOST_IMPLANTS, variety),
        "cubes": CubePatches(share.cubes, share.nodules, variety=variety),
    }


def _crop_sources(share: Share, variety: Variety) -> Mapping[str, CropSource]:
    scans = [*share.scans, *share.hosts]
    cubes = CubePatches(share.cubes, (), LARGEST_CUBE_SHIFT)
    true, false = (candidate_places(scans, share.candidates, is_nodule) for is_nodule in (True, False))
    return {
        "nodules": NoduleCrops([(scan, nodule) for scan in scans for nodule in scan.nodules]),
        "found_nodules": PlaceCrops(true, True),
        "implants": ImplantCrops(scans, share.nodules, variety),
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
    variety: Variety = AS_IT_IS,
) -> tuple[Dataset[Any], BalancedSampler]:
    """A data set and what picks `n_samples` an epoch from it, each source by its share, see `drawn_from`."""
    sources = task.sources(share, variety)
    there = drawn_from(sampling, {name: len(source) for name, source in sources.items()}, trains=trains)
    sampler = BalancedSampler(
        [len(sources[name]) for name in there], [sampling[name] for name in there], n_samples, seed
    )
    return task.dataset([sources[name] for name in there], shape_irc), sampler


TASKS: Mapping[str, Task] = {
    "segmentation": Task(
        sources=_patch_sources,
        dataset=PatchDataset,
        losses=segmentation.SegmentationLosses,
        augment=segmentation.augment_patches,
        plain=segmentation.plain_patches,
        show=segmentation.show_patches,
        counts=segmentation.counts,
        totals=segmentation.totals,
        observe=segmentation.observe,
        summarise=segmentation.summarise,
    ),
    "nodule": Task(
        sources=_crop_sources,
        dataset=CropDataset,
        losses=nodule.CropLosses,
        augment=nodule.augment_crops,
        plain=nodule.plain_crops,
        show=nodule.show_crops,
        idle=nodule.idle_heads,
        counts=nodule.counts,
        totals=nodule.totals,
        observe=nodule.observe,
        summarise=nodule.summarise,
    ),
    "malignancy": Task(
        sources=_crop_sources,
        dataset=OutlinedDataset,
        losses=outlines.MalignancyLosses,
        augment=outlines.augment_crops,
        plain=outlines.plain_crops,
        show=outlines.show_crops,
        counts=outlines.counts,
        totals=outlines.totals,
        observe=malignancy.observe,
        summarise=malignancy.summarise,
        baseline=malignancy.baseline,
        idle=outlines.idle_parts,
    ),
}
