"""What TensorBoard is given: event files of tiny runs are read back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from p2ch_luna.inference.finders import classifier_finder
from p2ch_luna.models.unet import SegmentationUNet
from p2ch_luna.training import board
from p2ch_luna.training.board import LiveCurves, flat_settings, log_weights, memory_mb
from p2ch_luna.training.run_dir import load_history
from p2ch_luna.training.stop import Interrupted

Config, Train = Callable[..., Any], Callable[..., Path]

LIVE = {"steps/loss", "steps/lr", "steps/gradient_norm"}
TRAIN = {
    "train/loss", "train/lr", "train/gradient_norm", "train/samples_per_second", "train/waiting_share",
    "train/memory_mb",
}  # fmt: skip
SPEED = {"train/samples_per_second", "train/waiting_share"}  # none of an epoch without a step left
SCANS = {"scans/cpm", "scans/sensitivity_at_1_fp", "scans/sensitivity_at_4_fp"}
PICTURES = {
    "validation/hits", "validation/misses", "validation/worst false positives", "validation/roc",
    "validation/calibration", "scans/froc", "augmentation/before above, after below",
}  # fmt: skip
TEXTS = {"config/text_summary", "model card/text_summary"}


def events(run: Path) -> EventAccumulator:
    everything = dict.fromkeys(("images", "scalars", "tensors", "histograms", "compressedHistograms"), 0)
    found = EventAccumulator(str(run), size_guidance=everything)
    found.Reload()
    return found


def losses(*parts: str) -> set[str]:
    """Tags of each part of the loss, in training and in validation."""
    return {f"{side}/loss_{part}" for side in ("steps", "train", "validation") for part in parts}


@pytest.fixture(scope="module")
def _live() -> Iterator[None]:
    """Every step is a point of the live curves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board, "STEPS_A_POINT", 1)
        yield


@pytest.fixture(scope="module")
def segmentation(
    _live: None, make_config: Config, train: Train, tmp_path_factory: pytest.TempPathFactory
) -> EventAccumulator:
    return events(train(make_config(), tmp_path_factory.mktemp("segmentation")))


@pytest.fixture(scope="module")
def nodule(
    _live: None, make_config: Config, train: Train, tmp_path_factory: pytest.TempPathFactory
) -> EventAccumulator:
    return events(train(make_config("nodule"), tmp_path_factory.mktemp("nodule")))


def test_the_events_of_a_segmentation_hold_every_tag(segmentation: EventAccumulator) -> None:
    tags = segmentation.Tags()
    figures = {"loss", "sensitivity", "precision", "f1", "sensitivity_under_6mm", "sensitivity_6_to_10mm",
               "sensitivity_over_10mm", "sensitivity_proposed", "false_positives_per_patch", "dice",
               "dice_under_6mm", "dice_6_to_10mm", "dice_over_10mm", "calibration_error"}  # fmt: skip
    scalars = LIVE | TRAIN | SCANS | losses("focal", "bce", "dice")
    assert scalars | {f"validation/{name}" for name in figures} <= set(tags["scalars"])
    assert set(tags["images"]) >= PICTURES
    assert {"validation/precision_recall_voxels"} | TEXTS <= set(tags["tensors"])
    weights = {f"weights/{name}" for name, _ in SegmentationUNet((4, 8)).named_parameters()}
    assert weights == set(tags["histograms"])
    assert {"validation_best/dice", "validation_best/cpm", "validation_best/epoch"} <= set(tags["scalars"])


def test_the_events_of_a_classifier_hold_every_tag(nodule: EventAccumulator) -> None:
    tags = nodule.Tags()
    figures = {"loss", "nodule_auc", "sensitivity", "precision", "f1", "sensitivity_at_5_percent_fp",
               "calibration_error", "malignancy_auc", "malignancy_auc_of_diameter",
               "diameter_error_mm"}  # fmt: skip
    scalars = LIVE | TRAIN | SCANS | losses("nodule", "malignancy", "diameter")
    assert scalars | {f"validation/{name}" for name in figures} <= set(tags["scalars"])
    shown = set(tags["images"])
    assert PICTURES - {"validation/hits", "validation/misses"} <= shown
    assert shown & {"validation/hits", "validation/misses"}
    curves = {"validation/precision_recall_nodule", "validation/precision_recall_malignancy"}
    assert curves | TEXTS <= set(tags["tensors"])
    assert {"weights/heads.nodule.weight", "weights/heads.diameter.bias"} <= set(tags["histograms"])
    assert {"validation_best/nodule_auc", "validation_best/epoch"} <= set(tags["scalars"])


def test_an_epoch_is_at_its_last_step(segmentation: EventAccumulator) -> None:
    for tag in ("train/loss", "validation/dice", "scans/cpm"):
        assert [event.step for event in segmentation.Scalars(tag)] == [3, 6]


def test_the_live_loss_is_the_mean_over_an_epoch(segmentation: EventAccumulator) -> None:
    live = [event.value for event in segmentation.Scalars("steps/loss")]
    epochs = [event.value for event in segmentation.Scalars("train/loss")]
    assert [np.mean(live[:3]), np.mean(live[3:])] == pytest.approx(epochs, rel=1e-5)


def test_learning_rates_are_those_of_the_steps_taken(segmentation: EventAccumulator) -> None:
    # 6 steps: a rise over 2, then a half cosine over 4; of an epoch the last is told
    rates = 3e-2 * np.array([0.5, 1.0, 1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])
    assert [event.value for event in segmentation.Scalars("steps/lr")] == pytest.approx(rates, rel=1e-5)
    assert [event.value for event in segmentation.Scalars("train/lr")] == pytest.approx(
        rates[[2, 5]], rel=1e-5
    )


def test_short_epochs_have_a_live_point_each(
    make_config: Config, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "STEPS_A_POINT", 20)
    run = train(make_config(validation={"scans": 0}), tmp_path / "run")
    assert [event.step for event in events(run).Scalars("steps/loss")] == [3, 6]


def test_settings_and_final_metrics_compare_runs(segmentation: EventAccumulator) -> None:
    data = segmentation.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info.hparams
    assert settings["optim.lr"].number_value == pytest.approx(3e-2)
    assert settings["loop.best_by"].string_value == "dice"
    best = segmentation.Scalars("validation_best/dice")[-1].value
    assert best == pytest.approx(max(event.value for event in segmentation.Scalars("validation/dice")))


def test_the_config_is_there_as_text(segmentation: EventAccumulator) -> None:
    text = segmentation.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert 'best_by = "dice"' in text


def test_the_card_is_there_as_text(segmentation: EventAccumulator) -> None:
    text = segmentation.Tensors("model card/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "Research only, not a medical device." in text


class Asks:
    """Asks the run to stop at one place."""

    def __init__(self, at: tuple[str, int]) -> None:
        self.at = at
        self.had_steps_behind_it = at[0] == "validating"

    def loaded(self, item: str) -> None:
        pass

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        self._ask("step", step)

    def validating(self, done: int, total: int) -> None:
        self._ask("validating", done)

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        pass

    def _ask(self, what: str, number: int) -> None:
        if self.at == (what, number):
            self.at = ("", 0)
            os.kill(os.getpid(), signal.SIGTERM)


class Dies(Asks):
    """Is killed there, and leaves no checkpoint."""

    def _ask(self, what: str, number: int) -> None:
        if self.at == (what, number):
            raise KeyboardInterrupt


@pytest.mark.usefixtures("_live")
@pytest.mark.parametrize(
    "listener",
    [Asks(("step", 2)), Asks(("validating", 1)), Dies(("step", 5))],
    ids=["stopped", "validating", "killed"],
)
def test_after_a_resume_no_step_is_there_twice(
    segmentation: EventAccumulator, make_config: Config, train: Train, tmp_path: Path, listener: Asks
) -> None:
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        train(make_config(), tmp_path, listener)
    found = events(train(make_config(), tmp_path, resume=True))
    for kind, read in (("scalars", "Scalars"), ("images", "Images"), ("histograms", "Histograms")):
        assert set(found.Tags()[kind]) == set(segmentation.Tags()[kind])
        for tag in found.Tags()[kind]:
            wanted = [event.step for event in getattr(segmentation, read)(tag)]
            if listener.had_steps_behind_it and tag in SPEED:
                wanted = wanted[1:]
            assert (tag, [event.step for event in getattr(found, read)(tag)]) == (tag, wanted)


def test_a_profile_is_traced(make_config: Config, train: Train, tmp_path: Path) -> None:
    changed = {"loop": {"epochs": 1, "steps_per_epoch": 6}, "compute": {"profile_steps": 1}}
    run = train(make_config(validation={"scans": 0}, **changed), tmp_path)
    (trace,) = (run / board.PROFILE).glob("*.pt.trace.json")
    assert "aten::convolution" in trace.read_text(encoding="utf-8")


def test_without_a_wish_nothing_is_traced(segmentation_run: Path) -> None:
    assert not (segmentation_run / board.PROFILE).exists()


def test_whole_scans_may_be_found_in_by_the_real_diagnosis(
    make_config: Config, train: Train, tmp_path: Path
) -> None:
    config = make_config("nodule", loop={"epochs": 1})
    find = classifier_finder(torch.device("cpu"), None, config.data.shape_irc)
    run = train(config, tmp_path, find=find)
    assert 0 <= load_history(run)[0]["metrics"]["cpm"] <= 1


def test_settings_are_flat_and_without_the_data() -> None:
    config = {"task": "nodule", "data": {"lidc": "x"}, "optim": {"lr": 0.1}, "model": {"widths": [4, 8]}}
    assert flat_settings(config) == {"task": "nodule", "optim.lr": 0.1, "model.widths": "[4, 8]"}


def test_a_live_point_is_a_mean_of_several_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "STEPS_A_POINT", 2)
    writer = SummaryWriter(str(tmp_path))
    curves = LiveCurves(writer, processes=2)  # this one's share of a loss is half of it
    for step, loss in ((1, 1.0), (2, 2.0), (3, 9.0)):
        curves.add(step, {"focal": loss, "dice": 1.0, "gradient_norm": 3.0}, 0.1 * step)
    for _ in range(2):  # the second has nothing left to write
        curves.flush()
    writer.close()
    found = events(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("steps/loss_focal")] == [(2, 3.0), (3, 18.0)]
    assert [(e.step, e.value) for e in found.Scalars("steps/loss")] == [(2, 5.0), (3, 20.0)]
    assert [e.value for e in found.Scalars("steps/gradient_norm")] == [3.0, 3.0]
    assert [e.value for e in found.Scalars("steps/lr")] == pytest.approx([0.2, 0.3])


def test_a_histogram_counts_every_weight(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0, 0.0], [0.5, 1.0]]))
    log_weights(writer, model, 7)
    writer.close()
    (event,) = events(tmp_path).Histograms("weights/weight")
    found = event.histogram_value
    assert (event.step, found.num, found.min, found.max, sum(found.bucket)) == (7, 4, -1, 1, 4)


def test_a_frozen_part_has_no_histogram(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    model[0].requires_grad_(False)
    log_weights(writer, model, 1)
    writer.close()
    assert set(events(tmp_path).Tags()["histograms"]) == {"weights/1.weight", "weights/1.bias"}


def test_weights_of_zero_have_a_histogram(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.bias)
    log_weights(writer, model, 1)
    writer.close()
    assert events(tmp_path).Histograms("weights/bias")[0].histogram_value.num == 1


def test_memory_is_at_least_that_of_an_interpreter_with_torch() -> None:
    assert 50 < memory_mb(torch.device("cpu")) < 1e6
