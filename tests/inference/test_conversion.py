"""Networks in the form that other libraries take."""

import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.conversion import Answers, side_multiple
from p2ch_luna.models.blocks import Conv3x3x3
from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.models.unet import SegmentationUNet


def hu(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 300 - 700


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (SegmentationUNet((8, 16)), ("mask_logit",)),
        (NoduleClassifier((8, 16)), ("nodule_logit", "malignancy_logit")),
        (
            NoduleClassifier((8, 16), diameter_head=True),
            ("nodule_logit", "malignancy_logit", "log_diameter"),
        ),
        (NoduleClassifier((8, 16), outline=True), ("nodule_logit", "malignancy_logit", "outline_logit")),
    ],
)
def test_each_answer_has_its_name(model: nn.Module, names: tuple[str, ...]) -> None:
    network = Answers(model)
    answers = network(hu(2, 1, 32, 32, 32))
    assert network.names == names
    assert len([answers] if isinstance(answers, Tensor) else answers) == len(names)


def test_answers_are_those_of_the_network() -> None:
    model = NoduleClassifier((8, 16), outline=True).eval()
    with torch.inference_mode():
        wanted, found = model(hu(2, 1, 16, 16, 16)), Answers(model)(hu(2, 1, 16, 16, 16))
    assert isinstance(found, tuple)
    torch.testing.assert_close(found[2], wanted.outline_logit)


def test_the_network_itself_is_left_as_it_is() -> None:
    model = SegmentationUNet((8, 16))
    network = Answers(model)
    assert not any(isinstance(part, Conv3x3x3) for part in network.modules())
    assert any(isinstance(part, Conv3x3x3) for part in model.modules())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "multiple"),
    [
        (SegmentationUNet((8, 16, 24)), 8),
        (NoduleClassifier((8, 16, 24, 32)), 16),
        (NoduleClassifier((8, 16), near_widths=(4, 8, 16)), 8),
    ],
)
def test_sides_are_multiples_of_what_the_network_halves(model: nn.Module, multiple: int) -> None:
    assert side_multiple(model) == multiple
    model.eval()(hu(1, 1, *[multiple] * 3))


def test_a_network_of_another_kind_is_named() -> None:
    with pytest.raises(LunaError, match="a Conv3d has no `multiple`"):
        side_multiple(nn.Conv3d(1, 1, 3))
