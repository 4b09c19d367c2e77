"""The stages of a diagnosis as they are done, told now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from p2ch_luna.serve.jobs import Stage

TELL_SECONDS = 0.2  # between two words on the same stage


class Stages:
    """An `inference.detector.Progress` that tells of all stages so far.

    tell: called as each stage begins, at most every `TELL_SECONDS` within it, and at the end.
    clock: seconds, from whenever.
    """

    def __init__(
        self, tell: Callable[[Sequence[Stage]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell, self._clock = tell, clock
        self._done: list[Stage] = []
        self._name: str | None = None  # of the one under way
        self._total: float | None = None
        self._steps = self._begun = self._told = 0.0

    def stage(self, text: str, total: float | None = None) -> None:
        """A stage begins, and the one before it is done."""
        self._close()
        self._name, self._total, self._steps, self._begun = text, total, 0.0, self._clock()
        self._tell_now()

    def advance(self, steps: float = 1) -> None:
        """So many more steps of it are done."""
        self._steps += steps
        if self._clock() - self._told >= TELL_SECONDS:
            self._tell_now()

    def end(self) -> None:
        """All is done."""
        self._close()
        self._tell_now()

    def _close(self) -> None:
        if self._name is not None:
            fraction = 1.0 if self._total else None
            seconds = round(self._clock() - self._begun, 3)
            self._done.append(Stage(name=self._name, fraction=fraction, seconds=seconds))
            self._name = None

    def _tell_now(self) -> None:
        self._told = self._clock()
        under_way = [] if self._name is None else [Stage(name=self._name, fraction=self._fraction)]
        self._tell([*self._done, *under_way])

    @property
    def _fraction(self) -> float | None:
        return min(self._steps / self._total, 1.0) if self._total else None
