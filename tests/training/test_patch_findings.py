import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.training.patch_findings import diameter_mm, find_in_patch, joined

SIDE = 16


def volume(*boxes: tuple[int, int]) -> NDArray[np.bool_]:
    """16 x 16 x 16 with cubes of these sides at these corners."""
    array = np.zeros((SIDE, SIDE, SIDE), bool)
    for corner, side in boxes:
        array[(slice(corner, corner + side),) * 3] = True
    return array


def at(probability: float, *boxes: tuple[int, int]) -> NDArray[np.float32]:
    return np.where(volume(*boxes), probability, 0.0).astype(np.float32)


NOWHERE = volume()


def test_a_nodule_is_found_by_its_highest_voxel() -> None:
    probability = at(0.4, (2, 3))
    probability[3, 3, 3] = 0.8
    found = find_in_patch(probability, volume((2, 3)), NOWHERE)
    assert found.nodule_probability.tolist() == [pytest.approx(0.8)]
    assert found.nodule_voxels.tolist() == [27]
    assert found.candidate_is_true.tolist() == [True]


def test_a_missed_nodule_counts_with_what_it_has() -> None:
    found = find_in_patch(at(0.05, (2, 1)), volume((2, 2)), NOWHERE)
    assert found.nodule_probability.tolist() == [pytest.approx(0.05)]
    assert found.nodule_voxels.tolist() == [8]
    assert len(found.candidate_probability) == 0


def test_a_region_that_touches_no_nodule_is_false() -> None:
    found = find_in_patch(at(0.6, (2, 2), (10, 2)), volume((2, 2)), NOWHERE)
    assert found.candidate_is_true.tolist() == [True, False]
    assert found.candidate_probability == pytest.approx([0.6, 0.6])


def test_a_region_at_an_unsure_place_is_neither_true_nor_false() -> None:
    found = find_in_patch(at(0.6, (10, 2)), NOWHERE, volume((11, 3)))
    assert len(found.candidate_probability) == len(found.nodule_probability) == 0


def test_a_region_at_a_nodule_and_an_unsure_place_is_true() -> None:
    found = find_in_patch(at(0.6, (8, 4)), volume((8, 2)), volume((11, 3)))
    assert found.candidate_is_true.tolist() == [True]


def test_a_region_over_two_nodules_is_one_candidate_and_finds_both() -> None:
    found = find_in_patch(at(0.6, (2, 8)), volume((2, 2), (7, 3)), NOWHERE)
    assert found.candidate_is_true.tolist() == [True]
    assert found.nodule_probability == pytest.approx([0.6, 0.6])


def test_voxels_that_share_a_corner_are_one_region() -> None:
    assert len(find_in_patch(at(0.6, (2, 2), (4, 2)), NOWHERE, NOWHERE).candidate_probability) == 1


def test_dice_of_a_nodule_worked_out_by_hand() -> None:
    # 64 voxels said, 27 true, 8 common
    found = find_in_patch(at(0.6, (3, 4)), volume((2, 3)), NOWHERE)
    assert found.nodule_dice == pytest.approx([2 * 8 / (64 + 27)])


def test_dice_counts_only_what_is_said_at_the_nodule() -> None:
    found = find_in_patch(at(0.6, (2, 3), (10, 4)), volume((2, 3)), NOWHERE)
    assert found.nodule_dice.tolist() == [1.0]


def test_dice_needs_a_probability_above_a_half() -> None:
    found = find_in_patch(at(0.5, (2, 3)), volume((2, 3)), NOWHERE)
    assert found.nodule_dice.tolist() == [0.0]


def test_dice_leaves_out_unsure_voxels() -> None:
    found = find_in_patch(at(0.6, (2, 6)), volume((2, 3)), volume((2, 6)) & ~volume((2, 3)))
    assert found.nodule_dice.tolist() == [1.0]


def test_a_bridge_between_two_nodules_is_false_for_both_but_neither_for_the_other() -> None:
    # 216 voxels said: 8 and 27 in nodules, 181 in none
    found = find_in_patch(at(0.6, (2, 6)), volume((2, 2), (5, 3)), NOWHERE)
    assert found.nodule_dice == pytest.approx([2 * 8 / (189 + 8), 2 * 27 / (208 + 27)])


def test_slices_are_the_nodules_largest_and_the_candidates_brightest() -> None:
    truth, probability = volume(), at(0.3, (9, 4))
    truth[2, 3, 3], truth[3, 2:5, 2:5] = True, True
    probability[11, 10, 12] = 0.7
    found = find_in_patch(probability, truth, NOWHERE)
    assert found.nodule_slice.tolist() == [3]
    assert found.candidate_slice.tolist() == [11]


def test_findings_of_patches_are_joined_in_their_order() -> None:
    patches = [find_in_patch(at(p, (2, 2)), NOWHERE, NOWHERE) for p in (0.9, 0.3)]
    assert joined(patches).candidate_probability == pytest.approx([0.9, 0.3])


def test_the_diameter_is_that_of_a_sphere_with_as_many_voxels() -> None:
    assert diameter_mm(np.array([4 / 3 * np.pi * 5**3])) == pytest.approx([10.0])  # radius 5 mm
