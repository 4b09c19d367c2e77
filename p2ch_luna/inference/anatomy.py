"""Where in the lungs a finding lies: the side, the third of the height, the distance to the edge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.lungs import EITHER, LEFT, RIGHT, Lungs

Side = Literal["right", "left"]
Third = Literal["upper", "middle", "lower"]


class Place(NamedTuple):
    """What the lungs tell of a finding; None where they do not."""

    side: Side | None
    third: Third | None  # of that lung's height, from its lowest to its highest point, where both are known
    pleura_mm: float | None  # from the finding's edge to the nearest edge of a lung; 0: it touches


SIDES: dict[int, Side | None] = {RIGHT: "right", LEFT: "left", EITHER: None}
CUT_CM2 = 5.0  # of lung at an end of the scan, from which lungs count as cut off
BOTH_SIDES = np.concatenate([np.eye(3), -np.eye(3)]) * 0.6  # voxels from a point of the edge
NOWHERE = Place(None, None, None)


@dataclass(frozen=True, eq=False)
class LungMap:
    """The lungs on a coarse grid, kept to place findings in them.

    sides: (D, H, W) `lungs.RIGHT`, `LEFT` or `EITHER`, 0 outside.    geometry: of that grid, about 2 mm.
    """

    sides: NDArray[np.uint8]
    geometry: ImageGeometry

    @cached_property
    def edge(self) -> KDTree:
        """Points of the lungs' edge, LPS mm; an end of the image is none.

        It is the chest wall, the diaphragm and the mediastinum alike, smooth where vessels enter.
        """
        return KDTree(self.geometry.to_xyz(faces_irc(self.sides)))

    @cached_property
    def heights_mm(self) -> dict[int, tuple[float, float]]:
        """The lowest and the highest z (LPS mm, of voxel centres) of each label that is there."""
        irc = np.argwhere(self.sides)
        z, side = self.geometry.to_xyz(irc)[:, 2], self.sides[tuple(irc.T)]
        return {int(k): (float(z[side == k].min()), float(z[side == k].max())) for k in np.unique(side)}

    @cached_property
    def ends(self) -> dict[int, tuple[bool, bool]]:
        """Whether the lowest and the highest point of each label that is there are in the image."""
        bottom, top = (_cut_cm2(self.sides, self.geometry, 0, end) >= CUT_CM2 for end in (0, -1))
        return {
            label: (not (bottom and label in self.sides[0]), not (top and label in self.sides[-1]))
            for label in self.heights_mm
        }


def lung_map(lungs: Lungs) -> LungMap | None:
    """What is kept of the lungs of a CT; None where there are none."""
    return None if lungs.sides is None else LungMap(lungs.sides, lungs.geometry)


def coverage_warnings(lungs: Lungs) -> list[str]:
    """For the user: at which ends of the scan the lungs are cut off, and how much of them lies there."""
    if lungs.sides is None:
        return []
    told = []
    for axis, ends in enumerate((("bottom", "top"), ("front", "back"), ("right", "left"))):
        for name, end in zip(ends, (0, -1), strict=True):
            cm2 = _cut_cm2(lungs.sides, lungs.geometry, axis, end)
            if cm2 >= CUT_CM2:
                told.append(f"the lungs are cut off at the {name} of the scan, across {cm2:.0f} cm²")
    return told


def _cut_cm2(sides: NDArray[np.uint8], geometry: ImageGeometry, axis: int, end: int) -> float:
    """How much lung lies in the first (0) or the last (-1) plane along an axis of the grid."""
    voxel_cm2 = float(np.delete(geometry.spacing_irc, axis).prod()) / 100
    return np.count_nonzero(sides.take(end, axis)) * voxel_cm2


def faces_irc(labels: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, 3) the middles between neighbouring voxels (D, H, W) of different labels, fractional irc."""
    found = []
    for axis in range(3):
        before, after = (np.moveaxis(labels, axis, 0)[part] for part in (slice(-1), slice(1, None)))
        places = np.argwhere(np.moveaxis(before != after, 0, axis)).astype(float)
        places[:, axis] += 0.5
        found.append(places)
    return np.concatenate(found)


def place_of(mask: NDArray[np.bool_], geometry: ImageGeometry, lungs: LungMap) -> Place:
    """Where a mask (D, H, W) on a grid of its own lies in the lungs; it is not empty.

    What lies outside the lungs altogether is of the side whose edge is nearest.
    """
    voxels_xyz = geometry.to_xyz(np.argwhere(mask))
    if not len(lungs.edge.data):  # lungs that fill the image
        return NOWHERE
    outline_xyz = geometry.to_xyz(faces_irc(np.pad(mask, 1)) - 1)
    from_edge_mm, nearest = map(np.asarray, lungs.edge.query(outline_xyz))
    labels = _labels_at(lungs.geometry.to_irc(voxels_xyz), lungs)
    side = _most_frequent(labels)
    if not side:
        edge_xyz = lungs.edge.data[nearest[from_edge_mm.argmin()]]
        side = _most_frequent(_labels_at(lungs.geometry.to_irc(edge_xyz) + BOTH_SIDES, lungs))
    third = _third(float(voxels_xyz[:, 2].mean()), lungs.heights_mm[side], lungs.ends[side])
    return Place(SIDES[side], third, float(from_edge_mm.min()) if labels.all() else 0.0)


def _third(z: float, heights_mm: tuple[float, float], ends: tuple[bool, bool]) -> Third | None:
    """The third of a height in a lung; None where what is cut off of the lung may change it.

    heights_mm: the lung's lowest and highest z in the image.    ends: whether they are the lung's own. More
    lung below moves a place up in it, so what is in the upper third of a part is so in the whole; likewise
    the lower third with more lung above.
    """
    (low, high), (is_base, is_apex) = heights_mm, ends
    from_base, height = z - low, high - low
    if from_base < height / 3:
        return "lower" if is_base else None
    if from_base < 2 * height / 3:
        return "middle" if is_base and is_apex else None
    return "upper" if is_apex else None


def _most_frequent(labels: NDArray[np.uint8]) -> int:
    """The label of most places (N,), 0 only if all are 0."""
    counts = np.bincount(labels, minlength=2)
    return int(counts[1:].argmax()) + 1 if counts[1:].any() else 0


def _labels_at(irc: NDArray[np.float64], lungs: LungMap) -> NDArray[np.uint8]:
    """(N,) the label of the voxel nearest to each place (N, 3); an end of the image is no edge."""
    nearest = np.floor(irc + 0.5).astype(int).clip(0, np.array(lungs.sides.shape) - 1)
    return np.asarray(lungs.sides[tuple(nearest.T)])
