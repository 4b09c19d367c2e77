from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, to_canonical
from p2ch_luna.report.html.volume import (
    MAX_SIDE,
    MAX_VOXELS,
    ViewerVolume,
    _ever_coarser,
    hu_of_bytes,
    viewer_volume,
)
from support.findings import OBLIQUE, TILTS, chest, paint_ball

PLENTY = 10_000_000


def no_labels(ct: CtVolume) -> NDArray[np.uint8]:
    return np.zeros(ct.hu.shape, np.uint8)


def unpacked(volume: ViewerVolume) -> NDArray[np.float64]:
    """The HU that a browser sees, (D, H, W)."""
    table = np.array(hu_of_bytes(), float)
    slices = []
    for jpeg in volume.jpegs:
        with Image.open(BytesIO(b64decode(jpeg))) as picture:
            slices.append(table[np.asarray(picture)])
    return np.stack(slices)


def labels_of(volume: ViewerVolume) -> NDArray[np.uint8]:
    """The masks, painted into the viewer's grid."""
    labels = np.zeros(volume.shape_irc, np.uint8)
    for mask in volume.masks:
        bits = np.unpackbits(np.frombuffer(b64decode(mask.bits), np.uint8))
        inside = bits[: int(np.prod(mask.shape_irc))].reshape(mask.shape_irc).astype(bool)
        box = tuple(slice(a, a + n) for a, n in zip(mask.start_irc, mask.shape_irc, strict=True))
        labels[box][inside] = mask.label
    return labels


@pytest.mark.parametrize("direction", TILTS.values(), ids=TILTS)
def test_what_lies_at_a_place_of_the_patient_stays_there(direction: NDArray[np.float64]) -> None:
    ct = chest(direction)
    labels = no_labels(ct)
    center = ct.geometry.to_xyz([20, 30, 60])
    paint_ball(ct, labels, center, 12.0, label=1)
    volume = viewer_volume(ct, labels, [], PLENTY)
    hu = unpacked(volume)
    assert hu[tuple(np.rint(volume.geometry.to_irc(center)).astype(int))] == pytest.approx(30, abs=40)
    marked = volume.geometry.to_xyz(np.argwhere(labels_of(volume) == 1))
    np.testing.assert_allclose(marked.mean(axis=0), center, atol=0.3)
    assert len(marked) == (labels == 1).sum()


@pytest.mark.parametrize("direction", TILTS.values(), ids=TILTS)
def test_columns_run_left_rows_back_and_slices_up(direction: NDArray[np.float64]) -> None:
    volume = viewer_volume(chest(direction), no_labels(chest()), [], PLENTY)
    assert (np.diag(volume.geometry.direction) > 0.5).all()


def test_lung_and_tissue_are_kept_within_the_noise_of_a_scan() -> None:
    ct = chest()
    ct.hu[:] = (ct.hu + np.random.default_rng(0).normal(0, 20, ct.hu.shape)).astype(np.int16)
    volume = viewer_volume(ct, no_labels(ct), [], PLENTY)
    start = np.rint(ct.geometry.to_irc(volume.geometry.origin_xyz)).astype(int)
    box = tuple(slice(a, a + n) for a, n in zip(start, volume.shape_irc, strict=True))
    error = (unpacked(volume) - ct.hu[box])[10:30, 30:60, 30:80]
    assert volume.quality == 90
    assert np.sqrt((error**2).mean()) < 20


def test_air_around_the_body_is_cut_away_and_every_slice_kept() -> None:
    ct = chest(
        spacing_xyz=(3.0, 3.0, 2.0)
    )  # tissue from row 10 to 80 and column 10 to 100, 15 mm are 5 voxels
    volume = viewer_volume(ct, no_labels(ct), [], PLENTY)
    assert volume.shape_irc == (40, 80, 100)
    np.testing.assert_allclose(ct.geometry.to_irc(volume.geometry.origin_xyz), [0, 5, 5])


def test_what_is_marked_is_kept_also_outside_of_the_body() -> None:
    ct = chest(spacing_xyz=(3.0, 3.0, 2.0))
    x, y, z = ct.geometry.to_xyz([0, 1, 2]).tolist()
    volume = viewer_volume(ct, no_labels(ct), [(x, y, z)], PLENTY)
    np.testing.assert_allclose(ct.geometry.to_irc(volume.geometry.origin_xyz), [0, 1, 2])


def test_without_a_body_all_is_kept() -> None:
    ct = chest()
    ct.hu[:] = -1000
    assert viewer_volume(ct, no_labels(ct), [], PLENTY).shape_irc == ct.hu.shape


def test_floats_and_values_beyond_16_bits_are_taken() -> None:
    ct = chest()
    wild = CtVolume(ct.series_uid, ct.hu.astype(np.float32), ct.geometry)
    wild.hu[20, 45, 55] = 1e9
    seen = unpacked(viewer_volume(wild, no_labels(ct), [], PLENTY))
    assert seen.max() > 1000


def noisy_chest() -> CtVolume:
    ct = chest()
    ct.hu[:] = (ct.hu + np.random.default_rng(0).normal(0, 40, ct.hu.shape)).astype(np.int16)
    return ct


def test_less_room_means_a_lower_quality_first() -> None:
    ct = noisy_chest()
    best = sum(map(len, viewer_volume(ct, no_labels(ct), [], PLENTY).jpegs))
    volume = viewer_volume(ct, no_labels(ct), [], int(0.8 * best))
    assert (volume.quality, volume.is_coarse) == (80, False)
    assert sum(map(len, volume.jpegs)) <= 0.8 * best


def test_even_less_room_means_larger_voxels_at_the_same_places() -> None:
    ct = noisy_chest()
    labels = no_labels(ct)
    center = ct.geometry.to_xyz([20, 45, 55])
    paint_ball(ct, labels, center, 12.0, label=1)
    volume = viewer_volume(ct, labels, [], 40_000)
    assert volume.is_coarse
    assert sum(map(len, volume.jpegs)) <= 40_000
    factors = np.array(volume.factors_irc)
    first = ct.geometry.to_irc(volume.geometry.origin_xyz)
    np.testing.assert_allclose((first - (factors - 1) / 2) % 1, 0, atol=1e-9)  # the middle of the first block
    np.testing.assert_allclose(volume.geometry.spacing_irc, ct.geometry.spacing_irc * factors)
    marked = volume.geometry.to_xyz(np.argwhere(labels_of(volume) == 1))
    np.testing.assert_allclose(marked.mean(axis=0), center, atol=1.5)
    hu = unpacked(volume)
    assert hu[tuple(np.rint(volume.geometry.to_irc(center)).astype(int))] > -200


def test_a_coarser_voxel_is_the_mean_of_its_block_also_at_the_end() -> None:
    ct = chest(shape=(40, 90, 111))
    ct.hu[:] = -1000
    ct.hu[:, :, -3:] = -600, -200, 0
    volume = viewer_volume(ct, no_labels(ct), [], 20_000)
    assert volume.factors_irc[2] == 2  # so the last of 111 columns stands alone
    np.testing.assert_allclose(np.median(unpacked(volume), axis=(0, 1))[-2:], [-400, 0], atol=60)


def test_too_little_room_is_told() -> None:
    ct = chest(shape=(10, 12, 14))
    with pytest.raises(LunaError, match="100 characters are too few"):
        viewer_volume(ct, no_labels(ct), [], 100)


@pytest.mark.parametrize("shape", [(1000, 1024, 1024), (3000, 512, 512), (40, 2048, 2048)])
def test_a_huge_scan_starts_with_what_a_graphics_card_takes(shape: tuple[int, int, int]) -> None:
    ct = chest(spacing_xyz=(0.35, 0.35, 0.5))
    huge = CtVolume(ct.series_uid, np.broadcast_to(ct.hu[:1, :1, :1], shape), ct.geometry)
    coarse = -(-np.array(shape) // next(_ever_coarser(huge)))
    assert coarse.prod() <= MAX_VOXELS
    assert coarse.max() <= MAX_SIDE
    assert coarse.prod() > MAX_VOXELS / 4  # and not far less


def test_canonical_is_what_the_viewer_has() -> None:
    ct = chest(OBLIQUE)
    volume = viewer_volume(ct, no_labels(ct), [], PLENTY)
    np.testing.assert_allclose(volume.geometry.direction, to_canonical(ct).geometry.direction)
