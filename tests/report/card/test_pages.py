"""`docs/cards` holds what the bundled cards say, and the page on them leads to what is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.cli.card import BUNDLED
from p2ch_luna.models.checkpoint import WEIGHTS

DOCS = Path(__file__).parents[3] / "docs"
PAGES = DOCS / "cards"


def test_every_bundled_network_has_a_page() -> None:
    names = sorted(BUNDLED)
    assert sorted(path.stem for path in WEIGHTS.glob("*.safetensors")) == names
    assert sorted(path.stem for path in PAGES.glob("*.md")) == names


def test_links_of_the_page_on_models_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (DOCS / "models.md").read_text(encoding="utf-8"))
    assert {"cards/nodule.md", "training.md"} <= set(links)
    assert [link for link in links if "://" not in link and not (DOCS / link).is_file()] == []


@pytest.mark.parametrize("name", BUNDLED)
def test_a_page_is_as_the_card_says(luna_card: Callable[..., str], name: str) -> None:
    page = PAGES / f"{name}.md"
    assert page.read_text(encoding="utf-8") == luna_card(name, "--markdown"), (
        f"wanted: luna card {name} --markdown > docs/cards/{name}.md"
    )
