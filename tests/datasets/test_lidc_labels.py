import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.datasets.lidc_labels import (
    LidcFinding,
    Malignancy,
    Ratings,
    join_annotations,
    lidc_nodules,
    malignancy_of,
    match_nodules,
)
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule, Point
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_nodules
from p2ch_luna.io.lidc_tables import LidcTables, Outline, load_lidc_tables

SERIES = "1.2.3"
NATIVE = ImageGeometry.axial((0.5, 0.5, 2.0), (-100.0, -80.0, -300.0))
LIDC_IDRI_0001 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
UNRATED = (None,) * 9


def ring(x: int, y: int, side: int) -> NDArray[np.int16]:
    """The outline of a square, pixel by pixel; (x, y) is its first corner."""
    last = side - 1
    points = [(k, 0) for k in range(last)] + [(last, k) for k in range(last)]
    points += [(k, last) for k in range(last, 0, -1)] + [(0, k) for k in range(last, 0, -1)]
    return np.add(points, (x, y)).astype(np.int16)


def square(x: int, y: int, side: int = 7, slices: Sequence[int] = (2,)) -> list[Outline]:
    """Outlines in these slices of NATIVE."""
    return [Outline(-300.0 + 2 * k, True, ring(x, y, side)) for k in slices]


def joined(tables: LidcTables) -> list[tuple[int, ...]]:
    return join_annotations(tables, tables.annotation_id.tolist(), NATIVE)


def finding(xyz: Point, *, readers: int = 4, diameter_mm: float = 5.0, uid: str = SERIES) -> LidcFinding:
    return LidcFinding(uid, xyz, diameter_mm, tuple(range(readers)), readers, Ratings())


def test_outlines_at_one_place_are_one_nodule(drawn: Callable[..., LidcTables]) -> None:
    assert joined(drawn(square(10, 10), square(11, 10), square(30, 30))) == [(10, 20), (30,)]


@pytest.mark.parametrize(("gap", "wanted"), [(4, [(10, 20)]), (5, [(10,), (20,)])])
def test_outlines_as_near_as_the_next_slice_are_joined(
    drawn: Callable[..., LidcTables], gap: int, wanted: list[tuple[int, ...]]
) -> None:
    """Pixels of 0.5 mm, slices of 2 mm."""
    assert joined(drawn(square(10, 10, 5), square(14 + gap, 10, 5))) == wanted


@pytest.mark.parametrize(("k", "wanted"), [(3, [(10, 20)]), (4, [(10,), (20,)])])
def test_outlines_in_neighbouring_slices_are_joined(
    drawn: Callable[..., LidcTables], k: int, wanted: list[tuple[int, ...]]
) -> None:
    assert joined(drawn(square(10, 10), square(10, 10, slices=[k]))) == wanted


def test_outlines_may_be_linked_by_another(drawn: Callable[..., LidcTables]) -> None:
    assert joined(drawn(square(10, 10), square(30, 10), square(15, 12, 18))) == [(10, 20, 30)]


def test_two_nodules_that_touch_are_parted_by_overlap(drawn: Callable[..., LidcTables]) -> None:
    """Three readers outline each of two neighbours, one of them only the middle: 25 of 49 pixels."""
    left, middle, right = square(10, 10, 9), square(11, 11, 7), square(19, 10, 9)
    assert joined(drawn(left, right, middle, right, left, right)) == [(10, 30, 50), (20, 40, 60)]


def test_four_readers_are_never_parted(drawn: Callable[..., LidcTables]) -> None:
    assert joined(drawn(square(10, 10, 9), square(19, 10, 9), square(28, 10, 9))) == [(10, 20, 30)]


def test_five_that_are_alike_stay_together(drawn: Callable[..., LidcTables]) -> None:
    assert joined(drawn(*[square(10 + k % 2, 10, 21) for k in range(5)])) == [(10, 20, 30, 40, 50)]


def test_a_diameter_is_that_of_the_sphere_of_the_volume(drawn: Callable[..., LidcTables]) -> None:
    """Inside: 5 x 5 pixels of 0.5 mm in 4 slices of 2 mm, so 50 mm3."""
    (nodule,) = lidc_nodules(drawn(square(10, 10, 7, range(2, 6))), SERIES, NATIVE)
    assert math.pi / 6 * nodule.diameter_mm**3 == pytest.approx(50)


def test_a_diameter_is_the_mean_of_the_readers(drawn: Callable[..., LidcTables]) -> None:
    tables = drawn(square(10, 10, 7), square(10, 10, 9))  # 12.5 and 24.5 mm3
    (nodule,) = lidc_nodules(tables, SERIES, NATIVE)
    wanted = sum((6 * volume / math.pi) ** (1 / 3) for volume in (12.5, 24.5)) / 2
    assert nodule.diameter_mm == pytest.approx(wanted)


def test_a_centre_is_the_mean_of_the_readers(drawn: Callable[..., LidcTables]) -> None:
    """Squares of 7 pixels from (10, 20) and (12, 20), so centres at columns 13 and 15, row 23, slice 2."""
    (nodule,) = lidc_nodules(drawn(square(10, 20), square(12, 20)), SERIES, NATIVE)
    assert nodule.center_xyz == pytest.approx((-100 + 14 * 0.5, -80 + 23 * 0.5, -300 + 2 * 2))


def test_a_centre_respects_the_direction(drawn: Callable[..., LidcTables]) -> None:
    """Columns run to the right and rows to the front."""
    turned = ImageGeometry(NATIVE.origin_xyz, NATIVE.spacing_xyz, np.diag([-1.0, -1.0, 1.0]))
    (nodule,) = lidc_nodules(drawn(square(10, 20)), SERIES, turned)
    assert nodule.center_xyz == pytest.approx((-100 - 13 * 0.5, -80 - 23 * 0.5, -296))


def test_an_outline_around_nothing_counts_by_its_points(drawn: Callable[..., LidcTables]) -> None:
    line = [Outline(-296.0, True, np.array([[10, 20], [12, 20]], np.int16))]
    (nodule,) = lidc_nodules(drawn(line), SERIES, NATIVE)
    assert nodule.center_xyz == pytest.approx((-100 + 11 * 0.5, -80 + 20 * 0.5, -296))
    assert nodule.diameter_mm == 0


def test_ratings_are_means_of_those_who_rated(drawn: Callable[..., LidcTables]) -> None:
    ratings = [(1, *UNRATED[:7], 3), (2, *UNRATED[:7], None), (5, *UNRATED[:7], 4)]
    (nodule,) = lidc_nodules(drawn(*[square(10, 10)] * 3, ratings=ratings), SERIES, NATIVE)
    assert (nodule.ratings.subtlety, nodule.ratings.malignancy) == (8 / 3, 3.5)
    assert nodule.ratings.texture is None


def test_a_nodule_names_its_annotations(drawn: Callable[..., LidcTables]) -> None:
    tables = drawn(square(30, 30), square(10, 10), square(30, 30))
    nodules = lidc_nodules(tables, SERIES, NATIVE)
    assert [(n.series_uid, n.annotation_ids, n.readers) for n in nodules] == [
        (SERIES, (10, 30), 2),
        (SERIES, (20,), 1),
    ]


def test_an_unknown_series_has_no_nodules() -> None:
    assert lidc_nodules(load_lidc_tables(), "1.2.3", NATIVE) == []


def test_a_resampled_scan_is_refused() -> None:
    with pytest.raises(LunaError, match=r"pixels of 1 x 1 mm; expected 0.703125 mm"):
        lidc_nodules(load_lidc_tables(), LIDC_IDRI_0001, ImageGeometry.axial())


@pytest.mark.parametrize(
    ("rating", "wanted"),
    [
        (1.0, "benign"),
        (2.5, "benign"),
        (2.51, "indeterminate"),
        (3.0, "indeterminate"),
        (3.49, "indeterminate"),
        (3.5, "malignant"),
        (5.0, "malignant"),
        (None, None),
    ],
)
def test_the_malignancy_rule(rating: float | None, wanted: Malignancy | None) -> None:
    assert malignancy_of(rating) == wanted


def test_a_nodule_gets_the_nearest_finding() -> None:
    findings = [finding((2.0, 0, 0)), finding((0, 1.0, 0))]
    (match,) = match_nodules([Nodule(SERIES, (0, 0, 0), 5.0)], findings)
    assert match.finding is findings[1]
    assert match.distance_mm == 1.0


def test_a_finding_is_given_once() -> None:
    """The first nodule is nearest to the finding that the second needs."""
    nodules = [Nodule(SERIES, (0.0, 0, 0), 5.0), Nodule(SERIES, (3.0, 0, 0), 5.0)]
    findings = [finding((1.0, 0, 0)), finding((-2.0, 0, 0))]
    matches = match_nodules(nodules, findings)
    assert [m.nodule for m in matches] == nodules
    assert [m.finding for m in matches] == [findings[1], findings[0]]


@pytest.mark.parametrize(
    ("distance", "diameter", "is_found"),
    [(3.0, 4.0, True), (3.1, 4.0, False), (5.0, 10.0, True), (5.1, 10.0, False)],
)
def test_a_finding_is_near_by_3_mm_or_half_the_diameter(
    distance: float, diameter: float, is_found: bool
) -> None:
    (match,) = match_nodules([Nodule(SERIES, (0, 0, 0), diameter)], [finding((distance, 0, 0))])
    assert (match.finding is not None) == is_found


def test_what_is_not_found_has_no_distance() -> None:
    (match,) = match_nodules([Nodule(SERIES, (0, 0, 0), 5.0)], [finding((50.0, 0, 0))])
    assert (match.finding, match.distance_mm) == (None, None)


def test_without_findings_nothing_is_found() -> None:
    assert [m.finding for m in match_nodules([Nodule(SERIES, (0, 0, 0), 5.0)], [])] == [None]


def test_a_finding_of_another_series_is_none() -> None:
    (match,) = match_nodules([Nodule(SERIES, (0, 0, 0), 5.0)], [finding((0, 0, 0), uid="1.2.4")])
    assert match.finding is None


def test_two_readers_count_only_where_three_have_nothing() -> None:
    few, many = finding((1.0, 0, 0), readers=2), finding((2.0, 0, 0), readers=3)
    nodule = Nodule(SERIES, (0, 0, 0), 5.0)
    assert match_nodules([nodule], [few, many])[0].finding is many
    assert match_nodules([nodule], [few])[0].finding is few


def test_lidc_idri_0001_is_where_luna16_says(lidc_ct: CtVolume, shared_data: Path) -> None:
    truth = [
        n for n in read_nodules(shared_data / "luna16" / "annotations.csv") if n.series_uid == LIDC_IDRI_0001
    ]
    findings = lidc_nodules(load_lidc_tables(), LIDC_IDRI_0001, lidc_ct.geometry)
    (match,) = match_nodules(truth, findings)
    assert match.finding is not None
    assert match.finding.readers == 4
    assert match.distance_mm is not None
    assert match.distance_mm < 0.3
    assert match.finding.diameter_mm == pytest.approx(23.35, abs=0.25)
