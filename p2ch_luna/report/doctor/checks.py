"""All checks, each so far from the others that none can end them: not by an exception, a crash or a hang."""

from __future__ import annotations

import os
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from p2ch_luna.processes import Crew, Ended
from p2ch_luna.report.doctor import machine, places, software
from p2ch_luna.report.doctor.remark import Remark

PATIENCE_SECONDS = 90.0  # for one check: a disk over the network may take long to load torch
ENDING_SECONDS = 1.0


class Check(NamedTuple):
    """Something to look at."""

    look: Callable[[], Iterable[Remark]]
    is_needed: bool = False  # where it cannot be done `luna diagnose` will not work either


CHECKS = {  # in their order; what loads torch comes last, so that something is said meanwhile
    "software": Check(software.versions),
    "extras": Check(software.extras),
    "text": Check(software.text),
    "places": Check(places.places),
    "libraries": Check(software.libraries, is_needed=True),
    "networks": Check(software.networks, is_needed=True),
    "machine": Check(machine.resources),
    "device": Check(machine.devices, is_needed=True),
    "precision": Check(machine.precision),
}


def examine(
    checks: Mapping[str, Check] = CHECKS, patience_s: float = PATIENCE_SECONDS
) -> Iterator[tuple[str, list[Remark]]]:
    """Yield the name of each check with what it says, as soon as it is known.

    The checks are done in another process, so that a library that crashes as it is loaded is told of; the
    next check then gets a new one. Where no process can be started they are done in this one.
    """
    if folder_is_gone():
        yield "places", [places.GONE]  # no process can be started there, and loading torch ends this one
        return
    left = deque(checks)
    crew: Crew[str, list[Remark]] = Crew(1, partial(_begin, checks))
    try:
        while left:
            name = left[0]
            try:
                crew.hand_out(left)
                remarks = _answer(checks[name], name, crew, patience_s)
            except OSError:
                left = deque(other for other in left if other != name)
                remarks = look(checks, name)
            yield name, remarks
    finally:
        crew.end(ENDING_SECONDS)


def folder_is_gone() -> bool:
    """Whether somebody has removed the folder that this process is in."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def look(checks: Mapping[str, Check], name: str) -> list[Remark]:
    """What one check says; what goes wrong in it is a remark too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(checks[name].look())
    except Exception as error:  # whatever it is: the other checks are still worth something
        return [_undone(checks[name], name, f"{type(error).__name__}: {error}")]


def _begin(checks: Mapping[str, Check]) -> Callable[[str], list[Remark]]:
    """In the other process."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what libraries say as they are loaded, or as they crash
        os.dup2(nothing, stream)
    return partial(look, checks)


def _answer(check: Check, name: str, crew: Crew[str, list[Remark]], patience_s: float) -> list[Remark]:
    """The answer to the one check that is under way."""
    for _, answer in crew.answers(patience_s):
        return [_undone(check, name, _how(answer))] if isinstance(answer, Ended) else answer
    crew.end(ENDING_SECONDS)
    return [_undone(check, name, f"no answer within {patience_s:g} s")]


def _how(ended: Ended) -> str:
    """Of a process that has not answered."""
    if ended.code < 0:
        return f"it crashes, {signal.Signals(-ended.code).name}"
    return f"it ends Python, with code {ended.code}"


def _undone(check: Check, name: str, why: str) -> Remark:
    """Of a check that could not be done."""
    found = f"cannot be checked: {why}"
    if check.is_needed:
        return Remark(name, "problem", found, software.ANEW)
    return Remark(name, "note", found, "nothing: the other checks hold all the same")
