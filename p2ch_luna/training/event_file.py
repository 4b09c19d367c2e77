"""TensorBoard's events in a file that a training can do without."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


class EventFile:
    """Takes a run's events as torch's `FileWriter` does; where the disk does not take them, it says so once.

    tensorboard's own writer has a thread that a full disk ends with a traceback, and any later call then
    raises. Here each event is written when it comes; after the first that cannot be, all are let go.
    """

    def __init__(self, folder: Path) -> None:
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name  # a reader takes files in the order of their names
        self._file: BinaryIO | None = None
        with self._or_without():
            self._file = self._path.open("xb")
        self.add_event(Event(file_version="brain.Event:2"))

    def get_logdir(self) -> str:
        """The folder of the file."""
        return str(self._path.parent)

    def add_event(self, event: Any, step: int | None = None, walltime: float | None = None) -> None:
        """Write an event: of now, if no `walltime` in seconds is given."""
        event.wall_time = time.time() if walltime is None else walltime
        if step is not None:
            event.step = int(step)
        if self._file is not None:
            with self._or_without():
                RecordWriter(self._file).write(event.SerializeToString())
                self._file.flush()  # none is left in memory, for forked processes to write once more

    def add_summary(
        self, summary: Any, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Write a summary as an event."""
        self.add_event(Event(summary=summary), global_step, walltime)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Take no more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            log.warning(
                "%s: cannot be written: %s; the training goes on, but TensorBoard shows no more of it",
                self._path,
                reason,
            )
            with suppress(OSError):  # once more, of what it still holds
                self.close()
            self._file = None


class RunWriter(SummaryWriter):
    """torch's writer of summaries, into an `EventFile`."""

    def __init__(self, run: Path, step: int) -> None:
        """With steps done, what a reader has found of later ones does not count."""
        self.file_writer: Any
        self.all_writers: Any
        super().__init__(str(run))
        if step:
            again = SessionLog(status=SessionLog.START)
            self._get_file_writer().add_event(Event(session_log=again), step + 1)

    def _get_file_writer(self) -> EventFile:
        there: EventFile | None = self.file_writer
        if there is None:
            there = self.file_writer = EventFile(Path(self.log_dir))
            self.all_writers = {self.log_dir: there}
        return there
