from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.benchmark import (
    check_hosts,
    content_sha256,
    contrast_hu,
    known_by_host,
    make_scan,
    pleura_mm,
    seed_of,
)
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_ct, write_mask
from p2ch_luna.io.lidc import LidcNodule, NoduleCrop
from p2ch_luna.lungs import PreparedCt

MIDDLE = Nodule("1", (20.0, 20.0, 20.0), 6.0)
LUNA16S = ("1.3.6.1.4.1.14519.5.2.1.6279.6001.170706757615202213033480003264",
           (23.49083071, -47.63390567, -172.2791417))  # fmt: skip


@pytest.fixture
def lung() -> tuple[CtVolume, np.ndarray]:
    """-900 HU on 1 mm with a labelled cube of 3 voxels and 100 HU round (20, 20, 20)."""
    hu = np.full((41, 41, 41), -900, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    labels[19:22, 19:22, 19:22] = 1
    hu[labels == 1] = 100
    return CtVolume("1", hu, ImageGeometry.axial()), labels


def test_the_seed_of_a_copy_depends_on_seed_host_and_copy() -> None:
    seeds = {seed_of(seed, uid, copy) for seed in (0, 1) for uid in ("a", "b") for copy in (1, 2)}
    assert len(seeds) == 8
    assert seed_of(0, "a", 1) == seed_of(0, "a", 1)


def test_a_bright_nodule_in_even_lung_has_the_difference(lung: tuple[CtVolume, np.ndarray]) -> None:
    assert contrast_hu(*lung, [MIDDLE]) == [1000.0]


def test_what_lies_within_the_blending_is_in_no_shell(lung: tuple[CtVolume, np.ndarray]) -> None:
    ct, labels = lung
    ct.hu[17:24, 19:22, 19:22] = 50  # 2 mm above and below the cube
    ct.hu[labels == 1] = 100
    assert contrast_hu(ct, labels, [MIDDLE]) == [1000.0]


def test_a_wall_in_the_shell_lowers_the_contrast(lung: tuple[CtVolume, np.ndarray]) -> None:
    ct, labels = lung
    ct.hu[24:] = 100  # from 3 mm above the cube
    (contrast,) = contrast_hu(ct, labels, [MIDDLE])
    assert contrast is not None
    assert 500 < contrast < 950


def test_another_nodule_is_not_the_surroundings(lung: tuple[CtVolume, np.ndarray]) -> None:
    ct, labels = lung
    labels[24:26, 19:22, 19:22] = 2
    ct.hu[labels == 2] = 100
    assert contrast_hu(ct, labels, [MIDDLE, Nodule("1", (20.0, 20.0, 24.5), 3.0)]) == [1000.0, 1000.0]


def test_a_nodule_without_a_label_is_the_voxel_at_its_centre(lung: tuple[CtVolume, np.ndarray]) -> None:
    ct, labels = lung
    ct.hu[8, 30, 31] = -500
    tiny = Nodule("1", (31.2, 29.8, 8.4), 1.0)
    assert contrast_hu(ct, labels, [MIDDLE, tiny]) == [1000.0, 400.0]


def test_without_a_voxel_in_the_shell_the_contrast_is_not_known() -> None:
    coarse = CtVolume("1", np.full((3, 3, 3), -900, np.int16), ImageGeometry.axial((6, 6, 6)))
    assert contrast_hu(coarse, np.zeros((3, 3, 3), np.uint8), [Nodule("1", (6.0, 6.0, 6.0), 3.0)]) == [None]


def test_the_distance_is_to_the_nearest_voxel_that_is_not_lung(prepared: PreparedCt) -> None:
    """Lung from index 8 on: of voxel (18, 50, 50) the nearest one outside is (7, 50, 50), 11 mm away."""
    deep, between = prepared.ct.geometry.to_xyz([[18, 50, 50], [18.25, 50, 50]]).tolist()
    nodules = [Nodule("1", (x, y, z), 5.0) for x, y, z in (deep, between)]
    assert pleura_mm(prepared, nodules) == pytest.approx([11.0, 11.25])


def test_a_centre_outside_the_lung_has_no_distance(prepared: PreparedCt) -> None:
    wall, away = prepared.ct.geometry.to_xyz([[2, 50, 50], [-30, 50, 50]]).tolist()
    nodules = [Nodule("1", (x, y, z), 5.0) for x, y, z in (wall, away)]
    assert pleura_mm(prepared, nodules) == [0.0, 0.0]


def test_where_all_is_lung_the_distance_is_not_known(prepared: PreparedCt) -> None:
    everywhere = replace(prepared, lung=np.ones_like(prepared.lung))
    assert pleura_mm(everywhere, [Nodule("1", (0.0, 0.0, -250.0), 5.0)]) == [None]


def test_a_host_is_the_same_in_every_format(lung: tuple[CtVolume, np.ndarray], tmp_path: Path) -> None:
    ct, _ = lung
    for name in ("a.mha", "b.nii.gz"):
        write_ct(tmp_path / name, ct)
    first, second = check_hosts([tmp_path / "a.mha", tmp_path / "b.nii.gz"])
    assert first.sha256 == second.sha256


def test_a_voxel_and_a_place_change_the_content(lung: tuple[CtVolume, np.ndarray]) -> None:
    ct, _ = lung
    brighter = replace(ct, hu=ct.hu.copy())
    brighter.hu[0, 0, 0] += 1
    moved = replace(ct, geometry=ct.geometry.moved_to([0, 0, 1]))
    assert len({content_sha256(each) for each in (ct, brighter, moved)}) == 3


def test_two_hosts_of_one_name_are_refused(lung: tuple[CtVolume, np.ndarray], tmp_path: Path) -> None:
    for name in ("a/x.mha", "b/x.mha"):
        write_ct(tmp_path / name, lung[0])
    with pytest.raises(
        LunaError, match=r"b/x\.mha: has the series uid of .*a/x\.mha, x; wanted each host once"
    ):
        check_hosts([tmp_path / "a" / "x.mha", tmp_path / "b" / "x.mha"])


@pytest.fixture
def pool(crop: NoduleCrop, tmp_path: Path) -> list[LidcNodule]:
    """A ball of 100 HU that is said to be of LUNA16's list, and one of -500 HU that is not."""
    dark = replace(crop.ct, hu=np.where(crop.mask, -500, -900).astype(np.int16))
    for name, ct in (("bright", crop.ct), ("dark", dark)):
        write_ct(tmp_path / f"{name}.nii.gz", ct)
        write_mask(tmp_path / f"{name}_mask.nii.gz", crop.mask, ct.geometry)
    return [
        LidcNodule("bright", "P1", *LUNA16S, 10.0, 4.0, tmp_path / "bright.nii.gz"),
        LidcNodule("dark", "P2", "1.2.3", (0.0, 0.0, 0.0), 10.0, None, tmp_path / "dark.nii.gz"),
    ]


def test_a_nodule_keeps_the_texture_that_lidcs_readers_saw(
    prepared: PreparedCt, pool: list[LidcNodule]
) -> None:
    """Annotations 91, 95, 97, 100 rate it 5, 5, 4 and 5."""
    scan = make_scan(prepared.ct, prepared, pool, 2, np.random.default_rng(0), series_uid="made")
    texture = {one.name: one.nodule.texture for one in scan.implanted}
    assert texture == {"bright": 4.75, "dark": None}


def test_labels_and_descriptions_are_in_one_order(prepared: PreparedCt, pool: list[LidcNodule]) -> None:
    scan = make_scan(prepared.ct, prepared, pool, 2, np.random.default_rng(0), series_uid="made")
    for label, one in enumerate(scan.implanted, start=1):
        assert (
            scan.labels[tuple(np.rint(scan.ct.geometry.to_irc(one.nodule.center_xyz)).astype(int))] == label
        )
        assert one.nodule.series_uid == "made"
        assert one.contrast_hu is not None
        assert (one.contrast_hu > 600) == (one.name == "bright")


def test_known_findings_go_with_the_scan(prepared: PreparedCt, pool: list[LidcNodule]) -> None:
    own = Nodule("1.2.3", (0.0, 0.0, -250.0), 8.0)
    scan = make_scan(prepared.ct, prepared, pool, 1, np.random.default_rng(0), series_uid="made", known=[own])
    assert scan.excluded == [replace(own, series_uid="made")]


def test_a_host_without_a_row_is_told(caplog: pytest.LogCaptureFixture) -> None:
    own = Nodule("a", (0.0, 0.0, 0.0), 5.0)
    assert known_by_host([own], ["a", "b", "c"]) == {"a": [own], "b": [], "c": []}
    assert [record.getMessage().split(";")[0] for record in caplog.records] == ["--known: no row for b, c"]


def test_without_a_list_no_host_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert known_by_host(None, ["a"]) == {"a": []}
    assert not caplog.records


def test_rows_of_no_host_are_refused() -> None:
    with pytest.raises(LunaError, match=r"none of its 1 row\(s\) is of a host; it has 'b'"):
        known_by_host([Nodule("b", (0.0, 0.0, 0.0), 5.0)], ["a"])
