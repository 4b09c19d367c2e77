"""Runs that are stopped, go on, stop by themselves or go wrong."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import load_card
from p2ch_luna.training import fit as fit_module
from p2ch_luna.training import run_dir
from p2ch_luna.training.state import load_checkpoint
from p2ch_luna.training.stop import Interrupted
from p2ch_luna.training.tasks import TASKS

CPU = torch.device("cpu")
Config, Train = Callable[..., Any], Callable[..., Path]


class Asks:
    """Asks the run to stop, once, where `at` says so: ("step", 2), ("validating", 1) or ("epoch", 1)."""

    def __init__(self, at: tuple[str, int], signal_number: int = signal.SIGTERM) -> None:
        self.at = at
        self.signal_number = signal_number
        self.has_asked = False

    def loaded(self, item: str) -> None:
        pass

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        self._ask("step", step)

    def validating(self, done: int, total: int) -> None:
        self._ask("validating", done)

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        self._ask("epoch", epoch)

    def _ask(self, what: str, number: int) -> None:
        if self.at == (what, number) and not self.has_asked:
            self.has_asked = True
            os.kill(os.getpid(), self.signal_number)


def last(run: Path) -> dict[str, Any]:
    return load_checkpoint(run / run_dir.LAST, CPU)


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors in nested dictionaries and lists, by their way there."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {key: t for k, v in items for key, t in tensors(v, f"{name}.{k}").items()}


def metrics(run: Path) -> list[dict[str, Any]]:
    return [{**entry, "seconds": None} for entry in run_dir.load_history(run)]


# stopped and resumed


@pytest.mark.parametrize(
    "at",
    [("step", 1), ("step", 3), ("validating", 1), ("validating", 5), ("epoch", 1), ("step", 5)],
    ids=["amid an epoch", "at its last step", "validating", "after the whole scan", "between", "in the last"],
)
def test_a_stopped_run_ends_as_an_unbroken_one(
    segmentation_run: Path, make_config: Config, train: Train, tmp_path: Path, at: tuple[str, int]
) -> None:
    with pytest.raises(Interrupted):
        train(make_config(), tmp_path, Asks(at))
    resumed = train(make_config(), tmp_path, resume=True)
    wanted, found = tensors(last(segmentation_run)), tensors(last(resumed))
    assert {"model", "average", "optimizer"} <= {name.split(".")[1] for name in wanted}
    assert wanted.keys() == found.keys()
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []
    assert metrics(resumed) == metrics(segmentation_run)
    assert (resumed / run_dir.MODEL).read_bytes() == (segmentation_run / run_dir.MODEL).read_bytes()


def test_a_classifier_with_dropout_goes_on_exactly(make_config: Config, train: Train, tmp_path: Path) -> None:
    config = make_config("nodule", loop={"epochs": 1, "workers": 1})
    whole = train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "broken", Asks(("step", 2)))
    resumed = train(config, tmp_path / "broken", resume=True)
    wanted, found = tensors(last(whole)), tensors(last(resumed))
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []


def test_stopped_twice_is_as_good_as_once(
    segmentation_run: Path, make_config: Config, train: Train, tmp_path: Path
) -> None:
    for resume, at in ((False, ("step", 2)), (True, ("step", 4))):
        with pytest.raises(Interrupted):
            train(make_config(), tmp_path, Asks(at), resume=resume)
    resumed = train(make_config(), tmp_path, resume=True)
    assert metrics(resumed) == metrics(segmentation_run)


def test_a_run_that_was_killed_goes_on_from_its_last_epoch(
    segmentation_run: Path, make_config: Config, train: Train, tmp_path: Path
) -> None:
    class Dies(Asks):
        def _ask(self, what: str, number: int) -> None:
            if self.at == (what, number):
                raise KeyboardInterrupt  # no checkpoint is written, as with SIGKILL

    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path, Dies(("step", 5)))
    assert last(tmp_path)["step"] == 3
    resumed = train(make_config(), tmp_path, resume=True)
    assert metrics(resumed) == metrics(segmentation_run)


def test_a_stopped_run_says_where_and_why(make_config: Config, train: Train, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"stopped after step 2 by SIGINT") as stopped:
        train(make_config(), tmp_path, Asks(("step", 2), signal.SIGINT))
    assert stopped.value.signal_number == signal.SIGINT
    assert run_dir.load_about(tmp_path)["status"] == "interrupted"
    assert (last(tmp_path)["step"], last(tmp_path)["step_in_epoch"], last(tmp_path)["epoch"]) == (2, 2, 0)


def test_a_run_that_was_ended_at_once_is_interrupted_too(
    make_config: Config, train: Train, tmp_path: Path
) -> None:
    class Twice(Asks):
        def _ask(self, what: str, number: int) -> None:
            if self.at == (what, number):
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path, Twice(("step", 1)))
    assert run_dir.load_about(tmp_path)["status"] == "interrupted"


def test_handlers_are_as_before_a_run(make_config: Config, train: Train, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Interrupted):
        train(make_config(), tmp_path, Asks(("step", 1)))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler has some of its own
def test_a_compiled_network_trains_as_the_same_uncompiled(
    segmentation_run: Path, make_config: Config, train: Train, tmp_path: Path
) -> None:
    run = train(make_config(compute={"compile": True}), tmp_path)
    wanted, found = (run_dir.load_history(folder)[1]["metrics"] for folder in (segmentation_run, run))
    assert found["train_loss_dice"] == pytest.approx(wanted["train_loss_dice"], rel=0.02)
    assert load_card(run / run_dir.MODEL).metrics["epoch"] == 2


# gone wrong


def test_a_diverged_run_keeps_its_last_good_state(
    make_config: Config, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, bytes] = {}

    class Spoils(Asks):
        def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
            kept.update({name: (tmp_path / name).read_bytes() for name in (run_dir.LAST, run_dir.MODEL)})
            whole = TASKS["segmentation"].totals
            spoilt = lambda *given: {k: v * float("nan") for k, v in whole(*given).items()}  # noqa: E731
            object.__setattr__(task, "totals", spoilt)

    task = replace(TASKS["segmentation"])
    monkeypatch.setattr(fit_module, "TASKS", {"segmentation": task})
    with pytest.raises(LunaError, match=r"training diverged at step 4: .*nan.*wanted finite numbers"):
        train(make_config(), tmp_path, Spoils(("step", 0)))
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    assert run_dir.load_about(tmp_path)["status"] == "failed"


def test_a_full_disk_leaves_the_checkpoint_before(
    make_config: Config, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, bytes] = {}

    class Fills(Asks):
        def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
            if epoch == 1:
                kept["last"] = (tmp_path / run_dir.LAST).read_bytes()
                monkeypatch.setattr(Path, "write_bytes", full)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(LunaError, match=r"(last.pt|model\.\w+): cannot be written: No space left"):
        train(make_config(), tmp_path, Fills(("step", 0)))
    assert (tmp_path / run_dir.LAST).read_bytes() == kept["last"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert run_dir.load_about(tmp_path)["status"] == "failed"
