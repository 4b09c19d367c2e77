"""A server, a chest CT to send to it, and a diagnosis that is quick."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference.detector import Silent
from p2ch_luna.io import write_series
from p2ch_luna.report.diagnose import diagnose as diagnose_one
from p2ch_luna.report.outputs import Wanted
from p2ch_luna.serve.dicomweb.client import Server
from p2ch_luna.serve.dicomweb.study import Diagnose
from p2ch_luna.serve.dicomweb.watch import Watch, watching
from support.diagnosed import FixedDetector
from support.dicom_files import retag
from support.dicomweb import FakeDicomweb, serving

NAME = "Yamada^Tarou"


@pytest.fixture
def fake() -> Iterator[FakeDicomweb]:
    with serving() as server:
        yield server


@pytest.fixture
def server(fake: FakeDicomweb) -> Iterator[Server]:
    """Who asks the fake one; it tries once."""
    client = Server(fake.url, {})
    yield client
    client.close()


@pytest.fixture
def scan(tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes the files of a CT, with whatever tags; study 1.2.3, series 1.2.3.1 if nothing else is said."""

    def scan(study: str = "1.2.3", **tags: object) -> list[Path]:
        hu = np.full((20, 30, 40), -1000, np.int16)
        hu[5:15, 8:22, 9:31] = 20
        folder = tmp_path / "sent" / study
        write_series(folder, CtVolume(f"{study}.1", hu, ImageGeometry.axial((1.0, 1.0, 2.0))))
        retag(folder, StudyInstanceUID=study, PatientName=NAME, **tags)
        return sorted(folder.iterdir())

    return scan


@pytest.fixture
def detector() -> FixedDetector:
    return FixedDetector()


@pytest.fixture
def diagnose(detector: FixedDetector) -> Diagnose:
    return partial(diagnose_one, detector=detector, wanted=Wanted(page=False))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def new_watch(
    server: Server, tmp_path: Path, diagnose: Diagnose, told: list[str]
) -> Iterator[Callable[..., Watch]]:
    """Makes a watch on the same folder each time; an hour passes from one glance at the clock to the next."""
    hours = itertools.count(0, 3600)

    def new(diagnose: Diagnose = diagnose, **options: object) -> Watch:
        given = {"sleep": lambda _: None, "clock": lambda: next(hours), **options}
        return Watch(server, tmp_path / "dir", diagnose, told.append, Silent(), **given)  # type: ignore[arg-type]

    with watching(tmp_path / "dir"):
        yield new
