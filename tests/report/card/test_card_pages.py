"""`docs/cards` holds what the bundled cards say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.models.checkpoint import WEIGHTS

PAGES = Path(__file__).parents[3] / "docs" / "cards"


@pytest.mark.parametrize("name", sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))
def test_a_page_is_as_the_card_says(luna_card: Callable[..., str], name: str) -> None:
    page = PAGES / f"{name}.md"
    assert page.read_text(encoding="utf-8") == luna_card(name, "--markdown"), (
        f"wanted: luna card {name} --markdown > docs/cards/{name}.md"
    )
