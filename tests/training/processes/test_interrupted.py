"""Runs that are killed or asked to stop, and gone on with."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from p2ch_luna.training import run_dir
from p2ch_luna.training.state import load_checkpoint

SAVER = Path(__file__).with_name("killed_while_saving.py")
IN_EPOCH_1, IN_EPOCH_2, VALIDATING = "training, epoch 1/2", "training, epoch 2/2", "validating"

Start = Callable[..., Any]  # see `conftest.start`
Check = Callable[[Path, Path], None]


def test_a_run_ended_by_sigterm_goes_on_to_the_same_weights(
    start: Start, config: Path, unbroken: Path, check_alike: Check
) -> None:
    training = start(config)
    training.wait_until_it_says(IN_EPOCH_1)
    training.process.send_signal(signal.SIGTERM)
    assert training.ends() == 128 + signal.SIGTERM
    assert f"by SIGTERM; go on with: luna train --resume {training.run}\n" in training.said
    assert "Traceback" not in training.said
    assert training.status == run_dir.INTERRUPTED
    check_alike(start(resume=training.run).ends_well(), unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [IN_EPOCH_2, VALIDATING])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_its_processes_leaves_a_checkpoint(
    start: Start, config: Path, unbroken: Path, check_alike: Check, number: signal.Signals, moment: str
) -> None:
    """Ctrl-C in a terminal reaches the process that loads data as well."""
    training = start(config, "--set", "loop.workers=1")
    training.wait_until_it_says(moment)
    training.signal_all(number)
    assert training.ends() == 128 + number
    assert f"by {number.name}; go on with: luna train --resume {training.run}\n" in training.said
    assert "Traceback" not in training.said
    check_alike(start(resume=training.run).ends_well(), unbroken)


@pytest.mark.slow
def test_a_run_interrupted_twice_goes_on_to_the_same_weights(
    start: Start, config: Path, unbroken: Path, check_alike: Check
) -> None:
    training = start(config)
    for moment in (IN_EPOCH_1, IN_EPOCH_2):
        training.wait_until_it_says(moment)
        training.process.send_signal(signal.SIGTERM)
        assert training.ends() == 128 + signal.SIGTERM
        training = start(resume=training.run)
    check_alike(training.ends_well(), unbroken)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_same_weights(
    start: Start, config: Path, unbroken: Path, check_alike: Check
) -> None:
    training = start(config)
    training.wait_until_it_says(IN_EPOCH_2)
    training.process.kill()
    assert training.ends() == -signal.SIGKILL
    assert load_checkpoint(training.run / run_dir.LAST, torch.device("cpu"))["epoch"] == 1
    check_alike(start(resume=training.run).ends_well(), unbroken)


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_says_that_there_is_none(start: Start, config: Path) -> None:
    training = start(config)
    training.wait_until_it_says(IN_EPOCH_1)
    training.process.kill()
    training.ends()
    resumed = start(resume=training.run)
    assert resumed.ends() == 1
    assert "last.pt: no such file; wanted a run that has a checkpoint" in resumed.said


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    command = [sys.executable, str(SAVER), str(tmp_path), "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "no kill has hit a write"
