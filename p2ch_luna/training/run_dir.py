"""A run's folder: config, checkpoints, events, and at the end the model."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.training.evaluation import Evaluation

CHECKOUT = Path(__file__).parents[2]  # of this project, unless the package is installed elsewhere
_NOT_A_CHECKPOINT = (  # what torch.load may raise for any bytes
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    struct.error,
    pickle.UnpicklingError,
)
CONFIG, SPLIT = "config.json", "split.json"
LAST, BEST, MODEL = "last.pt", "best.pt", "model.safetensors"


def new_run_dir(parent: Path, name: str) -> Path:
    """Make `parent/name-YYYYmmdd-HHMMSS`."""
    folder = parent / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise LunaError(f"{folder}: {error.strerror}; wanted a new folder for the run") from error
    return folder


def save_config(run: Path, config: Mapping[str, Any]) -> None:
    """The resolved config and what it ran with."""
    about = {"config": config, "software": software(), "command": sys.argv}
    with replacing(run / CONFIG) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load_run_config(run: Path) -> dict[str, Any]:
    """The config that a run was started with."""
    path = run / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError) as error:
        raise LunaError(f"{path}: {error}; wanted the folder of a run") from error
    return config


def keep_split(run: Path, split: Mapping[str, list[str]], *, resume: bool) -> None:
    """Write who trains and who validates; a resumed run must have the same, or LunaError is raised.

    With a scan more or less every later sample would be another, and the card would not name all.
    """
    path = run / SPLIT
    if not resume:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(split, indent=1) + "\n", encoding="utf-8")
        return
    try:
        before: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LunaError(f"{path}: {error}; wanted the split that the run began with") from error
    for side, wanted in before.items():
        if changed := sorted(set(wanted) ^ set(split.get(side, []))):
            what = "is gone" if changed[0] in wanted else "is new"
            raise LunaError(
                f"{path}: {side}: {changed[0]} {what} ({len(changed)} differ); wanted the data that the run "
                "began with: put them back, or start a new run"
            )


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all. Plain types and tensors only: it is loaded as such."""
    with replacing(path) as temporary:
        torch.save(dict(state), temporary)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint onto a device."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise LunaError(f"{path}: no such file; wanted a checkpoint of `luna train`") from error
    except _NOT_A_CHECKPOINT as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise LunaError(f"{path}: cut short or not a checkpoint: {reason}") from error
    return state


def software() -> str:
    """This package's version and, in a checkout, its commit."""
    commit = commit_of(CHECKOUT)
    version = f"{__version__} ({commit})" if commit else __version__
    return f"p2ch-luna {version}, torch {torch.__version__}"


def commit_of(folder: Path) -> str | None:
    """The commit of this project's checkout at `folder`; None for any other folder, or without git."""
    project = folder / "pyproject.toml"
    if not (folder / ".git").exists() or not project.is_file():
        return None  # a repository further up is somebody else's
    if 'name = "p2ch-luna"' not in project.read_text(encoding="utf-8", errors="replace"):
        return None
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def log_evaluation(writer: SummaryWriter, evaluation: Evaluation, step: int) -> None:
    """Scalars, precision-recall curves and pictures under `validation/`."""
    for name, value in evaluation.metrics.items():
        writer.add_scalar(f"validation/{name}", value, step)
    for name, (truth, probability) in evaluation.curves.items():
        if len(truth):
            writer.add_pr_curve(f"validation/{name}", truth.astype(np.int64), probability, step)
    for name, image in evaluation.pictures.items():
        writer.add_image(f"validation/{name}", image, step, dataformats="HWC")
