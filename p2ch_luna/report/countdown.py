"""How long a person still has to wait."""

from __future__ import annotations

import time


class ToGo:
    """How long the rest of a number of equal pieces of work will take."""

    def __init__(self, pieces: int) -> None:
        self._start, self._left, self._done = time.monotonic(), pieces, 0

    def after_one(self) -> str:
        """One more is done: what is left takes 1:05, for 65 s, or 2:00:00, for two hours."""
        self._done += 1
        self._left -= 1
        seconds = (time.monotonic() - self._start) / self._done * self._left
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
