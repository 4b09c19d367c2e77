import torch

from p2ch_luna.models.checkpoint import bundled, load_model
from p2ch_luna.models.classifier import TYPICAL_MM, NoduleClassifier


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


def test_without_a_head_nothing_is_said_of_the_diameter() -> None:
    assert NoduleClassifier(widths=(4, 8, 8, 8)).eval()(torch.zeros(1, 1, 32, 32, 32)).log_diameter is None


def test_a_new_diameter_head_starts_near_a_typical_nodule() -> None:
    torch.manual_seed(0)
    model = NoduleClassifier(widths=(4, 8, 8, 8), diameter_head=True).eval()
    with torch.no_grad():
        diameter_mm = model(torch.zeros(3, 1, 32, 32, 32)).log_diameter.exp()
    assert diameter_mm.shape == (3,)
    assert torch.all((diameter_mm > TYPICAL_MM / 2) & (diameter_mm < TYPICAL_MM * 2))


def test_the_heads_are_reached_by_name() -> None:
    model = NoduleClassifier(widths=(4, 8, 8, 8), diameter_head=True)
    names = {name.removesuffix(".weight") for name, _ in model.named_parameters() if "heads" in name}
    assert {"heads.nodule", "heads.malignancy", "heads.diameter"} <= names


def test_a_diameter_head_leaves_the_other_weights_of_a_seed_alone() -> None:
    states = []
    for diameter_head in (False, True):
        torch.manual_seed(0)
        states.append(NoduleClassifier(widths=(4, 8, 8, 8), diameter_head=diameter_head).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_near_trunk_sees_the_middle_half_alone_and_every_voxel_of_it() -> None:
    torch.manual_seed(0)
    model = NoduleClassifier(widths=(4, 8), near_widths=(4, 8)).eval()
    assert model.near is not None
    seen: list[torch.Tensor] = []
    model.near.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    crop = torch.full((1, 1, 48, 48, 48), -1000.0)
    crop[0, 0, 12:36, 12:36, 12:36] = 400.0
    with torch.no_grad():
        model(crop)
    assert seen[0].shape == (1, 1, 24, 24, 24)
    assert (seen[0] == 1.0).all()


def test_both_trunks_have_a_say() -> None:
    model = NoduleClassifier(widths=(4, 8), near_widths=(4, 8))
    assert model.heads["nodule"].in_features == 2 * (8 + 8)
    model(torch.randn(2, 1, 32, 32, 32) * 300).nodule_logit.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "heads.mal" not in name)


def test_the_bundled_classifier_sees_two_scales_and_says_a_diameter() -> None:
    model, _ = load_model(bundled("nodule"), builder="nodule_classifier")
    assert isinstance(model, NoduleClassifier)
    assert model.near is not None
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 48, 48, 48)).log_diameter is not None
