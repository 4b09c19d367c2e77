from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.findings import Candidate
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.inference.propose import ProposalSettings, propose

SHAPE = (30, 36, 44)
TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
OBLIQUE = ImageGeometry(np.array([-90.0, -80.0, -200.0]), np.array([1.0, 1.0, 1.0]), TILT)


@pytest.fixture
def probability() -> NDArray[np.float32]:
    return np.zeros(SHAPE, np.float32)


def candidates(
    probability: NDArray[np.float32],
    lung: NDArray[np.bool_] | None = None,
    geometry: ImageGeometry = OBLIQUE,
    settings: ProposalSettings | None = None,
) -> list[Candidate]:
    lung = np.ones(SHAPE, bool) if lung is None else lung
    settings = settings or ProposalSettings(0.1, 0.5, 200)
    return [found.candidate for found in propose(probability, lung, geometry, "1.2.3", settings).kept]


def reasons(
    probability: NDArray[np.float32],
    lung: NDArray[np.bool_] | None = None,
    settings: ProposalSettings | None = None,
) -> list[tuple[float, str]]:
    """Of the candidates that are dropped: probability and why."""
    lung = np.ones(SHAPE, bool) if lung is None else lung
    dropped = propose(probability, lung, OBLIQUE, "1.2.3", settings or ProposalSettings()).dropped
    return [(candidate.probability, reason) for candidate, reason in dropped]


def test_an_empty_map_proposes_nothing(probability: NDArray[np.float32]) -> None:
    assert candidates(probability) == []


def test_the_centre_is_in_patient_millimetres(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 30:33] = 0.9
    (found,) = candidates(probability)
    # voxel (10, 20, 31): x = -90 + 0.8 * 31 - 0.6 * 20, y = -80 + 0.6 * 31 + 0.8 * 20, z = -200 + 10
    assert found.center_xyz == pytest.approx((-77.2, -45.4, -190.0), abs=1e-4)


def test_the_centre_is_weighted_by_probability(probability: NDArray[np.float32]) -> None:
    probability[10, 20, 30] = 0.1
    probability[10, 20, 31] = 0.3
    (found,) = candidates(probability)
    assert OBLIQUE.to_irc(found.center_xyz) == pytest.approx((10, 20, 30.75), abs=1e-4)


def test_the_score_is_the_highest_probability(probability: NDArray[np.float32]) -> None:
    probability[10, 20, 30:33] = 0.6, 0.875, 0.7
    assert [c.probability for c in candidates(probability)] == [0.875]


def test_a_small_core_counts_without_its_halo(probability: NDArray[np.float32]) -> None:
    probability[8:13, 18:23, 28:33] = 0.2
    probability[10, 20, 30:32] = 0.8  # two voxels: no core of its own, but they are the nodule
    (found,) = candidates(probability)
    assert found.volume_mm3 == pytest.approx(2.0)


def test_a_faint_candidate_is_as_large_as_all_of_it(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 29:32] = 0.3
    (found,) = candidates(probability)
    assert found.volume_mm3 == pytest.approx(27.0)


def test_the_volume_counts_voxels_of_the_mask(probability: NDArray[np.float32]) -> None:
    probability[8:13, 18:23, 28:33] = 0.2
    probability[9:12, 19:22, 29:32] = 0.8
    (found,) = candidates(probability)
    assert found.volume_mm3 == pytest.approx(27.0)


def test_the_volume_of_a_voxel_is_that_of_the_grid(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 29:32] = 0.8
    (found,) = candidates(probability, geometry=ImageGeometry.axial((0.5, 0.5, 2.0)))
    assert found.volume_mm3 == pytest.approx(13.5)


def test_without_a_core_the_volume_counts_the_component(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 29:32] = 0.3
    (found,) = candidates(probability)
    assert found.volume_mm3 == pytest.approx(27.0)


def test_the_diameter_is_that_of_the_sphere(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 29:32] = 0.8
    (found,) = candidates(probability)
    assert math.pi / 6 * found.diameter_mm**3 == pytest.approx(27.0)


def test_one_voxel_is_enough(probability: NDArray[np.float32]) -> None:
    probability[10, 20, 30] = 0.3
    assert len(candidates(probability)) == 1


def test_voxels_that_touch_at_a_corner_are_one(probability: NDArray[np.float32]) -> None:
    probability[10, 20, 30] = probability[11, 21, 31] = 0.3
    assert len(candidates(probability)) == 1


def test_two_cores_with_a_faint_bridge_are_two(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 20:31] = 0.2
    probability[9:12, 19:22, 20:23] = 0.8
    probability[9:12, 19:22, 28:31] = 0.9
    centers = [OBLIQUE.to_irc(c.center_xyz)[2] for c in candidates(probability)]
    assert centers == pytest.approx([29, 21], abs=1e-4)


def test_a_speck_beside_a_core_is_no_candidate(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 20:31] = 0.2
    probability[9:12, 19:22, 20:23] = 0.8
    probability[10, 20, 29] = 0.9
    assert len(candidates(probability)) == 1


def test_the_best_comes_first(probability: NDArray[np.float32]) -> None:
    for k, p in enumerate((0.25, 0.75, 0.5)):
        probability[5 + 8 * k, 20, 30] = p
    assert [c.probability for c in candidates(probability)] == [0.75, 0.5, 0.25]


def test_only_so_many_are_kept(probability: NDArray[np.float32]) -> None:
    for k, p in enumerate((0.25, 0.75, 0.5)):
        probability[5 + 8 * k, 20, 30] = p
    settings = ProposalSettings(0.1, 0.5, max_candidates=2)
    assert [c.probability for c in candidates(probability, settings=settings)] == [0.75, 0.5]
    assert reasons(probability, settings=settings) == [(0.25, "beyond the 2 best candidates of the scan")]


@pytest.mark.parametrize(("gap", "n"), [(1, 1), (3, 1), (4, 0)])
def test_outside_the_lung_only_what_is_near_counts(
    probability: NDArray[np.float32], gap: int, n: int
) -> None:
    lung = np.zeros(SHAPE, bool)
    lung[:, :, :20] = True  # up to column 19
    probability[10, 20, 19 + gap] = 0.9
    assert len(candidates(probability, lung)) == n


def test_a_nodule_that_bulges_out_of_the_lung_keeps_its_centre(probability: NDArray[np.float32]) -> None:
    lung = np.zeros(SHAPE, bool)
    lung[:, :, :20] = True
    probability[10:15, 15:20, 16:31] = 0.9  # columns 16 to 30: 7 of 15 in or near the lung
    (found,) = candidates(probability, lung)
    assert OBLIQUE.to_irc(found.center_xyz)[2] == pytest.approx(23, abs=1e-4)


def test_a_leak_of_the_wall_is_dropped(probability: NDArray[np.float32]) -> None:
    lung = np.zeros(SHAPE, bool)
    lung[:, :, :20] = True
    probability[10:15, 15:20, 21:42] = 0.9  # columns 21 to 41: 2 of 21 near the lung
    assert candidates(probability, lung) == []


def test_what_is_dropped_outside_the_lungs_is_told(probability: NDArray[np.float32]) -> None:
    lung = np.zeros(SHAPE, bool)
    lung[:, :, :20] = True
    probability[10:15, 15:20, 21:41] = 0.75  # columns 21 to 40: 2 of 20 near the lung
    assert reasons(probability, lung) == [
        (0.75, "outside the lungs: 10% of it lies within 3 mm of them, at least 25% wanted")
    ]


def test_what_is_dropped_has_its_place_and_size(probability: NDArray[np.float32]) -> None:
    probability[10:12, 15:17, 20:22] = 0.75
    ((candidate, _),) = propose(probability, np.zeros(SHAPE, bool), OBLIQUE, "1.2.3").dropped
    assert OBLIQUE.to_irc(candidate.center_xyz) == pytest.approx((10.5, 15.5, 20.5))
    assert candidate.volume_mm3 == pytest.approx(8)


def test_the_best_of_what_is_dropped_comes_first(probability: NDArray[np.float32]) -> None:
    lung = np.zeros(SHAPE, bool)
    lung[:, :, :30] = True
    for k, p in enumerate((0.25, 0.75, 0.5)):
        probability[5 + 8 * k, 20, 20 if p < 0.7 else 40] = p
    dropped = reasons(probability, lung, ProposalSettings(0.1, 0.5, max_candidates=1))
    assert [p for p, _ in dropped] == [0.75, 0.25]
