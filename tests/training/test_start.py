"""Networks that begin with another's weights, in whole or in part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from p2ch_luna.errors import LunaError
from p2ch_luna.models.build import build_model
from p2ch_luna.models.checkpoint import ModelCard, save_model
from p2ch_luna.training.start import start_model

SMALL = {"widths": [4, 8], "window_hu": [-1000.0, 400.0], "dropout": 0.0, "diameter_head": False}
SPLIT = {"train": ["someone"]}
HEAD, STEM = "heads.malignancy.weight", "stem.first.0.weight"


def save(folder: Path, builder: str = "nodule_classifier", **arguments: Any) -> Path:
    """A run's folder with a model of weights that nobody draws: all 1/4, and statistics of 2."""
    given = {**SMALL, **arguments} if builder == "nodule_classifier" else {"widths": [4, 8]}
    model = build_model(builder, given)
    for value in model.parameters():
        nn.init.constant_(value, 0.25)
    for name, value in model.named_buffers():
        if "running" in name:
            value.fill_(2.0)
    card = ModelCard(
        builder=builder, arguments=given, config={}, data=[], split=SPLIT, metrics={}, software=""
    )
    folder.mkdir(exist_ok=True)
    save_model(folder / "model.safetensors", model, card)
    return folder


def start(
    init_from: Path | None = None, new: Sequence[str] = (), frozen: Sequence[str] = (), **arguments: Any
) -> nn.Module:
    torch.manual_seed(0)
    changed = {**SMALL, **arguments}
    model, _ = start_model("nodule_classifier", changed, init_from=init_from, new=new, frozen=frozen)
    return model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save(tmp_path / "run")


def is_taken_over(model: nn.Module, name: str) -> bool:
    return bool((model.state_dict()[name] == 0.25).all())


def test_without_a_source_the_weights_are_fresh() -> None:
    model = start()
    torch.manual_seed(0)
    fresh = build_model("nodule_classifier", SMALL)
    assert torch.equal(model.state_dict()[STEM], fresh.state_dict()[STEM])


def test_who_taught_the_weights_is_told(run: Path) -> None:
    assert start_model("nodule_classifier", SMALL, init_from=run)[1] == SPLIT


def test_nobody_taught_fresh_weights() -> None:
    assert start_model("nodule_classifier", SMALL)[1] is None


@pytest.mark.parametrize("name", ["", "model.safetensors"], ids=["a run", "a file"])
def test_all_is_taken_over(run: Path, name: str) -> None:
    model = start(run / name)
    assert all(is_taken_over(model, name) for name, _ in model.named_parameters())
    assert (model.state_dict()["stem.first.1.running_mean"] == 2).all()


def test_a_new_part_is_fresh_and_the_others_are_not(run: Path) -> None:
    model = start(run, new=["heads.malignancy"])
    assert not is_taken_over(model, HEAD)
    assert is_taken_over(model, "heads.nodule.weight")


def test_a_new_head_may_be_one_that_the_source_has_not(run: Path) -> None:
    model = start(run, new=["heads.diameter"], diameter_head=True)
    assert is_taken_over(model, HEAD)
    assert not is_taken_over(model, "heads.diameter.weight")


def test_a_head_that_the_source_has_not_is_named(run: Path) -> None:
    with pytest.raises(LunaError, match=r"its heads.diameter.bias is not there; wanted 1, as .*start.new"):
        start(run, diameter_head=True)


def test_a_head_that_is_too_many_is_left_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = start(save(tmp_path / "run", diameter_head=True))
    assert all(is_taken_over(model, name) for name, _ in model.named_parameters())
    assert "heads.diameter left behind, as [model] says" in caplog.text


def test_a_block_that_is_too_many_is_named(tmp_path: Path) -> None:
    source = save(tmp_path / "run", widths=[4, 8, 8])
    with pytest.raises(LunaError, match=r"its down.1.0.weight is 8×8×2×2×2; wanted not there"):
        start(source)


def test_other_shapes_are_named(run: Path) -> None:
    with pytest.raises(
        LunaError, match=r"start.init_from = .*: its down.0.0.weight is 8×4×2×2×2; wanted 16×4"
    ):
        start(run, widths=[4, 16])


def test_another_network_is_named(tmp_path: Path) -> None:
    source = save(tmp_path / "run", "segmentation_unet")
    with pytest.raises(LunaError, match=r"holds a segmentation_unet; wanted a nodule_classifier"):
        start(source)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"nowhere.safetensors: no such file"):
        start(tmp_path / "nowhere.safetensors")


def test_frozen_parts_have_no_gradient(run: Path) -> None:
    model = start(run, frozen=["stem", "down.0"])
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"stem", "down"}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(("stem.", "down.0."))}


def test_a_frozen_part_need_not_be_taken_over() -> None:
    assert not start(frozen=["stem"]).state_dict()[STEM].requires_grad


@pytest.mark.parametrize("key", ["new", "frozen"])
def test_an_unknown_part_is_named_with_near_ones(run: Path, key: str) -> None:
    with pytest.raises(
        LunaError, match=rf"start.{key}: .*no part 'heads.malignant'; there are heads.malignancy"
    ):
        start(run, **{key: ["heads.malignant"]})


def test_of_an_unknown_part_without_near_ones_all_are_named(run: Path) -> None:
    with pytest.raises(LunaError, match=r"no part 'xyz'; there are window, stem, down, dropout, heads$"):
        start(run, new=["xyz"])


def test_something_must_be_left_to_train(run: Path) -> None:
    with pytest.raises(
        LunaError, match=r"start.frozen = \['stem', 'down', 'heads'\]: nothing is left to train"
    ):
        start(run, frozen=["stem", "down", "heads"])
