"""Measure what a second process brings to a diagnosis of many scans and to a training, on this machine alone.

usage: measure_scale.py [--scans 8] [--only diagnose|train]

Phantoms are diagnosed by one and by two workers, processes and Ray's; then a network of the default size is
trained by `torchrun` with one and with two processes, which deal out the same batches. Each has one thread.
Prints a Markdown table; progress on stderr. Rates are medians: over all scans but each worker's first, over
all epochs but the first. An efficiency is what two processes do against twice what one does. About four
minutes on two cores with nothing else running. The training reads the data of data/README.md.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from p2ch_luna.processes import terminable

ROOT = Path(__file__).resolve().parents[1]
LUNA = (sys.executable, "-m", "p2ch_luna")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
ENGINES = ("plain", "ray")
WORKERS = (1, 2)
SPACING_MM = ("1.5", "1.5", "3")  # small files; the networks see 1 mm whatever it is
EPOCHS, STEPS = 5, 12
NETWORK = (  # that of configs/segmentation.toml, on its patches
    "model.widths=[32,64,96,128]",
    "data.shape_irc=[64,64,64]",
    "optim.warmup_steps=1",
    "validation.scans=0",
    "validation.samples=8",
)
ANSWER = re.compile(r"\d+/\d+ ")  # begins a line of `luna diagnose` for each scan


@dataclass(frozen=True)
class Compared:
    """A rate with one process and with two, in whatever unit."""

    what: str
    one: float
    two: float

    @property
    def row(self) -> str:
        """Of a Markdown table."""
        efficiency = self.two / (2 * self.one)
        return f"| {self.what} | {self.one:.2f} | {self.two:.2f} | {efficiency:.0%} |"


@dataclass(frozen=True)
class Said:
    """What a command told of its scans: seconds from its start to each answer and to the end."""

    answers: tuple[float, ...]
    seconds: float

    def scans_a_minute(self, workers: int) -> float:
        """Once all have their networks: by the median time in which as many scans as workers are done.

        Needs more answers than workers.
        """
        pairs = zip(self.answers, self.answers[workers:], strict=False)
        return 60 * workers / statistics.median(later - earlier for earlier, later in pairs)


def listen(command: Sequence[str]) -> Said:
    """Run a command, from the repository, and note when it tells of each scan in a line on stderr.

    Raises RuntimeError if it fails.
    """
    start, answers, lines = time.perf_counter(), [], [""]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stderr or ():
                lines.append(line.strip())
                if ANSWER.match(line):
                    answers.append(time.perf_counter() - start)
        except BaseException:
            process.terminate()  # it ends its own processes in good order
            raise
    if process.returncode:
        why = next((line for line in lines if line.startswith("luna: error")), lines[-1])
        raise RuntimeError(f"{' '.join(command[1:])}: exit code {process.returncode}; wanted 0: {why}")
    return Said(tuple(answers), time.perf_counter() - start)


def environment() -> dict[str, str]:
    """One thread a process, and no cluster beside this machine."""
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return own | {"OMP_NUM_THREADS": "1"}


def diagnosed(count: int, folder: Path) -> list[Compared]:
    """Rates of both engines, and of the whole commands."""
    tell(f"making {count} phantoms")
    scans, made = folder / "scans", []
    listen([*LUNA, "phantom", "-o", str(scans), "--count", str(count), "--format", "nii.gz",
            "--spacing", *SPACING_MM])  # fmt: skip
    for engine in ENGINES:
        said = [diagnose(scans, folder / f"{engine}-{workers}", engine, workers) for workers in WORKERS]
        one, two = (each.scans_a_minute(workers) for each, workers in zip(said, WORKERS, strict=True))
        whole, whole_two = (60 * count / each.seconds for each in said)
        made.append(Compared(f"`luna diagnose --engine {engine}`: scans a minute", one, two))
        made.append(Compared(f"… from its start to its end, {count} scans", whole, whole_two))
    return made


def diagnose(scans: Path, output: Path, engine: str, workers: int) -> Said:
    """All scans, without page and pictures."""
    tell(f"diagnosing, {engine}, workers: {workers}")
    return listen([*LUNA, "diagnose", str(scans), "-o", str(output), "--engine", engine, "--no-html",
                   "--workers", str(workers), "--threads", "1", "--device", "cpu"])  # fmt: skip


def trained(folder: Path) -> list[Compared]:
    """The rate of a training."""
    one, two = (samples_a_second(train(folder, workers)) for workers in WORKERS)
    return [Compared("`torchrun … -m p2ch_luna train`: samples a second", one, two)]


def train(folder: Path, processes: int) -> Path:
    """A run's folder, of `EPOCHS` epochs."""
    tell(f"training, processes: {processes}")
    runs = folder / f"runs-{processes}"
    settings = [*NETWORK, f"loop.epochs={EPOCHS}", f"loop.steps_per_epoch={STEPS}"]
    listen([*TORCHRUN, str(processes), *LUNA[1:], "train", "configs/smoke.toml", "--runs", str(runs),
            "--cache", str(folder / "cache"), "--device", "cpu", "--threads", "1",
            *(word for setting in settings for word in ("--set", setting))])  # fmt: skip
    return next(runs.iterdir())


def samples_a_second(run_folder: Path) -> float:
    """Of all processes of a run: the median over its epochs but the first, which warms up."""
    board = EventAccumulator(str(run_folder))
    board.Reload()
    rates = [float(event.value) for event in board.Scalars("train/samples_per_second")]
    return statistics.median(rates[1:])


def table(made: Sequence[Compared]) -> str:
    """Markdown."""
    head = ["| one thread each | 1 process | 2 processes | efficiency |", "|---|---|---|---|"]
    return "\n".join([*head, *(compared.row for compared in made)])


def tell(line: str) -> None:
    """What is being done."""
    print(line, file=sys.stderr, flush=True)


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--only", choices=("diagnose", "train"))
    options = parser.parse_args(args)
    if options.scans <= max(WORKERS):
        parser.error(f"--scans {options.scans}: wanted more than {max(WORKERS)}, the workers' first ones")
    made: list[Compared] = []
    with terminable(), tempfile.TemporaryDirectory(prefix="luna-scale-") as name:
        if options.only != "train":
            made += diagnosed(options.scans, Path(name))
        if options.only != "diagnose":
            made += trained(Path(name))
    print(table(made))


if __name__ == "__main__":
    main()
