"""Tables as TOML gives them, to be changed by a test."""

from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def smoke() -> Path:
    """A segmentation."""
    return CONFIGS / "smoke.toml"


@pytest.fixture
def nodule() -> Path:
    return CONFIGS / "nodule.toml"


@pytest.fixture
def malignancy() -> Path:
    return CONFIGS / "malignancy.toml"
