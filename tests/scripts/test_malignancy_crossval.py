"""The cross-validation of malignancy: which folds train and judge, and what is done again after a stop."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "malignancy_crossval.sh"
LUNA = r"""#!/usr/bin/env bash
# Notes its arguments and leaves what the real one would; stops in a training whose folder is named $STOP.
echo "$*" >>calls.txt
if [ "$1" = train ]; then
  if [ "$2" = --resume ]; then run=$3; else run="${*: -1}/malignancy-1"; fi
  mkdir -p "$run"
  touch "$run/last.pt"
  if [ -n "${STOP:-}" ] && [[ $run == */$STOP/* ]]; then
    echo '"status": "interrupted"' >"$run/run.json"
    exit 130
  fi
  echo '"status": "finished"' >"$run/run.json"
fi
echo "$1 says this"
"""
ALL = set(range(10))

Call = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Calls the script with a `luna` that does nothing; its exit status and the calls of `luna`."""
    (tmp_path / "luna").write_text(LUNA, encoding="utf-8")
    (tmp_path / "luna").chmod(0o755)

    def go(*arguments: str, stop: str = "") -> tuple[int, list[str]]:
        (tmp_path / "calls.txt").write_text("")
        environment = {**os.environ, "LUNA": str(tmp_path / "luna"), "STOP": stop}
        done = subprocess.run(
            ["bash", SCRIPT, "out", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        return done.returncode, (tmp_path / "calls.txt").read_text().splitlines()

    return go


def folds(call: str, side: str) -> set[int]:
    listed = call.partition(f"data.{side}_folds=[")[2].partition("]")[0]
    return {int(fold) for fold in listed.split(",")}


def test_every_fold_judges_once_and_trains_elsewhere(call: Call) -> None:
    status, (*trainings, judging) = call()
    assert status == 0
    judges = [folds(training, "validation") for training in trainings]
    assert sorted(fold for both in judges for fold in both) == sorted(ALL)
    assert [folds(training, "train") for training in trainings] == [ALL - both for both in judges]
    runs = " ".join(f"out/folds-{a}-{a + 1}/malignancy-1" for a in (0, 2, 4, 6, 8))
    assert judging == f"malignancy {runs} --places 4 --output out"


def test_options_go_to_every_training(call: Call) -> None:
    _, (*trainings, _) = call("other.toml", "--set", "loop.steps_per_epoch=2")
    assert all(training.startswith("train other.toml ") for training in trainings)
    assert all("--set loop.steps_per_epoch=2 --runs" in training for training in trainings)


def test_stopped_it_goes_on_where_it_was(call: Call) -> None:
    status, before = call(stop="folds-4-5")
    assert status != 0
    assert len(before) == 3
    status, after = call()
    assert status == 0
    assert after[0] == "train --resume out/folds-4-5/malignancy-1"
    assert [folds(training, "validation") for training in after[1:-1]] == [{6, 7}, {8, 9}]
    assert after[-1].startswith("malignancy ")
    assert call()[1] == after[-1:]
