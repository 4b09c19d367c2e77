import math

import pytest
import torch

from p2ch_luna.training.losses import dice_loss, focal_loss, masked_bce


def test_focal_loss_of_a_voxel_worked_out_by_hand() -> None:
    # probability of the truth 1/2: (1 - 1/2)^2 * ln 2
    loss = focal_loss(torch.zeros(1), torch.ones(1), torch.ones(1))
    assert loss.item() == pytest.approx(0.25 * math.log(2))


def test_focal_loss_without_gamma_is_cross_entropy() -> None:
    logit, target = torch.tensor([1.0, -2.0]), torch.tensor([1.0, 1.0])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    assert focal_loss(logit, target, torch.ones(2), gamma=0).item() == pytest.approx(expected)


def test_a_voxel_of_weight_zero_has_no_loss_and_no_gradient() -> None:
    logit = torch.tensor([0.0, 3.0], requires_grad=True)
    focal_loss(logit, torch.zeros(2), torch.tensor([1.0, 0.0])).backward()
    assert logit.grad is not None
    assert logit.grad[1] == 0
    assert logit.grad[0] > 0


def volume(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 1, 1, 1, -1)


def test_dice_of_a_perfect_mask_is_almost_no_loss() -> None:
    mask = volume(1, 1, 0, 0)
    assert dice_loss((mask * 2 - 1) * 30, mask, torch.ones_like(mask)).item() == pytest.approx(0, abs=1e-6)


def test_dice_worked_out_by_hand() -> None:
    # probabilities 1/2 each, one of two voxels true: 1 - (2 * 1/2 + 1) / (1 + 1 + 1)
    loss = dice_loss(volume(0, 0), volume(1, 0), torch.ones(1, 1, 1, 1, 2))
    assert loss.item() == pytest.approx(1 / 3)


def test_samples_without_a_nodule_do_not_dilute_the_dice() -> None:
    mask = torch.cat([volume(1, 0), volume(0, 0)])
    both = dice_loss(torch.zeros_like(mask), mask, torch.ones_like(mask))
    assert both.item() == pytest.approx(1 / 3)


def test_dice_without_any_nodule_is_zero() -> None:
    mask = torch.zeros(2, 1, 4, 4, 4)
    assert dice_loss(torch.zeros_like(mask), mask, torch.ones_like(mask)).item() == 0


def test_bce_skips_what_nobody_knows() -> None:
    target = torch.tensor([1.0, float("nan")])
    assert masked_bce(torch.zeros(2), target).item() == pytest.approx(math.log(2))


def test_bce_of_only_unknown_targets_is_zero_with_a_zero_gradient() -> None:
    logit = torch.ones(2, requires_grad=True)
    loss = masked_bce(logit, torch.full((2,), float("nan")))
    loss.backward()
    assert loss.item() == 0
    assert logit.grad is not None
    assert logit.grad.tolist() == [0, 0]
