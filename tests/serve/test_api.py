"""The routes of the API, in this process."""

from __future__ import annotations

import asyncio
import gc
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from p2ch_luna.serve.app import create_app
from p2ch_luna.serve.jobs import MAX_NAME, Job, Options, Stage
from p2ch_luna.serve.service import Service
from support.served import (
    BINARY,
    LOCAL,
    SCAN,
    answer_to,
    client_of,
    done,
    files_of,
    queued,
    send,
    service_in,
    serving,
)

NO_JOB = "0" * 32


def test_a_scan_becomes_a_job(client: httpx.Client, service: Service) -> None:
    answer = send(client, name="chest")
    job = service.job(Job.model_validate(answer.json()).id)
    assert (answer.status_code, job and job.name, job and job.state) == (202, "chest", "queued")


def test_the_answer_says_where_the_job_is(client: httpx.Client) -> None:
    answer = send(client)
    assert client.get(answer.headers["location"]).json() == answer.json()


def test_the_scan_is_on_the_disk_as_it_was_sent(client: httpx.Client, service: Service) -> None:
    send(client)
    claim = service.store.claim()
    assert claim is not None
    assert service.storage.scan_path(claim).read_bytes() == SCAN


def test_options_reach_the_job(client: httpx.Client, service: Service) -> None:
    params = {"fp_per_scan": 0.25, "series_uid": "1.2.840.1"}
    client.post("/api/scans", params=params, content=SCAN, headers=BINARY)
    claim = service.store.claim()
    assert claim is not None
    assert claim.options == Options(fp_per_scan=0.25, series_uid="1.2.840.1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fp_per_scan", "3"),
        ("fp_per_scan", "nan"),
        ("series_uid", "1.2/../3"),
        ("series_uid", "1" * 65),
        ("name", "n" * (MAX_NAME + 1)),
    ],
)
def test_an_impossible_option_is_refused(client: httpx.Client, name: str, value: str) -> None:
    answer = client.post("/api/scans", params={name: value}, content=SCAN, headers=BINARY)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(f"query.{name}: ")


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1/8", 0.125), ("1/4", 0.25), ("1/2", 0.5), ("1", 1), ("0.5", 0.5), ("2.0", 2), ("8", 8)],
)
def test_a_rate_is_a_fraction_or_a_decimal(
    client: httpx.Client, service: Service, text: str, rate: float
) -> None:
    client.post("/api/scans", params={"fp_per_scan": text}, content=SCAN, headers=BINARY)
    claim = service.store.claim()
    assert claim is not None
    assert claim.options.fp_per_scan == rate


@pytest.mark.parametrize("text", ["3", "1/3", "nan", "inf", "", "one", "1/0"])
def test_a_rate_that_there_is_not_is_told_what_there_is(client: httpx.Client, text: str) -> None:
    answer = client.post("/api/scans", params={"fp_per_scan": text}, content=SCAN, headers=BINARY)
    rates = "1/8, 0.125, 1/4, 0.25, 1/2, 0.5, 1, 2, 4, 8"
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": f"query.fp_per_scan: wanted one of {rates}"},
    )


@pytest.mark.parametrize("uid", ["CT", "1.2/../3", "1..2", "1.2\n", ""])
def test_what_is_no_uid_is_told_in_plain_words(client: httpx.Client, uid: str) -> None:
    answer = client.post("/api/scans", params={"series_uid": uid}, content=SCAN, headers=BINARY)
    wanted = "wanted a DICOM UID: numbers with dots between them, such as 1.2.840.113619"
    assert (answer.status_code, answer.json()) == (422, {"error": f"query.series_uid: {wanted}"})


@pytest.mark.parametrize("name", ["fp", "operating_point", "Name", "a\nb", "x" * 1000])
def test_a_parameter_that_there_is_not_is_named(client: httpx.Client, service: Service, name: str) -> None:
    answer = client.post("/api/scans", params={name: "1"}, content=SCAN, headers=BINARY)
    told = f"{name[:80]!r} is no parameter; wanted name, fp_per_scan, series_uid"
    assert (answer.status_code, answer.json(), service.jobs(9)) == (422, {"error": told}, [])


@pytest.mark.parametrize("kind", ["application/zip", "application/gzip", "application/octet-stream; a=b"])
def test_types_of_a_scan_are_taken(client: httpx.Client, kind: str) -> None:
    assert client.post("/api/scans", content=SCAN, headers={"Content-Type": kind}).status_code == 202


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain", "application/json", ""])
def test_another_content_type_is_refused(client: httpx.Client, kind: str) -> None:
    assert client.post("/api/scans", content=SCAN, headers={"Content-Type": kind}).status_code == 415


@pytest.mark.parametrize("scan", [b"", b"no scan", gzip.compress(b"no scan", mtime=0), b"x" * 200_000])
def test_what_is_no_scan_is_refused(client: httpx.Client, service: Service, scan: bytes) -> None:
    answer = send(client, scan)
    assert (answer.status_code, service.jobs(9), list(answer.json())) == (400, [], ["error"])


def test_a_full_queue_says_when_to_come_again(client: httpx.Client, service: Service) -> None:
    for _ in range(service.settings.max_waiting):
        queued(service)
    answer = send(client)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 600


def test_the_youngest_jobs_are_listed_first(client: httpx.Client, service: Service) -> None:
    ids = [queued(service).id for _ in range(3)]
    listed = client.get("/api/jobs", params={"limit": 2}).json()["jobs"]
    assert [job["id"] for job in listed] == ids[:0:-1]


@pytest.mark.parametrize("limit", [0, 501, "many"])
def test_an_impossible_limit_is_refused(client: httpx.Client, limit: object) -> None:
    assert client.get("/api/jobs", params={"limit": str(limit)}).status_code == 422


def test_a_job_tells_its_stages(client: httpx.Client, service: Service) -> None:
    job = queued(service)
    claim = service.store.claim()
    assert claim is not None
    service.store.tell(claim, [Stage(name="segmentation", fraction=0.5)])
    assert client.get(f"/api/jobs/{job.id}").json()["stages"][0]["fraction"] == 0.5


@pytest.mark.parametrize("job_id", [NO_JOB, "x", "..%2f..%2fetc", "%00", "a" * 5000])
@pytest.mark.parametrize("rest", ["", "/events", "/results/report.json"])
def test_there_is_no_such_job(client: httpx.Client, job_id: str, rest: str) -> None:
    answer = client.get(f"/api/jobs/{job_id}{rest}")
    assert (answer.status_code, list(answer.json())) == (404, ["error"])


def test_a_deleted_job_is_gone_with_its_files(client: httpx.Client, service: Service) -> None:
    job = done(service)
    assert client.delete(f"/api/jobs/{job.id}").status_code == 204
    assert (service.job(job.id), service.storage.job_folder(job.id).exists()) == (None, False)


def test_what_is_not_there_cannot_be_deleted(client: httpx.Client) -> None:
    assert client.delete(f"/api/jobs/{NO_JOB}").status_code == 404


def test_a_result_is_handed_out_as_a_file(client: httpx.Client, service: Service) -> None:
    answer = client.get(f"/api/jobs/{done(service).id}/results/report.json")
    assert (answer.json(), answer.headers["content-type"]) == ({}, "application/json")
    assert answer.headers["content-disposition"] == 'attachment; filename="report.json"'


def test_the_report_is_shown_in_a_sandbox(client: httpx.Client, service: Service) -> None:
    headers = client.get(f"/api/jobs/{done(service).id}/results/report.html").headers
    assert headers["content-disposition"].startswith("inline")
    assert headers["content-security-policy"] == "frame-ancestors 'self'; sandbox allow-scripts"
    assert headers["x-frame-options"] == "SAMEORIGIN"


def test_the_report_is_downloaded_if_that_is_asked_for(client: httpx.Client, service: Service) -> None:
    answer = client.get(f"/api/jobs/{done(service).id}/results/report.html", params={"download": 1})
    assert answer.headers["content-disposition"].startswith("attachment")


def test_a_result_is_whole_though_a_part_is_asked_for(client: httpx.Client, service: Service) -> None:
    url = f"/api/jobs/{done(service).id}/results/report.json"
    answer = client.get(url, headers={"Range": "bytes=1-1"})
    assert (answer.status_code, answer.text) == (200, "{}")


def test_only_results_are_handed_out(service: Service) -> None:
    job = done(service)
    (service.storage.results_folder(job.id) / "no.json").touch()
    out = ["../results/report.json", "../../../jobs.sqlite", "%2e%2e%2f%2e%2e%2f%2e%2e%2fjobs.sqlite"]
    names = ["no.json", "", ".", "..", "%2e%2e", *out, "%2fetc%2fpasswd", "report.json%00", "report.json/"]
    with serving(service) as url:
        answers = {name: answer_to(url, f"/api/jobs/{job.id}/results/{name}")[9:12] for name in names}
        assert answer_to(url, f"/api/jobs/{job.id}/results/report.json")[9:12] == b"200"
    assert {name for name, status in answers.items() if status != b"404"} == set()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\0b", "..\\..", "%2e%2e/"])
def test_a_name_is_no_path(client: httpx.Client, service: Service, name: str) -> None:
    job_id = send(client, name=name).json()["id"]
    folder = service.storage.job_folder(job_id)
    assert [path.name for path in folder.iterdir()] == ["scan.nrrd"]


def test_a_scan_that_is_declared_too_large_is_not_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    service = service_in(tmp_path_factory.mktemp("small"), max_upload_bytes=100)
    with client_of(service) as client:
        assert send(client).status_code == 413


def test_a_scan_that_grows_too_large_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    service = service_in(tmp_path_factory.mktemp("small"), max_upload_bytes=100)
    pieces = (SCAN[i : i + 50] for i in range(0, len(SCAN), 50))
    with client_of(service) as client:
        assert client.post("/api/scans", content=pieces, headers=BINARY).status_code == 413
    assert files_of(service) == []


def test_an_upload_that_is_cancelled_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    service = service_in(tmp_path_factory.mktemp("cancelled"))

    async def cancelled() -> list[str]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(service)), base_url=LOCAL
        ) as client:
            upload = asyncio.create_task(client.post("/api/scans", content=endless(), headers=BINARY))
            while not files_of(service):
                await asyncio.sleep(0.01)
            upload.cancel()
            await asyncio.wait([upload])
            return files_of(service)

    gc.disable()  # it would clean up, at some time
    try:
        assert asyncio.run(cancelled()) == []
    finally:
        gc.enable()


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield SCAN
        await asyncio.sleep(0.01)
