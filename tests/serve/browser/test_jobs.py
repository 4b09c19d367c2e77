"""The web page in a real browser: what becomes of a job, and the list of all."""

from __future__ import annotations

import json
import re
import time

import pytest

from support.browser import Chromium
from support.looked_at import attribute, scans, text, wait_for
from support.page_server import NOW, REPORT, PageServer, job_of, stages

pytestmark = pytest.mark.slow
HOSTILE = '<img src=x onerror="window.hacked = 1"></script><script>window.hacked = 2</script>'


def opened(browser: Chromium, served: PageServer, job_id: str) -> None:
    """The page at a job."""
    browser.go(f"{served.url}#{job_id}")
    browser.wait("document.querySelector('#job-name').textContent !== ''")


def test_a_job_is_followed_from_the_queue_through_its_stages_to_its_report(
    browser: Chromium, served: PageServer
) -> None:
    job = served.add(job_of("chest.zip", "queued", position=3))
    opened(browser, served, job)
    wait_for(browser, "#job-state", "Waiting, number 3")
    assert text(browser, "#job-note") == "2 scans are before it."
    told = stages("reading", "networks", "lungs", now="segmentation", fraction=0.43)
    served.tell(job, state="running", position=None, attempts=1, started=NOW, stages=told)
    wait_for(browser, "[aria-current=step]", "43 %")
    assert text(browser, "[aria-current=step] .what") == "Search the lungs"
    assert browser.evaluate("document.querySelectorAll('.stages .past').length") == 3
    assert text(browser, ".to-come .what") == "Collect what was found"
    assert text(browser, "#live") == "Search the lungs"  # for who does not see it
    served.finish(job)
    wait_for(browser, "#job-state", "2 findings")
    assert "took 1 min 15 s" in text(browser, "#job-facts")
    with browser.inside_frame("report.html"):
        browser.wait("document.body?.innerText.includes('2 findings')")
    assert browser.complaints == []


def test_the_report_is_in_a_frame_that_can_neither_ask_nor_touch(
    browser: Chromium, served: PageServer
) -> None:
    served.report = b"<script>fetch('/api/jobs'); parent.hacked = 1</script>"
    opened(browser, served, served.add(job_of("chest.zip", "done")))
    browser.wait("document.querySelector('iframe') !== null")
    assert attribute(browser, "iframe", "sandbox") == "allow-scripts"
    assert attribute(browser, "iframe", "title") == "Report of chest.zip"
    assert browser.evaluate("window.hacked ?? 'no'") == "no"


def test_files_are_there_to_download_with_their_sizes(browser: Chromium, served: PageServer) -> None:
    job = served.add(job_of("chest.zip", "done"))
    opened(browser, served, job)
    wait_for(browser, "#downloads", "HTML")
    shown = text(browser, "#downloads").replace("\n", " ")
    assert [word for word in ("JSON", "DICOM SEG", "CSV") if word not in shown] == []
    assert f"JSON {len(REPORT)} B" in shown
    wanted = f"/api/jobs/{job}/results/nodules.seg.dcm?download=1"
    assert attribute(browser, "[download='nodules.seg.dcm']", "href") == wanted


def test_a_download_says_what_is_in_it(browser: Chromium, served: PageServer) -> None:
    opened(browser, served, served.add(job_of("chest.zip", "done")))
    wait_for(browser, "#downloads", "HTML")
    titles: list[str] = browser.evaluate("[...document.querySelectorAll('[download]')].map((a) => a.title)")
    assert "nodules.seg.dcm: the outlines of the findings, for a PACS or a DICOM viewer" in titles
    assert [title for title in titles if len(title.partition(": ")[2]) < 10] == []


def test_key_images_are_folded_up_after_the_others(browser: Chromium, served: PageServer) -> None:
    job = served.add(job_of("chest.zip", "done"))
    opened(browser, served, job)
    wait_for(browser, "#downloads > li:last-child", "Key images (2)")
    assert text(browser, "[download='F1-coronal.png']") == ""
    browser.click("#downloads summary")
    wait_for(browser, "[download='F1-coronal.png']", "F1 coronal")
    assert (
        attribute(browser, "[download='F1-axial.png']", "title")
        == "F1-axial.png: finding F1 in the axial plane"
    )


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"n_findings": 0}, "No findings"),
        ({"n_findings": 1}, "1 finding"),
        ({"n_findings": 0, "is_searched": False}, "Not searched"),
    ],
)
def test_a_scan_without_findings_is_told_from_one_that_was_not_searched(
    browser: Chromium, served: PageServer, facts: dict[str, object], words: str
) -> None:
    opened(browser, served, served.add(job_of("chest.zip", "done", **facts)))
    wait_for(browser, "#job-state", words)
    assert text(browser, "#job-state") == words
    wait_for(browser, "#jobs .state", words)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("a.zip: no CT in it; expected a chest CT", "Correct what the line above names"),
        ("the worker ended; it was tried 2 times", "more memory than there is"),
        ("the diagnosis failed: ValueError (tiles.py, line 12)", "a fault of the program"),
    ],
)
def test_a_job_that_failed_says_why_and_what_to_do(
    browser: Chromium, served: PageServer, error: str, advice: str
) -> None:
    opened(browser, served, served.add(job_of("a.zip", "failed", error=error)))
    wait_for(browser, "#job-error", error)
    assert advice in text(browser, "#job-advice")
    assert browser.evaluate("document.querySelector('iframe') === null")


def test_a_second_attempt_is_told(browser: Chromium, served: PageServer) -> None:
    again = job_of("a.zip", "running", attempts=2, stages=stages(now="reading"))
    opened(browser, served, served.add(again))
    wait_for(browser, "#job-note", "done once more")


def test_a_stream_that_is_cut_is_taken_up_again(browser: Chromium, served: PageServer) -> None:
    job = served.add(job_of("chest.zip", "running", stages=stages(now="reading")))
    served.cuts = 1
    opened(browser, served, job)
    wait_for(browser, "[aria-current=step]", "Read the scan")
    served.finish(job)
    wait_for(browser, "#job-state", "2 findings")


def test_without_the_server_a_job_stands_still_and_says_why(browser: Chromium, served: PageServer) -> None:
    job = served.add(job_of("chest.zip", "running", stages=stages(now="reading")))
    opened(browser, served, job)
    wait_for(browser, "[aria-current=step]", "Read the scan")
    served.is_away = True
    wait_for(browser, "#job-lost", "The server does not answer")
    bar = "getComputedStyle(document.querySelector('[aria-current=step] progress')).animationPlayState"
    assert browser.evaluate(bar) == "paused"
    clock = text(browser, "#job-facts")
    time.sleep(1.5)
    assert text(browser, "#job-facts") == clock
    served.is_away = False
    browser.wait(f"document.querySelector('#job-facts').innerText !== {json.dumps(clock)}")
    assert text(browser, "#job-lost") == ""
    assert browser.evaluate(bar) == "running"


def test_a_job_opened_without_the_server_is_not_shown_as_another(
    browser: Chromium, served: PageServer
) -> None:
    opened(browser, served, served.add(job_of("first.zip", "done")))
    served.is_away = True
    second = served.add(job_of("second.zip", "done"))
    browser.evaluate(f"location.hash = '{second}'")
    wait_for(browser, "#job-lost", "The server does not answer")
    assert text(browser, "#job-name") == ""
    served.is_away = False
    wait_for(browser, "#job-name", "second.zip")


def test_loading_it_again_and_going_back_show_the_same_job(browser: Chromium, served: PageServer) -> None:
    first = served.add(job_of("first.zip", "running", stages=stages("reading", now="networks")))
    second = served.add(job_of("second.zip", "done"))
    opened(browser, served, first)
    browser.go("about:blank")
    opened(browser, served, first)
    wait_for(browser, "[aria-current=step]", "Load the networks")
    browser.wait("document.querySelectorAll('#jobs li').length === 2")
    browser.click(f"[data-job='{second}']")
    wait_for(browser, "#job-name", "second.zip")
    browser.evaluate("history.back()")
    wait_for(browser, "#job-name", "first.zip")


def test_a_job_that_goes_while_it_is_looked_at_is_told(browser: Chromium, served: PageServer) -> None:
    job = served.add(job_of("chest.zip", "running", stages=stages(now="reading")))
    opened(browser, served, job)
    wait_for(browser, "#job-state", "Under way")
    del served.jobs[job]
    wait_for(browser, "#complaint", "not there any more")
    browser.wait("document.querySelectorAll('#jobs li').length === 0")


def test_a_link_to_a_job_that_is_gone_is_told(browser: Chromium, served: PageServer) -> None:
    browser.go(f"{served.url}#{'0' * 32}")
    wait_for(browser, "#complaint", "not there any more")


def test_the_list_has_the_youngest_first_and_a_tooltip_until_when_each_is_kept(
    browser: Chromium, served: PageServer
) -> None:
    served.add(job_of("old.zip", "done"))
    served.add(job_of("new.zip", "queued"))
    browser.go(served.url)
    browser.wait("document.querySelectorAll('#jobs li').length === 2")
    assert scans(browser) == ["new.zip", "old.zip"]
    assert "old.zip\nkept until 9 Mar" in attribute(browser, "#jobs li:last-child a", "title")
    assert attribute(browser, "#jobs li:first-child a", "title") == "new.zip"
    assert "kept until" not in text(browser, "#jobs")


def test_scans_of_one_name_are_told_apart_by_their_seconds(browser: Chromium, served: PageServer) -> None:
    for name, second in (("a.zip", 1), ("a.zip", 2), ("b.zip", 3)):
        served.add(job_of(name, "done", created=NOW.replace(second=second)))
    browser.go(served.url)
    browser.wait("document.querySelectorAll('#jobs li').length === 3")
    states = browser.evaluate("[...document.querySelectorAll('#jobs .state')].map((s) => s.textContent)")
    assert [re.search(r"2 Mar, \d\d:30(.*)", state)[1] for state in states] == ["", ":02", ":01"]


def test_hostile_names_and_errors_are_inert(browser: Chromium, served: PageServer) -> None:
    job = served.add(job_of(HOSTILE, "failed", error=HOSTILE))
    opened(browser, served, job)
    wait_for(browser, "#job-error", HOSTILE)
    browser.click("#job-delete")
    assert text(browser, "#ask-name") == HOSTILE
    assert scans(browser) == [HOSTILE]
    assert browser.evaluate("document.title").startswith(HOSTILE)
    assert browser.evaluate("window.hacked ?? 'no'") == "no"
    assert browser.complaints == []


def test_a_deletion_is_asked_for_and_can_be_called_off(browser: Chromium, served: PageServer) -> None:
    job = served.add(job_of("chest.zip", "done"))
    opened(browser, served, job)
    browser.wait("document.querySelectorAll('#jobs li').length === 1")
    browser.click("#job-delete")
    browser.click("#ask button[value='']")
    assert not browser.evaluate("document.querySelector('#ask').open")
    browser.click("#job-delete")
    browser.click("#ask button[value='delete']")
    browser.wait("document.querySelectorAll('#jobs li').length === 0")
    assert served.jobs == {}
    assert text(browser, "#live") == "chest.zip was deleted."
    assert text(browser, ".home h1") != ""
