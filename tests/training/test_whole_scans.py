"""Whole scans of even air, with balls of 40 HU as nodules; the finders are written by hand."""

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from p2ch_luna.datasets.collection import Share
from p2ch_luna.datasets.implant import Implantable, make_implantable
from p2ch_luna.datasets.scans import LabelledScan, label_scan
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.candidate_table import join_tables
from p2ch_luna.io.lidc import NoduleCrop
from p2ch_luna.lungs import PreparedCt
from p2ch_luna.training.whole_scans import Marks, WholeScan, find_all, score_scans, whole_scans

SHAPE = (56, 64, 72)
ORIGIN = (-30.0, -40.0, 500.0)  # x, y, z of voxel (0, 0, 0)
TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
GEOMETRY = ImageGeometry(np.array(ORIGIN), np.ones(3), TILT)
LUNG = (slice(8, 48), slice(8, 56), slice(8, 64))
MODEL = nn.Identity()


def prepared(uid: str) -> PreparedCt:
    """-850 HU everywhere, so that a ball at the lung's edge is as round as any."""
    hu = np.full(SHAPE, -850, np.int16)
    lung = np.zeros(SHAPE, bool)
    lung[LUNG] = True
    return PreparedCt(CtVolume(uid, hu, GEOMETRY), lung, None)


def at(uid: str, irc: Sequence[float], diameter_mm: float = 6.0) -> Nodule:
    x, y, z = (float(v) for v in GEOMETRY.to_xyz(irc))
    return Nodule(uid, (x, y, z), diameter_mm)


def annotated(uid: str, *nodules: Nodule, unsure: Sequence[Nodule] = ()) -> LabelledScan:
    return label_scan(prepared(uid), nodules, unsure)


def share(
    scans: Sequence[LabelledScan] = (),
    hosts: Sequence[LabelledScan] = (),
    nodules: Sequence[Implantable] = (),
) -> Share:
    return Share(list(scans), list(hosts), list(nodules), [], join_tables([]), frozenset())


@pytest.fixture
def ball() -> Implantable:
    """A ball of 6 mm and 40 HU in lung."""
    mask = ((np.indices((13, 13, 13)) - 6) ** 2).sum(axis=0) <= 9
    hu = np.where(mask, 40, -850).astype(np.int16)
    return make_implantable(NoduleCrop("ball", CtVolume("ball", hu, ImageGeometry.axial()), mask, 6.0, None))


def balls_in(scan: WholeScan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 3) centres in LPS mm and (N,) volumes in mm³ of what is dense in a scan."""
    found = scan.load()
    dense, count = ndimage.label(found.ct.hu > -400)
    numbers = range(1, count + 1)
    centers = np.array(ndimage.center_of_mass(dense > 0, dense, numbers)).reshape(-1, 3)
    return found.ct.geometry.to_xyz(centers), np.bincount(dense.ravel())[1:].astype(float)


# which scans


def test_annotated_scans_come_before_hosts(ball: Implantable) -> None:
    side = share([annotated("a", at("a", (28, 32, 36)))], [annotated("h")], [ball])
    assert [scan.series_uid for scan in whole_scans(side, 1, 0)] == ["a"]


def test_hosts_fill_what_annotated_scans_lack(ball: Implantable) -> None:
    side = share([annotated("a", at("a", (28, 32, 36)))], [annotated("h")], [ball])
    names = [scan.series_uid for scan in whole_scans(side, 3, 0)]
    assert names == ["a", "h-implanted-1", "h-implanted-2"]


def test_every_host_is_drawn_before_one_is_drawn_again(ball: Implantable) -> None:
    side = share(hosts=[annotated("g"), annotated("h")], nodules=[ball])
    names = [scan.series_uid for scan in whole_scans(side, 3, 0)]
    assert set(names[:2]) == {"g-implanted-1", "h-implanted-1"}
    assert names[2] == names[0].replace("-1", "-2")


def test_another_scan_moves_no_other() -> None:
    scans = [annotated(uid, at(uid, (28, 32, 36))) for uid in "abcdef"]
    all_of_them = [scan.series_uid for scan in whole_scans(share(scans), 6, 0)]
    fewer = [scan.series_uid for scan in whole_scans(share(scans[1:]), 5, 0)]
    assert fewer == [uid for uid in all_of_them if uid != "a"]


def test_the_order_of_the_share_does_not_matter() -> None:
    scans = [annotated(uid, at(uid, (28, 32, 36))) for uid in "abcdef"]
    one_way, other_way = whole_scans(share(scans), 2, 0), whole_scans(share(scans[::-1]), 2, 0)
    assert [scan.series_uid for scan in one_way] == [scan.series_uid for scan in other_way]


def test_scans_without_nodules_are_among_them() -> None:
    scans = [annotated("a", at("a", (28, 32, 36))), annotated("b")]
    assert sorted(len(scan.nodules) for scan in whole_scans(share(scans), 2, 0)) == [0, 1]


@pytest.mark.parametrize("with_nodule", ["a", "b"])
def test_a_scan_with_a_nodule_is_always_there(with_nodule: str) -> None:
    scans = [annotated(uid, *([at(uid, (28, 32, 36))] if uid == with_nodule else [])) for uid in "ab"]
    assert [scan.series_uid for scan in whole_scans(share(scans), 1, 0)] == [with_nodule]


def test_none_is_asked_for() -> None:
    assert whole_scans(share(), 0, 0) == []


def test_no_nodule_anywhere_is_an_error() -> None:
    with pytest.raises(LunaError, match=r"validation.scans = 2: no nodule in the 1 whole scan\(s\) .*wanted"):
        whole_scans(share([annotated("a")], [annotated("h")]), 2, 0)


# what is in them


def test_a_nodule_is_where_it_was_annotated() -> None:
    (scan,) = whole_scans(share([annotated("a", at("a", (28, 20, 36), 7.0))]), 1, 0)
    (nodule,) = scan.nodules
    # voxel (28, 20, 36): x = -30 + 0.8 * 36 - 0.6 * 20, y = -40 + 0.6 * 36 + 0.8 * 20, z = 500 + 28
    assert nodule.center_xyz == pytest.approx((-13.2, -2.4, 528.0))
    assert nodule.diameter_mm == pytest.approx(7.0)


def test_an_unsure_place_keeps_its_diameter() -> None:
    side = share([annotated("a", at("a", (28, 32, 36)), unsure=[at("a", (20, 20, 20), 9.0)])])
    (scan,) = whole_scans(side, 1, 0)
    (unsure,) = scan.unsure
    assert unsure.center_xyz == pytest.approx(at("a", (20, 20, 20)).center_xyz)
    assert unsure.diameter_mm == pytest.approx(9.0)


def test_an_implanted_ball_is_where_the_truth_says(ball: Implantable) -> None:
    (scan,) = whole_scans(share(hosts=[annotated("h")], nodules=[ball]), 1, 0)
    centers, _ = balls_in(scan)
    assert 3 <= len(scan.nodules) <= 10
    for nodule in scan.nodules:
        assert np.linalg.norm(centers - nodule.center_xyz, axis=1).min() < 1.0


def test_nodules_are_set_in_as_large_as_they_are(ball: Implantable) -> None:
    (scan,) = whole_scans(share(hosts=[annotated("h")], nodules=[ball]), 1, 3)
    centers, volumes = balls_in(scan)
    of_truth = [np.linalg.norm(centers - nodule.center_xyz, axis=1).argmin() for nodule in scan.nodules]
    measured = np.cbrt(6 * volumes[of_truth] / np.pi)
    assert {nodule.diameter_mm for nodule in scan.nodules} == {ball.diameter_mm}
    np.testing.assert_allclose(measured, [nodule.diameter_mm for nodule in scan.nodules], atol=0.8)


def test_every_load_is_the_same(ball: Implantable) -> None:
    (scan,) = whole_scans(share(hosts=[annotated("h")], nodules=[ball]), 1, 0)
    np.testing.assert_array_equal(scan.load().ct.hu, scan.load().ct.hu)


def test_a_draw_does_not_depend_on_other_hosts(ball: Implantable) -> None:
    (alone,) = whole_scans(share(hosts=[annotated("h")], nodules=[ball]), 1, 0)
    both = whole_scans(share(hosts=[annotated("g"), annotated("h")], nodules=[ball]), 2, 0)
    assert alone.nodules in [scan.nodules for scan in both]


def test_two_draws_of_a_host_differ(ball: Implantable) -> None:
    first, second = whole_scans(share(hosts=[annotated("h")], nodules=[ball]), 2, 0)
    assert {n.center_xyz for n in first.nodules}.isdisjoint({n.center_xyz for n in second.nodules})


def test_another_seed_draws_other_places(ball: Implantable) -> None:
    side = share(hosts=[annotated("h")], nodules=[ball])
    (first,), (second,) = whole_scans(side, 1, 0), whole_scans(side, 1, 1)
    assert {n.center_xyz for n in first.nodules}.isdisjoint({n.center_xyz for n in second.nodules})


def test_the_host_is_not_changed(ball: Implantable) -> None:
    host = annotated("h")
    whole_scans(share(hosts=[host], nodules=[ball]), 1, 0)[0].load()
    np.testing.assert_array_equal(host.stored.load().ct.hu, prepared("h").ct.hu)


def test_voxels_bear_the_name_of_their_draw(ball: Implantable) -> None:
    (scan,) = whole_scans(share(hosts=[annotated("h")], nodules=[ball]), 1, 0)
    assert scan.load().ct.series_uid == scan.series_uid == "h-implanted-1"
    assert {nodule.series_uid for nodule in scan.nodules} == {"h-implanted-1"}


def test_a_hosts_own_nodule_counts_and_stays_clear(ball: Implantable) -> None:
    own = at("h", (20, 22, 24), 20.0)
    for scan in whole_scans(share(hosts=[annotated("h", own)], nodules=[ball]), 4, 0):
        assert scan.nodules[0].center_xyz == pytest.approx(own.center_xyz)
        distances = [np.linalg.norm(np.subtract(n.center_xyz, own.center_xyz)) for n in scan.nodules[1:]]
        assert distances
        assert min(distances) > 10 + 2  # its own radius and most of the ball's


# finding


def scan_of(uid: str, *nodules: Nodule, unsure: Sequence[Nodule] = ()) -> WholeScan:
    return WholeScan(uid, lambda: prepared(uid), nodules, tuple(unsure))


def test_marks_are_of_the_scan_they_were_found_in() -> None:
    def find(model: nn.Module, ct: PreparedCt) -> Sequence[Candidate]:
        assert model is MODEL
        return [Candidate(ct.ct.series_uid, (1.0, 2.0, 3.0), 0.5, 1.0, 1.0)]

    found = find_all(MODEL, [scan_of("a"), scan_of("b")], find)
    assert found == [Marks("a", [((1.0, 2.0, 3.0), 0.5)]), Marks("b", [((1.0, 2.0, 3.0), 0.5)])]


def test_a_scan_without_a_finding_has_marks_too() -> None:
    assert find_all(MODEL, [scan_of("a")], lambda *_: []) == [Marks("a", [])]


def test_each_scan_done_is_told() -> None:
    told: list[str] = []
    find_all(MODEL, [scan_of("a"), scan_of("b")], lambda *_: [], told.append)
    assert told == ["a", "b"]


def test_one_scan_is_in_memory_at_a_time() -> None:
    earlier: list[weakref.ref[Any]] = []

    def load() -> PreparedCt:
        assert all(reference() is None for reference in earlier)
        made = prepared("a")
        earlier.append(weakref.ref(made.ct.hu))
        return made

    find_all(MODEL, [WholeScan(uid, load, (), ()) for uid in "abc"], lambda *_: [])
    assert len(earlier) == 3


def test_a_scan_on_disk_is_not_read_before_it_is_searched(tmp_path: Path) -> None:
    def reopen() -> Any:
        raise FileNotFoundError(tmp_path)

    scan = annotated("a", at("a", (28, 32, 36)))
    shut = LabelledScan(scan.series_uid, scan.geometry, scan.shape, scan.nodules, scan.unsure, reopen)
    assert [found.series_uid for found in whole_scans(share([shut]), 1, 0)] == ["a"]


# the score


@pytest.fixture
def pair() -> list[WholeScan]:
    """Two nodules in "a" and one in "b", which also has an unsure place; 10 mm each, far apart."""
    return [
        scan_of("a", at("a", (20, 20, 20), 10.0), at("a", (40, 40, 40), 10.0)),
        scan_of("b", at("b", (20, 20, 20), 10.0), unsure=[at("b", (40, 40, 40), 10.0)]),
    ]


def mark(uid: str, irc: Sequence[float], probability: float) -> tuple[tuple[float, float, float], float]:
    return at(uid, irc).center_xyz, probability


def test_the_score_is_that_of_the_curve(pair: list[WholeScan]) -> None:
    marks = [
        Marks(
            "a", [mark("a", (20, 20, 20), 0.9), mark("a", (10, 50, 50), 0.8), mark("a", (40, 40, 42), 0.7)]
        ),
        Marks("b", [mark("b", (10, 50, 50), 0.6), mark("b", (20, 20, 20), 0.5)]),
    ]
    score = score_scans(pair, marks)
    # by falling score: found, false, found, false, found; a false one is 1/2 a scan, of 3 nodules
    assert (score.n_scans, score.n_nodules) == (2, 3)
    assert score.metrics["sensitivity_at_1_fp"] == pytest.approx(1.0)
    np.testing.assert_allclose(score.froc.sensitivity, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(score.froc.fp_per_scan, [0, 0, 0.5, 0.5, 1, 1])


def test_sensitivity_at_4_counts_more_false_ones(pair: list[WholeScan]) -> None:
    false = [mark("a", (10, 50, 20 + 4 * k), 0.9 - 0.01 * k) for k in range(4)]  # 2 a scan, before the hit
    marks = [Marks("a", [*false, mark("a", (20, 20, 20), 0.5)]), Marks("b", [])]
    score = score_scans(pair, marks)
    assert score.metrics["sensitivity_at_1_fp"] == 0
    assert score.metrics["sensitivity_at_4_fp"] == pytest.approx(1 / 3)
    assert score.metrics["cpm"] == pytest.approx(3 / 3 / 7)  # 1/3 at 2, 4 and 8 of the seven rates


def test_a_mark_on_an_unsure_place_counts_for_nothing(pair: list[WholeScan]) -> None:
    score = score_scans(pair, [Marks("a", []), Marks("b", [mark("b", (40, 40, 41), 0.9)])])
    assert score.froc.fp_per_scan.max() == 0


def test_the_order_of_marks_does_not_matter(pair: list[WholeScan]) -> None:
    marks = [Marks("a", [mark("a", (20, 20, 20), 0.9)]), Marks("b", [mark("b", (20, 20, 20), 0.8)])]
    assert score_scans(pair, marks).metrics == score_scans(pair, marks[::-1]).metrics


@pytest.mark.parametrize("wrong", [lambda m: m[:1], lambda m: [*m, m[0]]], ids=["missing", "twice"])
def test_each_scan_has_its_marks_once(
    pair: list[WholeScan], wrong: Callable[[list[Marks]], list[Marks]]
) -> None:
    with pytest.raises(ValueError, match="wanted marks on each of 2 scans once"):
        score_scans(pair, wrong([Marks("a", []), Marks("b", [])]))
