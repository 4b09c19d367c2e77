"""What is in an answer, and whether all of it has come."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from p2ch_luna.report.dicom.sources import patient_kept_quiet
from p2ch_luna.serve.dicomweb.answers import instance_in, is_uid

Scan = Callable[..., list[Path]]
PARTS = 'multipart/related; type="application/dicom"; boundary="a=b"'


@pytest.fixture
def content(scan: Scan) -> bytes:
    """A slice of 30 x 40 pixels of 2 bytes."""
    return scan()[0].read_bytes()


def answer(body: bytes, kind: str) -> requests.Response:
    response = requests.Response()
    response._content = body
    response.headers["Content-Type"] = kind
    return response


def part(content: bytes) -> bytes:
    return b"--a=b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008", "1.2.03"])
def test_a_uid_is_digits_and_dots(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize("text", ["", ".", "..", "1.", "1..2", "1.2/3", "a", "1" * 65, "1.2\n"])
def test_what_could_be_a_path_is_no_uid(text: str) -> None:
    assert not is_uid(text)


@pytest.mark.parametrize("before", [b"", b"what nobody reads\r\n"])
def test_a_part_is_found_between_its_delimiters(before: bytes, content: bytes) -> None:
    body = before + part(content) + b"--a=b--\r\n"
    assert instance_in(answer(body, PARTS)) == content


def test_parts_without_a_closing_delimiter_are_cut_off(content: bytes) -> None:
    with pytest.raises(requests.ConnectionError, match="cut off"):
        instance_in(answer(part(content), PARTS))


def test_two_instances_are_odd(content: bytes) -> None:
    with pytest.raises(ValueError, match="2 instances came"):
        instance_in(answer(part(content) * 2 + b"--a=b--", PARTS))


@pytest.mark.parametrize("lost", [1, 100, 1200, 2399, 2400, 2412, 2500])
def test_a_plain_file_without_its_end_is_not_whole(lost: int, content: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        instance_in(answer(content[:-lost], "application/dicom"))


def test_compressed_pixels_without_their_delimiter_are_not_whole(content: bytes) -> None:
    dataset = pydicom.dcmread(BytesIO(content))
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"compressed" * 20])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(file := BytesIO())
    assert instance_in(answer(file.getvalue(), "application/dicom")) == file.getvalue()
    with pytest.raises(ValueError, match="cut off"), patient_kept_quiet():
        instance_in(answer(file.getvalue()[:-20], "application/dicom"))
