"""Write files and folders whole or not at all: beside the target first, then renamed."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from p2ch_luna.errors import LunaError

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNFINISHED = re.compile(r"\.[0-9a-f]{8}")  # how `publishing` names its hidden folder
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)  # some file systems, a folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` with the same suffixes; on success it takes the place of `path`.

    Missing parent folders are made. If the block raises, `path` is as it was and nothing else is left.
    Raises LunaError where `path` cannot be written, before anything is computed in the block.
    """
    if path.exists() and not path.is_file():
        raise LunaError(f"{path}: is not a file; expected the name of a file to write")
    target = path.resolve()  # a link stays a link
    temporary = _beside(target)
    with _told_as_luna_error(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    try:
        with _told_as_luna_error(path, only=DISK_IS_FULL):
            yield temporary
        with _told_as_luna_error(path):
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path`.

    A folder that holds something is only replaced with `overwrite`, and then with all that it holds.
    Raises LunaError where `path` cannot be written, before anything is computed in the block.
    """
    _check_folder(path, overwrite=overwrite)
    target = path.resolve()
    temporary = _beside(target)
    with _told_as_luna_error(path):
        temporary.mkdir(parents=True)
    try:
        with _told_as_luna_error(path, only=DISK_IS_FULL):
            yield temporary
        with _told_as_luna_error(path):
            _swap_in(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def publishing(folder: Path, last: str, stale: Collection[str] = ()) -> Iterator[Path]:
    """Yield an empty hidden folder within `folder`; on success its files move into `folder`, `last` the last.

    Where `last` is there the files are whole and of one run, for it is removed before they are touched, and
    they are on the disk before it is back: not even a power cut leaves half of them.
    stale: names of files of an earlier run, which go if this one has not written them anew. Other files
    stay. If the block raises, `folder` is as it was, and gone if it was not there. Raises LunaError where it
    cannot be written, before the block computes anything.
    """
    if folder.exists() and not folder.is_dir():
        raise LunaError(f"{folder}: is a file; expected the name of a folder to write")
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    temporary = folder / f".{secrets.token_hex(4)}"
    try:
        with _told_as_luna_error(folder):
            temporary.mkdir(parents=True)
        with _told_as_luna_error(folder, only=DISK_IS_FULL), _named(temporary, folder):
            yield temporary
        with _told_as_luna_error(folder):
            _move_in(temporary, folder, last, stale)
            made = []
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # another has put something there meanwhile
                parent.rmdir()


def unfinished(folder: Path) -> list[Path]:
    """What `publishing` into a folder has left there: it was killed, or goes on at this moment."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if _UNFINISHED.fullmatch(path.name) and path.is_dir()]


def _move_in(source: Path, folder: Path, last: str, stale: Collection[str]) -> None:
    """All files of `source` into `folder`."""
    names = sorted(path.name for path in source.iterdir())
    gone = [name for name in stale if Path(name).name == name and name not in names]
    for name in names:
        _sync(source / name)
    (folder / last).unlink(missing_ok=True)
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == last):
        if name == last:
            _sync(folder)
        (source / name).replace(folder / name)
    _sync(folder)


def _sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def _check_folder(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise LunaError(f"{path}: is a file; expected the name of a folder to write")
    with _told_as_luna_error(path):
        if path.exists() and any(path.iterdir()) and not overwrite:
            raise LunaError(f"{path}: the folder is not empty; expected a new or an empty one")


def _swap_in(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`; what was there is put back if that fails, else deleted."""
    old = _beside(target)
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        with suppress(FileNotFoundError):
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _named(temporary: Path, folder: Path) -> Iterator[None]:
    """In a LunaError of the block the folder that a person knows takes the place of the hidden one."""
    try:
        yield
    except LunaError as error:
        error.args = (str(error).replace(str(temporary), str(folder)),)
        raise


def _beside(path: Path) -> Path:
    """A new hidden name in the same folder, so on the same disk; it ends as `path` does."""
    return path.with_name(f".{secrets.token_hex(4)}-{path.name}")


@contextmanager
def _told_as_luna_error(path: Path, only: tuple[int, ...] | None = None) -> Iterator[None]:
    """Turn an OSError (with one of the error numbers `only`) into a LunaError that names `path`."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        raise LunaError(f"{path}: cannot be written: {error.strerror or error}") from error
