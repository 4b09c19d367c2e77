import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from p2ch_luna.datasets.patches import as_batch
from p2ch_luna.training.losses import (
    balanced_bce_totals,
    class_counts,
    diameter_count,
    diameter_total,
    focal_total,
    hard_bce_total,
    known_count,
    masked_bce_total,
    nodule_count,
    ordinal_total,
    sample_count,
    tversky_total,
    voxel_count,
)

NAN, LN2 = math.nan, math.log(2)


def volume(*values: float) -> Tensor:
    """One sample, of one row."""
    return torch.tensor([float(value) for value in values]).reshape(1, 1, 1, 1, -1)


def ones(n: int) -> Tensor:
    return torch.ones(1, 1, 1, 1, n)


def of_true(logit: float) -> float:
    """Cross-entropy of a logit where the truth is 1; of 0, it is that of minus the logit."""
    return math.log(1 + math.exp(-logit))


def test_focal_of_a_voxel_worked_out_by_hand() -> None:
    # probability of the truth 1/2: (1 - 1/2)^2 * ln 2
    assert focal_total(torch.zeros(1), torch.ones(1), torch.ones(1)).item() == pytest.approx(0.25 * LN2)


def test_focal_without_gamma_is_summed_cross_entropy() -> None:
    logit, target = torch.tensor([1.0, -2.0]), torch.tensor([1.0, 1.0])
    total = focal_total(logit, target, torch.ones(2), gamma=0)
    assert total.item() == pytest.approx(of_true(1) + of_true(-2))


def test_a_voxel_of_weight_zero_has_no_focal_loss_and_no_gradient() -> None:
    logit = torch.tensor([0.0, 3.0], requires_grad=True)
    focal_total(logit, torch.zeros(2), torch.tensor([1.0, 0.0])).backward()
    assert logit.grad is not None
    assert logit.grad[1] == 0
    assert logit.grad[0] > 0


def test_hard_bce_is_of_the_nodule_and_of_the_hardest_background() -> None:
    logit, mask = volume(0, -3, 1, 2, -4), volume(1, 0, 0, 0, 0)
    total = hard_bce_total(logit, mask, ones(5), hard_share=0.5)  # 2 of 4: those that say 1 and 2
    assert total.item() == pytest.approx(LN2 + (of_true(-1) + of_true(-2)) / 2)


def test_hard_bce_takes_the_share_of_each_samples_own_background() -> None:
    logit = torch.cat([volume(0, 1, 2, 3), volume(0, 1, 2, 3)])
    mask = torch.cat([volume(0, 0, 0, 0), volume(1, 1, 0, 0)])
    total = hard_bce_total(logit, mask, torch.ones_like(mask), hard_share=0.5)
    two_hardest, hardest = (of_true(-2) + of_true(-3)) / 2, of_true(-3)
    assert total.item() == pytest.approx(two_hardest + hardest + (of_true(0) + of_true(1)) / 2)


def test_hard_bce_takes_one_voxel_where_the_share_is_less() -> None:
    total = hard_bce_total(volume(-1, 2, 0), volume(0, 0, 0), ones(3), hard_share=0.01)
    assert total.item() == pytest.approx(of_true(-2))


def test_hard_bce_with_a_share_of_one_is_the_mean_over_the_background() -> None:
    total = hard_bce_total(volume(-1, 2, 0), volume(0, 0, 0), ones(3), hard_share=1.0)
    assert total.item() == pytest.approx((of_true(1) + of_true(-2) + LN2) / 3)


def test_hard_bce_counts_nodule_voxels_by_their_weight() -> None:
    total = hard_bce_total(volume(1, 2), volume(1, 1), volume(3, 1), hard_share=0.5)
    assert total.item() == pytest.approx((3 * of_true(1) + of_true(2)) / 4)


def test_hard_bce_never_counts_voxels_of_weight_zero() -> None:
    # neither the first, a nodule's, nor the second, the hardest, nor for the share: half of 2 is 1
    logit, mask, weight = volume(-9, 9, 1, -1), volume(1, 0, 0, 0), volume(0, 0, 1, 1)
    assert hard_bce_total(logit, mask, weight, hard_share=0.5).item() == pytest.approx(of_true(-1))


def test_hard_bce_of_a_sample_without_known_voxels_is_zero_with_a_zero_gradient() -> None:
    logit = volume(3, -3).requires_grad_()
    total = hard_bce_total(logit, volume(0, 1), 0 * ones(2), hard_share=0.5)
    total.backward()
    assert total.item() == 0
    assert logit.grad is not None
    assert not logit.grad.any()


def test_only_the_hardest_background_has_a_gradient() -> None:
    logit = volume(-1, 2, 0, -2).requires_grad_()
    hard_bce_total(logit, volume(0, 0, 0, 0), ones(4), hard_share=0.25).backward()
    assert logit.grad is not None
    assert (logit.grad.flatten() != 0).tolist() == [False, True, False, False]


def test_tversky_of_a_perfect_mask_is_almost_no_loss() -> None:
    mask = volume(1, 1, 0, 0)
    assert tversky_total((mask * 2 - 1) * 30, mask, ones(4), 3.0).item() == pytest.approx(0, abs=1e-6)


def test_dice_worked_out_by_hand() -> None:
    # probabilities 1/2 each, one of two voxels true: 1 - (2 * 1/2 + 1) / (1 + 1 + 1)
    assert tversky_total(volume(0, 0), volume(1, 0), ones(2), 1.0).item() == pytest.approx(1 / 3)


def test_tversky_with_false_negatives_thrice_worked_out_by_hand() -> None:
    # a = 1/4, b = 3/4; TP 1/2, FP 2 * 1/2, FN 1/2; doubled and smoothed: 1 - (1 + 1) / (1 + 1/2 + 3/4 + 1)
    total = tversky_total(volume(0, 0, 0), volume(1, 0, 0), ones(3), 3.0)
    assert total.item() == pytest.approx(5 / 13)


def test_with_false_negatives_thrice_a_missed_voxel_costs_more_than_a_false_one() -> None:
    mask = volume(1, 1, 0, 0)
    missed, false = ((said * 2 - 1) * 30 for said in (volume(1, 0, 0, 0), volume(1, 1, 1, 0)))
    costs = [tversky_total(logit, mask, ones(4), 3.0).item() for logit in (missed, false)]
    # missed: TP 1, FN 1: 1 - 3 / (2 + 3/2 + 1); false: TP 2, FP 1: 1 - 5 / (4 + 1/2 + 1)
    assert costs == pytest.approx([1 / 3, 1 / 11], abs=1e-6)


def test_the_gradient_of_tversky_presses_harder_on_missed_voxels_than_that_of_dice() -> None:
    def pressure(false_negatives: float) -> float:
        logit = volume(0, 0, 0).requires_grad_()
        tversky_total(logit, volume(1, 0, 0), ones(3), false_negatives).backward()
        assert logit.grad is not None
        up, down, _ = logit.grad.flatten().abs().tolist()
        return float(up / down)

    assert pressure(3.0) > pressure(1.0)


@pytest.mark.parametrize("radius", [2, 5, 10])
def test_a_missed_voxel_outweighs_two_false_ones_in_nodules_of_any_size(radius: int) -> None:
    grid = torch.arange(32.0) - 16
    ball = (grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid[None, None] ** 2) <= radius**2
    batch = as_batch(torch.zeros(1, 1, 32, 32, 32), ball.to(torch.uint8)[None, None])
    sure = 40 * (2 * batch.mask - 1)
    missed, false = sure.clone(), sure.clone()
    missed[0, 0, 16, 16, 16:18] = -40  # two of its voxels
    false[0, 0, 0, 0, :2] = 40
    perfect, *costs = (tversky_total(x, batch.mask, batch.weight, 2.0).item() for x in (sure, missed, false))
    ratio = (costs[0] - perfect) / (costs[1] - perfect)
    assert ratio == pytest.approx(2, rel=0.05)  # Tversky's denominator makes it a little more


def test_samples_without_a_nodule_have_no_tversky() -> None:
    mask = torch.cat([volume(1, 0), volume(0, 0)])
    total = tversky_total(torch.zeros_like(mask), mask, torch.ones_like(mask), 1.0)
    assert total.item() == pytest.approx(1 / 3)


def test_a_nodule_of_weight_zero_is_no_nodule() -> None:
    mask, weight = torch.cat([volume(1, 0), volume(1, 0)]), torch.cat([volume(1, 1), volume(0, 1)])
    assert nodule_count(mask, weight).item() == 1
    assert tversky_total(torch.zeros_like(mask), mask, weight, 1.0).item() == pytest.approx(1 / 3)


def test_balanced_bce_gives_each_class_half() -> None:
    logit, target = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 0.0, 1.0])
    totals = balanced_bce_totals(logit, target, 1.0)
    assert totals.tolist() == pytest.approx([(LN2 + of_true(-1)) / 2, of_true(2) / 2])


def test_balanced_bce_weighs_nodules_by_false_negatives() -> None:
    totals = balanced_bce_totals(torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]), 3.0)
    assert totals.tolist() == pytest.approx([2 * LN2 / 4, 3 * LN2 / 4])


def test_masked_bce_skips_what_nobody_knows() -> None:
    assert masked_bce_total(torch.zeros(3), torch.tensor([1.0, NAN, 0.0])).item() == pytest.approx(2 * LN2)


def test_masked_bce_of_a_soft_target_worked_out_by_hand() -> None:
    total = masked_bce_total(torch.tensor([1.0]), torch.tensor([0.25]))
    assert total.item() == pytest.approx(0.25 * of_true(1) + 0.75 * of_true(-1))


def test_ordinal_of_the_highest_rating_worked_out_by_hand() -> None:
    # above 1, 2, 3 and 4, each true: the answers are 1.5 apart about that for 3
    total = ordinal_total(torch.tensor([0.5]), torch.tensor([5.0]))
    assert total.item() == pytest.approx(sum(of_true(x) for x in (3.5, 2.0, 0.5, -1.0)) / 4)


def test_ordinal_of_a_mean_between_two_ratings_worked_out_by_hand() -> None:
    # 2.5: above 1, half above 2, not above 3 or 4
    expected = of_true(3) + (of_true(1.5) + of_true(-1.5)) / 2 + of_true(0) + of_true(1.5)
    assert ordinal_total(torch.zeros(1), torch.tensor([2.5])).item() == pytest.approx(expected / 4)


def test_the_ordinal_loss_pulls_towards_the_rating() -> None:
    logit = torch.zeros(2, requires_grad=True)
    ordinal_total(logit, torch.tensor([2.0, 4.0])).backward()
    assert logit.grad is not None
    assert logit.grad[0] > 0 > logit.grad[1]


def test_diameter_worked_out_by_hand() -> None:
    # too large by a factor of e: 1 - 0.25 / 2; by e^0.1: 0.1^2 / (2 * 0.25)
    total = diameter_total(torch.tensor([math.log(8) + 1, math.log(8) - 0.1]), torch.tensor([8.0, 8.0]))
    assert total.item() == pytest.approx(0.875 + 0.02)


@pytest.mark.parametrize("unknown", [NAN, -1.0])
def test_an_unknown_diameter_gives_no_signal(unknown: float) -> None:
    log_mm, diameter_mm = torch.zeros(2, requires_grad=True), torch.tensor([unknown, math.exp(1)])
    diameter_total(log_mm, diameter_mm).backward()
    assert log_mm.grad is not None
    assert log_mm.grad.tolist() == [0, -1]
    assert diameter_count(diameter_mm).item() == 1


@pytest.mark.parametrize("total", [masked_bce_total, ordinal_total, diameter_total])
def test_only_unknown_targets_are_no_loss_with_a_zero_gradient(
    total: Callable[[Tensor, Tensor], Tensor],
) -> None:
    logit = torch.ones(2, requires_grad=True)
    loss = total(logit, torch.full((2,), NAN))
    loss.backward()
    assert loss.item() == 0
    assert logit.grad is not None
    assert logit.grad.tolist() == [0, 0]


def test_counts_worked_out_by_hand() -> None:
    mask = torch.cat([volume(1, 0, 0), volume(0, 0, 0)])
    assert voxel_count(mask).item() == 6
    assert sample_count(mask).item() == 2
    assert nodule_count(mask, torch.ones_like(mask)).item() == 1
    assert class_counts(torch.tensor([0.0, 0.0, 1.0])).tolist() == [2, 1]
    assert known_count(torch.tensor([0.0, NAN, 0.5])).item() == 2


def voxels(total: Callable[..., Tensor], *more: float) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Four samples of a patch with unlike amounts of nodule and of unknown voxels."""
    rng = torch.Generator().manual_seed(1)
    logit = torch.randn(4, 1, 3, 4, 5, generator=rng) * 3
    where = (
        torch.rand(logit.shape, generator=rng) * torch.tensor([0.0, 1.0, 2.0, 3.0])[:, None, None, None, None]
    )
    mask = (where > 0.8).float()
    weight = torch.where(torch.rand(logit.shape, generator=rng) < 0.3, 0.0, 1 + mask)
    return lambda *tensors: total(*tensors, *more), [logit, mask, weight]


def crops(
    total: Callable[..., Tensor], truth: list[float], *more: float
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """A logit, or a logarithm of mm, of four samples."""
    return lambda *tensors: total(*tensors, *more), [torch.tensor([-2.0, 0.5, 3.0, 1.0]), torch.tensor(truth)]


ALL = {
    "focal": voxels(focal_total),
    "hard_bce": voxels(hard_bce_total, 0.1),
    "tversky": voxels(tversky_total, 2.0),
    "balanced_bce": crops(balanced_bce_totals, [0, 1, 1, 0], 2.0),
    "masked_bce": crops(masked_bce_total, [0, NAN, 0.3, 1]),
    "ordinal": crops(ordinal_total, [1, 3.25, NAN, 5]),
    "diameter": crops(diameter_total, [4.0, NAN, 30.0, 5.0]),
}


@pytest.mark.parametrize("name", ALL)
def test_the_pieces_of_a_batch_add_up_to_it(name: str) -> None:
    total, tensors = ALL[name]
    pieces = [total(*piece) for piece in zip(*(t.split([1, 2, 1]) for t in tensors), strict=True)]
    torch.testing.assert_close(sum(pieces), total(*tensors), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_the_total_is_float32_also_under_autocast(name: str) -> None:
    total, (logit, *truth) = ALL[name]
    expected = total(logit.bfloat16().float(), *truth)
    with torch.autocast("cpu", torch.bfloat16):
        found = total(logit.bfloat16(), *truth)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_tversky_with_equal_errors_is_soft_dice() -> None:
    total, (logit, mask, weight) = voxels(tversky_total, 1.0)
    p, axes = logit.sigmoid(), (1, 2, 3, 4)
    known = (weight > 0).float()
    dice = (2 * (known * p * mask).sum(axes) + 1) / ((known * (p + mask)).sum(axes) + 1)
    has_nodule = (weight * mask).sum(axes) > 0
    torch.testing.assert_close(total(logit, mask, weight), (1 - dice)[has_nodule].sum())
