"""The files of jobs on disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.jobs import Claim, Options
from p2ch_luna.serve.storage import SPARE_BYTES, Storage

ID, OTHER = "a" * 32, "b" * 32
HOLD = """
import sys, time
from pathlib import Path
from p2ch_luna.serve.storage import Storage
with Storage(Path(sys.argv[1])).claimed():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "served")


def uploaded(storage: Storage, job_id: str = ID) -> Path:
    storage.new_upload(job_id).write_bytes(b"scan")
    return storage.job_folder(job_id) / storage.adopt(job_id, ".nii.gz")


def test_a_new_folder_is_its_owners_alone(storage: Storage) -> None:
    folders = [storage.folder, *(path for path in storage.folder.iterdir() if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_the_folder_of_a_job_is_its_owners_alone(storage: Storage) -> None:
    assert uploaded(storage).parent.stat().st_mode & 0o777 == 0o700


def test_an_adopted_upload_is_the_scan_of_its_job(storage: Storage) -> None:
    uploaded(storage)
    claim = Claim(ID, 1, "../../a name", "scan.nii.gz", Options())
    assert storage.scan_path(claim).read_bytes() == b"scan"
    assert not storage.new_upload(ID).exists()


def test_an_adopted_scan_outlives_a_loss_of_power(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink()))
    scan = uploaded(storage)
    assert synced == [scan.parent, scan.parent.parent]


def test_room_is_what_leaves_the_jobs_that_are_there_theirs(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda: SPARE_BYTES + 5)
    assert [storage.has_room(to_come) for to_come in (0, 5, 6)] == [True, True, False]


def test_a_dropped_scan_leaves_the_results(storage: Storage) -> None:
    scan = uploaded(storage)
    storage.results_folder(ID).mkdir()
    storage.drop_scan(ID)
    assert not scan.exists()
    assert storage.results_folder(ID).exists()


def test_dropped_results_leave_the_scan(storage: Storage) -> None:
    scan = uploaded(storage)
    (storage.results_folder(ID) / ".0123abcd").mkdir(parents=True)
    storage.drop_results(ID)
    assert scan.exists()
    assert not storage.results_folder(ID).exists()


def test_a_removed_job_leaves_nothing(storage: Storage) -> None:
    uploaded(storage)
    storage.remove(ID)
    assert list((storage.folder / "jobs").iterdir()) == []


def test_to_drop_what_is_not_there_is_no_error(storage: Storage) -> None:
    storage.drop_scan(ID)
    storage.drop_results(ID)
    storage.remove(ID)


def test_a_sweep_leaves_only_the_jobs_that_are_known(storage: Storage) -> None:
    known = uploaded(storage)
    uploaded(storage, OTHER)
    storage.new_upload(OTHER).touch()
    (storage.tmp / "luna-1-x").mkdir()
    storage.sweep({ID})
    files = {path for path in storage.folder.rglob("*") if path.parent != storage.folder}
    assert files == {known.parent, known}


def test_a_sweep_follows_no_link(storage: Storage, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "file").touch()
    (storage.tmp / "link").symlink_to(beside)
    storage.sweep(set())
    assert (beside / "file").exists()
    assert not (storage.tmp / "link").is_symlink()


@pytest.mark.parametrize("job_id", ["", "..", "../" + "a" * 29, "A" * 32, "a" * 32 + "\n", "a" * 33])
def test_what_is_no_id_is_no_path(storage: Storage, job_id: str) -> None:
    for place in (storage.job_folder, storage.new_upload, storage.results_folder, storage.remove):
        with pytest.raises(ValueError, match="not the id of a job"):
            place(job_id)


def test_a_folder_of_other_things_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(LunaError, match=r"holds 'thesis\.tex'"):
        Storage(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_was_begun_is_taken_up(storage: Storage) -> None:
    assert Storage(storage.folder).folder == storage.folder


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LunaError, match="cannot be made"):
        Storage(tmp_path / "file" / "served")


def test_a_second_server_is_refused(storage: Storage) -> None:
    command = [sys.executable, "-c", HOLD, str(storage.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(LunaError, match="another server uses it"), storage.claimed():
            pass
        first.kill()
        first.wait()
    with storage.claimed():
        pass


def test_an_error_of_the_block_is_not_one_of_the_lock(storage: Storage) -> None:
    with pytest.raises(OSError, match="No space left"), storage.claimed():
        raise OSError(errno.ENOSPC, "No space left on device")
