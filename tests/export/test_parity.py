"""How far an exported network is from its own, and on what that is seen."""

import math

import torch
from torch import Tensor, nn

from p2ch_luna.export.parity import comparable, inputs, largest_difference


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


def test_the_largest_difference_is_of_probabilities() -> None:
    gap = largest_difference(Shifted(0.0), Shifted(0.4), [torch.zeros(1, 1, 2, 2, 2)])
    assert math.isclose(gap, 1 / (1 + math.exp(-0.4)) - 0.5, rel_tol=1e-5)


def test_no_number_is_no_small_difference() -> None:
    gap = largest_difference(Shifted(0.0), Shifted(math.nan), inputs(16, 32))
    assert math.isnan(gap)


def test_a_logarithm_of_a_diameter_is_no_logit() -> None:
    answers = comparable((torch.zeros(1), torch.zeros(1), torch.full((1,), 2.0), None))
    assert [float(x) for x in answers] == [0.5, 0.5, 2.0]
