"""Stop when asked to: SIGTERM or SIGINT ends a training after the step it is in, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):  # noqa: N818 - no error: all went as it was asked to
    """A training has stopped, as it was asked to, and left a checkpoint."""

    def __init__(self, signal_number: int, step: int) -> None:
        self.signal_number = signal_number
        self.step = step  # the last one done
        super().__init__(f"stopped after step {step} by {signal.Signals(signal_number).name}")


@dataclass(eq=False)
class Stop:
    """Whether someone has asked, and with what signal."""

    signal_number: int | None = None

    @property
    def is_asked(self) -> bool:
        """Whether to stop."""
        return self.signal_number is not None


def leave_signals_to_trainer(_worker: int) -> None:
    """Called in a process that loads data: only the one that trains hears what is sent to their group.

    Ctrl-C and `kill -- -GROUP` would end the loader before the step under way is done. It ends with the
    process that trains, whatever becomes of that: DataLoader sees to it.
    """
    os.setpgrp()


@contextmanager
def listening() -> Iterator[Stop]:
    """Hear the first signal as a wish to stop; a second SIGINT interrupts at once, as it always does.

    Handlers can only be set in the main thread; elsewhere nobody is heard.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def hear(number: int, frame: FrameType | None) -> None:
        if stop.is_asked and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.signal_number = number

    before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
