from dataclasses import replace

import numpy as np
import pytest

from p2ch_luna.geometry import PADDING_HU, CtVolume, ImageGeometry
from p2ch_luna.inference.lung_picture import lung_of, lung_picture
from p2ch_luna.lungs import PreparedCt

TILT = np.array([[1.0, 0.0, 0.0], [0.0, 0.8, -0.6], [0.0, 0.6, 0.8]])


@pytest.fixture
def prepared() -> PreparedCt:
    """8 x 10 x 13 voxels, each of other HU; lung but for the first plane along each axis."""
    hu = np.arange(8 * 10 * 13, dtype=np.int16).reshape(8, 10, 13) - 1500
    lung = np.zeros(hu.shape, bool)
    lung[2:, 2:, 2:] = True
    geometry = ImageGeometry(np.array([5.0, -7.0, 9.0]), np.ones(3), TILT)
    return PreparedCt(CtVolume("1.2.3", hu, geometry), lung, None)


def test_a_voxel_is_the_mean_of_eight(prepared: PreparedCt) -> None:
    picture = lung_picture(prepared)
    assert picture is not None
    assert picture.hu[2, 3, 4] == np.rint(prepared.ct.hu[4:6, 6:8, 8:10].mean())
    assert picture.hu.dtype == np.int16


def test_a_last_odd_voxel_is_left_out(prepared: PreparedCt) -> None:
    picture = lung_picture(prepared)
    assert picture is not None
    assert picture.hu.shape == (4, 5, 6)


def test_a_voxel_lies_in_the_middle_of_the_eight(prepared: PreparedCt) -> None:
    picture = lung_picture(prepared)
    assert picture is not None
    middle = prepared.ct.geometry.to_xyz((4.5, 6.5, 8.5))
    np.testing.assert_allclose(picture.geometry.to_xyz((2, 3, 4)), middle)


def test_outside_the_lungs_it_is_padding_and_inside_never(prepared: PreparedCt) -> None:
    picture = lung_picture(prepared)
    assert picture is not None
    inside = prepared.lung[::2, ::2, ::2][:, :, :6]
    assert (picture.hu[~inside] == PADDING_HU).all()
    np.testing.assert_array_equal(lung_of(picture), inside)  # also where HU are below the padding's


@pytest.mark.parametrize(("planes", "is_lung"), [((1, 2, 2), True), ((1, 1, 2), False)])
def test_a_voxel_is_lung_where_half_of_it_is(
    prepared: PreparedCt, planes: tuple[int, int, int], is_lung: bool
) -> None:
    """So many planes of two along each axis: 4 of its 8 voxels, and 2."""
    lung = np.zeros_like(prepared.lung)
    lung[tuple(slice(4, 4 + n) for n in planes)] = True
    picture = lung_picture(replace(prepared, lung=lung))
    assert picture is not None
    assert lung_of(picture)[2, 2, 2] == is_lung


def test_without_lungs_there_is_none(prepared: PreparedCt) -> None:
    assert lung_picture(replace(prepared, warning="no lungs found")) is None
