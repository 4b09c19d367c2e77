"""`torchrun -m p2ch_luna train`: several processes train one network on the CPU."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.models.checkpoint import bundled
from p2ch_luna.training import run_dir

FAILING = Path(__file__).with_name("failing.py")
WEIGHTS = bundled("segmentation")
# The bundled network, only its last layer trained, and that by less than float32 can tell.
FIXED_WEIGHTS = [
    f"start.init_from={json.dumps(str(WEIGHTS))}", 'start.frozen=["stem", "down", "up", "merge"]',
    f"model.widths={json.loads(WEIGHTS.with_suffix('.json').read_text(encoding='utf-8'))['arguments']['widths']}",
    "optim.lr=1e-30", "optim.warmup_steps=0", "optim.ema=0", "loop.epochs=1", "loop.steps_per_epoch=2",
    "augmentation.noise_hu=0",  # the noise of each process is its own
]  # fmt: skip

Start = Callable[..., Any]  # see `conftest.start`
Check = Callable[[Path, Path], None]

pytestmark = pytest.mark.slow


def settings(*values: str) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def metrics_of(run: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Of the first epoch: those of the validation, and the losses of the training."""
    metrics: Mapping[str, float] = run_dir.load_history(run)[0]["metrics"]
    train = {name: value for name, value in metrics.items() if name.startswith("train_")}
    return {name: value for name, value in metrics.items() if name not in train}, train


def left_of(training: Any) -> list[int]:
    """The processes of a run that are there still, without torchrun."""
    mark = f"--runs\0{training.runs}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if mark in words and b"torch.distributed.run" not in words:
            found.append(int(path.parent.name))
    return found


def rank_of(pid: int) -> int:
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return int(next(line for line in environment if line.startswith(b"RANK=")).removeprefix(b"RANK="))


@pytest.fixture(scope="module")
def alone(start: Start, config: Path) -> Path:
    """A run of one process whose weights do not change."""
    return start(config, *settings(*FIXED_WEIGHTS)).ends_well()


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest, start: Start, config: Path) -> Path:
    """The same of several processes."""
    return start(config, *settings(*FIXED_WEIGHTS), processes=request.param).ends_well()


def test_the_validation_is_that_of_one_process_to_the_last_bit(together: Path, alone: Path) -> None:
    of_many, of_one = (metrics_of(run)[0] for run in (together, alone))
    assert of_many == of_one
    assert of_one["cpm"] > 0
    assert 0 < of_one["dice"] < 1


def test_the_losses_of_the_training_are_those_of_one_process(together: Path, alone: Path) -> None:
    of_many, of_one = (metrics_of(run)[1] for run in (together, alone))
    assert set(of_one) == {"train_loss_focal", "train_loss_dice"}
    assert of_many == pytest.approx(of_one, rel=1e-4)


def test_only_the_first_process_writes(together: Path) -> None:
    names = sorted(path.name for path in together.iterdir())
    assert len([name for name in names if name.startswith("events.")]) == 1
    assert [name for name in names if not name.startswith("events.")] == [
        "config.toml", "history.json", "last.pt", "model.json", "model.safetensors", "run.json", "split.json",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pair(start: Start, config: Path) -> Path:
    """The run of two processes that nobody has stopped."""
    return start(config, processes=2).ends_well()


def test_a_run_of_two_processes_ends_alike_each_time(
    start: Start, config: Path, pair: Path, check_alike: Check
) -> None:
    check_alike(start(config, processes=2).ends_well(), pair)


@pytest.mark.parametrize("moment", ["training, epoch 1/2", "validating", "training, epoch 2/2"])
def test_sigterm_to_torchrun_leaves_a_checkpoint_to_go_on_from(
    start: Start, config: Path, pair: Path, check_alike: Check, moment: str
) -> None:
    training = start(config, processes=2)
    training.wait_until_it_says(moment)
    training.process.send_signal(signal.SIGTERM)
    assert training.ends() != 0
    hint = f"by SIGTERM; go on with: torchrun … -m p2ch_luna train --resume {training.run}\n"
    assert training.said.count(hint) == 1
    assert training.status == run_dir.INTERRUPTED
    check_alike(start(resume=training.run, processes=2).ends_well(), pair)


@pytest.mark.parametrize("processes", [2, 4])
def test_a_failure_of_one_ends_all_with_its_message(start: Start, config: Path, processes: int) -> None:
    training = start(config, processes=processes, script=FAILING)
    training.wait_until_it_says("training, epoch 1/2")
    begin = time.monotonic()
    assert training.ends() != 0
    assert time.monotonic() - begin < 30
    assert "luna: error: chest-15.mhd: 3 slices; wanted more\n" in training.said
    assert training.status == run_dir.FAILED
    assert left_of(training) == []


def test_a_killed_process_ends_the_other_with_a_line_that_says_so(start: Start, config: Path) -> None:
    training = start(config, processes=2)
    training.wait_until_it_says("training, epoch 1/2")
    victim = next(
        pid for pid in left_of(training) if b"RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()
    )
    os.kill(victim, signal.SIGKILL)
    assert training.ends() != 0
    assert "luna: error: process 0: the way to the other processes is lost" in training.said
    assert left_of(training) == []
