from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Candidate
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference.classify import CROP_IRC, classify
from p2ch_luna.models.classifier import Verdict

CPU = torch.device("cpu")


class MiddleHu(nn.Module):
    """The nodule logit is the HU of the middle voxel, the malignancy logit its negative."""

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor]:
        middle = hu[:, 0, 24, 24, 24]
        return middle, -middle


def a_ct(n: int) -> CtVolume:
    """n voxels along a tilted row, of 1, 2, ... HU, at the border of the volume."""
    tilt = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    hu = np.full((20, 24, 60), -1000, np.int16)
    hu[0, 0, :n] = np.arange(n) + 1
    return CtVolume("1.2.3", hu, ImageGeometry(np.array([10.0, 20.0, 30.0]), np.ones(3), tilt))


def candidate(ct: CtVolume, irc: tuple[float, float, float]) -> Candidate:
    x, y, z = ct.geometry.to_xyz(irc).tolist()
    return Candidate(ct.series_uid, (x, y, z), 0.5, 10.0, 2.7)


def test_answers_come_in_the_order_of_the_candidates() -> None:
    ct = a_ct(40)  # more than two batches
    candidates = [candidate(ct, (0, 0, k)) for k in reversed(range(40))]
    opinions = classify(MiddleHu(), ct, candidates, device=CPU, advance=lambda _: None)
    expected = 1 / (1 + np.exp(-np.arange(40, 0, -1.0)))
    np.testing.assert_allclose(opinions.nodule_probability, expected, rtol=1e-6)


def test_malignancy_is_the_second_answer() -> None:
    ct = a_ct(1)
    opinions = classify(MiddleHu(), ct, [candidate(ct, (0, 0, 0))], device=CPU, advance=lambda _: None)
    assert opinions.malignancy_probability == pytest.approx(1 / (1 + np.exp(1.0)))


def test_a_crop_has_the_side_that_the_network_wants() -> None:
    shapes = []

    class Shape(nn.Module):
        def forward(self, hu: Tensor) -> tuple[Tensor, Tensor]:
            shapes.append(tuple(hu.shape))
            return hu[:, 0, 0, 0, 0], hu[:, 0, 0, 0, 0]

    ct = a_ct(3)
    candidates = [candidate(ct, (0, 0, k)) for k in range(3)]
    classify(Shape(), ct, candidates, device=CPU, advance=lambda _: None)
    assert shapes == [(3, 1, *CROP_IRC)]


def test_without_candidates_there_is_no_answer() -> None:
    opinions = classify(MiddleHu(), a_ct(1), [], device=CPU, advance=lambda _: None)
    assert opinions.nodule_probability.shape == opinions.malignancy_probability.shape == (0,)


def test_progress_adds_up_to_the_candidates() -> None:
    ct = a_ct(20)
    steps: list[int] = []
    candidates = [candidate(ct, (0, 0, k)) for k in range(20)]
    classify(MiddleHu(), ct, candidates, device=CPU, advance=steps.append)
    assert sum(steps) == 20


def test_a_network_that_answers_nan_is_refused() -> None:
    class Broken(nn.Module):
        def forward(self, hu: Tensor) -> tuple[Tensor, Tensor]:
            return hu[:, 0, 0, 0, 0] * torch.nan, hu[:, 0, 0, 0, 0]

    ct = a_ct(1)
    with pytest.raises(LunaError, match="malignancy network answers NaN"):
        classify(
            Broken(), ct, [candidate(ct, (0, 0, 0))], device=CPU, advance=lambda _: None, name="malignancy"
        )


def test_what_a_network_says_beyond_both_logits_is_passed_over() -> None:
    class WithDiameter(nn.Module):
        def forward(self, hu: Tensor) -> Verdict:
            middle = hu[:, 0, 24, 24, 24]
            return Verdict(middle, -middle, middle * torch.nan)

    ct = a_ct(1)
    opinions = classify(WithDiameter(), ct, [candidate(ct, (0, 0, 0))], device=CPU, advance=lambda _: None)
    assert opinions.nodule_probability == pytest.approx(1 / (1 + np.exp(-1.0)))
