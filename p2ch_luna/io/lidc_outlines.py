"""Outlines as chain codes: a start, then one byte a step; most steps go to one of eight neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_STEPS = 256  # that differ from each other: a byte tells them apart


@dataclass(frozen=True, eq=False)
class ChainCodes:
    """Many outlines.

    n_points: (C,) uint16, at least 1 each.    first_xy: (C, 2) int16 pixels, the start of each outline.
    step: (P - C,) uint8, for every further point of all outlines, a row of `steps_xy`.
    steps_xy: (K, 2) int16 pixels.
    """

    n_points: NDArray[np.uint16]
    first_xy: NDArray[np.int16]
    step: NDArray[np.uint8]
    steps_xy: NDArray[np.int16]


def encode(points_xy: NDArray[np.int16], n_points: NDArray[np.int64]) -> ChainCodes:
    """Encode the (P, 2) points of all outlines, one outline after the other.

    Raises ValueError where an outline has no point or more than a uint16 holds, or steps are too various.
    """
    if len(n_points) and not (n_points.min() >= 1 and n_points.max() <= np.iinfo(np.uint16).max):
        raise ValueError(f"outlines of {n_points.min()} to {n_points.max()} points; expected 1 to 65535")
    first = np.cumsum(n_points) - n_points
    is_step = np.ones(len(points_xy), bool)
    is_step[first] = False
    moves = np.diff(points_xy, axis=0, prepend=np.zeros((1, 2), np.int16))[is_step]
    steps, step = np.unique(moves, axis=0, return_inverse=True)
    if len(steps) > MOST_STEPS:
        raise ValueError(f"{len(steps)} kinds of steps; expected at most {MOST_STEPS}")
    return ChainCodes(
        n_points.astype(np.uint16),
        points_xy[first],
        step.reshape(-1).astype(np.uint8),
        steps.astype(np.int16),
    )


def decode(codes: ChainCodes) -> NDArray[np.int16]:
    """(P, 2) points of all outlines. Raises ValueError where the parts do not fit together."""
    n_points = codes.n_points.astype(np.int64)
    is_sound = (
        codes.first_xy.shape == (len(n_points), 2)
        and codes.steps_xy.ndim == 2
        and codes.steps_xy.shape[1] == 2
        and (n_points > 0).all()
        and codes.step.shape == (n_points.sum() - len(n_points),)
        and codes.step.max(initial=0) < max(1, len(codes.steps_xy))
    )
    if not is_sound:
        raise ValueError("the numbers of points and steps do not fit together")
    first = np.cumsum(n_points) - n_points
    is_step = np.ones(n_points.sum(), bool)
    is_step[first] = False
    points = np.zeros((len(is_step), 2), np.int16)
    points[is_step] = codes.steps_xy[codes.step]
    np.cumsum(
        points, axis=0, dtype=np.int16, out=points
    )  # may wrap round; differences are right all the same
    points += np.repeat(codes.first_xy - points[first], n_points, axis=0)
    return points
