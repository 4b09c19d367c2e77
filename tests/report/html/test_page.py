from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna.geometry import CtVolume
from p2ch_luna.report import RESEARCH_ONLY
from p2ch_luna.report.html import page as html_page
from p2ch_luna.report.html.page import write_html
from p2ch_luna.report.key_images import write_key_images
from p2ch_luna.report.schema import Report, Series
from support.findings import chest, finding, hand_report, rejected

CENTER = (3.0, 65.0, -30.0)
HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;'


def page_of(folder: Path, ct: CtVolume, report: Report) -> str:
    labels = np.zeros(ct.hu.shape, np.uint8)
    write_key_images(folder, ct, report.findings, labels)
    numbers = range(len(ct.hu), 0, -1)  # as a scanner counts that goes from the head down
    write_html(folder / "report.html", report, ct, labels, folder, numbers)
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a reader sees, without the scripts."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def facts_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', page, re.DOTALL)
    assert found
    facts: dict[str, Any] = json.loads(found[1])
    return facts


def test_a_finding_is_told_with_all_its_measures(tmp_path: Path) -> None:
    ct = chest()
    report = hand_report(ct, [finding(ct, CENTER, slice_number=87, texture="part-solid", solid_mm=4.1)])
    text = text_of(page_of(tmp_path, ct, report))
    row = "F1 right lower third slice 87 pleura 3 mm 10.0 mm 11.0 × 9.0 mm 524 mm³ part-solid −12 HU"
    assert f"{row} solid part 4.1 mm Lung-RADS 4A 0.97 0.64 by size 0.41" in text
    assert "radiologist suspicion, not pathology" in text


def test_what_is_not_known_is_not_told(tmp_path: Path) -> None:
    ct = chest()
    unknown = {"side": None, "third": None, "pleura_mm": None, "malignancy_probability": None}
    text = text_of(page_of(tmp_path, ct, hand_report(ct, [finding(ct, CENTER, **unknown)])))
    assert "None" not in text
    assert "not judged by size 0.41" in text


def test_a_nodule_at_the_pleura_is_said_to_be(tmp_path: Path) -> None:
    ct = chest()
    assert "at the pleura" in text_of(
        page_of(tmp_path, ct, hand_report(ct, [finding(ct, CENTER, pleura_mm=0.0)]))
    )


def test_research_use_only_warnings_and_rejected_candidates_are_there(tmp_path: Path) -> None:
    ct = chest()
    text = text_of(page_of(tmp_path, ct, hand_report(ct, warnings=("slices are 5 mm thick",))))
    assert text.count(RESEARCH_ONLY) == 1
    assert "Warnings slices are 5 mm thick" in text
    assert "Rejected candidates: 2" in text
    assert "0.310 0.600 4.0 1.0, 2.0, 3.0 nodule probability is below 0.42" in text


def test_an_empty_report_says_what_was_not_found_and_how_sure_that_is(tmp_path: Path) -> None:
    ct = chest()
    text = text_of(page_of(tmp_path, ct, hand_report(ct)))
    assert "No finding" in text
    assert "No place in this scan has a nodule probability of 0.42 or more." in text
    assert "2 candidates lie below it, the highest at 0.31" in text
    assert "1 false positive a scan, at which 88% of nodules were found when it was fitted" in text
    assert "Key images" not in text


def test_an_empty_report_without_candidates_says_so(tmp_path: Path) -> None:
    ct = chest()
    assert "Nothing was proposed at all." in text_of(page_of(tmp_path, ct, hand_report(ct, rejected=())))


def test_candidates_that_were_not_judged_are_told_apart(tmp_path: Path) -> None:
    ct = chest()
    outside = rejected(0.0).model_copy(update={"nodule_probability": None, "reason": "outside the lungs"})
    text = text_of(page_of(tmp_path, ct, hand_report(ct, rejected=(rejected(0.31), outside))))
    assert "1 candidate lies below it, the highest at 0.31" in text
    assert "not judged 0.600 4.0 1.0, 2.0, 3.0 outside the lungs" in text


def test_where_nothing_was_judged_the_page_says_so(tmp_path: Path) -> None:
    ct = chest()
    outside = rejected(0.0).model_copy(update={"nodule_probability": None})
    text = text_of(page_of(tmp_path, ct, hand_report(ct, rejected=(outside,))))
    assert "Nothing that was proposed was judged: see below." in text


def test_hostile_texts_of_a_scan_are_texts(tmp_path: Path) -> None:
    ct = chest()
    scan = hand_report(ct).scan
    series = Series(
        series_uid="1.2.3",
        study_uid="1",
        modality=HOSTILE,
        description=HOSTILE,
        images=40,
        thickness_mm=2.0,
        kernel=HOSTILE,
        remark=HOSTILE,
    )
    hostile = scan.model_copy(update={"name": HOSTILE, "format": HOSTILE, "series": (series,)})
    page = page_of(tmp_path, ct, hand_report(ct, scan=hostile, warnings=(HOSTILE,)))
    assert "alert(1)</script>" not in page
    assert 'onerror="' not in page
    assert text_of(page).count(HOSTILE) == 9


def test_only_the_pages_own_scripts_and_style_may_run(tmp_path: Path) -> None:
    ct = chest()
    page = page_of(tmp_path, ct, hand_report(ct))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    inline = [text for _, text in re.findall(r"<(script|style)>(.*?)</\1>", page, re.DOTALL)]
    hashes = {f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline}
    assert len(inline) == 5
    assert hashes == set(re.findall(r"'sha256-[^']+'", policy[1]))


def test_the_page_refers_to_no_other_file(tmp_path: Path) -> None:
    ct = chest()
    page = page_of(tmp_path, ct, hand_report(ct, [finding(ct, CENTER)]))
    own = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', own))
    assert "href" not in own


def test_the_notice_of_the_viewer_is_in_the_page(tmp_path: Path) -> None:
    ct = chest()
    assert "Copyright (c) 2021, Niivue" in page_of(tmp_path, ct, hand_report(ct))


def test_the_viewer_is_told_where_voxels_findings_and_slices_lie(tmp_path: Path) -> None:
    ct = chest()
    facts = facts_of(page_of(tmp_path, ct, hand_report(ct, [finding(ct, CENTER)])))
    affine = np.array(facts["volume"]["affine"])
    np.testing.assert_allclose(affine[:, :3], np.diag([-1.0, -1.0, 2.0]))  # RAS mm
    assert facts["findings"] == [{"id": "F1", "label": 1, "lps": list(CENTER), "gap": 9.5}]
    slices = facts["slices"]
    index = round(np.dot(slices["step"], CENTER) - slices["offset"])
    assert index == round(float(ct.geometry.to_irc(CENTER)[0]))
    assert slices["numbers"][index] == 40 - index


def test_the_page_is_never_larger_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ct = chest()
    ct.hu[:] = (ct.hu + np.random.default_rng(0).normal(0, 40, ct.hu.shape)).astype(np.int16)
    limit = 2_460_000  # what is not the CT takes 2.31 MB
    monkeypatch.setattr(html_page, "MAX_BYTES", limit)
    page = page_of(tmp_path, ct, hand_report(ct))
    assert (tmp_path / "report.html").stat().st_size <= limit
    assert "The scan is too large for a page: here its voxels are averaged to" in text_of(page)


def test_a_scan_that_fits_is_not_said_to_be_averaged(tmp_path: Path) -> None:
    ct = chest()
    assert "averaged" not in text_of(page_of(tmp_path, ct, hand_report(ct)))


def test_key_images_beyond_their_room_stay_beside_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ct = chest()
    monkeypatch.setattr(html_page, "MAX_IMAGE_BYTES", 300_000)
    findings = [finding(ct, CENTER, rank) for rank in range(1, 12)]
    page = page_of(tmp_path, ct, hand_report(ct, findings))
    shown = page.count("<figure>")
    assert 0 < shown < 11
    assert f"{11 - shown} more findings have theirs beside this page." in text_of(page)
    assert page.count('class="thumbnail"><img') == 11


def test_a_scan_that_was_not_searched_does_not_look_clean(tmp_path: Path, ct: CtVolume) -> None:
    page = page_of(tmp_path, ct, hand_report(ct, [], is_searched=False))
    assert "<h1>Not searched</h1>" in page
    assert "nothing was searched: this page says nothing of nodules" in page
    assert "No place in this scan" not in page


def test_a_finding_that_is_cut_off_is_told(tmp_path: Path, ct: CtVolume) -> None:
    assert "cut off: larger" in page_of(tmp_path, ct, hand_report(ct, [finding(ct, CENTER, is_cut_off=True)]))
    assert "cut off: larger" not in page_of(tmp_path, ct, hand_report(ct, [finding(ct, CENTER)]))
