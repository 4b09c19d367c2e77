"""The web page in a real browser: by keyboard alone, on a phone, in the dark, and behind a token."""

from __future__ import annotations

import pytest

from support.browser import Chromium
from support.looked_at import focused, scans, text, wait_for
from support.page_server import PageServer, job_of, stages

pytestmark = pytest.mark.slow
TOKEN = "a token of this server"
LUMINANCE = """(name) => {
  const probe = document.createElement('i');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255);
  probe.remove();
  const [r, g, b] = parts.map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; }"""


@pytest.fixture
def three(browser: Chromium, served: PageServer) -> Chromium:
    """The page with three scans in its list: c, b, a."""
    for name in ("a", "b", "c"):
        served.add(job_of(name, "done"))
    browser.go(served.url)
    browser.wait("document.querySelectorAll('#jobs li').length === 3")
    return browser


def test_arrows_go_through_the_list_and_enter_opens(three: Chromium) -> None:
    seen = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "End", "ArrowDown", "Home"):
        three.press(key)
        seen.append(focused(three))
    assert seen == ["c", "b", "c", "a", "a", "c"]
    three.press("ArrowDown")
    three.press("Enter")
    wait_for(three, "#job-name", "b")
    assert focused(three) == "b"  # so that the arrows go on
    three.press("Escape")
    three.wait("document.body.dataset.view === 'home'")


def test_tab_enters_the_list_once(three: Chromium) -> None:
    reached = []
    for _ in range(6):
        three.press("Tab")
        reached.append(focused(three))
    assert [name for name in reached if name in scans(three)] == ["c"]


def test_the_focus_is_seen(three: Chromium) -> None:
    three.press("ArrowDown")
    style = "getComputedStyle(document.activeElement)"
    assert three.evaluate(f"[{style}.outlineStyle, parseFloat({style}.outlineWidth) >= 2]") == ["solid", True]


def test_delete_asks_and_the_focus_goes_to_the_neighbour(three: Chromium, served: PageServer) -> None:
    three.press("ArrowDown")
    three.press("ArrowDown")
    three.press("Delete")
    assert text(three, "#ask-name") == "b"
    assert focused(three) == "Keep"  # Enter alone deletes nothing
    three.press("Escape")
    three.wait("!document.querySelector('#ask').open")
    three.press("Delete")
    three.click("#ask button[value='delete']")
    three.wait("document.querySelectorAll('#jobs li').length === 2")
    assert [job.name for job in served.jobs.values()] == ["a", "c"]
    assert focused(three) == "a"


def test_new_jobs_leave_the_focus_where_it_is(three: Chromium, served: PageServer) -> None:
    three.press("End")
    served.add(job_of("d", "queued"))
    three.wait("document.querySelectorAll('#jobs li').length === 4")
    assert scans(three) == ["d", "c", "b", "a"]
    assert focused(three) == "a"


def test_a_key_shows_the_keys_and_another_chooses_a_file(three: Chromium) -> None:
    three.press("?")
    assert "choose a file to search" in text(three, "#keys")
    three.press("Escape")
    three.wait("!document.querySelector('#keys').open")
    three.evaluate("HTMLInputElement.prototype.click = function () { window.chosen = this.id }")
    three.press("u")
    assert three.evaluate("window.chosen") == "files"


@pytest.mark.parametrize("state", ["home", "queued", "running", "done", "failed"])
def test_on_a_phone_nothing_is_wider_than_the_screen(
    browser: Chromium, served: PageServer, state: str
) -> None:
    facts = {"failed": {"error": "e" * 300}, "running": {"stages": stages("reading", now="lungs")}}
    job = job_of("n" * 120, "done" if state == "home" else state, **facts.get(state, {}))
    served.add(job)
    browser.resize(400, 800)
    browser.go(served.url if state == "home" else f"{served.url}#{job.id}")
    browser.wait("document.querySelectorAll('#jobs li').length === 1")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    if state != "home":
        wait_for(browser, "#job-name", "n" * 120)
        browser.click(".back")
        browser.wait("document.querySelector('#jobs a').checkVisibility()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_on_what_they_stand_on(browser: Chromium, served: PageServer, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=features)
    browser.go(served.url)
    light = {
        name: browser.evaluate(f"({LUMINANCE})('--{name}')")
        for name in ["paper", "card", "ink", "soft", "accent", "accent-soft", "on-accent", "bad", "bad-soft"]
    }
    assert (light["paper"] > 0.5) == (scheme == "light")
    pairs = [
        "ink paper",
        "soft paper",
        "soft card",
        "accent paper",
        "on-accent accent",
        "bad bad-soft",
        "soft accent-soft",
    ]
    for text_name, ground in (pair.split() for pair in pairs):
        low, high = sorted((light[text_name], light[ground]))
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text_name} on {ground}"  # WCAG 2, AA


def test_a_server_with_a_token_asks_for_it_first(browser: Chromium, served: PageServer) -> None:
    served.token = TOKEN
    job = served.add(job_of("chest.zip", "done"))
    browser.go(f"{served.url}#{job}")
    wait_for(browser, "[data-for=locked] h1", "asks for a token")
    assert scans(browser) == []
    browser.call("Input.insertText", text="another")
    browser.press("Enter")
    wait_for(browser, "#token-error", "This is not the token of this server.")
    browser.evaluate("document.querySelector('#token').select()")
    browser.call("Input.insertText", text=TOKEN)
    browser.press("Enter")
    wait_for(browser, "#job-name", "chest.zip")
    assert browser.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"


def test_a_session_can_be_locked_and_one_that_ends_asks_again(browser: Chromium, served: PageServer) -> None:
    served.token = TOKEN
    served.add(job_of("chest.zip", "done"))
    browser.go(served.url)
    for end_it in ("lock", "expire"):
        wait_for(browser, "[data-for=locked] h1", "asks for a token")
        browser.call("Input.insertText", text=TOKEN)
        browser.press("Enter")
        browser.wait("document.querySelectorAll('#jobs li').length === 1")
        if end_it == "lock":
            browser.click("#lock")
        else:
            browser.call("Network.clearBrowserCookies")
    wait_for(browser, "[data-for=locked] h1", "asks for a token")
    assert scans(browser) == []
