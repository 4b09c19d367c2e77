import numpy as np

from p2ch_luna.datasets.places import candidate_places, nodule_places
from p2ch_luna.datasets.scans import LabelledScan, label_scan
from p2ch_luna.findings import Nodule
from p2ch_luna.io.candidate_table import CandidateTable
from p2ch_luna.lungs import PreparedCt


def table(uids: list[str], xyz: list[tuple[float, float, float]]) -> CandidateTable:
    known = sorted(set(uids))
    series = np.array([known.index(uid) for uid in uids], np.int32)
    return CandidateTable(tuple(known), series, np.array(xyz), np.zeros(len(uids), bool))


def test_a_candidate_lies_at_its_voxel(scan: LabelledScan) -> None:
    # the grid's first voxel is at (-50, -60, -300), its voxels are 1 mm
    places = candidate_places([scan], table(["1.2.3"], [(0.5, -10.0, -255.0)]), False)
    found, center_irc = places[0]
    assert found is scan
    assert center_irc.tolist() == [45.0, 50.0, 50.5]


def test_candidates_of_other_scans_are_passed_over(scan: LabelledScan) -> None:
    uids = ["9.9", "1.2.3", "9.8", "1.2.3"]
    places = candidate_places([scan], table(uids, [(k - 10.0, 0.0, -250.0) for k in range(4)]), False)
    assert [places[k][1][2] for k in range(len(places))] == [41.0, 43.0]


def test_candidates_outside_the_box_of_the_lungs_are_passed_over(scan: LabelledScan) -> None:
    xyz = [(-50.6, 0.0, -250.0), (-50.4, 0.0, -250.0), (0.0, 0.0, -204.4), (0.0, 0.0, -204.6)]
    assert len(candidate_places([scan], table(["1.2.3"] * 4, xyz), False)) == 2


def test_nodules_are_counted_through_all_scans(prepared: PreparedCt) -> None:
    nodules = [Nodule("1.2.3", (float(x), -10.0, -255.0), 8.0) for x in (0, 10)]
    first, second = label_scan(prepared, nodules[:1]), label_scan(prepared, nodules)
    places = nodule_places([first, second])
    assert [places[k][0] is second for k in range(len(places))] == [False, True, True]
    assert [places[k][1][2] for k in range(len(places))] == [50.0, 50.0, 60.0]


def test_what_is_no_nodule_by_the_table_but_lies_on_one_is_left_out(prepared: PreparedCt) -> None:
    there, beside = (0.0, -10.0, -255.0), (30.0, -10.0, -255.0)
    scan = label_scan(prepared, [Nodule("1.2.3", there, 8.0)], [Nodule("1.2.3", beside, -1.0)])
    places = candidate_places([scan], table(["1.2.3"] * 3, [there, beside, (0.0, 10.0, -255.0)]), False)
    assert [places[k][1].tolist() for k in range(len(places))] == [[45.0, 70.0, 50.0]]


def test_nodules_of_the_table_are_kept_where_they_are_annotated(prepared: PreparedCt) -> None:
    there = (0.0, -10.0, -255.0)
    scan = label_scan(prepared, [Nodule("1.2.3", there, 8.0)])
    found = table(["1.2.3", "1.2.3"], [there, (0.0, 10.0, -255.0)])
    true = CandidateTable(found.series_uids, found.series, found.center_xyz, np.array([True, False]))
    assert len(candidate_places([scan], true, True)) == 1
