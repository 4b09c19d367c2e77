"""From a probability map to candidates: connected voxels, their centre, score and size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.findings import Candidate
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.inference.measure import equivalent_diameter_mm, mask_volume_mm3
from p2ch_luna.inference.regions import Region, cut_regions

NEAR_LUNG_MM = 3.0  # a nodule at the pleura may lie just outside a lung mask
SHARE_NEAR_LUNG = 0.25  # of a candidate's voxels: less is a leak from the wall or the mediastinum
MIN_CORE_VOXELS = 4  # a smaller core is no nodule of its own, beside the rest of its component
# Of a candidate's highest probability, from which on voxels are its mask. Chosen on implanted nodules of fold
# 6: the network draws wider than LIDC's readers. From one half on volumes are 1.18 times theirs, here 1.03.
OUTLINE_SHARE = 0.65

TOUCHING = np.ones((3, 3, 3), bool)  # 26 neighbours


@dataclass(frozen=True)
class ProposalSettings:
    """Which voxels become candidates. Both thresholds are probabilities."""

    threshold: float = 0.1  # of a voxel that may belong to a nodule: low, the classifier sorts out
    mask_threshold: float = 0.5  # of a voxel that does: its core gives the centre, and bounds the mask
    max_candidates: int = 200  # of a scan, the best ones


DEFAULT_PROPOSAL = ProposalSettings()


class Proposal(NamedTuple):
    """A candidate and where it lies in the probability map."""

    candidate: Candidate
    region: Region


class Dropped(NamedTuple):
    """A candidate that is not judged, and why, for the user."""

    candidate: Candidate
    reason: str


class Proposals(NamedTuple):
    """The candidates of a scan, best first."""

    kept: list[Proposal]
    dropped: list[Dropped]


def propose(
    probability: NDArray[np.float32],
    lung: NDArray[np.bool_],
    geometry: ImageGeometry,
    series_uid: str,
    settings: ProposalSettings = DEFAULT_PROPOSAL,
) -> Proposals:
    """Candidates of a probability map (D, H, W); kept are the best in or at the lung (D, H, W).

    The voxels from `threshold` form components. Each core of a component, its connected voxels from
    `mask_threshold`, is a candidate, so nodules that touch faintly stay apart. A component without a core
    is one candidate by itself. Its voxels give the centre; those from its `Region.level` on the volume:
    `OUTLINE_SHARE` of its highest probability, but no less than `mask_threshold`, or `threshold` where it has
    no voxel of that. In a candidate's region the voxels of others are 0, as is what is no candidate but
    would be in the mask.
    """
    irc = np.argwhere(probability >= settings.threshold)
    if not len(irc):
        return Proposals([], [])
    weight = probability[tuple(irc.T)].astype(np.float64)
    group, n_groups = _group(probability, irc, settings)

    def per_group(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(group, values, n_groups + 1)[1:].astype(np.float64)

    n_voxels, mass = per_group(np.ones(len(irc))), per_group(weight)
    center_irc = np.stack([per_group(weight * irc[:, axis]) for axis in range(3)], axis=1) / mass[:, None]
    score = np.zeros(n_groups + 1)
    np.maximum.at(score, group, weight)
    level = _levels(score, settings)
    size = per_group((weight >= level[group]).astype(np.float64)).astype(int)
    near = per_group(_widened(lung, NEAR_LUNG_MM / geometry.spacing_irc)[tuple(irc.T)].astype(np.float64))

    def candidate(k: int) -> Candidate:
        return _candidate(series_uid, geometry, center_irc[k], float(score[k + 1]), int(size[k]))

    kept, reasons = _choose(score[1:], near / n_voxels, settings.max_candidates)
    regions = cut_regions(probability, geometry, irc, group, {k + 1: float(level[k + 1]) for k in kept})
    return Proposals(
        [Proposal(candidate(k), region) for k, region in zip(kept, regions, strict=True)],
        [Dropped(candidate(k), reason) for k, reason in reasons.items()],
    )


def _choose(
    score: NDArray[np.float64], near: NDArray[np.float64], most: int
) -> tuple[list[int], dict[int, str]]:
    """Which of the candidates to keep and why not the others, the best first.

    score: (N,) probabilities.    near: (N,) shares of their voxels that are near a lung.    most: to keep.
    """
    best_first = np.argsort(-score, kind="stable").tolist()
    kept = [k for k in best_first if near[k] >= SHARE_NEAR_LUNG][:most]
    is_kept = set(kept)
    too_many = f"beyond the {most} best candidates of the scan"
    reasons = {
        k: too_many if near[k] >= SHARE_NEAR_LUNG else _too_far(near[k])
        for k in best_first
        if k not in is_kept
    }
    return kept, reasons


def _too_far(near: float) -> str:
    return (
        f"outside the lungs: {int(100 * near)}% of it lies within {NEAR_LUNG_MM:g} mm of them, "
        f"at least {SHARE_NEAR_LUNG:.0%} wanted"
    )


def _levels(score: NDArray[np.float64], settings: ProposalSettings) -> NDArray[np.float64]:
    """(N,) from which probability on voxels are in the mask of candidates of these scores (N,)."""
    lowest = np.where(score >= settings.mask_threshold, settings.mask_threshold, settings.threshold)
    return np.asarray(np.maximum(lowest, OUTLINE_SHARE * score))


def _group(
    probability: NDArray[np.float32], irc: NDArray[np.int_], settings: ProposalSettings
) -> tuple[NDArray[np.int_], int]:
    """Which candidate each voxel of `irc` (N, 3) counts for, from 1; 0: none (the halo of a core)."""
    places = tuple(irc.T)
    component = ndimage.label(probability >= settings.threshold, TOUCHING)[0][places]
    core = ndimage.label(probability >= settings.mask_threshold, TOUCHING)[0][places]
    is_core = (np.bincount(core) >= MIN_CORE_VOXELS)[core] & (core > 0)
    has_core = np.zeros(component.max() + 1, bool)
    has_core[component[is_core]] = True
    raw = np.where(is_core, core, 0) + np.where(has_core[component], 0, component + core.max())
    kept, group = np.unique(np.append(raw, 0), return_inverse=True)  # 0 is always there, and first
    return group[:-1], len(kept) - 1


def _widened(mask: NDArray[np.bool_], reach_irc: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The mask (D, H, W) grown by `reach_irc` voxels along each axis: by a box, not a ball."""
    wide = mask.copy()
    for axis, reach in enumerate(reach_irc):
        before, after = np.moveaxis(wide.copy(), axis, 0), np.moveaxis(wide, axis, 0)
        for step in range(1, int(reach) + 1):
            after[step:] |= before[:-step]
            after[:-step] |= before[step:]
    return wide


def _candidate(
    series_uid: str, geometry: ImageGeometry, center_irc: NDArray[np.float64], score: float, n_voxels: int
) -> Candidate:
    x, y, z = (float(v) for v in geometry.to_xyz(center_irc))
    volume_mm3 = mask_volume_mm3(n_voxels, geometry)
    return Candidate(series_uid, (x, y, z), score, volume_mm3, equivalent_diameter_mm(volume_mm3))
