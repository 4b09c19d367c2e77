"""A prepared scan as the bytes of its file."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from p2ch_luna.io.scan_file import PAGE, Storage
from p2ch_luna.io.scan_packing import pack_scan
from p2ch_luna.lungs import PreparedCt


def packed(prepared: PreparedCt, storage: Storage) -> bytes:
    return b"".join(pack_scan(prepared, storage).pieces)


@pytest.mark.parametrize("storage", ["blosc2", "raw"])
def test_the_size_is_known_before_it_is_written(prepared: PreparedCt, storage: Storage) -> None:
    file = io.BytesIO()
    scan = pack_scan(prepared, storage)
    scan.write(file)
    assert scan.n_bytes == len(file.getvalue())


@pytest.mark.parametrize("storage", ["blosc2", "raw"])
def test_the_same_scan_becomes_the_same_bytes(prepared: PreparedCt, storage: Storage) -> None:
    rng = np.random.default_rng(1)
    hu = rng.integers(-1024, 3071, (80, 80, 80), np.int16)  # several chunks of several blocks
    large = replace(prepared, ct=replace(prepared.ct, hu=hu), lung=hu > 0)
    assert packed(large, storage) == packed(large, storage)


def test_raw_voxels_are_those_of_an_npy_file(prepared: PreparedCt) -> None:
    file = io.BytesIO()
    np.save(file, prepared.ct.hu)
    start = packed(prepared, "raw").index(file.getvalue())
    assert start % PAGE == 0


def test_blosc2_takes_less_room(prepared: PreparedCt) -> None:
    hu = np.zeros((64, 64, 64), np.int16)
    flat = replace(prepared, ct=replace(prepared.ct, hu=hu), lung=hu > 0)
    assert 10 * len(packed(flat, "blosc2")) < len(packed(flat, "raw"))


@pytest.mark.parametrize("storage", ["blosc2", "raw"])
def test_float_voxels_are_refused_rather_than_rounded(prepared: PreparedCt, storage: Storage) -> None:
    floats = replace(prepared, ct=replace(prepared.ct, hu=prepared.ct.hu.astype(np.float32)))
    with pytest.raises(TypeError, match="int16"):
        pack_scan(floats, storage)


def test_a_mask_of_another_shape_is_refused(prepared: PreparedCt) -> None:
    with pytest.raises(ValueError, match=r"lung is bool \(6, 9, 11\); expected bool \(7, 9, 11\)"):
        pack_scan(replace(prepared, lung=prepared.lung[1:]), "raw")
