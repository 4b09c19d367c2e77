import torch

from p2ch_luna.models.classifier import NoduleClassifier


def test_one_logit_a_head_and_crop() -> None:
    verdict = NoduleClassifier(widths=(4, 8, 8, 8)).eval()(torch.zeros(3, 1, 48, 48, 48))
    assert verdict.nodule_logit.shape == verdict.malignancy_logit.shape == (3,)


def test_what_is_in_the_middle_counts_more_than_what_is_at_the_edge() -> None:
    torch.manual_seed(0)
    model = NoduleClassifier(widths=(4, 8, 8, 8)).eval()
    crops = torch.full((3, 1, 48, 48, 48), -850.0)
    crops[1, :, 20:28, 20:28, 20:28] = 50.0
    crops[2, :, 0:8, 0:8, 0:8] = 50.0
    with torch.no_grad():
        nothing, middle, edge = model(crops).nodule_logit
    assert abs(middle - nothing) > abs(edge - nothing)


def test_the_heads_learn_apart() -> None:
    model = NoduleClassifier(widths=(4, 8, 8, 8))
    model(torch.randn(2, 1, 32, 32, 32) * 300).malignancy_logit.sum().backward()
    assert model.heads["malignancy"].weight.grad is not None
    assert model.heads["nodule"].weight.grad is None
