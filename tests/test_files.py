"""Files and folders appear whole or not at all."""

import errno
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing, replacing_folder


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
