"""Locks between processes that a killed process cannot leave behind.

A lock lies on an open file (flock), so the kernel frees it however its holder ends, with the children that
the holder forked under it. It holds on one machine, not on a network file system.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def claiming(path: Path) -> Iterator[bool]:
    """Whether the claim named `path` is ours until the block ends; it does not wait for another holder.

    The file is made, and removed in the end. Raises OSError where it cannot be made.
    """
    held = _locked(path, os.O_RDWR | os.O_CREAT)
    if held is None:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(held)


@contextmanager
def new_locked_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file to write, locked until the block ends, under whatever name it has by then.

    Raises OSError where it is there already or cannot be made.
    """
    descriptor = _locked(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, wait=True)  # for a sweep that was quicker
    if descriptor is None:
        raise BlockingIOError(f"{path}: locked by another process")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def remove_unclaimed(path: Path, is_waste: Callable[[], bool] = lambda: True) -> bool:
    """Remove a file whose writer or claimer is gone, if it still `is_waste` then; whether it was removed."""
    try:
        held = _locked(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    if held is None:
        return False
    try:
        if is_waste():
            path.unlink(missing_ok=True)
            return True
        return False
    finally:
        os.close(held)


@contextmanager
def holding_folder(folder: Path) -> Iterator[bool]:
    """Whether the lock on a folder is ours until the block ends; it does not wait for another holder.

    It is not where the folder is gone, or its file system knows no locks on folders.
    """
    try:
        held = _locked(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        held = None
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)


def _locked(path: Path, flags: int, *, wait: bool = False) -> int | None:
    """A descriptor of the file that has this name now, locked; None where another has the lock."""
    how = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # its last holder removed it before we had the lock: that lock guards nothing
