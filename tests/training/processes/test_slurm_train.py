"""`scripts/slurm_train.sh` on one host, with an srun and a scontrol that do the little it wants of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.training import run_dir

SCRIPT = Path(__file__).parents[3] / "scripts" / "slurm_train.sh"
SRUN = '#!/bin/sh\nshift\nexec "$@"\n'  # without its only option
SCONTROL = '#!/bin/sh\n[ "$1" = show ] && echo localhost || echo "$@" >> "$REQUESTS"\n'

pytestmark = pytest.mark.slow


@pytest.fixture
def job(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a job of one host with two processes."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "REQUESTS": str(tmp_path / "requests"),
        "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2", "LUNA_PYTHON": sys.executable, "LUNA_RUNS": str(tmp_path / "runs"),
    }  # fmt: skip


def test_a_job_that_reaches_its_limit_is_queued_again_and_goes_on(
    launch: Callable[..., Any], config: Path, job: Mapping[str, str], tmp_path: Path
) -> None:
    command, runs = ["bash", SCRIPT, config, "--device", "cpu"], tmp_path / "runs" / "slurm-7"
    first = launch(command, runs, job)
    first.wait_until_it_says("training, epoch 1/2")
    first.process.send_signal(signal.SIGTERM)
    assert first.ends() != 0
    assert (tmp_path / "requests").read_text(encoding="utf-8") == "requeue 7\n"
    second = launch(command, runs, job)
    assert run_dir.load_about(second.ends_well())["status"] == run_dir.FINISHED
    assert "epoch 2/2" in second.said
    assert (tmp_path / "requests").read_text(encoding="utf-8") == "requeue 7\n"
