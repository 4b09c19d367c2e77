"""The longest diameter of a mask in an axial slice, and the longest across it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull

from p2ch_luna.geometry import HuArray

SAME_MM = 1e-6  # between lengths that are equal but for rounding
FEW = 100  # points among which the farthest two are found without their hull
_EDGES = ((0, 1), (0, 2), (1, 3), (2, 3))  # of a cell, each by the two corners that it joins
_CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # of edges
_CROSSED_TWICE = ((0, 1), (2, 3))  # the pieces of a cell that all four edges cross


class Diameters(NamedTuple):
    """Two lines at right angles in one slice, each from end to end; (2, 3) fractional irc."""

    longest_irc: NDArray[np.float64]
    perpendicular_irc: NDArray[np.float64]
    longest_mm: float
    perpendicular_mm: float

    @property
    def mean_mm(self) -> float:
        """The mean of both."""
        return (self.longest_mm + self.perpendicular_mm) / 2


def diameters(value: HuArray, level: float, spacing_irc: ArrayLike) -> Diameters:
    """Of what lies at or above a level above 0 in a volume (D, H, W) whose slices are axial; there is some.

    A slice's outline runs where the level is met between neighbouring pixels, linearly; of a mask of 1 and 0
    with the level 0.5 it runs half way between them, so that one pixel is as wide as it is. Around the volume
    all is 0. The longest line joins two points of an outline, in the slice where it is longest; the other is
    the longest across that, from outline to outline. Of slices with equal longest lines, that with the longer
    other one counts.
    """
    in_plane_mm = np.asarray(spacing_irc, float)[1:]
    held = np.flatnonzero((value >= level).any((1, 2))).tolist()
    outlines = {k: _outline(value[k], level) * in_plane_mm for k in held}
    longest = {k: _longest(outline) for k, outline in outlines.items()}
    best_mm = max(_length(line) for line in longest.values())
    both = [
        (k, line, _across(outlines[k], line))
        for k, line in longest.items()
        if _length(line) >= best_mm - SAME_MM
    ]
    k, line, across = max(both, key=lambda one: _length(one[2]))
    ends = [np.column_stack([np.full(2, k), points / in_plane_mm]) for points in (line, across)]
    return Diameters(ends[0], ends[1], _length(line), _length(across))


def _outline(value: HuArray, level: float) -> NDArray[np.float64]:
    """(N, 2, 2) pieces of the outline of a slice (H, W): their two ends as (row, col).

    In each cell of four neighbouring pixels a piece joins two edges that cross the level; where all four do,
    there are two pieces (marching squares).
    """
    padded = np.pad(value.astype(np.float64), 1)
    corner = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]])
    inside = corner >= level
    crosses = np.stack([inside[a] != inside[b] for a, b in _EDGES])
    count = crosses.sum(0)
    pieces = []
    for pair in _PAIRS:
        is_piece = crosses[pair[0]] & crosses[pair[1]] & ((count == 2) | (pair in _CROSSED_TWICE))
        cells = np.argwhere(is_piece) - 1.0
        ends = [cells + _crossing(corner[:, is_piece], level, *_EDGES[edge]) for edge in pair]
        pieces.append(np.stack(ends, axis=1))
    return np.concatenate(pieces)


def _crossing(corner: NDArray[np.float64], level: float, a: int, b: int) -> NDArray[np.float64]:
    """(N, 2) where the level is met on the edge from corner a to b of N cells, whose corners are (4, N)."""
    share = (level - corner[a]) / (corner[b] - corner[a])
    crossing: NDArray[np.float64] = _CORNERS[a] + share[:, None] * (_CORNERS[b] - _CORNERS[a])
    return crossing


def _longest(outline_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ends (2, 2) of the longest line between two points of an outline."""
    points = outline_mm.reshape(-1, 2)
    if len(points) > FEW:
        points = points[ConvexHull(points).vertices]
    apart = ((points[:, None] - points) ** 2).sum(-1)
    i, j = np.unravel_index(apart.argmax(), apart.shape)
    return points[[i, j]]


def _length(line: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(line[1] - line[0]))


def _across(outline_mm: NDArray[np.float64], line_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ends (2, 2) of the longest line across another, from the first to the last point of the outline."""
    along = (line_mm[1] - line_mm[0]) / np.linalg.norm(line_mm[1] - line_mm[0])
    axes = np.array([along, [-along[1], along[0]]])
    turned = outline_mm @ axes.T  # (N, 2, 2): along and across the line
    at = np.unique(turned[..., 0])
    low, high = turned[..., 0].min(1), turned[..., 0].max(1)
    run = np.diff(turned, axis=1)[:, 0]
    step = np.where(run[:, 0] == 0, 1.0, run[:, 0])  # a piece across has both its ends in its neighbours
    share = np.clip((at[:, None] - turned[:, 0, 0]) / step, 0, 1)
    is_crossed = (at[:, None] >= low) & (at[:, None] <= high)
    place = turned[:, 0, 1] + share * run[:, 1]
    first = np.where(is_crossed, place, np.inf).min(1)
    last = np.where(is_crossed, place, -np.inf).max(1)
    k = int((last - first).argmax())
    ends: NDArray[np.float64] = np.array([[at[k], first[k]], [at[k], last[k]]]) @ axes
    return ends
