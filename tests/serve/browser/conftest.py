"""A stand-in for the server, and a headless Chromium that looks at its page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.browser import Chromium, start
from support.page_server import PageServer, page_server


@pytest.fixture
def served() -> Iterator[PageServer]:
    """Without jobs as yet."""
    with page_server() as server:
        yield server


@pytest.fixture(scope="module")
def window() -> Iterator[Chromium]:
    """One for all tests of a module."""
    with start() as chromium:
        yield chromium


@pytest.fixture
def browser(window: Chromium) -> Iterator[Chromium]:
    """A window of 1440 x 900 that has seen nothing, and leaves the page in the end."""
    window.resize(1440, 900)
    window.requests.clear()
    window.complaints.clear()
    yield window
    window.evaluate("document.querySelector('#upload-cancel')?.click()")  # or leaving would be asked about
    window.call(
        "Network.emulateNetworkConditions",
        offline=False,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
    window.call("Emulation.setEmulatedMedia", media="", features=[])
    window.call("Network.clearBrowserCookies")
    window.go("about:blank")
