"""Event files on a disk that is full: a limit on the size of files, which the system itself holds."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from p2ch_luna.errors import LunaError
from p2ch_luna.training import run_dir
from p2ch_luna.training.board import open_board

Config, Train = Callable[..., Any], Callable[..., Path]


Limit = Callable[[int | None], None]


@pytest.fixture
def limit() -> Iterator[Limit]:
    """No file of this process may be larger, in bytes: a write beyond is an OSError, "File too large"."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def at_most(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))

    yield at_most
    at_most(None)


def event_files(run: Path) -> list[Path]:
    return sorted(run.glob("events.*"))


def points(run: Path, tag: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(run))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(tag)]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_what_was_written_is_there_at_once(tmp_path: Path) -> None:
    writer = open_board(tmp_path, 0)
    writer.add_scalar("a", 1.0, 1)
    assert points(tmp_path, "a") == [(1, 1.0)]
    writer.close()


def test_a_board_that_begins_again_leaves_out_what_came_later(tmp_path: Path) -> None:
    for step, until in ((0, 4), (2, 3)):
        writer = open_board(tmp_path, step)
        for number in range(step + 1, until + 1):
            writer.add_scalar("a", 10.0 * step + number, number)
        writer.close()
    assert points(tmp_path, "a") == [(1, 1.0), (2, 2.0), (3, 23.0)]
    assert len(event_files(tmp_path)) == 2


def test_a_full_disk_is_told_once(tmp_path: Path, limit: Limit, caplog: pytest.LogCaptureFixture) -> None:
    writer = open_board(tmp_path, 0)
    writer.add_scalar("a", 1.0, 1)
    (path,) = event_files(tmp_path)
    limit(path.stat().st_size + 10)  # half an event
    for step in (2, 3):
        writer.add_scalar("a", 2.0, step)
        writer.flush()
    writer.close()
    (warning,) = told(caplog)
    assert warning.startswith(f"{path}: cannot be written: File too large; the training goes on")


def test_what_came_before_a_full_disk_and_after_a_resume_is_read_back(tmp_path: Path, limit: Limit) -> None:
    writer = open_board(tmp_path, 0)
    writer.add_scalar("a", 1.0, 1)
    (path,) = event_files(tmp_path)
    limit(path.stat().st_size + 10)
    writer.add_scalar("a", 2.0, 2)
    writer.close()
    limit(None)
    again = open_board(tmp_path, 1)
    again.add_scalar("a", 3.0, 2)
    again.close()
    assert points(tmp_path, "a") == [(1, 1.0), (2, 3.0)]


def test_a_board_that_cannot_be_opened_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    writer = open_board(tmp_path / "file", 0)
    writer.add_scalar("a", 1.0, 1)
    writer.close()
    (warning,) = told(caplog)
    assert "cannot be written: Not a directory; the training goes on" in warning


class Fills:
    """Fills the disk after the first step, but for files of `size` bytes."""

    def __init__(self, limit: Limit, size: int) -> None:
        self.limit = limit
        self.size = size

    def loaded(self, item: str) -> None:
        pass

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        self.limit(self.size)

    def validating(self, done: int, total: int) -> None:
        pass

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        pass


def test_a_run_ends_well_without_its_board(
    segmentation_run: Path,
    make_config: Config,
    train: Train,
    tmp_path: Path,
    limit: Limit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    largest = max(path.stat().st_size for path in segmentation_run.iterdir() if "events" not in path.name)
    assert largest < event_files(segmentation_run)[0].stat().st_size
    run = train(make_config(), tmp_path, Fills(limit, largest + 100))
    assert run_dir.load_about(run)["status"] == "finished"
    assert (run / run_dir.MODEL).read_bytes() == (segmentation_run / run_dir.MODEL).read_bytes()
    assert len([line for line in told(caplog) if "TensorBoard shows no more" in line]) == 1


def test_where_no_checkpoint_fits_either_that_is_the_error(
    make_config: Config, train: Train, tmp_path: Path, limit: Limit
) -> None:
    with pytest.raises(LunaError, match=r"(last.pt|model\.\w+): cannot be written: File too large"):
        train(make_config(), tmp_path, Fills(limit, 4096))
    assert run_dir.load_about(tmp_path)["status"] == "failed"
