"""A scan on its way in."""

from __future__ import annotations

from contextlib import suppress
from io import FileIO
from pathlib import Path

import pytest

from p2ch_luna.serve.formats import HEAD_BYTES
from p2ch_luna.serve.jobs import Job, Options
from p2ch_luna.serve.refused import Refused
from p2ch_luna.serve.storage import SPARE_BYTES, Storage
from p2ch_luna.serve.store import JobStore
from p2ch_luna.serve.uploads import CHECK_BYTES, Upload, tidy
from support.job_bench import NIFTI

ID = "a" * 32


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "served")


def begun(storage: Storage, max_bytes: int = 1 << 20) -> Upload:
    return Upload(ID, storage, max_bytes, JobStore(storage.database).add)


def left(storage: Storage) -> list[Path]:
    return [path for name in ("uploads", "jobs") for path in (storage.folder / name).iterdir()]


def test_pieces_of_any_size_make_the_scan(storage: Storage) -> None:
    with begun(storage) as upload:
        for start in range(0, len(NIFTI), 7):
            upload.write(NIFTI[start : start + 7])
        upload.commit("a scan", Options())
    assert (storage.job_folder(ID) / "scan.nii").read_bytes() == NIFTI


def test_a_scan_of_many_pieces_is_not_held_in_memory(storage: Storage) -> None:
    with begun(storage) as upload:
        upload.write(NIFTI + bytes(2 * HEAD_BYTES))
        upload.write(bytes(HEAD_BYTES))
        assert len(upload._head) == HEAD_BYTES


def test_a_client_that_goes_leaves_nothing(storage: Storage) -> None:
    with suppress(ConnectionError), begun(storage) as upload:
        upload.write(NIFTI)
        raise ConnectionError
    assert left(storage) == []


def test_an_upload_that_is_not_committed_leaves_nothing(storage: Storage) -> None:
    with begun(storage) as upload:
        upload.write(NIFTI)
    assert left(storage) == []


def test_too_many_bytes_are_refused_as_they_come(storage: Storage) -> None:
    with begun(storage, len(NIFTI)) as upload:
        upload.write(NIFTI)
        with pytest.raises(Refused) as refused:
            upload.write(b"x")
    assert refused.value.status == 413
    assert left(storage) == []


def test_what_is_no_scan_is_refused_before_all_of_it_is_there(storage: Storage) -> None:
    with begun(storage) as upload:
        upload.write(bytes(HEAD_BYTES - 1))
        with pytest.raises(Refused, match="no scan of a known format") as refused:
            upload.write(b"x")
    assert refused.value.status == 400


def test_an_empty_upload_is_refused(storage: Storage) -> None:
    with begun(storage) as upload, pytest.raises(Refused, match="is empty") as refused:
        upload.commit("a scan", Options())
    assert refused.value.status == 400
    assert left(storage) == []


def test_a_full_disk_is_told_and_leaves_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.new_upload(ID).symlink_to("/dev/full")
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: FileIO(path, "wb"))
    with begun(storage) as upload, pytest.raises(Refused) as refused:
        upload.write(NIFTI)
    assert refused.value.status == 507
    assert left(storage) == []


def test_an_upload_stops_before_it_takes_the_room_of_others(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SPARE_BYTES + CHECK_BYTES // 2
    monkeypatch.setattr(storage, "free_bytes", lambda: free - sum(map(size_of, left(storage))))
    with begun(storage, 1 << 30) as upload:
        upload.write(NIFTI + bytes(HEAD_BYTES))
        upload.write(bytes(CHECK_BYTES // 2))
        with pytest.raises(Refused) as refused:
            upload.write(bytes(CHECK_BYTES // 2))
    assert refused.value.status == 507
    assert left(storage) == []


def size_of(path: Path) -> int:
    return path.stat().st_size


def test_what_is_to_come_of_an_upload_was_declared_and_is_not_there(storage: Storage) -> None:
    with Upload(ID, storage, 1 << 20, JobStore(storage.database).add, len(NIFTI) + 5) as upload:
        assert upload.to_come == len(NIFTI) + 5
        upload.write(NIFTI)
        assert upload.to_come == 5
        upload.write(bytes(10))
        assert upload.to_come == 0


def test_an_error_of_the_disk_that_is_no_lack_of_room_is_not_hidden(storage: Storage) -> None:
    storage.job_folder(ID).touch()
    with begun(storage) as upload:
        upload.write(NIFTI)
        with pytest.raises(FileExistsError):
            upload.commit("a scan", Options())
    assert left(storage) == []


def test_a_name_leads_nowhere(storage: Storage) -> None:
    with begun(storage) as upload:
        upload.write(NIFTI)
        job: Job = upload.commit("../../../etc/cron.d/x", Options())
    assert job.name == "../../../etc/cron.d/x"
    assert left(storage) == [storage.job_folder(ID)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("CT chest.zip", "CT chest.zip"),
        ("", "scan"),
        (" \t\r\n", "scan"),
        ("a\r\nb\x00c\u202ed", "a b c d"),
        ("Müller", "Müller"),
        ("x" * 500, "x" * 120),
    ],
)
def test_a_name_is_one_line_that_can_be_shown(name: str, shown: str) -> None:
    assert tidy(name) == shown
