"""The record of a watch: what it knows after whatever happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.dicomweb.record import Entry, Record

URL = "http://pacs/dicom-web"


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """One that has begun; study 1 was there before."""
    record = Record(tmp_path / "record", URL)
    assert record.is_new
    record.begin(["1"])
    return record


def test_a_record_is_new_until_it_begins(record: Record, tmp_path: Path) -> None:
    assert not record.is_new
    assert not Record(tmp_path / "record", URL).is_new


def test_what_was_there_before_is_known(record: Record) -> None:
    assert record.of("earlier") == {"1"}
    assert record.get("2") is None


def test_what_became_of_a_study_is_known_to_the_next(record: Record, tmp_path: Path) -> None:
    record.put("2", "failed", "no chest")
    assert Record(tmp_path / "record", URL).get("2") == Entry("failed", "no chest", 0)


def test_attempts_are_counted_through_all_states(record: Record) -> None:
    assert record.attempt("2") == 1
    record.put("2", "diagnosed")
    assert record.attempt("2") == 2
    assert record.get("2") == Entry("seen", None, 2)


def test_an_attempt_that_was_given_up_does_not_count(record: Record) -> None:
    record.attempt("2")
    assert record.attempt("2", -1) == 0


@pytest.mark.usefixtures("record")
def test_the_record_of_another_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="is of the server http://pacs/dicom-web, not http://other"):
        Record(tmp_path / "record", "http://other")


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record").write_bytes(b"no database" * 100)
    with pytest.raises(LunaError, match="expected the record of a watch"):
        Record(tmp_path / "record", URL)
