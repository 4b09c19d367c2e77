"""One study: what it shows, its images here, its findings there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.detector import Silent
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb.client import Series, Server
from p2ch_luna.serve.dicomweb.failures import UnreachableError
from p2ch_luna.serve.dicomweb.study import (
    Diagnose,
    GoneError,
    Stored,
    Study,
    UnforeseenError,
    diagnosed,
    fetched,
    find_study,
    is_reported,
    store,
)
from support.dicomweb import FakeDicomweb

Scan = Callable[..., list[Path]]


def study(*parts: str) -> Study:
    """With a CT series of each part of the body."""
    return Study("1", tuple(Series(f"1.{k}", "CT", "9", part, "") for k, part in enumerate(parts)))


@pytest.mark.parametrize("parts", [["CHEST"], [""], ["HEAD", "CHEST"], ["HEAD", ""], ["CHESTABDOMEN"], []])
def test_a_study_that_may_show_a_chest_is_not_elsewhere(parts: list[str]) -> None:
    assert study(*parts).elsewhere is None


def test_a_study_of_other_parts_says_which() -> None:
    assert study("HEAD", "Abdomen", "HEAD").elsewhere == "ABDOMEN, HEAD"


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("HEAD\nstudy 9.9: stored \x1b[31mYAMADA^TAROU 19700101", "HEAD"),
        ("C-Spine Yamada", "SPINE"),
        ("CERVICALSPINE", "SPINE"),
    ],
)
def test_of_what_a_server_calls_a_part_known_words_alone_are_told(part: str, told: str) -> None:
    assert study(part).elsewhere == told


def test_images_are_counted_where_the_server_does_not(fake: FakeDicomweb, server: Server, scan: Scan) -> None:
    fake.silent = {"NumberOfSeriesRelatedInstances"}
    fake.send(*scan()[:7])
    assert [series.count for series in find_study(server, "1.2.3").series] == ["7"]


def test_all_ct_images_are_there_within_the_block_alone(
    fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path
) -> None:
    fake.send(*scan())
    with fetched(server, find_study(server, "1.2.3"), Silent(), tmp_path) as folder:
        assert sorted(path.read_bytes() for path in folder.iterdir()) == sorted(fake.instances.values())
    assert not folder.exists()


def test_nothing_stays_of_half_a_study(
    fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path
) -> None:
    fake.send(*scan())
    half = sorted(fake.instances)[10]
    fake.fault = lambda _method, path: 503 if path.endswith(half) else None
    within = tmp_path / "within"
    within.mkdir()
    with pytest.raises(UnreachableError), fetched(server, find_study(server, "1.2.3"), Silent(), within):
        pytest.fail("it is not whole")
    assert list(within.iterdir()) == []


def test_a_study_without_ct_is_told(server: Server) -> None:
    empty = fetched(server, find_study(server, "1.2.3"), Silent())
    with pytest.raises(LunaError, match=r"no CT series of study 1\.2\.3"), empty:
        pytest.fail("there is none")


def test_an_error_names_the_study_and_no_folder(tmp_path: Path, diagnose: Diagnose) -> None:
    scan = tmp_path / "1.2.3"
    scan.mkdir()
    with pytest.raises(LunaError, match=r"^study 1\.2\.3: no DICOM images") as told:
        diagnosed(diagnose, scan, tmp_path / "out")
    assert str(tmp_path) not in str(told.value)


def test_the_text_of_an_unforeseen_error_is_not_told() -> None:
    def fail(_scan: Path, _results: Path) -> Report:
        raise ValueError("Yamada^Tarou")

    with pytest.raises(UnforeseenError, match=r"study 1\.2\.3: the diagnosis failed: ValueError") as told:
        diagnosed(fail, Path("1.2.3"), Path("out"))
    assert "Yamada" not in str(told.value)


@pytest.mark.parametrize("silent", [set(), {"Manufacturer"}])
def test_a_study_is_reported_once_its_sr_is_stored(
    silent: set[str], fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path, diagnose: Diagnose
) -> None:
    fake.silent = silent
    files = scan()
    fake.send(*files)
    assert not is_reported(server, find_study(server, "1.2.3"))
    report = diagnose(files[0].parent, tmp_path / "out")
    assert store(server, report, tmp_path / "out") == (Stored("SEG", True), Stored("SR", True))
    assert is_reported(server, find_study(server, "1.2.3"))


def test_an_sr_of_another_maker_is_none_of_ours(fake: FakeDicomweb, server: Server, scan: Scan) -> None:
    fake.send(*scan(Modality="SR", Manufacturer="p2ch"))
    assert not is_reported(server, find_study(server, "1.2.3"))


def test_without_an_sr_nothing_is_stored(
    fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path, diagnose: Diagnose
) -> None:
    report = diagnose(scan()[0].parent, tmp_path / "out").model_copy(update={"files": ()})
    with pytest.raises(LunaError, match="nothing is stored"):
        store(server, report, tmp_path / "out")
    assert fake.instances == {}


def test_findings_of_a_series_that_is_gone_are_not_stored(
    fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path, diagnose: Diagnose
) -> None:
    fake.send(*scan("1.2.4"))
    report = diagnose(scan("1.2.3")[0].parent, tmp_path / "out")
    with pytest.raises(GoneError, match=r"study 1\.2\.3: it is gone"):
        store(server, report, tmp_path / "out")
    assert fake.of("SEG") == []
