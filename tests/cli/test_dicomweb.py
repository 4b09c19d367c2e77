"""`luna dicomweb`: one study, or a watch; what is printed, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.cli import dicomweb, main
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io import write_series
from p2ch_luna.serve.dicomweb.watch import Watch
from support.diagnosed import FixedDetector
from support.dicom_files import retag
from support.dicomweb import FakeDicomweb, serving

Luna = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDicomweb]:
    """It has one study, 1.2.3, of one CT series, 1.2.3.1."""
    hu = np.full((20, 30, 40), -1000, np.int16)
    hu[5:15, 8:22, 9:31] = 20
    write_series(tmp_path / "sent", CtVolume("1.2.3.1", hu, ImageGeometry.axial((1.0, 1.0, 2.0))))
    retag(tmp_path / "sent", StudyInstanceUID="1.2.3", PatientName="Yamada^Tarou")
    with serving() as server:
        server.send(*(tmp_path / "sent").iterdir())
        yield server


@pytest.fixture
def luna(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Luna:
    """Runs `luna dicomweb` with a quick detector: exit code, stdout, stderr."""
    monkeypatch.setattr(NoduleDetector, "load", lambda *_, **__: FixedDetector())

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["dicomweb", *map(str, args)])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def modalities(fake: FakeDicomweb) -> list[str]:
    return [kind for kind in ("SEG", "SR") if fake.of(kind)]


def test_a_study_is_diagnosed_and_its_findings_are_stored(luna: Luna, fake: FakeDicomweb) -> None:
    code, out, err = luna("--url", fake.url, "--study", "1.2.3")
    assert code == 0
    assert out.startswith("1.2.3: 1 finding")
    assert out.endswith(f"SEG stored in {fake.url}\nSR stored in {fake.url}\n")
    assert "fetching (20)" in err
    assert "written:" not in out
    assert "look at:" not in out
    assert modalities(fake) == ["SEG", "SR"]


def test_results_are_kept_if_asked_for(luna: Luna, fake: FakeDicomweb, tmp_path: Path) -> None:
    _, out, _ = luna("--url", fake.url, "--study", "1.2.3", "--no-store", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "report.json").is_file()
    assert f"look at: {tmp_path / 'out' / 'report.html'}" in out
    assert modalities(fake) == []


def test_results_of_another_series_are_not_lost(luna: Luna, fake: FakeDicomweb, tmp_path: Path) -> None:
    arguments = ("--url", fake.url, "--study", "1.2.3", "--no-store", "-o", tmp_path / "out")
    assert [luna(*arguments)[0] for _ in range(2)] == [0, 0]  # the same may be done again
    report = tmp_path / "out" / "report.json"
    report.write_text(report.read_text("utf-8").replace("1.2.3.1", "1.2.9.1"), encoding="utf-8")
    fake.asked.clear()
    code, _, err = luna(*arguments)
    assert code == 1
    assert (
        err
        == f"luna: error: {tmp_path / 'out'}: holds the results of series 1.2.9.1; wanted another folder\n"
    )
    assert not any("/instances" in path for _, path in fake.asked)


def test_results_of_another_series_of_the_study_are_not_lost(
    luna: Luna, fake: FakeDicomweb, tmp_path: Path
) -> None:
    """Which one is the best is known only once they are here."""
    fake.send(*another_series(tmp_path))
    arguments = ("--url", fake.url, "--study", "1.2.3", "--no-store", "-o", tmp_path / "out")
    assert luna(*arguments, "--series", "1.2.3.1")[0] == 0
    code, _, err = luna(*arguments)
    assert code == 1
    assert err.endswith(f"{tmp_path / 'out'}: holds the results of series 1.2.3.1; wanted another folder\n")
    assert "1.2.3.2" not in (tmp_path / "out" / "report.json").read_text("utf-8")


def another_series(folder: Path) -> list[Path]:
    """Of the same study; it covers more of the body, so it is the one to read."""
    hu = np.full((20, 30, 40), -1000, np.int16)
    hu[5:15, 8:22, 9:31] = 20
    write_series(folder / "other", CtVolume("1.2.3.2", hu, ImageGeometry.axial((1.0, 1.0, 4.0))))
    retag(folder / "other", StudyInstanceUID="1.2.3", PatientName="Yamada^Tarou")
    return sorted((folder / "other").iterdir())


def test_one_series_can_be_asked_for(luna: Luna, fake: FakeDicomweb) -> None:
    assert luna("--url", fake.url, "--study", "1.2.3", "--series", "1.2.3.1")[0] == 0
    code, _, err = luna("--url", fake.url, "--study", "1.2.3", "--series", "1.2.3.2")
    assert code == 1
    assert err.endswith("luna: error: study 1.2.3: no CT series 1.2.3.2; expected one of 1.2.3.1\n")


@pytest.mark.parametrize("uid", ["../../etc", "1.2.3/series", "x"])
def test_what_is_no_uid_is_refused_unasked(uid: str, luna: Luna, fake: FakeDicomweb) -> None:
    code, _, err = luna("--url", fake.url, "--study", uid)
    assert (code, fake.asked) == (1, [])
    assert "is no DICOM UID" in err


def test_a_study_that_is_not_there_is_told(luna: Luna, fake: FakeDicomweb) -> None:
    code, _, err = luna("--url", fake.url, "--study", "1.9")
    assert code == 1
    assert err == f"luna: error: {fake.url}: the server has no study 1.9\n"


def test_a_server_that_is_away_is_waited_for_a_while(luna: Luna, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb, "PAUSES_SECONDS", (0.0, 0.01))
    code, _, err = luna("--url", "http://127.0.0.1:9/dicom-web", "--study", "1.2.3")
    away = "http://127.0.0.1:9/dicom-web: cannot be reached; expected study 1.2.3"
    assert code == 1
    assert err.splitlines() == [
        f"luna: warning: {away}; another try in 0 s",
        f"luna: warning: {away}; another try in 0.01 s",
        f"luna: error: {away}",
    ]


@pytest.mark.parametrize("args", [[], ["--study", "1"], ["--url", "http://pacs"]])
def test_wrong_usage_is_told(args: list[str], luna: Luna) -> None:
    assert luna(*args)[0] == 2


@pytest.mark.parametrize("before", [["--url", "http://pacs"], ["--no-store"], ["--device", "cpu"]])
def test_an_option_before_watch_is_refused(before: list[str], luna: Luna, tmp_path: Path) -> None:
    code, _, err = luna(*before, "watch", "--url", "http://pacs", "--folder", tmp_path / "dir")
    assert code == 2
    assert f"{before[0]}: put options after watch, as in luna dicomweb watch --url" in err


def test_a_watch_that_is_interrupted_says_how_it_goes_on(
    luna: Luna, fake: FakeDicomweb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Watch) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "look", interrupted)
    code, out, err = luna("watch", "--url", fake.url, "--folder", tmp_path / "dir", "--interval", 7)
    assert code == 130
    assert out == f"{fake.url}: looks every 7 s; Ctrl-C ends it\n"
    assert err == "\nthe same command goes on where this one was\nluna: interrupted\n"


def test_once_ends_by_itself_where_the_server_is_away(
    luna: Luna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(dicomweb.PAUSES_SECONDS) <= 31
    monkeypatch.setattr(dicomweb, "PAUSES_SECONDS", (0.0, 0.01))
    url = "http://127.0.0.1:9/dicom-web"
    code, out, err = luna("watch", "--url", url, "--folder", tmp_path / "dir", "--once")
    assert (code, out, len(err.splitlines())) == (1, "", 3)


@pytest.mark.parametrize(
    "command", [["--url", "{url}", "--study", "1.2.3"], ["watch", "--url", "{url}", "--folder", "{folder}"]]
)
def test_what_computes_and_the_operating_point_can_be_chosen(
    command: list[str], luna: Luna, fake: FakeDicomweb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A point that there is not is told before a study is fetched."""
    loaded: list[object] = []

    def load(**options: object) -> FixedDetector:
        loaded.append(options["runtime"])
        return FixedDetector()

    monkeypatch.setattr(NoduleDetector, "load", load)
    words = [word.format(url=fake.url, folder=tmp_path / "dir") for word in command]
    code, _, err = luna(*words, "--runtime", "openvino", "--operating-point", "1/8")
    assert (code, loaded) == (1, ["openvino"])
    assert "--operating-point 1/8: the classifier's card has no calibration" in err
    assert not any("/instances" in path for _, path in fake.asked)


def test_a_watch_tells_a_line_a_study(luna: Luna, fake: FakeDicomweb, tmp_path: Path) -> None:
    folder = tmp_path / "dir"
    code, out, _ = luna(
        "watch", "--url", fake.url, "--folder", folder, "--existing", "--once", "--interval", "0.01"
    )
    assert code == 0
    assert out.splitlines() == [
        f"{fake.url}: studies with CT from before the first look: 1",
        "study 1.2.3: 1 finding, SEG and SR stored",
    ]
    assert (folder / "results" / "1.2.3" / "report.html").is_file()
    assert sorted(path.name for path in folder.iterdir()) == ["results", "tmp", "watch.sqlite"]


@pytest.mark.parametrize(
    "command",
    [
        ["--url", "{url}", "--study", "1.2.3"],
        ["watch", "--url", "{url}", "--folder", "{folder}", "--existing", "--once"],
    ],
)
def test_without_networks_the_command_ends_and_no_study_has_failed(
    command: list[str], luna: Luna, fake: FakeDicomweb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> NoduleDetector:
        raise LunaError("segmentation: no weights")

    monkeypatch.setattr(NoduleDetector, "load", missing)
    folder = tmp_path / "dir"
    code, out, err = luna(*(each.format(url=fake.url, folder=folder) for each in command))
    assert (code, out, err.splitlines()[-1]) == (1, "", "luna: error: segmentation: no weights")
    assert not any("/instances/" in path for _, path in fake.asked)


@pytest.mark.parametrize("day", ["2026", "yesterday", "20261101-2026"])
def test_what_is_no_range_of_days_is_told(day: str, luna: Luna, tmp_path: Path) -> None:
    code, _, err = luna("watch", "--url", "http://pacs", "--folder", tmp_path / "dir", "--study-date", day)
    assert code == 2
    assert "is no date or range" in err
