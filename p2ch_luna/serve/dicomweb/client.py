"""A DICOMweb server: what it has (QIDO-RS), its images (WADO-RS), and what is stored in it (STOW-RS)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset, dcmread

from p2ch_luna.errors import LunaError
from p2ch_luna.report.dicom.sources import patient_kept_quiet
from p2ch_luna.serve.dicomweb.address import A_URL, checked, credentials
from p2ch_luna.serve.dicomweb.answers import (
    ODD,
    Entry,
    by_uid,
    first,
    instance_in,
    refusals_in,
    uid_of,
    values,
)
from p2ch_luna.serve.dicomweb.failures import (
    DeniedError,
    MissingError,
    OddAnswerError,
    UnreachableError,
    WrongServerError,
)

TIMEOUT_SECONDS = (10.0, 120.0)  # to connect; from one piece of an answer to the next
PAGE = 500  # entries of a list that are asked for at once
_LATER = (408, 425, 429)  # and from 500 on: it may go well another time
_DENIED = (401, 403, 407)
_MISSING = 404
_OUT_OF_RESOURCES = range(0xA700, 0xA800)  # reasons not to store that may pass
_JSON = "application/dicom+json, */*;q=0.5"  # answers to what is stored, rather than XML
_INSTANCE_AS_IT_IS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITIES, _MODALITY, _BODY_PART, _MANUFACTURER = "00080061", "00080060", "00180015", "00080070"
_COUNT = "00201209"  # of the instances of a series
_REFUSALS = (LunaError, MissingError)  # themselves alone: what comes of 404, 400 and the like

T = TypeVar("T")
log = logging.getLogger(__name__)
for _name in ("dicomweb_client", "retrying"):  # what they log of failures is told here, in one line
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Series:
    """A series as the server lists it; "" where it does not say."""

    uid: str
    modality: str
    count: str  # of its instances
    body_part: str
    manufacturer: str


class Server:
    """A DICOMweb server by its URL; instances are in memory one at a time.

    environment: holds the credentials, if there are any: `TOKEN`, or `USER` and `PASSWORD`.
    pauses: seconds to wait before each further try while requests are `UnreachableError`; all of them again
    once one has gone well. So a server that is away costs their sum, however much is asked.
    Raises LunaError for a URL that is none of a server or has credentials in it, and for odd credentials.
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
        self._left = iter(pauses)  # those that are left until a request goes well
        self._session = requests.Session()
        self._session.auth = self._credentials = credentials(environment)
        self._session.headers["Accept"] = _JSON
        self._client = DICOMwebClient(self.url, self._session, permissive_uid=True, timeout=TIMEOUT_SECONDS)
        self._client.set_http_retry_params(retry=False)  # its own sends large bodies empty the second time

    def close(self) -> None:
        """Give up its connections."""
        self._session.close()

    def studies(self, date: str | None = None) -> list[str]:
        """UIDs of the studies with CT. date: one, or a range as 20261101- or 20261101-20261130."""
        filters = {"ModalitiesInStudy": "CT"} | ({"StudyDate": date} if date else {})
        search = partial(
            self._client.search_for_studies, fields=["ModalitiesInStudy"], search_filters=filters
        )
        try:
            found = self._all(
                "the list of studies", _STUDY, search, lambda entry: values(entry, _MODALITIES) or ["CT"]
            )
        except LunaError as error:
            if type(error) in _REFUSALS:
                self._check_dicomweb()
            raise
        return [uid for uid, modalities in found.items() if "CT" in modalities]

    def series(self, study_uid: str) -> list[Series]:
        """Of a study; none if the study is not there."""
        fields = ["Modality", "BodyPartExamined", "Manufacturer", "NumberOfSeriesRelatedInstances"]
        tags = (_SERIES, _MODALITY, _COUNT, _BODY_PART, _MANUFACTURER)
        try:
            found = self._all(
                f"study {study_uid}",
                _SERIES,
                partial(self._client.search_for_series, study_uid, fields=fields),
                lambda entry: Series(*(first(entry, tag) for tag in tags)),
            )
        except MissingError:
            self._check_dicomweb()
            return []
        return list(found.values())

    def _check_dicomweb(self) -> None:
        """Raise WrongServerError where not even the first of all studies can be asked for."""
        try:
            self._once("a study", lambda: by_uid(self._client.search_for_studies(limit=1), _STUDY))
        except LunaError as error:
            if type(error) in _REFUSALS or isinstance(error.__cause__, ODD):
                raise WrongServerError(f"{self.url}: no DICOMweb is there; wanted {A_URL}") from error
            raise

    def instances(self, study_uid: str, series_uid: str) -> list[str]:
        """UIDs of the instances of a series."""
        search = partial(self._client.search_for_instances, study_uid, series_uid)
        return list(self._all(f"series {series_uid}", _INSTANCE, search, lambda _: None))

    def manufacturer(self, study_uid: str, series_uid: str) -> str:
        """Of a series' equipment, by the header of its first instance."""
        uids = self.instances(study_uid, series_uid)
        if not uids:
            return ""
        return self._tried(
            f"the header of instance {uids[0]}",
            lambda: first(
                self._client.retrieve_instance_metadata(study_uid, series_uid, uids[0]), _MANUFACTURER
            ),
        )

    def fetch(self, study_uid: str, series_uid: str, uid: str, path: Path) -> None:
        """Write an instance to `path`, byte by byte as the server has it.

        Raises OddAnswerError for what is no instance, OSError where the file cannot be written.
        """
        place = f"{self.url}/studies/{study_uid}/series/{series_uid}/instances/{uid}"
        path.write_bytes(self._tried(f"instance {uid}", lambda: self._instance(place, uid)))

    def _instance(self, place: str, uid: str) -> bytes:
        answer = self._session.get(place, headers={"Accept": _INSTANCE_AS_IT_IS}, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        try:
            content = instance_in(answer)
            found = uid_of(content)
        except (requests.RequestException, MemoryError):
            raise
        except Exception as error:  # of any kind: it is read from what may be anything
            raise OddAnswerError(
                f"{self.url}: what came is no whole DICOM file; expected instance {uid}"
            ) from error
        if found != uid:
            raise OddAnswerError(f"{self.url}: another instance came; expected instance {uid}")
        return content

    def has(self, study_uid: str, series_uid: str, uid: str) -> bool:
        """Whether an instance is there."""
        search = partial(
            self._client.search_for_instances, study_uid, series_uid, search_filters={"SOPInstanceUID": uid}
        )
        try:
            return uid in self._tried(f"instance {uid}", lambda: by_uid(search(), _INSTANCE))
        except MissingError:
            return False

    def store(self, path: Path) -> bool:
        """Store a DICOM file in the study it names; False if the server has that instance already.

        Raises LunaError where the server does not store it.
        """
        with patient_kept_quiet():
            dataset = dcmread(path)
        uids = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
        if self.has(*uids):
            return False
        is_told = self._tried(f"to store instance {uids[-1]}", lambda: self._stow(dataset))
        if not is_told and not self.has(*uids):
            raise UnreachableError(
                f"{self.url}: took instance {uids[-1]}, and does not have it; expected it there"
            )
        return True

    def _stow(self, dataset: Dataset) -> bool:
        """Whether the answer says that it is stored. Raises LunaError where it says that it is not."""
        uid = str(dataset.SOPInstanceUID)
        try:
            answer = self._client.store_instances([dataset], str(dataset.StudyInstanceUID))
        except requests.HTTPError as error:
            refusals = refusals_in(error.response)
            if refusals is None:
                raise
            answer = refusals
        for failed in answer.get("FailedSOPSequence") or []:
            reason = int(failed.get("FailureReason") or 0)
            kind = UnreachableError if reason in _OUT_OF_RESOURCES else LunaError
            raise kind(f"{self.url}: does not store instance {uid}: reason 0x{reason:04X}")
        stored = answer.get("ReferencedSOPSequence") or []
        return any(item.get("ReferencedSOPInstanceUID") == uid for item in stored)

    def _all(
        self,
        what: str,
        key: str,
        search: Callable[..., list[dict[str, Any]]],
        read: Callable[[Entry], T],
    ) -> dict[str, T]:
        """What is read of all entries of a list, by the UID of tag `key`; by the page or all at once."""

        def asked(**place: int) -> dict[str, T]:
            return {uid: read(entry) for uid, entry in by_uid(search(**place), key).items()}

        found: dict[str, T] = {}
        while True:
            page = self._tried(what, partial(asked, limit=PAGE, offset=len(found)))
            if page.keys() <= found.keys():
                break
            found |= page
        if page and len(found) == PAGE:  # the offset was ignored, the limit may not have been
            found |= self._tried(what, asked)
        return found

    def _tried(self, what: str, request: Callable[[], T]) -> T:
        while True:
            try:
                answer = self._once(what, request)
            except UnreachableError as error:
                pause = next(self._left, None)
                if pause is None:
                    raise
                log.warning("%s; another try in %g s", error, pause)
                self._sleep(pause)
            else:
                self._left = iter(self._pauses)
                return answer

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
            raise WrongServerError(
                f"{self.url}: its certificate is not accepted; expected a trusted one"
            ) from error
        except requests.Timeout as error:
            raise UnreachableError(f"{self.url}: no answer in time; expected {what}") from error
        except requests.ConnectionError as error:
            raise UnreachableError(f"{self.url}: cannot be reached; expected {what}") from error
        except (requests.RequestException, *ODD) as error:
            raise UnreachableError(f"{self.url}: no DICOMweb answer; expected {what}, at {A_URL}") from error

    def _refusal(self, what: str, status: int) -> LunaError:
        if status in _DENIED:
            refusal = self._credentials.refusal(status)
            return DeniedError(f"{self.url}: answers {status}; expected {what}: {refusal}")
        kind = MissingError if status == _MISSING else LunaError
        kind = UnreachableError if status >= 500 or status in _LATER else kind
        return kind(f"{self.url}: answers {status}; expected {what}")
