"""Where candidates lie in the probability map of a scan, kept after the map itself is gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.geometry import ImageGeometry

MARGIN = 3  # voxels round a candidate that its region holds too


@dataclass(frozen=True, eq=False)
class Region:
    """A candidate's box of the probability map, with a margin all round.

    probability: (d, h, w) of a nodule, 0 where voxels are another candidate's.
    geometry: of the box; 1 mm voxels.    level: probability from which a voxel belongs to the candidate.
    """

    probability: NDArray[np.float32]
    geometry: ImageGeometry
    level: float

    @property
    def peak_xyz(self) -> NDArray[np.float64]:
        """(3,) LPS mm of its most probable voxel, the first of equals."""
        irc = np.unravel_index(self.probability.argmax(), self.probability.shape)
        return self.geometry.to_xyz(np.array(irc))


def cut_regions(
    probability: NDArray[np.float32],
    geometry: ImageGeometry,
    irc: NDArray[np.int_],
    group: NDArray[np.int_],
    levels: Mapping[int, float],
) -> list[Region]:
    """The regions of some candidates of a probability map (D, H, W), in the order of `levels`.

    irc: (N, 3) the voxels that may belong to any, in the order of the array.    group: (N,) to which, by
    number; 0: to none.    levels: of each candidate wanted, by number. Of the voxels of none what lies below
    the level stays: it is a halo.
    """
    by_group = np.argsort(group, kind="stable")
    start = np.searchsorted(group[by_group], np.arange(group.max(initial=0) + 1))
    low = np.maximum(np.minimum.reduceat(irc[by_group], start) - MARGIN, 0)
    high = np.minimum(np.maximum.reduceat(irc[by_group], start) + MARGIN + 1, probability.shape)
    regions = []
    for number, level in levels.items():
        box = probability[tuple(map(slice, low[number], high[number]))].copy()
        slab = slice(*np.searchsorted(irc[:, 0], [low[number, 0], high[number, 0]]))
        is_in_box = ((irc[slab] >= low[number]) & (irc[slab] < high[number])).all(1)
        places, owner = tuple((irc[slab][is_in_box] - low[number]).T), group[slab][is_in_box]
        box[places] *= (owner == number) | (owner == 0) & (box[places] < level)
        regions.append(Region(box, geometry.moved_to(low[number]), level))
    return regions
