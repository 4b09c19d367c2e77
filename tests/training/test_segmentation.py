import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.datasets.patches import PatchSample, as_batch
from p2ch_luna.training.segmentation import evaluate_segmentation, match_components, segmentation_loss

WEIGHTS = {"focal": 20.0, "dice": 1.0}


class Bright(nn.Module):
    """Takes every voxel above -300 HU for nodule, and is the surer the brighter it is."""

    def forward(self, hu: Tensor) -> Tensor:
        return ((hu + 300) / 100).clamp(-20, 20)


def volume(*boxes: tuple[int, int]) -> np.ndarray:
    """16 x 16 x 16 with cubes of these sides at these corners."""
    array = np.zeros((16, 16, 16), bool)
    for corner, side in boxes:
        array[(slice(corner, corner + side),) * 3] = True
    return array


def test_a_nodule_is_found_by_its_highest_voxel() -> None:
    probability = np.where(volume((2, 3)), 0.4, 0.0).astype(np.float32)
    probability[3, 3, 3] = 0.8
    hits, false = match_components(probability, volume((2, 3)), volume())
    assert hits == [(pytest.approx(0.8), 27)]
    assert false == []


def test_a_region_that_touches_no_nodule_is_false() -> None:
    probability = np.where(volume((2, 2), (10, 2)), 0.6, 0.0).astype(np.float32)
    hits, false = match_components(probability, volume((2, 2)), volume())
    assert len(hits) == 1
    assert false == [pytest.approx(0.6)]


def test_a_region_at_an_unsure_place_is_neither() -> None:
    probability = np.where(volume((10, 2)), 0.6, 0.0).astype(np.float32)
    assert match_components(probability, volume(), volume((11, 3))) == ([], [])


def test_a_missed_nodule_counts_with_what_it_has() -> None:
    hits, _ = match_components(np.zeros((16, 16, 16), np.float32), volume((2, 2)), volume())
    assert hits == [(0.0, 8)]


def batch(hu: np.ndarray, mask: np.ndarray) -> PatchSample:
    return PatchSample(
        torch.from_numpy(hu.astype(np.int16))[None, None], torch.from_numpy(mask.astype(np.uint8))[None, None]
    )


def test_a_perfect_network_has_perfect_figures() -> None:
    mask = volume((2, 3), (9, 6))
    evaluation = evaluate_segmentation(
        Bright(), [batch(np.where(mask, 100.0, -900.0), mask)], torch.device("cpu"), WEIGHTS
    )
    assert evaluation.metrics["sensitivity"] == 1.0
    assert evaluation.metrics["dice"] == 1.0
    assert evaluation.metrics["false_positives_per_patch"] == 0.0
    assert evaluation.pictures


def test_false_positives_above_the_nodule_cost_sensitivity() -> None:
    mask, vessel = volume((2, 3)), volume((10, 3))
    hu = np.where(mask, -250.0, -900.0)
    hu[vessel] = 0.0
    evaluation = evaluate_segmentation(Bright(), [batch(hu, mask)], torch.device("cpu"), WEIGHTS)
    assert evaluation.metrics["sensitivity"] == 0.0
    assert evaluation.metrics["sensitivity_proposed"] == 1.0


def test_the_loss_has_its_parts_with_their_weights() -> None:
    sample = as_batch(*batch(np.full((16, 16, 16), -300.0), volume((2, 3))))
    once = segmentation_loss(Bright(), sample, {"focal": 1.0, "dice": 1.0})
    more = segmentation_loss(Bright(), sample, {"focal": 3.0, "dice": 2.0})
    assert more["focal"].item() == pytest.approx(3 * once["focal"].item())
    assert more["dice"].item() == pytest.approx(2 * once["dice"].item())
