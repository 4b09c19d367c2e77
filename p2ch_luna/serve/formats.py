"""Which kind of scan an upload is, by its first bytes: what a client calls it decides nothing."""

from __future__ import annotations

import re
import zlib

from p2ch_luna.errors import LunaError

HEAD_BYTES = 1 << 16  # as long as a header of text may be
EXPECTED = "expected a zip of DICOM, or a .nii, .nii.gz, .nrrd or .mha file"
_NIFTI_BYTES = 540  # of the longer of its headers
_NIFTI_1_SIZES = (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c")  # 348, in either order
_NIFTI_2_SIZES = (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")  # 540
_META_LINE = re.compile(rb"[A-Za-z]+[ \t]*=[^\r\n]*\r?\n")
_META_DATA = re.compile(rb"ElementDataFile", re.IGNORECASE)
_META_DATA_HERE = re.compile(rb"\nElementDataFile[ \t]*=[ \t]*LOCAL[ \t]*\r?\n")
_NRRD_DATA = re.compile(rb"[\r\n]\s*data\s*file\s*:", re.IGNORECASE)


def suffix_of(head: bytes) -> str:
    """The suffix by which the readers know the format: .zip, .nii, .nii.gz, .nrrd or .mha.

    head: the first `HEAD_BYTES` of the upload, or all of it if it is shorter.
    Raises LunaError for anything else, and for a header whose voxels lie in another file: none of a client's
    words may lead a reader to another place on the disk.
    """
    if not head:
        raise LunaError(f"the upload is empty; {EXPECTED}")
    if head.startswith(b"PK\x03\x04"):
        return ".zip"
    if head.startswith(b"\x1f\x8b"):
        return _gzip_suffix(head)
    if head.startswith(b"NRRD"):
        return _nrrd_suffix(head)
    if _META_LINE.match(head):
        return _meta_suffix(head)
    if head[:4] in _NIFTI_1_SIZES + _NIFTI_2_SIZES:
        return _nifti_suffix(head)
    raise LunaError(f"the upload is {_told(head)}")


def _told(head: bytes) -> str:
    """What it is instead, and what to do, as far as its bytes say."""
    if head[128:132] == b"DICM":
        return "a single DICOM file; expected a zip of the folder with all slices of the series"
    if head.startswith(b"PK\x05\x06"):
        return f"an empty zip; {EXPECTED}"
    return f"no scan of a known format; {EXPECTED}"


def _gzip_suffix(head: bytes) -> str:
    try:
        inflated = zlib.decompressobj(wbits=31).decompress(head, _NIFTI_BYTES)
    except zlib.error as error:
        raise LunaError(f"the upload is a damaged gzip file: {error}; {EXPECTED}") from error
    if inflated[:4] not in _NIFTI_1_SIZES + _NIFTI_2_SIZES:
        raise LunaError(f"the upload is a gzip file of something else than NIfTI; {EXPECTED}")
    return f"{_nifti_suffix(inflated)}.gz"


def _nifti_suffix(head: bytes) -> str:
    magic = head[344:348] if head[:4] in _NIFTI_1_SIZES else head[4:8]
    if magic in (b"ni1\0", b"ni2\0"):
        raise LunaError("the upload is the header of a NIfTI pair; expected header and voxels in one .nii")
    if magic not in (b"n+1\0", b"n+2\0"):
        raise LunaError(f"the upload is begun as NIfTI, but has no whole header; {EXPECTED}")
    return ".nii"


def _nrrd_suffix(head: bytes) -> str:
    header, end, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    if _NRRD_DATA.search(header):
        raise LunaError(
            "the upload is a NRRD header whose voxels lie in another file; expected both in a zip"
        )
    if not end:
        raise LunaError(f"the upload is a NRRD header without an end, or without voxels; {EXPECTED}")
    return ".nrrd"


def _meta_suffix(head: bytes) -> str:
    """MetaImage: the first mention of the data, however it is spelled, must be that they follow."""
    mention, here = _META_DATA.search(head), _META_DATA_HERE.search(head)
    if mention is None:
        raise LunaError(f"the upload is text, but no MetaImage header with an ElementDataFile; {EXPECTED}")
    if here is None or here.start() + 1 != mention.start():
        raise LunaError(
            "the upload is a .mhd header, whose voxels lie in another file; expected a zip of both"
        )
    return ".mha"
