import json
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from p2ch_luna.errors import LunaError
from p2ch_luna.models.build import build_model
from p2ch_luna.models.checkpoint import (
    Calibration,
    Figure,
    ModelCard,
    card_path,
    load_model,
    save_model,
    weights_at,
)
from p2ch_luna.training.run_dir import MODEL

ARGUMENTS = {"widths": [4, 8, 8, 8], "window_hu": [-900.0, 300.0]}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build_model("segmentation_unet", ARGUMENTS)
    path = tmp_path / "model.safetensors"
    card = ModelCard(
        builder="segmentation_unet",
        arguments=ARGUMENTS,
        config={"seed": 0},
        data=["phantoms"],
        split={"train": ["a"]},
        metrics={"dice": 0.5},
        software="test",
    )
    save_model(path, model, card)
    return path


def test_a_saved_model_computes_the_same_to_half_precision(weights: Path) -> None:
    torch.manual_seed(0)
    original = build_model("segmentation_unet", ARGUMENTS).eval()
    loaded, _ = load_model(weights)
    hu = torch.randn(1, 1, 16, 16, 16) * 300 - 500
    torch.testing.assert_close(loaded(hu), original(hu), atol=2e-2, rtol=1e-2)


def test_a_loaded_model_is_float32_and_in_evaluation_mode(weights: Path) -> None:
    model, _ = load_model(weights)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training


def test_the_window_is_loaded_with_the_weights(weights: Path) -> None:
    card = json.loads(card_path(weights).read_text())
    card["arguments"]["window_hu"] = [-1.0, 1.0]
    card_path(weights).write_text(json.dumps(card))
    model, _ = load_model(weights)
    assert model.window.low_high.tolist() == [-900.0, 300.0]


def test_changed_weights_are_refused(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(LunaError, match=r"model.safetensors: SHA-256 is .* its card says"):
        load_model(weights)


def test_a_model_of_another_kind_is_refused(weights: Path) -> None:
    with pytest.raises(LunaError, match="holds a segmentation_unet; wanted a nodule_classifier"):
        load_model(weights, builder="nodule_classifier")


def test_weights_without_a_card_are_refused(weights: Path) -> None:
    card_path(weights).unlink()
    wanted = r"model.json: no such file; wanted the model's card there, beside its weights model.safetensors"
    with pytest.raises(LunaError, match=wanted):
        load_model(weights)


def test_a_card_that_is_not_one_is_refused(weights: Path) -> None:
    card_path(weights).write_text('{"builder": 3}')
    with pytest.raises(LunaError, match=r"model.json: not a model card: builder"):
        load_model(weights)


POINT = {"fp_per_scan": 1.0, "probability": 0.5, "sensitivity": 0.8}
FITTED = {"segmentation": 0.5, "classifier": 1.0, "intercept": -2.0, "operating_points": [POINT], "on": "a"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"segmentation": -0.1},
        {"classifier": math.inf},
        {"intercept": math.nan},
        {"segmentation": 0.0, "classifier": 0.0},
        {"operating_points": [{**POINT, "fp_per_scan": 0.0}]},
        {"operating_points": [{**POINT, "probability": 1.1}]},
        {"operating_points": [{**POINT, "probability": math.nan}]},
        {"operating_points": [{**POINT, "sensitivity": -0.1}]},
    ],
)
def test_a_calibration_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    Calibration.model_validate(FITTED)
    with pytest.raises(ValidationError):
        Calibration.model_validate(FITTED | wrong)


@pytest.mark.parametrize("wrong", [{"value": math.nan}, {"interval_95": (0.1, math.inf)}])
def test_a_figure_is_finite(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Figure.model_validate({"name": "CPM", "value": 0.5, "on": "a", **wrong})


def test_a_card_with_such_a_calibration_names_the_file(weights: Path) -> None:
    card = json.loads(card_path(weights).read_text())
    card["calibration"] = FITTED | {"classifier": -1.0}
    card_path(weights).write_text(json.dumps(card))
    with pytest.raises(LunaError, match=r"model.json: not a model card: calibration.classifier: .* or equal"):
        load_model(weights)


def test_the_hash_of_a_calibration_is_of_what_decides_on_a_probability() -> None:
    own = Calibration.model_validate(FITTED)
    assert own.sha256 == Calibration.model_validate(FITTED | {"operating_points": [], "on": "b"}).sha256
    for other in ({"segmentation": 0.6}, {"classifier": 1.1}, {"intercept": -2.1}):
        assert own.sha256 != Calibration.model_validate(FITTED | other).sha256


def test_a_model_is_found_by_its_file_or_the_folder_of_its_run(weights: Path) -> None:
    assert weights.name == MODEL
    assert (weights_at(weights), weights_at(weights.parent)) == (weights, weights)


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        LunaError, match=r"none: no such file; wanted a model \(.safetensors\) or a run's folder"
    ):
        weights_at(tmp_path / "none")


@pytest.mark.parametrize("name", ["chest.mha", "model.json", "last.pt"])
def test_a_file_that_is_no_model_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(LunaError, match=rf"{name}: is no model; wanted a .safetensors file with its card"):
        weights_at(tmp_path / name)


def test_a_run_without_an_epoch_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r": no model.safetensors in it; wanted .* a run with an epoch done"):
        weights_at(tmp_path)


def test_an_unknown_builder_names_those_there_are() -> None:
    with pytest.raises(
        LunaError, match="'yolo' is not known; there are nodule_classifier, segmentation_unet"
    ):
        build_model("yolo", {})


def test_wrong_arguments_name_the_model() -> None:
    with pytest.raises(LunaError, match=r"nodule_classifier.*cannot be built with.*depth"):
        build_model("nodule_classifier", {"depth": 3})
