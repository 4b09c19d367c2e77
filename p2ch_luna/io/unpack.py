"""Unpack a zip that nobody vouches for: into a private folder, within limits, and nowhere else.

The folder is called after its process, and removed with it. What a killed process has left is removed by the
next that unpacks something.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from p2ch_luna.errors import LunaError
from p2ch_luna.io.file_locks import holding_folder
from p2ch_luna.io.names import is_hidden
from p2ch_luna.io.zipped import open_zip, zip_members

MAX_FILES = 100_000
MAX_BYTES = 16 << 30  # unpacked: several series of 1,000 slices of 1024 x 1024
MAX_RATIO = 100  # unpacked to packed; a CT's is 2 to 4,
RATIO_FROM_BYTES = 256 << 20  # and that of a small phantom without noise may be anything
SPARE_BYTES = 256 << 20  # of the disk, left free
_PIECE = 1 << 20
_FOLDER = re.compile(r"luna-(\d{1,9})-.+")  # of the process of this number


@contextmanager
def unpacked(path: Path, names: Collection[str] | None = None) -> Iterator[Path]:
    """A folder with what is in a zip, there within the block, but for zips in it and what a system added.

    names: only these members are unpacked and checked; all if None.
    Raises LunaError where the zip is damaged, encrypted, larger than the limits of this module or the disk,
    or a member is a link or lies outside the folder by its name. Then nothing has been unpacked, but for a
    zip that lies about its sizes. In a LunaError of the block the zip takes the place of the folder.
    """
    infos = zip_members(path)
    chosen = infos.values() if names is None else [infos[name] for name in names]
    members = [info for info in chosen if _is_wanted(path, info)]
    _check_sizes(path, members)
    _sweep(Path(tempfile.gettempdir()))
    with _private_folder() as folder:
        _check_room(path, folder, sum(info.file_size for info in members))
        with open_zip(path) as zipped:
            for info in members:
                _write(path, zipped, info, folder / PurePosixPath(info.filename))
        try:
            yield folder
        except LunaError as error:
            error.args = (str(error).replace(str(folder), str(path)),)
            raise


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Locked as long as it is there, by which others know that it is in use, wherever they run."""
    with tempfile.TemporaryDirectory(prefix=f"luna-{os.getpid()}-") as temporary:
        folder = Path(temporary)
        with holding_folder(folder):
            yield folder


def _sweep(parent: Path) -> None:
    """Remove what processes of this user that were killed had unpacked."""
    for folder in parent.glob("luna-*"):
        named = _FOLDER.fullmatch(folder.name)
        if named and _is_gone(int(named[1])) and _is_own(folder):
            with holding_folder(folder) as is_free:
                if is_free:
                    shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed is not ours to mend


def _is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # the number is now that of another user's
        return False
    return False


def _is_own(folder: Path) -> bool:
    """Whether it is a folder, not a link to one, of this user."""
    try:
        found = folder.lstat()
    except FileNotFoundError:  # another was quicker
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_wanted(path: Path, info: zipfile.ZipInfo) -> bool:
    """Raises LunaError for a member that would be written outside, whether it is wanted or not."""
    name, windows = PurePosixPath(info.filename), PureWindowsPath(info.filename)
    if name.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise LunaError(f"{path}: member {info.filename!r} leads out of the zip; expected names inside it")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise LunaError(f"{path}: member {info.filename!r} is a link; expected files only")
    return not any(map(is_hidden, name.parts)) and name.suffix.lower() != ".zip"


def _check_sizes(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """By the zip's own list, before anything is unpacked."""
    total, packed = sum(info.file_size for info in members), path.stat().st_size
    if len(members) > MAX_FILES:
        raise LunaError(f"{path}: {len(members)} files; expected at most {MAX_FILES}")
    if total > MAX_BYTES:
        raise LunaError(f"{path}: {_gb(total)} unpacked; expected at most {_gb(MAX_BYTES)}")
    if total > max(RATIO_FROM_BYTES, MAX_RATIO * packed):
        raise LunaError(
            f"{path}: {_gb(total)} unpacked, {total // packed} times its size; expected {MAX_RATIO} at most"
        )


def _check_room(path: Path, folder: Path, total: int) -> None:
    free = shutil.disk_usage(folder).free
    if total + SPARE_BYTES > free:
        raise LunaError(
            f"{path}: {_gb(total)} unpacked, {_gb(free)} free in {folder.parent}; expected more room: "
            "name another folder by TMPDIR"
        )


def _write(path: Path, zipped: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """One member. What it holds beyond the size in the zip's list is never written: reading stops there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except OSError as error:
        raise LunaError(f"{path}: member {info.filename!r} cannot be written: {error.strerror}") from error
    with file, zipped.open(info) as packed:
        while piece := packed.read(_PIECE):
            try:
                file.write(piece)
            except OSError as error:
                raise LunaError(f"{path}: cannot be unpacked to {target.parent}: {error.strerror}") from error


def _gb(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
