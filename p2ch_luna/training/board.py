"""What TensorBoard shows: `steps/` live; `train/`, `validation/`, `scans/`, `weights/` once an epoch."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import profile, schedule, tensorboard_trace_handler
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from p2ch_luna.models.checkpoint import ModelCard
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.event_file import RunWriter
from p2ch_luna.training.figures import calibration_figure, drawn, froc_figure, roc_figure
from p2ch_luna.training.loop import EpochResult
from p2ch_luna.training.whole_scans import ScanScore

STEPS_A_POINT = 20  # of the live curves
PR_THRESHOLDS = 127
PROFILE_AFTER = 4  # steps that come before a trace
PROFILE = "profile"  # folder in the run's
MAIN = (  # metrics that compare runs
    "cpm",
    "dice",
    "sensitivity",
    "f1",
    "nodule_auc",
    "malignancy_auc",
    "malignancy_auc_of_diameter",
    "loss",
    "epoch",
)

Setting = bool | str | float


def open_board(run: Path, step: int) -> SummaryWriter:
    """The run's event file; what an interrupted run wrote after `step` is not shown.

    Where its disk does not take it, a warning says so, and from then on nothing is shown.
    """
    return RunWriter(run, step)


class LiveCurves:
    """Means of every `STEPS_A_POINT` steps, written while an epoch runs; of the main process's share.

    The last point of an epoch is of the steps that are left over.
    """

    def __init__(self, writer: SummaryWriter, processes: int) -> None:
        self._writer = writer
        self._processes = processes
        self._sums: dict[str, float] = {}
        self._count = 0
        self._step, self._lr = 0, 0.0  # the last

    def add(self, step: int, figures: Mapping[str, float], lr: float) -> None:
        """The figures of one step, and its learning rate."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._step, self._lr = step, lr
        if self._count >= STEPS_A_POINT:
            self.flush()

    def flush(self) -> None:
        """Write a point of the steps since the last one, if there are any."""
        if not self._count:
            return
        step = self._step
        means = {name: total / self._count for name, total in self._sums.items()}
        norm = means.pop("gradient_norm")
        for name, value in means.items():
            self._writer.add_scalar(f"steps/loss_{name}", value * self._processes, step)
        self._writer.add_scalar("steps/loss", sum(means.values()) * self._processes, step)
        self._writer.add_scalar("steps/gradient_norm", norm, step)
        self._writer.add_scalar("steps/lr", self._lr, step)
        self._sums, self._count = {}, 0


def log_config(writer: SummaryWriter, config_toml: str, software: str) -> None:
    """The whole config as text."""
    writer.add_text("config", f"{software}\n\n```toml\n{config_toml}\n```", 0)


def log_training(
    writer: SummaryWriter, result: EpochResult, lr: float, device: torch.device, step: int
) -> None:
    """Scalars of an epoch under `train/`; those that are no numbers are left out."""
    values = {f"loss_{name}": value for name, value in result.losses.items()} | {
        "loss": sum(result.losses.values()),
        "gradient_norm": result.gradient_norm,
        "samples_per_second": result.samples_per_second,
        "waiting_share": result.waiting_share,
        "memory_mb": memory_mb(device),
        "lr": lr,
    }
    for name, value in values.items():
        if math.isfinite(value):
            writer.add_scalar(f"train/{name}", value, step)


def log_evaluation(writer: SummaryWriter, evaluation: Evaluation, step: int) -> None:
    """Scalars, curves and pictures under `validation/`."""
    for name, value in evaluation.metrics.items():
        writer.add_scalar(f"validation/{name}", value, step)
    for name, (truth, probability) in evaluation.curves.items():
        if len(truth):
            writer.add_pr_curve(
                f"validation/precision_recall_{name}",
                truth.astype(np.int64),
                probability,
                step,
                PR_THRESHOLDS,
            )
    curves = {name: curve for name, curve in evaluation.curves.items() if len(curve[0])}
    if curves:
        for name, figure in (("roc", roc_figure(curves)), ("calibration", calibration_figure(curves))):
            writer.add_image(f"validation/{name}", drawn(figure), step, dataformats="HWC")
    for name, image in evaluation.pictures.items():
        writer.add_image(f"validation/{name}", image, step, dataformats="HWC")


def log_scans(writer: SummaryWriter, score: ScanScore, step: int) -> None:
    """FROC and CPM of whole scans under `scans/`."""
    for name, value in score.metrics.items():
        writer.add_scalar(f"scans/{name}", value, step)
    figure = froc_figure(
        score.froc, n_scans=score.n_scans, n_nodules=score.n_nodules, title=f"validation scans, step {step}"
    )
    writer.add_image("scans/froc", drawn(figure), step, dataformats="HWC")


def log_weights(writer: SummaryWriter, model: nn.Module, step: int) -> None:
    """Histograms of all that is trained, under `weights/`."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            values = parameter.detach().float().cpu().numpy().ravel()
            most = float(np.abs(values).max()) or 1.0
            counts, edges = np.histogram(values, bins=64, range=(-most, most))
            writer.add_histogram_raw(
                f"weights/{name}",
                min=float(values.min()),
                max=float(values.max()),
                num=values.size,
                sum=float(values.sum()),
                sum_squares=float(np.square(values).sum()),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
                global_step=step,
            )


def log_settings(
    writer: SummaryWriter, config: Mapping[str, Any], best: Mapping[str, float], step: int
) -> None:
    """Settings beside the best epoch's main metrics, so that TensorBoard's HPARAMS compares runs."""
    tags = {name: f"validation_best/{name}" for name in MAIN}
    named = dict.fromkeys(tags.values(), 0.0)  # all of them: the columns are those of any one run
    for summary in hparams(flat_settings(config), named):  # type: ignore[no-untyped-call]
        writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]
    for name, tag in tags.items():
        if math.isfinite(best.get(name, math.nan)):
            writer.add_scalar(tag, best[name], step)


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Setting]:
    """ "optim.lr": 0.001, … for all but the table `data`, which says where and not how."""
    found: dict[str, Setting] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= {} if key == "data" else flat_settings(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def log_card(writer: SummaryWriter, card: ModelCard, step: int) -> None:
    """The model's card as text."""
    writer.add_text("model card", f"```json\n{card.model_dump_json(indent=1)}\n```", step)


def memory_mb(device: torch.device) -> float:
    """The most that this process has needed: of the GPU's memory on one, else of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def profiling(run: Path, steps: int) -> AbstractContextManager[Any]:
    """A profiler of so many steps after the first few; it writes a trace into the run's folder."""
    return profile(
        schedule=schedule(wait=PROFILE_AFTER - 2, warmup=2, active=steps, repeat=1),
        on_trace_ready=tensorboard_trace_handler(str(run / PROFILE)),
        record_shapes=True,
    )
