"""What the tests of the examples share."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.browser_site import make_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of examples/browser, without onnxruntime-web."""
    return make_site(tmp_path_factory.mktemp("site"))
