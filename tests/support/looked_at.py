"""What a person sees of the web page, for its tests."""

from __future__ import annotations

import json
from typing import Any

from support.browser import Chromium


def text(browser: Chromium, selector: str) -> str:
    """Of an element in view; empty where it is hidden."""
    found = f"document.querySelector({json.dumps(selector)})"
    return str(browser.evaluate(f"{found}?.checkVisibility() ? {found}.innerText : ''"))


def wait_for(browser: Chromium, selector: str, words: str) -> None:
    """Until an element in view says them."""
    element = f"document.querySelector({json.dumps(selector)})"
    browser.wait(
        f"({element}?.checkVisibility() && {element}.innerText.includes({json.dumps(words)})) || false"
    )


def scans(browser: Chromium) -> list[str]:
    """The names in the list at the side, from above."""
    names: list[str] = browser.evaluate("[...document.querySelectorAll('#jobs b')].map((b) => b.textContent)")
    return names


def focused(browser: Chromium) -> str:
    """The text of what has the focus, its first line."""
    return str(browser.evaluate("document.activeElement.innerText.split('\\n')[0]"))


def attribute(browser: Chromium, selector: str, name: str) -> Any:
    return browser.evaluate(
        f"document.querySelector({json.dumps(selector)}).getAttribute({json.dumps(name)})"
    )
