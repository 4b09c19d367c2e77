"""Size categories at their limits, of Lung-RADS v2022's table for a baseline screening."""

import pytest

from p2ch_luna.inference.lung_rads import lung_rads


@pytest.mark.parametrize(
    ("mean_mm", "category"),
    [(3, "2"), (5.9, "2"), (6, "3"), (7.9, "3"), (8, "4A"), (14.9, "4A"), (15, "4B"), (40, "4B")],
)
def test_a_solid_nodule_goes_by_its_diameter(mean_mm: float, category: str) -> None:
    assert lung_rads("solid", mean_mm, mean_mm) == category


@pytest.mark.parametrize(
    ("mean_mm", "solid_mm", "category"),
    [
        (5.9, 0, "2"), (5.9, 5.5, "2"), (6, 0, "3"), (30, 5.9, "3"), (12, 6, "4A"), (12, 7.9, "4A"),
        (12, 8, "4B"), (40, 20, "4B"),
    ],
)  # fmt: skip
def test_a_part_solid_nodule_goes_by_its_solid_part(mean_mm: float, solid_mm: float, category: str) -> None:
    assert lung_rads("part-solid", mean_mm, solid_mm) == category


@pytest.mark.parametrize(("mean_mm", "category"), [(4, "2"), (29.9, "2"), (30, "3"), (60, "3")])
def test_ground_glass_goes_by_its_diameter(mean_mm: float, category: str) -> None:
    assert lung_rads("ground-glass", mean_mm, 0.0) == category


@pytest.mark.parametrize(("mean_mm", "category"), [(5.94, "2"), (5.97, "3"), (7.96, "4A"), (14.97, "4B")])
def test_diameters_count_to_one_decimal_as_they_are_shown(mean_mm: float, category: str) -> None:
    assert lung_rads("solid", mean_mm, mean_mm) == category


@pytest.mark.parametrize(
    ("mean_mm", "solid_mm", "category"), [(5.96, 0, "3"), (9, 5.96, "4A"), (9, 7.96, "4B"), (9, 5.94, "3")]
)
def test_so_does_the_solid_part(mean_mm: float, solid_mm: float, category: str) -> None:
    assert lung_rads("part-solid", mean_mm, solid_mm) == category
