"""A labelled scan: what is read of it, what is known of its voxels."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.catalogue import ScanSource, index_scans
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.datasets.scans import OPEN_SCANS, UNSURE, LabelledScan, label_scan, load_scan
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.io import read_nodules, write_ct
from p2ch_luna.io.lidc_tables import load_lidc_tables
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.lungs import PreparedCt, prepare

MIDDLE = (0.0, -10.0, -255.0)  # LPS mm of voxel (45, 50, 50)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ScanSource:
    folder = tmp_path_factory.mktemp("scan")
    made = make_phantom(
        np.random.default_rng(0), shape_irc=(60, 96, 96), spacing_xyz=(4.0, 4.0, 5.0), n_nodules=0,
        series_uid="phantom",
    )  # fmt: skip
    write_ct(folder / "phantom.mhd", made.ct)
    (found,) = index_scans([folder]).sources
    return found


@pytest.fixture
def stored(source: ScanSource, tmp_path: Path) -> LabelledScan:
    return load_scan(source, ScanCache(tmp_path))


def test_a_crop_from_disk_is_that_of_the_whole(stored: LabelledScan) -> None:
    whole = stored.stored.load()
    middle = np.array(stored.shape) // 2
    box = tuple(slice(m - 5, m + 5) for m in middle)
    np.testing.assert_array_equal(stored.crop_hu(middle, (10, 10, 10)), whole.ct.hu[box])
    np.testing.assert_array_equal(stored.crop_lung(middle, (10, 10, 10)), whole.lung[box])


def test_a_crop_beyond_the_border_is_air(stored: LabelledScan) -> None:
    crop = stored.crop_hu((-10, 5, 5), (6, 6, 6))
    assert (crop == AIR_HU).all()


def test_random_places_lie_in_the_lung(stored: LabelledScan) -> None:
    rng = np.random.default_rng(0)
    places = [stored.random_place(rng) for _ in range(50)]
    assert all(stored.crop_lung(place, (1, 1, 1)).all() for place in places)
    assert len({tuple(p) for p in places}) > 40


def test_a_scan_whose_file_is_gone_is_prepared_again(
    source: ScanSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = load_scan(source, ScanCache(tmp_path))
    wanted = scan.stored.load().ct.hu
    again = load_scan(source, ScanCache(tmp_path))
    for path in tmp_path.rglob("*"):
        if path.is_file() and path == again.stored.path:
            path.unlink()
    with caplog.at_level(logging.WARNING):
        found = again.reopen().load().ct.hu
    np.testing.assert_array_equal(found, wanted)
    assert "prepared again" in caplog.text


def test_a_process_keeps_few_scans_open(prepared: PreparedCt) -> None:
    opened: list[int] = []

    def scan(k: int) -> LabelledScan:
        made = label_scan(prepared)

        def reopen() -> object:
            opened.append(k)
            return made.stored

        return LabelledScan(made.series_uid, made.geometry, made.shape, (), made.unsure, reopen)  # type: ignore[arg-type]

    scans = [scan(k) for k in range(OPEN_SCANS + 1)]
    for one in (*scans, scans[-1], scans[0]):  # the first was closed for the last
        assert one.stored.hu.shape == prepared.ct.hu.shape
    assert opened == [*range(OPEN_SCANS + 1), 0]


def test_a_nodule_is_a_ball_of_its_diameter(prepared: PreparedCt) -> None:
    labels = label_scan(prepared, [Nodule("1.2.3", MIDDLE, 10.0)]).crop_labels((45, 50, 50), (20, 20, 20))
    assert labels[10, 10, 5:16].tolist() == [1] * 11  # 5 mm to each side of voxel 10
    assert labels[10, 10, [4, 16]].tolist() == [0, 0]
    assert (labels > 0).sum() == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.05)


def test_a_negative_diameter_counts_as_10_mm(prepared: PreparedCt) -> None:
    labels = label_scan(prepared, [], [Nodule("1.2.3", MIDDLE, -1.0)]).crop_labels((45, 50, 50), (20, 20, 20))
    assert labels[10, 10, [4, 5, 15, 16]].tolist() == [0, UNSURE, UNSURE, 0]


def test_labels_of_a_crop_are_those_of_the_whole(prepared: PreparedCt) -> None:
    nodules = [Nodule("1.2.3", (x, -10.0, -255.0), d) for x, d in ((0.0, 9.0), (11.0, 12.0))]
    scan = label_scan(prepared, nodules, [Nodule("1.2.3", (5.0, -12.0, -250.0), 20.0)])
    whole = scan.crop_labels(np.array(scan.shape) // 2, scan.shape)
    np.testing.assert_array_equal(scan.crop_labels((43, 48, 57), (16, 18, 20)), whole[35:51, 39:57, 47:67])
    assert set(np.unique(whole)) == {0, 1, 2, UNSURE}


def test_places_in_nodules_and_at_unsure_ones_are_labelled(prepared: PreparedCt) -> None:
    unsure = Nodule("1.2.3", (20.0, -10.0, -255.0), -1.0)  # 10 mm, its centre at voxel (45, 50, 70)
    scan = label_scan(prepared, [Nodule("1.2.3", MIDDLE, 8.0)], [unsure])
    places = np.array([(45, 50, 54), (45, 50, 54.1), (40.1, 50, 70), (39.9, 50, 70)])
    assert scan.are_labelled(places).tolist() == [True, False, True, False]


def test_what_lies_outside_the_scan_teaches_nothing(prepared: PreparedCt) -> None:
    scan = label_scan(prepared)  # 96 x 112 x 112 voxels
    labels = scan.crop_labels((2, 110, 50), (8, 8, 8))  # from (-2, 106, 46)
    assert (labels[:2] == UNSURE).all()
    assert (labels[:, 6:] == UNSURE).all()
    assert not labels[2:, :6].any()
    assert (scan.crop_labels((-20, 50, 50), (4, 4, 4)) == UNSURE).all()


def test_a_nodule_covers_what_is_unsure(prepared: PreparedCt) -> None:
    there = Nodule("1.2.3", MIDDLE, 8.0)
    assert label_scan(prepared, [there], [there]).crop_labels((45, 50, 50), (1, 1, 1)).item() == 1


def test_a_nodule_outside_the_box_of_the_lungs_is_told(
    prepared: PreparedCt, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        scan = label_scan(prepared, [Nodule("1.2.3", (0.0, -10.0, -320.0), 8.0)])
    assert scan.nodules == ()
    assert "1.2.3: 1 of 1 nodules lie outside the box of its lungs" in caplog.text


@pytest.fixture(scope="module")
def lidc_0001(lidc_ct: CtVolume, shared_data: Path) -> LabelledScan:
    """A whole scan of LUNA16 with its one nodule of 23.35 mm."""
    nodules = read_nodules(shared_data / "luna16" / "annotations.csv")
    own = [nodule for nodule in nodules if nodule.series_uid == lidc_ct.series_uid]
    return label_scan(prepare(lidc_ct), own, lidc=load_lidc_tables())


def test_a_nodule_of_lidc_has_its_readers_outline_and_rating(lidc_0001: LabelledScan) -> None:
    (nodule,) = lidc_0001.nodules
    assert nodule.outline is not None
    assert nodule.malignancy == 4.75  # the four readers said 5, 5, 5 and 4


def test_the_outline_lies_where_luna16_says(lidc_0001: LabelledScan) -> None:
    (nodule,) = lidc_0001.nodules
    labels = lidc_0001.crop_labels(nodule.center_irc, (48, 48, 48)) > 0
    off_mm = np.argwhere(labels).mean(axis=0) - 24 - (nodule.center_irc - np.floor(nodule.center_irc + 0.5))
    assert np.abs(off_mm).max() < 0.7
    assert np.cbrt(6 / np.pi * labels.sum()) == pytest.approx(23.35, abs=1.0)


def test_the_outline_holds_tissue_and_what_is_round_it_is_lung(lidc_0001: LabelledScan) -> None:
    (nodule,) = lidc_0001.nodules
    hu = lidc_0001.crop_hu(nodule.center_irc, (32, 32, 32))
    labels = lidc_0001.crop_labels(nodule.center_irc, (32, 32, 32)) > 0
    assert np.median(hu[labels]) > -100
    assert np.median(hu[~labels]) < -600


def test_a_scan_that_is_not_as_lidc_read_it_has_balls(
    prepared: PreparedCt, lidc_0001: LabelledScan, caplog: pytest.LogCaptureFixture
) -> None:
    uid = lidc_0001.series_uid
    native = ImageGeometry.axial((0.9, 0.9, 2.5))  # the series has pixels of 0.703 mm
    ct = replace(prepared.ct, series_uid=uid)
    with caplog.at_level(logging.WARNING):
        scan = label_scan(
            replace(prepared, ct=ct, native=native), [Nodule(uid, MIDDLE, 8.0)], lidc=load_lidc_tables()
        )
    assert scan.nodules[0].outline is None
    assert "balls stand for its nodules" in caplog.text
