"""A headless Chromium for tests, driven by `scripts/chromium.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))  # scripts are no package

from chromium import Chromium


def start(*flags: str) -> Chromium:
    """A window of 1440 x 900; the test fails where there is no Chromium, and says what installs it."""
    try:
        return Chromium(flags=flags)
    except FileNotFoundError as error:
        pytest.fail(str(error))
