"""Stopped, killed or torn: a fold goes on to the same end."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.cli import _training
from p2ch_luna.training import run_dir

from .conftest import BOTH, CHEST, Crossval, Done, result_in, weights_in


def test_a_fold_that_is_stopped_in_training_goes_on_to_the_same_weights(
    segmentations: Done,
    configs: dict[str, Path],
    crossval: Crossval,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Stopping(_training._Shown):
        def step(self, step: int, total: int, figures: Any) -> None:
            super().step(step, total, figures)
            if step == 2:
                signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(_training, "_Shown", Stopping)
        assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 128 + signal.SIGTERM
    said = capsys.readouterr().err
    assert "luna: fold 2: stopped after step 2 by SIGTERM; the same command goes on from there" in said
    assert not (tmp_path / "crossval.json").exists()
    assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 0
    assert "fold 2: segmentation: going on" in capsys.readouterr().err
    for fold in CHEST:
        run = Path(f"fold-{fold}") / "segmentation"
        assert weights_in(tmp_path / run) == weights_in(segmentations.out / run)
    assert result_in(tmp_path) == segmentations.result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_scans_are_diagnosed_keeps_the_training(
    segmentations: Done,
    configs: dict[str, Path],
    crossval: Crossval,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    shutil.copytree(segmentations.out, tmp_path, dirs_exist_ok=True)
    for name in ("fold-2/fold.json", "crossval.json"):
        (tmp_path / name).unlink()

    def stopped(*_: object) -> None:
        signal.raise_signal(number)
        time.sleep(5)  # Python hears it here, and not at some later line

    with monkeypatch.context() as patch:
        patch.setattr("p2ch_luna.cli._folds._search", stopped)
        assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 128 + number
    assert f"fold 2: stopped by {number.name}; the same command goes on" in capsys.readouterr().err
    assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 0
    assert "fold 2: segmentation: trained before" in capsys.readouterr().err
    assert result_in(tmp_path) == segmentations.result


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(
    segmentations: Done, configs: dict[str, Path], crossval: Crossval, tmp_path: Path
) -> None:
    run = tmp_path / "fold-7" / "segmentation"
    run.mkdir(parents=True)
    for name in (run_dir.CONFIG, run_dir.ABOUT, run_dir.SPLIT):
        shutil.copy(segmentations.out / "fold-7" / "segmentation" / name, run)
    run_dir.set_status(run, run_dir.RUNNING)
    assert crossval(configs["segmentation"], *BOTH, "--only", "7", out=tmp_path) == 0
    assert weights_in(run) == weights_in(segmentations.out / "fold-7" / "segmentation")
