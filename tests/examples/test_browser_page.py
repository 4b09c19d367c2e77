"""The page of examples/browser in a headless Chromium: a scan dropped, found in as Python does."""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest

from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.anatomy import coverage_warnings
from p2ch_luna.io import read_ct, write_ct
from p2ch_luna.io.opened import open_scan
from p2ch_luna.lungs import find_lungs
from p2ch_luna.report.build import Measured, measure_findings
from p2ch_luna.report.threshold import operating_point
from support.browser import Chromium, start
from support.browser_site import add_ort, script

pytestmark = pytest.mark.slow


class Seen(NamedTuple):
    """What the page showed of one search.

    engine: what it told of its threads.    facts: as it holds them.    saved: as it saves them.
    warnings: as it shows them.
    jumped: what stood below the viewer once the second finding was clicked.
    complaints: in its console.    asked: every URL, of its workers too.
    """

    engine: str
    facts: dict[str, Any]
    saved: dict[str, Any]
    warnings: list[str]
    jumped: str
    complaints: list[str]
    asked: list[str]


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    add_ort(site)
    with script("serve").server(0, site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The middle of a chest with three nodules."""
    made = make_phantom(
        np.random.default_rng(5),
        shape_irc=(26, 140, 150),
        spacing_xyz=(2.4, 2.4, 4.0),
        diameters_mm=[7.0, 10.0, 14.0],
    )
    path = tmp_path_factory.mktemp("scan") / "chest.nii.gz"
    write_ct(path, made.ct)
    return path


@pytest.fixture(scope="module")
def in_python(small: Path) -> list[Measured]:
    ct = read_ct(small)
    diagnosis = NoduleDetector.load(runtime="onnxruntime")(ct)
    return measure_findings(diagnosis, ct, operating_point(diagnosis.models, None))


# The text that is saved on a click, without the browser's saving it.
SAVED = """(() => {
  let saved = null;
  const make = URL.createObjectURL;
  const click = HTMLAnchorElement.prototype.click;
  URL.createObjectURL = (blob) => { saved = blob; return make.call(URL, blob); };
  HTMLAnchorElement.prototype.click = () => {};
  document.querySelector("#save").click();
  URL.createObjectURL = make;
  HTMLAnchorElement.prototype.click = click;
  return saved.text();
})()"""
WARNINGS = "JSON.stringify([...document.querySelectorAll('.warnings li')].map((item) => item.textContent))"

WAYS = {"one thread": "?threads=1", "two threads, small tiles": "?threads=2&tile=128"}


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def seen(
    request: pytest.FixtureRequest, served: str, small: Path, tmp_path_factory: pytest.TempPathFactory
) -> Seen:
    log = tmp_path_factory.mktemp("log") / "net.json"
    with Chromium(flags=(f"--log-net-log={log}",), timeout_s=900.0) as browser:
        browser.go(f"{served}{request.param}")
        engine = browser.evaluate("document.querySelector('#engine').textContent")
        browser.drop(small)
        browser.wait(
            "!!document.querySelector('#viewer.open') || !document.querySelector('#complaint').hidden"
        )
        assert browser.evaluate("document.querySelector('#complaint').textContent") == ""
        facts = json.loads(browser.evaluate("document.querySelector('#facts').textContent"))
        saved = json.loads(browser.evaluate(SAVED))
        warnings = json.loads(browser.evaluate(WARNINGS))
        browser.click('tr[data-finding="1"]')
        browser.wait("document.querySelector('#inside').textContent === 'in F2'")
        jumped = browser.evaluate("document.querySelector('#lps').textContent")
        complaints = list(browser.complaints)
    return Seen(engine, facts, saved, warnings, jumped, complaints, asked_by(served, log))


def asked_by(served: str, log: Path) -> list[str]:
    """URLs that a page of this server asked for, or a worker of it; the browser itself asks Google."""
    asked = []
    for line in log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):  # no such event
            told = json.loads(line.rstrip(",")).get("params")
            if told["initiator"] == served.rstrip("/"):
                asked.append(told["url"])
    return asked


def test_findings_are_those_of_python(seen: Seen, in_python: list[Measured]) -> None:
    ours = seen.facts["findings"]
    assert len(in_python) >= 2
    assert len(ours) == len(in_python)
    for one, other in zip(ours, in_python, strict=True):
        detection = other.detection
        assert math.dist(one["lps"], detection.center_xyz) < 0.5
        assert one["noduleProbability"] == pytest.approx(detection.probability, abs=0.02)
        assert one["malignancyProbability"] == pytest.approx(detection.malignancy_probability, abs=0.02)
        assert one["diameterMm"] == pytest.approx(other.measurement.diameter_mm, abs=0.2)


def test_warnings_are_those_of_python(seen: Seen, small: Path) -> None:
    with open_scan(small) as scan:
        of_slices, of_lungs = list(scan.warnings), coverage_warnings(find_lungs(scan.ct))
    assert of_slices == ["slices lie 4 mm apart: small nodules may be missed"]
    assert of_lungs
    assert seen.warnings == seen.facts["warnings"] == seen.saved["warnings"] == of_slices + of_lungs


def test_a_click_brings_the_viewer_to_a_finding(seen: Seen) -> None:
    place = [float(mm) for mm in re.findall(r"-?[\d.]+", seen.jumped.replace("−", "-"))]
    assert math.dist(place, seen.facts["findings"][1]["lps"]) < 0.5


def test_nothing_is_asked_of_another_host(seen: Seen, served: str) -> None:
    assert f"{served}built/nodule.onnx" in seen.asked  # a worker's
    assert {urlsplit(url).netloc for url in seen.asked} == {urlsplit(served).netloc}


def test_as_many_threads_compute_as_the_page_tells(seen: Seen) -> None:
    loaded = sum(url.endswith("ort-wasm-simd-threaded.mjs") for url in seen.asked)  # once by each
    assert f"Threads that compute: {loaded}." in seen.engine


def test_the_console_stays_empty(seen: Seen) -> None:
    assert seen.complaints == []


@pytest.mark.parametrize("path", ["", "js/worker.js"])
def test_neither_the_page_nor_its_worker_may_reach_other_hosts(served: str, path: str) -> None:
    with urlopen(served + path) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy


def test_the_page_is_isolated_so_that_it_may_have_threads(served: str) -> None:
    with start() as browser:
        browser.go(served)
        assert browser.evaluate("crossOriginIsolated") is True


@pytest.mark.parametrize(
    ("asked", "threads", "tile"),
    [("?threads=-3&tile=1", 1, 48), ("?threads=1.5&tile=-7", 1, 48), ("?threads=1e9&tile=x", None, None)],
)
def test_what_no_search_could_take_is_not_asked_of_one(
    served: str, asked: str, threads: int | None, tile: int | None
) -> None:
    with start() as browser:
        browser.go(served + asked)
        able = min(browser.evaluate("navigator.hardwareConcurrency"), 8)
        told = browser.evaluate(
            "import('./js/device.js').then(({ tileSide }) => "
            "tileSide(new URLSearchParams(location.search).get('tile')))"
        )
        engine = browser.evaluate("document.querySelector('#engine').textContent")
    assert f"Threads that compute: {threads or able}." in engine
    assert told == tile


def test_what_is_no_scan_is_told(served: str, tmp_path: Path) -> None:
    (tmp_path / "chest.nii").write_bytes(b"not a scan")
    with start() as browser:
        browser.go(served)
        browser.choose("#files", tmp_path / "chest.nii")
        browser.wait("!document.querySelector('#complaint').hidden")
        complaint = browser.evaluate("document.querySelector('#complaint').textContent")
    assert complaint == "chest.nii: 10 bytes; wanted a NIfTI file, whose header has 352"
