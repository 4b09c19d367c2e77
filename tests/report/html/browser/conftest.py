"""Reports of small chests as pages, and a headless Chromium to look at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.geometry import CtVolume
from p2ch_luna.report.html import volume as html_volume
from p2ch_luna.report.html.page import write_html
from p2ch_luna.report.key_images import write_key_images
from p2ch_luna.report.schema import Report
from support.browser import Chromium, start
from support.findings import TILTS, chest, finding, hand_report, paint_ball

PLACES_IRC = ((30, 25, 70), (12, 60, 35))  # of F1 and F2

MakePage = Callable[..., tuple[Path, CtVolume, Report]]


@pytest.fixture
def make_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePage:
    """Writes a page: `tilt` names the way the voxels lie, `changes` go into the report."""

    def make(
        tilt: str = "straight", *, has_findings: bool = True, is_coarse: bool = False, **changes: Any
    ) -> tuple[Path, CtVolume, Report]:
        ct = chest(TILTS[tilt])
        labels: NDArray[np.uint8] = np.zeros(ct.hu.shape, np.uint8)
        findings = []
        for rank, irc in enumerate(PLACES_IRC if has_findings else (), start=1):
            center = ct.geometry.to_xyz(irc)
            paint_ball(ct, labels, center, 10.0, label=rank)
            findings.append(finding(ct, center, rank, slice_number=100 - irc[0]))
        report = hand_report(ct, findings, **changes)
        if is_coarse:
            monkeypatch.setattr(html_volume, "MAX_VOXELS", 40_000)  # a tenth
        write_key_images(tmp_path, ct, findings, labels)
        page = tmp_path / "report.html"
        numbers = [100 - index for index in range(len(ct.hu))]  # as a scanner counts that starts at the head
        write_html(page, report, ct, labels, tmp_path, numbers)
        return page, ct, report

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    """A window of 1440 x 900."""
    with start() as chromium:
        yield chromium
