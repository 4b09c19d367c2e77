"""`luna cache` on a small store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from p2ch_luna.cli import main
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.lungs import PreparedCt


@pytest.fixture
def store(tmp_path: Path) -> ScanCache:
    """One scan of each storage."""
    hu = np.zeros((8, 8, 8), np.int16)
    prepared = PreparedCt(CtVolume("1.2.3", hu, ImageGeometry.axial()), hu == 0, None)
    ScanCache(tmp_path, "raw").put("key 1", prepared)
    store = ScanCache(tmp_path)
    store.put("key 2", prepared)
    return store


def luna(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main(["cache", *map(str, arguments)])
    return int(done.value.code or 0)


def damage(store: ScanCache) -> None:
    store.entries()[0].path.write_bytes(b"?")


def test_info_tells_what_is_there(
    store: ScanCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert luna("info", "--cache", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{store.folder}: 2 scan(s), 0 MB"
    assert [line.split()[:2] for line in lines[1:3]] == [["blosc2", "1"], ["raw", "1"]]


def test_info_as_json_tells_every_scan(
    store: ScanCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    luna("info", "--cache", tmp_path, "--json")
    found = json.loads(capsys.readouterr().out)
    assert [(scan["key"], scan["series_uid"], scan["storage"]) for scan in found["scans"]] == [
        ("key 1", "1.2.3", "raw"),
        ("key 2", "1.2.3", "blosc2"),
    ]
    assert found["n_bytes"] == sum(entry.n_bytes for entry in store.entries())


@pytest.mark.parametrize("command", ["info", "clear", "verify"])
def test_no_store_is_made_to_be_looked_at(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert luna(command, "--cache", tmp_path / "none") == 1
    assert "none: no cache there; expected the folder given to --cache" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_stores_own_folder_will_do_too(
    store: ScanCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert luna("info", "--cache", store.folder) == 0
    assert f"{tmp_path / 'scans'}: 2 scan(s)" in capsys.readouterr().out


def test_info_of_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ScanCache(tmp_path)
    assert luna("info", "--cache", tmp_path) == 0
    assert "0 scan(s), 0 MB" in capsys.readouterr().out


def test_the_store_of_the_user_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    luna("info")
    assert capsys.readouterr().out.startswith(f"{ScanCache().folder}: ")


def test_clear_removes_all_scans(
    store: ScanCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert luna("clear", "--cache", tmp_path, "--yes") == 0
    assert (capsys.readouterr().out, store.entries()) == (f"2 scan(s) removed from {store.folder}\n", [])


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 2)])
def test_clear_asks_first(store: ScanCache, tmp_path: Path, answer: str, left: int) -> None:
    from p2ch_luna.cli.cache import cache

    asked = CliRunner().invoke(cache, ["clear", "--cache", str(tmp_path)], input=f"{answer}\n")
    assert "Remove 2 prepared scan(s)" in asked.output
    assert (asked.exit_code, len(store.entries())) == (0, left)


def test_verify_of_a_good_store(store: ScanCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert luna("verify", "--cache", tmp_path) == 0
    assert capsys.readouterr().out == f"{store.folder}: 2 scan(s), all good\n"


def test_verify_fails_on_damage_and_says_what_to_do(
    store: ScanCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(store)
    assert luna("verify", "--cache", tmp_path) == 1
    assert "1 damaged scan(s) removed, 1 are good; run your command again" in capsys.readouterr().err


def test_verify_removes_what_is_damaged(store: ScanCache, tmp_path: Path) -> None:
    damage(store)
    luna("verify", "--cache", tmp_path)
    assert luna("verify", "--cache", tmp_path) == 0
