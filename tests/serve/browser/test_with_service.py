"""The web page on `luna serve` itself: a real upload, the real networks, the report's viewer."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from p2ch_luna.cli.phantom import phantom
from support.browser import Chromium
from support.looked_at import scans, text, wait_for

pytestmark = pytest.mark.slow
TOKEN = "a-token-for-the-tests-of-the-page"


@contextmanager
def luna_serve(folder: Path, *options: str, **environment: str) -> Iterator[str]:
    """A server in a process of its own; its URL."""
    command = [sys.executable, "-m", "p2ch_luna", "serve", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*command, "--folder", str(folder), *options],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        try:
            assert found, "luna serve did not say where it listens"
            yield f"{found.group()}/"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all tests that need no token."""
    with luna_serve(tmp_path_factory.mktemp("serve")) as url:
        yield url


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of DICOM in which two findings are found."""
    folder = tmp_path_factory.mktemp("scans") / "chest"
    options = ["--seed", "7", "--nodules", "3", "--format", "dicom", "--spacing", "1.2", "1.2", "3"]
    made = CliRunner().invoke(phantom, ["-o", str(folder), *options])
    assert made.exit_code == 0, made.output
    return folder


def test_a_scan_goes_from_a_drop_to_a_finding_in_the_viewer_a_download_and_its_deletion(
    browser: Chromium, address: str, series: Path, tmp_path: Path
) -> None:
    browser.go(address)
    browser.drop(series)
    wait_for(browser, "#job-state", "Under way")
    wait_for(browser, "[aria-current=step]", "Search the lungs")
    job = browser.evaluate("location.hash.slice(1)")
    browser.go("about:blank")  # as a reload in the midst of it
    browser.go(f"{address}#{job}")
    wait_for(browser, "#job-state", "2 findings")
    assert "kept until" in text(browser, "#job-facts")
    with browser.inside_frame(f"{job}/results/report.html"):
        browser.wait("typeof isOpen !== 'undefined' && isOpen")
        before = np.array(browser.evaluate("viewer.position"))
        browser.click("tr[data-finding='1']")
        center = browser.evaluate("facts.findings[1].lps")
        np.testing.assert_allclose(browser.evaluate("viewer.position"), center, atol=0.01)
        assert np.abs(before - center).max() > 10
    for name in ("nodules.seg.dcm", "nodules.sr.dcm", "report.json", "nodules.nii.gz"):
        assert downloaded(browser, tmp_path, name).stat().st_size > 1000
    assert [
        url for url in browser.requests if not url.startswith((address, "data:", "blob:", "about:"))
    ] == []
    assert browser.complaints == []
    browser.press("Delete")
    browser.evaluate("document.querySelector('#ask button[value=delete]').focus()")
    browser.press("Enter")
    browser.wait("document.querySelectorAll('#jobs li').length === 0")


def downloaded(browser: Chromium, folder: Path, name: str) -> Path:
    """The file that a click on its button brings, whole."""
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.click(f"[download='{name}']")
    until = time.monotonic() + 20
    while not (folder / name).exists() and time.monotonic() < until:
        time.sleep(0.05)
    return folder / name


def test_what_is_no_scan_is_refused_in_plain_words(browser: Chromium, address: str, tmp_path: Path) -> None:
    (tmp_path / "letter.nii.gz").write_bytes(gzip.compress(b"Dear colleague, " * 100))
    browser.go(address)
    browser.drop(tmp_path / "letter.nii.gz")
    browser.wait("document.querySelector('#upload-error').checkVisibility()")
    assert text(browser, "#upload-title") == "The scan was not taken"
    assert "expected" in text(browser, "#upload-error")
    assert "letter.nii.gz" not in scans(browser)


def test_a_zip_without_a_scan_becomes_a_job_that_says_so(
    browser: Chromium, address: str, tmp_path: Path
) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    for name in ("letter", "answer"):
        (folder / name).write_bytes(bytes(range(256)) * 10)
    browser.go(address)
    browser.drop(folder)
    wait_for(browser, "#job-state", "Failed")
    assert "letters" in text(browser, "#job-error")
    assert "Correct what the line above names" in text(browser, "#job-advice")


def test_a_scan_above_the_limit_is_refused_in_plain_words(browser: Chromium, tmp_path: Path) -> None:
    (tmp_path / "large.mha").write_bytes(b"ObjectType = Image\n" + bytes(40_000_000))
    with luna_serve(tmp_path / "served", "--max-upload-gb", "0.01") as url:
        browser.go(url)
        browser.drop(tmp_path / "large.mha")
        browser.wait("document.querySelector('#upload-error').checkVisibility()")
        assert re.search("too large|expected at most", text(browser, "#upload-error"))
        assert "raise its limit" in text(browser, "#upload-note")
        browser.go("about:blank")


def test_with_a_token_the_page_asks_for_it_and_keeps_no_script_near_it(
    browser: Chromium, tmp_path: Path
) -> None:
    with luna_serve(tmp_path / "served", LUNA_TOKEN=TOKEN) as url:
        browser.go(url)
        wait_for(browser, "[data-for=locked] h1", "asks for a token")
        browser.call("Input.insertText", text="a wrong one, which is as long as it")
        browser.press("Enter")
        wait_for(browser, "#token-error", "This is not the token")
        browser.evaluate("document.querySelector('#token').select()")
        browser.call("Input.insertText", text=TOKEN)
        browser.press("Enter")
        wait_for(browser, "#no-jobs", "None yet.")
        assert browser.evaluate("document.cookie") == ""
        browser.click("#lock")
        wait_for(browser, "[data-for=locked] h1", "asks for a token")
        browser.go("about:blank")


def test_the_documentation_of_the_api_needs_no_other_server(browser: Chromium, address: str) -> None:
    browser.go(f"{address}docs")
    wait_for(browser, "#swagger-ui", "/api/scans")
    assert [url for url in browser.requests if not url.startswith((address, "data:"))] == []
    assert browser.complaints == []
