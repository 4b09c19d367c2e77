"""Lengths across masks in axial slices, by hand and against discs and ellipses of known size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.inference.diameters import Diameters, diameters

SHAPE = (3, 24, 30)


def of_mask(mask: NDArray[np.bool_], spacing_irc: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Diameters:
    return diameters(mask.astype(np.float32), 0.5, spacing_irc)


def block(*box: slice) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[box] = True
    return mask


def test_one_pixel_is_as_wide_as_it_is() -> None:
    found = of_mask(block(slice(1, 2), slice(9, 10), slice(9, 10)), (2.5, 0.7, 0.7))
    assert (found.longest_mm, found.perpendicular_mm) == pytest.approx((0.7, 0.7))


def test_a_pixel_that_is_not_square_is_as_long_and_as_wide_as_it_is() -> None:
    found = of_mask(block(slice(1, 2), slice(9, 10), slice(9, 10)), (1.0, 0.5, 2.0))
    assert (found.longest_mm, found.perpendicular_mm) == pytest.approx((2.0, 0.5))


def test_a_rod_is_as_long_as_its_pixels_and_as_wide_as_one() -> None:
    found = of_mask(block(slice(1, 2), slice(9, 10), slice(5, 17)), (1.0, 0.5, 0.5))
    assert (found.longest_mm, found.perpendicular_mm) == pytest.approx((6.0, 0.5))


def test_ends_lie_on_the_outline() -> None:
    found = of_mask(block(slice(2, 3), slice(9, 10), slice(5, 17)))
    assert sorted(found.longest_irc.tolist()) == [[2, 9, 4.5], [2, 9, 16.5]]


def test_the_slice_where_it_is_longest_counts() -> None:
    mask = block(slice(0, 1), slice(5, 6), slice(5, 9)) | block(slice(1, 2), slice(5, 6), slice(5, 12))
    found = of_mask(mask)
    assert found.longest_mm == pytest.approx(7)
    assert set(found.longest_irc[:, 0]) == {1}


def test_of_slices_as_long_the_wider_counts() -> None:
    mask = block(slice(0, 3), slice(9, 10), slice(5, 17)) | block(slice(2, 3), slice(9, 12), slice(10, 11))
    found = of_mask(mask)
    assert (found.longest_mm, found.perpendicular_mm) == pytest.approx((12, 3))
    assert set(found.longest_irc[:, 0]) == {2}


def test_the_length_across_a_bow_spans_its_hollow() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[1, 5:15, 5] = mask[1, 5, 5:25] = mask[1, 5:15, 24] = True  # a U of 20 by 10 pixels
    found = of_mask(mask)
    assert found.longest_mm > 20  # from foot to foot, or from a foot to the far corner
    assert 5 < found.perpendicular_mm < 12


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8, 1.3, 2.2])
def test_both_lines_are_at_right_angles(angle: float) -> None:
    found = of_mask(ellipse(16, 9, angle, 0.7))
    along, across = (np.diff(ends, axis=0)[0] for ends in (found.longest_irc, found.perpendicular_irc))
    assert along @ across == pytest.approx(0, abs=1e-6)


def distance(a_mm: float, b_mm: float, angle: float, pixel_mm: float, shift: float) -> NDArray[np.float64]:
    """(H, W) how far out pixels are in an ellipse of diameters a and b: 1 on its outline."""
    n = int(a_mm / pixel_mm) + 8
    y, x = (np.mgrid[:n, :n] - n // 2 + shift) * pixel_mm
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    out: NDArray[np.float64] = np.hypot(u / a_mm, v / b_mm) * 2
    return out


def ellipse(a_mm: float, b_mm: float, angle: float, pixel_mm: float, shift: float = 0.2) -> NDArray[np.bool_]:
    return np.asarray(distance(a_mm, b_mm, angle, pixel_mm, shift)[None] <= 1)


def errors(
    a_mm: float, b_mm: float, pixel_mm: float, *, soft: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of both lengths, in pixels, over many angles and places."""
    found = []
    rng = np.random.default_rng(0)
    for _ in range(40):
        out = distance(a_mm, b_mm, rng.uniform(0, np.pi), pixel_mm, rng.uniform(-0.5, 0.5))[None]
        value = np.clip(1.5 - out, 0, 1) if soft else (out <= 1).astype(float)
        both = diameters(value.astype(np.float32), 0.5, (1.0, pixel_mm, pixel_mm))
        found.append((both.longest_mm - a_mm, both.perpendicular_mm - b_mm))
    longest, across = np.array(found).T / pixel_mm
    return longest, across


@pytest.mark.parametrize("pixel_mm", [0.5, 0.75, 1.0])
@pytest.mark.parametrize(("a_mm", "b_mm"), [(4, 4), (6, 4), (10, 10), (20, 12), (30, 10)])
def test_a_mask_is_measured_within_a_pixel(a_mm: float, b_mm: float, pixel_mm: float) -> None:
    """The steps of its outline make a round one longer, by 0.6 of a pixel at most on average."""
    longest, across = errors(a_mm, b_mm, pixel_mm, soft=False)
    assert ((longest + across) / 2).mean() < 0.6
    assert np.abs(longest).max() < 1
    assert np.abs(across).max() < 1


@pytest.mark.parametrize("pixel_mm", [0.5, 0.75, 1.0])
@pytest.mark.parametrize(("a_mm", "b_mm"), [(4, 4), (6, 4), (10, 10), (20, 12), (30, 10)])
def test_between_levels_it_is_measured_finer_than_pixels(a_mm: float, b_mm: float, pixel_mm: float) -> None:
    longest, across = errors(a_mm, b_mm, pixel_mm, soft=True)
    assert np.abs(longest).max() < 0.35
    assert np.abs(across).max() < 0.35
