from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.implant import (
    FAINTEST,
    OPAQUE,
    Implantable,
    Pose,
    Variety,
    blend,
    choose_places,
    implant,
    implant_at_random,
    implantable_nodules,
    with_sound_masks,
)
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, write_ct, write_mask
from p2ch_luna.io.lidc import LidcNodule, NoduleCrop
from p2ch_luna.lungs import PreparedCt

TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])


@pytest.fixture
def host() -> CtVolume:
    """Even lung on an oblique, flipped, anisotropic grid."""
    geometry = ImageGeometry(np.array([10.0, 20.0, 30.0]), np.array([0.7, 0.9, 1.5]), TILT)
    return CtVolume("host", np.full((40, 60, 70), -900, np.int16), geometry)


def mask_of(host: CtVolume, nodule: Implantable, center_xyz: np.ndarray, zoom: float = 1.0) -> np.ndarray:
    box, mask = blend(host.hu, host.geometry, nodule, center_xyz, Pose(zoom=zoom))
    whole = np.zeros(host.hu.shape, bool)
    whole[box] = mask
    return whole


def test_the_centre_of_mass_comes_to_the_place_also_on_an_oblique_grid(
    host: CtVolume, nodule: Implantable
) -> None:
    place_xyz = host.geometry.to_xyz([20.3, 30.6, 35.2])
    mask = mask_of(host, nodule, place_xyz)
    off = np.abs(np.argwhere(mask).mean(axis=0) - [20.3, 30.6, 35.2])
    assert (off < 0.3).all()  # voxels


def test_the_volume_is_kept(host: CtVolume, nodule: Implantable) -> None:
    crop_mm3 = nodule.mask.sum() * np.prod(nodule.geometry.spacing_xyz)
    mask = mask_of(host, nodule, host.geometry.to_xyz([20, 30, 35]))
    assert mask.sum() * np.prod(host.geometry.spacing_xyz) == pytest.approx(crop_mm3, rel=0.1)


def test_a_zoom_of_two_makes_eight_times_the_volume(host: CtVolume, nodule: Implantable) -> None:
    place_xyz = host.geometry.to_xyz([20, 30, 35])
    small = mask_of(replace(host, hu=host.hu.copy()), nodule, place_xyz, zoom=0.6)
    large = mask_of(replace(host, hu=host.hu.copy()), nodule, place_xyz, zoom=1.2)
    assert large.sum() / small.sum() == pytest.approx(8, rel=0.15)


def test_the_nodule_keeps_its_hu_and_the_far_host_its_own(host: CtVolume, nodule: Implantable) -> None:
    blend(host.hu, host.geometry, nodule, host.geometry.to_xyz([20, 30, 35]))
    assert host.hu[20, 30, 35] == 100
    assert host.hu[0, 0, 0] == -900


def test_a_mirrored_pose_mirrors_along_lps() -> None:
    hu = np.full((3, 3, 3), -900, np.int16)
    hu[1, 1, 2] = 100  # to the left of the middle
    opaque = np.full(hu.shape, OPAQUE, np.uint8)
    nodule = Implantable("n", hu, opaque, opaque // OPAQUE, ImageGeometry.axial(), np.ones(3), 3.0, 3.0, None)
    host = np.full((9, 9, 9), -900, np.int16)
    blend(host, ImageGeometry.axial(), nodule, (4, 4, 4), Pose(flips=(-1, 1, 1)))
    assert host[4, 4, 3] == 100
    assert host[4, 4, 5] == -900


def test_a_faint_nodule_lets_the_host_shine_through_and_keeps_its_mask(
    host: CtVolume, nodule: Implantable
) -> None:
    """-900 + 0.4 * (100 + 900) = -500."""
    place_xyz = host.geometry.to_xyz([20, 30, 35])
    _, whole = blend(host.hu.copy(), host.geometry, nodule, place_xyz)
    _, faint = blend(host.hu, host.geometry, nodule, place_xyz, Pose(opacity=0.4))
    assert host.hu[20, 30, 35] == -500
    np.testing.assert_array_equal(faint, whole)


def test_poses_vary_no_more_than_they_are_told() -> None:
    rng = np.random.default_rng(0)
    as_they_are = [Pose.random(rng) for _ in range(50)]
    assert {(pose.zoom, pose.opacity) for pose in as_they_are} == {(1.0, 1.0)}
    varied = [Pose.random(rng, Variety(zoom=1.25, faint=0.25)) for _ in range(2000)]
    zooms = np.array([pose.zoom for pose in varied])
    opacities = np.array([pose.opacity for pose in varied])
    assert (zooms.min(), zooms.max()) == pytest.approx((0.8, 1.25), abs=0.01)
    assert np.median(zooms) == pytest.approx(1.0, abs=0.02)
    assert (opacities < 1).mean() == pytest.approx(0.25, abs=0.03)
    assert opacities.min() == pytest.approx(FAINTEST, abs=0.02)


def test_a_nodule_outside_changes_nothing(host: CtVolume, nodule: Implantable) -> None:
    before = host.hu.copy()
    _, mask = blend(host.hu, host.geometry, nodule, host.geometry.to_xyz([500, 0, 0]))
    assert not mask.any()
    np.testing.assert_array_equal(host.hu, before)


def test_a_nodule_at_the_border_is_cut_not_moved(host: CtVolume, nodule: Implantable) -> None:
    mask = mask_of(host, nodule, host.geometry.to_xyz([0, 30, 35]))
    assert mask[0, 30, 35]
    assert not mask[8:].any()


def test_implant_leaves_its_host_alone_and_returns_the_truth(host: CtVolume, nodule: Implantable) -> None:
    place_xyz = host.geometry.to_xyz([20, 30, 35])
    done, labels, truth = implant(host, [nodule], [place_xyz], [Pose(zoom=1.2)])
    assert (host.hu == -900).all()
    assert done.hu[20, 30, 35] == 100
    assert labels[20, 30, 35] == 1
    assert truth == [Nodule("host", tuple(place_xyz.tolist()), pytest.approx(12.0), 4.0)]


def test_places_lie_in_aerated_lung_apart_from_each_other_and_from_known_nodules(
    prepared: PreparedCt,
) -> None:
    known = Nodule("1.2.3", (0.0, 0.0, -250.0), 30.0)
    places = np.array(choose_places(prepared, [5.0] * 8, np.random.default_rng(0), [known]))
    voxels = np.rint(prepared.ct.geometry.to_irc(places)).astype(int)
    assert prepared.lung[tuple(voxels.T)].all()
    between = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(8, 1)]
    assert between.min() > 5 + 5 + 5
    assert np.linalg.norm(places - known.center_xyz, axis=1).min() > 15 + 5 + 5


def test_too_many_nodules_for_the_lung_are_refused(prepared: PreparedCt) -> None:
    with pytest.raises(LunaError, match=r"1.2.3: room for \d+ nodules in \d+ ml of aerated lung; wanted 90"):
        choose_places(prepared, [15.0] * 90, np.random.default_rng(0))


def test_a_pool_without_nodules_is_refused(shared_data: Path) -> None:
    with pytest.raises(LunaError, match=r"none of 809 nodules is of folds \[0\] and between 90 and 99 mm"):
        implantable_nodules(shared_data / "lidc", [0], 90, 99)


@pytest.fixture
def lidc_row(crop: NoduleCrop, tmp_path: Path) -> LidcNodule:
    """A ball of 10 mm whose mask has its centre of mass at (-20, 50, 105)."""
    write_ct(tmp_path / "ball.nii.gz", crop.ct)
    write_mask(tmp_path / "ball_mask.nii.gz", crop.mask, crop.ct.geometry)
    return LidcNodule("ball", "P", "1.2.3", (-20.0, 50.0, 105.0), 10.0, 4.0, tmp_path / "ball.nii.gz")


def test_a_nodule_whose_mask_is_its_own_is_kept(lidc_row: LidcNodule) -> None:
    assert with_sound_masks([lidc_row]) == [lidc_row]


def test_a_mask_of_another_place_is_left_out_by_name(
    lidc_row: LidcNodule, caplog: pytest.LogCaptureFixture
) -> None:
    near = replace(lidc_row, center_xyz=(-20.0, 52.9, 105.0))
    far = replace(lidc_row, name="far", center_xyz=(-20.0, 53.2, 105.0))
    assert with_sound_masks([near, far]) == [near]
    assert caplog.messages == [
        "far: its mask lies 3.2 mm from its place in the table, expected at most 3; left out"
    ]


@pytest.mark.parametrize(("diameter", "is_kept"), [(6.0, False), (6.6, True), (15.0, True), (17.0, False)])
def test_a_mask_of_another_size_is_left_out(lidc_row: LidcNodule, diameter: float, is_kept: bool) -> None:
    assert bool(with_sound_masks([replace(lidc_row, diameter_mm=diameter)])) is is_kept


@pytest.mark.slow
def test_no_mask_of_the_shared_crops_is_of_another_nodule(shared_data: Path) -> None:
    assert len(implantable_nodules(shared_data / "lidc", range(10), 0, 100)) == 809


@pytest.mark.slow
def test_real_nodules_in_a_real_chest_from_a_seed(shared_data: Path) -> None:
    ct = read_ct(shared_data / "ct" / "lung1.mha")
    pool = implantable_nodules(shared_data / "lidc", [7, 8, 9], 6, 20)
    done, labels, truth = implant_at_random(ct, pool, 5, seed=3)
    again, _, same = implant_at_random(ct, pool, 5, seed=3)
    np.testing.assert_array_equal(done.hu, again.hu)
    assert truth == same
    assert len({n.diameter_mm for n in truth}) == 5
    for label, nodule in enumerate(truth, start=1):
        center_xyz = done.geometry.to_xyz(np.argwhere(labels == label).mean(axis=0))
        assert np.linalg.norm(center_xyz - nodule.center_xyz) < nodule.diameter_mm / 2
