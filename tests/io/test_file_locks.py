"""Locks between processes."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2ch_luna.io.file_locks import claiming, new_locked_file, remove_unclaimed

HOLD = """
import sys, time
from pathlib import Path
from p2ch_luna.io.file_locks import claiming
with claiming(Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_the_first_claim_is_ours(path: Path) -> None:
    with claiming(path) as is_ours:
        assert is_ours


def test_a_claim_within_a_claim_is_not_ours(path: Path) -> None:
    with claiming(path), claiming(path) as is_ours:
        assert not is_ours


def test_a_claim_is_free_again_after_its_block(path: Path) -> None:
    with claiming(path):
        pass
    with claiming(path) as is_ours:
        assert is_ours


def test_a_claim_is_free_again_after_an_error(path: Path) -> None:
    with pytest.raises(KeyError), claiming(path):
        raise KeyError
    with claiming(path) as is_ours:
        assert is_ours


def test_a_claim_that_was_refused_frees_nothing(path: Path) -> None:
    with claiming(path):
        with claiming(path):
            pass
        with claiming(path) as is_ours:
            assert not is_ours


def test_a_claim_leaves_no_file(path: Path) -> None:
    with claiming(path):
        pass
    assert not path.exists()


def test_another_process_holds_its_claim_until_it_is_killed(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with claiming(path) as while_alive:
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with claiming(path) as after:
            pass
    assert (while_alive, after) == (False, True)


@pytest.fixture
def removed_just_before_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by another process that held the lock until then."""
    lock = fcntl.flock

    def remove_and_lock(descriptor: int, how: int) -> None:
        path.unlink()
        monkeypatch.setattr(fcntl, "flock", lock)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)


@pytest.mark.usefixtures("removed_just_before_the_lock")
def test_a_claim_is_on_the_file_of_that_name(path: Path) -> None:
    with claiming(path), claiming(path) as is_ours:
        assert not is_ours


@pytest.mark.usefixtures("removed_just_before_the_lock")
def test_a_new_file_that_was_swept_away_is_made_again(path: Path) -> None:
    with new_locked_file(path) as file:
        file.write(b"abc")
    assert path.read_bytes() == b"abc"


@pytest.mark.usefixtures("removed_just_before_the_lock")
def test_a_file_that_another_has_removed_is_no_error(path: Path) -> None:
    path.touch()
    assert not remove_unclaimed(path)


def test_a_new_file_holds_what_was_written(path: Path) -> None:
    with new_locked_file(path) as file:
        file.write(b"abc")
    assert path.read_bytes() == b"abc"


def test_a_new_file_replaces_none(path: Path) -> None:
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError), new_locked_file(path):
        pass


def test_a_file_that_is_being_written_is_not_removed(path: Path) -> None:
    with new_locked_file(path):
        assert not remove_unclaimed(path)
    assert path.exists()


def test_a_renamed_file_is_still_locked(path: Path) -> None:
    with new_locked_file(path):
        renamed = path.rename(path.with_name("renamed"))
        assert not remove_unclaimed(renamed)


def test_a_file_of_no_one_is_removed(path: Path) -> None:
    path.touch()
    assert remove_unclaimed(path)
    assert not path.exists()


def test_what_is_of_use_after_all_is_not_removed(path: Path) -> None:
    path.touch()
    assert not remove_unclaimed(path, lambda: False)
    assert path.exists()


def test_a_file_that_has_gone_is_no_error(path: Path) -> None:
    assert not remove_unclaimed(path)
