"""`report.html` in a real browser: what a click, a key and a look at the pixels show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.geometry import CtVolume
from p2ch_luna.report.schema import Report
from support.browser import Chromium, start
from support.findings import TILTS, hand_report, pixels

MakePage = Callable[..., tuple[Path, CtVolume, Report]]
pytestmark = pytest.mark.slow
OPEN_OR_FAILED = "isOpen || document.getElementById('viewer').classList.contains('failed')"
HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">'


def opened(browser: Chromium, page: Path) -> Chromium:
    """The page, its viewer ready."""
    browser.resize(1440, 900)
    browser.open(page)
    browser.wait(OPEN_OR_FAILED)
    assert browser.evaluate("document.getElementById('status').textContent") == ""
    return browser


def crosshair(browser: Chromium) -> NDArray[np.float64]:
    return np.array(browser.evaluate("viewer.position"))


def said(browser: Chromium) -> str:
    """The line below the slices."""
    return str(browser.evaluate("document.querySelector('.position').innerText.replaceAll('\\n', ' ')"))


def seen(browser: Chromium, folder: Path) -> NDArray[np.int64]:
    """(height, width, 3) of the slices on the screen."""
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    browser.screenshot_of(folder / "seen.png", "#canvas")
    return pixels(folder / "seen.png").astype(np.int64)


def amber(picture: NDArray[np.int64]) -> int:
    """How many pixels have the colour of the overlay."""
    return int((picture[..., 0] - picture[..., 2] > 60).sum())


def test_the_page_opens_from_the_disk_without_any_request_or_complaint(
    browser: Chromium, make_page: MakePage
) -> None:
    page, _, _ = make_page()
    opened(browser, page)
    assert [url for url in browser.requests if not url.startswith(("data:", "blob:"))] == [page.as_uri()]
    assert browser.complaints == []


@pytest.mark.parametrize("is_coarse", [False, True], ids=["fine", "coarse"])
@pytest.mark.parametrize("tilt", TILTS)
def test_a_click_on_a_finding_moves_the_crosshair_there(
    browser: Chromium, make_page: MakePage, tilt: str, is_coarse: bool
) -> None:
    page, _, report = make_page(tilt, is_coarse=is_coarse)
    opened(browser, page)
    assert browser.evaluate("facts.volume.shape.reduce((a, b) => a * b) <= 40000") == is_coarse
    for place in (1, 0):
        found = report.findings[place]
        browser.click(f"tr[data-finding='{place}']")
        np.testing.assert_allclose(crosshair(browser), found.center_lps_mm, atol=0.01)
        x, y, z = (f"{mm:.1f}".replace("-", "−") for mm in found.center_lps_mm)
        text = said(browser)
        assert text.startswith(f"Slice {found.slice_number} LPS {x}, {y}, {z} mm about")
        assert text.endswith(f"in {found.id}")  # by the voxels of the mask, not by the click


@pytest.mark.parametrize("tilt", TILTS)
def test_the_voxel_under_the_crosshair_is_the_voxel_of_the_scan(
    browser: Chromium, make_page: MakePage, tilt: str
) -> None:
    page, ct, _ = make_page(tilt)
    opened(browser, page)
    for irc, hu in (((20, 45, 55), -850), ((20, 15, 55), 40)):  # lung, tissue in front of or behind it
        place = ct.geometry.to_xyz(irc).tolist()
        shown = browser.evaluate(
            f"viewer.jumpTo({place}, 1), viewer.nv.volumes[0].getValue("
            "...viewer.nv.volumes[0].mm2vox(turned(viewer.position)))"
        )
        assert shown == pytest.approx(hu, abs=30)


@pytest.mark.parametrize("tilt", TILTS)
def test_the_patients_left_is_to_the_right_and_the_back_is_down(
    browser: Chromium, make_page: MakePage, tmp_path: Path, tilt: str
) -> None:
    page, ct, report = make_page(tilt)
    opened(browser, page)
    browser.evaluate("viewer.nv.opts.crosshairWidth = 0")
    browser.press("a")
    middle = ct.geometry.to_xyz((np.array(ct.hu.shape) - 1) / 2)
    for place, found in enumerate(report.findings):
        browser.evaluate(f"select({place})")
        picture = seen(browser, tmp_path)
        rows, columns = np.nonzero(picture[..., 0] - picture[..., 2] > 60)
        height, width, _ = picture.shape
        left, back, _ = found.center_lps_mm - middle
        assert (columns.mean() > width / 2) == (left > 0)
        assert (rows.mean() > height / 2) == (back > 0)


def test_enter_on_a_row_moves_the_crosshair_there(browser: Chromium, make_page: MakePage) -> None:
    page, _, report = make_page()
    opened(browser, page)
    browser.evaluate("document.querySelector(\"tr[data-finding='1']\").focus()")
    browser.press("Enter")
    np.testing.assert_allclose(crosshair(browser), report.findings[1].center_lps_mm, atol=0.01)


def test_keys_go_to_the_next_and_the_previous_finding_round_and_round(
    browser: Chromium, make_page: MakePage
) -> None:
    page, _, _ = make_page()
    opened(browser, page)
    selected = []
    for key in ("n", "ArrowRight", "p", "ArrowLeft"):
        browser.press(key)
        selected.append(browser.evaluate("document.querySelector('tr.selected b').textContent"))
    assert selected == ["F2", "F1", "F2", "F1"]


def test_the_windows_are_those_of_lung_and_mediastinum(
    browser: Chromium, make_page: MakePage, tmp_path: Path
) -> None:
    page, _, _ = make_page()
    opened(browser, page)
    window = "[viewer.nv.volumes[0].cal_min, viewer.nv.volumes[0].cal_max]"
    assert browser.evaluate(window) == [-1350, 150]
    gray_lung = seen(browser, tmp_path)
    browser.click("[data-window='mediastinum']")
    assert browser.evaluate(window) == [-160, 240]
    black_lung = seen(browser, tmp_path)
    assert ((gray_lung[..., 0] > 60) & (black_lung[..., 0] < 5)).mean() > 0.1
    browser.press("l")
    assert browser.evaluate(window) == [-1350, 150]
    browser.press("m")
    assert browser.evaluate("document.querySelector('[data-window=mediastinum]').ariaPressed") == "true"


def test_the_overlay_goes_and_comes_back(browser: Chromium, make_page: MakePage, tmp_path: Path) -> None:
    page, _, _ = make_page()
    opened(browser, page)
    browser.evaluate("select(0)")
    counts = [amber(seen(browser, tmp_path))]
    browser.click("#overlay")
    counts.append(amber(seen(browser, tmp_path)))
    browser.press("o")
    counts.append(amber(seen(browser, tmp_path)))
    assert counts[0] > 50
    assert counts[1] == 0
    assert counts[2] == counts[0]


def test_the_axial_plane_alone_and_zoom_show_more_of_a_finding(
    browser: Chromium, make_page: MakePage, tmp_path: Path
) -> None:
    page, _, _ = make_page()
    opened(browser, page)
    browser.press("a")
    assert browser.evaluate("document.querySelectorAll('#captions div').length") == 1
    whole = amber(seen(browser, tmp_path))
    browser.press("+")
    browser.press("+")
    assert amber(seen(browser, tmp_path)) > 3 * whole  # twice as large
    browser.press("0")
    browser.press("t")
    assert browser.evaluate("viewer.zoom") == 1
    assert browser.evaluate("document.querySelectorAll('#captions div').length") == 3


def test_wheel_arrows_and_the_slider_go_slice_by_slice(browser: Chromium, make_page: MakePage) -> None:
    page, _, report = make_page()
    opened(browser, page)
    slices = [report.findings[0].slice_number]
    browser.click("#canvas")  # so that the keys are the viewer's
    browser.evaluate("select(0)")
    for key in ("ArrowUp", "ArrowUp", "ArrowDown"):
        browser.press(key)
        slices.append(int(said(browser).split()[1]))
    assert np.diff(slices).tolist() == [-1, -1, 1]  # numbers fall towards the head
    box = browser.evaluate(
        "(() => { const b = byId('canvas').getBoundingClientRect();"
        "return [b.x + b.width / 4, b.y + b.height / 4]; })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseWheel", x=box[0], y=box[1], deltaX=0, deltaY=120)
    assert abs(int(said(browser).split()[1]) - slices[-1]) == 1
    browser.evaluate("byId('level').value = 7, byId('level').dispatchEvent(new Event('input'))")
    assert browser.evaluate("viewer.level") == 7


def test_a_click_into_a_plane_is_told_as_a_place(browser: Chromium, make_page: MakePage) -> None:
    page, _, _ = make_page()
    opened(browser, page)
    before = crosshair(browser)
    browser.click("#canvas")
    assert np.abs(crosshair(browser) - before).max() > 5
    x, y, z = (f"{mm:.1f}".replace("-", "−") for mm in crosshair(browser))
    assert f"LPS {x}, {y}, {z} mm" in said(browser)


def test_hostile_texts_are_inert(browser: Chromium, make_page: MakePage) -> None:
    _, _, report = make_page()
    scan = report.scan.model_copy(update={"name": HOSTILE, "format": HOSTILE})
    page, _, _ = make_page(scan=scan, warnings=(HOSTILE,))
    opened(browser, page)
    assert browser.evaluate("window.hacked ?? 'no'") == "no"
    assert browser.evaluate("document.querySelector('.warnings li').textContent") == HOSTILE
    assert browser.evaluate("document.title").startswith(HOSTILE)
    assert browser.complaints == []


def test_an_empty_report_still_shows_the_scan(browser: Chromium, make_page: MakePage, tmp_path: Path) -> None:
    page, _, _ = make_page(has_findings=False)
    opened(browser, page)
    browser.press("n")
    assert browser.evaluate("document.querySelector('h1').textContent") == "No finding"
    assert said(browser).startswith("Slice ")
    assert seen(browser, tmp_path)[..., 0].max() > 200
    assert browser.complaints == []


def failure_of(browser: Chromium, page: Path) -> str:
    """What the page says where its viewer should be; key images and table stay."""
    browser.open(page)
    browser.wait(OPEN_OR_FAILED)
    assert browser.evaluate(
        "[...document.querySelectorAll('.planes img')].every((i) => i.naturalWidth === 400)"
    )
    assert browser.evaluate("document.querySelectorAll('tr[data-finding]').length") == 2
    return str(browser.evaluate("document.getElementById('status').textContent"))


def test_without_webgl_the_page_says_so_and_shows_the_key_images(make_page: MakePage) -> None:
    page, _, _ = make_page()
    with start("--disable-3d-apis") as browser:
        assert "this browser has no WebGL 2. The key images show" in failure_of(browser, page)


def test_a_browser_that_changes_pictures_is_found_out(make_page: MakePage) -> None:
    page, _, _ = make_page()
    white = (
        "CanvasRenderingContext2D.prototype.getImageData = (x, y, w, h) => "
        "({ data: new Uint8ClampedArray(4 * w * h).fill(255) });"
    )
    with start() as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=white)
        assert "this browser changes pictures when they are read" in failure_of(browser, page)


def test_on_a_phone_nothing_is_wider_than_the_screen_and_the_viewer_waits(
    browser: Chromium, make_page: MakePage
) -> None:
    page, _, _ = make_page(warnings=("w" * 300,))
    browser.resize(390, 844)
    browser.open(page)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser.evaluate("isOpen") is False
    browser.click("#start")
    browser.wait("isOpen")


def test_on_paper_the_viewer_is_left_out(browser: Chromium, make_page: MakePage) -> None:
    page, _, _ = make_page()
    opened(browser, page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown: dict[str, Any] = browser.evaluate(
        "({ viewer: getComputedStyle(byId('viewer')).display,"
        "   images: document.querySelector('.planes img').getBoundingClientRect().width > 100 })"
    )
    browser.call("Emulation.setEmulatedMedia", media="")
    assert shown == {"viewer": "none", "images": True}


def test_the_research_statement_stays_in_view(browser: Chromium, make_page: MakePage) -> None:
    page, ct, _ = make_page()
    opened(browser, page)
    browser.evaluate("window.scrollTo({ top: 1e5, behavior: 'instant' })")
    assert browser.evaluate("window.scrollY > 100")
    top = browser.evaluate("document.querySelector('.banner strong').getBoundingClientRect().top")
    assert 0 <= top < 30
    assert (
        browser.evaluate("document.querySelector('.banner strong').textContent") == hand_report(ct).statement
    )
