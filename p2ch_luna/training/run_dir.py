"""A run's folder: its config, what it runs with, who trains, and how it went. Read without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.io.file_locks import claiming

CHECKOUT = Path(__file__).parents[2]  # of this project, unless the package is installed elsewhere
CONFIG, ABOUT, SPLIT, HISTORY = "config.toml", "run.json", "split.json", "history.json"
LAST, MODEL = "last.pt", "model.safetensors"
CLAIM, WAIT_FOR_LOADERS_S = ".training", 10.0
RUNNING, INTERRUPTED, FAILED, STOPPED, FINISHED = (  # what `status` may be
    "running",
    "interrupted",
    "failed",
    "stopped early",
    "finished",
)


def new_run_dir(parent: Path, name: str) -> Path:
    """Make `parent/name-YYYYmmdd-HHMMSS`; a number is added where that is taken."""
    stamp = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = parent / stamp, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            if not parent.is_dir():
                raise LunaError(f"{parent}: is no folder; wanted one for the runs") from error
            number += 1
            folder = parent / f"{stamp}-{number}"
        except OSError as error:
            raise LunaError(f"{folder}: {error.strerror}; wanted a new folder for the run") from error
        else:
            return folder


def is_run(path: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (path / CONFIG).is_file()


def begin(run: Path, config_toml: str, device: str, processes: int) -> None:
    """Write the resolved config, and what it runs with."""
    with replacing(run / CONFIG) as temporary:
        temporary.write_text(config_toml, encoding="utf-8")
    about = {
        "software": software(),
        "commit": commit_of(CHECKOUT),
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "processes": processes,
        "status": RUNNING,
    }
    _write_json(run / ABOUT, about)


def remove_leftovers(run: Path) -> None:
    """Remove what a process that was killed had half written."""
    for name in (LAST, MODEL, HISTORY, ABOUT):
        for path in run.glob(f".*-{name}"):
            path.unlink(missing_ok=True)


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Hold the run while it is trained. Raises LunaError where another process of this machine does.

    A process that was killed may have left loaders that hold it for some seconds more.
    """
    deadline = time.monotonic() + WAIT_FOR_LOADERS_S
    while True:
        with claiming(run / CLAIM) as is_ours:
            if is_ours:
                yield
                return
        if time.monotonic() > deadline:
            raise LunaError(f"{run}: another process is training this run; wanted one at a time")
        time.sleep(0.2)


def is_claimed(run: Path) -> bool:
    """Whether a process of this machine trains the run."""
    if not (run / CLAIM).exists():
        return False
    with claiming(run / CLAIM) as is_ours:
        return not is_ours


def set_status(run: Path, status: str) -> None:
    """Say in run.json how the run stands."""
    _write_json(run / ABOUT, {**load_about(run), "status": status})


def load_about(run: Path) -> dict[str, Any]:
    """software, commit, command, started, device, processes, status."""
    about: dict[str, Any] = read_json(run / ABOUT, dict)
    return about


def load_history(run: Path) -> list[dict[str, Any]]:
    """An entry an epoch: epoch, step, seconds since the run began, metrics; empty before the first ends."""
    history: list[dict[str, Any]] = read_json(run / HISTORY, list) if (run / HISTORY).is_file() else []
    return history


def save_history(run: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """See `load_history`. A metric that is not a number is null: JSON has no NaN."""
    _write_json(run / HISTORY, [{**entry, "metrics": finite(entry["metrics"])} for entry in history])


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """NaN and infinities as None."""
    return {name: value if abs(value) < float("inf") else None for name, value in metrics.items()}


def keep_split(run: Path, split: Mapping[str, list[str]], *, resume: bool) -> None:
    """Write who trains and who validates; a resumed run must have the same, or LunaError is raised.

    With a scan more or less every later sample would be another, and the card would not name all.
    """
    path = run / SPLIT
    if not resume:
        _write_json(path, split)
        return
    before: dict[str, list[str]] = read_json(path, dict)
    for side, wanted in before.items():
        if changed := sorted(set(wanted) ^ set(split.get(side, []))):
            what = "is gone" if changed[0] in wanted else "is new"
            raise LunaError(
                f"{path}: {side}: {changed[0]} {what} ({len(changed)} differ); wanted the data that the run "
                "began with: put them back, or start a new run"
            )


def _write_json(path: Path, value: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, kind: type) -> Any:
    """What a file of the run holds; LunaError where it is not there, damaged, or of another kind."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; wanted a file that `luna train` writes") from error
    except ValueError as error:
        raise LunaError(f"{path}: damaged: {error}; wanted a file that `luna train` writes") from error
    if not isinstance(value, kind):
        raise LunaError(f"{path}: holds a {type(value).__name__}; wanted a {kind.__name__}")
    return value


def software() -> str:
    """This package's version and, in a checkout, its commit; and torch's version."""
    commit = commit_of(CHECKOUT)
    own = f"{__version__} ({commit})" if commit else __version__
    return f"p2ch-luna {own}, torch {version('torch')}"


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
