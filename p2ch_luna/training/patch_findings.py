"""What a probability map finds in one patch: its nodules, each found or not, and its false candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FAINT, SEEN = 0.1, 0.5  # probability above which a voxel is part of a candidate, of the mask
Numbered = NDArray[np.integer[Any]]  # (D, H, W): the number of the region a voxel is of, 0: none
NEIGHBOURS = np.ones((3, 3, 3), bool)  # voxels that share a corner touch


@dataclass(frozen=True, eq=False)
class PatchFindings:
    """The N true nodules and the M candidates of a patch, or of many."""

    nodule_probability: NDArray[np.float32]  # (N,) the highest in the nodule
    nodule_voxels: NDArray[np.int64]  # (N,)
    nodule_dice: NDArray[np.float64]  # (N,) of what is said where it is
    nodule_slice: NDArray[np.int64]  # (N,) index of the axial slice that shows most of it
    candidate_probability: NDArray[np.float32]  # (M,) the highest in the candidate
    candidate_is_true: NDArray[np.bool_]  # (M,)
    candidate_slice: NDArray[np.int64]  # (M,) index of the axial slice of that voxel


def find_in_patch(
    probability: NDArray[np.float32], truth: NDArray[np.bool_], unsure: NDArray[np.bool_]
) -> PatchFindings:
    """Match the connected regions above `FAINT`, the candidates, with the true nodules; (D, H, W) each.

    A candidate with a voxel of a nodule is true. One that has none, but a voxel of an unsure place, is
    neither true nor false, and left out.
    """
    nodules, n_nodules = _numbered(truth)
    regions, n_regions = _numbered(probability > FAINT)
    is_true, is_left_out = np.zeros((2, n_regions + 1), bool)
    is_true[regions[truth]] = True
    is_left_out[regions[unsure]] = True
    counts = (is_true | ~is_left_out)[1:]
    highest, places = _peaks(probability, regions, n_regions)
    return PatchFindings(
        nodule_probability=_peaks(probability, nodules, n_nodules)[0],
        nodule_voxels=np.bincount(nodules[truth], minlength=n_nodules + 1)[1:],
        nodule_dice=_dice_of_each((probability > SEEN) & ~unsure, nodules, n_nodules),
        nodule_slice=_largest_slices(nodules, n_nodules),
        candidate_probability=highest[counts],
        candidate_is_true=is_true[1:][counts],
        candidate_slice=places[counts] // truth[0].size,
    )


def joined(findings: Sequence[PatchFindings]) -> PatchFindings:
    """Those of many patches as one; at least one patch."""
    return PatchFindings(
        *(np.concatenate([getattr(one, field.name) for one in findings]) for field in fields(PatchFindings))
    )


def diameter_mm(voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the sphere that has as many voxels of 1 mm."""
    diameter: NDArray[np.float64] = np.cbrt(6 / np.pi * voxels)
    return diameter


def _numbered(mask: NDArray[np.bool_]) -> tuple[Numbered, int]:
    """Number the connected regions from 1 and count them, looking only into the box that holds them all."""
    numbers = np.zeros(mask.shape, np.int32)
    sides = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(sides[0]):
        return numbers, 0
    box = tuple(slice(side[0], side[-1] + 1) for side in sides)
    numbers[box], n = ndimage.label(mask[box], NEIGHBOURS)
    return numbers, n


def _peaks(
    values: NDArray[np.float32], labels: Numbered, n: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(n,) the highest value of each label from 1 to n, and the flat place of a voxel with it."""
    places = np.flatnonzero(labels > 0)
    which, there = labels.ravel()[places] - 1, values.ravel()[places]
    highest = np.full(n, -np.inf, np.float32)
    np.maximum.at(highest, which, there)
    at_peak = there == highest[which]
    place = np.zeros(n, np.int64)
    place[which[at_peak]] = places[at_peak]
    return highest, place


def _largest_slices(labels: Numbered, n: int) -> NDArray[np.int64]:
    """(n,) index of the first-axis slice that holds most voxels of each label from 1 to n."""
    places = np.flatnonzero(labels > 0)
    depth = len(labels)
    pairs = (labels.ravel()[places] - 1) * depth + places // labels[0].size
    largest: NDArray[np.int64] = np.bincount(pairs, minlength=n * depth).reshape(n, depth).argmax(axis=1)
    return largest


def _dice_of_each(said: NDArray[np.bool_], nodules: Numbered, n: int) -> NDArray[np.float64]:
    """(n,) Dice of each nodule with the connected regions of `said` that touch it, (D, H, W) both.

    What of these lies in another nodule is not counted: a bridge between two nodules harms both, but
    neither harms the other.
    """
    regions, n_regions = _numbered(said)
    either = np.flatnonzero(said | (nodules > 0))
    pairs = regions.ravel()[either].astype(np.int64) * (n + 1) + nodules.ravel()[either]
    table = np.bincount(pairs, minlength=(n_regions + 1) * (n + 1)).reshape(n_regions + 1, n + 1)
    common, outside = table[1:, 1:], table[1:, :1]  # voxels of each region in each nodule, and in none
    said_size = np.where(common > 0, common + outside, 0).sum(axis=0)
    dice: NDArray[np.float64] = 2 * common.sum(axis=0) / (said_size + table[:, 1:].sum(axis=0))
    return dice
