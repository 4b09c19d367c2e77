"""Run a fully convolutional network over a volume that is too large for one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2ch_luna.geometry import AIR_HU
from p2ch_luna.inference.fast import fast_inference, probabilities

MULTIPLE = 16  # voxels: the network halves its grid four times
MARGIN = 16  # voxels of real context around what a tile answers for
RIM = 8  # voxels around the lung that are looked at too: a nodule may bulge out of the mask
# Of one pass: 0.7 GB for the segmentation network. By `luna bench diagnose --tiles` 128³ is a tenth to a
# quarter slower, as margins overlap more; 256³ is no faster and takes 0.2 GB more.
MAX_VOXELS = 200**3

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Tile:
    """One pass of the network. `core`: where its answer is kept. `read`: what it sees.

    Both count from the volume's first voxel; `read` starts at multiples of `MULTIPLE`, so that a tile
    meets the strides of the network as the whole volume would, and may reach past the volume's end.
    """

    core: Box
    read: Box

    @property
    def core_in_read(self) -> Box:
        """`core`, counted from the first voxel of `read`."""
        d, h, w = (
            slice(c.start - r.start, c.stop - r.start) for c, r in zip(self.core, self.read, strict=True)
        )
        return d, h, w


def plan_tiles(
    lung: NDArray[np.bool_], *, max_voxels: int = MAX_VOXELS, margin: int = MARGIN, rim: int = RIM
) -> list[Tile]:
    """Cover a lung mask (D, H, W) and its rim: boxes are halved until one pass holds them.

    Each half is first shrunk to the lung in it, so that what lies between and around the lungs costs
    little. Cores do not overlap. No lung: no tile. Beyond the volume the network pads by itself.
    """
    if margin % MULTIPLE or max_voxels < (2 * margin + MULTIPLE) ** 3:
        raise ValueError(f"cannot tile with margin {margin} and {max_voxels} voxels a pass")
    tiles: list[Tile] = []
    padded = _round_up(np.array(lung.shape))
    regions = [(np.zeros(3, int), padded)]
    while regions:
        bounds = _shrink_to_lung(lung, *regions.pop(), rim)
        if bounds is None:
            continue
        low, high = bounds
        start, stop = np.maximum(low - margin, 0), np.minimum(high + margin, padded)
        if np.prod(stop - start) <= max_voxels:
            tiles.append(Tile(_box(low, np.minimum(high, lung.shape)), _box(start, stop)))
            continue
        axis = int(np.argmax(high - low))
        middle = low[axis] + _round_up((high[axis] - low[axis]) // 2)
        upper_low, lower_high = low.copy(), high.copy()
        upper_low[axis] = lower_high[axis] = middle
        regions += [(upper_low, high), (low, lower_high)]
    return tiles


def segment(
    model: nn.Module,
    hu: NDArray[np.int16] | NDArray[np.float32],
    tiles: Sequence[Tile],
    *,
    device: torch.device,
    advance: Callable[[int], None],
) -> NDArray[np.float32]:
    """Nodule probability (D, H, W) of a CT (D, H, W) in HU; 0 where there is no tile.

    model: (B, 1, D, H, W) HU -> mask logit of the same shape.   advance: is called with 1 after each tile.
    """
    probability = np.zeros(hu.shape, np.float32)
    with fast_inference(device):
        for tile in tiles:
            logit = model(_read(hu, tile).to(device))
            probability[tile.core] = probabilities(logit[(0, 0, *tile.core_in_read)], "segmentation")
            advance(1)
    return probability


def _read(hu: NDArray[np.int16] | NDArray[np.float32], tile: Tile) -> Tensor:
    """(1, 1, D, H, W) float32 HU that a tile sees; past the volume's end it is air."""
    inside = hu[tile.read].astype(np.float32)
    wanted = [s.stop - s.start for s in tile.read]
    padding = [(0, n - m) for n, m in zip(wanted, inside.shape, strict=True)]
    return torch.from_numpy(np.pad(inside, padding, constant_values=AIR_HU))[None, None]


def _shrink_to_lung(
    lung: NDArray[np.bool_], low: NDArray[np.int_], high: NDArray[np.int_], rim: int
) -> tuple[NDArray[np.int_], NDArray[np.int_]] | None:
    """The smallest box within [low, high), at multiples of `MULTIPLE`, around its lung and rim."""
    part = lung[_box(low, high)]
    plane = np.logical_or.reduce(part, axis=0)
    lines = [np.flatnonzero(line) for line in (part.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0))]
    if not lines[0].size:
        return None
    first = low + [line[0] for line in lines] - rim
    end = low + [line[-1] + 1 for line in lines] + rim
    return np.maximum(low, first // MULTIPLE * MULTIPLE), np.minimum(high, _round_up(end))


def _round_up(n: NDArray[np.int_]) -> NDArray[np.int_]:
    return -(-n // MULTIPLE) * MULTIPLE


def _box(low: NDArray[np.int_], high: NDArray[np.int_]) -> Box:
    d, h, w = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return d, h, w
