"""What a config asks for against what there is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.config import as_toml
from p2ch_luna.errors import LunaError
from p2ch_luna.training import run_dir


@pytest.fixture
def stopped(segmentation_run: Path, tmp_path: Path) -> Path:
    """A copy of a run, to be gone on with."""
    return Path(shutil.copytree(segmentation_run, tmp_path / "run"))


def test_a_run_whose_config_was_edited_is_not_resumed(
    stopped: Path, make_config: Callable[..., Any], train: Callable[..., Path]
) -> None:
    edited = make_config(optim={"lr": 1e-4})
    (stopped / run_dir.CONFIG).write_text(as_toml(edited), encoding="utf-8")
    with pytest.raises(LunaError, match=r"config.toml: optim.lr is .* as .*last.pt says the run began"):
        train(edited, stopped, resume=True)


def test_a_run_whose_model_is_gone_is_not_resumed(
    stopped: Path, make_config: Callable[..., Any], train: Callable[..., Path]
) -> None:
    (stopped / run_dir.MODEL).unlink()
    with pytest.raises(LunaError, match=r"model.safetensors: is gone, the model of epoch \d"):
        train(make_config(), stopped, resume=True)


def test_a_trace_longer_than_an_epoch_is_refused(
    make_config: Callable[..., Any], train: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(
        LunaError, match=r"compute.profile_steps = 10 in epochs of 3 steps; wanted 4 steps more"
    ):
        train(make_config(compute={"profile_steps": 10}), tmp_path / "run")
