"""The one error that a user is meant to read, and what may be said of all others."""

from __future__ import annotations

import os
from pathlib import Path
from traceback import extract_tb


class LunaError(Exception):
    """Bad input or an impossible request, told in one line: the thing, the value found, the value wanted.

    The library raises it; `cli` prints it and exits with 1.
    """


def told(error: Exception) -> str:
    """Type and place of what nobody has foreseen; its text may quote a header, so a patient's name."""
    place = extract_tb(error.__traceback__)[-1]
    number = error.errno if isinstance(error, OSError) else None
    reason = "" if number is None else f": {os.strerror(number)}"  # the system's own words
    return f"{type(error).__name__}{reason} ({Path(place.filename).name}, line {place.lineno})"
