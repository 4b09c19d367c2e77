"""What is said of one thing of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]  # problem: it keeps `luna diagnose` from working


@dataclass(frozen=True)
class Remark:
    """One line about one thing."""

    subject: str
    state: State
    found: str
    advice: str = ""  # what to do about it; empty where there is nothing to do


def gib(n_bytes: float) -> str:
    """So many bytes, for a person."""
    return f"{n_bytes / (1 << 30):.1f} GiB"
