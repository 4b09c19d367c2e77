from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2ch_luna.datasets.lidc_matching import Evidence, match_all
from p2ch_luna.datasets.luna16_ratings import with_ratings
from p2ch_luna.findings import Nodule
from p2ch_luna.io import read_nodules
from p2ch_luna.io.lidc_tables import load_lidc_tables


@pytest.fixture(scope="module")
def luna16(shared_data: Path) -> list[Nodule]:
    return read_nodules(shared_data / "luna16" / "annotations.csv")


def test_every_nodule_of_luna16_is_rated(luna16: list[Nodule]) -> None:
    assert all(n.texture is not None and n.malignancy is not None for n in with_ratings(luna16))


def test_ratings_are_those_of_the_readers_tables(luna16: list[Nodule], shared_data: Path) -> None:
    some = [n for n in luna16 if n.series_uid in {m.series_uid for m in luna16[100:110]}]
    excluded = read_nodules(shared_data / "luna16" / "annotations_excluded.csv")
    own = [n for n in excluded if n.series_uid in {m.series_uid for m in some}]
    for accounted in match_all(load_lidc_tables(), some, Evidence(excluded=own)):
        (rated,) = with_ratings([accounted.match.nodule])
        assert accounted.match.finding is not None
        ratings = accounted.match.finding.ratings
        assert (rated.malignancy, rated.texture) == (ratings.malignancy, ratings.texture)


def test_ratings_of_ones_own_stay(luna16: list[Nodule]) -> None:
    own = replace(luna16[0], malignancy=1.25)
    (rated,) = with_ratings([own])
    assert rated.malignancy == 1.25
    assert rated.texture == with_ratings(luna16[:1])[0].texture


def test_a_nodule_elsewhere_in_the_scan_has_no_rating(luna16: list[Nodule]) -> None:
    x, y, z = luna16[0].center_xyz
    moved = replace(luna16[0], center_xyz=(x + 0.2, y, z))
    assert with_ratings([moved]) == [moved]


def test_a_nodule_of_another_scan_has_no_rating(luna16: list[Nodule]) -> None:
    other = replace(luna16[0], series_uid="1.2.3")
    assert with_ratings([other]) == [other]
