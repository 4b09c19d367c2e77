"""Files and folders appear whole or not at all."""

import errno
import os
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.files import publishing, replacing, replacing_folder, unfinished


def test_a_file_appears_on_success(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.csv").read_text() == "new"


def test_a_file_is_not_there_before_the_end(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.csv"):
        assert not (tmp_path / "a.csv").exists()


def test_the_temporary_file_keeps_all_suffixes(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith("a.nii.gz")


def test_missing_parents_are_made(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "a.csv"):
        pass
    assert (tmp_path / "new" / "a.csv").exists()


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.csv") as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert (tmp_path / "a.csv").read_text() == "old"


def test_a_failure_leaves_nothing_beside(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.csv"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with replacing(tmp_path / "link.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "real.csv").read_text() == "new"


def test_a_file_as_parent_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LunaError, match=r"file/a\.csv: cannot be written: "),
        replacing(tmp_path / "file/a.csv"),
    ):
        pass


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="is not a file"), replacing(tmp_path):
        pass


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(LunaError, match=r"a\.csv: cannot be written: No space"),
        replacing(tmp_path / "a.csv"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_another_os_error_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.csv"):
        (tmp_path / "none").read_text()


def test_a_folder_appears_on_success(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "out") as temporary:
        (temporary / "a").touch()
    assert (tmp_path / "out" / "a").exists()


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with replacing_folder(tmp_path / "out") as temporary:
        (temporary / "a").touch()
    assert (tmp_path / "out" / "a").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="the folder is not empty"), replacing_folder(tmp_path.parent):
        pass


def test_overwrite_replaces_all_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with replacing_folder(tmp_path / "out", overwrite=True) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


def test_overwrite_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with replacing_folder(tmp_path / "out", overwrite=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_keeps_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "out", overwrite=True):
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with (
        pytest.raises(LunaError, match="cannot be written"),
        replacing_folder(tmp_path / "out", overwrite=True) as temporary,
    ):
        temporary.rmdir()  # so there is nothing to rename
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(LunaError, match="is a file"), replacing_folder(tmp_path / "out"):
        pass


def test_published_files_appear_together(tmp_path: Path) -> None:
    with publishing(tmp_path / "new" / "out", "last.json") as temporary:
        (temporary / "a.csv").write_text("a")
        (temporary / "last.json").write_text("{}")
        assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == [temporary.name]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == ["a.csv", "last.json"]


def test_publishing_leaves_the_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with publishing(tmp_path, "last.json") as temporary:
        (temporary / "a.csv").write_text("a")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_publishing_takes_away_what_an_earlier_run_wrote(tmp_path: Path) -> None:
    for name in ("old.png", "a.csv", "last.json"):
        (tmp_path / name).write_text("old")
    with publishing(tmp_path, "last.json", ["old.png", "a.csv", "../elsewhere"]) as temporary:
        (temporary / "a.csv").write_text("new")
        (temporary / "last.json").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "last.json"]
    assert (tmp_path / "a.csv").read_text() == "new"


def test_publishing_does_not_reach_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    with publishing(tmp_path / "out", "last.json", ["../elsewhere"]):
        pass
    assert (tmp_path / "elsewhere").exists()


def test_the_last_file_goes_first_and_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("old")
    order = []
    move = Path.replace

    def watched(self: Path, target: Path) -> Path:
        order.append((target.name, (tmp_path / "a.json").exists()))
        return move(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with publishing(tmp_path, "a.json") as temporary:
        for name in ("a.json", "b.csv", "c.csv"):
            (temporary / name).write_text("new")
    assert order == [("b.csv", False), ("c.csv", False), ("a.json", False)]


def test_what_is_published_is_on_the_disk_before_the_last_file_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    move, sync = Path.replace, os.fsync

    def moved(self: Path, target: Path) -> Path:
        order.append(f"move {target.name}")
        return move(self, target)

    def synced(descriptor: int) -> None:
        order.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    monkeypatch.setattr(Path, "replace", moved)
    monkeypatch.setattr(os, "fsync", synced)
    with publishing(tmp_path / "out", "a.json") as temporary:
        for name in ("a.json", "b.csv"):
            (temporary / name).write_text("new")
    assert order == ["sync a.json", "sync b.csv", "move b.csv", "sync out", "move a.json", "sync out"]


@pytest.mark.parametrize(("number", "is_let_pass"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_only_a_file_system_that_cannot_sync_is_let_pass(
    number: int, is_let_pass: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    told = nullcontext() if is_let_pass else pytest.raises(LunaError, match="cannot be written")
    with told, publishing(tmp_path / "out", "last") as temporary:
        (temporary / "last").touch()
    assert (tmp_path / "out" / "last").exists() == is_let_pass


def test_what_a_killed_publishing_leaves_is_seen(tmp_path: Path) -> None:
    with publishing(tmp_path, "last.json") as temporary:
        (tmp_path / ".hidden").mkdir()
        assert unfinished(tmp_path) == [temporary]
    assert unfinished(tmp_path) == unfinished(tmp_path / "none") == []


def test_an_error_names_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    with (
        pytest.raises(LunaError, match=re.escape(f"{tmp_path / 'out' / 'a.csv'}: cannot be written")),
        publishing(tmp_path / "out", "last") as temporary,
    ):
        raise LunaError(f"{temporary / 'a.csv'}: cannot be written")


def test_a_failure_publishes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), publishing(tmp_path, "last.json") as temporary:
        (temporary / "a.csv").write_text(f"half {1 / 0}")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "old")]


def test_a_failure_leaves_no_new_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), publishing(tmp_path / "new" / "out", "last.json"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_wanted_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(LunaError, match="out: is a file; expected"), publishing(tmp_path / "out", "last"):
        pass


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LunaError, match="file/out: cannot be written"),
        publishing(tmp_path / "file/out", "last"),
    ):
        pass
