"""How fast a training goes, what it does beside computing gradients, and whether its memory grows."""

from __future__ import annotations

import importlib.util
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from p2ch_luna.metrics.froc import Froc
from p2ch_luna.models.checkpoint import ModelCard, save_model
from p2ch_luna.training import board, run_dir
from p2ch_luna.training.bench_data import Figure, megabytes
from p2ch_luna.training.bench_step import (
    Sizes,
    Training,
    classifier,
    plain_step,
    seconds_in_turns,
    segmentation,
    small_segmentation,
)
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.host_memory import keep_freed_memory
from p2ch_luna.training.loop import EpochResult, observe_all
from p2ch_luna.training.whole_scans import ScanScore

STEPS_PER_EPOCH = 500  # of configs/segmentation.toml and segmentation-gpu.toml
STEPS_A_TURN = {"cuda": 40}  # elsewhere 1; on a GPU the loop waits once in 20 steps
OWN_MEMORY = Path("/proc/self/smaps_rollup")  # Linux only
SAMPLED_EVERY = 0.1  # seconds, of a GPU's utilisation


def measure(
    device: torch.device,
    folder: Path,
    stage: Callable[[str], None],
    *,
    steps: int = 40,
    memory_steps: int = 1000,
) -> Iterator[Figure]:
    """Every figure in turn; what is written goes into `folder`. Bounds are those of two CPU cores."""
    keep_freed_memory()
    training = segmentation(device)
    stage("training steps beside those in plain float32")
    yield from _plain_figures(training, steps, device)
    stage("what a step does beside computing gradients")
    overhead, seconds = _overhead_figures(training, steps, device)
    yield from overhead
    stage("what an epoch writes")
    yield from _writing_figures(training, folder, seconds)
    if device.type == "cuda":
        stage("how busy the GPU is")
        yield from _gpu_figures(training, steps, stage)
    stage("training steps of the classifier")
    yield from _classifier_figures(steps, device)
    if OWN_MEMORY.exists():
        stage(f"memory over {memory_steps} steps")
        with get_context("spawn").Pool(1) as pool:  # apart: what was done before would free memory in it
            grown = pool.apply(_growth_mb, (str(device), folder, memory_steps))
        yield Figure(f"growth of its own memory over {memory_steps} steps", grown, "MB", 10.0)
    else:
        stage("memory over many steps: not measured, as this system does not tell a process's own")


def _plain_figures(training: Training, steps: int, device: torch.device) -> Iterator[Figure]:
    ready = training.ready()
    asked = str(device), torch.get_num_threads()
    with get_context("spawn").Pool(1) as pool:
        works = {"ours": lambda: training.step(ready), "plain": lambda: pool.apply(plain_step, asked)}
        seconds = seconds_in_turns(works, max(3, steps // 4), device)
    bound = 3.0 if device.type == "cpu" else None
    yield Figure(f"a training step on {training.size}, plain float32", _ms(seconds["plain"]), "ms")
    yield Figure(f"a training step on {training.size}", _ms(seconds["ours"]), "ms")
    ratio = float(np.median(seconds["plain"] / seconds["ours"]))
    yield Figure("… against plain float32", ratio, "times", bound, at_least=True)


def _overhead_figures(training: Training, steps: int, device: torch.device) -> tuple[list[Figure], float]:
    """Of each turn the share that the bare steps do not take; also the seconds of a whole step."""
    per_turn = STEPS_A_TURN.get(device.type, 1)
    ready = training.ready()
    draws, same_draws = itertools.count(), itertools.count()
    seconds = seconds_in_turns(
        {
            "whole": lambda: training.epoch(per_turn, first=next(draws)),
            "bare": lambda: training.bare(ready, per_turn),
            "augmentation": lambda: training.augment(per_turn, first=next(same_draws)),
            "average": lambda: training.average(per_turn),
        },
        max(3, steps // per_turn),
        device,
    )
    whole = seconds["whole"]

    def share(part: str) -> float:
        return 100 * float(np.median(seconds[part] / whole))

    rest = 100 - share("bare")
    step = float(np.median(whole)) / per_turn
    return [
        Figure("a step with all that belongs to it", 1e3 * step, "ms"),
        Figure("… its speed", len(training.batch.hu) / step, "samples a second"),
        Figure("… outside forward, loss, backward and optimiser", rest, "% of the step", 5.0),
        Figure("… … augmentation", share("augmentation"), "% of the step"),
        Figure("… … average of the weights", share("average"), "% of the step"),
    ], step


def _writing_figures(training: Training, folder: Path, step_seconds: float) -> Iterator[Figure]:
    """Everything that an epoch of the default config writes, if it is the best so far."""
    evaluation, score = _evaluation(training), _scan_score()
    result = training.epoch(1)
    writer = board.open_board(folder, 0)
    works = {
        "board": lambda: _show_all(training, writer, result, evaluation, score),
        "files": lambda: _keep_all(training, folder),
    }
    seconds = {
        name: float(np.median(s)) for name, s in seconds_in_turns(works, 3, torch.device("cpu")).items()
    }
    writer.close()
    yield Figure("TensorBoard, an epoch", seconds["board"], "s")
    yield Figure("checkpoint and model, an epoch", seconds["files"], "s")
    share = 100 * sum(seconds.values()) / (STEPS_PER_EPOCH * step_seconds)
    yield Figure(f"… both, against {STEPS_PER_EPOCH} steps", share, "% of the time", 3.0)


def _show_all(
    training: Training, writer: SummaryWriter, result: EpochResult, evaluation: Evaluation, score: ScanScore
) -> None:
    """All that goes to TensorBoard in an epoch and once in a run."""
    state, device = training.state, training.world.device
    board.log_config(writer, "seed = 0\n" * 100, "software")
    shown = training.task.show(training.batch, training.augmented(training.batch, 0))
    writer.add_image("augmentation", shown, 0, dataformats="HWC")
    curves = board.LiveCurves(writer, 1)
    figures = {**result.losses, "gradient_norm": result.gradient_norm}
    for step in range(STEPS_PER_EPOCH):
        curves.add(step, figures, 1e-3)
    board.log_training(writer, result, 1e-3, device, STEPS_PER_EPOCH)
    board.log_evaluation(writer, evaluation, STEPS_PER_EPOCH)
    board.log_scans(writer, score, STEPS_PER_EPOCH)
    board.log_weights(writer, state.judged, STEPS_PER_EPOCH)
    board.log_card(writer, _card(), STEPS_PER_EPOCH)
    board.log_settings(writer, {"optim": {"lr": 1e-3}}, evaluation.metrics, STEPS_PER_EPOCH)
    writer.flush()


def _keep_all(training: Training, folder: Path) -> None:
    """All files that an epoch leaves."""
    save_model(folder / run_dir.MODEL, training.state.judged, _card())
    training.state.save(folder / run_dir.LAST)
    run_dir.save_history(folder, training.state.history)


def _evaluation(training: Training) -> Evaluation:
    """As of a validation of the device's config, from a few batches seen over and over."""
    n_batches = Sizes.on(training.world.device).validation_samples // len(training.batch.hu)
    n_seen = 4
    seen = observe_all(
        training.state.judged,
        [training.batch] * n_seen,
        lambda output, batch: training.task.observe(output, batch, training.how),
        plain=training.task.plain,
        device=training.world.device,
    )
    return training.task.summarise(seen * (n_batches // n_seen), training.how, None)


def _scan_score() -> ScanScore:
    """A curve of a hundred marks."""
    rising = np.linspace(0.0, 1.0, 101)
    metrics = {"cpm": 0.5, "sensitivity_at_1_fp": 0.4, "sensitivity_at_4_fp": 0.6}
    return ScanScore(metrics, Froc(50 * rising, rising, 1 - rising), n_scans=2, n_nodules=20)


def _card() -> ModelCard:
    return ModelCard(
        builder="segmentation_unet", arguments={}, config={}, data=[], split={}, metrics={}, software=""
    )


def _gpu_figures(training: Training, steps: int, stage: Callable[[str], None]) -> Iterator[Figure]:
    """Of one long turn, in which nothing but the training waits for the GPU."""
    device = training.world.device
    torch.cuda.reset_peak_memory_stats(device)
    with _sampled(device) as percents:
        result = training.epoch(10 * steps)
    yield Figure("samples a second on the GPU", result.samples_per_second, "a second")
    yield Figure("the GPU's memory, at most", board.memory_mb(device), "MB")
    if percents:
        yield Figure("the GPU is busy", float(np.mean(percents)), "% of the time")
    else:
        stage("the GPU's utilisation: not measured, which needs nvidia-ml-py")


@contextmanager
def _sampled(device: torch.device) -> Iterator[list[float]]:
    """The GPU's utilisation in percent, again and again; nothing where it cannot be asked for."""
    percents: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLED_EVERY):
            percents.append(float(torch.cuda.utilization(device)))

    if importlib.util.find_spec("pynvml") is None:
        yield percents
        return
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield percents
    finally:
        done.set()
        watcher.join()


def _classifier_figures(steps: int, device: torch.device) -> Iterator[Figure]:
    training = classifier(device)
    ready = training.ready()
    seconds = seconds_in_turns({"step": lambda: training.step(ready)}, max(3, steps // 8), device)["step"]
    yield Figure(f"a training step of the classifier on {training.size}", _ms(seconds), "ms")
    yield Figure("… its speed", len(training.batch.hu) / float(np.median(seconds)), "samples a second")


def _growth_mb(device: str, folder: Path, steps: int) -> float:
    """Of this process's own memory, in small steps that are logged, from their second tenth to their last.

    Of each tenth the lowest of ten looks: what a step holds for a moment comes and goes.
    """
    keep_freed_memory()
    training = small_segmentation(torch.device(device))
    writer = board.open_board(folder, 0)
    curves = board.LiveCurves(writer, 1)
    numbers = itertools.count(1)
    own: dict[int, list[float]] = {1: [], 9: []}  # by tenths behind

    def on_step(figures: Mapping[str, float]) -> None:
        step = next(numbers)
        curves.add(step, figures, 1e-3)
        looks = own.get((step - 1) * 10 // steps)
        if looks is not None and step % max(1, steps // 100) == 0:
            looks.append(megabytes(os.getpid(), "smaps_rollup", "Private_Clean", "Private_Dirty"))

    training.epoch(steps, on_step)
    writer.close()
    return min(own[9]) - min(own[1])


def _ms(seconds: NDArray[np.float64]) -> float:
    return 1e3 * float(np.median(seconds))
