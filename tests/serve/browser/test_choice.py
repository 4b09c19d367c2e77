"""The web page in a real browser: which files are a scan, which are several, and which are none."""

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
SLICE = bytes(128) + b"DICM" + bytes(400)
VOXELS = bytes(600)
RECORD_TITLES = """
window.titles = [];
new MutationObserver(() => titles.push(document.querySelector('#upload-title').textContent))
  .observe(document.querySelector('#upload-title'), { childList: true });"""


def files_of(folder: Path, **contents: bytes) -> list[Path]:
    """Written below a folder; `_` in a name stands for a point."""
    paths = []
    for name, content in contents.items():
        paths.append(folder / name.replace("_", "."))
        paths[-1].write_bytes(content)
    return paths


def all_sent(browser: Chromium) -> None:
    browser.wait("document.body.dataset.view === 'job'")


def test_scans_that_are_dropped_together_become_a_job_each(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    browser.go(served.url)
    browser.evaluate(RECORD_TITLES)
    browser.drop(*files_of(tmp_path, a_nrrd=SCAN, b_nii=b"\x5c\x01\0\0" + VOXELS))
    all_sent(browser)
    assert [name for name, _, _ in served.uploads] == ["a.nrrd", "b.nii"]
    assert served.uploads[0][2] == SCAN
    told = list(dict.fromkeys(browser.evaluate("titles")))
    assert [title for title in told if "sending" in title] == [
        "2 scans: sending 1 of 2",
        "2 scans: sending 2 of 2",
    ]
    wait_for(browser, "#job-name", "a.nrrd")


def test_each_scan_of_a_mixture_goes_with_what_belongs_to_it(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    files_of(folder, c=SLICE, d=SLICE)
    header = b"ObjectType = Image\r\nElementDataFile = other.raw\r\n"
    loose = files_of(tmp_path, a=SLICE, b=SLICE, ct_mhd=header, other_raw=VOXELS, whole_nrrd=SCAN)
    browser.go(served.url)
    browser.drop(*loose, folder)
    all_sent(browser)
    sent = {name: body for name, _, body in served.uploads}
    assert sent.pop("whole.nrrd") == SCAN
    assert {name: zipfile.ZipFile(io.BytesIO(body)).namelist() for name, body in sent.items()} == {
        "ct.mhd": ["ct.mhd", "other.raw"],
        "2 files": ["a", "b"],
        "series": ["series/c", "series/d"],
    }


def test_a_nrrd_header_takes_its_voxels_along(browser: Chromium, served: PageServer, tmp_path: Path) -> None:
    browser.go(served.url)
    browser.drop(*files_of(tmp_path, ct_nhdr=b"NRRD0004\ndata file: ct.raw\n", ct_raw=VOXELS))
    all_sent(browser)
    assert [name for name, _, _ in served.uploads] == ["ct.nhdr"]


def test_a_busy_server_is_waited_for_in_the_midst_of_several(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    served.refusals = [(429, "the queue is full", 1), (429, "the queue is full", 1)]
    browser.go(served.url)
    browser.drop(*files_of(tmp_path, a_nrrd=SCAN, b_nrrd=SCAN))
    wait_for(browser, "#upload-note", "Trying again")
    all_sent(browser)
    assert [name for name, _, _ in served.uploads] == ["a.nrrd", "b.nrrd"]


def test_one_of_several_that_is_not_taken_can_be_left_out(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    served.refusals = [(400, "too odd", None)]
    browser.go(served.url)
    browser.drop(*files_of(tmp_path, a_nrrd=SCAN, b_nrrd=SCAN))
    wait_for(browser, "#upload-title", "Scan 1 of 2 was not taken")
    assert text(browser, "#upload-name") == "a.nrrd"
    browser.click("#upload-skip")
    all_sent(browser)
    assert [name for name, _, _ in served.uploads] == ["b.nrrd"]


def test_what_is_no_scan_among_scans_is_told_when_they_are_sent(
    browser: Chromium, served: PageServer, tmp_path: Path
) -> None:
    browser.go(served.url)
    browser.drop(*files_of(tmp_path, letter_pdf=b"%PDF-1.7\n", ct_nrrd=SCAN))
    wait_for(browser, "#upload-error", "letter.pdf is a PDF, not a scan.")
    assert text(browser, "#upload-title") == "This was not sent"
    assert text(browser, "#upload-note") == "1 scan was sent."
    assert text(browser, "#upload-again") == text(browser, "#upload-skip") == ""
    assert [name for name, _, _ in served.uploads] == ["ct.nrrd"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("IM1", SLICE, "IM1 is one slice alone. Use “Choose a folder” for the whole series."),
        ("IM1", b"\x08\0\x05\0" + VOXELS, "IM1 is one slice alone."),
        ("a.pdf", b"%PDF-1.7\n\xe2\xe3", "a.pdf is a PDF, not a scan. Send the folder of a DICOM series"),
        ("a.zip", b"\x89PNG\r\n\x1a\n\0", "a.zip is a picture, not a scan."),
        ("a.jpg", b"\xff\xd8\xff\xe0\0", "a.jpg is a picture, not a scan."),
        ("a.nii", "Grüße\r\n".encode(), "a.nii is text, not a scan."),
        ("a.zip", b"PK\x05\x06" + bytes(18), "a.zip is an empty zip, not a scan."),
        ("a.nii", b"", "a.nii is an empty file, not a scan."),
        ("a.raw", VOXELS, "a.raw is not a scan."),
        ("a.mhd", b"NDims = 3\nElementDataFile = b.raw\n", "Choose b.raw together with it."),
    ],
)
def test_what_is_no_scan_is_told_before_anything_is_sent(
    browser: Chromium, served: PageServer, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    browser.go(served.url)
    browser.drop(tmp_path / name)
    wait_for(browser, "#complaint", told)
    assert not any("/api/scans" in url for url in browser.requests)


def test_a_folder_with_one_slice_is_not_sent(browser: Chromium, served: PageServer, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    files_of(folder, a=SLICE)
    browser.go(served.url)
    browser.drop(folder)
    wait_for(browser, "#complaint", "series has one slice alone. Choose the folder of the whole series.")


def test_a_folder_of_other_things_is_not_sent(browser: Chromium, served: PageServer, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    files_of(folder, a_pdf=b"%PDF-1.7\n", b_txt=b"Dear colleague,\n")
    browser.go(served.url)
    browser.drop(folder)
    wait_for(browser, "#complaint", "letters: there is no scan among them.")
    assert served.uploads == []
