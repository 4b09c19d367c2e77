"""How well the outline of one nodule agrees with another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.metrics.overlap import dice


class NoduleAgreement(NamedTuple):
    """What `agreement` finds of one nodule."""

    dice: float  # 2 * common / (mask + truth)
    volume_error: float  # (mask - truth) / truth
    mean_surface_mm: float  # from each surface voxel of either mask to the nearest one of the other
    hd95_mm: float  # 95 % of these are nearer, of the mask that lies farther off


def agreement(mask: NDArray[Any], truth: NDArray[Any], spacing_irc: Sequence[float]) -> NoduleAgreement:
    """Compare a nodule's (D, H, W) mask with the true one; what is not 0 is inside.

    spacing_irc: (3,) mm between voxels. A surface voxel is inside and has one of its six neighbours outside,
    beyond the array being outside. Distances are between centres of surface voxels, all of one weight. The
    mean is over those of both surfaces together; `hd95_mm` is the larger of both surfaces' 95th percentiles
    (linear between ranks).

    Both empty: dice 1, volume error 0, distances 0. Only the mask empty: dice 0, volume error -1, distances
    NaN. Only the truth empty: dice 0, volume error infinite, distances NaN.
    """
    if mask.ndim != 3 or mask.shape != truth.shape:
        raise ValueError(f"expected two masks (D, H, W) of one shape, got {mask.shape} and {truth.shape}")
    if len(spacing_irc) != 3 or not all(0 < step < np.inf for step in spacing_irc):
        raise ValueError(f"spacing_irc must be three lengths above 0, got {tuple(spacing_irc)}")
    inside, wanted = _round_both(mask != 0, truth != 0)
    n_inside, n_wanted = int(np.count_nonzero(inside)), int(np.count_nonzero(wanted))
    overlap = float(dice(inside, wanted))
    if not n_inside and not n_wanted:
        return NoduleAgreement(overlap, 0.0, 0.0, 0.0)
    if not n_inside or not n_wanted:
        return NoduleAgreement(overlap, np.inf if n_inside else -1.0, np.nan, np.nan)
    mean_mm, hd95_mm = _surface_distances(inside, wanted, spacing_irc)
    return NoduleAgreement(overlap, (n_inside - n_wanted) / n_wanted, mean_mm, hd95_mm)


def _round_both(
    inside: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The smallest box that holds both masks: a nodule is small in a scan, and nothing outside it counts."""
    either = inside | wanted
    box = []
    for others in ((1, 2), (0, 2), (0, 1)):
        held = np.flatnonzero(either.any(axis=others))
        box.append(slice(held[0], held[-1] + 1) if len(held) else slice(0))
    return inside[tuple(box)], wanted[tuple(box)]


def _surface_distances(
    inside: NDArray[np.bool_], wanted: NDArray[np.bool_], spacing_irc: Sequence[float]
) -> tuple[float, float]:
    """Mean and HD95 in mm of two masks of which neither is empty."""
    surfaces = [_surface(inside), _surface(wanted)]
    to_mask, to_truth = (
        ndimage.distance_transform_edt(~surface, sampling=list(spacing_irc)) for surface in surfaces
    )
    there, back = to_truth[surfaces[0]], to_mask[surfaces[1]]
    farthest = max(np.percentile(distances, 95) for distances in (there, back))
    return float(np.concatenate([there, back]).mean()), float(farthest)


def _surface(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The voxels inside with one of their six neighbours outside."""
    return np.asarray(inside & ~ndimage.binary_erosion(inside), bool)
