"""What the tests of whole runs share: small chests, a config that trains on them, and processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.io import write_ct, write_nodules
from p2ch_luna.training import run_dir
from p2ch_luna.training.state import load_checkpoint

ROOT = Path(__file__).parents[3]
TRAIN_UIDS, TRAIN_FOLD = ("chest-15", "chest-22"), 0  # the name decides the fold
VALIDATION_UIDS, VALIDATION_FOLD = ("chest-4", "chest-6", "chest-10"), 1
ON_CPU = ("--device", "cpu", "--threads", "1")
SECONDS = 120.0  # that a run may take, on a machine that has other things to do


def make_chest(series_uid: str, rng: np.random.Generator) -> tuple[CtVolume, list[Nodule]]:
    """A block of tissue with a block of lung in it, 80 x 128 x 128 mm, and four nodules in that."""
    hu = np.full((40, 64, 64), AIR_HU, np.float32)
    hu[:, 4:-4, 4:-4] = 40.0
    hu[4:-4, 10:-10, 10:-10] = -850.0
    geometry = ImageGeometry(np.zeros(3), np.full(3, 2.0), np.eye(3))
    index, row, col = np.indices(hu.shape)
    nodules = []
    for (r, c), radius in zip([(20, 20), (20, 44), (44, 20), (44, 44)], (3.0, 4.0, 5.0, 6.0), strict=True):
        i = int(rng.integers(14, 26))
        hu[(index - i) ** 2 + (row - r) ** 2 + (col - c) ** 2 <= radius**2] = 30.0
        x, y, z = (float(v) for v in geometry.to_xyz((i, r, c)))
        nodules.append(Nodule(series_uid, (x, y, z), 4 * radius))
    return CtVolume(series_uid, hu + rng.normal(0, 20, hu.shape).astype(np.float32), geometry), nodules


@pytest.fixture(scope="session")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scans of two folds, and their nodules."""
    folder = tmp_path_factory.mktemp("chests")
    rng, truth = np.random.default_rng(0), []
    for uid in (*TRAIN_UIDS, *VALIDATION_UIDS):
        ct, nodules = make_chest(uid, rng)
        write_ct(folder / f"{uid}.mhd", ct)
        truth += nodules
    write_nodules(folder / "annotations.csv", truth)
    return folder


@pytest.fixture(scope="session")
def config(chests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation of two epochs of ten steps, whole scans searched after each."""
    tables: dict[str, Any] = tomllib.loads((ROOT / "configs" / "smoke.toml").read_text(encoding="utf-8"))
    tables["data"] |= {
        "lidc": "", "hosts": [], "validation_hosts": [], "scans": [str(chests)],
        "annotations": str(chests / "annotations.csv"),
        "train_folds": [TRAIN_FOLD], "validation_folds": [VALIDATION_FOLD],
    }  # fmt: skip
    tables["sampling"] |= {"nodules": 0.5, "lung": 0.5, "implants": 0.0}
    tables["model"] |= {"widths": [4, 8]}
    tables["optim"] |= {"warmup_steps": 2, "ema": 0.9}
    tables["loop"] |= {"epochs": 2, "steps_per_epoch": 10, "batch_size": 4}
    tables["validation"] |= {"samples": 10, "scans": len(VALIDATION_UIDS)}
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(tomli_w.dumps(tables), encoding="utf-8")
    return path


@dataclass(frozen=True, eq=False)
class Training:
    """A `luna train` that was started, in a process group of its own."""

    process: subprocess.Popen[bytes]
    log: Path  # what it says
    runs: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def status(self) -> str:
        return str(json.loads((self.run / run_dir.ABOUT).read_text(encoding="utf-8"))["status"])

    @property
    def run(self) -> Path:
        """Its folder, the only one."""
        (run,) = self.runs.iterdir()
        return run

    def wait_until_it_says(self, text: str) -> None:
        end = time.monotonic() + SECONDS
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def ends(self) -> int:
        """Its exit code."""
        return self.process.wait(SECONDS)

    def ends_well(self) -> Path:
        """The folder of the run."""
        assert self.ends() == 0, self.said
        return self.run

    def end(self) -> None:
        """Whatever it is doing. torchrun's processes are not of its group: it ends them itself, if it can."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(SECONDS)
        with suppress(ProcessLookupError):
            self.signal_all(signal.SIGKILL)
        self.process.wait()

    def signal_all(self, number: signal.Signals) -> None:
        """As a terminal does: also to the processes that it has started, if they stayed in its group."""
        os.killpg(self.process.pid, number)


Launch = Callable[[Sequence[object], Path, Mapping[str, str]], Training]
Start = Callable[..., Training]


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Start a command that trains into the folder `runs`, with additions to the environment."""
    shared = tmp_path_factory.mktemp("trainings")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(shared)}
    started: list[Training] = []

    def begin(command: Sequence[object], runs: Path, additions: Mapping[str, str]) -> Training:
        path = shared / f"{len(started)}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [*map(str, command)], cwd=ROOT, env=environment | additions, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        started.append(Training(process, path, runs))
        return started[-1]

    yield begin
    for training in started:
        training.end()


@pytest.fixture(scope="session")
def start(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start `luna train` with these arguments and `processes`; with `resume`, in that run's folder."""

    def begin(
        *arguments: object, processes: int = 1, resume: Path | None = None, script: Path | None = None
    ) -> Training:
        runs = resume.parent if resume else tmp_path_factory.mktemp("runs")
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
        command = [sys.executable, *(torchrun if processes > 1 else [])]
        command += [script] if script else ["-m", "p2ch_luna"]
        command += ["train", "--runs", runs, *ON_CPU, *arguments, *(["--resume", resume] if resume else [])]
        return launch(command, runs, {})

    return begin


@pytest.fixture(scope="session")
def unbroken(start: Start, config: Path) -> Path:
    """The run of `config` that nobody has stopped."""
    return start(config).ends_well()


def _check_alike(run: Path, other: Path) -> None:
    own, wanted = (load_checkpoint(folder / run_dir.LAST, torch.device("cpu")) for folder in (run, other))
    for name in ("model", "average", "optimizer", "scheduler", "step", "epoch", "best", "best_epoch"):
        torch.testing.assert_close(own[name], wanted[name], rtol=0, atol=0, msg=name)
    metrics = ([entry["metrics"] for entry in run_dir.load_history(folder)] for folder in (run, other))
    assert next(metrics) == next(metrics)
    assert (run / run_dir.MODEL).read_bytes() == (other / run_dir.MODEL).read_bytes()


@pytest.fixture(scope="session")
def check_alike() -> Callable[[Path, Path], None]:
    """Fails unless two runs have ended with the same state, metrics and model, to the last bit."""
    return _check_alike
