"""The service's log: a line a record, never what a client sent, and not flooded by what goes on and on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TextIO

REPEAT_S = 60.0  # until a library may say the same again
_OWN = "p2ch_luna.serve"
_LEVELS = {_OWN: logging.INFO, "uvicorn": logging.WARNING, "asyncio": logging.WARNING}


def log_to(stream: TextIO) -> None:
    """Write the log of this process: never a traceback, whose text may quote a patient's name."""
    for name, level in _LEVELS.items():
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handler.addFilter(_in_one_line)
        if name != _OWN:
            handler.addFilter(Seldom())
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.handlers = [handler]


def _in_one_line(record: logging.LogRecord) -> bool:
    """Its first line, and the type of its exception: asyncio quotes the exception itself below."""
    line = record.getMessage().strip().partition("\n")[0]
    if record.exc_info and record.exc_info[0] is not None:
        line = f"{line}: {record.exc_info[0].__name__}"
    record.msg, record.args = line, ()
    record.exc_info = record.exc_text = None
    return True


class Seldom:
    """A filter that lets the same words by once in `REPEAT_S`: a server out of files says so without end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._said = clock, dict[str, float]()

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether it is to be written."""
        now = self._clock()
        self._said = {words: at for words, at in self._said.items() if now - at < REPEAT_S}
        words = record.getMessage()
        if words in self._said:
            return False
        self._said[words] = now
        return True
