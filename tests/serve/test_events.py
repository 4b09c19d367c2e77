"""The stream of events of a job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from p2ch_luna.serve import events
from p2ch_luna.serve.events import job_events
from p2ch_luna.serve.jobs import Job, Outcome, Stage
from p2ch_luna.serve.service import Service
from support.served import done, queued


def follow(service: Service, job_id: str, *steps: Callable[[], object], rest: int = 1) -> list[str]:
    """The events of a job, before which each step is taken in turn, and `rest` more."""

    async def collect(stream: AsyncIterator[str]) -> list[str]:
        seen = [await anext(stream, "")]
        for step in steps:
            step()
            seen.append(await anext(stream, ""))
        return [*seen, *[await anext(stream, "") for _ in range(rest)]]

    return asyncio.run(collect(job_events(service, job_id, lambda: False)))


def data_of(event: str) -> Job:
    return Job.model_validate_json(event.removeprefix("event: job\ndata: ").removesuffix("\n\n"))


def test_each_change_is_an_event(service: Service) -> None:
    job = queued(service)
    claim = service.store.claim()
    assert claim is not None
    seen = follow(
        service,
        job.id,
        lambda: service.store.tell(claim, [Stage(name="reading")]),
        lambda: service.store.end(claim, Outcome(error="no CT")),
    )
    told = [data_of(event) for event in seen[:3]]
    assert [job.state for job in told] == ["running", "running", "failed"]
    assert told[1].stages == (Stage(name="reading"),)
    assert seen[3] == ""  # it has come to its end


def test_a_place_in_the_queue_is_a_change(service: Service) -> None:
    queued(service)
    second = queued(service)
    seen = follow(service, second.id, service.store.claim, rest=0)
    assert [data_of(event).position for event in seen] == [2, 1]


def test_a_deleted_job_is_gone(service: Service) -> None:
    job = queued(service)
    seen = follow(service, job.id, lambda: service.delete(job.id))
    assert seen[1:] == ["event: gone\ndata: {}\n\n", ""]


def test_silence_is_broken_by_comments(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "COMMENT_S", 0.1)
    assert follow(service, queued(service).id)[1] == ": nothing new\n\n"


def test_the_stream_ends_when_the_server_stops(service: Service) -> None:
    async def all_of(stream: AsyncIterator[str]) -> list[str]:
        return [event async for event in stream]

    stopping = iter([False, False, True])
    assert len(asyncio.run(all_of(job_events(service, queued(service).id, lambda: next(stopping))))) == 1


def test_an_ended_job_is_told_once(client: httpx.Client, service: Service) -> None:
    job = done(service)
    answer = client.get(f"/api/jobs/{job.id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert json.loads(answer.text.split("data: ")[1]) == json.loads(job.model_dump_json())
