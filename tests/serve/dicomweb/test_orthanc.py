"""Studies of a real DICOM server, which is killed now and then, as the watch is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import TextIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from p2ch_luna.cli import main
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.inference.detector import Silent
from p2ch_luna.io import write_series
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb.client import Server
from p2ch_luna.serve.dicomweb.study import Diagnose
from p2ch_luna.serve.dicomweb.watch import Watch, watching
from support.orthanc import Orthanc, running

pytestmark = pytest.mark.slow
Scan = Callable[..., list[Path]]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    (tmp_path / "orthanc").mkdir()
    with running(tmp_path / "orthanc") as server:
        yield server


def read(orthanc: Orthanc, modality: str) -> list[Dataset]:
    return [pydicom.dcmread(BytesIO(content)) for content in orthanc.files(modality)]


def counts(orthanc: Orthanc) -> tuple[int, int]:
    """Of SEG and SR."""
    return len(orthanc.files("SEG")), len(orthanc.files("SR"))


class Killing:
    """A `Progress` that kills the server once, in the midst of a stage."""

    def __init__(self, orthanc: Orthanc, at: int) -> None:
        self.orthanc, self.left = orthanc, at

    def stage(self, text: str, total: float | None = None) -> None:
        """Nothing to do."""

    def advance(self, steps: float = 1) -> None:
        self.left -= 1
        if self.left == 0:
            self.orthanc.kill()


class KilledWhileStoring(Server):
    """Kills the server once, before the nth object is stored."""

    def __init__(self, orthanc: Orthanc, nth: int) -> None:
        super().__init__(orthanc.dicomweb, {})
        self.orthanc, self.left = orthanc, nth

    def store(self, path: Path) -> bool:
        self.left -= 1
        if self.left == 0:
            self.orthanc.kill()
        return super().store(path)


def restarting(orthanc: Orthanc) -> Callable[[float], None]:
    """In place of a pause: whatever the server was, it runs."""

    def sleep(_: float) -> None:
        orthanc.kill()
        orthanc.start()

    return sleep


def run(server: Server, folder: Path, diagnose: Diagnose, **options: object) -> None:
    """Watch until the first look at which nothing is left to do."""
    with watching(folder):
        watch = Watch(server, folder, diagnose, print, interval=0.001, existing=True, **options)  # type: ignore[arg-type]
        while True:
            try:
                if not watch.look():
                    return
            except Exception as error:
                assert "cannot be reached" in str(error)  # noqa: PT017
                watch.sleep(1)


def test_a_server_that_is_killed_in_mid_fetch_gets_the_findings_once(
    orthanc: Orthanc, scan: Scan, diagnose: Diagnose, tmp_path: Path
) -> None:
    orthanc.send(*scan())
    progress = Killing(orthanc, at=7)
    with closing(Server(orthanc.dicomweb, {})) as server:
        run(server, tmp_path / "dir", diagnose, progress=progress, sleep=restarting(orthanc))
    assert progress.left < 0
    assert counts(orthanc) == (1, 1)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_server_that_is_killed_in_mid_store_gets_the_findings_once(
    nth: int, orthanc: Orthanc, scan: Scan, diagnose: Diagnose, tmp_path: Path
) -> None:
    orthanc.send(*scan())
    with closing(KilledWhileStoring(orthanc, nth)) as server:
        run(server, tmp_path / "dir", diagnose, progress=Silent(), sleep=restarting(orthanc))
    assert server.left < 0
    assert counts(orthanc) == (1, 1)


def test_a_watch_that_is_killed_after_the_diagnosis_stores_it_once(
    orthanc: Orthanc, scan: Scan, tmp_path: Path
) -> None:
    def never(_scan: Path, _results: Path) -> Report:
        raise AssertionError("it was diagnosed again")

    orthanc.send(*scan())
    folder = tmp_path / "dir"
    here = Path(__file__)
    environment = {**os.environ, "PYTHONPATH": str(here.parents[2])}
    command = [sys.executable, here.with_name("killed_watch.py"), orthanc.dicomweb, folder]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert counts(orthanc) == (0, 0)
    with closing(Server(orthanc.dicomweb, {})) as server:
        run(server, folder, never, progress=Silent())
    assert counts(orthanc) == (1, 1)
    (seg,) = read(orthanc, "SEG")
    written = pydicom.dcmread(folder / "results" / "1.2.3" / "nodules.seg.dcm")
    assert seg.SOPInstanceUID == written.SOPInstanceUID


@contextmanager
def followed(orthanc: Orthanc, folder: Path) -> Iterator[TextIO]:
    """What `luna dicomweb watch` tells, by the line; it is told to end with the block."""
    command = [sys.executable, "-m", "p2ch_luna", "dicomweb", "watch", "--url", orthanc.dicomweb]
    options = ["--folder", str(folder), "--interval", "1", "--device", "cpu"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout
        try:
            yield process.stdout
        finally:
            process.terminate()
    assert process.returncode == 128 + signal.SIGTERM


def luna(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main(["dicomweb", *map(str, arguments)])
    return int(done.value.code or 0)


def test_a_phantom_is_watched_for_diagnosed_and_its_findings_read_back(
    orthanc: Orthanc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes while the watch is on, which has the bundled networks; then by hand once more."""
    phantom = make_phantom(
        np.random.default_rng(3),
        shape_irc=(110, 230, 280),
        spacing_xyz=(1.4, 1.4, 2.5),
        diameters_mm=[14, 10, 18],
    )
    write_series(tmp_path / "series", phantom.ct)
    with followed(orthanc, tmp_path / "dir") as watch:
        assert "looks every 1 s" in watch.readline()
        assert "first look: 0" in watch.readline()
        orthanc.send(*sorted((tmp_path / "series").iterdir()))
        line = watch.readline()
    (seg,), (sr,) = read(orthanc, "SEG"), read(orthanc, "SR")
    (first,) = {header.StudyInstanceUID for header in read(orthanc, "CT")}
    assert {seg.StudyInstanceUID, sr.StudyInstanceUID} == {first}
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == phantom.ct.series_uid
    assert len(seg.SegmentSequence) >= 3
    assert seg.SOPInstanceUID in str(sr.CurrentRequestedProcedureEvidenceSequence)
    assert line == f"study {first}: {len(seg.SegmentSequence)} findings, SEG and SR stored\n"
    assert luna("--url", orthanc.dicomweb, "--study", first, "--device", "cpu") == 0
    assert f"SR is already in {orthanc.dicomweb}" in capsys.readouterr().out
    assert counts(orthanc) == (1, 1)
