"""What is said of the folders that are written to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.report.doctor.places import PLACES, Place, places, remark_on

PLACE = Place("results", Path.cwd, "results go there", "take another")


def test_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    assert remark_on(PLACE, tmp_path).state == "ok"
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert remark_on(PLACE, tmp_path / "a" / "b").state == "ok"
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remark = remark_on(PLACE, tmp_path / "file" / "folder")
    assert remark.state == "note"
    assert remark.found == f"{tmp_path}/file/folder: Not a directory; results go there"
    assert remark.advice == "take another"


def test_a_place_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    assert "Permission denied" in remark_on(PLACE, tmp_path).found


def test_too_little_room_is_told(tmp_path: Path) -> None:
    remark = remark_on(PLACE._replace(wanted_bytes=1 << 60), tmp_path)
    assert remark.state == "note"
    assert "wanted 1073741824.0 GiB" in remark.found


def test_a_place_that_cannot_be_found_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("p2ch_luna.report.doctor.places.PLACES", (PLACE._replace(find=fail), PLACE))
    assert [remark.state for remark in places()] == ["note", "ok"]


def test_the_cache_is_that_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (cache,) = (place for place in PLACES if place.subject == "cache")
    assert cache.find() == ScanCache().folder


@pytest.mark.parametrize("variable", ["MPLCONFIGDIR", "XDG_CACHE_HOME"])
def test_the_list_of_fonts_is_where_matplotlib_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    (fonts,) = (place for place in PLACES if place.subject == "matplotlib")
    code = "import matplotlib; print(matplotlib.get_cachedir())"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert str(fonts.find()) == theirs.strip()
