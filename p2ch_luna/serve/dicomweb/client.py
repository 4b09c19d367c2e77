"""A DICOMweb server: what it has (QIDO-RS), its images (WADO-RS), and what is stored in it (STOW-RS).

A request that fails says its kind: `UnreachableError` may go well later, `DeniedError` will not with these
credentials, any other LunaError will not at all.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from p2ch_luna.errors import LunaError
from p2ch_luna.report.dicom.sources import patient_kept_quiet
from p2ch_luna.serve.dicomweb.address import PASSWORD, TOKEN, USER, check_whole, checked, credentials

TIMEOUT_SECONDS = (10.0, 120.0)  # to connect; from one piece of an answer to the next
PAGE = 500  # entries of a list that are asked for at once
_LATER = (408, 425, 429)  # and from 500 on: the request may go well another time
_DENIED = (401, 403, 407)
_MISSING = 404
_OUT_OF_RESOURCES = range(0xA700, 0xA800)  # reasons not to store that may pass
_ODD_ANSWERS = (InvalidDicomError, AttributeError, EOFError, LookupError, TypeError, ValueError)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITIES, _MODALITY, _BODY_PART, _MANUFACTURER = "00080061", "00080060", "00180015", "00080070"
_COUNT = "00201209"  # of the instances of a series

Entry = Mapping[str, Any]  # DICOM JSON by tag
T = TypeVar("T")
log = logging.getLogger(__name__)
for _name in ("dicomweb_client", "retrying"):  # what they log of failures is told here, in one line
    logging.getLogger(_name).addHandler(logging.NullHandler())


class UnreachableError(LunaError):
    """The server does not answer, or not as it should: it may later."""


class DeniedError(LunaError):
    """The server does not accept the credentials: no other request would go well either."""


class MissingError(LunaError):
    """The server does not have what was asked for."""


@dataclass(frozen=True)
class Series:
    """A series as the server lists it; "" where it does not say."""

    uid: str
    modality: str
    count: str  # of its instances
    body_part: str
    manufacturer: str


def is_uid(text: str) -> bool:
    """Whether it is a DICOM UID, so fit to be a part of a path too; leading zeros are let pass."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


class Server:
    """A DICOMweb server by its URL; instances are in memory one at a time.

    environment: holds the credentials, if there are any: `TOKEN`, or `USER` and `PASSWORD`.
    pauses: seconds to wait before each further try of a request that is `UnreachableError`.
    Raises LunaError for a URL that is none of a server, or has credentials in it.
    """

    def __init__(
        self,
        url: str,
        environment: Mapping[str, str],
        pauses: Sequence[float] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = checked(url)
        self._pauses, self._sleep = pauses, sleep
        self._session = requests.Session()
        self._session.auth = credentials(environment)
        self._client = DICOMwebClient(
            self.url, self._session, callback=check_whole, permissive_uid=True, timeout=TIMEOUT_SECONDS
        )
        self._client.set_http_retry_params(retry=False)  # its own sends large bodies empty the second time

    def close(self) -> None:
        """Give up its connections."""
        self._session.close()

    def studies(self, date: str | None = None) -> list[str]:
        """UIDs of the studies with CT. date: one, or a range as 20261101- or 20261101-20261130."""
        filters = {"ModalitiesInStudy": "CT"} | ({"StudyDate": date} if date else {})
        found = self._all(
            "the list of studies",
            _STUDY,
            lambda **page: self._client.search_for_studies(
                search_filters=filters, fields=["ModalitiesInStudy"], **page
            ),
        )
        return [uid for uid, entry in found.items() if "CT" in (_values(entry, _MODALITIES) or ["CT"])]

    def series(self, study_uid: str) -> list[Series]:
        """Of a study; none if the study is not there."""
        fields = ["Modality", "BodyPartExamined", "Manufacturer", "NumberOfSeriesRelatedInstances"]
        found = self._all(
            f"study {study_uid}",
            _SERIES,
            lambda **page: self._client.search_for_series(study_uid, fields=fields, **page),
        )
        tags = (_MODALITY, _COUNT, _BODY_PART, _MANUFACTURER)
        return [Series(uid, *(_first(entry, tag) for tag in tags)) for uid, entry in found.items()]

    def instances(self, study_uid: str, series_uid: str) -> list[str]:
        """UIDs of the instances of a series."""
        return list(
            self._all(
                f"series {series_uid}",
                _INSTANCE,
                lambda **page: self._client.search_for_instances(study_uid, series_uid, **page),
            )
        )

    def manufacturer(self, study_uid: str, series_uid: str) -> str:
        """Of a series' equipment, by the header of its first instance."""
        uids = self.instances(study_uid, series_uid)
        if not uids:
            return ""
        header = self._tried(
            f"the header of instance {uids[0]}",
            lambda: self._client.retrieve_instance_metadata(study_uid, series_uid, uids[0]),
        )
        return _first(header, _MANUFACTURER)

    def fetch(self, study_uid: str, series_uid: str, uid: str, path: Path) -> None:
        """Write an instance to `path`, in the transfer syntax in which the server has it.

        Raises OSError where the file cannot be written.
        """
        what = f"instance {uid}"
        found = self._tried(what, lambda: self._client.retrieve_instance(study_uid, series_uid, uid))
        if found.get("SOPInstanceUID") != uid:
            raise LunaError(f"{self.url}: another instance came for {uid}; expected that one")
        with patient_kept_quiet():
            found.save_as(path)

    def has(self, study_uid: str, series_uid: str, uid: str) -> bool:
        """Whether an instance is there."""
        try:
            found = self._tried(
                f"instance {uid}",
                lambda: self._client.search_for_instances(
                    study_uid, series_uid, search_filters={"SOPInstanceUID": uid}
                ),
            )
        except MissingError:
            return False
        return any(_first(entry, _INSTANCE) == uid for entry in found)

    def store(self, path: Path) -> bool:
        """Store a DICOM file in the study it names; False if the server has that instance already.

        Raises LunaError where the server does not store it.
        """
        with patient_kept_quiet():
            dataset = dcmread(path)
        study_uid, uid = str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)
        if self.has(study_uid, str(dataset.SeriesInstanceUID), uid):
            return False
        what = f"to store instance {uid}"
        answer = self._tried(what, lambda: self._client.store_instances([dataset], study_uid))
        self._check_stored(dataset, answer)
        return True

    def _check_stored(self, dataset: Dataset, answer: Dataset) -> None:
        """What the answer does not say, the server is asked for."""
        uid = str(dataset.SOPInstanceUID)
        for failed in answer.get("FailedSOPSequence") or []:
            reason = int(failed.get("FailureReason") or 0)
            kind = UnreachableError if reason in _OUT_OF_RESOURCES else LunaError
            raise kind(f"{self.url}: does not store instance {uid}: reason 0x{reason:04X}")
        stored = answer.get("ReferencedSOPSequence") or []
        if any(item.get("ReferencedSOPInstanceUID") == uid for item in stored):
            return
        if not self.has(str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), uid):
            raise UnreachableError(
                f"{self.url}: took instance {uid}, and does not have it; expected it there"
            )

    def _all(self, what: str, key: str, search: Callable[..., list[dict[str, Any]]]) -> dict[str, Entry]:
        """All entries of a list by the UID of tag `key`, whether the server gives them by the page or not."""
        found: dict[str, Entry] = {}
        while True:
            asked = partial(search, limit=PAGE, offset=len(found))
            page = _by_uid(self._tried(what, asked), key)
            if page.keys() <= found.keys():
                break
            found |= page
        if page and len(found) == PAGE:  # the offset was ignored, the limit may not have been
            found |= _by_uid(self._tried(what, search), key)
        return found

    def _tried(self, what: str, request: Callable[[], T]) -> T:
        for pause in self._pauses:
            try:
                return self._once(what, request)
            except UnreachableError as error:
                log.warning("%s; another try in %g s", error, pause)
                self._sleep(pause)
        return self._once(what, request)

    def _once(self, what: str, request: Callable[[], T]) -> T:
        """Errors are told without their texts: these quote answers, which may say who the patient is."""
        try:
            with patient_kept_quiet():
                return request()
        except requests.HTTPError as error:
            raise self._refusal(
                what, 500 if error.response is None else error.response.status_code
            ) from error
        except requests.exceptions.SSLError as error:
            raise LunaError(f"{self.url}: its certificate is not accepted; expected a trusted one") from error
        except requests.Timeout as error:
            raise UnreachableError(f"{self.url}: no answer in time; expected {what}") from error
        except requests.ConnectionError as error:
            raise UnreachableError(f"{self.url}: cannot be reached; expected {what}") from error
        except (requests.RequestException, *_ODD_ANSWERS) as error:
            raise UnreachableError(f"{self.url}: no DICOMweb answer; expected {what}") from error

    def _refusal(self, what: str, status: int) -> LunaError:
        if status in _DENIED:
            wanted = f"credentials in {TOKEN}, or {USER} and {PASSWORD}"
            return DeniedError(f"{self.url}: answers {status} to who asks for {what}; expected {wanted}")
        kind = MissingError if status == _MISSING else LunaError
        kind = UnreachableError if status >= 500 or status in _LATER else kind
        return kind(f"{self.url}: answers {status}; expected {what}")


def _by_uid(entries: list[dict[str, Any]], key: str) -> dict[str, Entry]:
    return {uid: entry for entry in entries if is_uid(uid := _first(entry, key))}


def _values(entry: Entry, tag: str) -> list[str]:
    return [str(value) for value in entry.get(tag, {}).get("Value") or [] if value is not None]


def _first(entry: Entry, tag: str) -> str:
    return next(iter(_values(entry, tag)), "")
