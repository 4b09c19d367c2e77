"""One scan on disk, in a file or in a zip, and how it comes into the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.checks import make_ct
from p2ch_luna.io.metaimage import (
    MetaHeader,
    check_data_size,
    meta_geometry,
    meta_voxels,
    parse_header,
    read_header,
)
from p2ch_luna.io.scan_cache import ScanCache, StoredScan, content_digest, digest_of, scan_key
from p2ch_luna.io.volumes import read_ct, read_grid
from p2ch_luna.io.whole import files_of
from p2ch_luna.io.zipped import read_member, zip_members
from p2ch_luna.lungs import PreparedCt, prepare

SPACING_MM = 1.0  # of every patch and crop that a network sees
MARGIN_MM = 10.0  # kept round the lungs

log = logging.getLogger(__name__)


class ScanError(LunaError):
    """A scan that cannot be used; the next one may well be."""


class Content(NamedTuple):
    """What a scan's files hold."""

    digest: str
    read: Callable[[], CtVolume]


@dataclass(frozen=True)
class ScanSource:
    """Where a scan lies.

    path: its file, or the zip that holds it.    member: its header's name in that zip; None: in no zip.
    subset: LUNA16's official fold; None: not of LUNA16.
    """

    series_uid: str
    path: Path
    member: str | None = None
    subset: int | None = None

    @property
    def where(self) -> Path:
        """Its name in messages: `subset1.zip: subset1/1.2.3.mhd`."""
        return self.path if self.member is None else Path(f"{self.path}: {self.member}")

    def read(self) -> CtVolume:
        """The CT. Raises ScanError where it is not whole or no plausible CT, as `read_ct` does."""
        with _told_as_scan_error(self.path):
            return read_ct(self.path) if self.member is None else self._unzip(self.member).read()

    def load(self) -> Content:
        """Its bytes: of a zip each is read and checked once. Raises ScanError."""
        with _told_as_scan_error(self.path):
            if self.member is None:
                return Content(content_digest(self.path), self.read)
            return self._unzip(self.member)

    def grid(self) -> tuple[tuple[int, ...], ImageGeometry]:
        """Shape (D, H, W) and geometry as its header states them; no voxel is read. Raises ScanError."""
        with _told_as_scan_error(self.path):
            if self.member is None:
                return read_grid(self.path)
            return meta_geometry(self._header())

    def stat_name(self) -> str:
        """Hex digits that change with the place, size and time of its files. Raises ScanError."""
        with _told_as_scan_error(self.path):
            files = files_of(self.path) if self.member is None else [self.path]
            stats = [(str(f.absolute()), *_identity(f.stat())) for f in files]
            crc = None if self.member is None else zip_members(self.path)[self.member].CRC
        return hashlib.blake2b(repr((stats, self.member, crc)).encode(), digest_size=20).hexdigest()

    def missing_data(self) -> str | None:
        """The data file that its .mhd names, if that is not there; None too where the header is no good."""
        name = self.path.name if self.member is None else self.member
        if not name.endswith(".mhd") or self._has_beside(f"{self.series_uid}.raw"):  # as LUNA16 names it
            return None
        try:
            data = self._header().data_name
        except (LunaError, OSError):
            return None  # which is told when the scan is read
        return data if data and not self._has_beside(data) else None

    def _has_beside(self, name: str) -> bool:
        if self.member is None:
            return (self.path.parent / name).is_file()
        return self._beside(name) in zip_members(self.path)

    def _beside(self, name: str) -> str:
        """The name in the zip of what is beside the header."""
        return (PurePosixPath(self.member or "").parent / name).as_posix()

    def _header(self) -> MetaHeader:
        if self.member is None:
            return read_header(self.path)
        return parse_header(self.where, read_member(self.path, self.member).tobytes())

    def _unzip(self, member: str) -> Content:
        header = self._header()
        data = self._beside(header.data_name or "")
        named, info = Path(f"{self.path}: {data}"), zip_members(self.path).get(data)
        if info is None:
            raise LunaError(
                f"{self.where}: its data file {header.data_name!r} is not there; expected it in the zip"
            )
        if not header.is_compressed:
            check_data_size(header, named, info.file_size)  # at once, not after the work of unpacking it
        content = read_member(self.path, data)
        ct = make_ct(self.where, self.series_uid, *meta_voxels(header, content.data, named))
        return Content(digest_of([read_member(self.path, member).data, content.data]), lambda: ct)


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    """What changes with a file's content: also where a tool puts its old time back, as unzip and rsync do."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@contextmanager
def _told_as_scan_error(path: Path) -> Iterator[None]:
    try:
        yield
    except LunaError as error:
        raise ScanError(str(error)) from error
    except OSError as error:
        raise ScanError(f"{path}: cannot be read: {error.strerror or error}; expected a scan") from error


class Noted(NamedTuple):
    """What the cache was told of a scan when it was prepared."""

    content: str
    warning: str | None


def noted(source: ScanSource, cache: ScanCache) -> Noted | None:
    """What is known of a scan whose files have not changed since, without reading them. Raises ScanError."""
    text = cache.note(source.stat_name())
    return None if text is None else Noted(*json.loads(text))


def cache_key(source: ScanSource, content: str, cache: ScanCache, recipe: str | None = None) -> str:
    """Where a scan of this content lies in the cache, once it is prepared; `recipe`: see `scan_key`."""
    return scan_key(content, source.series_uid, SPACING_MM, MARGIN_MM, cache.storage, recipe)


def find_prepared(source: ScanSource, cache: ScanCache) -> StoredScan | None:
    """A scan that was prepared from files that have not changed since, if the cache still has it."""
    known = noted(source, cache)
    return None if known is None else cache.get(cache_key(source, known.content, cache))


def prepare_source(source: ScanSource, cache: ScanCache) -> StoredScan:
    """A scan at 1 mm in the box of its lungs: out of the cache, or made and stored.

    Raises ScanError where the scan cannot be used, and LunaError where the cache cannot.
    """
    stored = find_prepared(source, cache)
    if stored is not None:
        return stored
    name = source.stat_name()
    content = source.load()

    def make() -> PreparedCt:
        log.info("preparing %s", source.where)
        return prepare(content.read(), SPACING_MM, MARGIN_MM)

    stored = cache.get_or_make(cache_key(source, content.digest, cache), make)
    if source.stat_name() == name:  # else the file was written to in the meantime
        _note(name, Noted(content.digest, stored.warning), cache)
    return stored


def _note(name: str, known: Noted, cache: ScanCache) -> None:
    try:
        cache.set_note(name, json.dumps(known))
    except LunaError as error:  # a cache that can only be read: the scan's bytes are read the next time too
        log.info("%s", error)
