"""Checks of a doctor that go wrong, each in its way; they are sent to another process, so they lie here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from p2ch_luna.report.doctor import Remark

FINE = Remark("fine", "ok", "it is")


def fine() -> list[Remark]:
    os.write(1, b"what a library says")
    return [FINE]


def raising() -> Iterator[Remark]:
    yield FINE
    raise RuntimeError("no such thing")


def crashing() -> list[Remark]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def ending() -> list[Remark]:
    os._exit(2)


def hanging() -> list[Remark]:
    time.sleep(60)
    return []
