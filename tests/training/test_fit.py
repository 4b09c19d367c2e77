"""Whole tiny runs: what they leave on disk, and what they refuse before they begin."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from p2ch_luna.config import load_config
from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import load_card, load_model
from p2ch_luna.training import fit as fit_module
from p2ch_luna.training import run_dir
from p2ch_luna.training.state import load_checkpoint

CPU = torch.device("cpu")
SHORT: dict[str, Any] = {"loop": {"epochs": 1}, "validation": {"scans": 0}}  # the shortest run there is


# what a run leaves


def test_the_model_loads(segmentation_run: Path) -> None:
    model, _ = load_model(segmentation_run / "model.safetensors", builder="segmentation_unet")
    assert model(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def test_the_card_names_who_trained(segmentation_run: Path) -> None:
    split = load_card(segmentation_run / "model.safetensors").split
    assert (split["train"], split["validation"]) == (["chest-0"], ["chest-1"])
    assert split["untouched folds"] == [str(k) for k in (0, 1, 3, 4, 5, 6, 8, 9)]  # all but 2 and 7


def test_the_card_names_the_data_and_the_use(segmentation_run: Path) -> None:
    card = json.loads((segmentation_run / "model.json").read_text(encoding="utf-8"))
    assert card["data"] == ["two chests"]
    assert card["intended_use"] == "Research only, not a medical device."
    assert card["config"]["optim"]["lr"] == 3e-2


def test_the_config_of_a_run_reads_back(segmentation_run: Path, make_config: Callable[..., Any]) -> None:
    assert load_config(segmentation_run / run_dir.CONFIG) == make_config()


def test_a_finished_run_says_so(segmentation_run: Path) -> None:
    assert run_dir.load_about(segmentation_run)["status"] == "finished"


def test_the_history_has_an_entry_an_epoch(segmentation_run: Path) -> None:
    history = run_dir.load_history(segmentation_run)
    assert [(entry["epoch"], entry["step"]) for entry in history] == [(1, 3), (2, 6)]
    assert 0 < history[0]["seconds"] < history[1]["seconds"]


def test_the_history_has_the_whole_scans_and_the_losses(segmentation_run: Path) -> None:
    metrics = run_dir.load_history(segmentation_run)[0]["metrics"]
    assert metrics["cpm"] == pytest.approx(1 / 3)  # one finding, on one of the three nodules
    assert {"loss", "loss_focal", "train_loss_focal", "train_loss_bce", "train_loss_dice"} <= metrics.keys()


def test_the_split_is_kept(segmentation_run: Path) -> None:
    split = json.loads((segmentation_run / run_dir.SPLIT).read_text(encoding="utf-8"))
    assert split["train scans"] == ["chest-0"]


# the same again


def test_the_same_seed_trains_the_same_weights(
    segmentation_run: Path, make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path
) -> None:
    again = train(make_config(), tmp_path)
    assert _bytes(again) == _bytes(segmentation_run)


def test_another_seed_trains_other_weights(
    segmentation_run: Path, make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path
) -> None:
    other = train(make_config(seed=1, **SHORT), tmp_path)
    assert _bytes(other) != _bytes(segmentation_run)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3")  # more than there may be cores
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_no_weight(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path, workers: int
) -> None:
    changed = {**SHORT, "loop": {"epochs": 1, "workers": workers}}
    alone, helped = train(make_config(**SHORT), tmp_path / "a"), train(make_config(**changed), tmp_path / "b")
    assert _bytes(alone) == _bytes(helped)


def _bytes(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


# what goes wrong


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        ({"precision": "fp16"}, r"compute.precision = 'fp16' on cpu: .*wanted auto, bf16 or fp32"),
        ({"sync_batch_norm": True}, r"compute.sync_batch_norm = true with 1 process\(es\) on cpu; wanted"),
    ],
)
def test_what_the_cpu_cannot_do_is_refused_before_any_data_is_read(
    make_config: Callable[..., Any],
    train: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compute: Mapping[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(fit_module, "load_sides", lambda *_: pytest.fail("data were read"))
    with pytest.raises(LunaError, match=message):
        train(make_config(compute=compute), tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
    ],
)
def test_memory_that_is_short_is_told_with_what_to_lower(
    make_config: Callable[..., Any],
    train: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(fit_module, "run_epochs", full)
    with pytest.raises(LunaError, match=r"out of memory on cpu: a batch of 4 × 32×32×32.*loop.accumulate"):
        train(make_config(), tmp_path)


def test_another_error_is_passed_on(
    make_config: Callable[..., Any],
    train: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(fit_module, "run_epochs", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train(make_config(), tmp_path)
    assert run_dir.load_about(tmp_path)["status"] == "failed"


def test_a_status_that_cannot_be_written_hides_no_error(
    make_config: Callable[..., Any],
    train: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise LunaError("the disk is full")

    monkeypatch.setattr(fit_module, "run_epochs", full)
    monkeypatch.setattr(run_dir, "set_status", lambda *_: (_ for _ in ()).throw(LunaError("also full")))
    with pytest.raises(LunaError, match="the disk is full"):
        train(make_config(), tmp_path)


def test_a_share_of_what_there_is_none_of_is_refused(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(LunaError, match=r"sampling.cubes = 0.3, but the data have no such sample"):
        train(make_config(sampling={"cubes": 0.3}), tmp_path)


def test_training_without_a_nodule_is_refused(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(LunaError, match=r"train: no sample holds a nodule: .*wanted one of"):
        train(make_config(sampling={"nodules": 0.0}), tmp_path)


def test_a_run_without_a_checkpoint_is_not_resumed(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path, segmentation_run: Path
) -> None:
    for name in (run_dir.CONFIG, run_dir.ABOUT, run_dir.SPLIT):
        (tmp_path / name).write_bytes((segmentation_run / name).read_bytes())
    with pytest.raises(LunaError, match=r"last.pt: no such file; wanted a checkpoint"):
        train(make_config(), tmp_path, resume=True)


def test_other_data_on_resume_are_named(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path, segmentation_run: Path
) -> None:
    for path in segmentation_run.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    split = json.loads((tmp_path / run_dir.SPLIT).read_text(encoding="utf-8"))
    (tmp_path / run_dir.SPLIT).write_text(json.dumps({**split, "train": ["chest-9"]}), encoding="utf-8")
    with pytest.raises(LunaError, match=r"split.json: train: chest-0 is new \(2 differ\)"):
        train(make_config(), tmp_path, resume=True)


# the beginning


def test_a_frozen_part_is_not_trained(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path, segmentation_run: Path
) -> None:
    start = {"init_from": str(segmentation_run), "frozen": ["stem"], "new": ["head"]}
    run = train(make_config(start=start, **SHORT), tmp_path)
    before, after = (
        load_model(folder / "model.safetensors")[0].state_dict() for folder in (segmentation_run, run)
    )
    stem = [name for name in before if name.startswith("stem.")]
    assert any("running_mean" in name for name in stem)
    assert all(torch.equal(before[name], after[name]) for name in stem)
    assert not torch.equal(before["merge.0.first.0.weight"], after["merge.0.first.0.weight"])


def test_without_an_average_the_model_itself_is_kept(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path
) -> None:
    run = train(make_config(optim={"ema": 0.0}, **SHORT), tmp_path)
    last = load_checkpoint(run / run_dir.LAST, CPU)
    kept = load_model(run / run_dir.MODEL)[0].state_dict()
    assert last["average"] is None
    torch.testing.assert_close(
        kept["head.weight"], last["model"]["head.weight"].half().float(), rtol=0, atol=0
    )


def test_with_an_average_that_is_kept(segmentation_run: Path) -> None:
    card = load_card(segmentation_run / run_dir.MODEL)
    kept = load_model(segmentation_run / run_dir.MODEL)[0].state_dict()
    last = load_checkpoint(segmentation_run / run_dir.LAST, CPU)
    assert card.metrics["epoch"] == 2  # the dice of the second is higher
    assert torch.equal(kept["head.weight"], last["average"]["head.weight"].half().float())
    assert not torch.equal(last["average"]["head.weight"], last["model"]["head.weight"])


def test_malignancy_is_learnt_from_a_classifier_of_nodules(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path
) -> None:
    nodule = train(make_config("nodule", **SHORT), tmp_path / "nodule")
    start = {"init_from": str(nodule), "new": ["heads.malignancy"], "frozen": ["stem", "down.0"]}
    as_before = {"model": {"outline": False}, "loss": {"outline": 0.0}}
    run = train(make_config("malignancy", start=start, **as_before, **SHORT), tmp_path / "malignancy")
    metrics = run_dir.load_history(run)[0]["metrics"]
    assert {"malignancy_auc", "malignancy_auc_of_diameter", "malignancy_brier_of_diameter"} <= metrics.keys()
    before, after = (load_model(folder / run_dir.MODEL)[0].state_dict() for folder in (nodule, run))
    assert torch.equal(before["stem.first.0.weight"], after["stem.first.0.weight"])
    assert not torch.equal(before["heads.malignancy.weight"], after["heads.malignancy.weight"])


def test_malignancy_is_learnt_from_outlines(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path
) -> None:
    run = train(make_config("malignancy", loss={"diameter": 1.0}, **SHORT), tmp_path / "malignancy")
    metrics = run_dir.load_history(run)[0]["metrics"]
    assert {"loss_outline", "loss_outline_dice", "malignancy_auc", "diameter_error_mm"} <= metrics.keys()
    model, card = load_model(run / run_dir.MODEL)
    assert card.arguments["outline"]
    assert model.heads["malignancy"].weight.any()  # it began as zeros
