"""`luna prepare` on a folder laid out as LUNA16's, whole and broken; killed, interrupted, twice at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.cli import main
from p2ch_luna.cli.prepare import _table
from p2ch_luna.datasets.catalogue import Problem
from p2ch_luna.datasets.preparation import Prepared
from p2ch_luna.datasets.sources import ScanSource
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_ct, write_nodules
from p2ch_luna.io.scan_cache import ScanCache

UIDS = {f"1.2.{subset}{k}": subset for subset in range(3) for k in range(2)}


def chest(uid: str, *, has_lungs: bool = True) -> CtVolume:
    """Two lungs of noise in a body, 64 x 192 x 192 mm."""
    rng = np.random.default_rng(int(uid.replace(".", "")))
    hu = np.full((16, 48, 48), -1000, np.int16)
    hu[:, 8:40, 4:44] = 40
    if has_lungs:
        hu[2:14, 12:36, 8:20] = rng.integers(-900, -800, (12, 24, 12))
        hu[2:14, 12:36, 28:40] = rng.integers(-900, -800, (12, 24, 12))
    return CtVolume(uid, hu, ImageGeometry.axial((4.0, 4.0, 4.0), (-90.0, -80.0, -200.0)))


@pytest.fixture(scope="module")
def luna16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans in each of subset0.zip, subset1 and subset2, and the lists. Not to be written to."""
    folder = tmp_path_factory.mktemp("LUNA16")
    for uid, subset in UIDS.items():
        write_ct(folder / f"subset{subset}" / f"{uid}.mhd", chest(uid))
    with zipfile.ZipFile(folder / "subset0.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted((folder / "subset0").iterdir()):
            zipped.write(file, f"subset0/{file.name}")
    shutil.rmtree(folder / "subset0")
    (folder / "seriesuids.csv").write_text("\n".join([*UIDS, "1.2.90", "1.2.91"]) + "\n")
    nodules = [Nodule("1.2.00", (0.0, 0.0, -170.0), 5.0), Nodule("1.2.90", (0.0, 0.0, 0.0), 5.0)]
    write_nodules(folder / "annotations.csv", nodules)
    return folder


@pytest.fixture
def copy(luna16: Path, tmp_path: Path) -> Path:
    """To be written to."""
    return Path(shutil.copytree(luna16, tmp_path / "LUNA16"))


def command(folder: Path, cache: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "p2ch_luna", "prepare", str(folder), "--cache", str(cache), *options]


def run(folder: Path, cache: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, cache, *options), capture_output=True, text=True, check=False)


def started(folder: Path, cache: Path) -> subprocess.Popen[str]:
    """A process group of its own, as that of a terminal, that has prepared one scan and is at others."""
    process = subprocess.Popen(
        command(folder, cache, "--workers", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith("1/"):
        assert process.poll() is None
    return process


def contents(cache: Path) -> dict[str, bytes]:
    """The bytes of each scan by its key."""
    return {entry.key: entry.path.read_bytes() for entry in ScanCache(cache).entries()}


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["prepare", *arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def unbroken(luna16: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The cache of a run that nothing disturbed, and what it printed."""
    cache = tmp_path_factory.mktemp("cache")
    done = run(luna16, cache, "--workers", "1")
    assert done.returncode == 0, done.stderr
    return cache, done.stdout


def test_every_scan_is_prepared(unbroken: tuple[Path, str]) -> None:
    assert {entry.series_uid for entry in ScanCache(unbroken[0]).entries()} == set(UIDS)


@pytest.mark.parametrize(
    "line",
    [
        "scans     6 prepared: 6 now, 0 before\n",
        "LUNA16    6 of the 8 scans in its list\n",
        "subsets   0: 2 of 89, 1: 2 of 89, 2: 2 of 89; none of 3, 4, 5, 6, 7, 8, 9\n",
        "nodules   1 in 1 scans; 1 of scans that are not here\n",
    ],
)
def test_the_summary_says(unbroken: tuple[Path, str], line: str) -> None:
    assert line in unbroken[1]


def test_the_second_run_has_nothing_to_do(
    luna16: Path, unbroken: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(str(luna16), "--cache", str(unbroken[0])) == 0
    assert "scans     6 prepared: 0 now, 6 before\n" in capsys.readouterr().out


def test_a_log_has_a_line_a_scan(
    luna16: Path, unbroken: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code(str(luna16), "--cache", str(unbroken[0]), "--subset", "0")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "preparing (2)"
    assert lines[2].startswith("2/2 1.2.01: ")
    assert lines[2].endswith(" MB, was there")


def test_only_the_subsets_wanted_are_prepared(luna16: Path, tmp_path: Path) -> None:
    assert exit_code(str(luna16), "--cache", str(tmp_path), "--subset", "0,2") == 0
    assert {entry.series_uid[4] for entry in ScanCache(tmp_path).entries()} == {"0", "2"}


def test_raw_storage(luna16: Path, tmp_path: Path) -> None:
    exit_code(str(luna16 / "subset1"), "--cache", str(tmp_path), "--storage", "raw")
    assert {entry.storage for entry in ScanCache(tmp_path).entries()} == {"raw"}


def test_killed_and_begun_again_it_leaves_the_same_cache(
    luna16: Path, unbroken: tuple[Path, str], tmp_path: Path
) -> None:
    process = started(luna16, tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 1 <= len(contents(tmp_path)) < 6
    done = run(luna16, tmp_path, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(unbroken[0])


def test_two_at_once_share_the_work(luna16: Path, unbroken: tuple[Path, str], tmp_path: Path) -> None:
    both = [
        subprocess.Popen(command(luna16, tmp_path, "--workers", "1"), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(int(text.split("prepared: ")[1].split()[0]) for text in said) == 6
    assert contents(tmp_path) == contents(unbroken[0])


def test_interrupted_it_ends_cleanly(luna16: Path, tmp_path: Path) -> None:
    process = started(luna16, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "luna: interrupted"
    assert "Traceback" not in errors


def test_a_bad_scan_is_listed_and_the_others_are_prepared(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "subset1" / "1.2.10.raw").write_bytes(b"short")
    (copy / "subset1" / "1.2.11.raw").unlink()
    assert exit_code(str(copy), "--cache", str(tmp_path), "--subset", "1-2") == 1
    assert capsys.readouterr().out.split("\n\n")[1].splitlines() == [
        "2 problems",
        "series uid  where               what is wrong",
        "1.2.11      subset1/1.2.11.mhd  its data file '1.2.11.raw' is not there; "
        "expected it beside the header",
        "1.2.10      subset1/1.2.10.mhd  subset1/1.2.10.raw: 5 bytes; expected 73728 by its header: "
        "the file is cut short",
    ]
    assert {entry.series_uid for entry in ScanCache(tmp_path).entries()} == {"1.2.20", "1.2.21"}


def test_a_zip_cut_short_is_listed_and_the_others_are_prepared(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "subset0.zip"
    path.write_bytes(path.read_bytes()[:-100])
    shutil.rmtree(copy / "subset2")
    assert exit_code(str(copy), "--cache", str(tmp_path)) == 1
    out = capsys.readouterr().out
    assert "subset0.zip  damaged or cut short: " in out
    assert "scans     2 prepared: 2 now" in out


def test_a_uid_that_is_not_listed_is_not_prepared(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "seriesuids.csv").write_text("\n".join(uid for uid in UIDS if uid != "1.2.20"))
    assert exit_code(str(copy), "--cache", str(tmp_path), "--subset", "2") == 1
    assert "1.2.20      subset2/1.2.20.mhd  its series uid is not in LUNA16's list" in capsys.readouterr().out


def test_a_place_outside_its_scan_is_listed_and_the_scan_is_prepared(
    copy: Path, unbroken: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_nodules(copy / "annotations.csv", [Nodule("1.2.10", (150.0, 0.0, -170.0), 5.0)])
    assert exit_code(str(copy), "--cache", str(unbroken[0]), "--subset", "1") == 1
    out = capsys.readouterr().out
    assert "annotations.csv  the place (150, 0, -170) mm lies 50.0 mm outside its scan" in out
    assert "scans     2 prepared" in out


def test_a_scan_without_lungs_is_prepared_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ct(tmp_path / "body.mhd", chest("1", has_lungs=False))
    assert exit_code(str(tmp_path), "--cache", str(tmp_path / "cache")) == 0
    assert "no lungs  body: no lungs found: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.3e+40,0,0,0,5\n", "'1.3e+40'; expected a series uid"),
        ("seriesuid,coordX,coordY,diameter_mm\n1.2.00,0,0,5\n", "no column 'coordZ'"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.00,0,x,0,5\n", "'x'; expected a number"),
    ],
)
@pytest.mark.parametrize("option", ["--annotations", "--excluded"])
def test_a_bad_table_is_told_before_the_work(
    luna16: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, table: str, error: str
) -> None:
    (tmp_path / "a.csv").write_text(table)
    cache = str(tmp_path / "cache")
    assert exit_code(str(luna16), "--cache", cache, option, str(tmp_path / "a.csv")) == 1
    assert error in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_subset_that_is_not_there_is_an_error(
    luna16: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(str(luna16), "--cache", str(tmp_path), "--subset", "7-9") == 1
    assert "LUNA16" in capsys.readouterr().err


def test_a_cache_that_cannot_be_made_is_an_error(
    luna16: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert exit_code(str(luna16), "--cache", str(tmp_path / "file" / "cache")) == 1
    assert "expected a folder to keep scans in" in capsys.readouterr().err


def test_scans_that_the_cache_does_not_keep_are_told(
    luna16: Path, unbroken: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two scans it has room for one."""
    room = 1.5 * max(len(content) for content in contents(unbroken[0]).values()) / 1e9
    options = ("--subset", "1", "--cache-size", str(room), "--workers", "1")
    assert exit_code(str(luna16), "--cache", str(tmp_path), *options) == 1
    said = capsys.readouterr()
    assert "scans     2 prepared: 2 now" in said.out
    assert "scans: 1 of the 2 scans are not kept: they made room for others" in said.err
    assert "wanted --cache-size 1 or more here and in `luna train`" in said.err
    assert len(contents(tmp_path)) == 1


def test_what_was_found_is_told_also_where_the_cache_fails_in_the_middle(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "subset1" / "1.2.10.raw").unlink()

    def fail(sources: list[ScanSource], *_: object) -> Iterator[Prepared]:
        yield Prepared(sources[0], 1_000_000, 2.0, None)
        raise LunaError("scans: cannot be written: No space left on device")

    monkeypatch.setattr("p2ch_luna.datasets.preparation.prepare_all", fail)
    assert exit_code(str(copy), "--cache", str(tmp_path), "--subset", "1") == 1
    said = capsys.readouterr()
    assert "scans     1 prepared: 1 now, 0 before" in said.out
    assert "1 problem\n" in said.out
    assert said.err.splitlines()[-1] == "luna: error: scans: cannot be written: No space left on device"


def test_only_a_long_uid_is_shortened_and_no_path_of_two() -> None:
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001"
    row = Problem(uid, f"LUNA16/{uid}.mhd", "cut short")
    assert _table([row], [Path("LUNA16")]).splitlines()[-1] == f"{uid}  ….mhd  cut short"
    twice = Problem("a", "x/a.mhd and y/a.mhd", "at 2 places")
    assert _table([twice], [Path("x"), Path("y")]).splitlines()[-1].split() == [
        "a", "x/a.mhd", "and", "y/a.mhd", "at", "2", "places",
    ]  # fmt: skip
