"""Which kind of scan an upload is, by its first bytes."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume
from p2ch_luna.io import write_ct
from p2ch_luna.serve.formats import HEAD_BYTES, suffix_of

SUFFIXES = (".zip", ".nii", ".nii.gz", ".nrrd", ".mha")
META = b"ObjectType = Image\nNDims = 3\n"
NRRD = b"NRRD0004\ntype: short\ndimension: 3\n"
NIFTI_PAIR = b"\x5c\x01\0\0" + bytes(340) + b"ni1\0"


def head_of(path: Path) -> bytes:
    return path.read_bytes()[:HEAD_BYTES]


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_volume_is_known_by_its_bytes(ct: CtVolume, tmp_path: Path, suffix: str) -> None:
    write_ct(tmp_path / f"ct{suffix}", ct)
    assert suffix_of(head_of(tmp_path / f"ct{suffix}")) == suffix


def test_a_zip_is_known_by_its_bytes() -> None:
    assert suffix_of(zipped("slice.dcm")) == ".zip"


def test_a_nifti_2_file_is_known() -> None:
    assert suffix_of(b"\x1c\x02\0\0n+2\0\r\n\x1a\n" + bytes(530)) == ".nii"


def test_a_big_endian_nifti_file_is_known() -> None:
    assert suffix_of(b"\0\0\x01\x5c" + bytes(340) + b"n+1\0") == ".nii"


def test_a_meta_header_with_carriage_returns_is_known() -> None:
    assert suffix_of(b"NDims = 3\r\nElementDataFile = LOCAL\r\n\0\0") == ".mha"


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"", "the upload is empty"),
        (b"hello", "no scan of a known format"),
        (zipped(), "an empty zip"),
        (bytes(128) + b"DICM" + bytes(400), "a single DICOM file; expected a zip of the folder"),
        (META + b"ElementDataFile = ct.raw\n", "a .mhd header, whose voxels lie in another file"),
        (META, "no MetaImage header with an ElementDataFile"),
        (gzip.compress(b"a tar, say", mtime=0), "a gzip file of something else"),
        (b"\x1f\x8b\xff\xff", "a damaged gzip file"),
        (gzip.compress(NIFTI_PAIR, mtime=0), "the header of a NIfTI pair"),
        (NIFTI_PAIR, "the header of a NIfTI pair"),
        (b"\x5c\x01\0\0" + bytes(600), "has no whole header"),
        (b"\x5c\x01\0\0", "has no whole header"),
        (NRRD + b"data file: ct.raw\n", "whose voxels lie in another file"),
        (NRRD, "a NRRD header without an end"),
    ],
)
def test_anything_else_is_refused_with_what_it_is(head: bytes, told: str) -> None:
    with pytest.raises(LunaError, match=told):
        suffix_of(head)


@pytest.mark.parametrize(
    "mention",
    [
        b"ElementDataFile = /etc/passwd\n",
        b"elementdatafile = /etc/passwd\n",
        b"ElementDataFile : /etc/passwd =\n",
        b"ElementDataFile = LIST\n",
        b"ElementDataFile = LOCAL.raw\n",
    ],
)
def test_no_meta_header_leads_elsewhere_before_it_says_here(mention: bytes) -> None:
    with pytest.raises(LunaError, match="in another file"):
        suffix_of(META + mention + b"ElementDataFile = LOCAL\n\0\0")


@pytest.mark.parametrize(
    "field", [b"data file: /etc/passwd", b"datafile: LIST", b"DATA FILE: x", b"\tData  File :x"]
)
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_no_nrrd_header_leads_elsewhere(field: bytes, end: bytes) -> None:
    with pytest.raises(LunaError, match="in another file"):
        suffix_of(NRRD + field + end + bytes(8))


def test_voxels_that_look_like_a_header_do_not_matter() -> None:
    assert suffix_of(NRRD + b"\n\ndata file: x\n") == ".nrrd"


def test_a_gzip_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + bytes(50 << 20))
    assert suffix_of(bomb[:HEAD_BYTES]) == ".nii.gz"


STARTS = (b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"NRRD", META, NIFTI_PAIR, b"ElementDataFile", b"\x1c\x02\0\0")


@given(st.sampled_from(STARTS), st.binary(max_size=700))
def test_any_bytes_have_a_suffix_or_are_refused_in_one_line(start: bytes, rest: bytes) -> None:
    try:
        told = suffix_of(start + rest)
    except LunaError as error:
        told = str(error)
    assert told in SUFFIXES or (told.startswith("the upload is ") and told.isprintable())
