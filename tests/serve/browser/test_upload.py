"""The web page in a real browser: how a scan gets to the server, and what is said when it does not."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from support.browser import Chromium
from support.looked_at import text, wait_for
from support.page_server import PageServer

pytestmark = pytest.mark.slow
SCAN = b"NRRD0004\n\n, then the voxels"
META_HEADER = b"ObjectType = Image\nElementDataFile = ct.raw\n"
VOXELS = bytes(600)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A folder with a folder of files, as of DICOM, and what systems leave in folders."""
    below = tmp_path / "patient 7" / "CT"
    below.mkdir(parents=True)
    for number in range(120):  # more than a browser lists at once
        (below / f"IM{number:03d}").write_bytes(bytes([number]) * 1000)
    (below / ".DS_Store").write_bytes(b"system")
    (tmp_path / "patient 7" / "__MACOSX").mkdir()
    (tmp_path / "patient 7" / "__MACOSX" / "IM000").write_bytes(b"system")
    return tmp_path / "patient 7"


def file_of(folder: Path, name: str, content: bytes = SCAN) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def was_sent(browser: Chromium) -> None:
    browser.wait("document.body.dataset.view === 'job'")
    wait_for(browser, "#job-state", "Waiting, next")


def test_an_empty_page_says_what_can_be_dropped_and_asks_nobody_but_its_server(
    browser: Chromium, served: PageServer
) -> None:
    browser.go(served.url)
    wait_for(browser, "#no-jobs", "None yet.")
    assert text(browser, ".banner strong") == "Research use only. Not a medical device."
    for kind in ("DICOM", ".nii.gz", ".nrrd", ".mha", ".mhd and .raw"):
        assert kind in text(browser, ".kinds")
    assert [url for url in browser.requests if not url.startswith((served.url, "data:"))] == []
    assert browser.complaints == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a b.nii.gz", "application/gzip"), ("ä.zip", "application/zip"), ("a.mha", "application/octet-stream")],
)
def test_a_file_that_is_dropped_is_sent_as_it_is(
    browser: Chromium, served: PageServer, tmp_path: Path, name: str, kind: str
) -> None:
    browser.go(served.url)
    browser.drop(file_of(tmp_path, name))
    was_sent(browser)
    assert served.uploads == [(name, kind, SCAN)]
    assert text(browser, "#job-name") == name


@pytest.mark.parametrize("how", ["dropped", "chosen"])
def test_a_folder_is_zipped_without_what_is_hidden(
    browser: Chromium, served: PageServer, series: Path, how: str
) -> None:
    browser.go(served.url)
    if how == "dropped":
        browser.drop(series)
    else:
        browser.choose("#folder", series)
    was_sent(browser)
    ((name, kind, body),) = served.uploads
    assert (name, kind) == ("patient 7", "application/zip")
    with zipfile.ZipFile(io.BytesIO(body)) as zipped:
        assert zipped.testzip() is None
        assert sorted(zipped.namelist()) == [f"patient 7/CT/IM{number:03d}" for number in range(120)]
        assert zipped.read("patient 7/CT/IM007") == bytes([7]) * 1000


def test_a_header_and_its_voxels_go_together(browser: Chromium, served: PageServer, tmp_path: Path) -> None:
    browser.go(served.url)
    header = file_of(tmp_path, "ct.mhd", META_HEADER)
    browser.choose("#files", file_of(tmp_path, "ct.raw", VOXELS), header)
    was_sent(browser)
    ((name, _, body),) = served.uploads
    assert name == "ct.mhd"
    assert sorted(zipfile.ZipFile(io.BytesIO(body)).namelist()) == ["ct.mhd", "ct.raw"]


def test_a_folder_beyond_what_a_zip_holds_is_refused_before_it_is_read(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for name in ("a", "b"):
        with (folder / name).open("wb") as file:
            file.truncate(2**31)
    browser.go(served.url)
    browser.drop(folder)
    wait_for(browser, "#upload-error", "larger than 4 GB")
    assert served.uploads == []


def test_an_empty_folder_is_told(browser: Chromium, served: PageServer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    browser.go(served.url)
    browser.drop(tmp_path / "empty")
    wait_for(browser, "#complaint", "There are no files in it.")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "choose another scan"),
        (413, "raise its limit"),
        (415, "Drop the folder"),
        (507, "Delete scans that you do not need"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_server_and_says_what_to_do(
    browser: Chromium, served: PageServer, tmp_path: Path, status: int, advice: str
) -> None:
    served.refusals = [(status, "a.mha: too odd; expected a scan", None)]
    browser.go(served.url)
    browser.drop(file_of(tmp_path, "a.mha"))
    wait_for(browser, "#upload-error", "a.mha: too odd; expected a scan")
    assert text(browser, "#upload-title") == "The scan was not taken"
    assert advice in text(browser, "#upload-note")
    browser.click("#upload-again")
    was_sent(browser)


def test_a_busy_server_is_asked_again_when_it_said(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    served.refusals = [(429, "the queue is full", 2)]
    browser.go(served.url)
    browser.drop(file_of(tmp_path, "a.mha"))
    wait_for(browser, "#upload-note", "Trying again in 2 s.")
    assert served.uploads == []
    wait_for(browser, "#upload-note", "Trying again in 1 s.")
    was_sent(browser)


def test_a_wait_can_be_cut_short_or_given_up(browser: Chromium, served: PageServer, tmp_path: Path) -> None:
    served.refusals = [(429, "the queue is full", 600), (429, "the queue is full", 500)]
    browser.go(served.url)
    browser.drop(file_of(tmp_path, "a.mha"))
    wait_for(browser, "#upload-note", "Trying again in 600 s.")
    browser.click("#upload-again")
    wait_for(browser, "#upload-note", "Trying again in 500 s.")
    browser.click("#upload-cancel")
    browser.wait("document.body.dataset.view === 'home'")
    assert served.uploads == []
    assert text(browser, "#sending") == ""


def test_a_second_scan_waits_for_the_first_to_be_sent(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    served.refusals = [(429, "the queue is full", 600)]
    browser.go(served.url)
    browser.drop(file_of(tmp_path, "first.mha"))
    wait_for(browser, "#sending", "The server is busy")
    browser.drop(file_of(tmp_path, "second.mha"))
    wait_for(browser, "#complaint", "A scan is being sent.")
    browser.click("#sending")
    wait_for(browser, "#upload-title", "The server is busy")
    browser.click("#upload-again")
    was_sent(browser)
    assert [name for name, _, _ in served.uploads] == ["first.mha"]


def test_an_upload_without_a_server_says_so_and_can_be_sent_again(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    browser.go(served.url)
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=True, **offline)
    browser.drop(file_of(tmp_path, "a.mha"))
    wait_for(browser, "#upload-error", "The server cannot be reached.")
    assert "Check that the server runs" in text(browser, "#upload-note")
    wait_for(browser, "#server", "Trying again…")
    browser.call("Network.emulateNetworkConditions", offline=False, **offline)
    browser.click("#upload-again")
    was_sent(browser)
    browser.wait("document.querySelector('#server').innerText === ''")
