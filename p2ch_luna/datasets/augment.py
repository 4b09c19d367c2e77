"""Augmentation of whole batches on their device: draw first, then apply. A different draw per sample.

All spatial parts together are one resampling, and none for a sample that is only flipped or transposed.
Half of the samples stay on their grid by default, as sharp as what a model meets when it is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from p2ch_luna.datasets import augment_ops as ops
from p2ch_luna.geometry import AIR_HU

THICKNESS = (2, 6)  # voxels, the last not included
BLUR_SIGMA = (0.4, 1.0)  # voxels
GAMMA = (0.8, 1.25)
GRAIN_ALONG_INDEX = 0.5  # of the noise's grain in the plane
INVERSION_STEPS = 40  # of an elastic draw: the strongest is undone to 1/1000 voxel


@dataclass(frozen=True)
class Augmentation:
    """How likely and how strong; a config's table. Lengths count voxels of 1 mm.

    Flips along all axes and the exchange of rows and columns always have probability 1/2 each.
    """

    thick_slices: float = 0.3  # probability; slices of 2 to 5 mm
    blur: float = 0.3  # probability; a softer kernel, sigma 0.4 to 1.0 mm
    noise_hu: float = 40.0  # standard deviation, at most
    noise_grain_mm: float = 1.0  # sigma of the noise's own kernel, at most; 0: white
    gain: float = 0.05  # contrast changes by a factor of up to 1 +- gain
    shift_hu: float = 30.0  # brightness changes by up to this
    gamma: float = 0.2  # probability; exponent 0.8 to 1.25 on the HU from -1000 to 400
    resample: float = 0.5  # probability of all that follows; the other samples stay on their grid
    rotation_degrees: float = 15.0  # about each axis, at most
    scale: float = 0.1  # size changes by a factor of up to 1 + scale, or down to 1 / (1 + scale)
    shift_mm: float = 0.5  # along each axis, at most
    elastic_mm: float = 0.0  # control points 16 mm apart move along each axis by up to this; at most 4


@dataclass(frozen=True)
class Draw:
    """What happens to each sample of a batch, on the CPU; a leading axis of B, but for the seed."""

    flips: Tensor  # (B, 3) bool, along D, H, W
    transpose: Tensor  # (B,) bool, rows and columns change places
    linear: Tensor  # (B, 3, 3) rotation and scale, from a voxel's place after to its place before
    shift: Tensor  # (B, 3) voxels
    bend: Tensor | None  # (B, 3, 8, 8, 8) voxels by which control points move; None: not elastic
    thickness: Tensor  # (B,) voxels that a slice is thick; 1: as it is
    phase: Tensor  # (B,) voxels that the first slice began before the patch
    blur_sigma: Tensor  # (B,) voxels; 0: none
    gamma: Tensor  # (B,) 1: none
    gain: Tensor  # (B,)
    shift_hu: Tensor  # (B,) HU
    noise_sigma: Tensor  # (B,) HU
    grain: Tensor  # (B,) voxels; 0: white noise
    seed: Tensor  # () of the noise

    def part(self, rank: int, size: int) -> Draw:
        """The draw of every `size`th sample from `rank` on: what one of several processes has of a batch."""
        if size == 1:
            return self
        drawn = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "seed"}
        part: dict[str, Any] = {
            name: value if value is None else value[rank::size] for name, value in drawn.items()
        }
        return replace(self, **part, seed=self.seed + rank)  # the noise of the parts is not the same

    @property
    def off_grid(self) -> Tensor:
        """(B,) bool: samples that need interpolation."""
        moved = (self.linear != torch.eye(3)).flatten(1).any(dim=1) | (self.shift != 0).any(dim=1)
        return moved if self.bend is None else moved | (self.bend != 0).flatten(1).any(dim=1)

    @property
    def matrix(self) -> Tensor:
        """(B, 3, 4): from a voxel's place after to its place before, both from the patch's middle."""
        axes = torch.eye(3).expand(len(self.flips), 3, 3)
        order = torch.where(self.transpose[:, None, None], axes[:, [0, 2, 1]], axes)
        turn = torch.where(self.flips, -1.0, 1.0)[:, :, None] * order
        return torch.cat([turn @ self.linear, self.shift[:, :, None]], dim=2)


def draw(batch_size: int, how: Augmentation, generator: torch.Generator) -> Draw:
    """Draw for a batch; `generator` lives on the CPU, so that every device gets the same draw."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch_size, *shape, generator=generator)

    def sometimes(probability: float, value: Tensor, otherwise: float) -> Tensor:
        return torch.where(uniform(0, 1) < probability, value, otherwise)

    resampled = uniform(0, 1) < how.resample
    thickness = sometimes(how.thick_slices, torch.randint(*THICKNESS, (batch_size,), generator=generator), 1)
    most = math.radians(how.rotation_degrees)
    linear = _rotations(uniform(-most, most, 3)) * _around_one(uniform(-1, 1, 1, 1), 1 + how.scale)
    bend = uniform(-how.elastic_mm, how.elastic_mm, 3, *[ops.BEND_POINTS] * 3) if how.elastic_mm else None
    return Draw(
        flips=uniform(0, 1, 3) < 0.5,
        transpose=uniform(0, 1) < 0.5,
        linear=torch.where(resampled[:, None, None], linear, torch.eye(3)),
        shift=resampled[:, None] * uniform(-how.shift_mm, how.shift_mm, 3),
        bend=bend if bend is None else bend * resampled[:, None, None, None, None],
        thickness=thickness,
        phase=(uniform(0, 1) * thickness).floor(),
        blur_sigma=sometimes(how.blur, uniform(*BLUR_SIGMA), 0.0),
        gamma=sometimes(how.gamma, _around_one(uniform(-1, 1), GAMMA[1]), 1.0),
        gain=uniform(1 - how.gain, 1 + how.gain),
        shift_hu=uniform(-how.shift_hu, how.shift_hu),
        noise_sigma=uniform(0, 1) ** 2 * how.noise_hu,
        grain=uniform(0, how.noise_grain_mm),
        seed=torch.randint(2**31, (), generator=generator),
    )


@torch.no_grad()  # not inference_mode: its tensors cannot be saved for a backward pass
def apply(hu: Tensor, labels: Tensor | None, what: Draw) -> tuple[Tensor, Tensor | None]:
    """Augment a (B, 1, D, H, W) batch in HU, of any real dtype, to float32; new tensors, on its device.

    labels: (B, 1, D, H, W) uint8, moved to the nearest voxel; UNSURE, 255, where the place before lies
    outside the patch. There HU repeat the border. A transpose needs H = W.
    Nothing waits for the device. The noise is the same on the same kind of device only, and of CPU.
    """
    _check(hu, what)
    turned, turned_labels = _move(hu, labels, what)
    _soften(turned, what)
    _rescale(turned, what)
    _add_noise(turned, what)
    return turned, turned_labels


def move_points(points_irc: Tensor, what: Draw, shape_irc: Sequence[int]) -> Tensor:
    """Where (B, N, 3) voxel positions, float, lie after `apply`; some may lie outside the patch."""
    center = ops.middle(shape_irc, points_irc.device)
    matrix = what.matrix.double()
    inverse: Tensor = torch.linalg.inv(matrix[:, :, :3])
    inverse = inverse.to(points_irc).mT
    before = points_irc - center - matrix[:, None, :, 3].to(points_irc)
    after: Tensor = before @ inverse
    if what.bend is not None:
        bend = what.bend.to(points_irc)
        for _ in range(INVERSION_STEPS):
            after = (before - ops.bend_at(after, bend)) @ inverse
    return after + center


def _around_one(exponent: Tensor, most: float) -> Tensor:
    """From 1 / most at -1 to `most` at 1, so that growing and shrinking are alike."""
    return torch.exp(exponent * math.log(most))


def _rotations(angles: Tensor) -> Tensor:
    """(B, 3) radians about the axes of index, row and col to (B, 3, 3), as one rotation about their sum."""
    a, b, c = angles.T
    zero = torch.zeros_like(a)
    skew = torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], dim=1).reshape(-1, 3, 3)
    rotation: Tensor = torch.linalg.matrix_exp(skew)
    return rotation


def _check(hu: Tensor, what: Draw) -> None:
    if len(hu) != len(what.flips):
        raise ValueError(f"a draw for {len(what.flips)} samples does not fit a batch of {len(hu)}")
    if hu.shape[3] != hu.shape[4] and what.transpose.any():
        raise ValueError(f"{hu.shape[3]} rows and {hu.shape[4]} columns cannot change places; wanted as many")


def _move(hu: Tensor, labels: Tensor | None, what: Draw) -> tuple[Tensor, Tensor | None]:
    """All spatial parts."""
    out = torch.empty(hu.shape, device=hu.device)
    out_labels = torch.empty_like(labels) if labels is not None else None
    off_grid = what.off_grid
    for i in (~off_grid).nonzero()[:, 0].tolist():
        flips, transpose = what.flips[i].tolist(), bool(what.transpose[i])
        out[i] = ops.turned(hu[i], flips, transpose)
        if labels is not None and out_labels is not None:
            out_labels[i] = ops.turned(labels[i], flips, transpose)
    one_or_all = 1 if hu.device.type == "cpu" else len(hu)
    for there, take in ops.parts(off_grid, hu.device, one_or_all):
        bend = take(what.bend) if what.bend is not None else None
        places = ops.places_before(take(what.matrix), bend, hu.shape[2:])
        out.index_copy_(0, there, ops.sample_hu(hu.index_select(0, there).float(), places))
        if labels is not None and out_labels is not None:
            out_labels.index_copy_(0, there, ops.sample_labels(labels.index_select(0, there), places))
    return out, out_labels


def _soften(hu: Tensor, what: Draw) -> None:
    """Thicker slices and a softer kernel, in place."""
    d, h, w = hu.shape[2:]
    blurred = what.blur_sigma > 0
    for there, take in ops.parts(blurred | (what.thickness > 1), hu.device, ops.at_once(hu.device)):
        slices = ops.slice_matrices(take(what.thickness), take(what.phase), d)
        matrices = ops.blur_matrices(take(what.blur_sigma), d) @ slices
        hu.index_copy_(0, there, ops.along_index(hu.index_select(0, there), matrices))
    for there, take in ops.parts(blurred, hu.device, ops.at_once(hu.device)):
        sigma = take(what.blur_sigma)
        rows, cols = ops.blur_matrices(sigma, h), ops.blur_matrices(sigma, w)
        hu.index_copy_(0, there, ops.along_rows_and_cols(hu.index_select(0, there), rows, cols))


def _rescale(hu: Tensor, what: Draw) -> None:
    """Gamma, gain about air and shift, in place."""
    for there, take in ops.parts(what.gamma != 1, hu.device, ops.at_once(hu.device)):
        hu.index_copy_(0, there, ops.with_gamma(hu.index_select(0, there), take(what.gamma)))
    offset = AIR_HU - AIR_HU * what.gain + what.shift_hu
    for change, value in ((hu.mul_, what.gain), (hu.add_, offset)):
        change(value.to(hu.device, non_blocking=True).reshape(-1, 1, 1, 1, 1))


def _add_noise(hu: Tensor, what: Draw) -> None:
    """Noise with the grain of a reconstruction kernel and of the slices, in place.

    A kernel gives neighbours alike noise (Kijewski and Judy 1987, doi 10.1088/0031-9155/32/5/003): in the
    soft tissue of five scanners' chests at 1 mm they correlate by -0.1 to 0.7 in the plane, on average 0.37.
    """
    if not what.noise_sigma.any():
        return
    d, h, w = hu.shape[2:]
    grain, sigma, thickness, phase = (
        value.to(hu.device, non_blocking=True)
        for value in (what.grain, what.noise_sigma, what.thickness, what.phase)
    )
    slices = ops.slice_matrices(thickness, phase, d) @ ops.grain_matrices(grain * GRAIN_ALONG_INDEX, d)
    index = ops.unit_rows(slices) * sigma[:, None, None]
    rows, cols = (ops.unit_rows(ops.grain_matrices(grain, n)) for n in (h, w))
    generator = torch.Generator(hu.device).manual_seed(int(what.seed))
    size = ops.at_once(hu.device)
    for first in range(0, len(hu), size):
        some = slice(first, first + size)
        ops.add_noise(hu[some], index[some], rows[some], cols[some], generator)
