"""A CT small enough to lie inside a web page: for looking at, not for measuring.

Of what was measured on a 512×512×300 CT (157 MB), with its page's base64, on one core:

| | MB in the page | s to write | HU of error in lung / soft tissue |
|---|---|---|---|
| gzip of the HU | 126 | 1.8 | 0 / 0 |
| gzip of 8 bits | 69 | 1.0 | 2 / 1 |
| PNG of 8 bits | 64 | 2.1 | 2 / 1 |
| WebP 75 | 6.7 | 1.3 | 25 / 17 |
| JPEG 75 | 11.0 | 0.2 | 21 / 15 |
| JPEG 90 | 20.9 | 0.2 | 15 / 10 |

JPEG is taken: nothing lossless fits, the noise of the CT (20 HU) is larger than what JPEG 90 changes, nothing
is written faster, and every browser decodes it. Air around the body is cut away first. Chromium unpacks the
300 slices in 1.3 s on two cores; without a graphics card, another window then takes NiiVue 1 s.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Point
from p2ch_luna.geometry import CtVolume, HuArray, ImageGeometry, crop_box, to_canonical

# Steps are fine where windows are narrow, coarse in bone: HU at which the 8 bits take these values.
HU_KNOTS, BYTE_KNOTS = (-1024, -300, -160, 300, 3071), (0, 90, 110, 225, 255)
QUALITIES = (90, 80, 70, 60)  # of JPEG, the best that fits is taken
MAX_VOXELS = 80_000_000  # a graphics card holds 4 bytes of each, the browser's memory 2
MAX_SIDE = 1024  # voxels along an axis: what a 3-D texture may have on most devices
BODY_ABOVE_HU = -400
BODY_MARGIN_MM = 15.0
SAMPLED = 16  # slices that tell how large all will be

Bytes = NDArray[np.uint8]
Box = tuple[NDArray[np.int64], NDArray[np.int64]]  # first voxel (index, row, col) and the one past the last


@dataclass(frozen=True)
class Mask:
    """The voxels of a finding, as a box of bits in the viewer's grid."""

    label: int
    start_irc: tuple[int, int, int]
    shape_irc: tuple[int, int, int]
    bits: str  # base64, the highest bit first, in the order of the voxels


@dataclass(frozen=True, eq=False)
class ViewerVolume:
    """What the page's viewer shows. Columns run to the left, rows to the back, slices up; a tilt remains.

    jpegs: of each slice, base64.    means: of its bytes, to see that a browser decodes them faithfully.
    factors_irc: voxels of the CT along each axis that became one; all 1 where nothing was coarsened.
    """

    jpegs: tuple[str, ...]
    means: tuple[int, ...]
    shape_irc: tuple[int, int, int]
    geometry: ImageGeometry
    masks: tuple[Mask, ...]
    factors_irc: tuple[int, int, int]
    quality: int

    @property
    def is_coarse(self) -> bool:
        """Whether the viewer has fewer voxels than the CT."""
        return self.factors_irc != (1, 1, 1)


def hu_of_bytes() -> list[int]:
    """The HU that each of the 256 values stands for."""
    return [round(float(hu)) for hu in np.interp(np.arange(256), BYTE_KNOTS, HU_KNOTS)]


def viewer_volume(
    ct: CtVolume, labels: Bytes, centers_xyz: Sequence[Point], max_characters: int
) -> ViewerVolume:
    """The CT around the body, as finely as `max_characters` of base64 allow.

    labels: (D, H, W) on the grid of `ct`.    centers_xyz: places that are shown in any case.
    Raises LunaError where not even the coarsest slices fit.
    """
    whole = to_canonical(ct)
    # the labels take the same way as the voxels; that they are no HU does not matter to it
    turned = cast("Bytes", to_canonical(CtVolume(ct.series_uid, cast("HuArray", labels), ct.geometry)).hu)
    boxes = ndimage.find_objects(turned)
    low, high = _body_box(whole, boxes, centers_xyz)
    box = crop_box(whole, low, high)
    for factors in _ever_coarser(box):
        blocks = _Blocks(box.hu, factors)
        masks = _masks(turned, boxes, low, factors)
        room = max_characters - sum(len(mask.bits) for mask in masks)
        if blocks.estimate(QUALITIES[-1]) > room:
            continue
        for quality in QUALITIES:
            if blocks.estimate(quality) > room:
                continue
            jpegs, means = blocks.encoded(range(blocks.shape_irc[0]), quality)
            if sum(map(len, jpegs)) <= room:
                geometry = _coarser(box.geometry, factors)
                return ViewerVolume(jpegs, means, blocks.shape_irc, geometry, masks, factors, quality)
    raise LunaError(f"report.html: {max_characters} characters are too few for any voxels of {ct.series_uid}")


def _body_box(ct: CtVolume, boxes: Sequence[tuple[slice, ...] | None], centers_xyz: Sequence[Point]) -> Box:
    """Around the body in rows and columns, whatever is marked inside; every slice is kept."""
    shape = np.array(ct.hu.shape)
    steps = np.maximum(1, shape // (40, 128, 128))
    body = ct.hu[tuple(slice(None, None, int(step)) for step in steps)] > BODY_ABOVE_HU
    low, high = np.zeros(3, int), shape.copy()
    for axis in (1, 2):
        inside = np.flatnonzero(body.any(axis=tuple(k for k in range(3) if k != axis)))
        if inside.size:
            low[axis], high[axis] = inside[0] * steps[axis], (inside[-1] + 1) * steps[axis]
    margin = np.ceil(BODY_MARGIN_MM / ct.geometry.spacing_irc).astype(int) * (0, 1, 1)
    starts = [[part.start for part in box] for box in boxes if box is not None]
    stops = [[part.stop for part in box] for box in boxes if box is not None]
    places = [np.clip(np.rint(ct.geometry.to_irc(xyz)).astype(int), 0, shape - 1) for xyz in centers_xyz]
    low = np.min([low - margin, *starts, *places], axis=0)
    high = np.max([high + margin, *stops, *(place + 1 for place in places)], axis=0)
    return np.clip(low, 0, shape), np.clip(high, 0, shape)


def _ever_coarser(ct: CtVolume) -> Iterator[tuple[int, int, int]]:
    """How many voxels to average along (index, row, col): first as few as the viewer can take, then more."""
    factors = np.ones(3, int)
    while True:
        shape = -(-np.array(ct.hu.shape) // factors)
        if shape.prod() <= MAX_VOXELS and shape.max() <= MAX_SIDE:
            yield int(factors[0]), int(factors[1]), int(factors[2])
        if shape.max() == 1:
            return
        # the finest axis goes first: the voxels come near to cubes
        fine = np.where(shape > 1, ct.geometry.spacing_irc * factors, np.inf)
        if shape.max() > MAX_SIDE:
            fine = np.where(shape > MAX_SIDE, fine, np.inf)
        factors[fine.argmin()] += 1


def _coarser(geometry: ImageGeometry, factors: tuple[int, int, int]) -> ImageGeometry:
    moved = geometry.moved_to((np.array(factors) - 1) / 2)
    return ImageGeometry(moved.origin_xyz, moved.spacing_xyz * factors[::-1], moved.direction)


class _Blocks:
    """(D, H, W) HU averaged in blocks of `factors` voxels, made slice by slice: 8 bits and their JPEG."""

    def __init__(self, hu: HuArray, factors: tuple[int, int, int]) -> None:
        self._hu, self._factors = hu, factors
        depth, rows, columns = (-(-n // factor) for n, factor in zip(hu.shape, factors, strict=True))
        self.shape_irc: tuple[int, int, int] = (depth, rows, columns)
        hu_of_all = np.arange(-32768, 32768)
        table = np.rint(np.interp(hu_of_all, HU_KNOTS, BYTE_KNOTS)).astype(np.uint8)
        self._byte_of = np.roll(table, -32768)  # indexed by the 16 bits without their sign

    def estimate(self, quality: int) -> float:
        """Characters of base64 that all slices will take, a little more rather than less."""
        depth = self.shape_irc[0]
        some = range(0, depth, max(1, depth // SAMPLED))
        jpegs, _ = self.encoded(some, quality)
        return 1.03 * sum(map(len, jpegs)) * depth / len(some)

    def encoded(self, slices: Sequence[int], quality: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The slices as JPEG in base64, and the mean of their bytes before."""

        def encode(index: int) -> tuple[str, int]:
            gray = self._byte_of[self._slice(index).view(np.uint16)]
            jpeg = BytesIO()
            Image.fromarray(gray).save(jpeg, format="JPEG", quality=quality)
            return b64encode(jpeg.getvalue()).decode("ascii"), round(float(gray.mean()))

        with ThreadPoolExecutor() as pool:  # libjpeg runs without Python's lock
            jpegs, means = zip(*pool.map(encode, slices), strict=True)
        return jpegs, means

    def _slice(self, index: int) -> NDArray[np.int16]:
        thick, tall, wide = self._factors
        block = self._hu[index * thick : (index + 1) * thick]
        if self._factors == (1, 1, 1):
            return np.ascontiguousarray(_as_int16(block[0]))
        total = block.sum(axis=0, dtype=np.float32)
        count = np.full(total.shape, len(block), np.float32)
        mean = _summed(total, tall, wide) / _summed(count, tall, wide)
        return _as_int16(mean)


def _as_int16(hu: HuArray) -> NDArray[np.int16]:
    if hu.dtype == np.int16:
        return cast("NDArray[np.int16]", hu)
    rounded: NDArray[np.int16] = np.rint(np.clip(hu, -32768, 32767)).astype(np.int16)
    return rounded


def _summed(plane: NDArray[np.float32], tall: int, wide: int) -> NDArray[np.float32]:
    """Sums over blocks; the last of an axis may be smaller."""
    rows = np.add.reduceat(plane, np.arange(0, plane.shape[0], tall), axis=0)
    total: NDArray[np.float32] = np.add.reduceat(rows, np.arange(0, plane.shape[1], wide), axis=1)
    return total


def _masks(
    labels: Bytes,
    boxes: Sequence[tuple[slice, ...] | None],
    low: NDArray[np.int64],
    factors: tuple[int, int, int],
) -> tuple[Mask, ...]:
    """The labels in the viewer's grid, whose voxel (0, 0, 0) begins at voxel `low`."""
    masks = []
    for label, box in enumerate(boxes, start=1):
        if box is None:
            continue
        inside = np.argwhere(labels[box] == label) + [part.start for part in box] - low
        voxels = inside // factors
        start = voxels.min(axis=0)
        shape = voxels.max(axis=0) - start + 1
        bits = np.zeros(shape, bool)
        bits[tuple((voxels - start).T)] = True
        packed = b64encode(np.packbits(bits).tobytes()).decode("ascii")
        masks.append(Mask(label, _triple(start), _triple(shape), packed))
    return tuple(masks)


def _triple(values: NDArray[np.int64]) -> tuple[int, int, int]:
    a, b, c = values.tolist()
    return a, b, c
