"""What augmentation does to a batch: one resampling, filters along one axis, noise. No randomness of its own.

Positions count voxels from the patch's middle, in the order (index, row, col).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from p2ch_luna.datasets.scans import UNSURE

GAMMA_WINDOW_HU = (-1000.0, 400.0)  # air to contrast and soft bone; outside it gamma changes nothing
BEND_SPACING = 16.0  # voxels between the control points of an elastic draw
BEND_POINTS = 8  # of them along an axis, then they repeat: so the draw need not know the patch's shape
BLUR_REACH = 3  # voxels, three times the largest sigma
CPU_SAMPLES = 4  # at a time, so that they stay in a CPU's cache


def at_once(device: torch.device) -> int:
    """How many samples to work on at a time: all of them where there are cores enough."""
    return CPU_SAMPLES if device.type == "cpu" else 2**31


def parts(
    chosen: Tensor, device: torch.device, size: int
) -> Iterator[tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """The samples that `chosen`, (B,) bool on the CPU, names, up to `size` at a time.

    Yields their numbers, on the device, and a function that takes their part of a (B, ...) CPU tensor there.
    Nothing waits for the device: what is asked of the draw is known on the CPU.
    """
    numbers = chosen.nonzero()[:, 0]
    for first in range(0, len(numbers), size):
        some = numbers[first : first + size]

        def take(value: Tensor, some: Tensor = some) -> Tensor:
            return value[some].to(device, non_blocking=True)

        yield some.to(device, non_blocking=True), take


def middle(shape_irc: Sequence[int], device: torch.device) -> Tensor:
    """Half-way between the first and the last voxel, (3,)."""
    return torch.stack([torch.full((), (n - 1) / 2, device=device) for n in shape_irc])


def from_middle(n: int, device: torch.device) -> Tensor:
    """(n,) positions of the voxels along one axis."""
    return torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2


def turned(image: Tensor, flips: Sequence[bool], transpose: bool) -> Tensor:
    """Mirror a (C, D, H, W) image along D, H, W, then exchange rows and columns; every voxel as it was."""
    mirrored = image.flip([axis + 1 for axis in range(3) if flips[axis]])
    return mirrored.transpose(2, 3) if transpose else mirrored


def places_before(matrix: Tensor, bend: Tensor | None, shape_irc: Sequence[int]) -> tuple[Tensor, ...]:
    """Where each voxel's value comes from: (n, 3, 4) about the middle, and control points (n, 3, 8, 8, 8).

    Returns index, row and col, each (n, D, H, W), in voxels from the first one. They are broadcast sums:
    a product with every voxel's position, as in `F.affine_grid`, takes longer than the sampling itself.
    """
    along = [from_middle(n, matrix.device) for n in shape_irc]
    places = []
    for axis, n in enumerate(shape_irc):
        by_index, by_row, by_col, shift = matrix[:, axis].T[..., None]  # (n, 1) each
        plane = (by_row * along[1])[:, :, None] + (by_col * along[2] + (shift + (n - 1) / 2))[:, None]
        places.append((by_index * along[0])[:, :, None, None] + plane[:, None])
    if bend is not None:
        weights = [bend_weights(positions) for positions in along]
        moves = torch.einsum("bkijl,di,hj,wl->kbdhw", bend, *weights)
        places = [place + move for place, move in zip(places, moves, strict=True)]
    return tuple(places)


def bend_weights(position: Tensor) -> Tensor:
    """Weights (..., 8) of the control points at positions along one axis, a periodic cubic B-spline.

    Free-form deformation as in Rueckert et al. 1999 (doi 10.1109/42.796284).
    """
    points = torch.arange(BEND_POINTS, device=position.device, dtype=position.dtype)
    away = position[..., None] / BEND_SPACING - points
    t = (torch.remainder(away + BEND_POINTS / 2, BEND_POINTS) - BEND_POINTS / 2).abs()
    return torch.where(t < 1, 2 / 3 - t**2 + t**3 / 2, (2 - t).clamp(min=0) ** 3 / 6)


def bend_at(position: Tensor, bend: Tensor) -> Tensor:
    """Voxels that (B, N, 3) positions are moved by, if control points are by `bend`, (B, 3, 8, 8, 8)."""
    i, j, k = (bend_weights(position[..., axis]) for axis in range(3))
    return torch.einsum("bcijk,bni,bnj,bnk->bnc", bend.to(position.dtype), i, j, k)


def sample_hu(hu: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Linear; outside the patch the border's value. (n, 1, D, H, W) float32, D, H, W >= 2.

    A CPU samples images several times as fast as volumes. So the slices, one below the other, are one
    image, the same from the second slice on its other channel, and what lies between slices is mixed from
    the two. Positions in so high an image are good to 1/4000 voxel.
    """
    n, _, d, h, w = hu.shape
    index, row, col = (p.clamp(0, side - 1) for p, side in zip(places, (d, h, w), strict=True))
    slice_before = index.floor().clamp_(max=d - 2)
    high = (d - 1) * h
    row.add_(slice_before, alpha=h).mul_(2 / (high - 1)).sub_(1)  # in place: it stays in a CPU's cache
    grid = torch.stack([col.mul_(2 / (w - 1)).sub_(1), row], dim=-1)
    images = hu.reshape(n, d * h, w).unfold(1, high, h).transpose(2, 3)  # (n, 2, high, w)
    if n == 1:  # a CPU's threads share the images of a batch: let each slice sample its own
        both = F.grid_sample(images.expand(d, 2, high, w), grid[0], align_corners=True).transpose(0, 1)
    else:
        both = F.grid_sample(images, grid.reshape(n, d * h, w, 2), align_corners=True)
    before, after = both.reshape(n, 2, 1, d, h, w).unbind(1)
    return torch.lerp(before, after, index.sub_(slice_before)[:, None])


def sample_labels(labels: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Nearest; outside the patch UNSURE. (n, 1, D, H, W) uint8, fewer than 2**24 voxels each."""
    n, _, *sides = labels.shape
    padded = F.pad(labels, [1] * 6, value=UNSURE).reshape(n, -1)
    index, row, col = (p.round().clamp_(-1, side) for p, side in zip(places, sides, strict=True))
    number = ((index + 1) * (sides[1] + 2) + (row + 1)) * (sides[2] + 2) + (col + 1)
    return padded.gather(1, number.long().reshape(n, -1)).reshape(labels.shape)


def slice_matrices(thickness: Tensor, phase: Tensor, n: int) -> Tensor:
    """(b, n, n): average over slices of `thickness` voxels, then interpolate back to the grid.

    The first slice began `phase` voxels before the patch; of a slice that reaches beyond the patch
    the part inside counts. Thickness 1 changes nothing.
    """
    voxel = torch.arange(n, device=thickness.device, dtype=torch.float32)
    nearer = torch.arange(n + 1, device=thickness.device, dtype=torch.float32)
    t, p = thickness.float()[:, None, None], phase.float()[:, None, None]
    begin = nearer[:, None] * t - p  # (b, slices, 1)
    overlap = (torch.minimum(begin + t, voxel + 1) - torch.maximum(begin, voxel)).clamp(min=0)
    average = overlap / overlap.sum(dim=2, keepdim=True).clamp(min=1)  # a slice beyond the patch stays 0
    at = (voxel[:, None] + 0.5 + p) / t - 0.5  # (b, voxels, 1), counted in slices
    at = at.clamp(min=0).minimum(((n + p) / t).ceil() - 1)
    return (1 - (at - nearer).abs()).clamp(min=0) @ average


def blur_matrices(sigma: Tensor, n: int) -> Tensor:
    """(b, n, n): convolve with a Gaussian of `sigma` voxels, the border repeated; 0 changes nothing."""
    steps = torch.arange(-BLUR_REACH, BLUR_REACH + 1, device=sigma.device)
    kernel = torch.exp(-0.5 * (steps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel /= kernel.sum(dim=1, keepdim=True)
    voxel = torch.arange(n, device=sigma.device)
    taken = (voxel + steps[:, None]).clamp(0, n - 1)  # (steps, n)
    placed = (taken[..., None] == voxel).float()  # (steps, n, n)
    return torch.einsum("bs,sij->bij", kernel, placed)


def grain_matrices(sigma: Tensor, n: int) -> Tensor:
    """(b, n, n): correlate white noise as a Gaussian kernel of `sigma` voxels does; see `unit_rows`."""
    voxel = torch.arange(n, device=sigma.device, dtype=torch.float32)
    away = (voxel[:, None] - voxel) / sigma.clamp(min=1e-3)[:, None, None]
    return torch.exp(-0.5 * away**2)


def unit_rows(matrices: Tensor) -> Tensor:
    """Scale every row to length 1: the variance of white noise stays what it was, at the border too."""
    return F.normalize(matrices, dim=2)


def along_index(hu: Tensor, matrices: Tensor) -> Tensor:
    """Apply (b, D, D) along the first axis of (b, 1, D, H, W)."""
    return (matrices @ hu.flatten(3)[:, 0]).reshape(hu.shape)


def along_rows_and_cols(hu: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Apply (b, H, H) and (b, W, W) along the other two axes of (b, 1, D, H, W)."""
    b, _, d, h, w = hu.shape
    across = (hu.reshape(b, d * h, w) @ cols.mT).reshape(b, d, h, w)
    by_row = across.transpose(1, 2).reshape(b, h, d * w)  # one large product a sample instead of D small ones
    return (rows @ by_row).reshape(b, h, d, w).transpose(1, 2).reshape(hu.shape)


def add_noise(hu: Tensor, index: Tensor, rows: Tensor, cols: Tensor, generator: torch.Generator) -> None:
    """Add white noise, filtered along each axis by (b, n, n) matrices, in place to (b, 1, D, H, W)."""
    b, _, d, h, w = hu.shape
    dtype = _noise_dtype(hu.device)
    white = torch.randn(b, h, d * w, generator=generator, device=hu.device).to(dtype)
    filtered = ((rows.to(dtype) @ white).reshape(b, h * d, w) @ cols.to(dtype).mT).reshape(b, h, d, w)
    hu.view(b, d, h * w).add_(index.to(dtype) @ filtered.transpose(1, 2).reshape(b, d, h * w))


def _noise_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where a CPU has it, four times as fast: noise is as random when rounded to 1/250 of itself."""
    has_bf16 = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def with_gamma(hu: Tensor, gamma: Tensor) -> Tensor:
    """Raise the HU of `GAMMA_WINDOW_HU`, scaled to 0 to 1, to the power `gamma` (b,); both its ends stay."""
    low, high = GAMMA_WINDOW_HU
    inside = hu.clamp(low, high)
    share = (inside - low) / (high - low)
    raised = share.pow(gamma.reshape(-1, 1, 1, 1, 1))
    return hu - inside + raised * (high - low) + low
