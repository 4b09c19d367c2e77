"""What is measured of an outline: worked out by hand of even boxes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.models.outline import AMPLIFIED, EDGES_HU, MEASURES, Outliner, dilated
from p2ch_luna.models.outline import measure as amplified

VOLUME, MEAN, SPREAD, FIRST_SHARE = 0, 1, 2, 3
RIM_MEAN, SUREST = MEASURES - 3, MEASURES - 1


def measure(hu: torch.Tensor, outline: torch.Tensor) -> torch.Tensor:
    return amplified(hu, outline) / AMPLIFIED


def box(side: int, hu: float, outside: float = -850.0) -> tuple[torch.Tensor, torch.Tensor]:
    """HU of a cube in the middle of a crop, and its outline."""
    outline = torch.zeros(1, 1, 32, 32, 32)
    low, high = 16 - side // 2, 16 + (side + 1) // 2
    outline[..., low:high, low:high, low:high] = 1
    return torch.where(outline > 0, hu, outside), outline


def test_volume_is_told_by_its_logarithm() -> None:
    small, large = (measure(*box(side, 0.0))[0, VOLUME] for side in (4, 8))
    assert (large - small).item() == pytest.approx(math.log(8) / 1.5, abs=1e-5)


def test_density_is_that_of_the_outlined_voxels_alone() -> None:
    found = measure(*box(6, 100.0))[0]
    assert found[MEAN].item() == pytest.approx((100 + 200) / 200, abs=1e-5)
    assert found[SPREAD].item() == pytest.approx(1 / 200, abs=1e-5)  # even: the least there is


def test_the_rim_is_what_surrounds_it() -> None:
    assert measure(*box(6, 100.0, outside=-600.0))[0, RIM_MEAN].item() == pytest.approx(-2.0, abs=1e-5)


@pytest.mark.parametrize(("hu", "above"), [(-600.0, 1), (0.0, 3), (300.0, 6)])
def test_shares_tell_ground_glass_from_soft_tissue_from_calcium(hu: float, above: int) -> None:
    shares = measure(*box(6, hu))[0, FIRST_SHARE : FIRST_SHARE + len(EDGES_HU)]
    assert (shares > 0.5).tolist() == [True] * above + [False] * (len(EDGES_HU) - above)


def test_a_split_volume_has_more_surface() -> None:
    hu, whole = box(8, 0.0)
    parts = whole.clone()
    parts[..., 16, :, :] = 0
    surface = 3 + len(EDGES_HU)
    assert measure(hu, parts)[0, surface] > measure(hu, whole)[0, surface]


@pytest.mark.parametrize("reach", [1, 2])
def test_a_rim_reaches_as_far_as_a_pool_does(reach: int) -> None:
    x = torch.rand(2, 1, 5, 7, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(dilated(x, reach), F.max_pool3d(x, 2 * reach + 1, 1, reach))


def test_nothing_outlined_is_told_in_numbers() -> None:
    found = measure(torch.zeros(2, 1, 16, 16, 16), torch.zeros(2, 1, 16, 16, 16))
    assert found.shape == (2, MEASURES)
    assert found.isfinite().all()
    assert (found[:, SUREST] == 0).all()


def test_an_outline_has_the_voxels_of_the_crop_and_begins_empty() -> None:
    stages = [torch.randn(2, width, side, side, side) for width, side in ((4, 16), (8, 8), (6, 4))]
    logit = Outliner((4, 8, 6))(stages)
    assert logit.shape == (2, 1, 32, 32, 32)
    assert logit.sigmoid().mean() < 0.1


def test_malignancy_and_diameter_are_told_by_the_outline_alone_and_a_nodule_is_not() -> None:
    heads = NoduleClassifier((4, 8), diameter_head=True, outline=True).heads
    assert {name: head.in_features for name, head in heads.items()} == {
        "nodule": 16,
        "malignancy": MEASURES,
        "diameter": MEASURES,
    }


def test_they_are_measured_in_full_precision() -> None:
    model = NoduleClassifier((4, 8), diameter_head=True, outline=True)
    with torch.autocast("cpu", torch.bfloat16):
        verdict = model(torch.randn(2, 1, 32, 32, 32) * 300)
    assert verdict.log_diameter is not None
    assert verdict.malignancy_logit.dtype == verdict.log_diameter.dtype == torch.float32


def test_the_heads_do_not_bend_the_outline() -> None:
    model = NoduleClassifier((4, 8), diameter_head=True, outline=True)
    verdict = model(torch.randn(2, 1, 32, 32, 32) * 300)
    assert verdict.log_diameter is not None
    (verdict.malignancy_logit.sum() + verdict.log_diameter.sum()).backward()
    assert model.outline is not None
    assert all(parameter.grad is None for parameter in model.outline.parameters())


def test_without_an_outline_none_is_told() -> None:
    assert NoduleClassifier((4, 8)).eval()(torch.zeros(1, 1, 32, 32, 32)).outline_logit is None
