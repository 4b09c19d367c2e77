"""How far an exported network is from its own, and on what that is seen."""

import math

import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.export.parity import LIMITS, Gap, comparable, inputs, largest_difference
from p2ch_luna.models.checkpoint import bundled, load_model


class Shifted(nn.Module):
    """Logits that are the HU over 1000, and something."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, hu: Tensor) -> Tensor:
        return hu / 1000 + self.by


def test_inputs_are_of_two_sizes_and_numbers_in_multiples() -> None:
    shapes = [tuple(hu.shape) for hu in inputs(16, 32)]
    assert shapes == [(1, 1, 32, 48, 64), (3, 1, 48, 32, 32)]


def test_inputs_of_a_coarse_network_are_larger() -> None:
    assert tuple(inputs(64, 128)[0].shape) == (1, 1, 128, 192, 256)


def test_inputs_hold_soft_tissue_in_the_middle_of_air() -> None:
    hu = inputs(16, 32)[0][0, 0]
    assert hu[14:18, 22:26, 30:34].mean() > -50
    assert hu[:4].mean() < -800


def test_inputs_hold_a_vessel_through_the_middle_and_plain_lung() -> None:
    _, vessel, plain = inputs(16, 32)[1][:, 0]
    assert vessel[:, 15:18, 15:18].mean() > -50
    assert vessel[:, :8].mean() < -800
    assert plain.max() < -500


@pytest.mark.parametrize("name", ["nodule", "malignancy"])
def test_a_bundled_network_is_not_sure_of_all_inputs(name: str) -> None:
    model, _ = load_model(bundled(name))
    with torch.inference_mode():
        logits = torch.cat([torch.stack(model(hu)[:2]) for hu in inputs(16, 32)], dim=1)
    assert (logits.abs().amin(dim=1) < 3).all()


def shifted(start: float, by: float) -> Gap:
    """Between networks that answer `start`, and more."""
    return largest_difference(Shifted(start), Shifted(start + by), [torch.zeros(1, 1, 2, 2, 2)])


def test_a_difference_is_of_probabilities() -> None:
    assert math.isclose(shifted(0.0, 0.4).probability, 1 / (1 + math.exp(-0.4)) - 0.5, rel_tol=1e-5)


def test_logits_differ_where_probabilities_do_not() -> None:
    gap = shifted(-12.0, -2.0)
    assert gap.probability < LIMITS.probability
    assert math.isclose(gap.logit, 2.0, rel_tol=1e-5)
    assert not gap.is_within(LIMITS)


def test_logits_differ_only_as_far_as_the_joint_probability_looks_at_them() -> None:
    assert shifted(40.0, 2.0).logit == 0
    assert shifted(15.0, 2.0).logit == 1


def test_no_number_is_no_small_difference() -> None:
    gap = largest_difference(Shifted(0.0), Shifted(math.nan), inputs(16, 32))
    assert all(map(math.isnan, gap))
    assert not gap.is_within(LIMITS)


def test_a_logarithm_of_a_diameter_is_no_logit() -> None:
    answers = comparable((torch.zeros(1), torch.zeros(1), torch.full((1,), 2.0), None))
    assert [float(x) for x in answers] == [0.5, 0.5, 2.0]
