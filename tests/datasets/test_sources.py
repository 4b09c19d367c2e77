"""One scan, in a file or in a zip, into the cache: the same either way, and read once."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets import sources
from p2ch_luna.datasets.sources import ScanError, ScanSource, noted, prepare_source
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, write_ct
from p2ch_luna.io.scan_cache import ScanCache, content_digest
from p2ch_luna.lungs import prepare

UID = "1.2.3"


@pytest.fixture
def chest() -> CtVolume:
    """Two lungs of even air in a body, 64 x 192 x 192 mm."""
    hu = np.full((16, 48, 48), -1000, np.int16)
    hu[:, 8:40, 4:44] = 40
    hu[2:14, 12:36, 8:20] = hu[2:14, 12:36, 28:40] = -850
    return CtVolume(UID, hu, ImageGeometry.axial((4.0, 4.0, 4.0), (-90.0, -80.0, -200.0)))


@pytest.fixture
def unpacked(chest: CtVolume, tmp_path: Path) -> ScanSource:
    write_ct(tmp_path / "subset1" / f"{UID}.mhd", chest)
    return ScanSource(UID, tmp_path / "subset1" / f"{UID}.mhd", None, 1)


@pytest.fixture
def in_zip(unpacked: ScanSource, tmp_path: Path) -> ScanSource:
    path = tmp_path / "subset1.zip"
    zip_up(path, unpacked.path.parent)
    return ScanSource(UID, path, f"subset1/{UID}.mhd", 1)


def zip_up(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(folder.iterdir()):
            zipped.write(file, f"{folder.name}/{file.name}")


@pytest.fixture
def cache(tmp_path: Path) -> ScanCache:
    return ScanCache(tmp_path / "cache")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows with every scan whose bytes are read."""
    read: list[Path] = []
    load = ScanSource.load

    def counted(self: ScanSource) -> sources.Content:
        read.append(self.path)
        return load(self)

    monkeypatch.setattr(ScanSource, "load", counted)
    return read


def damage(source: ScanSource, old: str, new: str) -> None:
    """Change the header."""
    source.path.write_text(source.path.read_text().replace(old, new))


def test_a_scan_is_the_same_unpacked_and_zipped(unpacked: ScanSource, in_zip: ScanSource) -> None:
    first, second = unpacked.read(), in_zip.read()
    np.testing.assert_array_equal(first.hu, second.hu)
    np.testing.assert_array_equal(first.geometry.to_xyz([1, 2, 3]), second.geometry.to_xyz([1, 2, 3]))
    assert (first.series_uid, first.hu.dtype) == (second.series_uid, second.hu.dtype)


def test_a_scan_has_one_digest_unpacked_and_zipped(unpacked: ScanSource, in_zip: ScanSource) -> None:
    assert content_digest(unpacked.path) == unpacked.load().digest == in_zip.load().digest


def test_a_scan_that_is_unpacked_later_is_not_made_again(
    unpacked: ScanSource, in_zip: ScanSource, cache: ScanCache
) -> None:
    assert prepare_source(in_zip, cache).path == prepare_source(unpacked, cache).path


def test_nothing_is_unpacked_to_disk(in_zip: ScanSource, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    in_zip.read()
    assert sorted(tmp_path.rglob("*")) == before


def test_the_grid_is_that_of_the_header(unpacked: ScanSource, in_zip: ScanSource) -> None:
    for source in (unpacked, in_zip):
        shape, geometry = source.grid()
        assert tuple(shape) == (16, 48, 48)
        np.testing.assert_allclose(geometry.to_xyz([1, 1, 1]), [-86.0, -76.0, -196.0])


def test_what_is_stored_is_what_prepare_makes(
    chest: CtVolume, unpacked: ScanSource, cache: ScanCache
) -> None:
    wanted = prepare(chest, 1.0, 10.0)
    stored = prepare_source(unpacked, cache)
    np.testing.assert_array_equal(stored.hu[:], wanted.ct.hu)
    np.testing.assert_array_equal(stored.lung[:], wanted.lung)


@pytest.mark.parametrize("kind", ["unpacked", "in_zip"])
def test_a_scan_is_read_once(
    kind: str, request: pytest.FixtureRequest, cache: ScanCache, loads: list[Path]
) -> None:
    source: ScanSource = request.getfixturevalue(kind)
    prepare_source(source, cache)
    prepare_source(source, ScanCache(cache.folder.parent))
    assert loads == [source.path]


def test_a_file_that_was_written_to_is_read_again(
    chest: CtVolume, unpacked: ScanSource, cache: ScanCache
) -> None:
    prepare_source(unpacked, cache)
    hu = chest.hu.copy()
    hu[8, 24, 24] = 99
    write_ct(unpacked.path, CtVolume(UID, hu, chest.geometry))
    assert prepare_source(unpacked, cache).hu[:].max() > 40


def test_only_the_raw_may_have_been_written_to(unpacked: ScanSource, cache: ScanCache) -> None:
    prepare_source(unpacked, cache)
    raw = unpacked.path.with_suffix(".raw")
    os.utime(raw, ns=(0, 0))
    assert noted(unpacked, cache) is None


def test_a_zip_that_was_written_to_is_read_again(
    unpacked: ScanSource, in_zip: ScanSource, cache: ScanCache
) -> None:
    prepare_source(in_zip, cache)
    zip_up(in_zip.path, unpacked.path.parent)
    os.utime(in_zip.path, ns=(0, 0))
    assert noted(in_zip, cache) is None


def test_a_zip_written_anew_is_read_again_also_where_its_old_time_is_put_back(
    in_zip: ScanSource, cache: ScanCache
) -> None:
    prepare_source(in_zip, cache)
    stat = in_zip.path.stat()
    in_zip.path.write_bytes(in_zip.path.read_bytes())
    os.utime(in_zip.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert noted(in_zip, cache) is None


def test_a_scan_that_was_removed_from_the_cache_is_made_again(
    unpacked: ScanSource, cache: ScanCache, loads: list[Path]
) -> None:
    stored = prepare_source(unpacked, cache)
    assert stored.path is not None
    stored.path.unlink()
    prepare_source(unpacked, cache)
    assert len(loads) == 2


def test_the_warning_is_noted(chest: CtVolume, tmp_path: Path, cache: ScanCache) -> None:
    body = CtVolume(UID, np.where(chest.hu == -850, 40, chest.hu).astype(np.int16), chest.geometry)
    write_ct(tmp_path / f"{UID}.mhd", body)
    source = ScanSource(UID, tmp_path / f"{UID}.mhd")
    warning = prepare_source(source, cache).warning
    known = noted(source, cache)
    assert known is not None
    assert known.warning == warning
    assert str(warning).startswith("no lungs found")


def test_a_cache_that_can_only_be_read_still_gives_what_it_has(
    unpacked: ScanSource, cache: ScanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_source(unpacked, cache)
    os.utime(unpacked.path, ns=(0, 0))

    def refuse(*_: str) -> None:
        raise LunaError("read-only")

    monkeypatch.setattr(cache, "set_note", refuse)
    assert prepare_source(unpacked, cache).series_uid == UID


def cut(source: ScanSource) -> None:
    raw = source.path.with_suffix(".raw")
    raw.write_bytes(raw.read_bytes()[:-100])


def make_nan(source: ScanSource) -> None:
    ct = read_ct(source.path)
    hu = ct.hu.astype(np.float32)
    hu[3, 4, 5] = np.nan
    write_ct(source.path, CtVolume(UID, hu, ct.geometry))


BROKEN: dict[str, tuple[Callable[[ScanSource], None], str]] = {
    "truncated raw": (cut, r"73628 bytes; expected 73728 by its header: the file is cut short"),
    "missing raw": (
        lambda s: s.path.with_suffix(".raw").unlink(),
        r"its data file '1\.2\.3\.raw' is not there",
    ),
    "too many voxels in the header": (
        lambda s: damage(s, "48 48 16", "48 48 17"),
        "73728 bytes; expected 78336 by its header: the file is cut short",
    ),
    "too few voxels in the header": (
        lambda s: damage(s, "48 48 16", "48 47 16"),
        "73728 bytes; expected 72192 by its header: the sizes in it are wrong",
    ),
    "NaN": (make_nan, "voxels that are NaN or infinite: 1; expected a number"),
    "zero spacing": (
        lambda s: damage(s, "ElementSpacing = 4.0", "ElementSpacing = 0.0"),
        r"ElementSpacing is 0\.0 4\.0 4\.0; expected positive mm",
    ),
    "negative spacing": (
        lambda s: damage(s, "ElementSpacing = 4.0", "ElementSpacing = -4.0"),
        r"ElementSpacing is -4\.0 4\.0 4\.0; expected positive mm",
    ),
    "axes not at right angles": (
        lambda s: damage(s, "TransformMatrix = 1.0 0.0", "TransformMatrix = 1.0 0.5"),
        "direction must be orthonormal",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_scan_is_named(unpacked: ScanSource, cache: ScanCache, fault: str) -> None:
    spoil, error = BROKEN[fault]
    spoil(unpacked)
    with pytest.raises(ScanError, match=rf"subset1/1\.2\.3\.\w+: .*{error}"):
        prepare_source(unpacked, cache)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_scan_in_a_zip_is_named(
    unpacked: ScanSource, tmp_path: Path, cache: ScanCache, fault: str
) -> None:
    spoil, error = BROKEN[fault]
    spoil(unpacked)
    zip_up(tmp_path / "subset1.zip", unpacked.path.parent)
    source = ScanSource(UID, tmp_path / "subset1.zip", f"subset1/{UID}.mhd", 1)
    with pytest.raises(ScanError, match=rf"subset1\.zip: subset1/1\.2\.3\.\w+: .*{error}"):
        prepare_source(source, cache)


def test_a_flipped_byte_in_a_zip_is_named(in_zip: ScanSource, cache: ScanCache) -> None:
    content = bytearray(in_zip.path.read_bytes())
    content[len(content) // 2] ^= 255
    in_zip.path.write_bytes(content)
    with pytest.raises(ScanError, match=r"subset1\.zip: damaged or cut short"):
        prepare_source(in_zip, cache)


def test_a_scan_that_is_gone_is_named(unpacked: ScanSource, cache: ScanCache) -> None:
    unpacked.path.unlink()
    with pytest.raises(ScanError, match=r"1\.2\.3\.mhd: cannot be read: No such file"):
        prepare_source(unpacked, cache)


def test_a_cache_that_cannot_be_used_is_no_fault_of_the_scan(unpacked: ScanSource, tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="one scan takes") as raised:
        prepare_source(unpacked, ScanCache(tmp_path / "small", size_limit=1))
    assert not isinstance(raised.value, ScanError)


def test_data_written_anew_count_also_where_their_old_time_is_put_back(
    unpacked: ScanSource, cache: ScanCache
) -> None:
    assert prepare_source(unpacked, cache).load().ct.hu.max() == 40
    raw = unpacked.path.with_suffix(".raw")
    stat = raw.stat()
    hu = np.fromfile(raw, np.int16)
    np.where(hu == 40, 50, hu).astype(np.int16).tofile(raw)
    os.utime(raw, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert raw.stat().st_mtime_ns == stat.st_mtime_ns
    assert prepare_source(unpacked, cache).load().ct.hu.max() == 50
